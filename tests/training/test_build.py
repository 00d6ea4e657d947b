"""Models are what their config says: the latent with its options, and a prior from a file or none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from igr.errors import UserError
from igr.fitting import fit, fit_uniform_prior
from igr.models.joint_vae import JointVAE
from igr.models.latents import LATENTS, GaussianLatent, JointLatent, PlanarLatent
from igr.training import checkpoints, loop
from igr.training.build import build_latent, build_model
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import check_size, load_data, load_run, parameter_tensors
from igr.training.sop_config import SOPConfig

K = 4
SMALL = TrainConfig(
    network="dense",
    num_variables=2,
    num_categories=K,
    max_images=20,
    batch_size=10,
    epochs=1,
    tensorboard=False,
)
SIZES = {
    "dense": TrainConfig(network="dense"),
    "dense, two categories": TrainConfig(network="dense", latent="bernoulli", num_variables=200),
    "dense, many categories": TrainConfig(network="dense", num_variables=3, num_categories=100),
    "dense_nonlinear": TrainConfig(latent="gumbel-softmax", continuous_dim=30),
    "dense_relax": TrainConfig(network="dense_relax", num_variables=30),
    "conv_jointvae": TrainConfig(network="conv_jointvae", latent="gaussian", continuous_dim=50),
    "conv": TrainConfig(network="conv", num_variables=100),
    "planar": TrainConfig(network="dense", latent="igr-planar", flow_layers=3, num_variables=1),
    "truncated": TrainConfig(network="dense", latent="igr-sb-truncated", num_categories=50),
    "sop": SOPConfig(num_units=300),
    "sop, three layers": SOPConfig(network="triple_linear", num_units=50),
    "sop, nonlinear": SOPConfig(network="nonlinear", latent="igr-planar", flow_layers=5, num_units=60),
    "sop, few units": SOPConfig(num_units=2),
    "dlgmm": DLGMMConfig(num_components=10, continuous_dim=4),
    "dlgmm, convolutions": DLGMMConfig(network="dlgmm_conv", num_components=20, continuous_dim=50),
}


@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES.keys())
def test_no_model_is_smaller_than_its_config_says(tmp_path, config):
    """Or a run would be taken for one of another config."""
    config = config.resolved()
    tensors = parameter_tensors(build_model(config, config.image_shape))
    check_size(config, checkpoints.write(tmp_path, 1, 1, tensors))


HUGE = {
    "variables": TrainConfig(num_variables=2**53),
    "categories": TrainConfig(num_categories=2**62),
    "more categories": TrainConfig(num_categories=10**400),
    "dimensions": TrainConfig(continuous_dim=2**64),
    "units": SOPConfig(num_units=2**40),
}


@pytest.mark.parametrize("config", HUGE.values(), ids=HUGE.keys())
def test_a_model_that_no_memory_holds_is_one_sentence(config):
    with pytest.raises(
        UserError, match=r"expected settings of a model that fits into memory; got .*; make it"
    ):
        build_model(config.resolved(), (1, 8, 8))


# A law that no other family would have by chance.
LAW = [0.4, 0.1, 0.2, 0.3]


def prior_file(folder: Path, family: str) -> Path:
    """A prior of LAW, or for sticks by length of its first three; for planar one that was fitted briefly."""
    path = folder / f"{family}.json"
    if family == "igr-planar":
        found = fit_uniform_prior(K, family, num_iterations=2)
    elif family == "igr-sb":
        found = fit([0.5, 0.2, 0.3], family)
    else:
        found = fit(LAW, family)
    found.save(path)
    return path


FAMILIES = {
    "igr": "igr",
    "igr-planar": "igr-planar",
    "igr-sb": "igr-sb",
    "igr-sb-log": "igr-sb-log",
    "igr-sb-truncated": "igr-sb",
    "gumbel-softmax": "gumbel-softmax",
}


@pytest.mark.filterwarnings("ignore:fit_uniform_prior:RuntimeWarning")
@pytest.mark.parametrize("latent", FAMILIES)
def test_the_prior_of_a_file_is_that_of_the_model(tmp_path, latent):
    family = FAMILIES[latent]
    config = replace(SMALL, latent=latent, prior=str(prior_file(tmp_path, family)), precision="float64")
    model = build_model(config.resolved(), (1, 8, 8))
    found = model.latent.discrete_prior()
    assert found.probs.shape == (2, K)
    if latent == "igr-planar":
        given = json.loads(Path(config.prior).read_text())["probs"]
        error = (found.standard_error**2 + torch.tensor(given) / 10_000).sqrt()
        assert ((found.probs - torch.tensor(given)) / error).abs().max() < 5
        return
    expected = [0.5, 0.2, 0.3, 0.0] if family == "igr-sb" else LAW
    torch.testing.assert_close(found.probs, torch.tensor([expected] * 2).double(), rtol=0, atol=1e-7)
    # And the posterior of an encoder that says nothing.
    zeros = torch.zeros(1, model.latent.num_outputs, dtype=torch.float64)
    torch.testing.assert_close(model.latent(zeros, 0.5).discrete().probs[0], found.probs, rtol=0, atol=1e-7)


def test_bernoulli_takes_a_prior_of_gumbel_softmax(tmp_path):
    fit([0.3, 0.7], "gumbel-softmax").save(tmp_path / "prior.json")
    settings = {"latent": "bernoulli", "num_categories": 2, "prior": str(tmp_path / "prior.json")}
    latent = build_latent(replace(SMALL, **settings).resolved())
    found = latent.discrete_prior().probs
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.7]] * 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(latent(torch.zeros(1, 2), 0.5).discrete().probs[0], found, rtol=0, atol=1e-6)


def test_planar_takes_a_prior_of_igr_too(tmp_path):
    config = replace(SMALL, latent="igr-planar", prior=str(prior_file(tmp_path, "igr"))).resolved()
    found = build_latent(config).discrete_prior().probs
    torch.testing.assert_close(found, torch.tensor([LAW] * 2), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:fit_uniform_prior:RuntimeWarning")
@pytest.mark.parametrize(
    ("family", "latent", "count", "said"),
    [
        ("igr", "gumbel-softmax", K, r"family gumbel-softmax over 4 categories at .*; got igr over 4; write"),
        ("gumbel-softmax", "igr", K, r"family igr over 4 categories at .*; got gumbel-softmax over 4"),
        ("igr-sb-log", "igr-sb", K, r"family igr-sb over .* --family igr-sb --num-categories 4"),
        ("igr-sb-log", "igr-planar", K, r"family igr-planar or igr over .* got igr-sb-log over 4"),
        ("igr", "igr", 5, r"family igr over 5 categories at .*; got igr over 4; .* --num-categories 5"),
    ],
)
def test_a_prior_of_another_law_is_refused(tmp_path, family, latent, count, said):
    path = prior_file(tmp_path, family)
    config = replace(SMALL, latent=latent, num_categories=count, prior=str(path))
    refused(config, tmp_path / "run", said)


def refused(config: TrainConfig, run: Path, said: str) -> None:
    """In one sentence, by a command that leaves no folder."""
    with pytest.raises(UserError, match=rf"^expected .*{said}") as error:
        loop.train(config, run)
    assert "\n" not in str(error.value)
    assert not run.exists()


@pytest.mark.parametrize("content", [None, "", "not JSON", "{}", "[]", '{"format": 1}', "[" * 100_000])
def test_a_file_that_is_no_prior_is_refused(tmp_path, content):
    path = tmp_path / "prior.json"
    if content is not None:
        path.write_text(content)
    said = r"a prior written by igr prior at .*prior\.json; got .*; write one with igr prior$"
    refused(replace(SMALL, prior=str(path)), tmp_path / "run", said)


def test_a_folder_or_bytes_are_no_prior(tmp_path):
    said = r"a prior written by igr prior at .*; got .*; write one with igr prior$"
    refused(replace(SMALL, prior=str(tmp_path)), tmp_path / "run", said)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe{}")
    refused(replace(SMALL, prior=str(tmp_path / "bytes")), tmp_path / "run", said)


def test_several_laws_at_once_are_no_prior(tmp_path):
    path = tmp_path / "several.json"
    fit(torch.tensor([LAW, LAW[::-1]]), "igr").save(path)
    config = replace(SMALL, prior=str(path))
    refused(config, tmp_path / "run", r"one law at .*several\.json; got several at once \(loc has the shape")


@pytest.mark.parametrize("latent", ["igr", "gumbel-softmax"])
def test_a_run_keeps_a_copy_of_its_prior(tmp_path, latent):
    path = prior_file(tmp_path, latent)
    loop.train(replace(SMALL, latent=latent, prior=str(path)), tmp_path / "run")
    original = path.read_bytes()
    path.unlink()
    folder = RunFolder(tmp_path / "run")
    assert (folder.path / "prior.json").read_bytes() == original
    assert folder.config().prior == str(tmp_path / "run" / "prior.json")
    run = load_run(tmp_path / "run")
    torch.testing.assert_close(
        run.model.latent.discrete_prior().probs, torch.tensor([LAW] * 2), rtol=0, atol=1e-5
    )
    # It can be moved, and what stands where the original was does not matter.
    path.write_text("something else")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert load_run(tmp_path / "moved").config.prior == str(tmp_path / "moved" / "prior.json")


def test_a_start_that_was_killed_after_the_copy_is_no_hindrance(tmp_path, monkeypatch):
    config = replace(SMALL, prior=str(prior_file(tmp_path, "igr")))

    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("igr.atomic.write_json", kill)
        with pytest.raises(Killed):
            loop.train(config, tmp_path / "run")
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {".lock", "prior.json"}
    assert loop.train(config, tmp_path / "run")["training"]["epoch"] == 1
    # A file of the user's own is never written over.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "prior.json").write_text("mine")
    with pytest.raises(UserError, match="which is not empty"):
        loop.train(config, tmp_path / "other")
    assert (tmp_path / "other" / "prior.json").read_text() == "mine"


OPTIONS: dict[str, dict[str, Any]] = {
    "igr": {"scale": "free", "prior_temperature": 0.7},
    "igr-planar": {"scale": "fixed", "flow_layers": 3, "stick_the_landing": True, "prior_temperature": 0.7},
    "igr-sb": {"scale": "free"},
    "igr-sb-log": {"scale": "free"},
    "igr-sb-truncated": {"scale": "free", "stick_threshold": 0.6, "stick_quantile": 0.3},
    "gumbel-softmax": {"prior_temperature": 0.7, "stick_the_landing": True},
    "bernoulli": {"prior_temperature": 0.7, "stick_the_landing": True},
}


@pytest.mark.parametrize("latent", LATENTS)
def test_every_option_of_a_latent_reaches_it(tmp_path, latent):
    assert OPTIONS[latent].keys() == LATENTS[latent].options
    count = 2 if latent == "bernoulli" else K
    settings = {"latent": latent, "kl": "relaxed", "num_categories": count, **OPTIONS[latent]}
    found = build_latent(replace(SMALL, **settings).resolved())
    seen = {
        "scale": lambda: "free" if found.free_scale else "fixed",
        "prior_temperature": lambda: found.prior(0.3).temperature,
        "flow_layers": lambda: len(found.flow.layers),
        "stick_the_landing": lambda: found.stick_the_landing,
        "stick_threshold": lambda: found._truncation.threshold,
        "stick_quantile": lambda: found._truncation.quantile,
    }
    assert {option: seen[option]() for option in OPTIONS[latent]} == OPTIONS[latent]
    assert (found.num_variables, found.num_categories) == (2, count)


def test_a_continuous_dim_makes_the_latent_a_joint_one_and_capacities_the_model():
    plain = build_model(SMALL.resolved(), (1, 8, 8))
    assert not isinstance(plain.latent, JointLatent)
    joint = build_model(replace(SMALL, continuous_dim=3).resolved(), (1, 8, 8))
    assert isinstance(joint.latent, JointLatent)
    assert type(joint.latent.discrete) is type(plain.latent)
    assert joint.latent.continuous.dim == 3
    assert not isinstance(joint, JointVAE)
    gaussian = TrainConfig(network="dense", latent="gaussian", continuous_dim=4).resolved()
    assert isinstance(build_latent(gaussian), GaussianLatent)
    capacities = {"continuous_capacity": (0.0, 5.0, 10), "discrete_capacity": (0.0, 5.0, 10)}
    config = replace(SMALL, continuous_dim=3, capacity_weight=4.0, straight_through=True, **capacities)
    held = build_model(config.resolved(), (1, 8, 8))
    assert isinstance(held, JointVAE)
    assert (held.capacity_weight, held.kl, held.straight_through) == (4.0, "discrete", True)


def test_initial_flows_depend_on_the_seed_alone():
    def weights(seed: int) -> list[torch.Tensor]:
        latent = build_latent(replace(SMALL, latent="igr-planar", seed=seed).resolved())
        assert isinstance(latent, PlanarLatent)
        return list(latent.parameters())

    assert all(map(torch.equal, weights(1), weights(1)))
    assert not any(map(torch.equal, weights(1), weights(2)))


def test_images_come_in_the_size_that_the_network_takes():
    plain = load_data(SMALL.resolved())
    large = load_data(replace(SMALL, network="conv_jointvae").resolved())
    for split in ("train", "validation", "test"):
        before, after = getattr(plain, split), getattr(large, split)
        assert after.images.shape == (20, 1, 32, 32)
        assert after.images.dtype == torch.uint8
        assert torch.equal(before.labels, after.labels)
        # Each image is still itself: made small again it is the nearest to its original.
        small = torch.nn.functional.avg_pool2d(after.images.double(), 4).flatten(1)
        distance = torch.cdist(small, before.images.double().flatten(1))
        assert torch.equal(distance.argmin(-1), torch.arange(20))
    assert large.image_shape == (1, 32, 32)
    assert plain.image_shape == (1, 8, 8)
