"""TensorBoard shows the figures of metrics.jsonl, and images of the model as it was, once for each step."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from igr.models.pictures import GAP, hard_reconstructions, prior_samples, sheet
from igr.training import loop
from igr.training.failures import Interrupted
from igr.training.randomness import keyed_generator
from igr.training.run_folder import RunFolder
from igr.training.runs import evaluation_images, load_run
from interruptions import InterruptAt
from tiny_runs import SMALL

VALIDATED = dataclasses.replace(SMALL, eval_every=2)


def board_of(path: Path) -> EventAccumulator:
    board = EventAccumulator(str(path / "tensorboard"))
    board.Reload()
    return board


def scalars(board: EventAccumulator, tag: str) -> dict[int, float]:
    events = board.Scalars(tag)
    found = {event.step: event.value for event in events}
    assert len(found) == len(events)
    return found


@pytest.mark.parametrize(("kl", "name"), [("relaxed", "bound"), ("discrete", "objective")])
def test_the_board_has_every_figure_of_the_metrics(tmp_path, kl, name):
    loop.train(dataclasses.replace(VALIDATED, kl=kl), tmp_path / "run")
    board = board_of(tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    names = {name: "bound", "log-likelihood": "log_likelihood", "KL": "kl"}
    expected_tags = {f"{tag}/{part}" for tag in names for part in ("train", "validation")}
    assert set(board.Tags()["scalars"]) == {*expected_tags, "seconds per epoch"}
    for tag, key in names.items():
        for part in ("train", "validation"):
            measured = {line["step"]: line[f"{part}_{key}"] for line in lines if line[f"{part}_{key}"]}
            assert len(measured) == (4 if part == "train" else 2)
            assert scalars(board, f"{tag}/{part}") == pytest.approx(measured, rel=1e-6)
    times = {line["step"]: line["seconds"] for line in RunFolder(tmp_path / "run").timings()}
    assert scalars(board, "seconds per epoch") == pytest.approx(times)


def test_images_are_of_the_model_where_the_validation_was_measured(tmp_path):
    loop.train(VALIDATED, tmp_path / "run")
    board = board_of(tmp_path / "run")
    for tag in ("reconstructions", "prior samples"):
        assert [event.step for event in board.Images(tag)] == [6, 12]
    run = load_run(tmp_path / "run")
    originals = evaluation_images(run.config, run.dataset, "validation")[:16]
    decoded = hard_reconstructions(run.model, originals, run.config.temperature)
    shown = Image.open(io.BytesIO(board.Images("reconstructions")[-1].encoded_image_string))
    expected = sheet([originals, decoded]).permute(1, 2, 0)
    assert np.abs(np.asarray(shown) / 255 - expected.numpy()).max() < 1 / 255


def test_prior_samples_are_drawn_alike_at_each_step(tmp_path):
    loop.train(VALIDATED, tmp_path / "run")
    run = load_run(tmp_path / "run")
    drawn = prior_samples(run.model, 64, keyed_generator(0, "board/prior samples", 0))
    last = board_of(tmp_path / "run").Images("prior samples")[-1]
    shown = Image.open(io.BytesIO(last.encoded_image_string))
    expected = sheet(torch.split(drawn, 16)).permute(1, 2, 0)
    assert np.abs(np.asarray(shown) / 255 - expected.numpy()).max() < 1 / 255


def test_a_sheet_shows_rows_of_images_one_beside_the_other():
    white, black = torch.ones(3, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    found = sheet([white, black])
    # Enlarged sevenfold, with gaps of two pixels.
    assert found.shape == (3, 2 * 56 + 2, 3 * 56 + 2 * 2)
    assert (found[:, :56, :56] == 1).all()
    assert (found[:, 58:, 58 : 58 + 56] == 0).all()
    gap = torch.tensor(GAP).view(3, 1, 1)
    for area in (found[:, :, 56:58], found[:, 56:58], found[:, 58:, 116:]):
        assert torch.equal(area, gap.expand_as(area))
    colour = torch.rand(1, 3, 64, 64)
    assert torch.equal(sheet([colour]), colour[0])


def test_a_resumed_run_has_each_step_once(tmp_path):
    """The process that was stopped had shown an epoch after the checkpoint that the next goes on from."""
    with pytest.raises(Interrupted):
        loop.train(VALIDATED, tmp_path / "run", InterruptAt(10))
    folder = RunFolder(tmp_path / "run")
    latest = folder.latest_checkpoint()
    assert latest is not None
    # As if it had been killed: back to the checkpoint of the second epoch.
    latest.unlink()
    # And a minute ago: TensorBoard reads files in the order of their names, which have the second and a
    # number that counts the writers of a process, as text, in which 10 comes before 9.
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    second = events.name.split(".")[3]
    events.rename(events.with_name(events.name.replace(second, str(int(second) - 60))))
    assert folder.latest_step() == 6
    loop.resume(tmp_path / "run")
    board = board_of(tmp_path / "run")
    assert list(scalars(board, "objective/train")) == [3, 6, 9, 12]
    assert [event.step for event in board.Images("prior samples")] == [6, 12]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2


def test_without_a_board_nothing_is_written_and_the_numbers_are_the_same(tmp_path):
    for tensorboard in (True, False):
        loop.train(dataclasses.replace(VALIDATED, tensorboard=tensorboard), tmp_path / str(tensorboard))
    assert not (tmp_path / "False" / "tensorboard").exists()
    first, second = (RunFolder(tmp_path / name).metrics() for name in ("True", "False"))
    assert first == second


def test_the_board_has_the_parts_that_a_latent_reports(tmp_path):
    config = dataclasses.replace(
        VALIDATED,
        latent="igr-sb-truncated",
        continuous_dim=2,
        track_gradients=True,
        epochs=1,
        eval_every=1,
        checkpoint_every=1,
    )
    loop.train(config, tmp_path / "run")
    board = board_of(tmp_path / "run")
    (line,) = RunFolder(tmp_path / "run").metrics()
    parts = ("kl discrete", "kl continuous", "mass cut", "num sticks")
    for part in (*parts, "vanishing gradients"):
        key = part.replace(" ", "_")
        shown = {name: scalars(board, f"{part}/{name}") for name in ("train", "validation") if part in parts}
        shown["train"] = scalars(board, f"{part}/train")
        for name, values in shown.items():
            assert values == pytest.approx({3: line[f"{name}_{key}"]}, rel=1e-6)
    assert "vanishing gradients/validation" not in board.Tags()["scalars"]
