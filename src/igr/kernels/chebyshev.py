"""Smooth functions by their values at Chebyshev points."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from igr.kernels.tracing import is_traced


class ChebyshevRule(NamedTuple):
    """What turns values at Q points of [-1, 1] into more: each a linear map of the values."""

    points: Tensor  # [Q], from 1 down to -1
    coefficients: Tensor  # [Q, Q], to those of the series in T_0 .. T_(Q-1)
    tails: Tensor  # [Q, Q], to the integrals from each point up to 1


def chebyshev_rule(num_points: int, dtype: torch.dtype, device: torch.device) -> ChebyshevRule:
    """The rule of the extrema of :math:`T_{Q-1}`, the two ends included, in closed form."""
    last = num_points - 1
    index = torch.arange(num_points, dtype=torch.float64)
    order = torch.arange(num_points + 1, dtype=torch.float64)
    # T_m at point i: the cosine of m times the angle of the point.
    values = torch.cos((math.pi / last) * index.unsqueeze(-1) * order)
    halves = 1.0 - 0.5 * (index % last == 0).double()
    coefficients = (2.0 / last) * halves.unsqueeze(-1) * values[:, :num_points].mT * halves
    # From m = 2 on the integral of T_m is (T_(m+1) / (m + 1) - T_(m-1) / (m - 1)) / 2.
    rest = 1.0 - values
    higher = 0.5 * (rest[:, 3:] / order[3:] - rest[:, 1:-2] / order[1:-2])
    tails = torch.cat([rest[:, 1:2], 0.25 * rest[:, 2:3], higher], dim=-1)[:, :num_points] @ coefficients
    return ChebyshevRule(*(t.to(device, dtype) for t in (values[:, 1], coefficients, tails)))


def chebyshev_moments(u: Tensor, weights: Tensor, count: int) -> Tensor:
    """The sums over the last dimension of weights times :math:`T_m(u)`, for m below ``count``.

    Arguments:
        u: Points of [-1, 1], with shape [*, N].
        weights: With a shape that broadcasts against the points.
        count: The number of polynomials.

    Returns:
        Tensor with shape [*, count]. Nothing of the size of all values is ever formed, but under a tracer,
        where many small operations would cost more.
    """
    if is_traced():
        return (weights.unsqueeze(-1) * _values(u, count)).sum(-2)
    before, current, twice = torch.ones_like(u), u.clone(), 2.0 * u
    found = [torch.linalg.vecdot(weights, before), torch.linalg.vecdot(weights, current)]
    kept = torch.is_grad_enabled() and (weights.requires_grad or u.requires_grad)
    product = torch.empty_like(u) if weights.shape == u.shape and not kept else None
    for _ in range(2, count):
        if product is None:
            before, current = current, twice * current - before
            found.append(torch.linalg.vecdot(weights, current))
        else:
            # In place, for the passes over fresh memory cost more than the arithmetic.
            before, current = current, before.neg_().addcmul_(twice, current)
            found.append(torch.mul(weights, current, out=product).sum(-1))
    return torch.stack(found[:count], dim=-1)


def _values(u: Tensor, count: int) -> Tensor:
    """:math:`T_m(u)` for m below ``count``, [*, count], by :math:`T_{p+k} = 2 T_p T_k - T_{p-k}`."""
    values = torch.stack([torch.ones_like(u), u], dim=-1)
    while values.shape[-1] < count:
        further = 2.0 * values[..., -1:] * values[..., 1:] - values[..., :-1].flip(-1)
        values = torch.cat([values, further], dim=-1)
    return values[..., :count]
