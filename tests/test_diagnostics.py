"""Diagnoses against closed forms where K = 2, finite differences elsewhere, and without side effects."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.distributions import AffineTransform, Categorical

import igr
from cases import CASES, Mix, each, generator, tensor, z_score
from igr import diagnostics
from igr.diagnostics import diagnose, vertex_distance

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
N = 20_000
# Dvoretzky, Kiefer, Wolfowitz, Massart: an empirical distribution function strays further once in a million.
DKW = math.sqrt(math.log(2e6) / (2 * N))

# For K = 2, z = sigmoid(x / temperature): the law of x, and the factor of z (1 - z) / temperature in the
# norm of the gradient of w.z with w = (1, -1) / sqrt 2.
LOC, SCALE = tensor(0.0, 0.7, -2.0), tensor(0.5, 1.0, 2.0)
BINARY = {
    "igr": (
        lambda temperature: igr.InvertibleGaussian(LOC.unsqueeze(-1), SCALE.unsqueeze(-1), temperature),
        lambda i: scipy.stats.norm(LOC[i].item(), SCALE[i].item()),
        {
            "loc": lambda x, i: math.sqrt(2),
            "scale": lambda x, i: math.sqrt(2) * np.abs(x - LOC[i].item()) / SCALE[i].item(),
        },
    ),
    "gs": (
        lambda temperature: igr.GumbelSoftmax(
            temperature, logits=torch.stack([LOC, torch.zeros_like(LOC)], -1)
        ),
        lambda i: scipy.stats.logistic(LOC[i].item()),
        {"logits": lambda x, i: 2.0},
    ),
}
each_binary = pytest.mark.parametrize(("build", "law_of_x", "factors"), BINARY.values(), ids=BINARY)


def probability_of_rest_below(x, temperature, rest):
    """P(min(z, 1 - z) <= rest) for z = sigmoid(x / temperature)."""
    far = temperature * (math.log1p(-rest) - math.log(rest))
    return x.cdf(-far) + x.sf(far)


@each_binary
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_distances_have_the_quantiles_of_the_closed_form(build, law_of_x, factors, temperature):
    found = diagnose(build(temperature), N, quantiles=LEVELS, temperatures=[1.0], generator=generator("d"))
    assert found.vertex_distance.shape == (len(LEVELS), 3)
    for level, row in zip(LEVELS, found.vertex_distance.tolist(), strict=True):
        for i, distance in enumerate(row):
            reached = probability_of_rest_below(law_of_x(i), temperature, distance / math.sqrt(2))
            assert abs(reached - level) < DKW + 1 / N


@each_binary
@pytest.mark.parametrize("threshold", [1e-6, 1e-2])
def test_saturation_is_the_probability_of_a_small_slope(build, law_of_x, factors, threshold):
    found = diagnose(
        build(0.15), N, saturation_threshold=threshold, temperatures=[1.0], generator=generator("s")
    )
    rest = (1 - math.sqrt(1 - 4 * threshold)) / 2  # where z (1 - z) is the threshold
    for i, share in enumerate(found.saturated_share.tolist()):
        expected = probability_of_rest_below(law_of_x(i), 0.15, rest)
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / N)


@each_binary
@pytest.mark.parametrize("temperature", [0.05, 0.5, 5.0])
def test_gradient_norms_are_those_of_the_closed_form(build, law_of_x, factors, temperature):
    found = diagnose(build(1.0), N, temperatures=[temperature], generator=generator("g"))
    assert set(found.gradient_norm_mean) == set(factors)
    x = np.linspace(-60, 60, 600_001)
    z = scipy.special.expit(x / temperature)
    for name, factor in factors.items():
        for i in range(3):
            weight = law_of_x(i).pdf(x) * (x[1] - x[0])
            norm = factor(x, i) * z * (1 - z) / temperature
            mean, square = (weight * norm).sum(), (weight * norm**2).sum()
            error = math.sqrt((square - mean**2) / N)
            assert abs(found.gradient_norm_mean[name][0, i].item() - mean) < 5 * error
            reached = weight[norm <= found.gradient_norm_median[name][0, i].item()].sum()
            assert abs(reached - 0.5) < DKW + 1e-3


GENERAL = {
    name: CASES[name].law
    for name in (
        "gs-K3-batch",
        "igr-K3-tensor-delta",
        "igr-K10-float-scale",
        "igr-K4-composed",
        "igr-K3-sinh",
        "gs-K10-masked-temperatures",
        "igr-K4-masked",
    )
}


@pytest.mark.parametrize("build", GENERAL.values(), ids=GENERAL)
def test_gradient_norms_are_those_of_finite_differences(build):
    """An estimate of one's own: other noise, other directions, and differences instead of a backward pass."""
    law, temperature, number, step = build(), 0.6, 2000, 1e-6
    found = diagnose(law, number, temperatures=[temperature], generator=generator("fd"))
    noise = law.draw_noise((number,), generator("other"))
    shape = (number, *law.batch_shape, law.num_categories)
    w = torch.randn(shape, dtype=torch.float64, generator=generator("w"))
    allowed = torch.ones(shape) if law.mask is None else (~law.mask).double().expand(shape)
    w = (w - (w * allowed).sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True)) * allowed
    # A single category leaves no direction.
    w = (w / w.norm(dim=-1, keepdim=True)).nan_to_num()
    for name, mean in found.gradient_norm_mean.items():
        value = getattr(law, name)

        def along(shift, name=name, value=value):
            if name == "logits":
                moved = igr.GumbelSoftmax(temperature, logits=value + shift, mask=law.mask)
            else:
                given = {"loc": law.loc, "scale": law.scale, name: value + shift}
                moved = igr.InvertibleGaussian(
                    **given,
                    temperature=temperature,
                    transform=law.transform,
                    delta=law.delta,
                    mask=law.mask,
                )
            return (moved.rsample(noise=noise) * w).sum(-1)

        basis = torch.eye(value.shape[-1], dtype=torch.float64) * step
        gradient = torch.stack([(along(e) - along(-e)) / (2 * step) for e in basis], -1)
        norms = gradient.norm(dim=-1)
        # Both estimates have the same error, so the difference has sqrt 2 of it.
        assert ((norms.mean(0) - mean[0]).abs() <= 5 * math.sqrt(2 / number) * norms.std(0)).all()
        below = (norms <= found.gradient_norm_median[name][0] + 1e-12).double().mean(0)
        point = (norms == 0).all(0)  # where one category is available
        assert (((below - 0.5).abs() < 5 * math.sqrt(2 * 0.25 / number)) | point).all()


