"""Images, in rows."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from torch import Tensor

from igr.models.pictures import GAP, Completions
from igr.plot.style import COLOURS

# Of a grid of images: one image and the gap after it.
CELL = 1.08
# The height of an image with its label above.
LABELLED = 1.34


def image_grid(axes: Axes, rows: Sequence[Tensor], *, title: str) -> Axes:
    """Images, row by row.

    Arguments:
        axes: Where to draw; an image is one unit high and wide.
        rows: For each row, values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        title: The title.

    Returns:
        The axes.
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


def reconstructions(axes: Axes, originals: Tensor, decoded: Tensor, *, title: str) -> Axes:
    """Images above their reconstructions.

    Arguments:
        axes: Where to draw.
        originals: Values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        decoded: Means of the likelihood, of the same shape.
        title: The title.

    Returns:
        The axes.
    """
    image_grid(axes, [originals, decoded], title=title)
    axes.set_yticks([0.5, 0.5 + CELL], ["original", "decoded"])
    return axes


def completions(
    axes: Axes, originals: Tensor, completed: Mapping[str, Completions], *, num_draws: int, title: str
) -> Axes:
    """Images above those whose lower halves are predicted: the mean of many draws, and some draws.

    Arguments:
        axes: Where to draw.
        originals: Values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        completed: Those of each model, by what is said of it beside its rows; ``""`` for nothing.
        num_draws: How many draws are shown.
        title: The title.

    Returns:
        The axes.
    """
    rows, labels = [originals], ["original"]
    for name, of_model in completed.items():
        said = f"{name}: " if name else ""
        rows += [of_model.mean, *of_model.samples[:num_draws]]
        labels += [
            f"{said}mean of draws",
            *(f"{said}draw {i + 1}" for i in range(len(rows) - len(labels) - 1)),
        ]
    image_grid(axes, rows, title=title)
    # What is below is predicted; of an odd number of rows of pixels the middle one is known.
    height = originals.shape[-2]
    known = (height - height // 2) / height
    for number in range(1, len(rows)):
        axes.axhline(number * CELL + known, color=COLOURS[1], linewidth=0.8)
    axes.set_yticks([0.5 + CELL * i for i in range(len(rows))], labels, fontsize=8)
    return axes


def labelled_images(axes: Axes, images: Tensor, labels: Sequence[str], *, columns: int, title: str) -> Axes:
    """Images row by row, each below its label.

    Arguments:
        axes: Where to draw; an image is one unit high and wide.
        images: Values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        labels: A text for each image, of at most two lines.
        columns: How many images stand in a row.
        title: The title.

    Returns:
        The axes.

    Raises:
        ValueError: for another number of labels than of images.
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


def traversals(axes: Axes, rows: Sequence[Tensor], labels: Sequence[str], *, title: str) -> Axes:
    """Rows of images, each along one latent variable, with the name of that variable beside it.

    Arguments:
        axes: Where to draw.
        rows: For each row, values in [0, 1], with shape :math:`(N, C, H, W)`, C one or three.
        labels: The names of the rows.
        title: The title.

    Returns:
        The axes.
    """
    image_grid(axes, rows, title=title)
    axes.set_yticks([0.5 + CELL * i for i in range(len(rows))], labels, fontsize=7)
    return axes
