"""Replicas are the runs that they would be alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graphs import StandIn
from igr.errors import UserError
from igr.evaluation.evaluation import evaluate
from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.failures import Interrupted, TrainingFailure
from igr.training.folders import held
from igr.training.replicas import shared_settings, train_replicas
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from igr.training.sop_config import SOPConfig
from interruptions import InterruptAt

SMALL = {
    "max_images": 110,
    "batch_size": 40,
    "epochs": 4,
    "checkpoint_every": 2,
    "tensorboard": False,
    "precision": "float64",
}
VAE = {**SMALL, "network": "dense", "num_variables": 4, "num_categories": 5}


def vae(**settings: Any) -> TrainConfig:
    return TrainConfig(**{**VAE, **settings})


CASES: dict[str, tuple[RunConfig, dict[str, list[Any]]]] = {
    "igr": (
        vae(kl="relaxed", track_gradients=True),
        {"seed": [0, 1, 2], "temperature": [0.2, 0.5, 0.2], "learning_rate": [1e-3, 3e-3, 1e-3]},
    ),
    "gumbel-softmax, straight through": (
        vae(latent="gumbel-softmax", straight_through=True, tensorboard=True),
        {"seed": [3, 4]},
    ),
    "igr-planar": (vae(latent="igr-planar"), {"seed": [3, 4], "kl_warmup": [0, 2]}),
    "igr-sb-log": (vae(latent="igr-sb-log", kl="relaxed"), {"temperature": [0.3, 0.6]}),
    "drawn pixels": (vae(latent="gumbel-softmax", binarization="stochastic"), {"seed": [0, 1]}),
    "joint": (
        vae(
            latent="gumbel-softmax",
            kl="relaxed",
            continuous_dim=2,
            continuous_capacity=(0.5, 3.0, 6),
            discrete_capacity=(0.0, 2.0, 9),
        ),
        {"seed": [0, 1], "discrete_capacity": [(0.0, 2.0, 9), (0.5, 1.0, 3)]},
    ),
    "gaussian": (
        TrainConfig(**SMALL, network="dense", latent="gaussian", continuous_dim=3),
        {"seed": [0, 1], "learning_rate": [1e-3, 1e-2]},
    ),
    "vimco": (vae(latent="gumbel-softmax", estimator="vimco", num_samples=3), {"seed": [0, 1]}),
    "relax": (vae(latent="gumbel-softmax", estimator="relax"), {"seed": [0, 1]}),
    "sop": (SOPConfig(**SMALL, num_samples=3), {"seed": [0, 1], "temperature": [0.5, 1.0]}),
    "dlgmm": (
        DLGMMConfig(**SMALL, num_components=4, continuous_dim=5, latent="dlgmm-igr"),
        {"seed": [0, 1]},
    ),
}


def varied(config: RunConfig, values: dict[str, list[Any]]) -> list[RunConfig]:
    rows = zip(*values.values(), strict=True)
    return [dataclasses.replace(config, **dict(zip(values, row, strict=True))) for row in rows]


def places(folder: Path, configs: list[RunConfig]) -> list[tuple[RunConfig, Path]]:
    return [(config, folder / str(index)) for index, config in enumerate(configs)]


def assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        close = isinstance(value, float)
        assert found[key] == (pytest.approx(value, rel=tolerance, abs=tolerance) if close else value)


def assert_close_runs(one: Path, other: Path, tolerance: float) -> None:
    """Everything in a run's folder but for times."""
    assert RunFolder(one).config() == RunFolder(other).config()
    first, second = RunFolder(one).metrics(), RunFolder(other).metrics()
    for line, expected in zip(first, second, strict=True):
        assert_close(line, expected, tolerance)
    latest, wanted = (RunFolder(folder).latest_checkpoint() for folder in (one, other))
    assert latest is not None
    assert wanted is not None
    assert latest.name == wanted.name
    state, expected = load_file(latest), load_file(wanted)
    assert state.keys() == expected.keys()
    for key, tensor in state.items():
        torch.testing.assert_close(tensor, expected[key], rtol=tolerance, atol=tolerance)
    results = [RunFolder(folder).result() for folder in (one, other)]
    for result in results:
        del result["training"]["seconds"]
    assert_close(results[0]["training"], results[1]["training"], tolerance)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_replicas_are_the_runs_that_they_would_be_alone(tmp_path, case):
    configs = varied(*case)
    if case is not CASES["igr"]:
        # Without a smaller last batch there is one pass less to flatten.
        configs = [dataclasses.replace(config, max_images=80, epochs=2) for config in configs]
    outcomes = train_replicas(places(tmp_path / "stacked", configs))
    for index, (config, outcome) in enumerate(zip(configs, outcomes, strict=True)):
        loop.train(config, tmp_path / "alone" / str(index))
        assert outcome == RunFolder(tmp_path / "stacked" / str(index)).result()
        assert_close_runs(tmp_path / "stacked" / str(index), tmp_path / "alone" / str(index), 1e-9)
    # Or the figures would not tell one from another.
    bounds = {
        RunFolder(tmp_path / "alone" / str(i)).metrics()[-1]["train_bound"] for i in range(len(configs))
    }
    assert len(bounds) == len(configs)


