"""Pictures of a run show what its folder and its model hold, from the folder or from what was loaded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from igr import plot
from igr.errors import UserError
from igr.evaluation import images_of_split, temperature_of
from igr.models.pictures import hard_reconstructions, traversals
from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from tiny_runs import TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "joint"
    loop.train(replace(TINY, continuous_dim=2).resolved(), path)
    return path


def drawn_images(axes: Axes) -> np.ndarray:
    """All images of a picture in the order in which they were drawn, with one channel."""
    return np.stack([image.get_array()[..., 0] for image in axes.images])


def test_bounds_are_those_that_the_folder_records(axes: Axes, folder: Path) -> None:
    assert plot.bounds_of_runs(axes, folder) is axes
    training, validation = (line.get_xydata().tolist() for line in axes.lines)
    metrics = RunFolder(folder).metrics()
    assert training == [[line["epoch"], line["train_bound"]] for line in metrics]
    assert validation == [[line["epoch"], line["validation_bound"]] for line in metrics]
    assert axes.get_title().startswith("digits, trained with")
    assert plot.bounds_of_runs(axes, [str(folder)], title="mine").get_title() == "mine"


def test_runs_of_different_objectives_share_no_axes(axes: Axes, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    loop.train(replace(TINY, kl="relaxed", epochs=1).resolved(), other)
    with pytest.raises(UserError, match=r"expected runs of one data set and one objective; got digits, "):
        plot.bounds_of_runs(axes, [folder, other])
    assert not axes.lines


def test_reconstructions_are_of_the_images_above_them(axes: Axes, folder: Path) -> None:
    loaded = load_run(folder)
    originals = images_of_split(loaded, "validation")[:5]
    decoded = hard_reconstructions(loaded.model, originals, temperature_of(loaded))
    assert plot.reconstructions_of_run(axes, folder, split="validation", num_images=5) is axes
    np.testing.assert_array_equal(drawn_images(axes), torch.cat([originals, decoded])[:, 0].numpy())
    assert axes.get_title() == "digits (validation): dense, igr, epoch 2"


def test_traversals_have_a_named_row_for_each_variable(axes: Axes, folder: Path) -> None:
    loaded = load_run(folder)
    image = images_of_split(loaded, "test")[3:4]
    rows = traversals(loaded.model, image, temperature_of(loaded), 3)
    assert plot.traversals_of_run(axes, loaded, image=3) is axes
    np.testing.assert_array_equal(drawn_images(axes), torch.cat(rows)[:, 0].numpy())
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["Gaussian 1", "Gaussian 2", "variable 1", "variable 2"]
    with pytest.raises(UserError, match=r"expected the number of an image from 0 to .*; got 500"):
        plot.traversals_of_run(axes, loaded, image=500)
    with pytest.raises(ValueError, match="expected num_steps of at least 1; got 0"):
        plot.traversals_of_run(axes, loaded, num_steps=0)
    with pytest.raises(ValueError, match="expected num_images of at least 1; got 0"):
        plot.reconstructions_of_run(axes, loaded, num_images=0)


def test_a_gaussian_latent_has_no_row_of_categories(axes: Axes, tmp_path: Path) -> None:
    config = TrainConfig(
        network="dense",
        latent="gaussian",
        continuous_dim=2,
        max_images=50,
        epochs=1,
        batch_size=25,
        num_eval_samples=4,
        tensorboard=False,
    )
    loop.train(config.resolved(), tmp_path / "run")
    plot.traversals_of_run(axes, tmp_path / "run", num_steps=4)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Gaussian 1", "Gaussian 2"]
    assert len(axes.images) == 8
