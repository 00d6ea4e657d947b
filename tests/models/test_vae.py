"""The VAE is the objective it says, and pure enough to be stacked."""

import copy
import itertools

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from igr.models.latents import (
    DiscreteLatent,
    GaussianLatent,
    GumbelSoftmaxLatent,
    InvertibleGaussianLatent,
    JointLatent,
    Latent,
    LogStickBreakingLatent,
    PlanarLatent,
    StickBreakingLatent,
)
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS, Sizes
from igr.models.vae import VAE

IMAGE_SHAPE = (1, 1, 5)
V, K = 2, 3


def tiny_vae(latent: Latent, kl: str, seed: int = 0, network: str = "dense") -> VAE:
    sizes = Sizes(IMAGE_SHAPE, latent.num_outputs, latent.num_features, 1)
    networks = NETWORKS[network].build(sizes, torch.Generator().manual_seed(seed))
    return VAE(networks, latent, LIKELIHOODS["bernoulli"], kl).double()


def images(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.bernoulli(torch.full((count, *IMAGE_SHAPE), 0.5), generator=generator).double()


STICKS = {"loc": torch.tensor([-0.5, 0.2]), "scale": torch.tensor([0.8, 1.2])}


def planar(**settings: object) -> PlanarLatent:
    return PlanarLatent(V, K, flow_layers=2, generator=torch.Generator().manual_seed(4), **settings)


LATENTS = {
    "igr fixed": lambda: InvertibleGaussianLatent(V, K),
    "igr free": lambda: InvertibleGaussianLatent(V, K, scale="free"),
    "igr-sb": lambda: StickBreakingLatent(V, K, STICKS),
    "igr-sb-log": lambda: LogStickBreakingLatent(V, K, STICKS, scale="free"),
    "gumbel-softmax": lambda: GumbelSoftmaxLatent(V, K),
    "gumbel-softmax landing": lambda: GumbelSoftmaxLatent(V, K, stick_the_landing=True),
    "igr-planar": lambda: planar(prior_temperature=0.9),
    "igr-planar landing": lambda: planar(stick_the_landing=True),
    "gaussian": lambda: GaussianLatent(3),
    "joint": lambda: JointLatent(InvertibleGaussianLatent(V, K, scale="free"), GaussianLatent(3)),
    "joint planar": lambda: JointLatent(planar(), GaussianLatent(1)),
}
EXACT = ["igr fixed", "igr free", "igr-sb", "igr-sb-log", "gumbel-softmax"]


@pytest.fixture(params=LATENTS.values(), ids=LATENTS.keys())
def latent(request) -> Latent:
    return request.param()


@pytest.fixture(params=EXACT)
def exact_latent(request) -> DiscreteLatent:
    return LATENTS[request.param]()


def kls_of(latent: Latent) -> tuple[str, ...]:
    return ("relaxed",) if latent.discrete is None else latent.discrete.kls


def enumerated(model: VAE, x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """E_q(d|x) log p(x|d) and KL(q(d|x) || p(d)), by summing over all K^V latents."""
    q = model.encode(x, temperature).discrete().probs
    p = model.latent.discrete_prior().probs
    expectation = torch.zeros(len(x), dtype=x.dtype)
    kl = torch.zeros_like(expectation)
    for categories in itertools.product(range(K), repeat=V):
        d = torch.nn.functional.one_hot(torch.tensor(categories), K).to(x)
        logits = model.decoder(d.flatten()).flatten(-4)
        flat = x.flatten(1)
        log_p = (flat * logits - torch.nn.functional.softplus(logits)).sum(-1)
        weight = torch.stack([q[:, v, k] for v, k in enumerate(categories)]).prod(0)
        expectation += weight * log_p
        of_prior = torch.stack([p[v, k] for v, k in enumerate(categories)]).prod(0)
        kl += torch.special.xlogy(weight, weight) - torch.special.xlogy(weight, of_prior)
    return expectation, kl


def test_near_temperature_zero_the_terms_are_those_of_the_discrete_model(exact_latent):
    latent, model = exact_latent, tiny_vae(exact_latent, "discrete")
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
    if kl not in kls_of(latent):
        pytest.skip("no exact law is known")
    model = tiny_vae(latent, kl)
    x = images()
    noise = latent.draw_noise((3, len(x)), torch.Generator().manual_seed(2))
    terms = model(x, noise, 0.5, kl_weight=0.25)
    assert terms.log_likelihood.shape == terms.kl.shape == (3, len(x))
    assert torch.allclose(terms.loss, (0.25 * terms.kl - terms.log_likelihood).mean())


def test_the_kls_differ_as_their_names_say(exact_latent):
    latent, x = exact_latent, images()
    noise = latent.draw_noise((3, len(x)), torch.Generator().manual_seed(2))
    relaxed, discrete = (tiny_vae(latent, kl)(x, noise, 0.5) for kl in ("relaxed", "discrete"))
    torch.testing.assert_close(relaxed.log_likelihood, discrete.log_likelihood)
    # The largest coordinate is a function of the point, so its laws are closer.
    assert (relaxed.kl.mean(0) > discrete.kl.mean(0)).all()


def test_the_log_likelihood_is_that_of_the_pixels(exact_latent):
    model = tiny_vae(exact_latent, "discrete")
    x = images()
    z = torch.softmax(torch.linspace(-1, 1, 4 * V * K).reshape(4, V, K).double(), -1)
    logits = model.decoder(z.flatten(-2)).squeeze(-4)
    by_hand = (x * logits.sigmoid().log() + (1 - x) * (-logits).sigmoid().log()).sum((1, 2, 3))
    assert torch.allclose(model.decode(z).log_prob(x), by_hand)
    assert model.decode(z).event_shape == IMAGE_SHAPE


@pytest.mark.parametrize("kl", ["relaxed", "discrete"])
def test_replicas_stacked_by_vmap_equal_single_models(latent, kl):
    if kl not in kls_of(latent):
        pytest.skip("no exact law is known")
    models = [tiny_vae(copy.deepcopy(latent), kl, seed, network="dense_nonlinear") for seed in (0, 1)]
    with torch.no_grad():
        # Flows of their own.
        for parameter in models[1].latent.parameters():
            parameter += 0.3
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


def test_with_straight_through_the_decoder_meets_vertices(exact_latent):
    model = tiny_vae(exact_latent, "discrete")
    model.straight_through = True
    x = images()
    noise = exact_latent.draw_noise((3, len(x)), torch.Generator().manual_seed(2))
    terms = model(x, noise, 0.5)
    vertices = model.encode(x, 0.5).rsample(noise=noise).argmax(-1)
    expected = model.decode(torch.nn.functional.one_hot(vertices, K).double()).log_prob(x)
    torch.testing.assert_close(terms.log_likelihood, expected)
    terms.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_parts_have_a_number_for_each_sample_of_each_image():
    model = tiny_vae(LATENTS["joint planar"](), "relaxed")
    x = images()
    noise = model.latent.draw_noise((3, len(x)), torch.Generator().manual_seed(2))
    terms = model(x, noise, 0.5)
    assert tuple(terms.parts) == model.latent.part_names
    # One is sampled, the other in closed form and the same for all samples.
    assert all(part.shape == (3, len(x)) for part in terms.parts.values())
    torch.testing.assert_close(terms.parts["kl_discrete"] + terms.parts["kl_continuous"], terms.kl)
    assert terms.parts["kl_continuous"].var(0).max() == 0
    assert terms.parts["kl_discrete"].var(0).min() > 0