def test_the_mean_square_of_the_norm_is_that_of_the_jacobian():
    """E |J^T w|^2 = |J|_F^2 / (K - 1), with the Jacobian of a law that is nearly certain of its point."""
    scale, temperature = 1e-9, 0.7
    law = igr.InvertibleGaussian(tensor(0.3, -0.2, 0.5).expand(1000, 3), scale, temperature)
    z = law.rsample(noise=torch.zeros(1000, 3, dtype=torch.float64))[0]
    jacobian = (torch.diag(z) - torch.outer(z, z))[:, :3] / temperature
    found = diagnose(law, 1, temperatures=[temperature], generator=generator("J"))
    norms = found.gradient_norm_mean["loc"][0]
    assert z_score(norms.square(), jacobian.square().sum() / 3).abs() < 5


@pytest.mark.parametrize("build", [BINARY["igr"][0], BINARY["gs"][0]], ids=["igr", "gs"])
def test_gradients_at_the_ends_of_the_temperatures(build):
    temperatures = [1e-9, 1e-3, 1e-2, 0.1, 100.0, 200.0, 1e5]
    found = diagnose(build(1.0), 4000, temperatures=temperatures, generator=generator("ends"))
    for name, mean in found.gradient_norm_mean.items():
        median = found.gradient_norm_median[name]
        # Toward zero the median vanishes; no sample is left that carries the mean.
        assert (median[:4].diff(dim=0) >= 0).all()
        assert (median[1] < 1e-30).all()
        assert (mean[0] < 1e-30).all()
        # Toward infinity both vanish like 1 / temperature.
        for rows in (mean, median):
            torch.testing.assert_close(rows[4], 2 * rows[5], rtol=1e-3, atol=0)
            assert (rows[6] < 1e-4).all()


