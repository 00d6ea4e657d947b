"""Nodes and weights for the exact laws: one smooth map, one closed-form rule."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from igr.kernels.tracing import is_traced

# How far below and above the means the integrals reach, in standard deviations. Below: how deep a category
# may lie under the others, and above: how far from its mean it may win, for its logarithm still to be right.
BELOW = {torch.float64: 9.6, torch.float32: 9.0}
ABOVE = {torch.float64: 9.6, torch.float32: 7.5}
# How fast the nodes may thin out: their spacing grows by 1/6 of the distance covered. Theory allows
# 1 / (2 reach); tables of hard cases are integrated best with a little more.
GRADING = 6.0

# Nodes that reach 1e-10 (float64) or 1e-5 (float32) in hard cases, up to so many categories: where all
# scales of a law are equal, and where they differ by a factor of 25 (100 in float64).
_NUM_NODES = {
    torch.float64: ((256, 160, 384), (math.inf, 224, 512)),
    torch.float32: ((12, 56, 88), (16, 64, 104), (256, 80, 120), (math.inf, 88, 152)),
}
_WIDEST_RATIO = {torch.float64: 100.0, torch.float32: 25.0}
_FEWEST_NODES = {torch.float64: 48, torch.float32: 16}
_MOST_NODES = 512
# What share of the nodes a mesh saves for each share of its distance that is cut off; measured, as the table.
_SAVED = {torch.float64: 1.0, torch.float32: 1.2}
# Numbers of nodes are multiples of this, so that few rules are ever formed.
_STEP = 4

_RULES: dict[tuple[int, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}


class Nodes(NamedTuple):
    """Where the integrand is read, and the logarithm of the weight of each reading.

    Readings are stated by their distance from the first one, which loses nothing where the means are large.
    """

    start: Tensor  # [*B, 1]
    offsets: Tensor  # [*B, Q]
    log_weights: Tensor  # [*B, Q]


class Mesh(NamedTuple):
    """Where the nodes of each law start, the unit of their distances, and their logarithmic length."""

    start: Tensor  # [*B, 1]
    unit: Tensor
    span: Tensor

    def sufficient_num_nodes(self, num_categories: int) -> Tensor:
        """How many nodes each law needs, int64 in the shape of span; few where parameters are no numbers."""
        span = torch.where(torch.isfinite(self.span), self.span, 0.0)
        few, slope, shortest = _nodes_by_span(self.span.dtype, num_categories)
        saved = _SAVED[self.span.dtype]
        wanted = torch.where(
            span < shortest,
            few * (1.0 - saved + saved * torch.expm1(span) / math.expm1(shortest)),
            few + slope * (span - shortest),
        )
        fewest = _FEWEST_NODES[self.span.dtype]
        return (_STEP * torch.ceil(wanted / _STEP)).clamp(fewest, _MOST_NODES).long()


def default_num_nodes(dtype: torch.dtype, num_categories: int, equal_scales: bool) -> int:
    """How many nodes suffice for every law, or for every law whose scales are one number."""
    few, many = _few_and_many(dtype, num_categories)
    return few if equal_scales else many


def _few_and_many(dtype: torch.dtype, num_categories: int) -> tuple[int, int]:
    return next((few, many) for most, few, many in _NUM_NODES[dtype] if num_categories <= most)


def _span_of(ratio: float, dtype: torch.dtype) -> float:
    """The logarithmic length of the mesh of a law whose scales differ by this ratio at most."""
    return math.log1p((BELOW[dtype] + ABOVE[dtype]) * ratio / GRADING)


def _nodes_by_span(dtype: torch.dtype, num_categories: int) -> tuple[float, float, float]:
    """The nodes of an uncut mesh for equal scales, how many more per unit of length above its own, and that.

    Shorter meshes, which the threshold cuts, need fewer by the distance that they do not cover.
    """
    few, many = _few_and_many(dtype, num_categories)
    shortest, longest = _span_of(1.0, dtype), _span_of(_WIDEST_RATIO[dtype], dtype)
    return few, (many - few) / (longest - shortest), shortest


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
    # Under a tracer these are stand-ins for tensors, of no use to anyone later.
    if not is_traced() and type(rule[0]) is Tensor:
        _RULES[key] = rule
    return rule


def gauss_legendre(num_nodes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The Gauss-Legendre rule on [0, 1]: points and weights, each with shape [Q]; not for tracers."""
    points, weights = _kept_gauss_legendre(num_nodes)
    return points.to(device, dtype), weights.to(device, dtype)


