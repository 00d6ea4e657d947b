"""Pictures show the discrete model: what comes out can be read back as one-hot latents."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from igr.models.latents import GaussianLatent, GumbelSoftmaxLatent, JointLatent
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import Networks
from igr.models.pictures import hard_reconstructions, prior_samples, traversals
from igr.models.vae import VAE

V, K = 4, 3


@pytest.fixture
def transparent() -> VAE:
    """Logits of the posterior are the image, and the decoded image is the latent."""
    latent = GumbelSoftmaxLatent(V, K)
    decoder = nn.Sequential(nn.Linear(V * K, V * K), nn.Unflatten(-1, (1, 1, V, K)))
    with torch.no_grad():
        decoder[0].weight.copy_(60 * torch.eye(V * K))
        decoder[0].bias.fill_(-30.0)
    encoder = nn.Flatten(-3)
    return VAE(Networks(encoder, decoder), latent, LIKELIHOODS["bernoulli"]).eval()


def test_reconstructions_take_the_most_probable_category(transparent: VAE) -> None:
    images = torch.rand(20, 1, V, K, generator=torch.Generator().manual_seed(0))
    decoded = hard_reconstructions(transparent, images, 0.5)
    expected = nn.functional.one_hot(images.argmax(-1), K).float()
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-6)


def test_prior_samples_are_uniform_one_hot_latents(transparent: VAE) -> None:
    count = 3000

    def samples(seed: int) -> Tensor:
        return prior_samples(transparent, count, torch.Generator().manual_seed(seed))

    drawn = samples(1)
    torch.testing.assert_close(drawn.sum(-1), torch.ones(count, 1, V), rtol=0, atol=1e-6)
    z = (drawn.mean(0) - 1 / K) / math.sqrt((1 / K) * (1 - 1 / K) / count)
    assert z.abs().max() < 5
    # Variables and images are drawn apart.
    pairs = (drawn[:, 0, :-1] * drawn[:, 0, 1:]).sum(-1).mean(0)
    assert ((pairs - 1 / K).abs() < 5 * math.sqrt(2 / 9 / count)).all()
    torch.testing.assert_close(samples(1), drawn, rtol=0, atol=0)
    assert not torch.equal(samples(2), drawn)


D = 2


@pytest.fixture
def joint() -> VAE:
    """The encoder's outputs are those of the image, and the decoded image is what the decoder was given."""
    latent = JointLatent(GumbelSoftmaxLatent(V, K), GaussianLatent(D))
    size = V * K + D
    decoder = nn.Sequential(nn.Linear(size, size), nn.Unflatten(-1, (1, 1, 1, size)))
    with torch.no_grad():
        decoder[0].weight.copy_(torch.eye(size))
        decoder[0].bias.zero_()
    return VAE(Networks(nn.Flatten(-3), decoder), latent, LIKELIHOODS["bernoulli"]).eval()


def given_to_the_decoder(row: Tensor) -> tuple[Tensor, Tensor]:
    numbers = row.logit().flatten(1)
    return numbers[:, : V * K].unflatten(-1, (V, K)), numbers[:, V * K :]


def test_traversals_move_one_variable_and_hold_the_others(joint: VAE) -> None:
    image = torch.randn(1, 1, 1, V * K + 2 * D, generator=torch.Generator().manual_seed(0))
    logits, means = image[0, 0, 0, : V * K].view(V, K), image[0, 0, 0, V * K : V * K + D]
    categories = nn.functional.one_hot(logits.argmax(-1), K).float()
    steps = 5
    rows = traversals(joint, image, 0.5, steps)
    assert len(rows) == D + V
    levels = [NormalDist().inv_cdf(q) for q in (0.05, 0.275, 0.5, 0.725, 0.95)]
    for moved, row in enumerate(rows[:D]):
        d, c = given_to_the_decoder(row)
        torch.testing.assert_close(d, categories.expand(steps, V, K), rtol=0, atol=1e-5)
        expected = means.repeat(steps, 1)
        expected[:, moved] = torch.tensor(levels)
        torch.testing.assert_close(c, expected, rtol=0, atol=1e-5)
    for moved, row in enumerate(rows[D:]):
        d, c = given_to_the_decoder(row)
        assert len(d) == K
        torch.testing.assert_close(c, means.expand(K, D), rtol=0, atol=1e-5)
        expected = categories.repeat(K, 1, 1)
        expected[:, moved] = torch.eye(K)
        torch.testing.assert_close(d, expected, rtol=0, atol=1e-5)
    assert [len(row) for row in traversals(joint, image, 0.5, 2)] == [2] * (D + V)


def test_reconstructions_of_both_parts_take_categories_and_means(joint: VAE) -> None:
    images = torch.randn(6, 1, 1, V * K + 2 * D, generator=torch.Generator().manual_seed(0))
    d, c = given_to_the_decoder(hard_reconstructions(joint, images, 0.5))
    flat = images.flatten(1)
    expected = nn.functional.one_hot(flat[:, : V * K].view(-1, V, K).argmax(-1), K).float()
    torch.testing.assert_close(d, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(c, flat[:, V * K : V * K + D], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_a_latent_of_one_kind_has_rows_of_that_kind(kind: str) -> None:
    latent = GaussianLatent(D) if kind == "gaussian" else GumbelSoftmaxLatent(V, K)
    decoder = nn.Sequential(nn.Linear(latent.num_features, 4), nn.Unflatten(-1, (1, 1, 2, 2)))
    encoder = nn.Sequential(nn.Flatten(-3), nn.Linear(4, latent.num_outputs))
    model = VAE(Networks(encoder, decoder), latent, LIKELIHOODS["bernoulli"], "relaxed").eval()
    rows = traversals(model, torch.rand(1, 1, 2, 2), 0.5, 6)
    assert [len(row) for row in rows] == ([6] * D if kind == "gaussian" else [K] * V)
    assert hard_reconstructions(model, torch.rand(3, 1, 2, 2), 0.5).shape == (3, 1, 2, 2)
    assert prior_samples(model, 7, torch.Generator().manual_seed(0)).shape == (7, 1, 2, 2)
