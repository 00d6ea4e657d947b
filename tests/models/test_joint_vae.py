"""The JointVAE is held to its capacities as the paper says, and otherwise a VAE."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call, grad, stack_module_state, vmap

from igr.models.joint_vae import Capacity, JointVAE
from igr.models.latents import GaussianLatent, GumbelSoftmaxLatent, InvertibleGaussianLatent, JointLatent
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS, Sizes
from igr.models.vae import VAE

IMAGE_SHAPE = (1, 2, 3)
V, K, D = 2, 3, 2
GAMMA = 7.0
LATENTS = {
    "igr": lambda: InvertibleGaussianLatent(V, K, scale="free"),
    "gumbel-softmax": lambda: GumbelSoftmaxLatent(V, K),
}
each_latent = pytest.mark.parametrize("name", LATENTS)


def joint_vae(name: str, kl: str = "relaxed", seed: int = 0, **settings: object) -> JointVAE:
    latent = JointLatent(LATENTS[name](), GaussianLatent(D))
    sizes = Sizes(IMAGE_SHAPE, latent.num_outputs, latent.num_features, 1)
    networks = NETWORKS["dense"].build(sizes, torch.Generator().manual_seed(seed))
    return JointVAE(networks, latent, LIKELIHOODS["bernoulli"], GAMMA, kl, **settings).double()


def images(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.bernoulli(torch.full((count, *IMAGE_SHAPE), 0.5), generator=generator).double()


def noise_of(model: VAE, count: int = 5) -> Tensor:
    return model.latent.draw_noise((3, count), torch.Generator().manual_seed(2))


def test_a_capacity_rises_linearly_and_stays():
    capacity = Capacity(1.0, 5.0, 8)
    assert [capacity.at(step) for step in (0, 2, 4, 7, 8, 9, 10**9)] == [1.0, 2.0, 3.0, 4.5, 5.0, 5.0, 5.0]
    assert [Capacity(0.0, 5.0, 1).at(step) for step in (0, 1, 2)] == [0.0, 5.0, 5.0]
    assert [Capacity(3.0, 3.0, 10).at(step) for step in (0, 5, 20)] == [3.0, 3.0, 3.0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        capacity.upper = 6.0


@each_latent
@pytest.mark.parametrize("kl", ["relaxed", "discrete"])
@pytest.mark.parametrize("capacities", [(0.0, 0.0), (0.1, 0.2), (50.0, 40.0)])
def test_the_loss_is_that_of_the_paper(name, kl, capacities):
    model = joint_vae(name, kl)
    x, noise = images(), noise_of(model)
    of_c, of_d = capacities
    terms = model(x, noise, 0.5, 0.25, continuous_capacity=of_c, discrete_capacity=of_d)

    # The parts, apart from the model's own way to them.
    encoded = model.encoder(x)
    discrete = model.latent.discrete
    flat, own = noise[..., :-D].unflatten(-1, (V, -1)), noise[..., -D:]
    posterior = discrete(encoded[:, : -2 * D], 0.5)
    normal = Normal(encoded[:, -2 * D : -D], encoded[:, -D:].exp())
    kl_c = kl_divergence(normal, Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())).sum(-1)
    if kl == "relaxed":
        z, kl_d = discrete.relaxed(posterior, flat, 0.5)
    else:
        z = posterior.rsample(noise=flat)
        kl_d = kl_divergence(posterior.discrete(), discrete.discrete_prior()).sum(-1)
    features = torch.cat([z.flatten(-2), normal.mean + normal.stddev * own], -1)
    log_p = LIKELIHOODS["bernoulli"].law(model.decoder(features)).log_prob(x)
    gaps = (kl_c.mean() - of_c).abs() + (kl_d.mean() - of_d).abs()
    torch.testing.assert_close(terms.loss, -log_p.mean() + 0.25 * GAMMA * gaps)
    torch.testing.assert_close(terms.log_likelihood, log_p)
    # What is reported is the KL itself, whatever the capacities.
    torch.testing.assert_close(terms.kl, (kl_c + kl_d).expand_as(log_p))


@each_latent
def test_without_capacities_and_weight_one_its_terms_are_those_of_a_vae(name):
    model = joint_vae(name)
    x, noise = images(), noise_of(model)
    plain = VAE.forward(model, x, noise, 0.5)
    terms = model(x, noise, 0.5)
    for key in ("log_likelihood", "kl"):
        assert torch.equal(getattr(terms, key), getattr(plain, key))
    # All KLs are above zero on average here, so that the distance from no capacity is the KL.
    torch.testing.assert_close(terms.loss, (GAMMA * plain.kl - plain.log_likelihood).mean())


@pytest.mark.parametrize(("capacity", "sign"), [(0.0, 1.0), (100.0, -1.0)])
def test_a_part_is_drawn_to_its_capacity_from_either_side(capacity, sign):
    model = joint_vae("igr")
    x, noise = images(), noise_of(model)

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, model.encoder[1].weight, retain_graph=True)[0]

    terms = model(x, noise, 0.5, continuous_capacity=capacity, discrete_capacity=capacity)
    expected = gradient(-terms.log_likelihood.mean()) + sign * GAMMA * gradient(terms.kl.mean())
    torch.testing.assert_close(gradient(terms.loss), expected)


@each_latent
def test_replicas_with_capacities_of_their_own_are_stacked_by_vmap(name):
    models = [joint_vae(name, seed=seed) for seed in (0, 1)]
    parameters, buffers = stack_module_state(models)
    x = images(6).unflatten(0, (2, 3))
    noise = torch.stack([noise_of(model, 3) for model in models])
    numbers = torch.tensor([[0.3, 0.8], [1.0, 0.5], [0.2, 3.0], [9.0, 0.1]], dtype=torch.float64)

    def loss(parameters, buffers, *inputs):
        return functional_call(models[0], (parameters, buffers), inputs).loss

    stacked = vmap(loss)(parameters, buffers, x, noise, *numbers)
    gradients = vmap(grad(loss))(parameters, buffers, x, noise, *numbers)
    for r, model in enumerate(models):
        single = model(x[r], noise[r], *numbers[:, r]).loss
        torch.testing.assert_close(stacked[r], single, rtol=1e-12, atol=0)
        single.backward()
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[key][r], parameter.grad, rtol=1e-9, atol=1e-12)