def test_the_mean_at_low_temperature_is_the_density_at_the_border():
    """E z (1 - z) / temperature tends to the density of x at 0: what the discrete law's gradient is."""
    found = diagnose(BINARY["igr"][0](1.0), 100_000, temperatures=[0.01], generator=generator("border"))
    density = torch.tensor([scipy.stats.norm(m, s).pdf(0) for m, s in zip(LOC, SCALE, strict=True)])
    second = 2 * density / (6 * 0.01)  # of the squared norm, from the integral of sigmoid'^2, which is 1/6
    error = torch.sqrt(second / 100_000)
    assert ((found.gradient_norm_mean["loc"][0] - math.sqrt(2) * density).abs() < 5 * error).all()


def test_saturation_goes_from_one_to_zero_with_the_temperature():
    for build in (BINARY["igr"][0], BINARY["gs"][0]):
        shares = [
            diagnose(build(t), temperatures=[1.0], generator=generator("t")).saturated_share
            for t in (1e-6, 1e-2, 0.1, 10.0)
        ]
        assert (shares[0] == 1).all()
        assert (shares[-1] == 0).all()
        assert all((a >= b).all() for a, b in itertools.pairwise(shares))


@pytest.mark.parametrize("num_categories", [2, 3, 1000])
def test_uniform_laws_have_all_categories(num_categories):
    for law in (
        igr.InvertibleGaussian.uniform(num_categories, 0.5, dtype=torch.float64),
        igr.GumbelSoftmax(0.5, logits=torch.zeros(num_categories, dtype=torch.float64)),
    ):
        found = diagnose(law, 10, temperatures=[1.0])
        assert found.effective_categories.item() == pytest.approx(num_categories, rel=1e-9)
        assert found.effective_categories_method == "exact"


def test_certain_laws_have_one_category():
    certain = tensor(50.0, -50.0, -50.0)
    for law in (
        igr.GumbelSoftmax(0.5, logits=certain),
        igr.InvertibleGaussian(certain, 0.1, 0.5),
        igr.InvertibleGaussian(certain, 0.1, 0.5, transform=AffineTransform(0.0, 1.0)),
    ):
        assert diagnose(law, 100, temperatures=[1.0]).effective_categories.item() == pytest.approx(1.0)


def test_effective_categories_of_a_batch_are_those_of_the_entropy():
    logits = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator("entropy"))
    found = diagnose(igr.GumbelSoftmax(0.5, logits=logits), 10, temperatures=[1.0])
    torch.testing.assert_close(found.effective_categories, Categorical(logits=logits).entropy().exp())


def test_without_an_exact_law_the_entropy_is_estimated():
    """A transform that changes nothing hides the exact law; the estimate agrees with it."""
    loc = tensor(0.5, -1.0, 0.2)
    law = igr.InvertibleGaussian(loc, 1.0, 0.5)
    hidden = igr.InvertibleGaussian(loc, 1.0, 0.5, transform=AffineTransform(0.0, 1.0))
    found = diagnose(hidden, N, temperatures=[1.0], generator=generator("h"))
    assert found.effective_categories_method == "monte_carlo"
    exact = law.discrete()
    spread = math.sqrt((exact.probs * (exact.logits + exact.entropy()) ** 2).sum() / N)
    assert abs(found.effective_categories.log() - exact.entropy()) < 5 * spread
    assert (diagnose(hidden, 1, temperatures=[1.0]).effective_categories == 1).all()


# The distance to the vertex.


def test_vertex_distance_is_the_smallest_of_the_distances():
    z = igr.GumbelSoftmax(0.7, logits=torch.zeros(3, 6, dtype=torch.float64)).sample((50,))
    expected = torch.cdist(z, torch.eye(6, dtype=torch.float64)).amin(-1)
    torch.testing.assert_close(vertex_distance(z.log()), expected)


@pytest.mark.parametrize("rest", [1e-3, 1e-10, 1e-25, 1e-37])
def test_vertex_distance_does_not_round_to_zero(rest):
    log_z = torch.tensor([math.log(rest), math.log1p(-rest)])
    assert vertex_distance(log_z).item() == pytest.approx(math.sqrt(2) * rest, rel=1e-4)
    assert vertex_distance(log_z).dtype == torch.float32


def test_vertex_distance_at_the_vertex_and_at_the_centre():
    assert vertex_distance(torch.tensor([-math.inf, 0.0, -math.inf])) == 0
    for dtype in (torch.float64, torch.bfloat16):
        centre = torch.full((4,), -math.log(4), dtype=dtype)
        assert vertex_distance(centre).dtype == dtype
        assert vertex_distance(centre).item() == pytest.approx(math.sqrt(0.75), rel=torch.finfo(dtype).eps)


