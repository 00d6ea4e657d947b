"""Pictures of runs and laws. Each function draws on the Axes that it is given and returns it.

Nothing here touches ``matplotlib.pyplot``, so importing it changes no global state and no window
opens; :func:`new_figure` and :func:`save` are enough to get a picture into a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from igr import atomic
from igr.evaluation import ComparedRun
from igr.models.pictures import GAP

# Okabe and Ito's palette without black and yellow (too pale on white), and shapes beside it: no
# curve is told from another by its colour alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#4D4D4D"

# What the objective of training is, by the KL in it, and the title of a panel of such runs.
OBJECTIVES = {
    "relaxed": ("relaxed ELBO", "trained with the KL of the relaxed laws"),
    "discrete": (
        "training objective, no bound:\nrelaxed latent with the discrete KL",
        "trained with the KL of the discrete laws",
    ),
}

# Beside colours and markers, so that curves close to each other are told apart along their whole length.
LINES = ("-", "--", "-.", (0, (1, 1.2)), (0, (6, 2, 1, 2, 1, 2)), (0, (8, 3)))
# Markers along a curve of many points.
NUM_MARKERS = 8

# Of a distance, the whiskers, the box and its line.
BOX_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)

# Bars of so many categories stand apart; more of them would be hair-thin.
MOST_SEPARATE_BARS = 30

# Of a grid of images: one image and the gap after it.
CELL = 1.08
# The height of an image with its label above.
LABELLED = 1.34


@dataclass(frozen=True)
class Curve:
    """Figures of one run over its epochs, in nats per image.

    ``training`` and ``validation`` are pairs of epoch and value. ``position`` is the place of the run
    among all that are compared, and decides its colour and marker in every panel.
    """

    label: str
    position: int
    training: Sequence[tuple[float, float]]
    validation: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Band:
    """A curve with a band around it, each of ``lower``, ``middle`` and ``upper`` one number for every x."""

    label: str
    x: Sequence[float]
    lower: Sequence[float]
    middle: Sequence[float]
    upper: Sequence[float]


def new_figure(
    width: float, height: float, num_panels: int = 1, num_rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with its panels side by side, in so many rows of equal length."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(num_rows, -(-num_panels // num_rows), squeeze=False).ravel()
    for unused in panels[num_panels:]:
        unused.remove()
    return figure, list(panels[:num_panels])


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as a PNG, atomically.

    Raises:
        OSError: The file cannot be written.
    """
    atomic.write(path, lambda temporary: figure.savefig(temporary, format="png", bbox_inches="tight"))


def comparison_figure(runs: Sequence[ComparedRun]) -> Figure:
    """The objective of each run over epochs, one panel for each data set and KL.

    Objectives with different KLs are different quantities and never share an axis.
    """
    panels: dict[tuple[str, str], list[Curve]] = {}
    for position, run in enumerate(runs):
        curve = Curve(run.name, position, run.curve("train_bound"), run.curve("validation_bound"))
        panels.setdefault((run.config.kl, run.config.data), []).append(curve)
    figure, all_axes = new_figure(5.2 * len(panels), 4.4, len(panels))
    for axes, ((kl, data), curves) in zip(all_axes, sorted(panels.items()), strict=True):
        quantity, title = OBJECTIVES[kl]
        bounds_over_epochs(axes, curves, title=f"{data}, {title}", quantity=quantity)
    return figure


