"""Pictures of laws: distances to a point, and probabilities."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from igr.plot.style import COLOURS, GREY, legend_below, plain_frame

# Of a distance, the whiskers, the box and its line.
BOX_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)

# Bars of so many categories stand apart; more of them would be hair-thin.
MOST_SEPARATE_BARS = 30


def distance_boxes(
    axes: Axes,
    temperatures: Sequence[float],
    quantiles: Sequence[Sequence[float]],
    *,
    largest: float,
    title: str,
    position: int = 0,
) -> Axes:
    """Box plots of a distance, each at its temperature.

    Panels of one figure have the same vertical axis, from zero to a little above ``largest``.

    Arguments:
        axes: Where to draw.
        temperatures: In ascending order.
        quantiles: For each temperature the quantiles at :data:`BOX_LEVELS`.
        largest: The largest distance that is possible, drawn as a dotted line.
        title: The title of the panel.
        position: The place of the law among those of the figure, which decides its colour.

    Returns:
        The axes.
    """
    gaps = [b - a for a, b in pairwise(temperatures)]
    width = 0.6 * min(gaps, default=1.0)
    colour = COLOURS[position % len(COLOURS)]
    keys = ("whislo", "q1", "med", "q3", "whishi")
    axes.bxp(
        [{**dict(zip(keys, row, strict=True)), "fliers": []} for row in quantiles],
        positions=list(temperatures),
        widths=width,
        manage_ticks=False,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": to_rgba(colour, 0.3), "edgecolor": colour},
        medianprops={"color": "black", "linewidth": 1.6},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )
    axes.axhline(largest, color=GREY, linestyle=":", linewidth=1)
    axes.set_ylim(-0.02 * largest, 1.05 * largest)
    axes.set_title(title, fontsize=10)
    plain_frame(axes)
    return axes


def box_key(axes: Axes) -> Axes:
    """How to read :func:`distance_boxes`, in a panel of its own.

    Arguments:
        axes: Where to draw.

    Returns:
        The axes.
    """
    texts = ("5% point", "25% point", "median", "75% point", "95% point")
    levels = (0.5, 1.5, 2.3, 3.0, 4.2)
    distance_boxes(axes, [0.0], [levels], largest=5.0, title="", position=len(COLOURS) - 1)
    for level, text in zip(levels, texts, strict=True):
        axes.text(0.6, level, text, va="center", fontsize=9)
    axes.text(0.6, 5.05, "centre of the simplex", va="bottom", fontsize=9)
    axes.set_xlim(-1.2, 3.5)
    axes.set_axis_off()
    return axes


def labelled_boxes(
    axes: Axes,
    labels: Sequence[str],
    quantiles: Sequence[Sequence[float]],
    *,
    largest: float,
    mark: float | None = None,
    title: str,
    ylabel: str,
) -> Axes:
    """Box plots of a distance side by side, each with its label below and a colour of its own.

    Arguments:
        axes: Where to draw.
        labels: What each is of, in one or two lines.
        quantiles: For each the quantiles at :data:`BOX_LEVELS`.
        largest: The largest distance that is possible, drawn as a dotted line.
        mark: A distance to draw a dashed line at.
        title: The title of the panel.
        ylabel: The label of the vertical axis.

    Returns:
        The axes.
    """
    for position, row in enumerate(quantiles):
        distance_boxes(axes, [position], [row], largest=largest, title=title, position=position)
    if mark is not None:
        axes.axhline(mark, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylabel(ylabel)
    return axes


def law_histogram(
    axes: Axes,
    target: Sequence[float] | Tensor,
    before: Sequence[float] | Tensor,
    after: Sequence[float] | Tensor,
    first: int = 0,
    *,
    title: str,
    xlabel: str = "category",
    legend: bool = True,
) -> Axes:
    """A discrete law that was fitted, before and after, over its target.

    Arguments:
        axes: Where to draw.
        target: The probabilities of the target, drawn as bars; like the next two numbers, or a tensor with
            shape :math:`(K)`.
        before: Those of the law before the fit, a dashed outline.
        after: Those of the law after the fit: dots where there is room for them, or else an outline.
        first: The number of the first category.
        title: The title.
        xlabel: The label of the horizontal axis.
        legend: Whether to draw a legend, below the panel; see :func:`legend_below_all`.

    Returns:
        The axes.
    """
    # Matplotlib would take tensors for arrays, which numpy warns of.
    target, before, after = (list(map(float, law)) for law in (target, before, after))
    separate = len(target) <= MOST_SEPARATE_BARS
    categories = list(range(first, first + len(target)))
    edges = [first - 0.5 + i for i in range(len(target) + 1)]
    bars = axes.bar(categories, target, width=0.8 if separate else 1.0, color="#C8C8C8", label="target")
    width = 1.3 if separate else 0.9
    outline = axes.stairs(
        before, edges, color=COLOURS[1], linestyle="--", linewidth=width, label="before the fit"
    )
    handles: list[Any] = [bars, outline]
    if separate:
        # Whole where they lie on the axis, too.
        handles += axes.plot(
            categories, after, "o", color=COLOURS[0], markersize=5, clip_on=False, label="after the fit"
        )
    else:
        handles.append(axes.stairs(after, edges, color=COLOURS[0], linewidth=1.3, label="after the fit"))
    axes.set_xlim(edges[0], edges[-1])
    # Room above the highest bar, and none below zero.
    axes.set_ylim(0, 1.08 * max(*target, *before, *after))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("probability")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_frame(axes)
    if legend:
        legend_below(axes, handles, columns=3)
    return axes
