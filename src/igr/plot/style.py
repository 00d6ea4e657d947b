"""What all pictures share: figures, files, colours and legends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from igr import atomic

# Okabe and Ito's palette without black and yellow (too pale on white), and shapes beside it: no
# curve is told from another by its colour alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#4D4D4D"

# Beside colours and markers, so that curves close to each other are told apart along their whole length.
LINES = ("-", "--", "-.", (0, (1, 1.2)), (0, (6, 2, 1, 2, 1, 2)), (0, (8, 3)))
# Points below an axis that its ticks and its label take.
_LABELS = 36.0
# Markers along a curve of many points.
NUM_MARKERS = 8


def new_figure(
    width: float, height: float, num_panels: int = 1, num_rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure with its panels side by side, in rows of equal length; no window opens.

    Arguments:
        width: In inches.
        height: In inches.
        num_panels: How many panels there are.
        num_rows: In how many rows.

    Returns:
        The figure, and the Axes of its panels row by row.

    Example:
        >>> figure, (left, right) = new_figure(8, 3, num_panels=2)
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(num_rows, -(-num_panels // num_rows), squeeze=False).ravel()
    for unused in panels[num_panels:]:
        unused.remove()
    return figure, list(panels[:num_panels])


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG, atomically.

    Arguments:
        figure: The figure.
        path: The file, whose folder exists.

    Raises:
        OSError: The file cannot be written.
    """
    atomic.write(path, lambda temporary: figure.savefig(temporary, format="png", bbox_inches="tight"))


def styled_curve(axes: Axes, position: int, x: Sequence[float], y: Sequence[float], label: str) -> Line2D:
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


def plain_frame(axes: Axes) -> None:
    axes.grid(color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_columns(texts: Sequence[str], width: float) -> int:
    """How many columns of such entries a figure of so many inches has room for."""
    # A character of 9 points, and the line and gaps beside it.
    inches = 0.07 * max(map(len, texts)) + 0.9
    return max(1, min(len(texts), int(width / inches)))


def legend_below(axes: Axes, handles: Sequence[Any], *, columns: int) -> None:
    # In points, since labels of axes are as high in a small panel as in a large one.
    lower = ScaledTranslation(0.0, -_LABELS / 72.0, axes.figure.dpi_scale_trans)
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=axes.transAxes + lower,
        ncols=columns,
        frameon=False,
        fontsize=8,
        handlelength=3,
    )


def legend_below_all(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, which all show what this one does, below the figure.

    Arguments:
        figure: The figure.
        axes: The panel whose entries are shown.
    """
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
