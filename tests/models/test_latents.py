"""Every latent keeps the promises of the seam; those of IGR's pre-image besides."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from igr.models.latents import GumbelSoftmaxLatent, InvertibleGaussianLatent, Latent

V, K, B = 3, 4, 2

LATENTS = {
    "igr fixed": lambda: InvertibleGaussianLatent(V, K),
    "igr free": lambda: InvertibleGaussianLatent(V, K, scale="free"),
    "igr own prior temperature": lambda: InvertibleGaussianLatent(V, K, 0.9, scale="free"),
    "gumbel-softmax": lambda: GumbelSoftmaxLatent(V, K, 0.5),
}
TEMPERATURE = 0.6


@pytest.fixture(params=LATENTS.values(), ids=LATENTS.keys())
def latent(request) -> Latent:
    return request.param().double()


@pytest.fixture(params=[name for name in LATENTS if name.startswith("igr")])
def igr_latent(request) -> InvertibleGaussianLatent:
    return LATENTS[request.param]().double()


def outputs_of(latent: Latent, spread: float = 0.7) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return spread * torch.randn(B, latent.num_outputs, generator=generator, dtype=torch.float64)


def z_score(draws: Tensor, expected: Tensor | float) -> Tensor:
    """How many standard errors the mean over the first dimension is off."""
    return (draws.mean(0) - expected) / (draws.std(0) / math.sqrt(len(draws)))


def test_shapes_follow_from_the_numbers_of_variables_and_categories(latent):
    posterior = latent(outputs_of(latent), TEMPERATURE)
    assert posterior.batch_shape == (B, V)
    assert posterior.event_shape == (K,)
    noise = latent.draw_noise((7, B))
    assert noise.shape == posterior.draw_noise((7,)).shape
    assert posterior.rsample_log(noise=noise).shape == (7, B, V, K)
    assert latent.prior(TEMPERATURE).batch_shape == (V,)
    assert latent.discrete_prior().batch_shape == (V,)


def test_outputs_of_zero_are_the_uniform_law(latent):
    law = latent(torch.zeros(latent.num_outputs, dtype=torch.float64), TEMPERATURE)
    assert (law.discrete().probs - 1 / K).abs().max() < 1e-9
    assert latent.discrete_kl(law).abs() < 1e-9


def test_priors_are_uniform(latent):
    assert (latent.prior(TEMPERATURE).discrete().probs - 1 / K).abs().max() < 1e-9
    assert (latent.discrete_prior().probs - 1 / K).abs().max() < 1e-15


def test_the_noise_is_that_of_the_posterior(latent):
    def draw(source) -> Tensor:
        return source.draw_noise((6, B), generator=torch.Generator().manual_seed(2))

    assert torch.equal(draw(latent), draw(latent.prior(TEMPERATURE)))


def test_the_relaxed_kl_is_the_mean_of_the_log_ratio(latent):
    posterior = latent(outputs_of(latent), TEMPERATURE)
    prior = latent.prior(TEMPERATURE)
    noise = latent.draw_noise((40_000, B), generator=torch.Generator().manual_seed(3))
    log_z = posterior.rsample_log(noise=noise)
    ratio = (posterior.log_prob_of_log(log_z) - prior.log_prob_of_log(log_z)).sum(-1)
    kl = latent.relaxed_kl(posterior, log_z, TEMPERATURE)
    if kl.shape == (B,):
        assert z_score(ratio, kl).abs().max() < 5
    else:
        assert torch.allclose(kl, ratio)
    assert (ratio.mean(0) > 0).all()


def test_the_discrete_kl_is_that_of_the_exact_law(latent):
    posterior = latent(outputs_of(latent), TEMPERATURE)
    probs = posterior.discrete().probs
    by_hand = (probs * (probs * K).log()).sum((-2, -1))
    assert torch.allclose(latent.discrete_kl(posterior), by_hand, atol=1e-9)


def test_pre_image_points_are_the_largest_categories(igr_latent):
    posterior = igr_latent(outputs_of(igr_latent), TEMPERATURE)
    noise = igr_latent.draw_noise((500, B), generator=torch.Generator().manual_seed(4))
    d, _ = igr_latent.pre_image(posterior, noise)
    assert torch.equal(d.argmax(-1), posterior.rsample_log(noise=noise).argmax(-1))
    assert torch.equal(d.sum(-1), torch.ones_like(d[..., 0]))


def test_pre_image_weights_turn_the_posterior_into_the_uniform_prior(igr_latent):
    posterior = igr_latent(outputs_of(igr_latent, spread=0.3), TEMPERATURE)
    noise = igr_latent.draw_noise((200_000, B), generator=torch.Generator().manual_seed(6))
    d, log_weight = igr_latent.pre_image(posterior, noise)
    weight = log_weight.exp()
    assert z_score(weight, 1.0).abs().max() < 5
    share = weight[..., None, None] * d
    assert z_score(share, 1 / K).abs().max() < 5


def test_igr_is_told_no_delta():
    """Its outputs are offsets from the uniform law, so a delta would give the same model."""
    assert InvertibleGaussianLatent.options == {"scale"}
    posterior = InvertibleGaussianLatent(V, K)(torch.zeros(V * (K - 1)), TEMPERATURE)
    assert posterior.delta == 1.0


def test_only_gaussian_laws_have_a_pre_image():
    latent = GumbelSoftmaxLatent(V, K)
    assert not latent.has_pre_image
    posterior = latent(torch.zeros(V * K), TEMPERATURE)
    with pytest.raises(NotImplementedError, match="got GumbelSoftmaxLatent"):
        latent.pre_image(posterior, latent.draw_noise())


def test_a_latent_has_nothing_to_save(latent):
    assert latent.state_dict() == {}


def test_the_discrete_kl_is_that_of_the_laws_and_finite_where_a_category_is_never_taken(latent):
    outputs = outputs_of(latent)
    posterior = latent(outputs, TEMPERATURE)
    expected = kl_divergence(posterior.discrete(), latent.discrete_prior()).sum(-1)
    torch.testing.assert_close(latent.discrete_kl(posterior), expected)
    extreme = torch.zeros(1, latent.num_outputs, dtype=torch.float64)
    extreme.view(V, -1)[:, : K - 1] = -1e6
    extreme.requires_grad_()
    found = latent.discrete_kl(latent(extreme, TEMPERATURE))
    assert found.isfinite().all()
    (gradient,) = torch.autograd.grad(found.sum(), extreme)
    assert gradient.isfinite().all()


def test_laws_that_do_not_change_are_made_once_for_a_temperature_and_a_dtype(latent):
    first = latent.prior(0.7)
    assert latent.prior(0.7) is first
    if latent.prior_temperature is None:
        assert latent.prior(0.8) is not first
        assert latent.prior(torch.tensor(0.7, dtype=torch.float64)) is not first
    for temperature in torch.linspace(0.1, 1.0, 50).tolist():
        latent.prior(temperature)
    # An annealed temperature leaves nothing behind.
    assert len(latent._constant_laws) == 1
    first = latent.prior(0.7)
    with torch.inference_mode():
        assert latent.prior(0.7) is not first
    copied = copy.deepcopy(latent)
    assert copied.prior(0.7) is not first
    noise = latent.draw_noise((2,), torch.Generator().manual_seed(0))
    assert latent.float().prior(0.7).dtype == torch.float32
    assert latent.discrete_prior().logits.dtype == torch.float32
    assert latent.draw_noise((2,), torch.Generator().manual_seed(0)).dtype == torch.float32
    assert noise.dtype == torch.float64
