"""Pictures of runs. Each function draws on the Axes that it is given and returns it.

Nothing here touches ``matplotlib.pyplot``, so importing it changes no global state and no window
opens; :func:`new_figure` and :func:`save` are enough to get a picture into a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
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


def new_figure(width: float, height: float, num_panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with its panels side by side."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


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
    axes.grid(color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.18),
        ncols=2,
        frameon=False,
        fontsize=8,
    )
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
