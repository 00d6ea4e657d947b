"""Relaxations of one binary variable: every promise of a law, and the law over two categories beside it."""

from __future__ import annotations

import pickle

import pytest
import scipy.stats
import torch
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Normal,
    OneHotCategorical,
    RelaxedBernoulli,
    SigmoidTransform,
    kl_divergence,
)
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli

import igr
from cases import BINARY, Case, chi_square, generator, tensor, tracing, z_score
from igr.kernels.noise import standard_logistic

each = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in BINARY.items()])
EXTREMES = (1e-6, 1e-3, 0.1, 1.0, 1e3)


def is_concrete(case: Case) -> bool:
    return case.constructor is igr.BinaryConcrete


def everything(law, noise):
    z, log_prob = law.rsample_and_log_prob(noise=noise)
    logit = law.rsample_logit(noise=noise)
    return {
        "rsample": law.rsample(noise=noise),
        "rsample_logit": logit,
        "rsample_log": law.rsample_log(noise=noise),
        "drawn": z,
        "drawn log_prob": log_prob,
        "log_prob": law.log_prob(z),
        "log_prob_of_logit": law.log_prob_of_logit(logit),
        "log_prob_of_log": law.log_prob_of_log(law.rsample_log(noise=noise)),
        "discrete": law.discrete().log_probs,
    }


def summed(law, noise):
    total = 0.0
    for index, value in enumerate(everything(law, noise).values()):
        total = total + torch.tanh(value * (0.1 + 0.01 * index)).sum()
    return total


def assert_same(found, expected, rtol=1e-9, atol=1e-9):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
        )


# Beside the law over two categories, which has tests of its own.


@each
def test_shapes(case):
    law = case.law()
    assert law.event_shape == ()
    assert law.num_categories == 2
    noise = law.draw_noise((4, 1), generator=generator(0))
    assert noise.shape == (4, 1, *law.batch_shape)
    for name, value in everything(law, noise).items():
        assert value.shape == ((*law.batch_shape, 2) if name == "discrete" else noise.shape)
    assert law.vertex(noise).shape == noise.shape


@each
def test_it_is_the_weight_of_the_first_of_two_categories(case):
    law = case.law()
    noise = law.draw_noise((50,), generator=generator(1))
    z, log_prob = law.rsample_and_log_prob(noise=noise)
    simplex = law.as_simplex()
    assert simplex.num_categories == 2
    assert simplex.batch_shape == law.batch_shape
    # With log z of both categories in hand nothing is lost of the density.
    logit = law.rsample_logit(noise=noise)
    both = torch.nn.functional.logsigmoid(torch.stack([logit, -logit], dim=-1))
    torch.testing.assert_close(log_prob, simplex.log_prob_of_log(both), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law.discrete().log_probs, simplex.discrete().log_probs)
    if not is_concrete(case):  # whose noise is the difference of that of the two
        torch.testing.assert_close(z, simplex.rsample(noise=noise.unsqueeze(-1))[..., 0])
        assert torch.equal(law.vertex(noise), simplex.vertex(noise.unsqueeze(-1))[..., 0])


@each
def test_vertices_are_rounded_points_and_follow_the_discrete_law(case):
    law = case.law()
    noise = law.draw_noise((20_000,), generator=generator(2))
    hard = law.vertex(noise)
    assert torch.equal(law.straight_through(noise), hard)
    assert torch.equal(hard, (law.rsample_logit(noise=noise) >= 0).to(hard))
    assert z_score(hard, law.discrete().probs[..., 0]).abs().max() < 5


