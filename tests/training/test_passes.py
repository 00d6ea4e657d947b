"""A pass that is flattened gives the bits of the same pass in Python, for every kind of model."""

import json

import pytest
import torch

from graphs import StandIn
from igr.data import load, prepare
from igr.training import loop, passes
from igr.training.adam import Adam
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.failures import Interrupted
from igr.training.passes import Passes, vanishing_share
from igr.training.run_folder import RunFolder
from igr.training.sop_config import SOPConfig
from igr.training.tasks import task_of
from interruptions import InterruptAt

BATCH = 40
SMALL = {"network": "dense", "num_variables": 4, "num_categories": 5, "batch_size": BATCH}
CAPACITIES = {
    "continuous_dim": 2,
    "continuous_capacity": (0.5, 3.0, 6),
    "discrete_capacity": (0.0, 2.0, 9),
    "capacity_weight": 5.0,
}


def vae(**settings: object) -> TrainConfig:
    return TrainConfig(**{**SMALL, **settings})


def sop(**settings: object) -> SOPConfig:
    return SOPConfig(batch_size=BATCH, **settings)


def mixture(**settings: object) -> DLGMMConfig:
    return DLGMMConfig(batch_size=BATCH, num_components=12, continuous_dim=5, **settings)


CONCRETE = {"latent": "gumbel-softmax", "kl": "relaxed"}
BERNOULLI = {"latent": "bernoulli", "num_categories": 2}

FLAT = {
    "igr": vae(kl="relaxed", kl_warmup=2, track_gradients=True),
    "autocast": vae(kl="relaxed", network="dense_nonlinear", autocast=True),
    "igr-planar": vae(latent="igr-planar"),
    "igr-sb": vae(latent="igr-sb", kl="relaxed"),
    "igr-sb-log": vae(latent="igr-sb-log", kl="relaxed"),
    "exact law of the Concrete": vae(latent="gumbel-softmax", kl="discrete"),
    "two samples, straight through": vae(**CONCRETE, num_samples=2, straight_through=True),
    "landing": vae(**CONCRETE, stick_the_landing=True),
    "grey levels": vae(**CONCRETE, likelihood="normal"),
    "continuous Bernoulli, float64": vae(
        **CONCRETE, likelihood="continuous-bernoulli", precision="float64", kl_warmup=1
    ),
    "joint": vae(**CONCRETE, **CAPACITIES),
    "gaussian": TrainConfig(network="dense", latent="gaussian", continuous_dim=3, batch_size=BATCH),
    # With buffers that move, with parameters of its own, with derivatives of derivatives, with several draws.
    "moving average": vae(latent="gumbel-softmax", estimator="score_function_moving_average"),
    "relax": vae(latent="gumbel-softmax", estimator="relax", track_gradients=True),
    "rebar": vae(**BERNOULLI, estimator="rebar"),
    "disarm": vae(**BERNOULLI, estimator="disarm"),
    "vimco": vae(latent="gumbel-softmax", estimator="vimco", num_samples=3),
    "sop": sop(num_samples=4),
    "sop, binary Concrete": sop(latent="gumbel-softmax", network="nonlinear", straight_through=True),
    "sop, igr-planar": sop(latent="igr-planar"),
    "dlgmm": mixture(latent="dlgmm"),
    "dlgmm-igr": mixture(latent="dlgmm-igr", component="summed"),
}
# The values of the parameters say how many nodes or sticks there have to be.
NOT_FLAT = {
    "exact law": vae(kl="discrete"),
    "exact law of sticks": vae(latent="igr-sb-log", kl="discrete"),
    "truncated": vae(latent="igr-sb-truncated", num_categories=12),
    "truncated mixture": mixture(latent="dlgmm-truncated"),
}


def followed(config, before_flat: int, monkeypatch) -> tuple[bool, list[torch.Tensor]]:
    """Whether passes became flat, and what four steps gave and left."""
    monkeypatch.setattr(passes, "STEPS_BEFORE_FLAT", before_flat)
    config = config.resolved()
    dataset = load("digits")
    images = prepare(dataset.train.images, config.likelihood, config.dtype)
    # Five steps would be an epoch.
    task = task_of(config, dataset, 5)
    found = Passes(task, 2 if config.track_gradients else None)
    adam = Adam(dict(task.model.named_parameters()))
    results: list[torch.Tensor] = []
    # The last batch is smaller.
    for step, batch in enumerate((images[:40], images[40:80], images[80:120], images[120:150])):
        gradients, sums = found(batch, step)
        results += [*(gradient.clone() for gradient in gradients), sums]
        adam.step(gradients, 1e-2)
    return found.is_flat, [*results, *task.model.state_dict().values()]