def bounds_over_epochs(axes: Axes, curves: Sequence[Curve], *, title: str, quantity: str) -> Axes:
    """Training (dashed) and validation figures (solid, with markers) of runs over epochs.

    Only curves of one quantity belong on one pair of axes; ``quantity`` names it. The vertical axis
    spans all figures but those of the first epoch, which may lie beyond it.

    Arguments:
        axes: Where to draw; the legend goes below.
        curves: The runs.
        title: The title of the panel.
        quantity: The label of the vertical axis, without its unit.
    """
    handles = []
    for curve in curves:
        colour = COLOURS[curve.position % len(COLOURS)]
        marker = MARKERS[curve.position % len(MARKERS)]
        if curve.training:
            axes.plot(*zip(*curve.training, strict=True), color=colour, linestyle="--", linewidth=1)
        if curve.validation:
            axes.plot(
                *zip(*curve.validation, strict=True),
                color=colour,
                linewidth=1.6,
                marker=marker,
                markersize=4,
                markevery=max(1, len(curve.validation) // 10),
            )
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, label=curve.label))
    handles.append(Line2D([], [], color=GREY, linewidth=1.6, label="validation"))
    handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="training"))
    points = [point for curve in curves for point in (*curve.training, *curve.validation)]
    settled = [value for epoch, value in points if epoch > 1]
    if settled:
        # Figures of the first epoch, before much was learned, would squeeze all else.
        margin = max(0.05 * (max(settled) - min(settled)), 0.1)
        axes.set_ylim(min(settled) - margin, max(settled) + margin)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{quantity}\n(nats per image)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain_frame(axes)
    _legend_below(axes, handles, columns=2)
    return axes


def reconstructions(axes: Axes, originals: Tensor, decoded: Tensor, *, title: str) -> Axes:
    """Images above their reconstructions.

    Arguments:
        axes: Where to draw.
        originals: Values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        decoded: Means of the likelihood, of the same shape.
        title: The title.
    """
    image_grid(axes, [originals, decoded], title=title)
    axes.set_yticks([0.5, 0.5 + CELL], ["original", "decoded"])
    return axes


