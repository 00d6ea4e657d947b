"""Likelihoods are the laws they say, with as many numbers for a pixel as they say."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from igr.models.likelihoods import GREY_LEVEL, LIKELIHOODS

SHAPE = (2, 3, 4)  # channels, height, width


def parameters_of(name: str, *batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    per_pixel = LIKELIHOODS[name].parameters_per_pixel
    return 3 * torch.randn(*batch, per_pixel, *SHAPE, dtype=torch.float64, generator=generator)


def pixels_for(name: str, *batch: int) -> Tensor:
    drawn = torch.rand(*batch, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return drawn.round() if LIKELIHOODS[name].binary_images else drawn


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_shapes_are_those_of_an_image(name):
    law = LIKELIHOODS[name].law(parameters_of(name, 5, 7))
    assert (law.batch_shape, law.event_shape) == ((5, 7), SHAPE)
    assert law.log_prob(pixels_for(name, 7)).shape == (5, 7)
    assert law.mean.shape == (5, 7, *SHAPE)
    assert law.mean.min() >= 0
    assert law.mean.max() <= 1


def test_bernoulli_is_scipys():
    parameters, x = parameters_of("bernoulli", 6), pixels_for("bernoulli", 6)
    p = 1 / (1 + (-parameters[:, 0]).exp())
    expected = stats.bernoulli.logpmf(x, p).sum((1, 2, 3))
    assert LIKELIHOODS["bernoulli"].law(parameters).log_prob(x).numpy() == pytest.approx(expected)


def test_normal_is_scipys_with_a_mean_and_a_scale_for_each_pixel():
    parameters, x = parameters_of("normal", 6), pixels_for("normal", 6)
    a, b = parameters.unbind(1)
    expected = stats.norm.logpdf(x, 1 / (1 + (-a).exp()), 1 / 255 + torch.log1p(b.exp())).sum((1, 2, 3))
    assert LIKELIHOODS["normal"].law(parameters).log_prob(x).numpy() == pytest.approx(expected)


def test_normal_elu_is_what_the_original_computes():
    parameters, x = parameters_of("normal-elu", 6), pixels_for("normal-elu", 6)
    a, b = torch.where(parameters > 0, parameters, parameters.exp() - 1).unbind(1)
    expected = stats.norm.logpdf(x, 1 / (1 + (-a).exp()), 1e-6 + torch.log1p(b.exp())).sum((1, 2, 3))
    assert LIKELIHOODS["normal-elu"].law(parameters).log_prob(x).numpy() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "least_mean", "least_scale"), [("normal", 0.0, GREY_LEVEL), ("normal-elu", 0.268, 0.313)]
)
def test_scales_are_bounded_below_so_that_densities_are_bounded(name, least_mean, least_scale):
    law = LIKELIHOODS[name].law(torch.full((2, *SHAPE), -1e4))
    assert law.mean.min().item() == pytest.approx(least_mean, abs=1e-3)
    assert law.stddev.min().item() == pytest.approx(least_scale, abs=1e-3)
    # The most that a pixel can add to a log-likelihood.
    highest = law.log_prob(law.mean).item() / math.prod(SHAPE)
    assert highest == pytest.approx(-math.log(least_scale * math.sqrt(2 * math.pi)), rel=1e-2)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_are_finite_however_large_the_numbers(name):
    for size in (-1e4, -50.0, 0.0, 50.0, 1e4):
        parameters = torch.full((LIKELIHOODS[name].parameters_per_pixel, *SHAPE), size, requires_grad=True)
        LIKELIHOODS[name].law(parameters).log_prob(pixels_for(name).float()).backward()
        assert parameters.grad is not None
        assert parameters.grad.isfinite().all()
