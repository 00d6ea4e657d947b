"""Mixture models are trained as a bare loop would, and no interruption changes a bit of it."""

import math

import pytest
import torch

from igr.data import load, prepare
from igr.models.stick_laws import MIXTURES
from igr.training import loop
from igr.training.build import build_dlgmm, build_model
from igr.training.dlgmm_config import COMPONENTS, DLGMMConfig
from igr.training.failures import Interrupted, TrainingFailure
from igr.training.randomness import keyed_generator
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from interruptions import InterruptAt, state

SMALL = {
    "num_components": 12,
    "continuous_dim": 6,
    "max_images": 110,
    "batch_size": 40,
    "epochs": 3,
    "checkpoint_every": 1,
    "tensorboard": False,
    "precision": "float64",
}


def bare_loop(config: DLGMMConfig) -> list[float]:
    """The training bound of each epoch, written as one would by hand."""
    config = config.resolved()
    images = prepare(load("digits").limited(config.max_images).train.images, "bernoulli", torch.float64)
    model = build_dlgmm(config, (1, 8, 8))
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
            loss = model(x, noise).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total -= loss.item() * len(x)
            step += 1
        bounds.append(total / len(images))
    return bounds


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("latent", MIXTURES)
def test_training_is_the_bare_loop(tmp_path, latent, num_samples, component):
    config = DLGMMConfig(**SMALL, latent=latent, num_samples=num_samples, component=component)
    loop.train(config, tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics()
    assert [line["train_bound"] for line in lines] == pytest.approx(bare_loop(config), rel=1e-9)
    last = lines[-1]
    assert last["validation_bound"] > lines[0]["validation_bound"]
    for part in ("train", "validation"):
        kl = last[f"{part}_kl_components"] + last[f"{part}_kl_sticks"]
        assert last[f"{part}_kl"] == pytest.approx(kl)
        assert last[f"{part}_bound"] == pytest.approx(last[f"{part}_log_likelihood"] - kl)
    is_cut = MIXTURES[latent].is_truncated
    assert last["train_num_components"] == pytest.approx(9.0 if is_cut else 12.0)
    assert (last["train_mass_cut"] > 0) == is_cut
    assert (last["validation_num_components"], last["validation_mass_cut"]) == (12.0, 0.0)


@pytest.mark.parametrize("latent", MIXTURES)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, latent):
    config = DLGMMConfig(**SMALL, latent=latent)
    loop.train(config, tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        loop.train(config, tmp_path / "broken", InterruptAt(2))
    with pytest.raises(Interrupted):
        loop.resume(tmp_path / "broken", InterruptAt(5))
    loop.resume(tmp_path / "broken")
    assert state(tmp_path / "broken") == state(tmp_path / "unbroken")


def test_sticks_that_no_batch_needs_stay_at_their_prior(tmp_path):
    config = DLGMMConfig(**SMALL, latent="dlgmm-igr-truncated", learning_rate=1e-2).resolved()
    loop.train(config, tmp_path / "run")
    run = load_run(tmp_path / "run")
    x = prepare(run.dataset.test.images, "bernoulli", torch.float64)
    posterior = run.model.encode(x)
    assert posterior.num_components == 12
    law, prior = posterior.sticks.law, posterior.sticks.prior
    assert (law.loc[:, 8:] == prior.loc[:, 8:]).all()
    assert (law.scale[:, 8:] == prior.scale[:, 8:]).all()
    assert (law.loc[:, :8] != prior.loc[:, :8]).all()


@pytest.mark.parametrize("network", ["dlgmm_dense", "dlgmm_conv"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_every_network_and_likelihood_trains(tmp_path, network, likelihood):
    settings = {**SMALL, "precision": "float32", "epochs": 1, "max_images": 40}
    config = DLGMMConfig(**settings, network=network, likelihood=likelihood)
    loop.train(config, tmp_path / "run")
    (line,) = RunFolder(tmp_path / "run").metrics()
    assert math.isfinite(line["validation_bound"])


def test_the_seed_fixes_the_means_of_the_prior_and_they_are_kept(tmp_path):
    first, again, other = (
        build_model(DLGMMConfig(**SMALL, seed=seed).resolved(), (1, 8, 8)) for seed in (0, 0, 1)
    )
    assert torch.equal(first.prior_loc, again.prior_loc)
    assert not torch.equal(first.prior_loc, other.prior_loc)
    loop.train(DLGMMConfig(**SMALL), tmp_path / "run")
    assert torch.equal(load_run(tmp_path / "run").model.prior_loc, first.prior_loc)


def test_figures_and_pictures_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {**SMALL, "tensorboard": True, "epochs": 1}
    loop.train(DLGMMConfig(**settings, latent="dlgmm-truncated"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    scalars = {*events.Tags()["scalars"]}
    assert {"bound/train", "bound/validation", "kl sticks/train", "active per draw/validation"} <= scalars
    assert events.Tags()["images"] == ["reconstructions", "samples of components"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence(tmp_path, component):
    config = DLGMMConfig(**{**SMALL, "precision": "float32"}, learning_rate=1e4, component=component)
    with pytest.raises(TrainingFailure, match="expected finite numbers"):
        loop.train(config, tmp_path / "run")


def test_validation_in_slices_is_that_of_a_whole_block(tmp_path, monkeypatch):
    config = DLGMMConfig(**SMALL, num_samples=2)
    loop.train(config, tmp_path / "whole")
    monkeypatch.setattr("igr.training.dlgmm_task.ELEMENT_BUDGET", 2 * 7 * 12 * 200)
    loop.train(config, tmp_path / "sliced")
    for whole, sliced in zip(
        RunFolder(tmp_path / "whole").metrics(), RunFolder(tmp_path / "sliced").metrics(), strict=True
    ):
        assert whole == pytest.approx(sliced, rel=1e-12)
