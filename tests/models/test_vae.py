"""The VAE is the objective it says, and pure enough to be stacked."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from igr.models.latents import GumbelSoftmaxLatent, InvertibleGaussianLatent, Latent
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS, Sizes
from igr.models.vae import VAE

IMAGE_SHAPE = (1, 1, 5)
V, K = 2, 3


def tiny_vae(latent: Latent, kl: str, seed: int = 0, network: str = "dense") -> VAE:
    sizes = Sizes(IMAGE_SHAPE, latent.num_outputs, V * K, 1)
    networks = NETWORKS[network](sizes, torch.Generator().manual_seed(seed))
    return VAE(networks, latent, LIKELIHOODS["bernoulli"], kl).double()


def images(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.bernoulli(torch.full((count, *IMAGE_SHAPE), 0.5), generator=generator).double()


LATENTS = {
    "igr fixed": lambda: InvertibleGaussianLatent(V, K),
    "igr free": lambda: InvertibleGaussianLatent(V, K, scale="free"),
    "gumbel-softmax": lambda: GumbelSoftmaxLatent(V, K),
}


@pytest.fixture(params=LATENTS.values(), ids=LATENTS.keys())
def latent(request) -> Latent:
    return request.param()


def enumerated(model: VAE, x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """E_q(d|x) log p(x|d) and KL(q(d|x) || p(d)), by summing over all K^V latents."""
    q = model.encode(x, temperature).discrete().probs
    expectation = torch.zeros(len(x), dtype=x.dtype)
    kl = torch.zeros_like(expectation)
    for categories in itertools.product(range(K), repeat=V):
        d = torch.nn.functional.one_hot(torch.tensor(categories), K).to(x)
        logits = model.decoder(d.flatten()).flatten(-4)
        flat = x.flatten(1)
        log_p = (flat * logits - torch.nn.functional.softplus(logits)).sum(-1)
        weight = torch.stack([q[:, v, k] for v, k in enumerate(categories)]).prod(0)
        expectation += weight * log_p
        kl += weight * (weight * K**V).log()
    return expectation, kl


def test_near_temperature_zero_the_terms_are_those_of_the_discrete_model(latent):
    model = tiny_vae(latent, "discrete")
    temperature = 1e-4
    x = images()
    expectation, kl = enumerated(model, x, temperature)
    with torch.no_grad():
        noise = latent.draw_noise((20_000, len(x)), torch.Generator().manual_seed(2))
        terms = model(x, noise, temperature)
    draws = terms.log_likelihood
    # Pixels are few, so near the vertices the relaxed log-likelihood is the discrete one to 1e-3.
    z = (draws.mean(0) - expectation) / (draws.std(0) / len(draws) ** 0.5)
    assert z.abs().max() < 5
    assert torch.allclose(terms.kl, kl.expand_as(terms.kl), atol=1e-8)


@pytest.mark.parametrize("kl", ["relaxed", "discrete"])
def test_the_loss_is_the_weighted_mean_of_its_terms(latent, kl):
    model = tiny_vae(latent, kl)
    x = images()
    noise = latent.draw_noise((3, len(x)), torch.Generator().manual_seed(2))
    terms = model(x, noise, 0.5, kl_weight=0.25)
    assert terms.log_likelihood.shape == terms.kl.shape == (3, len(x))
    assert torch.allclose(terms.loss, (0.25 * terms.kl - terms.log_likelihood).mean())


def test_the_kls_differ_as_their_names_say(latent):
    x = images()
    noise = latent.draw_noise((3, len(x)), torch.Generator().manual_seed(2))
    relaxed, discrete = (tiny_vae(latent, kl)(x, noise, 0.5) for kl in ("relaxed", "discrete"))
    torch.testing.assert_close(relaxed.log_likelihood, discrete.log_likelihood)
    # The largest coordinate is a function of the point, so its laws are closer.
    assert (relaxed.kl.mean(0) > discrete.kl.mean(0)).all()


def test_the_log_likelihood_is_that_of_the_pixels(latent):
    model = tiny_vae(latent, "discrete")
    x = images()
    z = torch.softmax(torch.linspace(-1, 1, 4 * V * K).reshape(4, V, K).double(), -1)
    logits = model.decoder(z.flatten(-2)).squeeze(-4)
    by_hand = (x * logits.sigmoid().log() + (1 - x) * (-logits).sigmoid().log()).sum((1, 2, 3))
    assert torch.allclose(model.decode(z).log_prob(x), by_hand)
    assert model.decode(z).event_shape == IMAGE_SHAPE


@pytest.mark.parametrize("kl", ["relaxed", "discrete"])
def test_replicas_stacked_by_vmap_equal_single_models(latent, kl):
    models = [tiny_vae(latent, kl, seed, network="dense_nonlinear") for seed in (0, 1)]
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]
    x = images(6).unflatten(0, (2, 3))
    noise = torch.stack([latent.draw_noise((2, 3), torch.Generator().manual_seed(seed)) for seed in (3, 4)])
    temperatures = torch.tensor([0.3, 0.8], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5], dtype=torch.float64)

    def loss(parameters, buffers, *inputs):
        return functional_call(models[0], (parameters, buffers), inputs).loss

    stacked = vmap(loss)(parameters, buffers, x, noise, temperatures, weights)
    gradients = vmap(grad(loss))(parameters, buffers, x, noise, temperatures, weights)
    for r, model in enumerate(models):
        single = model(x[r], noise[r], temperatures[r], weights[r]).loss
        assert torch.allclose(stacked[r], single, rtol=1e-12)
        single.backward()
        for name, parameter in model.named_parameters():
            assert torch.allclose(gradients[name][r], parameter.grad, rtol=1e-9, atol=1e-12), name


def test_a_pass_changes_nothing_and_draws_nothing(latent):
    model = tiny_vae(latent, "relaxed")
    x = images()
    noise = latent.draw_noise((2, len(x)), torch.Generator().manual_seed(2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    first = model(x, noise, 0.5)
    second = model(x, noise, 0.5)
    assert torch.equal(first.loss, second.loss)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
