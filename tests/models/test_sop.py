"""Structured output prediction against enumeration of all units, and the promises of a pure model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from cases import generator, tracing, z_score
from igr.models.pictures import completions
from igr.models.sop import BINARY_LATENTS, NETWORKS, log_mean_exp
from sop_problems import HALF, exact_bound, exact_log_likelihood, images, model_of

KINDS = [
    ("gumbel-softmax", {}),
    ("igr", {}),
    ("igr", {"scale": "free"}),
    ("igr-planar", {}),
]
each_kind = pytest.mark.parametrize(
    ("latent", "options"), KINDS, ids=["gumbel-softmax", "igr", "igr-free", "igr-planar"]
)
each_network = pytest.mark.parametrize("network", NETWORKS)


@each_kind
@each_network
def test_the_multi_sample_bound_rises_to_the_exact_log_likelihood(latent, options, network):
    model = model_of(latent, network, **options)
    x, temperature = images(), 0.7
    exact = exact_log_likelihood(model, x, temperature)
    with torch.no_grad():
        noise = model.draw_noise((64 * 2000, len(x)), generator("bounds"))
        log_p = model.log_likelihood(x, noise, temperature, "hard")
    # The mean of p itself is unbiased: it is a sample from the very model that was enumerated.
    assert z_score(log_p.exp(), exact.exp()).abs().max() < 5
    # The bound is in the mean what enumeration says: rising, and below the exact one.
    expected = [exact_bound(model, x, temperature, count) for count in (1, 2, 3)]
    for looser, tighter in itertools.pairwise([*expected, exact]):
        assert (looser < tighter).all()
    for count, mean in zip((1, 2, 3), expected, strict=True):
        bounds = log_mean_exp(log_p[: len(log_p) // count * count].reshape(count, -1, len(x)))
        assert z_score(bounds, mean).abs().max() < 5
    gap, error = exact - expected[0], torch.zeros_like(exact)
    for count in (4, 16, 64):
        bounds = log_mean_exp(log_p.reshape(count, -1, len(x)))
        tighter, other = exact - bounds.mean(0), bounds.std(0) / math.sqrt(len(bounds))
        assert (tighter > -5 * other).all()
        assert (tighter < gap + 5 * torch.hypot(error, other)).all()
        gap, error = tighter, other


@each_kind
def test_hard_units_follow_the_exact_law_of_their_layer(latent, options):
    model = model_of(latent, **options)
    known, _ = model.split(images())
    noise = model.draw_noise((20_000, len(known)), generator("units"))
    law = model.latents[0](model.layers[0](2.0 * known.flatten(-3) - 1.0), 0.5)
    share, p = law.vertex(noise[..., 0, :]).mean(0), law.discrete().probs[..., 0]
    assert ((share - p).abs() < 5 * torch.sqrt(p * (1 - p) / len(noise)) + 1 / len(noise)).all()


@each_kind
def test_forms_of_units(latent, options):
    model = model_of(latent, **options)
    known, _ = model.split(images())
    noise = model.draw_noise((5, len(known)), generator("forms"))
    relaxed, hard, through = (
        model.units(known, noise, 0.7, form) for form in ("relaxed", "hard", "straight-through")
    )
    assert (relaxed.abs() < 1).all()
    assert (hard.abs() == 1).all()
    assert torch.equal(through, hard)
    # What is hard passes nothing on to the layers of units before it.
    assert not hard.requires_grad


@each_kind
@each_network
def test_gradients_of_straight_through_are_those_of_relaxed_units_at_hard_ones(latent, options, network):
    model = model_of(latent, network, straight_through=True, **options)
    x = images()
    noise = model.draw_noise((4, len(x)), generator("gradients"))
    found = torch.autograd.grad(model(x, noise, 0.7).loss, list(model.parameters()))
    # By hand: every unit is hard + relaxed - relaxed.detach().
    known, wanted = model.split(x)
    h = 2.0 * known.flatten(-3) - 1.0
    for index in range(model.num_layers):
        z = model.latents[index](model.layers[index](h), 0.7).rsample(noise=noise[..., index, :])
        h = 2.0 * ((z >= 0.5).to(z) + z - z.detach()) - 1.0
    loss = -log_mean_exp(model.pixels(h).log_prob(wanted)).mean()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@each_kind
def test_the_temperature_has_a_part_in_every_law(latent, options):
    """The original ignores it for IGR."""
    model = model_of(latent, **options)
    known, _ = model.split(images())
    noise = model.draw_noise((3, len(known)), generator("temperature"))
    cold, warm = (model.units(known, noise, temperature) for temperature in (0.1, 2.0))
    assert (cold.abs().mean() > warm.abs().mean() + 0.1).item()
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(model.units(known, noise, slope).square().sum(), slope)
    assert found < 0


@pytest.mark.parametrize("height", [4, 5])
def test_the_middle_row_is_known_where_there_is_one(height):
    model = model_of()
    x = torch.arange(height * 3.0).reshape(1, 1, height, 3)
    known, wanted = model.split(x)
    assert known.shape[-2] == height - 2
    assert torch.equal(torch.cat([known, wanted], dim=-2), x)


@pytest.mark.parametrize("latent", BINARY_LATENTS)
def test_replicas_are_stacked(latent):
    """Weights, noise and temperature of several models at once: the model is pure."""
    model = model_of(latent)
    x = images(3)
    noise = torch.stack([model.draw_noise((2, 3), generator(f"replica {i}")) for i in range(2)])
    temperatures = torch.tensor([0.3, 0.9], dtype=torch.float64)
    states = {name: torch.stack([p, 0.5 * p]) for name, p in model.named_parameters()}

    def loss(state, noise, temperature):
        return torch.func.functional_call(model, state, (x, noise, temperature)).loss

    stacked = torch.func.vmap(torch.func.grad_and_value(loss))(states, noise, temperatures)
    for index in range(2):
        state = {name: p[index] for name, p in states.items()}
        gradients, value = torch.func.grad_and_value(loss)(state, noise[index], temperatures[index])
        torch.testing.assert_close(stacked[1][index], value)
        for name, gradient in gradients.items():
            torch.testing.assert_close(stacked[0][name][index], gradient)


@tracing
@pytest.mark.parametrize("straight_through", [False, True])
def test_compile_in_one_graph(straight_through):
    model = model_of(straight_through=straight_through)
    x = images(3)
    noise = model.draw_noise((2, 3), generator("compile"))
    torch.compiler.reset()
    compiled = torch.compile(lambda x, e: model(x, e, 0.5).loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(model(x, noise, 0.5).loss, list(model.parameters()))
    for one, other in zip(
        torch.autograd.grad(compiled(x, noise), list(model.parameters())), expected, strict=True
    ):
        torch.testing.assert_close(one, other)


def test_networks_have_the_layers_of_their_names():
    counts = {
        name: (len(model_of(network=name).latents), len(list(model_of(network=name).layers[0])))
        for name in NETWORKS
    }
    assert counts == {"double_linear": (2, 1), "triple_linear": (3, 1), "nonlinear": (2, 3)}
    model = model_of(network="nonlinear")
    assert [type(part).__name__ for part in model.layers[-1]] == ["Linear", "Tanh", "Linear"]


@pytest.mark.parametrize("latent", BINARY_LATENTS)
def test_completions_keep_what_is_known_and_are_of_hard_units(latent):
    model = model_of(latent)
    x = images(3)
    found = completions(model, x, 0.7, generator("completions"))
    noise = model.draw_noise((100, 3), generator("completions"))
    known, _ = model.split(x)
    halves = torch.sigmoid(model.layers[-1](model.units(known, noise, 0.7, "hard"))).unflatten(-1, HALF)
    assert len(found.samples) == 4
    for number, sample in enumerate(found.samples):
        torch.testing.assert_close(sample, torch.cat([known, halves[number].detach()], dim=-2))
    torch.testing.assert_close(found.mean, torch.cat([known, halves.mean(0).detach()], dim=-2))