@pytest.mark.parametrize("config", [*FLAT.values(), *NOT_FLAT.values()], ids=[*FLAT, *NOT_FLAT])
def test_a_flat_pass_gives_the_same_bits(monkeypatch, config):
    never, expected = followed(config, 100, monkeypatch)
    is_flat, found = followed(config, 1, monkeypatch)
    assert not never
    assert is_flat == (config in FLAT.values())
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


def test_a_run_is_the_same_whenever_it_becomes_flat(tmp_path, monkeypatch):
    config = vae(latent="gumbel-softmax", kl_warmup=2, epochs=3, max_images=190, tensorboard=False)
    lines = []
    for before_flat in (100, 3, 0):
        monkeypatch.setattr(passes, "STEPS_BEFORE_FLAT", before_flat)
        folder = tmp_path / str(before_flat)
        loop.train(config, folder)
        lines.append((folder / "metrics.jsonl").read_bytes())
    assert lines[0] == lines[1] == lines[2]
    # What is no longer flat after a start from a checkpoint.
    monkeypatch.setattr(passes, "STEPS_BEFORE_FLAT", 3)
    with pytest.raises(Interrupted):
        loop.train(config, tmp_path / "broken", InterruptAt(7))
    loop.resume(tmp_path / "broken")
    assert (tmp_path / "broken" / "metrics.jsonl").read_bytes() == lines[0]
    assert RunFolder(tmp_path / "broken").latest_step() == 15


@pytest.mark.parametrize(
    "config",
    [
        vae(latent="gumbel-softmax", kl_warmup=2, epochs=3, max_images=190),
        sop(epochs=3, max_images=190),
        vae(**BERNOULLI, estimator="disarm", epochs=3, max_images=190),
    ],
    ids=["warm-up", "sop", "disarm"],
)
def test_a_captured_run_is_the_same_whenever_it_is_captured(tmp_path, monkeypatch, config):
    """With a stand-in for CUDA graphs: inputs are copied into place, and results are used before the next."""
    monkeypatch.setitem(loop.LOOKS_AT_EACH_STEP, "cpu", False)
    weights, lines = [], []
    # Where it is captured, a pass and a step of Adam are.
    for before_flat, captures in ((100, 0), (2, 2)):
        monkeypatch.setitem(loop.CAPTURES, "cpu", graphs := StandIn())
        monkeypatch.setattr(passes, "STEPS_BEFORE_FLAT", before_flat)
        loop.train(config, tmp_path / str(before_flat))
        assert graphs.captures == captures
        folder = RunFolder(tmp_path / str(before_flat))
        lines.append((folder.path / "metrics.jsonl").read_bytes())
        weights.append(folder.latest_checkpoint().read_bytes())
    assert lines[0] == lines[1]
    assert weights[0] == weights[1]


def test_a_step_that_cannot_be_captured_is_taken_as_it_is(tmp_path, monkeypatch):
    def refused(function, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    config = vae(latent="gumbel-softmax", epochs=1, max_images=190)
    loop.train(config, tmp_path / "plain")
    monkeypatch.setitem(loop.CAPTURES, "cpu", refused)
    monkeypatch.setattr(passes, "STEPS_BEFORE_FLAT", 1)
    with pytest.warns(UserWarning, match="got: operation not permitted.* goes on without one"):
        loop.train(config, tmp_path / "refused")
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "refused")]
    assert json.loads(lines[0])["train_bound"] == pytest.approx(json.loads(lines[1])["train_bound"], rel=1e-6)


def test_the_share_of_vanishing_gradients_is_that_of_all_numbers():
    gradients = (
        torch.tensor([[0.0, 1e-10, -1e-10], [1.1e-10, 1.0, -2.0]], dtype=torch.float64),
        torch.tensor([-1e-11, 3.0]),
        torch.tensor(5.0),
    )
    assert vanishing_share(gradients).item() == pytest.approx(4 / 9)
    assert vanishing_share(gradients[2:]).item() == 0.0
    assert vanishing_share([torch.zeros(3, 2)]).item() == 1.0
