"""Training is what a bare loop would do, and no interruption changes a bit of it."""

import dataclasses
import itertools
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from igr.data import load, prepare
from igr.errors import UserError
from igr.fitting import fit
from igr.training import images, loop
from igr.training.build import build_model
from igr.training.config import TrainConfig
from igr.training.failures import Interrupted
from igr.training.randomness import keyed_generator
from igr.training.run_folder import RunFolder
from igr.training.watchers import Watcher
from tiny_runs import SMALL


class At(Watcher):
    """Does something once so many steps are done."""

    def __init__(self, step: int, action) -> None:
        self.step = step
        self.action = action

    def advance(self, step: int) -> None:
        if step == self.step:
            self.action()


def interrupt_at(step: int, number: int = signal.SIGINT) -> Watcher:
    return At(step, lambda: os.kill(os.getpid(), number))


def contents(path: Path) -> tuple[bytes, Mapping[str, torch.Tensor]]:
    folder = RunFolder(path)
    latest = folder.latest_checkpoint()
    assert latest is not None
    return (path / "metrics.jsonl").read_bytes(), load_file(latest)


def assert_same_run(first: Path, second: Path) -> None:
    (first_lines, first_state), (second_lines, second_state) = contents(first), contents(second)
    assert first_lines == second_lines
    assert first_state.keys() == second_state.keys()
    assert all(torch.equal(tensor, second_state[name]) for name, tensor in first_state.items())


def bare_loop(config: TrainConfig, vanishing: list[float] | None = None) -> list[float]:
    """The training bound of each epoch, written as one would by hand.

    The share of gradients that vanish in a step, for each image of it, is added to the list.
    """
    config = config.resolved()
    dataset = load("digits").limited(config.max_images)
    images = prepare(dataset.train.images, config.likelihood)
    model = build_model(config, dataset.image_shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, eps=1e-7)
    bounds, step = [], 0
    for epoch in range(config.epochs):
        order = torch.randperm(len(images), generator=keyed_generator(config.seed, "order", epoch))
        total = 0.0
        for start in range(0, len(images), config.batch_size):
            rows = order[start : start + config.batch_size]
            x = images[rows]
            if config.binarization == "stochastic":
                drawing = keyed_generator(config.seed, "binarization", step)
                x = prepare(dataset.train.images[rows], config.likelihood, generator=drawing)
            generator = keyed_generator(config.seed, "noise", step)
            noise = model.latent.draw_noise((config.num_samples, config.batch_size), generator)
            warmup = config.kl_warmup * math.ceil(len(images) / config.batch_size)
            weight = min(1.0, step / warmup) if warmup else 1.0
            capacities = {}
            for name in ("continuous_capacity", "discrete_capacity"):
                if getattr(config, name) is not None:
                    lower, upper, rise = getattr(config, name)
                    capacities[name] = lower + (upper - lower) * min(step, rise) / rise
            temperature = 1.0 if config.temperature is None else config.temperature
            terms = model(x, noise[:, : len(x)], temperature, weight, **capacities)
            optimizer.zero_grad()
            terms.loss.backward()
            if vanishing is not None:
                flat = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
                vanishing += [sum(abs(g) <= 1e-10 for g in flat.tolist()) / len(flat)] * len(x)
            optimizer.step()
            total += (terms.log_likelihood - terms.kl).detach().double().mean(0).sum().item()
            step += 1
        bounds.append(total / len(images))
    return bounds


