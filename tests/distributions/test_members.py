"""Every member of the family at every size and temperature: finite, consistent, and right in float32."""

import pytest
import torch
from torch.distributions import kl_divergence

import igr
from cases import Sticks, generator

SIZES = [2, 3, 10, 100, 1000]
TEMPERATURES = [1e-3, 0.1, 1.0, 10.0]
MEMBERS = ["gs", "igr", "sb-length", "sb-log", "planar", "planar-flow"]
each = pytest.mark.parametrize
members = each("member", MEMBERS)
sizes = each("size", SIZES)
temperatures = each("temperature", TEMPERATURES)


def transform_of(member, size, dtype):
    if member.startswith("sb"):
        return Sticks(member.removeprefix("sb-"))
    if member.startswith("planar"):
        layers = 2 if member.endswith("flow") else 1
        flow = igr.PlanarFlow(size, layers, generator=generator(member), dtype=torch.float64)
        with torch.no_grad():
            for parameter in flow.parameters():
                source = generator(f"{member} {tuple(parameter.shape)}")
                shift = torch.randn(parameter.shape, dtype=torch.float64, generator=source)
                parameter.add_(shift, alpha=0.3 / size**0.5)
        return flow.to(dtype)
    return None


def parameters_of(member, size, dtype):
    source = generator(f"member {size}")
    if member == "gs":
        return {"logits": torch.randn(2, size, dtype=torch.float64, generator=source).to(dtype)}
    loc = torch.randn(2, size - 1, dtype=torch.float64, generator=source)
    scale = 0.5 + torch.rand(2, size - 1, dtype=torch.float64, generator=source)
    return {"loc": loc.to(dtype), "scale": scale.to(dtype)}


def law_of(member, size, temperature, dtype, **parameters):
    parameters = {**parameters_of(member, size, dtype), **parameters}
    if member == "gs":
        return igr.GumbelSoftmax(temperature, **parameters)
    return igr.InvertibleGaussian(
        parameters["loc"], parameters["scale"], temperature, transform_of(member, size, dtype)
    )


@members
@sizes
@temperatures
def test_float32_is_float64_rounded(member, size, temperature):
    """Points, their logarithms and their density, from the same numbers and the same noise."""
    single = law_of(member, size, temperature, torch.float32)
    stored = {name: value.double() for name, value in parameters_of(member, size, torch.float32).items()}
    double = law_of(member, size, temperature, torch.float64, **stored)
    noise = single.draw_noise((20,), generator=generator(0))
    log_z, exact = single.rsample_log(noise=noise), double.rsample_log(noise=noise.double())
    assert torch.isfinite(log_z).all()
    # Of t, which the temperature divides; that of the flow was rounded in its parameters too.
    largest = exact.abs().amax(-1, keepdim=True) + 1.0
    rounding = 2e-5 if member.startswith("planar") else 3e-6
    assert ((log_z - exact).abs() / largest).max() < rounding
    z, density = single.rsample_and_log_prob(noise=noise)
    assert (z >= 0).all()
    torch.testing.assert_close(z.sum(-1), torch.ones(20, 2), rtol=0, atol=2e-5)
    torch.testing.assert_close(z, log_z.exp(), rtol=1e-5, atol=1e-7)
    expected = double.rsample_and_log_prob(noise=noise.double())[1]
    scale = exact.abs().sum(-1) + expected.abs() + size
    assert ((density - expected).abs() / scale).max() < rounding


@members
@sizes
@temperatures
def test_every_gradient_is_finite(member, size, temperature):
    leaves = {
        name: value.requires_grad_() for name, value in parameters_of(member, size, torch.float32).items()
    }
    law = law_of(member, size, torch.tensor(temperature, requires_grad=True), torch.float32, **leaves)
    noise = law.draw_noise((5,), generator=generator(0))
    z, density = law.rsample_and_log_prob(noise=noise)
    total = z.square().sum() + density.sum() + law.rsample_log(noise=noise).sum()
    inputs = [*leaves.values(), law.temperature]
    if isinstance(getattr(law, "transform", None), torch.nn.Module):
        inputs += list(law.transform.parameters())
    for gradient in torch.autograd.grad(total, inputs):
        assert torch.isfinite(gradient).all()


@each(
    ("member", "size"),
    [(member, size) for member in MEMBERS for size in SIZES if member != "sb-length" or size <= 10],
)
@temperatures
def test_density_of_the_draw_is_that_of_its_logarithm(member, size, temperature):
    """In length space only as long as something remains of the stick that the lengths still show.

    Of 10 pieces that is about 1e-4, which the inverse divides the rounding of the lengths by, and the lengths
    were divided by the temperature.
    """
    law = law_of(member, size, temperature, torch.float64)
    noise = law.draw_noise((20,), generator=generator(0))
    density = law.rsample_and_log_prob(noise=noise)[1]
    found = law.log_prob_of_log(law.rsample_log(noise=noise))
    scale = law.rsample_log(noise=noise).abs().sum(-1) + 1.0
    rounding = size**2 * 64 * torch.finfo(torch.float64).eps
    if member == "sb-length":
        remaining = 1.0 - law.transform(law.pre_image(noise)).sum(-1)
        rounding = rounding * (1.0 + temperature) / remaining
    assert ((found - density).abs() / scale / rounding).max() < 1


@each("member", [member for member in MEMBERS if member != "gs"])  # which has no closed form
@sizes
def test_the_divergence_is_that_of_the_gaussians(member, size):
    p = law_of(member, size, 0.5, torch.float64)
    q = igr.InvertibleGaussian(p.loc + 0.1, p.scale * 1.1, 0.5, p.transform)
    normal = torch.distributions.Normal
    expected = kl_divergence(normal(p.loc, p.scale), normal(q.loc, q.scale)).sum(-1)
    torch.testing.assert_close(kl_divergence(p, q), expected)


@members
@each("size", [*SIZES[:-1], pytest.param(SIZES[-1], marks=pytest.mark.slow)])
def test_the_discrete_law_is_that_of_draws(member, size):
    """Exact where there is an exact law; for a planar map two estimates of each other."""
    law = law_of(member, size, 0.5, torch.float64)
    planar = member.startswith("planar")
    probs = (
        law.discrete("quasi_monte_carlo", num_samples=2**15, generator=generator(1)).probs
        if planar
        else law.discrete().probs
    )
    drawn = law.discrete("monte_carlo", num_samples=20_000, generator=generator(0)).probs
    # The distance that sampling alone makes: its mean is below sqrt(K / N), its spread below 1 / sqrt(N).
    distance = (probs - drawn).abs().sum(-1)
    assert distance.max() < (size / 20_000) ** 0.5 * (1.6 if planar else 1.0) + 5 / 20_000**0.5
    torch.testing.assert_close(probs.sum(-1), torch.ones(2, dtype=torch.float64))
