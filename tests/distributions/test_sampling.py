"""Draws: pure given the noise, of the law that log_prob states, in the dtype of the parameters."""

import math

import numpy as np
import pytest
import torch

import igr
from cases import (
    NUMBERS,
    Sinh,
    available,
    chi_square,
    each,
    gaussian,
    generator,
    gumbel,
    has_exact_law,
    tensor,
    z_score,
)


@each()
def test_noise_and_generator_determine_the_draw(case):
    law = case.law()
    noise = law.draw_noise((4,), generator=generator(0))
    assert torch.equal(law.rsample(noise=noise), law.rsample(noise=noise.clone()))
    assert torch.equal(law.rsample((4,), generator=generator(0)), law.rsample(noise=noise))
    assert torch.equal(law.rsample_log((4,), generator=generator(0)), law.rsample_log(noise=noise))
    points, log_prob = law.rsample_and_log_prob((4,), generator=generator(0))
    expected_points, expected_log_prob = law.rsample_and_log_prob(noise=noise)
    assert torch.equal(points, expected_points)
    assert torch.equal(log_prob, expected_log_prob)
    other = law.rsample_log((4,), generator=generator(1))
    assert not torch.equal(other, law.rsample_log(noise=noise))


@each()
def test_shapes_put_samples_before_the_batch_and_categories_last(case):
    law = case.law()
    shape = (2, 5, *law.batch_shape, law.num_categories)
    noise = law.draw_noise((2, 5))
    assert noise.shape == (2, 5, *law.batch_shape, *law.noise_shape)
    points, log_prob = law.rsample_and_log_prob(noise=noise)
    assert points.shape == shape == law.rsample((2, 5)).shape == law.rsample_log((2, 5)).shape
    assert log_prob.shape == shape[:-1] == law.log_prob(points).shape
    assert law.discrete("monte_carlo").probs.shape == (*law.batch_shape, law.num_categories)


@each()
def test_points_lie_on_the_simplex_and_are_the_exponential_of_their_logarithm(case):
    law = case.law()
    noise = law.draw_noise((50,), generator=generator(0))
    z, log_z = law.rsample(noise=noise), law.rsample_log(noise=noise)
    assert (z >= 0).all()
    # log z may be of size 1e4 at low temperature; its rounding is that of z, relatively.
    torch.testing.assert_close(z.sum(-1), torch.ones(z.shape[:-1], dtype=torch.float64), rtol=1e-13, atol=0)
    torch.testing.assert_close(z, log_z.exp(), rtol=1e-11, atol=1e-300)
    torch.testing.assert_close(law.rsample_and_log_prob(noise=noise)[0], log_z.exp(), rtol=0, atol=0)


@each()
def test_sample_is_rsample_without_gradient(case):
    tensors = {name: value.requires_grad_() for name, value in case.tensors().items()}
    law = case.law(**tensors)
    noise = law.draw_noise((3,))
    assert law.rsample(noise=noise).requires_grad
    sample = law.sample(noise=noise)
    assert not sample.requires_grad
    assert torch.equal(sample, law.rsample(noise=noise))