@pytest.mark.parametrize("kl_warmup", [0, 2])
@pytest.mark.parametrize("kl", ["relaxed", "discrete"])
@pytest.mark.parametrize("latent", ["igr", "gumbel-softmax"])
def test_training_is_the_bare_loop(tmp_path, latent, kl, kl_warmup):
    config = TrainConfig(
        **{**SMALL.to_json(), "latent": latent, "kl": kl, "num_samples": 2, "kl_warmup": kl_warmup}
    )
    loop.train(config, tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    assert [line["train_bound"] for line in lines] == pytest.approx(bare_loop(config), rel=1e-5)
    assert {line["kl"] for line in lines} == {kl}
    for line, part in itertools.product(lines, ("train", "validation")):
        difference = line[f"{part}_log_likelihood"] - line[f"{part}_kl"]
        assert line[f"{part}_bound"] == pytest.approx(difference)


CAPACITIES = {
    "continuous_dim": 2,
    "continuous_capacity": (0.5, 3.0, 6),
    "discrete_capacity": (0.0, 2.0, 9),
    "capacity_weight": 5.0,
}
KINDS = {
    "joint vae": {"latent": "gumbel-softmax", "kl": "relaxed", **CAPACITIES},
    "joint vae of a truncated latent": {"latent": "igr-sb-truncated", "num_categories": 12, **CAPACITIES},
    "gaussian beside planar": {"latent": "igr-planar", "continuous_dim": 2, "kl_warmup": 2},
    "landing": {"latent": "gumbel-softmax", "kl": "relaxed", "stick_the_landing": True},
    "straight through": {"straight_through": True},
    "gaussian": {"latent": "gaussian", "num_variables": 20, "num_categories": 10, "continuous_dim": 3},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_training_is_the_bare_loop_for_every_kind_of_model(tmp_path, kind):
    settings = {"num_samples": 2, "epochs": 3, "track_gradients": True, "tensorboard": False}
    config = TrainConfig(**{**SMALL.to_json(), **settings, **kind})
    loop.train(config, tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    vanishing: list[float] = []
    assert [line["train_bound"] for line in lines] == pytest.approx(bare_loop(config, vanishing), rel=1e-5)
    shares = [sum(vanishing[first : first + 110]) / 110 for first in (0, 110, 220)]
    assert [line["train_vanishing_gradients"] for line in lines] == pytest.approx(shares, abs=1e-3)
    # Pixels that are white in all images give no gradient.
    assert 0.01 < shares[0] < 0.9
    assert "validation_vanishing_gradients" not in lines[0]
    parts = [key for key in lines[0] if key.startswith("train_kl_")]
    if config.continuous_dim and config.latent != "gaussian":
        assert parts == ["train_kl_discrete", "train_kl_continuous"]
    for line, split in itertools.product(lines, ("train", "validation")):
        if parts:
            total = line[f"{split}_kl_discrete"] + line[f"{split}_kl_continuous"]
            assert line[f"{split}_kl"] == pytest.approx(total, rel=1e-6)
        if config.latent == "igr-sb-truncated":
            # 11 sticks, of which validation keeps all.
            sticks, cut = line[f"{split}_num_sticks"], line[f"{split}_mass_cut"]
            assert (8 <= sticks < 11) if split == "train" else (sticks == 11)
            assert (0 < cut < 0.1) if split == "train" else (cut == 0)


def test_how_fast_capacities_rise_matters_there():
    """Or the test above could not tell: only their side of the KL has a part in a gradient."""
    config = TrainConfig(**{**SMALL.to_json(), **KINDS["joint vae of a truncated latent"]})
    slower = ({"continuous_capacity": (0.5, 3.0, 9)}, {"discrete_capacity": (0.0, 2.0, 4)})
    first, *others = (bare_loop(dataclasses.replace(config, **change)) for change in ({}, *slower))
    assert all(first[2] != pytest.approx(other[2], rel=1e-4) for other in others)


def test_images_that_are_too_many_for_memory_give_the_same_run(tmp_path, monkeypatch):
    forms = ({}, {"likelihood": "normal"}, {"binarization": "stochastic"})
    for number, form in enumerate(forms):
        config = dataclasses.replace(SMALL, epochs=2, tensorboard=False, **form)
        loop.train(config, tmp_path / f"{number}")
        with monkeypatch.context() as patch:
            patch.setattr(images, "MOST_RESIDENT_BYTES", 0)
            run = loop.Loop(RunFolder(tmp_path / "none"), config.resolved(), load("digits"))
            assert run.images.train.dtype == torch.uint8
            assert not run.images.cut_once
            loop.train(config, tmp_path / f"{number} in batches")
        assert_same_run(tmp_path / f"{number}", tmp_path / f"{number} in batches")


FORMS = {
    "drawn": {"binarization": "stochastic"},
    "grey": {"likelihood": "normal"},
    "grey, original": {"likelihood": "normal-elu"},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_training_is_the_bare_loop_for_every_form_of_the_images(tmp_path, form):
    config = TrainConfig(**{**SMALL.to_json(), **form})
    loop.train(config, tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    found = [line["train_bound"] for line in lines]
    assert found == pytest.approx(bare_loop(config), rel=1e-5)
    assert found[-1] > found[0]


def test_the_weight_of_the_kl_matters_while_it_rises(tmp_path):
    plain, warmed = (
        dataclasses.replace(SMALL, latent="gumbel-softmax", kl="relaxed", kl_warmup=epochs)
        for epochs in (0, 2)
    )
    assert bare_loop(plain)[1] != pytest.approx(bare_loop(warmed)[1], rel=1e-5)


@pytest.mark.parametrize("latent", ["igr", "gumbel-softmax"])
def test_training_improves_the_bound_by_far(tmp_path, latent):
    config = TrainConfig(latent=latent, epochs=15, max_images=600)
    loop.train(config, tmp_path / "run")
    first, *_, last = RunFolder(tmp_path / "run").metrics()
    # 64 fair coins cost 44 nats.
    assert last["validation_bound"] > first["validation_bound"] + 3
    assert last["validation_bound"] > -27


@pytest.mark.parametrize("step", [1, 3, 4, 6, 8])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, step):
    loop.train(SMALL, tmp_path / "unbroken")
    with pytest.raises(Interrupted, match=rf"stopped at step {step} of 12 .* igr train --resume"):
        loop.train(SMALL, tmp_path / "broken", interrupt_at(step))
    assert RunFolder(tmp_path / "broken").latest_step() == step
    loop.resume(tmp_path / "broken")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


@pytest.mark.parametrize("step", [2, 4])
def test_a_model_with_everything_goes_on_to_the_same_bits(tmp_path, step):
    settings = {
        **KINDS["joint vae of a truncated latent"],
        "prior": str(tmp_path / "prior.json"),
        "track_gradients": True,
        "epochs": 2,
        "num_samples": 2,
    }
    prior = fit([0.3, 0.25, 0.2, *[0.25 / 8] * 8, 0.0], "igr-sb")
    prior.save(tmp_path / "prior.json")
    config = TrainConfig(**{**SMALL.to_json(), **settings})
    loop.train(config, tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        loop.train(config, tmp_path / "broken", interrupt_at(step))
    # What the run needs of it is in its folder.
    (tmp_path / "prior.json").unlink()
    loop.resume(tmp_path / "broken")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")
    lines = RunFolder(tmp_path / "broken").metrics()
    assert {"train_mass_cut", "train_vanishing_gradients", "validation_kl_continuous"} <= lines[-1].keys()


def test_sigterm_asks_as_sigint_does(tmp_path):
    with pytest.raises(Interrupted):
        loop.train(SMALL, tmp_path / "run", interrupt_at(5, signal.SIGTERM))
    assert RunFolder(tmp_path / "run").latest_step() == 5


def test_the_usual_handlers_are_back_afterwards(tmp_path):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted):
        loop.train(SMALL, tmp_path / "run", interrupt_at(2))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_signal_has_its_usual_effect(tmp_path):
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop.train(SMALL, tmp_path / "run", At(5, twice))


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path):
    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    loop.train(SMALL, tmp_path / "unbroken")
    with pytest.raises(Killed):
        loop.train(SMALL, tmp_path / "broken", At(5, kill))
    folder = RunFolder(tmp_path / "broken")
    assert (folder.latest_step(), len(folder.metrics())) == (None, 1)
    loop.resume(tmp_path / "broken")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


def test_metrics_after_the_latest_checkpoint_are_taken_back(tmp_path):
    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    loop.train(SMALL, tmp_path / "unbroken")
    with pytest.raises(Killed):
        loop.train(SMALL, tmp_path / "broken", At(10, kill))
    folder = RunFolder(tmp_path / "broken")
    assert (folder.latest_step(), len(folder.metrics())) == (6, 3)
    loop.resume(tmp_path / "broken")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


def test_metrics_that_were_lost_are_missed(tmp_path):
    with pytest.raises(Interrupted):
        loop.train(SMALL, tmp_path / "run", interrupt_at(7))
    (tmp_path / "run" / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"got 0 lines for 2 epochs"):
        loop.resume(tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(tmp_path):
    result = loop.train(SMALL, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.*s*")}
    assert loop.resume(tmp_path / "run") == result
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_result_says_how_training_ended(tmp_path):
    result = loop.train(SMALL, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert result == folder.result()
    assert result["config"] == SMALL.resolved().to_json()
    training = result["training"]
    assert training.items() >= folder.metrics()[-1].items()
    assert (training["step"], training["num_train_images"]) == (12, 110)
    encoder = 64 * (4 * 4) + 4 * 4
    assert training["num_parameters"] == encoder + (4 * 5) * 64 + 64


def test_validation_and_checkpoints_come_when_they_are_due(tmp_path):
    config = TrainConfig(**{**SMALL.to_json(), "epochs": 5, "eval_every": 2, "checkpoint_every": 4})
    seen = []

    class Look(Watcher):
        def epoch(self, metrics: Mapping[str, Any]) -> None:
            seen.append(RunFolder(tmp_path / "run").latest_step())

    loop.train(config, tmp_path / "run", Look())
    lines = RunFolder(tmp_path / "run").metrics()
    measured = [line["epoch"] for line in lines if line["validation_bound"] is not None]
    assert measured == [2, 4, 5]
    assert seen == [None, None, None, None, 12]
    assert RunFolder(tmp_path / "run").latest_step() == 15


def test_validation_noise_is_the_same_at_every_epoch(tmp_path):
    config = TrainConfig(**{**SMALL.to_json(), "learning_rate": 1e-30})
    loop.train(config, tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    assert len({line["validation_bound"] for line in lines}) == 1
    assert len({line["train_bound"] for line in lines}) == len(lines)


def test_the_noise_of_an_image_does_not_depend_on_how_many_follow_it(tmp_path):
    """The last batch of 110 images has 30; with 109 it has 29, and the same noise for these."""
    config = SMALL.resolved()
    latent = build_model(config, (1, 8, 8)).latent
    draws = [
        latent.draw_noise((1, config.batch_size), keyed_generator(0, "noise", 2))[:, :size]
        for size in (30, 29)
    ]
    assert torch.equal(draws[0][:, :29], draws[1])


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="which is not empty"):
        loop.train(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


def test_a_device_that_is_not_there_is_refused(tmp_path):
    config = TrainConfig(**{**SMALL.to_json(), "device": "cuda:99"})
    with pytest.raises(UserError, match="got cuda:99, but torch sees"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_that_cannot_be_used_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="expected no data folder"):
        loop.train(TrainConfig(data_dir="/nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_shape_is_refused_on_resume(tmp_path):
    with pytest.raises(Interrupted):
        loop.train(SMALL, tmp_path / "one", interrupt_at(3))
    other = TrainConfig(**{**SMALL.to_json(), "num_variables": 5})
    with pytest.raises(Interrupted):
        loop.train(other, tmp_path / "two", interrupt_at(3))
    source = RunFolder(tmp_path / "two").latest_checkpoint()
    target = RunFolder(tmp_path / "one").latest_checkpoint()
    assert source is not None
    assert target is not None
    target.write_bytes(source.read_bytes())
    with pytest.raises(UserError, match=r"expected .* with shape .* got shape"):
        loop.resume(tmp_path / "one")


def test_an_ignored_interrupt_stays_ignored(tmp_path):
    """As in a background job of a shell."""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = loop.train(SMALL, tmp_path / "run", interrupt_at(5))
    finally:
        signal.signal(signal.SIGINT, usual)
    assert result["training"]["epoch"] == SMALL.epochs