@each
def test_samples_follow_the_density(case):
    """Shares of samples in 20 cells of the scores against the integral of the density over each."""
    law = case.law()
    scores = law.rsample_logit((20_000,), generator=generator(3)) * torch.as_tensor(law.temperature)
    edges = torch.linspace(-8.0, 8.0, 21, dtype=torch.float64)
    nodes = 400
    for index in range(law.batch_shape.numel()):
        mine = scores.reshape(len(scores), -1)[:, index]
        temperature = torch.as_tensor(law.temperature).expand(law.batch_shape).reshape(-1)[index]
        grid = torch.linspace(0.0, 1.0, nodes + 1, dtype=torch.float64)
        points = edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * grid
        logit = (points / temperature).reshape(-1, *([1] * len(law.batch_shape)))
        logit = logit.expand(-1, *law.batch_shape)
        # Of z; to be one of scores it loses what z gains.
        density = law.log_prob_of_logit(logit) - torch.log(torch.as_tensor(law.temperature))
        density = density + torch.nn.functional.logsigmoid(logit) + torch.nn.functional.logsigmoid(-logit)
        density = density.reshape(len(logit), -1)[:, index].reshape(points.shape).exp()
        mass = torch.trapezoid(density, points, dim=-1)
        counts = torch.histc(mine, bins=20, min=-8.0, max=8.0)
        inside = (mine.abs() <= 8.0).sum()
        assert (mass.sum() - inside / len(mine)).abs() < 0.01
        assert chi_square(counts, mass / mass.sum() * inside) > 1e-6


@each
def test_the_density_integrates_to_one(case):
    law = case.law()
    logit = torch.linspace(-60.0, 60.0, 400_001, dtype=torch.float64)
    if torch.as_tensor(law.temperature).min() < 0.01:
        logit = logit * 500.0
    points = logit.reshape(-1, *([1] * len(law.batch_shape))).expand(-1, *law.batch_shape)
    density = law.log_prob_of_logit(points)
    logistic = torch.nn.functional.logsigmoid(points) + torch.nn.functional.logsigmoid(-points)
    total = torch.trapezoid(torch.exp(density + logistic), points, dim=0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=1e-5)


# Beside scipy and torch.


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_concrete_is_torchs_relaxed_bernoulli(temperature):
    logits = tensor(-2.0, 0.0, 1.5)
    ours = igr.BinaryConcrete(temperature, logits)
    theirs = RelaxedBernoulli(torch.tensor(temperature, dtype=torch.float64), logits=logits)
    z = tensor(0.01, 0.3, 0.5, 0.9).unsqueeze(-1)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z.expand(4, 3)), rtol=1e-10, atol=1e-10)
    logit = tensor(-40.0, -3.0, 0.0, 25.0).unsqueeze(-1)
    of_logit = LogitRelaxedBernoulli(torch.tensor(temperature, dtype=torch.float64), logits=logits).log_prob(
        logit.expand(4, 3)
    )
    change = torch.nn.functional.logsigmoid(logit) + torch.nn.functional.logsigmoid(-logit)
    torch.testing.assert_close(ours.log_prob_of_logit(logit), of_logit - change, rtol=1e-10, atol=1e-9)