@each(where=lambda case: case.law().batch_shape or "temperature" in case.parameters)
def test_a_batch_is_a_loop_over_its_laws(case):
    """With a float temperature for every element: so a tensor temperature, or delta, broadcasts."""
    law = case.law()
    noise = law.draw_noise((3,), generator=generator(0))
    z = law.rsample(noise=noise)
    log_z = law.rsample_log(noise=noise)
    _, log_prob = law.rsample_and_log_prob(noise=noise)
    for index, alone in case.elements():
        here = (slice(None), *index)
        torch.testing.assert_close(z[here], alone.rsample(noise=noise[here]), rtol=1e-11, atol=1e-300)
        own_log_prob = alone.rsample_and_log_prob(noise=noise[here])[1]
        torch.testing.assert_close(log_prob[here], own_log_prob, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(law.log_prob_of_log(log_z)[here], alone.log_prob_of_log(log_z[here]))
        if case.has_exact_law:
            exact = alone.discrete().log_probs
            torch.testing.assert_close(law.discrete().log_probs[index], exact, rtol=0, atol=1e-9)


@each()
def test_with_temperature_is_the_law_at_that_temperature(case):
    law, direct = case.law().with_temperature(0.37), case.law(temperature=0.37)
    noise = law.draw_noise((3,), generator=generator(0))
    assert law.temperature == 0.37
    torch.testing.assert_close(law.rsample_log(noise=noise), direct.rsample_log(noise=noise), rtol=0, atol=0)
    found, expected = (d.rsample_and_log_prob(noise=noise)[1] for d in (law, direct))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_with_temperature_keeps_what_makes_the_discrete_law_cheap():
    law = gaussian(3, scale=0.5, temperature=0.1).law()
    assert torch.equal(law.with_temperature(0.7).discrete().log_probs, law.discrete().log_probs)


def results(law, noise, log_value):
    """Every number that a law gives from noise, and at a point."""
    yield "rsample", law.rsample(noise=noise)
    yield "rsample_log", law.rsample_log(noise=noise)
    yield "log_prob of the draw", law.rsample_and_log_prob(noise=noise)[1]
    yield "log_prob_of_log", law.log_prob_of_log(log_value)
    if has_exact_law(law):
        yield "discrete", law.discrete().log_probs
    if isinstance(law, igr.InvertibleGaussian):
        yield "kl", torch.distributions.kl_divergence(law, law.with_temperature(law.temperature))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each()
def test_half_precision_is_float32_rounded_at_the_end(case, dtype):
    half = case.law(dtype)
    names = ("logits",) if case.is_gumbel else ("loc", "scale")
    stored = {name: getattr(half, name).float() for name in names}
    stored |= {name: value.to(dtype).float() for name, value in case.parameters.items() if name[0] in "uw"}
    if isinstance(case.settings.get("scale"), float):
        stored["scale"] = stored["scale"][..., :1]
    numbers = {name: case.parameters[name].to(dtype).float() for name in NUMBERS if name in case.parameters}
    single = case.constructor(**{**case.settings, **stored, **numbers})
    noise = half.draw_noise((6,), generator=generator(0))
    assert noise.dtype == torch.float32
    log_value = half.rsample_log(noise=noise)
    pairs = zip(*(results(law, noise, log_value) for law in (half, single)), strict=True)
    for (name, ours), (_, expected) in pairs:
        assert ours.dtype == dtype, name
        assert torch.equal(ours, expected.to(dtype)), name


# Goodness of fit between what is drawn and the density that is stated, in the log-ratios u = log(z_k / z_K),
# where dz_1 .. dz_(K-1) = z_1 .. z_K du.


def density_of_log_ratios(law, u):
    log_z = torch.log_softmax(torch.nn.functional.pad(u, (0, 1)), -1)
    return torch.exp(law.log_prob_of_log(log_z) + log_z.sum(-1))


def drawn_log_ratios(law, count=100_000):
    log_z = law.rsample_log((count,), generator=generator(0))
    return log_z[:, :-1] - log_z[:, -1:]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(gumbel(2, temperature=0.5), id="gs"),
        pytest.param(gumbel(2, temperature=3.0), id="gs-warm"),
        pytest.param(gaussian(2, temperature=0.5), id="igr"),
        pytest.param(gaussian(2, temperature=2.0, delta=0.1), id="igr-delta"),
        pytest.param(gaussian(2, scale=0.6, temperature=0.8, transform=Sinh()), id="igr-sinh"),
    ],
)
def test_draws_fit_the_density_with_two_categories(case):
    law = case.law()
    u = torch.linspace(-60.0, 60.0, 120_001, dtype=torch.float64)
    distribution = torch.cumulative_trapezoid(density_of_log_ratios(law, u.unsqueeze(-1)), u)
    ends = torch.searchsorted(distribution, torch.linspace(0.02, 0.98, 49, dtype=torch.float64))
    below = torch.cat([tensor(0.0), distribution[ends], tensor(1.0)])
    cells = torch.bucketize(drawn_log_ratios(law)[:, 0], u[ends + 1])
    counts = torch.bincount(cells, minlength=50)
    assert chi_square(counts, 100_000 * below.diff()) > 1e-6


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(gumbel(3, temperature=0.7), id="gs"),
        pytest.param(gaussian(3, temperature=0.7, delta=0.5), id="igr"),
    ],
)
def test_draws_fit_the_density_with_three_categories(case):
    """Cells of a six by six grid, each integrated by Gauss-Legendre, and what lies outside."""
    law = case.law()
    drawn = drawn_log_ratios(law).T.contiguous()
    quantiles = torch.linspace(0.02, 0.98, 7, dtype=torch.float64)
    edges = [torch.quantile(column[:5000], quantiles) for column in drawn]
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(24))
    half = [0.5 * e.diff().unsqueeze(-1) for e in edges]
    points = [e[:-1].unsqueeze(-1) + h * (1.0 + nodes) for e, h in zip(edges, half, strict=True)]
    grid = torch.stack(torch.meshgrid(*(p.flatten() for p in points), indexing="ij"), -1)
    density = density_of_log_ratios(law, grid).view(6, 24, 6, 24)
    inside = torch.einsum("iajb,ia,jb->ij", density, half[0] * weights, half[1] * weights).flatten()
    cells = [torch.bucketize(column, e) - 1 for column, e in zip(drawn, edges, strict=True)]
    counted = (cells[0] >= 0) & (cells[0] < 6) & (cells[1] >= 0) & (cells[1] < 6)
    counts = torch.bincount((6 * cells[0] + cells[1])[counted], minlength=36)
    counts = torch.cat([counts, (~counted).sum().view(1)])
    expected = torch.cat([inside, 1.0 - inside.sum().view(1)])
    assert chi_square(counts, drawn.shape[1] * expected) > 1e-6


