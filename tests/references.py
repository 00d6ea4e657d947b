"""Independent computations that the fast ones are held to. Slow, dense, and written from the definition."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_REACH = 12.0  # standard deviations; Phi(-12) = 2e-33
_GAUSS = tuple(torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(10))


def maximum_log_probs(loc: Tensor, scale: Tensor) -> Tensor:
    """log P(k) of the largest of normals (one law: loc and scale [K - 1]) and zero; differentiable.

    Gauss-Legendre with 10 points on panels whose edges are, for every variable, its mean plus multiples of
    half its standard deviation: wherever a variable changes at all, its change is resolved.
    """
    with torch.no_grad():
        points, log_weights = _dense_rule(loc.double(), scale.double())
    parts = []
    for at, weight in zip(points.split(4096), log_weights.split(4096), strict=True):
        z = (at - loc.unsqueeze(-1)) / scale.unsqueeze(-1)
        log_cdf = torch.special.log_ndtr(z)
        log_pdf = -0.5 * z * z - torch.log(scale).unsqueeze(-1) - 0.5 * math.log(2.0 * math.pi)
        parts.append(torch.logsumexp(log_cdf.sum(0) - log_cdf + log_pdf + weight, dim=-1))
    above = torch.logsumexp(torch.stack(parts), dim=0)
    below = torch.special.log_ndtr(-loc / scale).sum(-1, keepdim=True)
    return torch.cat([above, below])


def _dense_rule(loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    lower = (loc - _REACH * scale).amax().clamp(min=0.0)
    upper = torch.maximum((loc + _REACH * scale).amax(), lower + scale.amin())
    multiples = torch.arange(-24, 25, dtype=torch.float64) * 0.5
    edges = (loc.unsqueeze(-1) + scale.unsqueeze(-1) * multiples).flatten()
    # Of edges within a fifth of the narrowest scale one is enough.
    grain = 0.2 * scale.amin()
    edges = torch.unique(torch.round(edges / grain)) * grain
    # Right of zero a law far below it falls off over scale^2/|loc|: panels that double from there.
    fine = scale.amin() * 2.0 ** torch.arange(-12, 1, dtype=torch.float64)
    edges = torch.cat([edges, lower + fine, lower[None], upper[None]])
    edges = torch.unique(edges[(edges >= lower) & (edges <= upper)])
    half = 0.5 * edges.diff().unsqueeze(-1)
    nodes, weights = _GAUSS
    points = edges[:-1].unsqueeze(-1) + half * (1.0 + nodes)
    return points.flatten(), torch.log(half * weights).flatten()
