"""Three categories as a triangle: points of the simplex, and the density of a law over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.tri import Triangulation
from numpy.typing import NDArray
from torch import Tensor

from igr import ternary
from igr.distributions import SimplexRelaxation
from igr.plot.style import COLOURS, GREY, MARKERS

LABELS = ("1", "2", "3")
# Nats from the highest colour to the lowest.
SPAN = 12.0
# What marks the frame that a picture has already.
_FRAME = "igr-simplex"
# Of the triangles, those whose density is so high that all have one colour.
_SHARE_ABOVE = 0.005
# The ends of a colour bar, by whether there is more below and above.
_EXTENSIONS: dict[tuple[bool, bool], Any] = {
    (False, False): "neither",
    (True, False): "min",
    (False, True): "max",
    (True, True): "both",
}
# Of the sum of weights; those of half precision are off by so much.
_TOLERANCE = 0.02


def ternary_samples(
    axes: Axes,
    points: Tensor | NDArray[Any],
    *,
    title: str = "",
    position: int = 0,
    labels: Sequence[str] = LABELS,
) -> Axes:
    """Points of the simplex of three categories in an equilateral triangle.

    A point lies at its weights' mean of the corners, so one in a corner has all its weight on one category.

    Arguments:
        axes: Where to draw; may hold a density or other points already.
        points: With shape :math:`(N, 3)`, N zero or more; weights that are not negative and sum to one.
        title: The title.
        position: The place of the law among those of the figure, which decides colour and marker.
        labels: The names of the three categories, at the corners: left, right and above.

    Returns:
        The axes.

    Raises:
        TypeError: unless the points are floating-point numbers.
        ValueError: for points of another shape or outside of the simplex, or another number of labels.
    """
    given = points.detach() if isinstance(points, Tensor) else torch.as_tensor(np.asarray(points))
    if given.dim() != 2 or given.shape[-1] != 3:
        raise ValueError(
            f"ternary_samples: expected points of shape (N, 3); got {tuple(given.shape)}; draw from one law "
            "with three categories."
        )
    given = given.to("cpu", torch.float64) if given.is_floating_point() else given
    where = ternary.to_plane(given)
    off = ~((given >= 0).all(-1) & ((given.sum(-1) - 1).abs() < _TOLERANCE))
    if bool(off.any()):
        raise ValueError(
            "ternary_samples: expected weights of at least 0 that sum to 1; got "
            f"{given[off][0].tolist()} among {int(off.sum())} such points; for logarithms take .exp()."
        )
    _frame(axes, labels, title, "ternary_samples")
    axes.scatter(
        where[:, 0].numpy(),
        where[:, 1].numpy(),
        s=4,
        color=COLOURS[position % len(COLOURS)],
        marker=MARKERS[position % len(MARKERS)],
        alpha=0.4,
        linewidths=0,
        # Half of a point on an edge would be cut away.
        clip_on=False,
    )
    return axes


def ternary_density(
    axes: Axes,
    law: SimplexRelaxation,
    *,
    title: str = "",
    labels: Sequence[str] = LABELS,
    resolution: int = ternary.RESOLUTION,
) -> Axes:
    """The log-density of a law with three categories over the triangle, with a colour bar.

    Densities are by Lebesgue measure on the first two weights, in nats. At low temperature they grow without
    bound toward the corners, and at high temperature they fall to nothing at the edges. So the highest colour
    is that of the densest 0.5 % of the area that the law reaches, and the lowest that of all that is 12 nats
    or more below; the colour bar has an arrow where values go on. White is what the law does not reach.

    Arguments:
        axes: Where to draw.
        law: One law, without batch dimensions and mask.
        title: The title.
        labels: The names of the three categories, at the corners: left, right and above.
        resolution: The parts into which each side is cut.

    Returns:
        The axes.

    Raises:
        TypeError: unless law is a SimplexRelaxation.
        ValueError: for a batch of laws, another number of categories, a masked category or another number of
            labels.
    """
    ternary.check_three_categories("ternary_density", law)
    _frame(axes, labels, title, "ternary_density")
    grid = ternary.ternary_grid(resolution)
    density = ternary.log_density(law, grid.points).double().numpy()
    reached = np.isfinite(density)
    if not reached.any():
        # Stick lengths at a high temperature stay within a region smaller than a triangle.
        axes.text(
            0.5,
            0.3,
            "the law reaches less\nthan a cell of the grid",
            ha="center",
            va="center",
            fontsize=8,
            color=GREY,
        )
        return axes
    values = density[reached]
    # The few triangles at the corners would take most of the colours for themselves.
    highest = float(np.quantile(values, 1.0 - _SHARE_ABOVE))
    lowest = max(highest - SPAN, float(values.min()))
    x, y = ternary.to_plane(grid.nodes).T.numpy()
    drawn = axes.tripcolor(
        Triangulation(x, y, grid.triangles.numpy()[reached]),
        facecolors=values,
        cmap="viridis",
        norm=Normalize(lowest, highest),
        rasterized=True,
        zorder=0,
    )
    beyond = bool(values.min() < lowest), bool(values.max() > highest)
    axes.figure.colorbar(
        drawn,
        ax=axes,
        label="log-density (nats), by Lebesgue\nmeasure on the first two weights",
        extend=_EXTENSIONS[beyond],
        shrink=0.85,
    )
    return axes


def _frame(axes: Axes, labels: Sequence[str], title: str, owner: str) -> None:
    """The triangle with its labelled corners, once."""
    if len(labels) != 3:
        raise ValueError(f"{owner}: expected three labels; got {len(labels)}; give one for each category.")
    if title:
        axes.set_title(title, fontsize=10, pad=14)
    if any(patch.get_gid() == _FRAME for patch in axes.patches):
        return
    (outline,) = axes.fill(*zip(*ternary.CORNERS, strict=True), facecolor="none", edgecolor=GREY, linewidth=1)
    outline.set_gid(_FRAME)
    places = (("right", "top"), ("left", "top"), ("center", "bottom"))
    for (x, y), label, (across, up) in zip(ternary.CORNERS, labels, places, strict=True):
        axes.text(x, y, f" {label} ", ha=across, va=up, color=GREY)
    axes.set_aspect("equal")
    axes.set_axis_off()