def image_grid(axes: Axes, rows: Sequence[Tensor], *, title: str) -> Axes:
    """Images, row by row.

    Arguments:
        axes: Where to draw; an image is one unit high and wide.
        rows: For each row, values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        title: The title.
    """
    for i, row in enumerate(rows):
        for j, image in enumerate(row.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()):
            top, left = i * CELL, j * CELL
            axes.imshow(image, interpolation="nearest", extent=(left, left + 1, top + 1, top))
    axes.set_facecolor(GAP)
    axes.set(
        xlim=(1 - CELL, CELL * max(map(len, rows))),
        ylim=(CELL * len(rows), 1 - CELL),
        xticks=[],
        yticks=[],
    )
    axes.set_title(title, fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes


def labelled_images(axes: Axes, images: Tensor, labels: Sequence[str], *, columns: int, title: str) -> Axes:
    """Images row by row, each below its label.

    Arguments:
        axes: Where to draw; an image is one unit high and wide.
        images: Values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        labels: A text for each image, of at most two lines.
        columns: How many images stand in a row.
        title: The title.
    """
    coloured = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    for number, (image, label) in enumerate(zip(coloured, labels, strict=True)):
        row, column = divmod(number, columns)
        bottom, left = (row + 1) * LABELLED, column * CELL
        axes.imshow(image, interpolation="nearest", extent=(left, left + 1, bottom, bottom - 1))
        axes.text(left + 0.5, bottom - 1.04, label, ha="center", va="bottom", fontsize=5, linespacing=1.1)
    num_rows = -(-len(images) // columns)
    axes.set(
        xlim=(1 - CELL, CELL * min(columns, len(images))),
        ylim=(LABELLED * num_rows + CELL - 1, 0),
        xticks=[],
        yticks=[],
    )
    axes.set_title(title, fontsize=10)
    axes.spines[:].set_visible(False)
    return axes


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
    _plain_frame(axes)
    return axes


def box_key(axes: Axes) -> Axes:
    """How to read :func:`distance_boxes`, in a panel of its own."""
    texts = ("5% point", "25% point", "median", "75% point", "95% point")
    levels = (0.5, 1.5, 2.3, 3.0, 4.2)
    distance_boxes(axes, [0.0], [levels], largest=5.0, title="", position=len(COLOURS) - 1)
    for level, text in zip(levels, texts, strict=True):
        axes.text(0.6, level, text, va="center", fontsize=9)
    axes.text(0.6, 5.05, "centre of the simplex", va="bottom", fontsize=9)
    axes.set_xlim(-1.2, 3.5)
    axes.set_axis_off()
    return axes


def quantile_bands(axes: Axes, bands: Sequence[Band], *, xlabel: str, ylabel: str) -> Axes:
    """Curves with a band around each; the legend goes below.

    Arguments:
        axes: Where to draw.
        bands: At most six, so that each has a colour of its own.
        xlabel: The label of the horizontal axis.
        ylabel: The label of the vertical axis.
    """
    for position, band in enumerate(bands):
        colour = COLOURS[position % len(COLOURS)]
        axes.fill_between(band.x, band.lower, band.upper, color=colour, alpha=0.1, linewidth=0)
        # Where bands lie on one another their edges still tell them apart.
        for edge in (band.lower, band.upper):
            axes.plot(band.x, edge, color=colour, linewidth=0.7, linestyle=LINES[position % len(LINES)])
    handles = [_curve(axes, position, band.x, band.middle, band.label) for position, band in enumerate(bands)]
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    _plain_frame(axes)
    _legend_below(axes, handles, columns=3)
    return axes


def law_histogram(
    axes: Axes,
    target: Sequence[float],
    before: Sequence[float],
    after: Sequence[float],
    first: int = 0,
    *,
    title: str,
    xlabel: str = "category",
    legend: bool = True,
) -> Axes:
    """A discrete law that was fitted, before and after, over its target.

    Arguments:
        axes: Where to draw.
        target: The probabilities of the target, drawn as bars.
        before: Those of the law before the fit, a dashed outline.
        after: Those of the law after the fit: dots where there is room for them, or else an outline.
        first: The number of the first category.
        title: The title.
        xlabel: The label of the horizontal axis.
        legend: Whether to draw a legend, below the panel; see :func:`legend_below_all`.
    """
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
    _plain_frame(axes)
    if legend:
        _legend_below(axes, handles, columns=3)
    return axes


def legend_below_all(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, which all show what this one does, below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def loss_curves(
    axes: Axes,
    histories: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    title: str = "",
    xlabel: str = "iteration",
    log_scale: bool = True,
    positions: Sequence[int] | None = None,
    columns: int = 3,
) -> Axes:
    """Losses over iterations; the legend goes below.

    Arguments:
        axes: Where to draw.
        histories: For each label the values, that of the start first.
        ylabel: What the loss is, with its unit.
        title: The title.
        xlabel: The label of the horizontal axis.
        log_scale: Whether the vertical axis is logarithmic; what is not positive is then left out.
        positions: The place of each label among all that are compared, which decides its colour and marker in
            every panel; ``None`` for 0, 1, ...
        columns: Of the legend.
    """
    handles = []
    places = range(len(histories)) if positions is None else positions
    for position, (label, values) in zip(places, histories.items(), strict=True):
        handles.append(_curve(axes, position, range(len(values)), values, label))
    if log_scale:
        axes.set_yscale("log", nonpositive="mask")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain_frame(axes)
    _legend_below(axes, handles, columns=columns)
    return axes


def _curve(axes: Axes, position: int, x: Sequence[float], y: Sequence[float], label: str) -> Line2D:
    """A curve with the colour, line and marker of its position; its markers differ in place too."""
    step = max(1, len(x) // NUM_MARKERS)
    (line,) = axes.plot(
        x,
        y,
        color=COLOURS[position % len(COLOURS)],
        linestyle=LINES[position % len(LINES)],
        linewidth=1.6,
        marker=MARKERS[position % len(MARKERS)],
        markersize=5,
        # Curves that lie on one another would hide each other's markers.
        markevery=(position * step // len(LINES), step),
        label=label,
    )
    return line


def _plain_frame(axes: Axes) -> None:
    axes.grid(color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_below(axes: Axes, handles: Sequence[Any], *, columns: int) -> None:
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.18),
        ncols=columns,
        frameon=False,
        fontsize=8,
        handlelength=3,
    )
