"""The temperature of a run: the share it promises on other samples, its record, and what it refuses."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from igr.diagnostics import vertex_distance
from igr.errors import UserError
from igr.evaluation import calibrate, evaluate, images_of_split, stored_calibration
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.run_folder import RunFolder
from igr.training.runs import LoadedRun, load_run

CONFIG = TrainConfig(
    network="dense", num_variables=3, num_categories=4, max_images=40, epochs=1, num_eval_samples=2
)
LATENTS = ("igr", "gumbel-softmax")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {latent: tmp_path_factory.mktemp("runs") / latent for latent in LATENTS}
    for latent, path in paths.items():
        train(TrainConfig(**{**CONFIG.to_json(), "latent": latent}), path)
    return paths


@pytest.fixture
def run(trained: dict[str, Path], tmp_path: Path) -> LoadedRun:
    return load_run(shutil.copytree(trained["igr"], tmp_path / "run"))


def shares(run: LoadedRun, temperature: float, distance: float, num_samples: int) -> torch.Tensor:
    """For each image the share of other posterior samples, drawn at once and not in blocks."""
    images = images_of_split(run, "test")[:]
    with torch.no_grad():
        posterior = run.model.encode(images, temperature)
        generator = torch.Generator().manual_seed(99)
        log_z = posterior.rsample_log((num_samples,), generator)
    return (vertex_distance(log_z) <= distance).double().mean((0, -1))


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize(("distance", "quantile"), [(0.2, 0.75), (0.05, 0.4)])
def test_other_samples_have_the_share(
    trained: dict[str, Path], tmp_path: Path, latent: str, distance: float, quantile: float
) -> None:
    run = load_run(shutil.copytree(trained[latent], tmp_path / "run"))
    found = calibrate(run, distance=distance, quantile=quantile, num_samples=50)
    share = shares(run, found.temperature, distance, 50).mean().item()
    # Given the images both are means of 40 x 3 x 50 independent samples, and their variance is less
    # than that of samples that are alike.
    error = math.sqrt(2 * quantile * (1 - quantile) / (40 * 3 * 50))
    assert abs(share - quantile) < 5 * error


def test_the_figures_at_the_trained_temperature_are_those_of_other_samples(run: LoadedRun) -> None:
    found = calibrate(run, num_samples=50)
    assert found.trained_temperature == run.config.temperature
    others = shares(run, found.trained_temperature, 0.2, 50)
    error = math.sqrt(2 * 0.25 / (40 * 3 * 50))
    assert abs(others.mean().item() - found.trained_share.value) < 5 * error
    # The standard error is that over images, which the images share.
    expected = others.std().item() / math.sqrt(40)
    assert found.trained_share.standard_error == pytest.approx(expected, rel=0.3)
    within = shares(run, found.trained_temperature, found.trained_distance, 50).mean().item()
    assert abs(within - 0.75) < 5 * math.sqrt(2 * 0.75 * 0.25 / (40 * 3 * 50))


def test_record_is_read_back_as_it_was_and_the_rest_stays(run: LoadedRun) -> None:
    evaluate(run)
    before = run.folder.result()
    found = calibrate(run, seed=3)
    assert stored_calibration(run.folder) == found
    assert run.folder.result() == {**before, "calibrated_temperature": found.to_json()}
    assert (found.split, found.num_data, found.num_samples, found.seed) == ("test", 40, 10, 3)
    assert (found.distance, found.quantile, found.step, found.epoch) == (0.2, 0.75, run.step, 1)
    json.loads(json.dumps(found.to_json(), allow_nan=False))


def test_figures_are_fixed_by_their_settings(run: LoadedRun) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"split": "validation"},
        {"num_samples": 11},
        {"distance": 0.21},
        {"quantile": 0.76},
    ]
    found = [calibrate(run, **chosen).temperature for chosen in settings]
    assert calibrate(run).temperature == found[0]
    assert len(set(found)) == len(settings)


def test_the_temperature_trained_with_is_found_for_its_own_figures(run: LoadedRun) -> None:
    at_own = calibrate(run)
    found = calibrate(run, distance=at_own.trained_distance)
    assert found.temperature == pytest.approx(at_own.trained_temperature, rel=1e-4)
    assert found.trained_share.value >= 0.75


def test_one_image_has_no_standard_error(tmp_path: Path) -> None:
    train(TrainConfig(**{**CONFIG.to_json(), "max_images": 1, "batch_size": 1}), tmp_path / "run")
    found = calibrate(load_run(tmp_path / "run"))
    assert (found.num_data, found.trained_share.standard_error) == (1, None)
    assert "±" not in str(found)
    assert stored_calibration(RunFolder(tmp_path / "run")) == found


def test_passes_are_counted(run: LoadedRun) -> None:
    seen: list[int] = []
    calibrate(run, progress=seen.append)
    assert seen == list(range(1, len(seen) + 1))
    assert 5 < len(seen) < 20


def test_sentence_has_every_figure(run: LoadedRun) -> None:
    found = calibrate(run)
    for figure in (found.temperature, found.trained_temperature, found.trained_distance):
        assert f"{figure:.4g}" in str(found)
    assert f"{found.trained_share.value:.4f} ±{found.trained_share.standard_error:.4f}" in str(found)


def test_a_run_without_a_record_has_none(run: LoadedRun) -> None:
    assert stored_calibration(run.folder) is None


def test_a_record_of_an_earlier_checkpoint_does_not_count(run: LoadedRun) -> None:
    calibrate(run)
    latest = run.folder.latest_checkpoint()
    assert latest is not None
    shutil.copy(latest, latest.with_name("step-00009999.safetensors"))
    assert stored_calibration(run.folder) is None


@pytest.mark.parametrize(
    "change",
    [
        {"step": "12"},
        {"temperature": float("nan")},
        {"temperature": None},
        {"trained_share": 0.5},
        {"trained_share": {"value": "low"}},
    ],
    ids=json.dumps,
)
def test_a_foreign_record_is_refused(run: LoadedRun, change: dict[str, Any]) -> None:
    record = {**calibrate(run).to_json(), **change}
    run.folder.update_result({"calibrated_temperature": record})
    said = r"expected a calibrated temperature .*; got .*; run igr evaluate .* --calibrate$"
    with pytest.raises(UserError, match=said):
        stored_calibration(RunFolder(run.folder.path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": "tset"}, r"split to be one of test, validation; got 'tset'"),
        ({"seed": -1}, r"seed to be a whole number of at least 0; got -1"),
        ({"num_samples": 0}, r"at least 1; got 0"),
        ({"distance": 0.0}, r"distance to be positive and finite; got 0\.0"),
        ({"quantile": 75.0}, r"quantile above 0 and at most 1; got 75\.0"),
        ({"distance": 0.99}, r"got 0\.99, within which it lies at every one .* 0\.866, at temperature"),
        ({"distance": 1e-40}, r"got 1e-40, within which it lies at none .* 1\.176e-38, at temperature"),
    ],
    ids=json.dumps,
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    run: LoadedRun, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=rf"^expected .*{said}"):
        calibrate(run, **settings)
    assert "calibrated_temperature" not in run.folder.result()


def test_of_a_joint_latent_the_categorical_part_is_calibrated(tmp_path: Path) -> None:
    settings = {"latent": "igr-planar", "continuous_dim": 2, "max_images": 20, "tensorboard": False}
    train(TrainConfig(**{**CONFIG.to_json(), **settings}), tmp_path / "run")
    run = load_run(tmp_path / "run")
    found = calibrate(run, num_samples=30)
    with torch.no_grad():
        posterior = run.model.encode(images_of_split(run, "test")[:], found.temperature)
        log_z = posterior.discrete.rsample_log((30,), torch.Generator().manual_seed(99))
    share = (vertex_distance(log_z) <= 0.2).double().mean().item()
    assert abs(share - 0.75) < 5 * math.sqrt(2 * 0.75 * 0.25 / (20 * 3 * 30))


def test_a_latent_without_vertices_has_no_such_temperature(tmp_path: Path) -> None:
    config = TrainConfig(network="dense", latent="gaussian", max_images=20, epochs=1, tensorboard=False)
    train(config, tmp_path / "run")
    with pytest.raises(UserError, match=r"expected a run with a categorical latent; got .* is gaussian; it"):
        calibrate(load_run(tmp_path / "run"))
