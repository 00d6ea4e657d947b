"""An evaluation is repeatable, and its record is read back as it was or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from igr.errors import UserError
from igr.evaluation import BOUND_KINDS, evaluate, stored_evaluation
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.runs import LoadedRun, RunFolder, load_run

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
