"""Pictures straight from the folder of a run, or from a run that was loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from igr.errors import UserError
from igr.evaluation import images_of_split, read_runs, temperature_of
from igr.models import pictures
from igr.models.dlgmm import DLGMM
from igr.plot.images import reconstructions, traversals
from igr.plot.runs import Curve, bounds_over_epochs, objective
from igr.training.config import TrainConfig
from igr.training.runs import LoadedRun, as_vae, load_run
from igr.validation import whole_number

Run = str | Path | LoadedRun[Any, Any]


def bounds_of_runs(axes: Axes, folders: str | Path | Iterable[str | Path], *, title: str = "") -> Axes:
    """What runs were trained on over epochs, as their folders record it: training dashed, validation solid.

    Arguments:
        axes: Where to draw; the legend goes below.
        folders: The folder of a run, or several; runs anywhere below a folder are taken, sorted.
        title: The title; the data set and the kind of objective if it is empty.

    Returns:
        The axes.

    Raises:
        UserError: A folder has no run, or cannot be read, or runs are of several data sets or objectives,
            which are different quantities.

    Example:
        ``plot.bounds_of_runs(axes, "runs/mnist-igr")``
    """
    paths = [folders] if isinstance(folders, str | Path) else list(folders)
    runs = read_runs([Path(path) for path in paths])
    panels = sorted({(objective(run.config), run.config.data) for run in runs})
    if len(panels) > 1:
        found = ", ".join(f"{data}, {kind.title}" for kind, data in panels)
        raise UserError(
            f"expected runs of one data set and one objective; got {found}; draw each on axes of its own"
        )
    ((kind, data),) = panels
    curves = [
        Curve(run.name, position, run.curve("train_bound"), run.curve("validation_bound"))
        for position, run in enumerate(runs)
    ]
    return bounds_over_epochs(axes, curves, title=title or f"{data}, {kind.title}", quantity=kind.quantity)


def reconstructions_of_run(
    axes: Axes,
    run: Run,
    *,
    split: str = "test",
    num_images: int = pictures.NUM_RECONSTRUCTIONS,
    title: str = "",
) -> Axes:
    """The first images of a split above their reconstructions by the model as of its latest checkpoint.

    A VAE decodes the most probable categories of each image and its means, a mixture the mean of the
    component that has the largest share.

    Arguments:
        axes: Where to draw; an image is one unit high and wide.
        run: The folder of a run, or what :func:`igr.training.runs.load_run` read.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        num_images: How many.
        title: The title; the data set, the split and the model if it is empty.

    Returns:
        The axes.

    Raises:
        UserError: There is no such run or split, or its model reconstructs nothing.
        TypeError: unless num_images is an int.
        ValueError: if it is below one.
    """
    loaded = _loaded(run)
    count = whole_number("reconstructions_of_run", "num_images", num_images, minimum=1)
    images = images_of_split(loaded, split)[:count]
    if isinstance(loaded.model, DLGMM):
        decoded = pictures.mixture_reconstructions(loaded.model, images, temperature_of(loaded))
    else:
        model = as_vae(loaded, "reconstructions").model
        decoded = pictures.hard_reconstructions(model, images, temperature_of(loaded))
    return reconstructions(axes, images.cpu(), decoded, title=title or _title(loaded, split))


def traversals_of_run(
    axes: Axes,
    run: Run,
    *,
    split: str = "test",
    image: int = 0,
    num_steps: int | None = None,
    title: str = "",
) -> Axes:
    """Mean images along each latent variable of a VAE, the others held at those of one image.

    A Gaussian coordinate goes from the 5 % to the 95 % point of its prior, a categorical variable through its
    categories.

    Arguments:
        axes: Where to draw; an image is one unit high and wide.
        run: The folder of a run, or what :func:`igr.training.runs.load_run` read.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        image: The place of the image in the split.
        num_steps: Images in a row; ``None`` for as many as there are categories, or ten where there are none.
        title: The title; the data set, the split and the model if it is empty.

    Returns:
        The axes.

    Raises:
        UserError: There is no such run, split or image, or it is no VAE.
        TypeError: unless num_steps is an int or ``None``.
        ValueError: if it is below one.
    """
    loaded = as_vae(_loaded(run), "traversals")
    images = images_of_split(loaded, split)
    if not 0 <= image < len(images):
        raise UserError(
            f"expected the number of an image from 0 to {len(images) - 1}; got {image}; the {split} split "
            "has no more"
        )
    config = loaded.config
    steps = config.num_categories if config.has_categories else _STEPS
    if num_steps is not None:
        steps = whole_number("traversals_of_run", "num_steps", num_steps, minimum=1)
    rows = pictures.traversals(loaded.model, images[image : image + 1], temperature_of(loaded), steps)
    return traversals(axes, rows, _labels(config), title=title or _title(loaded, split))


# Images along a Gaussian coordinate, where no number of categories says how many.
_STEPS = 10


def _labels(config: TrainConfig) -> list[str]:
    """The names of the latent variables, in the order of their rows."""
    names = [f"Gaussian {number + 1}" for number in range(config.continuous_dim or 0)]
    if config.has_categories and config.num_variables == 1:
        return [*names, "category"]
    if config.has_categories:
        names += [f"variable {number + 1}" for number in range(config.num_variables)]
    return names


def _loaded(run: Run) -> LoadedRun[Any, Any]:
    return run if isinstance(run, LoadedRun) else load_run(run)


def _title(loaded: LoadedRun[Any, Any], split: str) -> str:
    config = loaded.config
    return f"{config.data} ({split}): {config.network}, {config.latent}, epoch {loaded.epoch}"
