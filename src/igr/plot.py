"""Pictures of runs and laws. Each function draws on the Axes that it is given and returns it.

Nothing here touches ``matplotlib.pyplot``, so importing it changes no global state and no window
opens; :func:`new_figure` and :func:`save` are enough to get a picture into a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from igr import atomic
from igr.evaluation import BoundKind, ComparedRun, GroupedComparison, labels, words
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

# What a band around a curve is.
SEEDS_BAND = "± one standard error over seeds"

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
        panels.setdefault((run.config.trained_kl, run.config.data), []).append(curve)
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


def grouped_figure(comparison: GroupedComparison) -> Figure:
    """The validation objective of each row over epochs: the mean over its seeds, and one standard error.

    There is one panel for each data set, or other thing that is learned, and KL: objectives with
    different KLs are different quantities and never share an axis. Rows that differ in nothing else look
    the same in every panel, and one legend below names them.
    """
    learned = ("data", "likelihood", "binarization", "image_shape", "kl")
    rows = comparison.rows
    label_of = labels([row.config for row in rows], ("latent",), learned)
    names = [", ".join(words(label)) for label in label_of]
    position_of = {name: position for position, name in enumerate(dict.fromkeys(names))}
    panels: dict[tuple[Any, ...], dict[int, Band]] = {}
    for row, name in zip(rows, names, strict=True):
        curve = row.curve("validation_bound")
        errors = [mean.standard_error or 0.0 for _, mean in curve]
        band = Band(
            label=name,
            x=[epoch for epoch, _ in curve],
            lower=[mean.value - error for (_, mean), error in zip(curve, errors, strict=True)],
            middle=[mean.value for _, mean in curve],
            upper=[mean.value + error for (_, mean), error in zip(curve, errors, strict=True)],
        )
        panel = tuple(getattr(row.config, field) for field in learned)
        panels.setdefault(panel, {})[position_of[name]] = band
    columns = len(panels) if len(panels) < 4 else 2
    num_rows = -(-len(panels) // columns)
    entries = [*position_of, *([SEEDS_BAND] if any(row.num_seeds > 1 for row in rows) else [])]
    # A panel alone is wider, since the legend is below it.
    width = 7.5 if columns == 1 else 5.2 * columns
    legend_columns = _legend_columns(entries, width)
    height = 3.8 * num_rows + 0.25 * -(-len(entries) // legend_columns)
    figure, all_axes = new_figure(width, height, len(panels), num_rows)
    several = [len({panel[i] for panel in panels}) > 1 for i in range(len(learned))]
    handles: dict[str, Artist] = {}
    for axes, (panel, bands) in zip(all_axes, sorted(panels.items()), strict=True):
        quantity, kl_title = OBJECTIVES[panel[-1]]
        settings = [str(what) for what, differs in zip(panel[1:-1], several[1:-1], strict=True) if differs]
        title = ", ".join([panel[0], *settings, kl_title])
        validation_bands(axes, bands, title=title, quantity=quantity)
        handles |= {str(line.get_label()): line for line in axes.get_legend_handles_labels()[0]}
    handles[SEEDS_BAND] = Patch(color=GREY, alpha=0.2, linewidth=0)
    figure.legend(
        handles=[handles[entry] for entry in entries],
        labels=entries,
        loc="outside lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize=9,
        handlelength=4,
    )
    return figure


def validation_bands(axes: Axes, bands: Mapping[int, Band], *, title: str, quantity: str) -> Axes:
    """Validation figures over epochs, each with a band around it.

    Only curves of one quantity belong on one pair of axes; ``quantity`` names it. The vertical axis spans
    what comes after the first fifth of the epochs, whose figures may lie beyond it.

    Arguments:
        axes: Where to draw.
        bands: The curves, by their place among all that are compared, which decides colour, line and
            marker in every panel.
        title: The title of the panel.
        quantity: The label of the vertical axis, without its unit.
    """
    for position, band in bands.items():
        colour = COLOURS[position % len(COLOURS)]
        axes.fill_between(band.x, band.lower, band.upper, color=colour, alpha=0.2, linewidth=0)
        _curve(axes, position, band.x, band.middle, band.label)
    last = max((band.x[-1] for band in bands.values() if band.x), default=0)
    settled = [
        value
        for band in bands.values()
        for edge in (band.lower, band.upper)
        for epoch, value in zip(band.x, edge, strict=True)
        if epoch > max(1, last / 5) or epoch == last
    ]
    if settled:
        margin = max(0.05 * (max(settled) - min(settled)), 0.1)
        axes.set_ylim(min(settled) - margin, max(settled) + margin)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{quantity}\nvalidation (nats per image)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain_frame(axes)
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
    """
    for position, row in enumerate(quantiles):
        distance_boxes(axes, [position], [row], largest=largest, title=title, position=position)
    if mark is not None:
        axes.axhline(mark, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylabel(ylabel)
    return axes


def bounds_figure(
    comparison: GroupedComparison, kinds: Sequence[BoundKind], *, titles: Mapping[str, str]
) -> Figure:
    """Bounds of the rows of a comparison as points with their standard errors, a panel for each table.

    Arguments:
        comparison: The rows.
        kinds: The kinds of bound, each with a colour and a marker of its own.
        titles: What a latent is called, by its name.
    """
    columns = min(3, len(comparison.sections))
    num_rows = -(-len(comparison.sections) // columns)
    longest = max(len(of.rows) for of in comparison.sections)
    height = num_rows * (1.3 + 0.3 * longest)
    figure, panels = new_figure(1.6 + 4.2 * columns, height, len(comparison.sections), num_rows)
    for of, axes in zip(comparison.sections, panels, strict=True):
        for place, kind in enumerate(kinds):
            found = [(row, figure_of) for row in range(len(of.rows)) if (figure_of := of.figure(row, kind))]
            axes.errorbar(
                [one.value for _, one in found],
                [row + 0.2 * (place - 0.5 * (len(kinds) - 1)) for row, _ in found],
                xerr=[one.standard_error or 0.0 for _, one in found],
                fmt=MARKERS[place],
                color=COLOURS[place],
                markersize=5,
                capsize=2,
                linestyle="none",
                label=kind.name,
            )
        names = [
            ", ".join([titles.get(row.config.latent, row.config.latent), *words(row.label)[1:]])
            for row in of.rows
        ]
        axes.set_yticks(range(len(of.rows)), names, fontsize=8)
        axes.set_ylim(len(of.rows) - 0.4, -0.6)
        axes.set_title(of.title.partition(":")[0], fontsize=10)
        axes.set_xlabel("nats per image (higher is better)")
        _plain_frame(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(kinds), frameon=False, fontsize=9)
    return figure


def traversals(axes: Axes, rows: Sequence[Tensor], labels: Sequence[str], *, title: str) -> Axes:
    """Rows of images, each along one latent variable, with the name of that variable beside it.

    Arguments:
        axes: Where to draw.
        rows: For each row, values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        labels: The names of the rows.
        title: The title.
    """
    image_grid(axes, rows, title=title)
    axes.set_yticks([0.5 + CELL * i for i in range(len(rows))], labels, fontsize=7)
    return axes


def quantile_bands(axes: Axes, bands: Sequence[Band], *, xlabel: str, ylabel: str, columns: int = 3) -> Axes:
    """Curves with a band around each; the legend goes below.

    Arguments:
        axes: Where to draw.
        bands: At most six, so that each has a colour of its own.
        xlabel: The label of the horizontal axis.
        ylabel: The label of the vertical axis.
        columns: Of the legend.
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
    if all(float(x).is_integer() for band in bands for x in band.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain_frame(axes)
    _legend_below(axes, handles, columns=columns)
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
        # Another one when colours come round again.
        linestyle=LINES[(position + position // len(COLOURS)) % len(LINES)],
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


def _legend_columns(texts: Sequence[str], width: float) -> int:
    """How many columns of such entries a figure of so many inches has room for."""
    # A character of 9 points, and the line and gaps beside it.
    inches = 0.07 * max(map(len, texts)) + 0.9
    return max(1, min(len(texts), int(width / inches)))


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
