"""Structured output prediction is trained as a bare loop would, and no interruption changes a bit of it."""

import math

import pytest
import torch

from igr.data import load, prepare
from igr.models.sop import BINARY_LATENTS
from igr.training import loop
from igr.training.build import build_sop
from igr.training.failures import Interrupted, TrainingFailure
from igr.training.randomness import keyed_generator
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from igr.training.sop_config import SOPConfig
from interruptions import InterruptAt, state

SMALL = {
    "num_units": 8,
    "max_images": 110,
    "batch_size": 40,
    "epochs": 3,
    "checkpoint_every": 1,
    "tensorboard": False,
    "precision": "float64",
}


def bare_loop(config: SOPConfig) -> list[float]:
    """The training bound of each epoch, written as one would by hand."""
    config = config.resolved()
    images = prepare(load("digits").limited(config.max_images).train.images, "bernoulli", torch.float64)
    model = build_sop(config, (1, 8, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, eps=1e-7, fused=True)
    step, bounds = 0, []
    for epoch in range(config.epochs):
        order = torch.randperm(len(images), generator=keyed_generator(config.seed, "order", epoch))
        total = 0.0
        for rows in order.split(config.batch_size):
            x = images[rows]
            noise = model.draw_noise(
                (config.num_samples, config.batch_size), keyed_generator(config.seed, "noise", step)
            )[:, : len(x)]
            log_p = model.log_likelihood(
                x, noise, config.temperature, "straight-through" if config.straight_through else "relaxed"
            )
            bound = log_p.logsumexp(0) - math.log(config.num_samples)
            for group in optimizer.param_groups:
                group["lr"] = max(1e-3 / (1 + 1e-3 * step), 1e-4)
            optimizer.zero_grad()
            (-bound.mean()).backward()
            optimizer.step()
            total += bound.sum().item()
            step += 1
        bounds.append(total / len(images))
    return bounds


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("num_samples", [1, 5])
@pytest.mark.parametrize("latent", BINARY_LATENTS)
def test_training_is_the_bare_loop(tmp_path, latent, num_samples, straight_through):
    config = SOPConfig(**SMALL, latent=latent, num_samples=num_samples, straight_through=straight_through)
    loop.train(config, tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    assert [line["train_bound"] for line in lines] == pytest.approx(bare_loop(config), rel=1e-9)
    assert {*lines[0]} == {"epoch", "step", "train_bound", "validation_bound", "validation_discrete_bound"}
    if straight_through:
        assert lines[-1]["validation_bound"] == lines[-1]["validation_discrete_bound"]
    assert lines[-1]["validation_bound"] > lines[0]["validation_bound"]


@pytest.mark.parametrize("latent", BINARY_LATENTS)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, latent):
    config = SOPConfig(**SMALL, latent=latent)
    loop.train(config, tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        loop.train(config, tmp_path / "broken", InterruptAt(2))
    with pytest.raises(Interrupted):
        loop.resume(tmp_path / "broken", InterruptAt(5))
    loop.resume(tmp_path / "broken")
    assert state(tmp_path / "broken") == state(tmp_path / "unbroken")


def test_a_run_is_loaded_as_what_it_is(tmp_path):
    config = SOPConfig(**SMALL, latent="igr-planar")
    loop.train(config, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.config == config.resolved()
    x = prepare(run.dataset.test.images[:4], "bernoulli", torch.float64)
    noise = run.model.draw_noise((2, 4), keyed_generator(0, "test", 0))
    assert run.model(x, noise, 1.0).bound.shape == (4,)


def test_figures_and_pictures_for_tensorboard_and_shares_of_gradients(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {**SMALL, "tensorboard": True, "track_gradients": True, "epochs": 2}
    loop.train(SOPConfig(**settings), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"bound/train", "bound/validation", "discrete bound/validation"} <= {*events.Tags()["scalars"]}
    assert events.Tags()["images"] == ["completions"]
    lines = RunFolder(tmp_path / "run").metrics()
    assert 0 <= lines[-1]["train_vanishing_gradients"] < 1


def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence(tmp_path):
    config = SOPConfig(
        **{**SMALL, "learning_rate": 1e300, "min_learning_rate": 1e300, "latent": "igr-planar"}
    )
    with pytest.raises(TrainingFailure, match="expected finite numbers"):
        loop.train(config, tmp_path / "run")
