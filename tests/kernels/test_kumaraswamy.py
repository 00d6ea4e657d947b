"""The Kumaraswamy kernels against scipy's beta law, torch's own law, and quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from cases import generator, z_score
from igr.kernels import kumaraswamy
from igr.kernels.noise import standard_gumbel

PAIRS = [(a, b) for a in (0.01, 0.4, 1.0, 2.5, 30.0, 1e3) for b in (0.01, 0.3, 1.0, 3.0, 100.0)]
each_pair = pytest.mark.parametrize(("a", "b"), PAIRS, ids=str)


def expectation(a: float, b: float, function) -> float:
    """The mean of a function of (log v, log(1 - v), log w), by double exponential quadrature of -log u."""
    h = np.linspace(-4.0, 1.4 * 1.2, 6001)
    x = np.exp(0.5 * np.pi * np.sinh(h))
    weight = np.exp(-x) * x * 0.5 * np.pi * np.cosh(h) * (h[1] - h[0])
    log_w = -x / b
    log_v = np.log(-np.expm1(log_w)) / a
    with np.errstate(divide="ignore"):
        log_rest = np.where(log_w < -25, log_w - np.log(a), np.log(-np.expm1(log_v)))
    log_rest = np.where(log_v < -20, -np.exp(log_v), log_rest)
    return float((weight * function(log_v, log_rest, log_w)).sum())


def of(value: float, dtype: torch.dtype = torch.float64, **more) -> torch.Tensor:
    return torch.tensor(value, dtype=dtype, **more)


@each_pair
def test_the_mean_of_the_rest_agrees_with_quadrature(a, b):
    expected = expectation(a, b, lambda v, rest, w: -rest)
    assert float(kumaraswamy.minus_mean_log_rest(of(a), of(b))) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("concentration", [0.3, 1.0, 5.0])
@each_pair
def test_the_kl_agrees_with_quadrature(a, b, concentration):
    def ratio(log_v, log_rest, log_w):
        log_q = np.log(a * b) + (a - 1) * log_v + (b - 1) * log_w
        return log_q - np.log(concentration) - (concentration - 1) * log_rest

    found = float(kumaraswamy.kl_from_beta(of(a), of(b), concentration))
    assert found == pytest.approx(expectation(a, b, ratio), rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("concentration", [0.3, 1.0, 5.0])
def test_the_kl_of_the_prior_is_zero_and_its_slope_too(concentration):
    # Kumaraswamy(1, alpha) is Beta(1, alpha).
    a, b = of(1.0, requires_grad=True), of(concentration, requires_grad=True)
    found = kumaraswamy.kl_from_beta(a, b, concentration)
    assert found.item() == pytest.approx(0.0, abs=1e-9)
    for slope in torch.autograd.grad(found, (a, b)):
        assert slope.item() == pytest.approx(0.0, abs=1e-7)


def test_the_series_of_ten_terms_would_be_wrong():
    # What is usually taken, and why it is not taken here.
    a, b = 1.0, 0.5
    s = np.arange(1, 11) / a
    cut = float((special.beta(s, b + 1.0) / a).sum())
    exact = expectation(a, b, lambda v, rest, w: -rest)
    assert exact - cut > 0.4
    assert float(kumaraswamy.minus_mean_log_rest(of(a), of(b))) == pytest.approx(exact, rel=1e-9)


@each_pair
def test_fractions_follow_the_law(a, b):
    noise = standard_gumbel(
        torch.Size((50_000,)),
        dtype=torch.float64,
        device=torch.device("cpu"),
        generator=generator("fractions"),
    )
    log_v, log_rest, log_w = kumaraswamy.log_fractions(of(a), of(b), noise)
    # By the distribution function the draws are uniform, whatever the law is: log(1 - F) = b log w.
    assert z_score(torch.exp(b * log_w), 0.5).abs() < 5
    assert torch.isfinite(log_v).all()
    assert torch.isfinite(log_rest).all()
    away = (log_v > -30) & (log_rest > -30)
    assert ((log_v.exp() + log_rest.exp())[away].sub(1).abs() < 1e-9).all()
    # v^a = 1 - w.
    assert torch.allclose((a * log_v).exp(), -torch.expm1(log_w), rtol=1e-9, atol=1e-14)


def test_the_density_is_torchs():
    a, b, v = of(2.5), of(0.7), torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    log_v, log_w = v.log(), torch.log1p(-(v**a))
    expected = torch.distributions.Kumaraswamy(a, b).log_prob(v)
    assert torch.allclose(kumaraswamy.log_density(a, b, log_v, log_w), expected, rtol=1e-10)


@each_pair
def test_single_precision_agrees_with_double(a, b):
    # Outermost draws included, whose fractions are zero or one in either precision.
    noise = torch.cat([torch.linspace(-4.5, 20.0, 400), torch.tensor([-4.6, 40.0, 80.0])])
    single = kumaraswamy.log_fractions(of(a, torch.float32), of(b, torch.float32), noise)
    double = kumaraswamy.log_fractions(of(a), of(b), noise.double())
    for mine, reference in zip(single, double, strict=True):
        assert torch.isfinite(mine).all()
        assert torch.allclose(mine.double(), reference, rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_pair
def test_gradients_are_finite(a, b, dtype):
    noise = torch.linspace(-4.5, 30.0, 200, dtype=dtype)
    one, other = of(a, dtype, requires_grad=True), of(b, dtype, requires_grad=True)
    for part in kumaraswamy.log_fractions(one, other, noise):
        for slope in torch.autograd.grad(
            part.exp().sum(), (one, other), allow_unused=True, retain_graph=True
        ):
            assert slope is None or torch.isfinite(slope)


def test_gradients_are_those_of_differences():
    a, b = of(1.7, requires_grad=True), of(0.6, requires_grad=True)
    noise = torch.linspace(-3.0, 10.0, 40, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: kumaraswamy.log_fractions(a, b, noise), (a, b))
    assert torch.autograd.gradcheck(lambda a, b: kumaraswamy.kl_from_beta(a, b, 3.0), (a, b))
