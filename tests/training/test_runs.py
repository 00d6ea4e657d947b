"""A run is read with the weights of its latest checkpoint, or refused before it takes memory."""

import json
from pathlib import Path

import pytest
import torch

from igr.errors import UserError
from igr.training import checkpoints
from igr.training.build import build_model
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run, parameter_tensors
from tiny_runs import BEGUN, begun


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return begun(tmp_path / "run")


def test_a_run_without_a_checkpoint_cannot_be_loaded(folder):
    assert folder.latest_checkpoint() is None
    assert folder.latest_step() is None
    with pytest.raises(UserError, match="which has none yet; train it first"):
        load_run(folder.path)


def test_a_loaded_run_has_the_weights_of_its_latest_checkpoint(folder):
    models = {step: build_model(BEGUN, (1, 8, 8)) for step in (3, 11)}
    with torch.no_grad():
        for step, model in models.items():
            for parameter in model.parameters():
                parameter += step
            checkpoints.write(folder.checkpoints, step, step // 2, parameter_tensors(model))
    run = load_run(folder.path)
    assert (run.step, run.epoch, run.config) == (11, 5, BEGUN)
    assert not run.model.training
    assert len(run.dataset.test) == 20
    for name, parameter in models[11].named_parameters():
        assert torch.equal(run.model.get_parameter(name), parameter)


def test_a_checkpoint_that_training_replaces_meanwhile_is_not_missed(folder, monkeypatch):
    model = build_model(BEGUN, (1, 8, 8))
    checkpoints.write(folder.checkpoints, 3, 1, parameter_tensors(model))
    read = checkpoints.read

    def read_late(path: Path, like: object) -> checkpoints.Checkpoint:
        if path.name == "step-00000003.safetensors":
            for step in (4, 5):
                checkpoints.write(folder.checkpoints, step, 2, parameter_tensors(model))
        return read(path, like)

    monkeypatch.setattr(checkpoints, "read", read_late)
    assert load_run(folder.path).step == 5


def test_a_run_of_an_absent_device_can_be_loaded_elsewhere(tmp_path):
    config = TrainConfig(**{**BEGUN.to_json(), "device": "cuda:99"})
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.begin(config)
    model = build_model(BEGUN, (1, 8, 8))
    checkpoints.write(folder.checkpoints, 3, 1, parameter_tensors(model))
    assert folder.config() == config
    with pytest.raises(UserError, match="but torch sees"):
        load_run(folder.path)
    assert load_run(folder.path, device="cpu").config.device == "cpu"


@pytest.mark.parametrize(
    "settings",
    [
        {"num_variables": 10**6},
        {"num_categories": 2**40},
        {"num_variables": 10**400},
        {"continuous_dim": 10**9},
    ],
)
def test_a_config_with_a_model_far_larger_than_the_checkpoint_is_refused_at_once(
    folder, monkeypatch, settings
):
    model = build_model(BEGUN, (1, 8, 8))
    checkpoints.write(folder.checkpoints, 3, 1, parameter_tensors(model))
    assert load_run(folder.path).step == 3
    path = folder.path / "config.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "config": {**record["config"], **settings}}))
    monkeypatch.setattr("igr.training.runs.build_model", None)
    with pytest.raises(UserError, match=r"bytes or more, at .*; got \d[\d,]* bytes; restore the config.json"):
        load_run(folder.path)


def test_a_checkpoint_of_other_settings_is_refused(folder):
    model = build_model(TrainConfig(network="dense", num_variables=5).resolved(), (1, 8, 8))
    checkpoints.write(folder.checkpoints, 3, 1, parameter_tensors(model))
    with pytest.raises(UserError, match="with the config it was trained with"):
        load_run(folder.path)
