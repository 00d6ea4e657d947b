r"""The mean of a softmax of independent variables, by quadrature.

Add standard Gumbel noise to the exponents: the largest of :math:`x_k = w_k + \gamma_k` is category k with
probability :math:`\mathrm{softmax}(w)_k`, so

.. math::
    E\,\mathrm{softmax}(w)_k = P(x_k > x_j \; \forall j \neq k)
        = \int h_k(v) \prod_{j \neq k} H_j(v)\, dv

with the densities h and distribution functions H of the x. That is one integral for each category, over
nodes that all share, whatever K is. Each :math:`x_j` is the sum of two variables, one of which is narrow; H
is that of the wide one, averaged over the narrow one by the trapezoidal rule, which for these densities
converges exponentially.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from igr.kernels.quadrature import nodes_for_maximum
from igr.kernels.tracing import is_traced

_NUM_NODES = 400
# Steps and ends of the trapezoidal rules: 1e-11 is left out or aliased.
_GUMBEL_STEP, _GUMBEL_ENDS = 0.4, (-4.4, 26.0)
_NORMAL_STEP, _NORMAL_ENDS = 0.5, (-7.5, 7.5)
# Of the longer of the two.
_INNER_NODES = math.ceil((_GUMBEL_ENDS[1] - _GUMBEL_ENDS[0]) / _GUMBEL_STEP)
# A Gumbel variable lies within 6 of these scales of this place but for 1e-14.
_GUMBEL_PLACE, _GUMBEL_SCALE = 14.0, 2.5
# Numbers per array in one pass.
_CHUNK = 2**20


def mean_of_gaussian_softmax(loc: Tensor, scale: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of the softmax of independent normals; a scale of zero is a constant.

    Arguments:
        loc: Means, with shape [*, K], float64.
        scale: Standard deviations, with the same shape.
        mask: True where a category has no part, with a shape that broadcasts against the means, which are to
            be those of an available category there.

    Returns:
        Tensor with shape [*, K], differentiable in both.
    """

    def functions(v: Tensor, mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        wide = sigma > 1.0
        # The branch that is not taken gets harmless numbers, for its gradient is multiplied by zero.
        divisor, factor = torch.where(wide, sigma, 1.0), torch.where(wide, 0.0, sigma)
        gamma, weights = _gumbel_rule(v)
        z = (v - mu - gamma) / divisor
        over_gumbel = (
            (weights * torch.special.ndtr(z)).sum(-1),
            (weights * torch.exp(-0.5 * z * z)).sum(-1) / (divisor.squeeze(-1) * math.sqrt(2.0 * math.pi)),
        )
        epsilon, weights = _normal_rule(v)
        over_normal = _gumbel_functions(v - mu - factor * epsilon, weights)
        chosen = wide.squeeze(-1)
        first, second = (torch.where(chosen, a, b) for a, b in zip(over_gumbel, over_normal, strict=True))
        return first, second

    reach = torch.sqrt(scale * scale + _GUMBEL_SCALE**2)
    return _mean(functions, loc, scale, reach, loc + _GUMBEL_PLACE, mask)


def mean_of_gumbel_softmax(logits: Tensor, temperature: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of the softmax of (logits + Gumbel noise) / temperature.

    Arguments:
        logits: With shape [*, K], float64.
        temperature: With a shape that broadcasts against [*, 1].
        mask: As for the Gaussian one.

    Returns:
        Tensor with shape [*, K], differentiable in both.
    """
    spread = temperature.reciprocal().expand_as(logits)
    loc = logits * spread

    def functions(v: Tensor, mu: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        gamma, weights = _gumbel_rule(v)
        wide, narrow = spread.clamp_min(1.0), spread.clamp_max(1.0)
        cdf, pdf = _gumbel_functions((v - mu - narrow * gamma) / wide, weights)
        return cdf, pdf / wide.squeeze(-1)

    reach = _GUMBEL_SCALE * torch.sqrt(1.0 + spread * spread)
    return _mean(functions, loc, spread, reach, loc + _GUMBEL_PLACE * (1.0 + spread), mask)


def _mean(
    functions: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    loc: Tensor,
    spread: Tensor,
    reach: Tensor,
    place: Tensor,
    mask: Tensor | None,
) -> Tensor:
    nodes = nodes_for_maximum(place.detach(), reach.detach(), _NUM_NODES, -torch.inf)
    absent = torch.zeros_like(loc, dtype=torch.bool) if mask is None else mask.expand_as(loc)
    size = max(1, _CHUNK // (_NUM_NODES * loc.shape[-1] * _INNER_NODES))
    # What a gradient needs is far larger than the means; it is formed again when it is wanted. Without one,
    # checkpoint only loads torch's compiler, which takes longer than the means.
    again = torch.is_grad_enabled() and not is_traced() and (loc.requires_grad or spread.requires_grad)
    rows = (t.reshape(-1, t.shape[-1]).split(size) for t in (loc, spread, absent, *nodes))
    parts = [
        checkpoint(_means_of, functions, *row, use_reentrant=False, preserve_rng_state=False)
        if again
        else _means_of(functions, *row)
        for row in zip(*rows, strict=True)
    ]
    return torch.cat(parts).view(loc.shape)


def _means_of(
    functions: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    mu: Tensor,
    spread: Tensor,
    gone: Tensor,
    start: Tensor,
    offsets: Tensor,
    log_weights: Tensor,
) -> Tensor:
    # Distances from the first node, which lose nothing where the means are large.
    v, m = offsets[:, None, :, None], (mu - start)[:, :, None, None]
    s = spread[:, :, None, None]
    # A few categories at a time: their inner nodes are the largest array.
    size = max(1, _CHUNK // (max(1, len(mu)) * _NUM_NODES * _INNER_NODES))
    found = [functions(v, *pair) for pair in zip(m.split(size, 1), s.split(size, 1), strict=True)]
    cdf, pdf = (torch.cat(columns, dim=1) for columns in zip(*found, strict=True))
    gone = gone.unsqueeze(-1)
    log_cdf = torch.log(cdf.clamp_min(1e-300)).masked_fill(gone, 0.0)
    others = log_cdf.sum(1, keepdim=True) - log_cdf
    return (pdf.masked_fill(gone, 0.0) * torch.exp(others + log_weights[:, None, :])).sum(-1)


def _gumbel_functions(u: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Distribution function and density of Gumbel variables, averaged over the last dimension."""
    decay = torch.exp(-u.clamp_min(-6.6))  # below, the function is zero, and its parts must not overflow
    cdf = torch.exp(-decay)
    return (weights * cdf).sum(-1), (weights * cdf * decay).sum(-1)


def _gumbel_rule(like: Tensor) -> tuple[Tensor, Tensor]:
    gamma = torch.arange(*_GUMBEL_ENDS, _GUMBEL_STEP, dtype=like.dtype, device=like.device)
    weights = torch.exp(-gamma - torch.exp(-gamma))
    return gamma, weights / weights.sum()


def _normal_rule(like: Tensor) -> tuple[Tensor, Tensor]:
    low, high = _NORMAL_ENDS
    epsilon = torch.arange(low, high + 0.1, _NORMAL_STEP, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * epsilon * epsilon)
    return epsilon, weights / weights.sum()
