"""An evaluation is repeatable, and its record is read back as it was or refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from igr.errors import UserError
from igr.evaluation import (
    BOUND_KINDS,
    evaluate,
    images_of_split,
    per_datum_bounds,
    stored_evaluation,
    temperature_of,
)
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.run_folder import RunFolder
from igr.training.runs import LoadedRun, load_run

CONFIG = TrainConfig(
    network="dense", num_variables=3, num_categories=4, max_images=40, epochs=1, num_eval_samples=6
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "igr"
    train(CONFIG, path)
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> LoadedRun:
    return load_run(shutil.copytree(trained, tmp_path / "run"))


def test_record_is_read_back_as_it_was_and_training_stays(run: LoadedRun) -> None:
    before = run.folder.result()
    evaluation = evaluate(run, seed=3)
    assert stored_evaluation(run.folder) == evaluation
    assert run.folder.result() == {**before, "evaluation": evaluation.to_json()}
    assert (evaluation.split, evaluation.num_data, evaluation.num_samples) == ("test", 40, 6)
    assert (evaluation.seed, evaluation.step, evaluation.epoch) == (3, run.step, 1)


def test_figures_are_fixed_by_split_samples_and_seed(run: LoadedRun) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"split": "validation"},
        {"num_samples": 7},
    ]
    figures = [evaluate(run, **chosen).bounds for chosen in settings]
    assert evaluate(run).bounds == figures[0]
    for kind in BOUND_KINDS:
        assert len({figure[kind.key] for figure in figures}) == len(settings)


def test_precision_is_that_of_the_run(tmp_path: Path) -> None:
    train(TrainConfig(**{**CONFIG.to_json(), "precision": "float64"}), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert next(run.model.parameters()).dtype == torch.float64
    assert evaluate(run).bounds["discrete_elbo"] is not None


def test_a_run_without_evaluation_has_none(run: LoadedRun) -> None:
    assert stored_evaluation(run.folder) is None


def test_an_evaluation_of_an_earlier_checkpoint_does_not_count(run: LoadedRun) -> None:
    evaluate(run)
    latest = run.folder.latest_checkpoint()
    shutil.copy(latest, latest.with_name("step-00009999.safetensors"))
    assert stored_evaluation(run.folder) is None


@pytest.mark.parametrize(
    "change",
    [
        {"seed": None},
        {"step": "12"},
        {"seconds": float("nan")},
        {"seconds": 10**400},
        {"epoch": True},
        {"bounds": {}},
        {"bounds": []},
        {"bounds": {kind.key: {"value": "low"} for kind in BOUND_KINDS}},
    ],
    ids=json.dumps,
)
def test_a_foreign_record_is_refused(run: LoadedRun, change: dict[str, Any]) -> None:
    record = {**evaluate(run).to_json(), **change}
    run.folder.update_result({"evaluation": record})
    with pytest.raises(UserError, match=r"expected an evaluation .*; got .*; run igr evaluate"):
        stored_evaluation(RunFolder(run.folder.path))


def test_an_unknown_split_is_refused(run: LoadedRun) -> None:
    with pytest.raises(UserError, match=r"split to be one of test, validation; got 'tset'"):
        evaluate(run, split="tset")


def test_splits_have_records_of_their_own(run: LoadedRun) -> None:
    of_test, of_validation = evaluate(run), evaluate(run, split="validation")
    assert stored_evaluation(run.folder) == of_test
    assert stored_evaluation(run.folder, "validation") == of_validation
    assert of_test.bounds != of_validation.bounds
    # Earlier versions wrote either under the one key.
    run.folder.update_result({"evaluation": of_validation.to_json()})
    assert stored_evaluation(run.folder) is None
    with pytest.raises(UserError, match=r"split to be one of test, validation; got 'train'"):
        stored_evaluation(run.folder, "train")


def test_the_legacy_estimate_is_kept_where_it_was_asked_for(run: LoadedRun) -> None:
    assert evaluate(run).legacy_estimate is None
    found = evaluate(run, legacy=True)
    assert found.legacy_estimate is not None
    # The mean of logarithms is less than the logarithm of the mean.
    assert found.legacy_estimate.value > found.bounds["relaxed_elbo"].value
    assert stored_evaluation(run.folder) == found
    record = found.to_json()
    # Earlier versions had no such key.
    del record["legacy_estimate"]
    run.folder.update_result({"evaluation": record})
    assert stored_evaluation(run.folder) == replace(found, legacy_estimate=None)


def test_the_first_images_alone_can_be_evaluated(run: LoadedRun) -> None:
    found = evaluate(run, max_images=32)
    images = images_of_split(run, "test")
    expected = per_datum_bounds(run.model, images, temperature_of(run), num_samples=6)
    assert found.num_data == 32
    for kind in BOUND_KINDS:
        assert found.bounds[kind.key].value == pytest.approx(expected[kind.key][:32].mean().item(), rel=1e-9)
    assert evaluate(run, max_images=1000).num_data == 40
    with pytest.raises(UserError, match="number of images of at least 1; got 0;"):
        evaluate(run, max_images=0)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"latent": "gaussian", "num_variables": 20, "num_categories": 10}, {"discrete_elbo", "pre_image"}),
        ({"latent": "igr-planar"}, {"discrete_elbo", "importance_weighted"}),
        ({"latent": "gumbel-softmax", "continuous_dim": 2}, {"pre_image"}),
    ],
    ids=["gaussian", "igr-planar", "gumbel-softmax and gaussian"],
)
def test_figures_that_there_are_not_are_recorded_as_none(
    tmp_path: Path, settings: dict[str, Any], missing: set[str]
) -> None:
    train(replace(CONFIG, max_images=20, tensorboard=False, **settings), tmp_path / "run")
    run = load_run(tmp_path / "run")
    found = evaluate(run, num_samples=2, legacy=True)
    names = {kind.key.removeprefix("importance_weighted_") for kind in BOUND_KINDS}
    absent = {
        kind.key.removeprefix("importance_weighted_")
        for kind in BOUND_KINDS
        if found.bounds[kind.key] is None
    }
    assert absent == missing < names
    assert (found.discrete_kl is None) == ("discrete_elbo" in missing)
    assert found.legacy_estimate is not None
    assert stored_evaluation(run.folder) == found
    json.loads(json.dumps(run.folder.result(), allow_nan=False))
