"""Three categories as a triangle: where points of the simplex lie in it, and the density of a law over it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from igr import reprs
from igr.distributions.relaxation import SimplexRelaxation
from igr.validation import check_float_tensor, whole_number

__all__ = ["CORNERS", "TernaryGrid", "log_density", "ternary_grid", "to_plane"]

# An equilateral triangle with sides of length one: category 1 at the left, 2 at the right, 3 above.
CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, math.sqrt(0.75)))

RESOLUTION = 200


def to_plane(points: Tensor) -> Tensor:
    """Where points of the simplex lie in the triangle of :data:`CORNERS`: their weights' mean of its corners.

    Arguments:
        points: With shape :math:`(*, 3)`; weights that sum to one.

    Returns:
        Tensor with shape :math:`(*, 2)`, the horizontal and the vertical coordinate.

    Raises:
        TypeError: unless the points are a floating-point tensor.
        ValueError: unless they have three weights each.

    Example:
        >>> to_plane(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]))
        tensor([[0.0000, 0.0000],
                [0.7500, 0.4330]])
    """
    check_float_tensor("to_plane", "points", points)
    if points.dim() == 0 or points.shape[-1] != 3:
        raise ValueError(
            "to_plane: expected points with three weights in the last dimension; got shape "
            f"{tuple(points.shape)}; give points of a law with three categories."
        )
    return points @ torch.tensor(CORNERS, dtype=points.dtype, device=points.device)


@dataclass(frozen=True, eq=False)
class TernaryGrid:
    """The simplex of three categories cut into small triangles of one size.

    Attributes:
        points: The centre of each triangle, float64 with shape :math:`(R^2, 3)`; no weight is zero.
        nodes: The corners of all triangles, with shape :math:`(N, 3)`.
        triangles: For each triangle the places of its corners among the nodes, int64 with shape
            :math:`(R^2, 3)`.
        cell: The measure of a triangle, that of Lebesgue on the first two weights, by which densities are:
            the sum of a density over :attr:`points`, times this, is its integral.
    """

    points: Tensor
    nodes: Tensor
    triangles: Tensor
    cell: float

    def __repr__(self) -> str:
        return f"TernaryGrid(num_points={len(self.points)}, cell={reprs.number(self.cell)})"


def ternary_grid(resolution: int = RESOLUTION) -> TernaryGrid:
    """A grid over the simplex of three categories.

    Arguments:
        resolution: R, the parts into which each side is cut.

    Raises:
        TypeError: unless the resolution is an int.
        ValueError: if it is below one.

    Example:
        >>> grid = ternary_grid(10)
        >>> grid.points.shape, grid.nodes.shape, grid.cell
        (torch.Size([100, 3]), torch.Size([66, 3]), 0.005)
    """
    parts = whole_number("ternary_grid", "resolution", resolution, minimum=1)
    # The nodes by their first two weights, in so many parts: (0, 0), (0, 1), ..., (1, 0), ...
    first, second = torch.meshgrid(torch.arange(parts + 1), torch.arange(parts + 1), indexing="ij")
    within = first + second <= parts
    first, second = first[within], second[within]
    place = torch.full((parts + 1, parts + 1), -1)
    place[first, second] = torch.arange(len(first))
    up = first + second < parts
    a, b = first[up], second[up]
    upright = torch.stack([place[a, b], place[a + 1, b], place[a, b + 1]], dim=-1)
    down = first + second < parts - 1
    a, b = first[down], second[down]
    inverted = torch.stack([place[a + 1, b], place[a + 1, b + 1], place[a, b + 1]], dim=-1)
    triangles = torch.cat([upright, inverted])
    nodes = torch.stack([first, second, parts - first - second], dim=-1).double() / parts
    return TernaryGrid(nodes[triangles].mean(1), nodes, triangles, 0.5 / parts**2)


def log_density(law: SimplexRelaxation, points: Tensor) -> Tensor:
    """The log-density of a law with three categories at points inside of the simplex, without gradient.

    It is that of Lebesgue measure on the first two weights, and minus infinity where the law does not reach.

    Arguments:
        law: One law, without batch dimensions.
        points: With shape :math:`(*, 3)`, best in float64; no weight may be zero.

    Returns:
        Tensor with shape :math:`(*)` in the dtype of the law, on the CPU, in nats.

    Raises:
        TypeError: unless law is a SimplexRelaxation.
        ValueError: for a batch of laws, another number of categories, or one with a masked category.

    Example:
        >>> from igr import GumbelSoftmax
        >>> grid = ternary_grid()
        >>> density = log_density(GumbelSoftmax(2.0, torch.tensor([0.5, 0.0, -0.5])), grid.points)
        >>> density.exp().sum() * grid.cell
        tensor(1.0000)
    """
    check_three_categories("log_density", law)
    with torch.no_grad():
        return law.log_prob_of_log(points.log().to(law.device)).cpu()


def check_three_categories(owner: str, law: SimplexRelaxation) -> None:
    """TypeError or ValueError unless it is one law whose density spreads over the simplex of three."""
    if not isinstance(law, SimplexRelaxation):
        raise TypeError(
            f"{owner}: expected law to be a SimplexRelaxation; got {type(law).__name__}; build "
            "igr.GumbelSoftmax or igr.InvertibleGaussian from its parameters."
        )
    if law.num_categories != 3:
        raise ValueError(
            f"{owner}: expected a law with three categories; got {law.num_categories}; only these fill a "
            "triangle."
        )
    if law.batch_shape:
        raise ValueError(
            f"{owner}: expected one law, without batch dimensions; got batch shape "
            f"{tuple(law.batch_shape)}; build it from the parameters of one."
        )
    if law.mask is not None and bool(law.mask.any()):
        raise ValueError(
            f"{owner}: expected three categories that are all available; got a mask; what is left of the "
            "triangle is an edge or a corner, on which densities are by another measure."
        )