def test_in_single_precision_the_bounds_on_the_test_images_agree(tmp_path):
    configs = varied(
        TrainConfig(epochs=2, latent="igr", kl="relaxed", tensorboard=False, temperature=0.3),
        {"seed": [0, 1], "temperature": [0.3, 0.6]},
    )
    train_replicas(places(tmp_path / "stacked", configs))
    for index, config in enumerate(configs):
        loop.train(config, tmp_path / f"alone{index}")
        found, expected = (
            evaluate(load_run(folder), num_samples=20).bounds["importance_weighted"].value
            for folder in (tmp_path / "stacked" / str(index), tmp_path / f"alone{index}")
        )
        assert found == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("step", [1, 3, 7])
def test_interrupted_replicas_go_on_to_the_same_bits(tmp_path, step):
    configs = varied(vae(kl="relaxed"), {"seed": [0, 1], "temperature": [0.3, 0.6]})
    train_replicas(places(tmp_path / "unbroken", configs))
    broken = places(tmp_path / "broken", configs)
    with pytest.raises(Interrupted, match=f"stopped 2 replicas at step {step} of 12, each with a checkpoint"):
        train_replicas(broken, InterruptAt(step))
    assert [RunFolder(path).latest_step() for _, path in broken] == [step, step]
    train_replicas(broken)
    for index in range(2):
        assert_close_runs(tmp_path / "broken" / str(index), tmp_path / "unbroken" / str(index), 0.0)


def test_replicas_at_different_steps_go_on_and_those_that_are_done_are_left(tmp_path):
    """As a killed process may leave them; and any of them goes on alone as well."""
    configs = varied(vae(kl="relaxed"), {"seed": [0, 1, 2, 3]})
    runs = places(tmp_path / "stacked", configs)
    loop.train(*runs[0])
    for index, step in ((1, 4), (2, 7)):
        with pytest.raises(Interrupted):
            loop.train(*runs[index], InterruptAt(step))
    done = (runs[0][1] / "result.json").read_bytes()
    outcomes = train_replicas(runs)
    assert (runs[0][1] / "result.json").read_bytes() == done
    assert [outcome["training"]["epoch"] for outcome in outcomes] == [4] * 4
    for index, config in enumerate(configs):
        loop.train(config, tmp_path / f"alone{index}")
        assert_close_runs(runs[index][1], tmp_path / f"alone{index}", 1e-9)


def test_a_replica_that_breaks_is_reported_and_the_others_go_on(tmp_path):
    configs = varied(vae(kl="relaxed"), {"seed": [0, 1, 2], "learning_rate": [1e-3, 1e300, 1e-3]})
    runs = places(tmp_path / "stacked", configs)
    outcomes = train_replicas(runs)
    failure = outcomes[1]
    assert isinstance(failure, TrainingFailure)
    assert "learning rate too high (1e+300)" in str(failure)
    assert RunFolder(runs[1][1]).metrics() == []
    assert RunFolder(runs[1][1]).latest_checkpoint() is None
    for index in (0, 2):
        loop.train(configs[index], tmp_path / f"alone{index}")
        assert_close_runs(runs[index][1], tmp_path / f"alone{index}", 1e-9)


def test_if_all_break_all_are_reported(tmp_path):
    configs = varied(vae(kl="relaxed"), {"seed": [0, 1], "learning_rate": [1e300, 1e300]})
    outcomes = train_replicas(places(tmp_path, configs), InterruptAt(2))
    assert all(isinstance(outcome, TrainingFailure) for outcome in outcomes)


@pytest.mark.parametrize("step", [None, 2])
def test_one_that_is_seen_late_to_have_broken_takes_no_other_with_it(tmp_path, monkeypatch, step):
    """On a GPU numbers are read at the end of an epoch or for a checkpoint."""
    monkeypatch.setattr(loop, "LOOKS_AT_EACH_STEP", {"cpu": False})
    configs = varied(vae(kl="relaxed"), {"seed": [0, 1, 2], "learning_rate": [1e-3, 1e300, 1e-3]})
    runs = places(tmp_path / "stacked", configs)
    if step is not None:
        with pytest.raises(Interrupted, match=f"stopped 2 replicas at step {step} of 12"):
            train_replicas(runs, InterruptAt(step))
    outcomes = train_replicas(runs)
    assert [isinstance(outcome, TrainingFailure) for outcome in outcomes] == [False, True, False]
    for index in (0, 2):
        loop.train(configs[index], tmp_path / f"alone{index}")
        assert_close_runs(runs[index][1], tmp_path / f"alone{index}", 1e-9)


