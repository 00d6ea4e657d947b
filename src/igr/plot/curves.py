"""Curves over iterations or epochs, with bands or without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from igr.models.dlgmm import ACTIVE
from igr.plot.style import COLOURS, GREY, LINES, legend_below, plain_frame, styled_curve


@dataclass(frozen=True)
class Band:
    """A curve with a band around it.

    Attributes:
        label: Its text in a legend.
        x: Where it is known, in ascending order.
        lower: The lower edge of the band, one number for every x.
        middle: The curve, likewise.
        upper: The upper edge of the band, likewise.
    """

    label: str
    x: Sequence[float]
    lower: Sequence[float]
    middle: Sequence[float]
    upper: Sequence[float]


def quantile_bands(axes: Axes, bands: Sequence[Band], *, xlabel: str, ylabel: str, columns: int = 3) -> Axes:
    """Curves with a band around each; the legend goes below.

    Arguments:
        axes: Where to draw.
        bands: At most six, so that each has a colour of its own.
        xlabel: The label of the horizontal axis.
        ylabel: The label of the vertical axis.
        columns: Of the legend.

    Returns:
        The axes.
    """
    for position, band in enumerate(bands):
        colour = COLOURS[position % len(COLOURS)]
        axes.fill_between(band.x, band.lower, band.upper, color=colour, alpha=0.1, linewidth=0)
        # Where bands lie on one another their edges still tell them apart.
        for edge in (band.lower, band.upper):
            axes.plot(band.x, edge, color=colour, linewidth=0.7, linestyle=LINES[position % len(LINES)])
    handles = [
        styled_curve(axes, position, band.x, band.middle, band.label) for position, band in enumerate(bands)
    ]
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if all(float(x).is_integer() for band in bands for x in band.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_frame(axes)
    legend_below(axes, handles, columns=columns)
    return axes


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

    Returns:
        The axes.

    Raises:
        ValueError: for another number of positions than of histories.
    """
    handles = []
    places = range(len(histories)) if positions is None else positions
    for position, (label, values) in zip(places, histories.items(), strict=True):
        handles.append(styled_curve(axes, position, range(len(values)), values, label))
    if log_scale:
        axes.set_yscale("log", nonpositive="mask")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_frame(axes)
    legend_below(axes, handles, columns=columns)
    return axes


def component_weights(
    axes: Axes,
    weights: Mapping[str, Sequence[float]],
    *,
    title: str,
    threshold: float = ACTIVE,
    legend: bool = True,
) -> Axes:
    """The mean weights of the components of mixtures, in the order of the sticks, on a logarithmic scale.

    Arguments:
        axes: Where to draw.
        weights: Those of each model, by its name; ``""`` for the only one.
        title: The title.
        threshold: The weight above which a component is active, a dotted line.
        legend: Whether one is drawn, below.

    Returns:
        The axes.
    """
    handles = []
    for position, (name, of_model) in enumerate(weights.items()):
        # What is never taken has no logarithm.
        shown = [weight if weight >= _LEAST_WEIGHT else float("nan") for weight in of_model]
        line = styled_curve(axes, position, range(1, len(shown) + 1), shown, name)
        handles += [line] if name else []
    handles.append(
        axes.axhline(threshold, color=GREY, linestyle=":", linewidth=1, label=f"active above {threshold:.0%}")
    )
    axes.set_yscale("log")
    axes.set_ylim(_LEAST_WEIGHT, 1.5)
    axes.set_xlim(0.5, 0.5 + max(map(len, weights.values())))
    axes.set_xlabel("component, in the order of the sticks; the last has what remains")
    axes.set_ylabel("mean over images")
    axes.set_title(title, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_frame(axes)
    if legend:
        legend_below(axes, handles, columns=3)
    return axes


# Weights below this are not shown.
_LEAST_WEIGHT = 1e-4