def test_gaussian_is_logit_normal():
    law = igr.BinaryInvertibleGaussian(tensor(0.4), 0.7, temperature=0.5)
    z = tensor(0.02, 0.4, 0.97)
    x = torch.logit(z)
    expected = scipy.stats.norm(0.8, 1.4).logpdf(x.numpy()) - torch.log(z * (1 - z)).numpy()
    torch.testing.assert_close(law.log_prob(z), torch.from_numpy(expected))
    torch.testing.assert_close(law.discrete().probs[..., 0], Normal(0.0, 1.0).cdf(tensor(0.4 / 0.7)))
    nodes = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    weights = Normal(0.0, 1.0).log_prob(nodes).exp()
    mean = torch.trapezoid(torch.sigmoid((0.4 + 0.7 * nodes) / 0.5) * weights, nodes)
    torch.testing.assert_close(law.mean, mean.reshape(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("traced", [False, True])
def test_logistic_noise_has_its_law_in_the_tails_too(dtype, traced, monkeypatch):
    if traced:  # the form for devices and tracers
        monkeypatch.setattr("igr.kernels.noise.is_traced", lambda: True)
    shape = torch.Size([1_000_000])
    noise = standard_logistic(shape, dtype=dtype, device=torch.device("cpu"), generator=generator(7)).double()
    edges = torch.tensor([-30.0, -12, -10, -8, -6, -3, 0, 3, 6, 8, 10, 12, 30.0], dtype=torch.float64)
    counts = torch.histogram(noise, edges).hist
    mass = torch.from_numpy(scipy.stats.logistic.cdf(edges.numpy())).diff()
    assert chi_square(counts, mass * len(noise)) > 1e-6
    # Symmetric to the last digit: no grain at one end that is not at the other.
    assert len(noise[noise < -9].unique()) > 0.99 * (noise < -9).sum()
    assert len(noise[noise > 9].unique()) > 0.99 * (noise > 9).sum()


# Edges.


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("temperature", EXTREMES)
def test_everything_is_finite_with_finite_gradients(case, dtype, temperature):
    tensors = {name: value.requires_grad_() for name, value in case.tensors(dtype).items()}
    tensors["temperature"] = torch.tensor(temperature, dtype=dtype, requires_grad=True)
    law = case.law(dtype, **tensors)
    noise = law.draw_noise((300,), generator=generator(4))
    for name, value in everything(law, noise).items():
        assert value.isfinite().all(), name
        for gradient in torch.autograd.grad(
            value.sum(), list(tensors.values()), allow_unused=True, retain_graph=True
        ):
            assert gradient is None or gradient.isfinite().all(), name


@each
def test_densities_from_the_noise_the_logit_and_the_number_agree(case):
    law = case.law()
    noise = law.draw_noise((200,), generator=generator(5))
    z, log_prob = law.rsample_and_log_prob(noise=noise)
    torch.testing.assert_close(
        law.log_prob_of_logit(law.rsample_logit(noise=noise)), log_prob, rtol=1e-9, atol=1e-9
    )
    log_z = law.rsample_log(noise=noise)
    stored = (z > 1e-300) & (z < 1 - 1e-7)
    torch.testing.assert_close(law.log_prob(z)[stored], log_prob[stored], rtol=1e-6, atol=1e-6)
    kept = log_z < -1e-300
    torch.testing.assert_close(law.log_prob_of_log(log_z)[kept], log_prob[kept], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("loc", [-300.0, -86.5, 17.0, 86.0, 86.5, 300.0])
def test_gradients_of_points_at_either_end_are_finite(dtype, scale, loc):
    """Where log z underflows its slope is as large as a number can be."""
    leaves = [torch.tensor(value, dtype=dtype, requires_grad=True) for value in (loc, scale, 1.0)]
    law = igr.BinaryInvertibleGaussian(*leaves)
    noise = torch.linspace(-3.0, 3.0, 61, dtype=dtype)
    for name, value in everything(law, noise).items():
        assert value.isfinite().all(), name
        for gradient in torch.autograd.grad(value.sum(), leaves, allow_unused=True, retain_graph=True):
            assert gradient is None or gradient.isfinite().all(), name


def test_second_derivatives_at_the_middle():
    logit = tensor(0.0)
    leaf = tensor(0.0).requires_grad_()
    hessian = torch.autograd.functional.hessian
    assert hessian(lambda t: igr.BinaryConcrete(0.5, t).log_prob_of_logit(logit).sum(), leaf).item() == -0.5
    found = hessian(lambda t: igr.BinaryConcrete(0.5, logit).log_prob_of_logit(t).sum(), leaf).item()
    assert found == pytest.approx(0.5 - 0.5 * 0.25)


def test_numbers_at_the_ends_have_a_density():
    for dtype in (torch.float32, torch.float64):
        law = igr.BinaryConcrete(0.5, torch.zeros((), dtype=dtype))
        z = torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True)
        density = law.log_prob(z)
        assert density.isfinite().all()
        assert torch.autograd.grad(density.sum(), z)[0].isfinite().all()
        assert law.log_prob_of_log(torch.zeros((), dtype=dtype)).isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["concrete-batch2-temperatures", "igr-float-scale-hot", "planar"])
def test_half_precision_goes_in_and_out(name, dtype):
    law = BINARY[name].law(dtype)
    noise = law.draw_noise((5,))
    assert noise.dtype == torch.float32
    for name, value in everything(law, noise).items():
        assert value.dtype == dtype, name
        assert value.isfinite().all(), name


# Under torch's machinery.


@each
def test_the_same_generator_gives_the_same_draw_and_noise_is_all_that_is_random(case):
    law = case.law()
    first, again = (law.rsample((3,), generator=generator(6)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, law.rsample(noise=law.draw_noise((3,), generator=generator(6))))
    assert not law.sample((3,)).requires_grad


@each
def test_expand_is_the_same_law_more_often(case):
    law = case.law()
    expanded = law.expand((4, *law.batch_shape))
    noise = law.draw_noise((4,), generator=generator(0))
    for name, value in everything(expanded, noise).items():
        torch.testing.assert_close(value, everything(law, noise)[name].expand_as(value))


@each
def test_pickle_and_another_temperature(case):
    law = case.law()
    noise = law.draw_noise((4,), generator=generator(0))
    again = pickle.loads(pickle.dumps(law))
    assert repr(again) == repr(law)
    assert torch.equal(again.rsample_logit(noise=noise), law.rsample_logit(noise=noise))
    warm = law.with_temperature(3.0)
    assert warm.temperature == 3.0
    torch.testing.assert_close(
        warm.rsample_logit(noise=noise) * 3.0,
        law.rsample_logit(noise=noise) * torch.as_tensor(law.temperature),
    )


@tracing
@pytest.mark.parametrize(
    "name",
    [
        "concrete-batch2-temperatures",
        "igr-batch2-temperatures",
        pytest.param("planar", marks=pytest.mark.slow),
    ],
)
def test_compile_in_one_graph_forward_and_backward(name):
    case = BINARY[name]
    noise = case.law().draw_noise((2,), generator=generator(0))
    torch.compiler.reset()

    def loss(tensors, noise):
        law = case.law(**tensors)
        return summed(law, noise), everything(law, noise)

    def run(function):
        tensors = {name: value.requires_grad_() for name, value in case.tensors().items()}
        total, results = function(tensors, noise)
        return results, dict(zip(tensors, torch.autograd.grad(total, list(tensors.values())), strict=True))

    eager_results, eager_gradients = run(loss)
    results, gradients = run(torch.compile(loss, fullgraph=True, backend="aot_eager"))
    assert_same(results, eager_results)
    assert_same(gradients, eager_gradients, rtol=1e-7, atol=1e-9)


@each
def test_vmap_over_noise_and_parameters(case):
    law = case.law()
    noise = law.draw_noise((5, 2), generator=generator(0))
    stacked = torch.func.vmap(lambda e: everything(law, e))(noise)
    for index in range(5):
        alone = everything(law, noise[index])
        assert_same({name: value[index] for name, value in stacked.items()}, alone)
    if not law.batch_shape:
        return
    tensors = {name: value.expand(law.batch_shape) for name, value in case.tensors().items()}
    noise = law.draw_noise(generator=generator(0))
    mapped = torch.func.vmap(lambda t, e: everything(case.law(**t), e))(tensors, noise)
    assert_same(mapped, everything(law, noise))


@each
def test_functional_gradients_are_those_of_autograd(case):
    noise = case.law().draw_noise((2,), generator=generator(0))
    functional = torch.func.grad(lambda t: summed(case.law(**t), noise))(case.tensors())
    leaves = {name: value.requires_grad_() for name, value in case.tensors().items()}
    expected = torch.autograd.grad(summed(case.law(**leaves), noise), list(leaves.values()))
    assert_same(functional, dict(zip(leaves, expected, strict=True)), rtol=1e-8, atol=1e-9)


@each
def test_gradients_are_those_of_differences(case):
    noise = case.law().draw_noise((2,), generator=generator(8))
    if case.settings.get("temperature") == 1e-3:
        pytest.skip("differences of a step function")
    names = list(case.parameters)

    def value(*tensors):
        return summed(case.law(**dict(zip(names, tensors, strict=True))), noise)

    assert torch.autograd.gradcheck(value, [t.requires_grad_() for t in case.tensors().values()], rtol=1e-3)


@tracing
def test_export():
    class Draw(torch.nn.Module):
        def forward(self, loc, noise):
            return igr.BinaryInvertibleGaussian(loc, 0.7, 0.3).rsample_and_log_prob(noise=noise)

    loc, noise = torch.randn(3), torch.randn(5, 3)
    program = torch.export.export(Draw(), (loc, noise))
    for found, expected in zip(program.module()(loc, noise), Draw()(loc, noise), strict=True):
        torch.testing.assert_close(found, expected)


# Divergences.


def test_divergence_of_gaussians_across_temperatures():
    p = igr.BinaryInvertibleGaussian(tensor(0.3, -1.0), tensor(0.5, 2.0), 0.3)
    q = igr.BinaryInvertibleGaussian(tensor(0.0, 0.0), 1.0, 0.7)
    expected = kl_divergence(Normal(p.loc / 0.3, p.scale / 0.3), Normal(q.loc / 0.7, q.scale / 0.7))
    torch.testing.assert_close(kl_divergence(p, q), expected)
    x = p.rsample_logit((200_000,), generator=generator(9))
    sampled = p.log_prob_of_logit(x) - q.log_prob_of_logit(x)
    assert z_score(sampled, expected).abs().max() < 5


def test_divergence_with_one_planar_map_on_both_sides():
    flow = igr.PlanarFlow(2, 3, generator=generator(0)).double()
    p = igr.BinaryInvertibleGaussian(tensor(0.3), 0.5, 0.3, flow)
    q = igr.BinaryInvertibleGaussian(tensor(0.0), 1.0, 0.3, flow)
    torch.testing.assert_close(
        kl_divergence(p, q), kl_divergence(Normal(p.loc, p.scale), Normal(q.loc, q.scale))
    )


ONE = torch.zeros(3)
REFUSED = {
    "concrete": (igr.BinaryConcrete(0.5, ONE), igr.BinaryConcrete(0.5, ONE), "rsample_logit"),
    "both kinds": (igr.BinaryConcrete(0.5, ONE), igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5), "discrete"),
    "bernoulli": (igr.BinaryConcrete(0.5, ONE), Bernoulli(logits=ONE), "discrete"),
    "simplex": (
        igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5),
        igr.InvertibleGaussian(ONE, 1.0, 0.5),
        "as_simplex",
    ),
    "simplex first": (igr.GumbelSoftmax(0.5, ONE), igr.BinaryConcrete(0.5, ONE), "as_simplex"),
    "one-hot": (OneHotCategorical(logits=ONE), igr.BinaryConcrete(0.5, ONE), "discrete"),
    "normal": (igr.BinaryConcrete(0.5, ONE), Normal(ONE, 1.0), "log_prob"),
    "two flows": (
        igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, igr.PlanarTransform(2)),
        igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, igr.PlanarTransform(2)),
        "same transform object",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_divergences_that_have_no_closed_form_say_what_to_do(name):
    p, q, advice = REFUSED[name]
    with pytest.raises(NotImplementedError, match=advice) as refused:
        kl_divergence(p, q)
    assert "has no closed form" in str(refused.value)


