"""Bounds of mixture models: what they are of, and that nothing but the samples moves them."""

from __future__ import annotations

import pytest
import torch

from dlgmm_problems import (
    FAMILIES,
    exact_bound,
    exact_log_likelihood,
    exact_shares,
    images,
    mean_weights,
    model_of,
)
from igr.errors import UserError
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, RELAXED_ELBO
from igr.evaluation.dlgmm_bounds import dlgmm_bounds, representations

each_family = pytest.mark.parametrize("family", FAMILIES)
each_kind = pytest.mark.parametrize("sums_out", [False, True], ids=["averaged", "summed"])


@each_family
@each_kind
def test_the_bound_of_many_samples_is_the_exact_log_likelihood(family, sums_out):
    model, x = model_of(family, sums_out=sums_out), images()
    found = dlgmm_bounds(model, x, 1.0, num_samples=50_000)
    exact = exact_log_likelihood(model, x)
    # The standard error of the logarithm of a mean of weights, whose relative variance is below ten.
    assert (found.bounds[IMPORTANCE_WEIGHTED.key] - exact).abs().max() < 5 * (10 / 50_000) ** 0.5
    elbo = found.bounds[RELAXED_ELBO.key]
    assert (elbo < exact).all()
    if sums_out:
        assert (elbo > exact_bound(model, x)).all()
    else:
        assert (elbo - exact_bound(model, x)).abs().max() < 5 * 3 / 50_000**0.5
    weights = mean_weights(model.encode(x).sticks)
    assert (found.weights - weights).abs().max() < 5 * 0.5 / 50_000**0.5
    for parts in (found.weights, found.shares):
        assert torch.allclose(parts.sum(-1), torch.ones(len(x), dtype=torch.float64))
    assert (found.shares - exact_shares(model, x)).abs().max() < 5 * (10 / 50_000) ** 0.5


@each_family
@pytest.mark.parametrize("budget", [1, 2**9, 2**21])
def test_figures_do_not_depend_on_chunks(family, budget):
    model, x = model_of(family, 4, 2), images(40)
    expected = dlgmm_bounds(model, x, 1.0, num_samples=70)
    found = dlgmm_bounds(model, x, 1.0, num_samples=70, element_budget=budget)
    for key, values in expected.bounds.items():
        torch.testing.assert_close(found.bounds[key], values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.weights, expected.weights, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.shares, expected.shares, rtol=1e-9, atol=1e-9)


def test_progress_and_seeds():
    done: list[int] = []
    model, x = model_of("logit-normal", 4, 2), images(70)
    first = dlgmm_bounds(model, x, 1.0, num_samples=10, progress=done.append)
    assert done == [32, 64, 70]
    again = dlgmm_bounds(model, x, 1.0, num_samples=10)
    other = dlgmm_bounds(model, x, 1.0, num_samples=10, seed=1)
    assert torch.equal(first.bounds[RELAXED_ELBO.key], again.bounds[RELAXED_ELBO.key])
    assert not torch.equal(first.bounds[RELAXED_ELBO.key], other.bounds[RELAXED_ELBO.key])


@each_family
def test_representations_are_means_of_the_posteriors_by_their_shares(family):
    model, x = model_of(family, 4, 2, sums_out=True), images(40)
    found = representations(model, x, 1.0, num_samples=2000)
    loc = model.encode(x).loc
    expected = (dlgmm_bounds(model, x, 1.0, num_samples=2000).shares.unsqueeze(-1) * loc).sum(-2)
    weights = representations(model_of(family, 4, 2), x, 1.0, num_samples=2000)
    # They are of the bound that is trained, which weighs no draws of the sticks, but close.
    assert (found - expected).norm() < 0.3 * (weights - expected).norm()


@pytest.mark.parametrize("num_samples", [1, 4, 15, 25])
@pytest.mark.parametrize("sums_out", [False, True])
def test_representations_do_not_depend_on_chunks(num_samples, sums_out):
    model, x = model_of("logit-normal", 4, 2, sums_out=sums_out), images(40)
    expected = representations(model, x, 1.0, num_samples=num_samples)
    found = representations(model, x, 1.0, num_samples=num_samples, element_budget=1)
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match="samples of at least 1"):
        representations(model, x, 1.0, num_samples=0)


@each_family
def test_representations_are_means_of_the_posteriors(family):
    model, x = model_of(family, 4, 2), images(40)
    found = representations(model, x, 1.0, num_samples=2000)
    posterior = model.encode(x)
    expected = (mean_weights(posterior.sticks).unsqueeze(-1) * posterior.loc).sum(-2).detach()
    assert found.shape == (40, 2)
    assert (found - expected).abs().max() < 5 * posterior.loc.abs().max() * 0.5 / 2000**0.5
    assert torch.equal(found, representations(model, x, 1.0, num_samples=2000))


@pytest.mark.parametrize(
    ("count", "x", "said"), [(0, images(2), "samples of at least 1"), (3, images(2)[:0], "none")]
)
def test_nothing_to_evaluate_is_refused(count, x, said):
    with pytest.raises(UserError, match=said):
        dlgmm_bounds(model_of("kumaraswamy"), x, 1.0, num_samples=count)
