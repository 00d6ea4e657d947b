"""The mean of a softmax: against one-dimensional quadrature where there are two, and draws."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import logistic, norm

from cases import generator, z_score
from igr.kernels.noise import standard_gumbel
from igr.kernels.softmax_mean import mean_of_gaussian_softmax, mean_of_gumbel_softmax


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize("deviation", [1e-3, 0.3, 0.99, 1.01, 3.0, 30.0, 1e3])
@pytest.mark.parametrize("mean", [-3.0, 0.7])
def test_logit_normal_mean_is_that_of_quadrature(mean, deviation):
    """E sigmoid(x): exactly what scipy integrates, with the bend of the sigmoid as a break point."""
    place = -mean / deviation
    points = sorted({p for p in (place - 30 / deviation, place, place + 30 / deviation) if abs(p) < 12})
    expected, _ = quad(
        lambda e: expit(mean + deviation * e) * norm.pdf(e), -12, 12, points=points or None, epsabs=1e-13
    )
    found = mean_of_gaussian_softmax(row(mean, 0.0), row(deviation, 0.0))
    assert found[0].tolist() == pytest.approx([expected, 1 - expected], abs=1e-9)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 0.99, 1.01, 5.0, 100.0])
def test_binary_concrete_mean_is_that_of_quadrature(temperature):
    """The difference of two Gumbel variables is logistic."""
    expected, _ = quad(
        lambda g: expit((0.8 + g) / temperature) * logistic.pdf(g),
        -60,
        60,
        points=[-0.8, -0.8 - 30 * temperature, -0.8 + 30 * temperature] if temperature < 1 else [-0.8],
        epsabs=1e-13,
        limit=200,
    )
    found = mean_of_gumbel_softmax(row(0.8, 0.0), row(temperature))
    assert found[0].tolist() == pytest.approx([expected, 1 - expected], abs=1e-9)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("kind", ["gaussian", "gumbel"])
def test_mean_is_that_of_draws_and_sums_to_one(kind, temperature):
    source = generator(kind)
    loc = torch.randn(3, 6, dtype=torch.float64, generator=source)
    scale = 0.1 * 30.0 ** torch.rand(3, 6, dtype=torch.float64, generator=source)
    if kind == "gaussian":
        found = mean_of_gaussian_softmax(loc / temperature, scale / temperature)
        noise = scale * torch.randn(50_000, 3, 6, dtype=torch.float64, generator=source)
    else:
        found = mean_of_gumbel_softmax(loc, torch.full((3, 1), temperature, dtype=torch.float64))
        noise = standard_gumbel(
            torch.Size((50_000, 3, 6)), dtype=torch.float64, device=torch.device("cpu"), generator=source
        )
    # Nothing normalizes it: the sum tells that every integral is right.
    torch.testing.assert_close(found.sum(-1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-10)
    drawn = torch.softmax((loc + noise) / temperature, -1)
    # A mean that a few draws in ten thousand make up has no normal error.
    assert z_score(drawn, found)[found > 1e-3].abs().max() < 5


def test_many_categories_and_far_means():
    loc = torch.linspace(-1e4, 1e4, 300, dtype=torch.float64).unsqueeze(0)
    found = mean_of_gaussian_softmax(loc, torch.ones_like(loc))
    assert found[0, -1].item() == pytest.approx(1.0, abs=1e-10)
    equal = mean_of_gumbel_softmax(torch.zeros(1, 1000, dtype=torch.float64), row(0.5))
    assert np.abs(equal[0].numpy() - 1e-3).max() < 1e-12


def test_derivatives_are_those_of_differences():
    loc = row(0.3, -0.5, 0.0).requires_grad_()
    scale = row(0.4, 2.0, 0.0)
    scale_of_two = scale[:, :2].clone().requires_grad_()

    def gaussian(loc, scale):
        return mean_of_gaussian_softmax(loc, torch.nn.functional.pad(scale, (0, 1)))

    assert torch.autograd.gradcheck(gaussian, (loc, scale_of_two))
    temperature = row(0.7).requires_grad_()
    assert torch.autograd.gradcheck(mean_of_gumbel_softmax, (loc, temperature))


def test_no_laws_have_no_means():
    assert mean_of_gaussian_softmax(torch.zeros(0, 3), torch.ones(0, 3)).shape == (0, 3)
