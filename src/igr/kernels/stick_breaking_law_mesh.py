"""A mesh for the law of the longest piece that depends on no law: what can be made once, and kept.

The operators S and C of :mod:`igr.kernels.stick_breaking_law` are linear in the density of their piece. On
fixed intervals, with fixed points x_i and nodes y_j, the arguments x_i - softplus(y_j) and log sigmoid(y_j)
are fixed too, and so is all of interpolation and quadrature: with the densities at the nodes as one vector v,
S is a fixed tensor times v. The nodes lie between the points, so that the condition y < x_i drops whole
panels, and those of one point are those of all. Outside of them softplus(y) (or log sigmoid(y)) is expanded
in exp(y) (or exp(-y)) to second order, and the integrals are exponential moments of a normal law in closed
form: six further entries of v.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from igr.kernels.chebyshev import chebyshev_rule
from igr.kernels.quadrature import gauss_legendre

_Array = npt.NDArray[np.float64]

# Numbers that meshes may take, besides the one in use.
_MOST_KEPT = 2**24
# Of moments on either side: the orders 0, 1 and 2 in exp(y).
NUM_MOMENTS = 3


class Resolution(NamedTuple):
    """How fine a mesh is. Effort is stated as linear functions of a length over a scale."""

    # The smallest scale that it resolves.
    scale: float
    points: tuple[float, float]
    # Outside of the points, and in each panel between them.
    nodes: tuple[float, float]
    between: tuple[float, float]
    # How far from zero the nodes reach.
    reach: float


class Stage(NamedTuple):
    """One piece: from values at Q points of the function before it to values at P points after it.

    The entries of its vector v: moments below the nodes; densities at the nodes, of which those between the
    points serve S and C, the ones before them S and the ones after them C; moments above the nodes.
    """

    nodes: Tensor  # [J, 1], ascending
    # S as a matrix on values at the points is this times the first part of v.
    stays: Tensor  # [P * Q, 3 + J_S]
    # What C reads of the function, with the weights of the nodes, and where a node lies above a point.
    reads: Tensor  # [J_C + 3, Q]
    leads: Tensor  # [P, J_C + 3]
    num_points: int
    num_before: int


class Interval:
    """Values at Chebyshev points, from the upper end down, as a polynomial; at one point, as a constant."""

    def __init__(self, low: float, high: float, count: int) -> None:
        self.low, self.count, self.half = low, count, 0.5 * (high - low)
        if count == 1:
            self.points, self._series = np.array([high]), np.ones((1, 1))
            return
        points, coefficients, _ = chebyshev_rule(count, torch.float64, torch.device("cpu"))
        self.points = low + self.half * (1.0 + points.numpy())
        self._series = coefficients.numpy()

    def series(self, order: int = 0) -> _Array:
        """What takes the values to the Chebyshev series of a derivative: [count - order, count]."""
        if self.count <= order:
            return np.zeros((1, self.count))
        if order == 0:
            return self._series
        return np.asarray(chebyshev.chebder(self._series, order, scl=1.0 / self.half), dtype=np.float64)

    def cardinals(self, x: _Array, order: int = 0) -> _Array:
        """What takes the values to a derivative of the polynomial at each x: [*x, count]."""
        series = self.series(order)
        u = (x - self.low) / self.half - 1.0 if self.half > 0.0 else np.zeros_like(x)
        values: _Array = chebyshev.chebvander(u, len(series) - 1) @ series
        return values

    def expansion(self, x: _Array) -> _Array:
        """Coefficients of the powers 0, 1, 2 of t in f(x - log(1 + t)): [3, *x, count]."""
        first, second = self.cardinals(x, 1), self.cardinals(x, 2)
        return np.stack([self.cardinals(x), -first, 0.5 * (first + second)])


def num_points(length: float, resolution: Resolution) -> int:
    return _count(length / resolution.scale, resolution.points)


def _count(ratio: float, effort: tuple[float, float]) -> int:
    return math.ceil(effort[0] + effort[1] * ratio)


def interval(remaining: int, edge: tuple[float, float], resolution: Resolution) -> Interval:
    """Of the function that so many pieces follow, where thresholds lie between the two edges."""
    low, high = edge
    if remaining > 0:
        low, high = lowest_point(remaining, low), max(high, 0.0)
    return Interval(low, high, 1 if low == high else num_points(high - low, resolution))


def lowest_point(remaining: int, edge: float) -> float:
    return -float(np.logaddexp(-edge, math.log(remaining)))


def stage(remaining: int, is_first: bool, edge: tuple[float, float], resolution: Resolution) -> Stage:
    """The piece that so many follow; before the first one there is the constant one."""
    after = interval(remaining, edge, resolution)
    before = interval(remaining + 1, edge, resolution)
    if is_first:
        before = Interval(before.low, before.low + 2.0 * before.half, 1)
    (lower, lower_weights), (middle, middle_weights), (upper, upper_weights) = _panels(after, resolution)
    x = after.points
    # S: at or above a point the weight is zero.
    y = np.concatenate([lower, middle])
    weights = np.concatenate([lower_weights, middle_weights]) * (y < x[:, None])
    inner = weights[..., None] * before.cardinals(x[:, None] - np.logaddexp(0.0, y))
    stays = np.concatenate([before.expansion(x), inner.transpose(1, 0, 2)])
    # C: what is read at a node is the same for all points below it.
    y = np.concatenate([middle, upper])
    weights = np.concatenate([middle_weights, upper_weights])
    read = weights[:, None] * before.cardinals(-np.logaddexp(0.0, -y))
    reads = np.concatenate([read, before.expansion(np.zeros(1))[:, 0]])
    leads = np.concatenate([y > x[:, None], np.ones((len(x), NUM_MOMENTS))], axis=1)
    return Stage(
        torch.from_numpy(np.concatenate([lower, middle, upper])).unsqueeze(-1),
        torch.from_numpy(stays.reshape(len(stays), -1)).mT.contiguous(),
        torch.from_numpy(reads),
        torch.from_numpy(leads),
        after.count,
        before.count,
    )


def _panels(after: Interval, resolution: Resolution) -> list[tuple[_Array, _Array]]:
    """Nodes and weights below the points, between them, and above them."""
    ends = [-resolution.reach, *after.points[::-1], resolution.reach]
    # Softplus bends over about one and a half.
    feature = min(resolution.scale, 1.5)
    rules = []
    for index, (low, high) in enumerate(pairwise(ends)):
        outside = index in (0, len(ends) - 2)
        count = _count((high - low) / feature, resolution.nodes if outside else resolution.between)
        rule = gauss_legendre(count, torch.float64, torch.device("cpu"))
        points, share = (t.numpy() for t in rule)
        rules.append((low + (high - low) * points, (high - low) * share))
    none = np.zeros(0)
    nodes, weights = (np.concatenate([none, *parts[1:-1]]) for parts in zip(*rules, strict=True))
    return [rules[0], (nodes, weights), rules[-1]]


_STAGES: dict[tuple[int, bool, tuple[float, float], Resolution], Stage] = {}


def stages(num_pieces: int, edge: tuple[float, float], resolution: Resolution) -> list[Stage]:
    """All pieces of a law; kept, for as long as there are not too many others."""
    keys = [(num_pieces - 1 - k, k == 0, edge, resolution) for k in range(num_pieces)]
    missing = [key for key in keys if key not in _STAGES]
    if missing and sum(this.stays.numel() for this in _STAGES.values()) > _MOST_KEPT:
        _STAGES.clear()
        missing = keys
    for key in missing:
        _STAGES[key] = stage(*key)
    return [_STAGES[key] for key in keys]
