"""Smooth functions by their values at Chebyshev points."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor


class ChebyshevRule(NamedTuple):
    """What turns values at Q points of [-1, 1] into more: each a linear map of the values."""

    points: Tensor  # [Q], from 1 down to -1
    coefficients: Tensor  # [Q, Q], to those of the series in T_0 .. T_(Q-1)
    tails: Tensor  # [Q, Q], to the integrals from each point up to 1


@lru_cache(maxsize=256)
def _arrays(num_points: int) -> tuple[np.ndarray, ...]:
    points = np.cos(np.pi * np.arange(num_points) / (num_points - 1))
    coefficients = np.linalg.inv(chebyshev.chebvander(points, num_points - 1))
    integrals = [chebyshev.chebint(row, lbnd=-1) for row in np.eye(num_points)]
    tails = np.stack([chebyshev.chebval(1.0, a) - chebyshev.chebval(points, a) for a in integrals], axis=-1)
    return points, coefficients, tails @ coefficients


def chebyshev_rule(num_points: int, dtype: torch.dtype, device: torch.device) -> ChebyshevRule:
    """The rule of the extrema of :math:`T_{Q-1}`, the two ends included."""
    return ChebyshevRule(*(torch.tensor(a, dtype=dtype, device=device) for a in _arrays(num_points)))


def chebyshev_moments(u: Tensor, weights: Tensor, count: int) -> Tensor:
    """The sums over the last dimension of weights times :math:`T_m(u)`, for m below ``count``.

    Arguments:
        u: Points of [-1, 1], with shape [*, N].
        weights: With a shape that broadcasts against the points.
        count: The number of polynomials.

    Returns:
        Tensor with shape [*, count]. Nothing of the size of all values is ever formed.
    """
    before, current, twice = torch.ones_like(u), u, 2.0 * u
    found = [torch.linalg.vecdot(weights, before), torch.linalg.vecdot(weights, current)]
    for _ in range(2, count):
        before, current = current, twice * current - before
        found.append(torch.linalg.vecdot(weights, current))
    return torch.stack(found[:count], dim=-1)