# The same promises for every law.


@each()
def test_every_law_can_be_diagnosed(case):
    law = case.law()
    found = diagnose(law, 50, generator=generator("every"))
    batch = law.batch_shape
    assert found.vertex_distance.shape == (len(found.quantiles), *batch)
    assert (found.vertex_distance.diff(dim=0) >= 0).all()
    assert (found.vertex_distance >= 0).all()
    assert (found.vertex_distance <= math.sqrt(1 - 1 / law.num_categories) + 1e-12).all()
    assert found.saturated_share.shape == found.effective_categories.shape == batch
    assert (found.effective_categories >= 1 - 1e-9).all()
    assert (found.effective_categories <= law.num_categories + 1e-6).all()
    assert set(found.gradient_norm_mean) == ({"logits"} if case.is_gumbel else {"loc", "scale"})
    for statistic in (found.gradient_norm_mean, found.gradient_norm_median):
        for rows in statistic.values():
            assert rows.shape == (len(found.temperatures), *batch)
            assert torch.isfinite(rows).all()


def test_a_thousand_categories_and_half_precision():
    loc = torch.randn(999, generator=generator("K")).to(torch.bfloat16)
    half = diagnose(igr.InvertibleGaussian(loc, 1.0, 0.3), 100, temperatures=[0.3], generator=generator(0))
    single = diagnose(
        igr.InvertibleGaussian(loc.float(), 1.0, 0.3), 100, temperatures=[0.3], generator=generator(0)
    )
    for name in ("vertex_distance", "saturated_share", "effective_categories"):
        assert getattr(half, name).dtype == torch.float32
        assert torch.equal(getattr(half, name), getattr(single, name))
    assert torch.equal(half.gradient_norm_mean["loc"], single.gradient_norm_mean["loc"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_law_without_noise_has_the_exact_figures(dtype):
    """Where nearly nothing is random every sample is the same, and every direction is that of the edge."""
    law = igr.InvertibleGaussian(torch.tensor([0.3], dtype=dtype), 1e-20, 0.5)
    found = diagnose(law, 3, temperatures=[0.5, 2.0])
    assert found.vertex_distance.dtype == found.gradient_norm_mean["loc"].dtype == dtype
    precision = {"rtol": 10 * torch.finfo(dtype).eps, "atol": 0}
    z = torch.sigmoid(tensor(0.3 / 0.5, 0.3 / 2.0))
    torch.testing.assert_close(
        found.vertex_distance.double(), (math.sqrt(2) * (1 - z[0])).expand(5), **precision
    )
    slope = math.sqrt(2) * z * (1 - z) / tensor(0.5, 2.0)
    for statistic in (found.gradient_norm_mean, found.gradient_norm_median):
        torch.testing.assert_close(statistic["loc"].double(), slope, **precision)


def test_all_temperatures_see_the_same_noise():
    law = CASES["igr-K3-batch"].law()
    together = diagnose(law, 100, temperatures=[0.1, 0.5, 2.0], generator=generator(1))
    alone = diagnose(law, 100, temperatures=[0.5], generator=generator(1))
    for name in ("loc", "scale"):
        assert torch.equal(together.gradient_norm_mean[name][1], alone.gradient_norm_mean[name][0])
        assert torch.equal(together.gradient_norm_median[name][1], alone.gradient_norm_median[name][0])


def test_default_temperatures_are_octaves_around_the_laws_own():
    found = diagnose(CASES["igr-K3-batch"].law(), 2)
    assert found.own_temperature == 0.7
    assert found.temperatures == pytest.approx([0.7 * 2.0**k for k in range(-6, 7)])
    assert 0.7 in found.temperatures
    several = diagnose(CASES["gs-K10-batch2-temperatures"].law(), 2)
    assert several.own_temperature is None
    assert several.temperatures[6] == pytest.approx((0.2 * 0.5 * 2.0) ** (1 / 3))
    equal = igr.GumbelSoftmax(torch.tensor([0.5, 0.5]), logits=torch.zeros(2, 3))
    assert diagnose(equal, 2).own_temperature == 0.5


def test_temperatures_may_be_a_tensor():
    law = CASES["gs-K2"].law()
    assert diagnose(law, 2, temperatures=tensor(0.1, 2.0)).temperatures == (0.1, 2.0)
    assert diagnose(law, 2, temperatures=(t for t in (1, 2))).temperatures == (1.0, 2.0)


# No side effects.


def assert_same(a, b):
    for name, value in vars(a).items():
        other = getattr(b, name)
        if isinstance(value, dict):
            assert all(torch.equal(value[key], other[key]) for key in value)
        else:
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


@pytest.mark.parametrize("name", ["gs-K3-batch", "igr-K4-composed"])
def test_a_generator_decides_and_nothing_else_is_drawn(name):
    law = CASES[name].law()
    before = torch.random.get_rng_state()
    first = diagnose(law, 100, generator=generator("r"))
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    assert_same(first, diagnose(law, 100, generator=generator("r")))
    assert torch.equal(torch.random.get_rng_state(), state)
    source = generator("r")
    diagnose(law, 2, generator=source)
    assert not torch.equal(diagnose(law, 100, generator=source).vertex_distance, first.vertex_distance)
    torch.random.set_rng_state(before)


def test_without_a_generator_torchs_seed_decides():
    law = CASES["gs-K3-batch"].law()
    before = torch.random.get_rng_state()
    torch.manual_seed(3)
    first = diagnose(law, 100)
    second = diagnose(law, 100)
    torch.manual_seed(3)
    assert_same(first, diagnose(law, 100))
    assert not torch.equal(first.vertex_distance, second.vertex_distance)
    torch.random.set_rng_state(before)


def test_parameters_and_their_gradients_are_left_alone():
    loc = torch.randn(2, 3, dtype=torch.float64, generator=generator("p")).requires_grad_()
    scale, temperature, delta = (tensor(0.5).requires_grad_() for _ in range(3))
    matrix = torch.eye(3, dtype=torch.float64).requires_grad_()
    loc.grad = torch.ones_like(loc)
    law = igr.InvertibleGaussian(loc.exp(), scale, temperature, Mix(matrix), delta)
    attributes = dict(vars(law))
    found = diagnose(law, 20, temperatures=[0.5])
    assert torch.equal(loc.grad, torch.ones_like(loc))
    assert all(x.grad is None for x in (scale, temperature, delta, matrix))
    assert all(vars(law)[name] is value for name, value in attributes.items())
    tensors = [found.vertex_distance, found.saturated_share, found.effective_categories]
    for statistic in (found.gradient_norm_mean, found.gradient_norm_median):
        tensors += statistic.values()
    assert not any(x.requires_grad for x in tensors)
    law.rsample().sum().backward()  # the graph behind the parameters is still whole


def test_grad_and_inference_modes_make_no_difference():
    usual = diagnose(CASES["igr-K3-tensor-delta"].law(), 20, generator=generator("m"))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert_same(usual, diagnose(CASES["igr-K3-tensor-delta"].law(), 20, generator=generator("m")))
            assert not torch.is_grad_enabled()


def test_samples_are_drawn_in_parts(monkeypatch):
    sizes = []

    class Recorded(igr.GumbelSoftmax):
        def draw_noise(self, sample_shape=(), generator=None):
            noise = super().draw_noise(sample_shape, generator)
            sizes.append(noise.numel())
            return noise

    law, total = Recorded(0.5, logits=LOC.expand(4, 3)), 5000
    # The median of other samples lies between these quantiles.
    bound = 2 * math.sqrt(math.log(2e6) / (2 * total))
    around = diagnose(law, total, temperatures=[0.5], quantiles=[0.5 - bound, 0.5 + bound]).vertex_distance
    assert sizes == [total * 12] * 2  # for the points, and for one temperature
    sizes.clear()
    monkeypatch.setattr(diagnostics, "_AT_ONCE", 1000)
    median = diagnose(law, total, temperatures=[0.5], quantiles=[0.5]).vertex_distance[0]
    assert max(sizes) <= 1000
    assert sum(sizes) == 2 * total * 12
    assert ((around[0] < median) & (median < around[1])).all()


# What is printed.


def test_the_table():
    law = CASES["igr-K3-batch"].law()
    text = str(diagnose(law, 1500, generator=generator("table")))
    lines = text.splitlines()
    assert lines[0] == f"Diagnosis of {law!r}"
    assert lines[1] == "1,500 samples of each of 3 laws; every figure is the median over the laws"
    assert "saturated samples: " in text
    assert " by law " in text
    assert "of 3 (exp of the entropy of the discrete law, exact)" in text
    assert [line.split()[0] for line in lines if line.endswith("  own")] == ["0.7"]
    assert text.isascii()
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)
    assert len(lines) <= 24
    assert max(map(len, lines[1:])) <= 100


def test_the_table_of_many_temperatures_shows_some_of_them():
    law = CASES["gs-K2"].law()
    lines = str(diagnose(law, 2, temperatures=torch.linspace(0.1, 2.0, 101))).splitlines()
    assert lines[-1] == "  (13 of 101 temperatures shown)"
    assert [lines[-14].split()[0], lines[-2].split()[0]] == ["0.1", "2"]


def test_the_table_has_medians_over_the_batch():
    law = igr.GumbelSoftmax(1.0, logits=tensor(0.0, 1.0, 3.0).unsqueeze(-1) * tensor(1.0, 0.0))
    found = diagnose(law, 10, temperatures=[1.0])
    middle = found.effective_categories.sort().values[1].item()
    assert f"effective categories: {middle:.3g} of 2" in repr(found)


# Bad input.

LAW = CASES["gs-K2"].law()


class Unkept(igr.GumbelSoftmax):
    def __init__(self, size, logits=None, temperature=1.0):
        super().__init__(temperature, logits=torch.zeros(size))


REFUSALS = {
    "no-sample": (
        ValueError,
        lambda: diagnose(LAW, 0),
        "diagnose: expected num_samples of at least 1; got 0",
    ),
    "temperature": (
        ValueError,
        lambda: diagnose(LAW, temperatures=[0.5, -1.0]),
        "diagnose: expected temperatures to be positive and finite; got -1.0",
    ),
    "infinite": (
        ValueError,
        lambda: diagnose(LAW, temperatures=tensor(math.inf)),
        "expected temperatures to be positive and finite; got inf",
    ),
    "nan": (ValueError, lambda: diagnose(LAW, temperatures=[math.nan]), "got nan"),
    "no-temperature": (
        ValueError,
        lambda: diagnose(LAW, temperatures=[]),
        "expected at least one number in temperatures; got none",
    ),
    "quantile": (
        ValueError,
        lambda: diagnose(LAW, quantiles=[0.5, 95]),
        "expected quantiles to be from 0 to 1; got 95.0",
    ),
    "threshold": (
        ValueError,
        lambda: diagnose(LAW, saturation_threshold=0.0),
        "expected saturation_threshold to be positive and finite; got 0.0",
    ),
    "empty-batch": (
        ValueError,
        lambda: diagnose(igr.GumbelSoftmax(0.5, logits=torch.zeros(0, 3))),
        "expected at least one law in the batch; got batch shape (0,)",
    ),
    "tensor": (
        TypeError,
        lambda: diagnose(torch.zeros(3)),
        "diagnose: expected distribution to be a SimplexRelaxation; got Tensor",
    ),
    "torchs-own": (
        TypeError,
        lambda: diagnose(torch.distributions.RelaxedOneHotCategorical(tensor(0.5), tensor(0.5, 0.5))),
        "got RelaxedOneHotCategorical; build igr.GumbelSoftmax",
    ),
    "float-samples": (TypeError, lambda: diagnose(LAW, 10.0), "expected num_samples to be an int; got 10.0"),
    "one-temperature": (
        TypeError,
        lambda: diagnose(LAW, temperatures=0.5),
        "expected temperatures to be a sequence of numbers; got 0.5; use a list",
    ),
    "text": (TypeError, lambda: diagnose(LAW, temperatures=["0.5"]), "to be numbers; got '0.5'; convert"),
    "matrix": (TypeError, lambda: diagnose(LAW, temperatures=tensor(1.0).view(1, 1)), "got [1.0]"),
    "unkept": (
        TypeError,
        lambda: diagnose(Unkept(3)),
        "got Unkept without 'size'; set it in the constructor",
    ),
    "log_z": (TypeError, lambda: vertex_distance([0.0]), "vertex_distance: expected log_z to be a tensor"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    kind, call, part = REFUSALS[name]
    with pytest.raises(kind) as error:
        call()
    text = str(error.value)
    assert part in text
    assert text.endswith(".")
    assert "\n" not in text