@lru_cache(maxsize=256)
def _kept_gauss_legendre(num_nodes: int) -> tuple[Tensor, Tensor]:
    points, weights = np.polynomial.legendre.leggauss(num_nodes)
    return torch.from_numpy(0.5 + 0.5 * points), torch.from_numpy(0.5 * weights)


def nodes_for_maximum(
    loc: Tensor,
    scale: Tensor,
    num_nodes: int | None,
    threshold: float | Tensor = 0.0,
    limit: Tensor | None = None,
) -> Nodes:
    r"""Nodes for integrals over :math:`t > c` of densities and distribution functions of independent normals.

    Below :math:`a = \max(c, \max_j (\mu_j - r \sigma_j))` some distribution function is negligible; above
    :math:`b = \max_j (\mu_j + r' \sigma_j)` every density is. At the distance d above a, only variables with
    :math:`(r + r') \sigma_j \geq d` still change, whatever their means: those that are narrower would
    otherwise have pushed a upwards. So the spacing may grow in proportion to d, from the narrowest
    scale that is still active at a, and a mesh that is geometric in d resolves every feature
    without looking for it: its length is the logarithm of the ratio of the scales.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*B, n)`.
        scale: :math:`\sigma`, with the same shape.
        num_nodes: Q, at least 3; ``None`` for what the longest mesh of the batch needs, which is
            read from the parameters.
        threshold: c, a float or a tensor with shape :math:`(*B, 1)`.
        limit: Where the integrals end, with shape :math:`(*B, 1)`; ``None`` for where all densities do.
    """
    mesh = mesh_for_maximum(loc, scale, threshold, limit)
    start, unit, span = mesh
    if num_nodes is None:
        num_nodes = _longest(mesh, loc)
    points, weights = clenshaw_curtis(num_nodes, loc.dtype, loc.device)
    stretched = points * span
    return Nodes(start, unit * torch.expm1(stretched), torch.log(weights * span * unit) + stretched)


def growth_of(span: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """How much the spacing of nodes has grown at each of them, and the weights of the rule.

    The distance of a node from the start is its growth less one, times the unit of the mesh; its weight is
    the growth times that of the rule, the unit and the span.

    Shapes:
        span: :math:`(*B, 1)`; growth: :math:`(*B, Q)`; weights of the rule: :math:`(Q)`.
    """
    points, weights = clenshaw_curtis(num_nodes, span.dtype, span.device)
    return torch.exp(points * span), weights


def enough_nodes(loc: Tensor, scale: Tensor, threshold: float | Tensor = 0.0) -> int:
    """How many nodes the longest mesh of the batch needs, which is read from the parameters."""
    return _longest(mesh_for_maximum(loc, scale, threshold), loc)


def _longest(mesh: Mesh, loc: Tensor) -> int:
    needed = mesh.sufficient_num_nodes(loc.shape[-1] + 1)
    return int(needed.amax()) if needed.numel() else _FEWEST_NODES[loc.dtype]


def mesh_for_maximum(
    loc: Tensor,
    scale: Tensor,
    threshold: float | Tensor,
    limit: Tensor | None = None,
    *,
    equal_scales: bool = False,
    dim: int = -1,
) -> Mesh:
    """The mesh of :func:`nodes_for_maximum`, which explains it; dim is that of the variables.

    Where the scales of each law are one number, none has to be looked for.
    """
    dtype = loc.dtype
    if equal_scales:
        # The largest mean lends the mesh both ends.
        loc, scale = loc.amax(dim, keepdim=True), scale.narrow(dim, 0, 1)
    start = (loc - BELOW[dtype] * scale).amax(dim, keepdim=True)
    start = torch.maximum(start, torch.as_tensor(threshold, dtype=dtype, device=loc.device))
    top = loc + ABOVE[dtype] * scale
    if equal_scales:
        finest = scale
    else:
        finest = torch.where(top > start, scale, torch.inf).amin(dim, keepdim=True)
        # Where every variable lies far below c, none is active and all categories but K are negligible.
        finest = torch.where(torch.isinf(finest), scale.amin(dim, keepdim=True), finest)
    length = torch.maximum(top.amax(dim, keepdim=True) - start, finest)
    if limit is not None:
        # One that lies below the start, which no draw in 10^18 does, leaves an interval of no importance.
        length = torch.minimum(length, torch.maximum(limit - start, torch.finfo(dtype).eps * finest))
    unit = GRADING * finest
    return Mesh(start, unit, torch.log1p(length / unit))
