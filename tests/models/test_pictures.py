"""Pictures show the discrete model: what comes out can be read back as one-hot latents."""

import math

import pytest
import torch
from torch import Tensor, nn

from igr.models.latents import GumbelSoftmaxLatent
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import Networks
from igr.models.pictures import hard_reconstructions, prior_samples
from igr.models.vae import VAE

V, K = 4, 3


@pytest.fixture
def transparent() -> VAE:
    """Logits of the posterior are the image, and the decoded image is the latent."""
    latent = GumbelSoftmaxLatent(V, K, 0.5)
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