def test_igr_k2_is_the_logit_normal():
    law = igr.InvertibleGaussian(tensor(0.4), tensor(0.8), temperature=0.5)
    base = torch.distributions.Normal(*tensor(0.8, 1.6))
    theirs = torch.distributions.TransformedDistribution(base, torch.distributions.SigmoidTransform())
    z = law.sample((200,), generator=generator(0))
    torch.testing.assert_close(law.log_prob(z), theirs.log_prob(z[:, 0]), rtol=1e-9, atol=1e-9)


def test_gumbel_softmax_draws_have_the_law_of_torchs():
    logits = tensor(0.5, -1.0, 1.5, 0.0)
    ours = igr.GumbelSoftmax(0.6, logits=logits).sample((50_000,), generator=generator(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.nn.functional.gumbel_softmax(logits.expand(50_000, 4), tau=0.6)
    for moment in (lambda z: z, lambda z: z**2, lambda z: z[:, :1] * z, lambda z: (z > 0.5).double()):
        a, b = moment(ours), moment(theirs)
        error = torch.sqrt((a.var(0) + b.var(0)) / 50_000)
        assert ((a.mean(0) - b.mean(0)) / error).abs().max() < 5


def test_moments_of_igr_log_ratios():
    """log(z_k / z_K) is normal with mean mu / tau - log delta and scale sigma / tau."""
    law = gaussian(4, temperature=0.3, delta=0.2).law()
    log_z = law.rsample_log((100_000,), generator=generator(0))
    ratios = log_z[:, :-1] - log_z[:, -1:]
    mean, scale = law.loc / 0.3 - math.log(0.2), law.scale / 0.3
    assert z_score(ratios, mean).abs().max() < 5
    assert z_score((ratios - mean) ** 2, scale**2).abs().max() < 5


@each()
def test_the_vertex_of_a_noise_is_the_nearest_one_to_its_point_and_has_no_gradient(case):
    law = case.law(**{name: value.requires_grad_() for name, value in case.tensors().items()})
    noise = law.draw_noise((200,), generator=generator(0))
    found, log_z = law.vertex(noise), law.rsample_log(noise=noise).detach()
    assert found.shape == (200, *law.batch_shape, law.num_categories)
    assert found.dtype == law.dtype
    assert not found.requires_grad
    assert torch.equal(found.sum(-1), torch.ones(found.shape[:-1], dtype=law.dtype))
    assert set(found.unique().tolist()) == {0.0, 1.0}
    # Entries that tie to rounding may go either way in the logarithms of the point.
    chosen = (found * available(law, log_z)).sum(-1)
    best = log_z.amax(-1)
    torch.testing.assert_close(chosen, best, rtol=1e-9, atol=1e-9)
    if law.mask is not None:
        assert not (found.bool() & law.mask).any()


@each()
def test_straight_through_is_the_vertex_with_the_gradient_of_the_point(case):
    tensors = {name: value.requires_grad_() for name, value in case.tensors().items()}
    law = case.law(**tensors)
    noise = law.draw_noise((5,), generator=generator(0))
    found = law.straight_through(noise)
    assert torch.equal(found, law.vertex(noise))
    weights = torch.randn(found.shape, dtype=law.dtype, generator=generator(1))
    slopes, expected = (
        torch.autograd.grad(
            (weights * points).sum(), list(tensors.values()), allow_unused=True, retain_graph=True
        )
        for points in (found, law.rsample(noise=noise))
    )
    assert any(slope is not None for slope in slopes)
    for slope, other in zip(slopes, expected, strict=True):
        assert (slope is None and other is None) or torch.equal(slope, other)


@each(where=lambda case: case.has_exact_law)
def test_vertices_follow_the_discrete_law(case):
    law = case.law()
    drawn = law.vertex(law.draw_noise((4000,), generator=generator(1)))
    counts, expected = (
        total.reshape(-1, law.num_categories) for total in (drawn.sum(0), 4000 * law.discrete().probs)
    )
    for count, mean in zip(counts, expected, strict=True):
        assert chi_square(count, mean) > 1e-6


def test_the_vertex_is_right_where_the_point_is_not_told_apart():
    # All lengths round to nothing in float32, and so do their differences in z.
    loc = torch.tensor([-200.0, -150.0, -190.0])
    sticks = igr.InvertibleGaussian(loc, 1.0, 0.5, igr.LogisticStickBreakingTransform())
    noise = torch.zeros(3)
    assert len(sticks.rsample(noise=noise).unique()) == 1
    assert sticks.vertex(noise).tolist() == [0.0, 1.0, 0.0, 0.0]
    half = igr.GumbelSoftmax(1e-3, logits=torch.tensor([0.0, 1.0], dtype=torch.bfloat16))
    assert half.vertex(torch.zeros(5, 2)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="noise"):
        half.vertex(torch.zeros(5, 3))
