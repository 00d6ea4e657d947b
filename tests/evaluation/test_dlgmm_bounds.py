"""Bounds of mixture models: what they are of, and that nothing but the samples moves them."""

from __future__ import annotations

import pytest
import torch

from cases import generator, z_score
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
def test_figures_of_many_samples_are_the_exact_ones(family, sums_out):
    model, x = model_of(family, sums_out=sums_out), images()
    count = 50_000
    found = dlgmm_bounds(model, x, 1.0, num_samples=count)
    exact, shares = exact_log_likelihood(model, x), exact_shares(model, x)
    # Spreads by draws of their own, those of a logarithm and of a quotient of means to first order.
    with torch.no_grad():
        posterior = model.encode(x)
        noise = model.draw_noise((20_000, len(x)), generator("spreads"))
        drawn = model.draw(x, posterior, noise)
        ratio = posterior.sticks.log_ratio(noise[..., : model.num_components - 1]).unsqueeze(-1)
        parts = (drawn.log_terms + ratio - exact.unsqueeze(-1)).exp()
        bounds = model.bound(posterior, drawn)
    whole = parts.sum(-1, keepdim=True)
    error = count**-0.5

    def close(value, expected, spread):
        assert ((value - expected).abs() < 5 * error * spread).all()

    close(found.bounds[IMPORTANCE_WEIGHTED.key], exact, whole.std(0).squeeze(-1))
    close(found.weights, mean_weights(posterior.sticks), drawn.log_weights.exp().std(0))
    close(found.shares, shares, (parts - shares * whole).std(0))
    elbo = found.bounds[RELAXED_ELBO.key]
    if sums_out:
        assert (elbo > exact_bound(model, x)).all()
        assert (elbo < exact).all()
    else:
        close(elbo, exact_bound(model, x), bounds.std(0))


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
@each_kind
def test_representations_are_means_of_the_posteriors_by_their_shares(family, sums_out):
    model, x = model_of(family, 4, 2, sums_out=sums_out), images(40)
    found = representations(model, x, 1.0, num_samples=2000)
    with torch.no_grad():
        posterior = model.encode(x)
        shares = model.shares(x, posterior, model.draw_noise((20_000, len(x)), generator("shares")))
    points = (shares.unsqueeze(-1) * posterior.loc.detach()).sum(-2)
    if not sums_out:
        weights = mean_weights(posterior.sticks).unsqueeze(-1)
        assert z_score(points, (weights * posterior.loc.detach()).sum(-2)).abs().max() < 5
    error = points.std(0) * (1 / 2000 + 1 / 20_000) ** 0.5
    assert ((found - points.mean(0)).abs() < 5 * error).all()
    assert torch.equal(found, representations(model, x, 1.0, num_samples=2000))


@pytest.mark.parametrize(
    ("count", "x", "said"), [(0, images(2), "samples of at least 1"), (3, images(2)[:0], "none")]
)
def test_nothing_to_evaluate_is_refused(count, x, said):
    with pytest.raises(UserError, match=said):
        dlgmm_bounds(model_of("kumaraswamy"), x, 1.0, num_samples=count)
