"""Figures with their errors as dots, one row for each thing that is compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from igr.plot.style import COLOURS, MARKERS, new_figure, plain_frame
from igr.tables import Measured


@dataclass(frozen=True)
class DotPanel:
    """What one panel shows.

    Attributes:
        title: What it is of.
        rows: The figures of each row, by series, by the name of the row.
    """

    title: str
    rows: Mapping[str, Mapping[str, Measured]]


def dot_figure(panels: Sequence[DotPanel], *, axis: str) -> Figure:
    """Panels of dots with their standard errors, each series with a colour and a marker of its own.

    Panels have axes of their own, since what they show may lie far apart.

    Arguments:
        panels: What they show; all have the same series.
        axis: The label of the horizontal axis, with its unit.

    Returns:
        A figure of up to three panels in a row, with one legend.
    """
    columns = min(3, len(panels))
    num_rows = -(-len(panels) // columns)
    series = list(dict.fromkeys(name for of in panels for row in of.rows.values() for name in row))
    most = max(len(of.rows) for of in panels)
    longest = max(len(name) for of in panels for name in of.rows)
    # A character of eight points, and the panel itself.
    size = (columns * (0.065 * longest + 3.0), num_rows * (1.3 + 0.3 * most))
    figure, all_axes = new_figure(*size, len(panels), num_rows)
    for axes, of in zip(all_axes, panels, strict=True):
        for row, figures in enumerate(of.rows.values()):
            for name, found in figures.items():
                place = series.index(name)
                axes.errorbar(
                    found.value,
                    row + 0.2 * (place - 0.5 * (len(series) - 1)),
                    xerr=found.standard_error or 0.0,
                    fmt=MARKERS[place % len(MARKERS)],
                    color=COLOURS[place % len(COLOURS)],
                    markersize=5,
                    capsize=2,
                    linestyle="none",
                )
        axes.set_yticks(range(len(of.rows)), list(of.rows), fontsize=8)
        axes.set_ylim(len(of.rows) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(of.title, fontsize=10)
        axes.set_xlabel(axis, fontsize=9)
        plain_frame(axes)
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            linestyle="none",
            label=name,
        )
        for place, name in enumerate(series)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(series), frameon=False, fontsize=9)
    return figure