# Arguments.

BAD = {
    "both": (
        lambda: igr.BinaryConcrete(0.5, ONE, ONE),
        ValueError,
        "exactly one of logits and probs; got both",
    ),
    "neither": (lambda: igr.BinaryConcrete(0.5), ValueError, "got neither"),
    "probs": (lambda: igr.BinaryConcrete(0.5, probs=ONE + 1.5), ValueError, "probs between 0 and 1; got 1.5"),
    "not finite": (lambda: igr.BinaryConcrete(0.5, ONE + torch.nan), ValueError, "logits to be finite"),
    "temperature": (lambda: igr.BinaryConcrete(0.0, ONE), ValueError, "temperature to be positive"),
    "shapes": (
        lambda: igr.BinaryConcrete(torch.ones(2), ONE),
        ValueError,
        r"logits \(3,\), temperature \(2,\)",
    ),
    "whole numbers": (
        lambda: igr.BinaryConcrete(0.5, torch.zeros(3, dtype=torch.int64)),
        TypeError,
        "floating",
    ),
    "scale": (lambda: igr.BinaryInvertibleGaussian(ONE, -1.0, 0.5), ValueError, "scale to be positive"),
    "loc": (lambda: igr.BinaryInvertibleGaussian(ONE / 0, 1.0, 0.5), ValueError, "loc to be finite"),
    "sticks": (
        lambda: igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, igr.LogisticStickBreakingTransform()),
        ValueError,
        "the one stick always wins in length space",
    ),
    "log sticks": (
        lambda: igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, igr.LogisticStickBreakingTransform("log")),
        ValueError,
        "log space leaves the law as it is",
    ),
    "part of the line": (
        lambda: igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, SigmoidTransform()),
        ValueError,
        "onto itself; got SigmoidTransform",
    ),
    "too long": (
        lambda: igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, igr.PlanarTransform(3)),
        ValueError,
        "expected",
    ),
    "no transform": (
        lambda: igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, torch.sinh),
        TypeError,
        "torch Transform",
    ),
    "outside": (
        lambda: igr.BinaryConcrete(0.5, ONE, validate_args=True).log_prob(ONE + 2.0),
        ValueError,
        "log_prob_of_logit",
    ),
    "value shape": (
        lambda: igr.BinaryConcrete(0.5, ONE, validate_args=True).log_prob(torch.ones(2)),
        ValueError,
        r"batch shape \(3,\); got \(2,\)",
    ),
    "infinite logit": (
        lambda: igr.BinaryConcrete(0.5, ONE, validate_args=True).log_prob_of_logit(ONE + torch.inf),
        ValueError,
        "logit to be finite",
    ),
    "logarithm above zero": (
        lambda: igr.BinaryConcrete(0.5, ONE, validate_args=True).log_prob_of_log(ONE + 1.0),
        ValueError,
        "expected finite logarithms",
    ),
    "batch of maps": (
        lambda: igr.BinaryInvertibleGaussian(ONE[0], 1.0, 0.5, AffineTransform(ONE, ONE + 2.0)),
        ValueError,
        "expand loc",
    ),
    "noise": (
        lambda: igr.BinaryConcrete(0.5, ONE).rsample(noise=torch.ones(2)),
        ValueError,
        r"noise of shape",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    make, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        make()


def test_a_map_without_an_inverse_has_no_exact_law_and_says_so():
    class OneWay(AffineTransform):
        def _inverse(self, y):
            raise NotImplementedError

    law = igr.BinaryInvertibleGaussian(ONE, 1.0, 0.5, OneWay(0.0, 2.0))
    assert law.rsample((2,)).shape == (2, 3)
    with pytest.raises(NotImplementedError, match="which has no inverse; use method='monte_carlo'"):
        law.discrete()
    assert law.discrete("monte_carlo", num_samples=100).probs.shape == (3, 2)
    with pytest.raises(NotImplementedError, match="take the mean of draws"):
        _ = law.mean


# The law over two categories with a map before it, which is exact too.


@pytest.mark.parametrize("delta", [1.0, 0.3, 4.0])
@pytest.mark.parametrize("scale", [-2.0, 0.5])
def test_two_categories_have_an_exact_law_with_any_map_of_the_line(delta, scale):
    loc = tensor(0.4, -1.2, 3.0).unsqueeze(-1)
    law = igr.InvertibleGaussian(loc, 0.8, 0.6, AffineTransform(0.3, scale), delta)
    plain = igr.InvertibleGaussian(0.3 + scale * loc, 0.8 * abs(scale), 0.6, None, delta)
    torch.testing.assert_close(law.discrete().log_probs, plain.discrete().log_probs, rtol=1e-12, atol=1e-12)
