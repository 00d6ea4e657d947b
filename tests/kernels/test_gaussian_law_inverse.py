"""Means for a given law: the law comes back, for every law that Newton's method is sent after."""

import math

import pytest
import torch

import igr
from cases import TEN, generator, tensor
from igr.kernels.gaussian_law_inverse import loc_for_probs, uniform_loc


def dirichlet(concentration, count, num_categories, smallest=0.0):
    exponential = torch.distributions.Gamma(torch.tensor(concentration, dtype=torch.float64), 1.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weight = exponential.sample((count, num_categories))
    probs = (weight / weight.sum(-1, keepdim=True)).clamp(min=smallest)
    return probs / probs.sum(-1, keepdim=True)


def laws_of(probs, scale=1.0, **options):
    law = igr.InvertibleGaussian.from_probs(
        probs, scale, temperature=options.pop("temperature", 0.5), **options
    )
    return law.discrete().log_probs


def total_variation(log_probs, probs):
    return 0.5 * (log_probs.exp() - probs).abs().sum(-1).max().item()


def test_a_thousand_laws_at_once():
    probs = dirichlet(1.0, 1000, 10)
    assert total_variation(laws_of(probs), probs) < 1e-10


def test_the_ten_category_law():
    log_probs = laws_of(TEN)
    assert (TEN * (TEN.log() - log_probs)).sum().abs().item() < 1e-14


@pytest.mark.parametrize("delta", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_delta_and_scale(scale, delta):
    probs = dirichlet(1.0, 5, 6)
    assert total_variation(laws_of(probs, scale, temperature=0.7, delta=delta), probs) < 1e-10


def test_tiny_probabilities_are_as_exact_as_large_ones():
    probs = dirichlet(0.1, 100, 10, smallest=1e-10)
    assert probs.min() < 2e-10
    error = laws_of(probs) - probs.log()
    assert error.abs().max().item() < 1e-8


def test_two_categories_are_the_closed_form():
    probs = tensor(1e-6, 1 - 1e-6, 0.3, 0.7, 0.999, 0.001).view(3, 2)
    scale = tensor(0.5, 1.0, 3.0).view(3, 1)
    law = igr.InvertibleGaussian.from_probs(probs, scale, temperature=0.2, delta=0.1)
    expected = scale * torch.special.ndtri(probs[:, :1]) + 0.2 * math.log(0.1)
    torch.testing.assert_close(law.loc, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_categories", [50, 200])
def test_many_categories(num_categories):
    probs = dirichlet(1.0, 2, num_categories)
    assert total_variation(laws_of(probs), probs) < 1e-10


@pytest.mark.parametrize("num_categories", [3, 10, 30])
def test_scales_mixed_within_one_law(num_categories):
    probs = dirichlet(1.0, 40, num_categories)
    spread = torch.rand(40, num_categories - 1, dtype=torch.float64, generator=generator("spread"))
    assert total_variation(laws_of(probs, 0.2 * 25.0**spread), probs) < 1e-10


def test_the_answer_is_differentiable_in_law_and_scale():
    weight = tensor(0.5, -1.0, 2.0, 0.3)
    scale = tensor(0.5, 1.0, 2.0)

    def loc(logits, scale):
        probs = torch.softmax(logits, -1)
        return igr.InvertibleGaussian.from_probs(probs, scale, temperature=0.5, delta=0.3).loc

    assert torch.autograd.gradcheck(loc, (weight.requires_grad_(), scale.requires_grad_()))


def test_the_answer_is_differentiable_in_temperature_and_delta():
    def loc(temperature, delta):
        return igr.InvertibleGaussian.from_probs(
            tensor(0.2, 0.3, 0.5), temperature=temperature, delta=delta
        ).loc

    inputs = tuple(torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 0.3))
    assert torch.autograd.gradcheck(loc, inputs)


def test_batches_broadcast_and_may_be_empty():
    probs = dirichlet(1.0, 3, 4)
    scale = tensor(0.5, 2.0).view(2, 1, 1)
    law = igr.InvertibleGaussian.from_probs(probs, scale, temperature=0.5)
    assert law.batch_shape == (2, 3)
    torch.testing.assert_close(law.discrete().probs, probs.expand(2, 3, 4), rtol=0, atol=1e-10)
    assert igr.InvertibleGaussian.from_probs(probs[:0], temperature=0.5).batch_shape == (0,)


def test_float32_in_float32_out():
    probs = dirichlet(1.0, 20, 10).float()
    law = igr.InvertibleGaussian.from_probs(probs, temperature=0.5)
    assert law.dtype == torch.float32
    torch.testing.assert_close(law.discrete().probs, probs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_categories", [2, 3, 10, 200, 5000])
def test_uniform_is_uniform(num_categories):
    """Equal means m: P(K) = Phi(-m / sigma)^(K - 1) = 1 / K, and the others share the rest."""
    loc = torch.tensor(uniform_loc(num_categories, 2.0), dtype=torch.float64)
    last = (num_categories - 1) * torch.special.log_ndtr(-loc / 2.0)
    assert last.item() == pytest.approx(-math.log(num_categories), abs=1e-11)
    if num_categories <= 200:
        law = igr.InvertibleGaussian.uniform(num_categories, 0.5, scale=2.0, delta=0.1, dtype=torch.float64)
        expected = torch.full((num_categories,), 1.0 / num_categories, dtype=torch.float64)
        torch.testing.assert_close(law.discrete().log_probs.exp(), expected, rtol=0, atol=1e-12)


def test_a_law_out_of_reach_is_said_to_be():
    probs = tensor(1e-300, 1.0, 1e-300)
    with pytest.raises(RuntimeError, match=r"did not reach 1 of 1 laws"):
        loc_for_probs(probs, tensor(1e-3, 1e3))
