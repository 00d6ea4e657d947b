"""Pictures of runs: what they reached over epochs, and their bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from igr.evaluation import BoundKind, ComparedRun, GroupedComparison, Row, in_words, labels, words
from igr.plot.curves import Band
from igr.plot.style import (
    COLOURS,
    GREY,
    MARKERS,
    legend_below,
    legend_columns,
    new_figure,
    plain_frame,
    styled_curve,
)
from igr.tables import Measured
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.run_config import RunConfig
from igr.training.sop_config import SOPConfig

# What the objective of training is, by the KL in it and by whether the decoder meets vertices, and the title
# of a panel of such runs.
OBJECTIVES = {
    ("relaxed", False): ("relaxed ELBO", "trained with the KL of the relaxed laws"),
    ("relaxed", True): (
        "bound of the discrete model:\nvertices with the relaxed KL",
        "trained with vertices, KL of the relaxed laws",
    ),
    ("discrete", False): (
        "training objective, no bound:\nrelaxed latent with the discrete KL",
        "trained with the KL of the discrete laws",
    ),
    ("discrete", True): ("discrete ELBO", "trained with vertices, KL of the discrete laws"),
}


class Objective(NamedTuple):
    """What is trained; figures of different ones are different quantities.

    Arguments:
        key: What panels are sorted by.
        quantity: What its figures are.
        title: The title of a panel of such runs.
        told: Settings that the title tells.
    """

    key: tuple[Any, ...]
    quantity: str
    title: str
    told: tuple[str, ...] = ("kl",)


def objective(config: RunConfig) -> Objective:
    """Which of the objectives it is."""
    if isinstance(config, TrainConfig):
        key = config.trained_kl, config.meets_vertices
        return Objective(key, *OBJECTIVES[key])
    if isinstance(config, SOPConfig):
        samples = f"{config.num_samples} sample{'s' if config.samples_per_image > 1 else ''}"
        kind = "straight-through" if config.straight_through else "relaxed"
        model = "discrete" if config.straight_through else "relaxed"
        return Objective(
            (config.network, config.num_samples, config.straight_through),
            f"bound of the {model} model, {samples}",
            f"{config.network}, {kind} units, {samples}",
            told=("network", "num_samples", "straight_through"),
        )
    if isinstance(config, DLGMMConfig):
        return Objective(
            (config.network, config.num_components, config.component),
            f"ELBO, component {config.component}",
            f"{config.network}, K = {config.num_components}, {config.component}",
            told=("network", "num_components", "component"),
        )
    raise TypeError(f"expected the config of a known kind of model; got {type(config).__name__}")


# What a band around a curve is.
SEEDS_BAND = "± one standard error over seeds"


@dataclass(frozen=True)
class Curve:
    """Figures of one run over its epochs, in nats per image.

    Attributes:
        label: What the run is called.
        position: Its place among all that are compared, which decides its colour and marker in every panel.
        training: Pairs of an epoch and the value in it.
        validation: Likewise, where validation was measured.
    """

    label: str
    position: int
    training: Sequence[tuple[float, float]]
    validation: Sequence[tuple[float, float]]


def comparison_figure(runs: Sequence[ComparedRun]) -> Figure:
    """The objective of each run over epochs, one panel for each data set and kind of objective.

    Different objectives are different quantities and never share an axis.

    Arguments:
        runs: The runs, as :func:`igr.evaluation.read_runs` reads them.

    Returns:
        A figure with its panels side by side.

    Raises:
        UserError: ``metrics.jsonl`` of a run has a line without its figures.
    """
    panels: dict[tuple[Objective, str], list[Curve]] = {}
    for position, run in enumerate(runs):
        curve = Curve(run.name, position, run.curve("train_bound"), run.curve("validation_bound"))
        panels.setdefault((objective(run.config), run.config.data), []).append(curve)
    figure, all_axes = new_figure(5.2 * len(panels), 4.4, len(panels))
    for axes, ((kind, data), curves) in zip(all_axes, sorted(panels.items()), strict=True):
        bounds_over_epochs(axes, curves, title=f"{data}, {kind.title}", quantity=kind.quantity)
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

    Returns:
        The axes.
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
    _over_epochs(axes, settled, title, f"{quantity}\n(nats per image)")
    legend_below(axes, handles, columns=2)
    return axes


def _over_epochs(axes: Axes, settled: Sequence[float], title: str, ylabel: str) -> None:
    """The frame of curves over epochs; figures from before much was learned may lie beyond it."""
    if settled:
        margin = max(0.05 * (max(settled) - min(settled)), 0.1)
        axes.set_ylim(min(settled) - margin, max(settled) + margin)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_frame(axes)


def grouped_figure(comparison: GroupedComparison) -> Figure:
    """The validation objective of each row over epochs: the mean over its seeds, and one standard error.

    There is one panel for each data set, or other thing that is learned, and kind of objective: these are
    different quantities and never share an axis. Rows that differ in nothing else look the same in every
    panel, and one legend below names them.

    Arguments:
        comparison: The rows, as :func:`igr.evaluation.compare_groups` finds them.

    Returns:
        A figure with one legend for all panels.

    Raises:
        UserError: ``metrics.jsonl`` of a run has a line without its figures.
    """
    learned = ("data", "likelihood", "binarization", "image_shape", "trained_kl")
    rows = comparison.rows
    told = {name for row in rows for name in objective(row.config).told}
    label_of = labels([row.config for row in rows], ("latent",), (*learned, *told))
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
        panel = (*(getattr(row.config, field) for field in learned[:-1]), objective(row.config))
        panels.setdefault(panel, {})[position_of[name]] = band
    columns = len(panels) if len(panels) < 4 else 2
    num_rows = -(-len(panels) // columns)
    entries = [*position_of, *([SEEDS_BAND] if any(row.num_seeds > 1 for row in rows) else [])]
    # A panel alone is wider, since the legend is below it.
    width = 7.5 if columns == 1 else 5.2 * columns
    fitting = legend_columns(entries, width)
    height = 3.8 * num_rows + 0.25 * -(-len(entries) // fitting)
    figure, all_axes = new_figure(width, height, len(panels), num_rows)
    several = [len({panel[i] for panel in panels}) > 1 for i in range(len(learned))]
    handles: dict[str, Artist] = {}
    for axes, (panel, bands) in zip(all_axes, sorted(panels.items()), strict=True):
        kind = panel[-1]
        settings = [str(what) for what, differs in zip(panel[1:-1], several[1:-1], strict=True) if differs]
        title = ", ".join([panel[0], *settings, kind.title])
        validation_bands(axes, bands, title=title, quantity=kind.quantity)
        handles |= {str(line.get_label()): line for line in axes.get_legend_handles_labels()[0]}
    handles[SEEDS_BAND] = Patch(color=GREY, alpha=0.2, linewidth=0)
    figure.legend(
        handles=[handles[entry] for entry in entries],
        labels=entries,
        loc="outside lower center",
        ncols=fitting,
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

    Returns:
        The axes.
    """
    for position, band in bands.items():
        colour = COLOURS[position % len(COLOURS)]
        axes.fill_between(band.x, band.lower, band.upper, color=colour, alpha=0.2, linewidth=0)
        styled_curve(axes, position, band.x, band.middle, band.label)
    last = max((band.x[-1] for band in bands.values() if band.x), default=0)
    settled = [
        value
        for band in bands.values()
        for edge in (band.lower, band.upper)
        for epoch, value in zip(band.x, edge, strict=True)
        if epoch > max(1, last / 5) or epoch == last
    ]
    _over_epochs(axes, settled, title, f"{quantity}\nvalidation (nats per image)")
    return axes


