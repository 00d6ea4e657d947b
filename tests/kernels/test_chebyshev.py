"""Values at Chebyshev points give the function back, its integrals, and its series."""

import numpy as np
import pytest
import torch

from igr.kernels.chebyshev import chebyshev_moments, chebyshev_rule
from igr.kernels.quadrature import gauss_legendre

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [2, 9, 24])
def test_polynomials_are_exact(count):
    rule = chebyshev_rule(count, torch.float64, CPU)
    polynomial = np.polynomial.Polynomial(np.random.default_rng(0).normal(size=count))
    values = torch.from_numpy(polynomial(rule.points.numpy()))
    u = torch.linspace(-1, 1, 7, dtype=torch.float64)
    ones = torch.ones(1, dtype=torch.float64)
    found = chebyshev_moments(u.unsqueeze(-1), ones, count) @ (rule.coefficients @ values)
    torch.testing.assert_close(found, torch.from_numpy(polynomial(u.numpy())), rtol=1e-10, atol=1e-10)
    integral = polynomial.integ()
    expected = integral(1.0) - integral(rule.points.numpy())
    torch.testing.assert_close(rule.tails @ values, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


def test_moments_are_weighted_sums_of_the_polynomials():
    rng = np.random.default_rng(1)
    u, weights = rng.uniform(-1, 1, (3, 5)), rng.normal(size=(3, 5))
    expected = np.einsum("bn,bnm->bm", weights, np.polynomial.chebyshev.chebvander(u, 6))
    found = chebyshev_moments(torch.from_numpy(u), torch.from_numpy(weights), 7)
    torch.testing.assert_close(found, torch.from_numpy(expected))
    mapped = torch.func.vmap(lambda u, w: chebyshev_moments(u, w, 7))
    torch.testing.assert_close(mapped(torch.from_numpy(u), torch.from_numpy(weights)), found)


def test_gauss_legendre_is_exact_to_twice_its_degree():
    points, weights = gauss_legendre(5, torch.float64, CPU)
    assert (weights @ points**9).item() == pytest.approx(0.1, abs=1e-15)
    assert (weights @ points**10).item() != pytest.approx(1 / 11, abs=1e-8)
