"""Bounds of structured output prediction: what they are of, and that nothing but the samples moves them."""

from __future__ import annotations

import pytest
import torch

from igr.errors import UserError
from igr.evaluation.bounds import DISCRETE_ELBO, IMPORTANCE_WEIGHTED, RELAXED_ELBO
from igr.evaluation.sop_bounds import counts_up_to, sop_bounds
from igr.models.sop import SOP
from sop_problems import exact_log_likelihood, images, model_of

TEMPERATURE = 0.7


@pytest.fixture
def model() -> SOP:
    return model_of()


def bounds(model, x, num_samples=40, **options):
    return sop_bounds(model, x, TEMPERATURE, num_samples=num_samples, **options)


def test_the_bound_of_many_samples_is_the_exact_log_likelihood(model):
    x = images(3)
    figures, by_count = bounds(model, x, 20_000)
    exact = exact_log_likelihood(model, x, TEMPERATURE)
    # The standard error of a logarithm of a mean, by the exact second moment.
    relative = (exact_log_likelihood(model, x, TEMPERATURE, power=2) - 2 * exact).exp() - 1
    error = torch.sqrt(relative / 20_000)
    assert error.max() < 0.05
    assert ((figures[IMPORTANCE_WEIGHTED.key] - exact).abs() < 5 * error).all()
    assert torch.equal(by_count[20_000], figures[IMPORTANCE_WEIGHTED.key])
    assert (figures[DISCRETE_ELBO.key] < exact).all()


def test_figures_are_means_over_data_of_enough_samples(model):
    """The mean over many data with one image repeated is an expectation of one."""
    x = images(1).expand(640, -1, -1, -1)
    figures, by_count = bounds(model, x, 10)
    # In expectation tighter with each sample, and one sample of each is a mean of logarithms.
    means = {count: float(values.mean()) for count, values in by_count.items()}
    exact = exact_log_likelihood(model, x[:1], TEMPERATURE).item()
    assert means[1] < means[10] < exact
    error = float(by_count[1].std()) / 640**0.5
    assert means[1] == pytest.approx(float(figures[DISCRETE_ELBO.key].mean()), abs=5 * error)


@pytest.mark.parametrize("budget", [1, 2**12, 2**21])
def test_figures_do_not_depend_on_chunks(model, budget):
    x = images(40)
    expected, by_count = bounds(model, x, 130)
    found, others = bounds(model, x, 130, element_budget=budget)
    for key, values in expected.items():
        torch.testing.assert_close(found[key], values, rtol=1e-9, atol=1e-9)
    for count, values in by_count.items():
        torch.testing.assert_close(others[count], values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("budget", "num_units"), [(2**12, 3), (2**12, 40), (1, 3)])
def test_no_tensor_outgrows_the_budget(budget, num_units):
    """Whatever is the widest: the noise of all layers, or the pixels."""
    model = model_of(num_units=num_units, spread=0.1)
    largest = [0]

    def see(_module, _inputs, output):
        largest[0] = max(largest[0], output.numel())

    for layer in model.layers:
        layer.register_forward_hook(see)
    bounds(model, images(32), 300, element_budget=budget)
    # No less than one sample of 32 data can be drawn at a time.
    assert largest[0] <= max(budget, 32 * model.largest_per_sample)


def test_the_first_samples_of_a_longer_evaluation_are_those_of_a_shorter_one(model):
    x = images(5)
    _, longer = bounds(model, x, 130)
    for count in (1, 10, 100):
        torch.testing.assert_close(longer[count], bounds(model, x, count)[1][count])
    shorter, _ = bounds(model, x, 100)
    longer_figures, _ = bounds(model, x, 130)
    # The relaxed figure is of no more than a hundred.
    torch.testing.assert_close(longer_figures[RELAXED_ELBO.key], shorter[RELAXED_ELBO.key])


def test_counts():
    assert counts_up_to(1) == [1]
    assert counts_up_to(10) == [1, 10]
    assert counts_up_to(250) == [1, 10, 100, 250]
    assert counts_up_to(1000) == [1, 10, 100, 1000]


def test_progress_and_seeds(model):
    done: list[int] = []
    x = images(70)
    first, _ = bounds(model, x, progress=done.append)
    assert done == [32, 64, 70]
    assert torch.equal(first[RELAXED_ELBO.key], bounds(model, x)[0][RELAXED_ELBO.key])
    assert not torch.equal(first[RELAXED_ELBO.key], bounds(model, x, seed=1)[0][RELAXED_ELBO.key])


@pytest.mark.parametrize(
    ("count", "x", "said"), [(0, images(2), "samples of at least 1"), (3, images(2)[:0], "none")]
)
def test_nothing_to_evaluate_is_refused(model, count, x, said):
    with pytest.raises(UserError, match=said):
        bounds(model, x, count)