def bounds_figure(
    comparison: GroupedComparison, kinds: Sequence[BoundKind], *, titles: Mapping[str, str]
) -> Figure:
    """Bounds of the rows of a comparison as points with their standard errors, a panel for each table.

    The axis of a panel holds the highest figure of every row. A lower one that would squeeze them is an arrow
    at the edge, with its value.

    Arguments:
        comparison: The rows.
        kinds: The kinds of bound, each with a colour and a marker of its own.
        titles: What a latent is called, by its name.

    Returns:
        A figure with one legend for all panels.
    """
    columns = min(3, len(comparison.sections))
    num_rows = -(-len(comparison.sections) // columns)
    longest = max(len(of.rows) for of in comparison.sections)
    height = num_rows * (1.3 + 0.3 * longest)
    names_of, common_of = [], []
    for of in comparison.sections:
        names, common = _names(of.rows, titles)
        names_of.append(names)
        common_of.append(common)
    # A character of eight points, and the panel itself.
    width = 0.065 * max(len(name) for names in names_of for name in names) + 3.3
    figure, panels = new_figure(width * columns, height, len(comparison.sections), num_rows)
    for of, names, common, axes in zip(comparison.sections, names_of, common_of, panels, strict=True):
        found = {
            (row, place): one
            for row in range(len(of.rows))
            for place, kind in enumerate(kinds)
            if (one := of.figure(row, kind)) is not None
        }
        low, high = _span_of_best(found)
        for (row, place), one in found.items():
            height_of = row + 0.2 * (place - 0.5 * (len(kinds) - 1))
            colour = COLOURS[place]
            if one.value < low:
                edge = low + 0.02 * (high - low)
                axes.plot(edge, height_of, marker="<", color=colour, markersize=5, linestyle="none")
                axes.annotate(
                    f"{one.value:.0f}",
                    (edge, height_of),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    color=colour,
                )
                continue
            axes.errorbar(
                one.value,
                height_of,
                xerr=one.standard_error or 0.0,
                fmt=MARKERS[place],
                color=colour,
                markersize=5,
                capsize=2,
                linestyle="none",
            )
        axes.set_yticks(range(len(of.rows)), names, fontsize=8)
        axes.set_ylim(len(of.rows) - 0.4, -0.6)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(", ".join([of.title.partition(":")[0], *common]), fontsize=10)
        axes.set_xlabel("nats per image (higher is better)")
        plain_frame(axes)
    handles = [
        Line2D([], [], color=COLOURS[place], marker=MARKERS[place], linestyle="none", label=kind.name)
        for place, kind in enumerate(kinds)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False, fontsize=9)
    return figure


def _names(rows: Sequence[Row], titles: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What tells the rows apart, and the words that they have in common, which need not be said of each."""
    said = [
        {
            heading: titles.get(row.config.latent, row.config.latent)
            if heading == "latent"
            else in_words(heading, value)
            for heading, value in row.label.items()
            if value is not False
        }
        for row in rows
    ]
    common = {
        heading: word
        for heading, word in said[0].items()
        if len(rows) > 1 and all(of_row.get(heading) == word for of_row in said)
    }
    names = [
        ", ".join(word for heading, word in of_row.items() if heading not in common) or of_row["latent"]
        for of_row in said
    ]
    return names, list(common.values())


def _span_of_best(found: Mapping[tuple[int, int], Measured]) -> tuple[float, float]:
    """What the axis of a panel spans: the best figure of each row, with room for its error."""
    best: dict[int, Measured] = {}
    for (row, _), one in found.items():
        if row not in best or one.value > best[row].value:
            best[row] = one
    ends = [
        one.value + sign * (one.standard_error or 0.0) for one in best.values() for sign in (-1.0, 1.0)
    ] or [0.0]
    margin = max(0.15 * (max(ends) - min(ends)), 1.0)
    return min(ends) - margin, max(ends) + margin