def test_captured_replicas_are_single_runs(tmp_path, monkeypatch):
    """Also where the last batch of an epoch is smaller."""
    configs = varied(vae(kl="relaxed"), {"seed": [0, 1, 2], "temperature": [0.2, 0.5, 0.2]})
    for index, config in enumerate(configs):
        loop.train(config, tmp_path / f"alone{index}")
    monkeypatch.setitem(loop.CAPTURES, "cpu", graphs := StandIn())
    monkeypatch.setitem(loop.LOOKS_AT_EACH_STEP, "cpu", False)
    runs = places(tmp_path / "stacked", configs)
    train_replicas(runs)
    assert graphs.captures == 2
    for index, (_, path) in enumerate(runs):
        # The learning rate of a graph is rounded to float32.
        assert_close_runs(path, tmp_path / f"alone{index}", 1e-6)


def test_a_run_that_cannot_begin_is_reported_and_the_others_go_on(tmp_path):
    configs = varied(vae(kl="relaxed", epochs=2), {"seed": [0, 1, 2, 3]})
    runs = places(tmp_path, configs)
    runs[0][1].mkdir()
    (runs[0][1] / "notes.txt").write_text("mine")
    loop.train(dataclasses.replace(configs[1], epochs=1), runs[1][1])
    with held(runs[2][1], "run"):
        outcomes = train_replicas(runs)
    messages = [str(outcome) for outcome in outcomes[:3]]
    assert all(isinstance(outcome, UserError) for outcome in outcomes[:3])
    assert "expected an empty folder for a new run" in messages[0]
    assert "expected the run of this config" in messages[1]
    assert "got one with other settings; choose another folder" in messages[1]
    assert "another process is using" in messages[2]
    assert isinstance(outcomes[3], dict)
    assert [path.name for path in runs[0][1].iterdir()] == ["notes.txt"]
    assert len(RunFolder(runs[1][1]).metrics()) == 1


def test_fifty_steps_agree_to_the_ninth_digit_in_every_weight(tmp_path):
    configs = varied(
        vae(kl="relaxed", network="dense_nonlinear", max_images=None, epochs=2, batch_size=50),
        {"seed": [0, 1], "temperature": [0.2, 0.6], "learning_rate": [1e-3, 3e-4]},
    )
    outcomes = train_replicas(places(tmp_path / "stacked", configs))
    assert outcomes[0]["training"]["step"] >= 50
    for index, config in enumerate(configs):
        loop.train(config, tmp_path / f"alone{index}")
        assert_close_runs(tmp_path / "stacked" / str(index), tmp_path / f"alone{index}", 1e-9)


def test_what_is_no_replica_is_refused(tmp_path):
    for others in ({"batch_size": 20}, {"kl": "relaxed"}, {"num_variables": 3}, {"latent": "igr-sb-log"}):
        configs = [vae(latent="gumbel-softmax"), dataclasses.replace(vae(latent="gumbel-softmax"), **others)]
        with pytest.raises(ValueError, match="expected configs that differ in seed"):
            train_replicas(places(tmp_path, configs))
    with pytest.raises(ValueError, match="expected a folder for each run"):
        train_replicas([(vae(kl="relaxed", seed=seed), tmp_path / "one") for seed in (0, 1)])
    assert list(tmp_path.iterdir()) == []
    assert train_replicas([]) == []


@pytest.mark.parametrize(
    "config",
    [
        vae(latent="igr-sb-truncated", num_categories=12),
        vae(kl="discrete"),
        vae(kl="discrete", latent="igr-sb"),
        vae(kl="discrete", latent="igr-sb-log", device="cuda"),
        vae(latent="gumbel-softmax", estimator="score_function_moving_average"),
        DLGMMConfig(latent="dlgmm-truncated"),
    ],
)
def test_what_has_to_be_trained_alone(config):
    assert shared_settings(config.resolved()) is None


def test_replicas_share_settings_whatever_their_own_are():
    one, other = (
        dataclasses.replace(
            vae(kl="relaxed"), seed=seed, temperature=temperature, learning_rate=rate
        ).resolved()
        for seed, temperature, rate in ((0, None, 1e-3), (5, 0.7, 1e-4))
    )
    assert shared_settings(one) == shared_settings(other) is not None
    assert json.dumps(one.to_json()) != json.dumps(other.to_json())
