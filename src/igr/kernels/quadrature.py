"""Nodes and weights for the exact laws: one smooth map, one closed-form rule."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Half-width of what is integrated, in standard deviations: the mass left out, Phi(-9.6) = 4e-22 and
# Phi(-5) = 3e-7, is far below the accuracy promised for each precision.
_REACH = {torch.float64: 9.6, torch.float32: 5.0}
# How fast the nodes may thin out: their spacing grows by 1/6 of the distance covered. Theory allows
# 1 / (2 reach); tables of hard cases are integrated best with a little more.
_GRADING = 6.0

_RULES: dict[tuple[int, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}


class Nodes(NamedTuple):
    """Where the integrand is read, and the logarithm of the weight of each reading."""

    points: Tensor  # [*B, Q]
    log_weights: Tensor  # [*B, Q]


def default_num_nodes(dtype: torch.dtype, num_categories: int, equal_scales: bool) -> int:
    """Nodes that reach 1e-10 (float64) or 1e-5 (float32) over the tables of tests/cases.py.

    Narrow and wide categories within one law need a finer mesh near its lower end; where all
    scales are known to be one number, fewer do.
    """
    size = 0 if num_categories <= 16 else 1 if num_categories <= 256 else 2
    if dtype == torch.float64:
        return (160, 160, 224)[size] if equal_scales else (384, 384, 512)[size]
    return (32, 48, 64)[size] if equal_scales else (56, 104, 160)[size]


def clenshaw_curtis(num_nodes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    r"""The Clenshaw-Curtis rule on [0, 1]: points and weights in closed form, each with shape [Q].

    References:
        Is Gauss quadrature better than Clenshaw-Curtis? (Trefethen, 2008)
    """
    key = (num_nodes, dtype, device)
    if key in _RULES:
        return _RULES[key]
    last = num_nodes - 1
    angle = torch.arange(num_nodes, dtype=torch.float64) * (math.pi / last)
    order = torch.arange(1, last // 2 + 1, dtype=torch.float64)
    factor = torch.where(2 * order == last, 1.0, 2.0) / (4 * order * order - 1)
    weights = (1.0 - torch.cos(2.0 * angle.unsqueeze(-1) * order) @ factor) / last
    ends = torch.arange(num_nodes) % last == 0
    weights = torch.where(ends, 0.5 * weights, weights)
    # (1 - cos) / 2 as a squared sine keeps full accuracy near zero.
    points = torch.sin(0.5 * angle) ** 2
    rule = points.to(device, dtype), weights.to(device, dtype)
    if not torch.compiler.is_compiling():
        _RULES[key] = rule
    return rule


def nodes_for_maximum(loc: Tensor, scale: Tensor, num_nodes: int) -> Nodes:
    r"""Nodes for integrals over :math:`t > 0` of densities and distribution functions of independent normals.

    Below :math:`a = \max(0, \max_j (\mu_j - r \sigma_j))` some distribution function is negligible; above
    :math:`b = \max_j (\mu_j + r \sigma_j)` every density is. At the distance d above a, only variables
    with :math:`2 r \sigma_j \geq d` still change, whatever their means: those that are narrower would
    otherwise have pushed a upwards. So the spacing may grow in proportion to d, from the narrowest
    scale that is still active at a, and a mesh that is geometric in d resolves every feature
    without looking for it: its size grows with the logarithm of the ratio of the scales.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*B, n)`.
        scale: :math:`\sigma`, with the same shape.
        num_nodes: Q, at least 3.
    """
    reach = _REACH[loc.dtype]
    points, weights = clenshaw_curtis(num_nodes, loc.dtype, loc.device)
    top = loc + reach * scale
    start = (loc - reach * scale).amax(-1, keepdim=True).clamp(min=0.0)
    finest = torch.where(top > start, scale, torch.inf).amin(-1, keepdim=True)
    # Where every variable lies far below zero, none is active and all categories but K are negligible.
    finest = torch.where(torch.isinf(finest), scale.amin(-1, keepdim=True), finest)
    length = torch.maximum(top.amax(-1, keepdim=True) - start, finest)
    unit = _GRADING * finest
    span = torch.log1p(length / unit)
    stretched = points * span
    return Nodes(
        points=start + unit * torch.expm1(stretched),
        log_weights=torch.log(weights * span * unit) + stretched,
    )
