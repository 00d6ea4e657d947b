"""Likelihoods are the laws they say, with as many numbers for a pixel as they say."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import ContinuousBernoulli

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


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7), (1, 1, 1), (1, 1, 3)])
def test_bernoulli_without_gradient_is_that_with_one(shape):
    """Shapes that halve evenly or not; logits where a factor is two, one, or rounds to one."""
    source = torch.Generator().manual_seed(4)
    logits = 10.0 ** torch.empty(5, 4, *shape, dtype=torch.float64).uniform_(-3, 3, generator=source)
    logits = torch.where(torch.rand(logits.shape, generator=source) < 0.5, logits, -logits)
    logits[0] = 0.0
    x = torch.rand(4, *shape, generator=source).double().round()
    for pixels in (x, 0.3 * x):
        law = LIKELIHOODS["bernoulli"].law(logits.unsqueeze(-4))
        expected = law.log_prob(pixels)
        with torch.no_grad():
            torch.testing.assert_close(law.log_prob(pixels), expected, rtol=1e-12, atol=1e-12)
            single = LIKELIHOODS["bernoulli"].law(logits.float().unsqueeze(-4)).log_prob(pixels.float())
        torch.testing.assert_close(single.double(), expected, rtol=1e-6, atol=1e-5)


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


LOGITS = [-80.0, -30.0, -16.5, -15.5, -3.0, -0.6, -0.5001, -0.5, -0.4999, -0.1, -1e-4, -1e-8, 0.0]
LOGITS += [-logit for logit in LOGITS[:-1]]
# Nodes and weights on [0, 1] in panels that narrow towards both ends, where the density may be steep.
EDGES = np.concatenate([[0.0], np.geomspace(1e-6, 0.5, 40)])
EDGES = np.concatenate([EDGES, 1 - EDGES[-2::-1]])
GAUSS = np.polynomial.legendre.leggauss(12)
NODES = torch.from_numpy((EDGES[:-1, None] + np.diff(EDGES)[:, None] * (1 + GAUSS[0]) / 2).ravel())
WEIGHTS = torch.from_numpy((np.diff(EDGES)[:, None] * GAUSS[1] / 2).ravel())


def continuous_law(logit: float, dtype: torch.dtype = torch.float64):
    return LIKELIHOODS["continuous-bernoulli"].law(torch.full((1, 1, 1, 1), logit, dtype=dtype))


def densities(logit: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return continuous_law(logit, dtype).log_prob(NODES.to(dtype).view(-1, 1, 1, 1)).double().exp()


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_density_has_the_integral_one_and_the_mean_that_it_says(logit):
    density = densities(logit)
    assert (density * WEIGHTS).sum().item() == pytest.approx(1, abs=1e-11)
    mean = (density * NODES * WEIGHTS).sum().item()
    assert continuous_law(logit).mean.item() == pytest.approx(mean, abs=1e-11)
    single = densities(logit, torch.float32)
    assert (single * WEIGHTS).sum().item() == pytest.approx(1, abs=3e-6)
    assert continuous_law(logit, torch.float32).mean.item() == pytest.approx(mean, abs=3e-6)


@pytest.mark.parametrize("logit", [logit for logit in LOGITS if 0.1 <= abs(logit) < 15.6])
def test_the_continuous_bernoulli_is_torchs_where_that_is_right(logit):
    # Its own series is a coarse one, within a thousandth of one half.
    torchs = ContinuousBernoulli(logits=torch.tensor(logit, dtype=torch.float64), lims=(0.499, 0.501))
    found = continuous_law(logit).log_prob(NODES.view(-1, 1, 1, 1))
    torch.testing.assert_close(found, torchs.log_prob(NODES), rtol=1e-8, atol=1e-8)
    assert continuous_law(logit).mean.item() == pytest.approx(torchs.mean.item(), rel=1e-8)


def test_torchs_continuous_bernoulli_is_wrong_beyond():
    """Why there is one of ours: the density of this one has not the integral one."""
    torchs = ContinuousBernoulli(logits=torch.tensor(80.0, dtype=torch.float64))
    assert abs((torchs.log_prob(NODES).exp() * WEIGHTS).sum().item() - 1) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_the_continuous_bernoulli_are_value_minus_mean(dtype):
    logits = torch.tensor([*LOGITS, 1e4, -1e4], dtype=dtype).view(-1, 1, 1, 1, 1).requires_grad_()
    law = LIKELIHOODS["continuous-bernoulli"].law(logits)
    for value in (0.0, 0.3, 1.0):
        found = law.log_prob(torch.full((1, 1, 1), value, dtype=dtype))
        assert found.isfinite().all()
        (gradient,) = torch.autograd.grad(found.sum(), logits, retain_graph=True)
        expected = value - LIKELIHOODS["continuous-bernoulli"].law(logits.detach().double()).mean
        tolerance = 1e-11 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(gradient.double().squeeze(), expected.squeeze(), rtol=0, atol=tolerance)
