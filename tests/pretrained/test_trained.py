"""What is done with a trained model: images in and out, posteriors, points."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from igr.errors import UserError
from igr.models.dlgmm import DLGMM
from igr.models.latents import JointPoints
from igr.pretrained import TrainedDLGMM, TrainedSOP, TrainedVAE, from_pretrained
from written_runs import CONFIGS, DLGMMS, VAES, vae, write_run_of


def trained(name: str, path: Path) -> Any:
    write_run_of(CONFIGS[name], path)
    return from_pretrained(path)


def some_images(config: Any) -> Tensor:
    generator = Generator().manual_seed(3)
    return torch.randint(0, 256, (5, *config.image_shape), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", VAES)
def test_a_vae_encodes_draws_decodes_and_samples(tmp_path, name):
    found = trained(name, tmp_path / "run")
    assert isinstance(found, TrainedVAE)
    images, config = some_images(found.config), found.config
    shape = (5, *config.image_shape)
    posterior = found.encode(images)
    points = found.draw(posterior, 3, Generator().manual_seed(0))
    discrete = (
        points.discrete if isinstance(points, JointPoints) else points if config.has_categories else None
    )
    if discrete is not None:
        assert discrete.shape == (3, 5, config.num_variables, config.num_categories)
        torch.testing.assert_close(discrete.sum(-1), torch.ones_like(discrete[..., 0]))
    law = found.decode(points)
    assert law.batch_shape == (3, 5)
    assert law.event_shape == config.image_shape
    for means in (law.mean[0], found.reconstruct(images), found.sample(5)):
        assert means.shape == shape
        assert means.dtype == config.dtype
        assert ((means >= 0) & (means <= 1)).all()
    # The generator alone decides.
    again = found.draw(posterior, 3, Generator().manual_seed(0))
    assert torch.equal(found.decode(again).mean, law.mean)
    first, second, other = (found.sample(5, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", DLGMMS)
def test_a_mixture_encodes_draws_decodes_and_samples(tmp_path, name):
    found = trained(name, tmp_path / "run")
    assert isinstance(found, TrainedDLGMM)
    images = some_images(found.config)
    points = found.draw(found.encode(images), 3, Generator().manual_seed(0))
    assert points.shape == (3, 5, 2)
    for means in (found.decode(points).mean[0], found.reconstruct(images), found.sample(5)):
        assert means.shape == (5, *found.config.image_shape)
        assert ((means >= 0) & (means <= 1)).all()
    first, second = (found.sample(5, Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)


def test_an_image_is_completed_without_a_look_at_its_lower_half(tmp_path):
    found = trained("sop-igr", tmp_path / "run")
    assert isinstance(found, TrainedSOP)
    images = some_images(found.config)
    completed = found.complete(images, Generator().manual_seed(0)).mean
    assert torch.equal(completed[..., :4, :], found.prepare(images)[..., :4, :])
    images[..., 4:, :] = 0
    assert torch.equal(found.complete(images, Generator().manual_seed(0)).mean, completed)


def shares(points: Tensor, loc: Tensor) -> Tensor:
    """How often each component of means :math:`(K, D)` is the nearest to points :math:`(S, D)`."""
    nearest = Counter(torch.cdist(points, loc).argmin(-1).tolist())
    return torch.tensor([nearest[k] / len(points) for k in range(len(loc))])


def check_shares(model: DLGMM, found: Tensor, log_weights: Tensor, count: int) -> None:
    expected = log_weights.exp().mean(0)
    z = (found - expected) / (2 * expected * (1 - expected) / count).sqrt()
    assert z.abs().max() < 5


@pytest.mark.parametrize("name", ["dlgmm", "dlgmm-igr"])
@torch.no_grad()
def test_components_are_drawn_by_their_weights(tmp_path, name):
    model, count = write_run_of(DLGMMS[name], tmp_path / "run"), 4_000
    assert isinstance(model, DLGMM)
    generator = Generator().manual_seed(0)
    # So far apart that a point tells its component.
    model.prior_loc.mul_(100)
    noise = model.sticks.draw_noise((count,), generator, model.prior_loc)
    prior = model.sticks(torch.zeros(model.sticks.num_outputs), 0.5)
    found = shares(model.draw_prior(count, 0.5, generator), model.prior_loc)
    check_shares(model, found, prior.log_weights(noise), count)

    posterior = model.encode(torch.ones(2, 1, 8, 8), 0.5)
    noise = model.sticks.draw_noise((count, 2), generator, model.prior_loc)
    log_weights = posterior.sticks.log_weights(noise)
    points = model.draw_points(posterior, count, generator)
    for image in range(2):
        found = shares(points[:, image], posterior.loc[image])
        check_shares(model, found, log_weights[:, image], count)
    # And around it as its scale says.
    own = torch.cdist(points[:, 0], posterior.loc[0]).argmin(-1)
    noise = (points[:, 0] - posterior.loc[0, own]) / posterior.scale[0, own]
    assert abs(noise.mean().item()) < 5 / math.sqrt(2 * count)
    assert abs(noise.square().mean().item() - 1) < 5 * math.sqrt(2 / (2 * count))


def test_images_come_as_bytes_or_as_floats(tmp_path):
    found = trained("igr", tmp_path / "run")
    images = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    x = found.prepare(images)
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [0.0, 1.0]
    assert torch.equal(found.prepare(images / 255), x)
    assert torch.equal(found.prepare(x), x)
    assert torch.equal(found.prepare(x.double()), x)
    grey = trained("gumbel-softmax", tmp_path / "grey")
    assert torch.equal(grey.prepare(images), images / 255)
    assert torch.equal(grey.prepare(images / 255), images / 255)


def test_it_is_shown_in_a_line(tmp_path):
    shown = "TrainedVAE(digits-dense-igr-discrete-t0.4-s0, epoch=2, device=cpu)"
    assert repr(trained("igr", tmp_path / "run")) == shown


def test_images_are_resized_where_they_were_in_training(tmp_path):
    found = trained("jointvae", tmp_path / "run")
    assert found.prepare(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 1, 32, 32)
    with pytest.raises(UserError, match=r"expected images of shape \(N, 1, 32, 32\); got \(2, 1, 8, 8\)"):
        found.prepare(torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            torch.zeros(8, 8),
            r"expected images of shape \(N, 1, 8, 8\); got \(8, 8\); give images like those of",
        ),
        (torch.zeros(2, 1, 28, 28), r"got \(2, 1, 28, 28\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), "uint8 or of floats; got torch.int64"),
        (torch.full((2, 1, 8, 8), 255.0), "expected floats from 0 to 1; got some from 255 to 255; divide"),
        (torch.full((2, 1, 8, 8), math.nan), "expected floats from 0 to 1; got some from nan to nan"),
    ],
)
def test_other_images_are_refused(tmp_path, images, sentence):
    found = trained("igr", tmp_path / "run")
    with pytest.raises(UserError, match=sentence):
        found.encode(images)


def test_gradients_reach_images_and_parameters(tmp_path):
    write_run_of(vae(likelihood="normal"), tmp_path / "run")
    found = from_pretrained(tmp_path / "run")
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    found.encode(images).discrete().entropy().sum().backward()
    assert images.grad.abs().sum() > 0
    assert found.model.encoder[1].weight.grad.abs().sum() > 0
