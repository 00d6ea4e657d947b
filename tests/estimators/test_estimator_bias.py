"""Unbiased estimators have the gradient as their mean, by enumeration; biased ones do not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from estimator_problems import (
    FUNCTIONS,
    all_points,
    distribution,
    exact_gradient,
    function,
    parameters,
    sampled_gradients,
)
from igr import estimators

Make = Callable[[], estimators.Estimator]


def with_trained_parts(estimator: estimators.RELAX) -> estimators.RELAX:
    """One whose network takes part, since it starts with the weight zero."""
    torch.manual_seed(0)
    estimator.control = estimators.ControlNetwork(hidden=6).double()
    estimator.control_scale.data.fill_(0.7)
    estimator.baseline.data.fill_(0.3)
    return estimator


UNBIASED: dict[str, tuple[Make, int]] = {
    "score": (estimators.ScoreFunction, 1),
    "leave-one-out": (lambda: estimators.ScoreFunction("leave_one_out"), 2),
    "moving-average": (lambda: estimators.ScoreFunction("moving_average", decay=0.5), 1),
    "rebar": (lambda: estimators.REBAR(temperature=0.3, coefficient=0.8), 1),
    "rebar-two-samples": (estimators.REBAR, 2),
    "relax": (lambda: with_trained_parts(estimators.RELAX()), 1),
    "relax-black-box": (lambda: with_trained_parts(estimators.RELAX(coefficient=None)), 1),
    "disarm": (estimators.DisARM, 1),
}
CONTROLLED = ("rebar", "rebar-two-samples", "relax", "relax-black-box")
SMALL, LARGE = 20_000, 1_000_000
# Two integrals for each sample are quicker in float32, whose rounding is far below the sampling error.
QUICKER = torch.float32


def test_every_estimator_is_held_to_what_it_says() -> None:
    held = {type(make()) for make, _ in UNBIASED.values()} | {estimators.VIMCO}
    others = {type(make()) for make in BIASED.values()}
    for name in estimators.ESTIMATORS:
        estimator = estimators.by_name(name)
        assert type(estimator) in (held if estimator.unbiased else others)


def cases() -> list[pytest.ParameterSet]:
    found = []
    for law in ("gumbel-softmax", "igr", "igr-sb"):
        for num_categories in (2, 3, 5):
            for kind in FUNCTIONS:
                for name in UNBIASED:
                    if (name == "disarm" and num_categories > 2) or (law == "igr-sb" and name in CONTROLLED):
                        continue
                    case = (name, law, num_categories, kind)
                    label = "-".join(map(str, case))
                    found.append(pytest.param(*case, LARGE, id=f"{label}-million", marks=pytest.mark.slow))
                    # A part of all, with fewer samples, is quick enough for every day.
                    if law != "igr-sb" and (kind == "network" or num_categories == 3):
                        found.append(pytest.param(*case, SMALL, id=label))
    return found


@pytest.mark.parametrize(("name", "law", "num_categories", "kind", "count"), cases())
def test_unbiased(name: str, law: str, num_categories: int, kind: str, count: int) -> None:
    make, num_samples = UNBIASED[name]
    estimator = make()
    assert estimator.unbiased
    exact = torch.cat(
        [g.flatten() for g in exact_gradient(function(kind, num_categories), law, num_categories).values()]
    )
    dtype = QUICKER if law == "igr" and name in CONTROLLED else torch.float64
    of = function(kind, num_categories, dtype)
    mean, deviation = sampled_gradients(
        estimator.to(dtype), of, law, num_categories, count, num_samples, dtype
    )
    z = (mean - exact) / (deviation / math.sqrt(count))
    assert z.abs().max() < 5.0


@pytest.mark.parametrize("law", ["gumbel-softmax", "igr"])
@pytest.mark.parametrize(
    ("kind", "num_categories", "count"),
    [
        ("network", 2, SMALL),
        *(
            pytest.param(kind, number, LARGE, marks=pytest.mark.slow)
            for kind in FUNCTIONS
            for number in (2, 3, 5)
        ),
    ],
)
def test_vimco_is_unbiased_for_the_bound_of_several_samples(
    law: str, kind: str, num_categories: int, count: int
) -> None:
    of = function(kind, num_categories)
    leaves = {name: p.requires_grad_() for name, p in parameters(law, num_categories).items()}
    points = all_points(num_categories)
    log_prob = (points * distribution(law, leaves).discrete().exact_logits).sum((-2, -1))
    values = of(points)
    pairs = torch.logsumexp(torch.stack(torch.broadcast_tensors(values[:, None], values[None])), 0)
    weight = torch.exp(log_prob[:, None] + log_prob[None])
    bound = (weight * (pairs - math.log(2.0))).sum()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(bound, list(leaves.values()))])
    mean, deviation = sampled_gradients(estimators.VIMCO(), of, law, num_categories, count, num_samples=2)
    assert ((mean - exact) / (deviation / math.sqrt(count))).abs().max() < 5.0


BIASED: dict[str, Make] = {
    "pathwise": estimators.Pathwise,
    "straight-through": estimators.StraightThrough,
    "gumbel-straight-through": estimators.GumbelStraightThrough,
    "rao-blackwell": lambda: estimators.RaoBlackwellStraightThrough(4),
    "reinmax": estimators.ReinMax,
    "gapped": estimators.GappedStraightThrough,
    "gapped-by-probability": lambda: estimators.GappedStraightThrough(gap=None),
}


@pytest.mark.parametrize("law", ["gumbel-softmax", "igr"])
@pytest.mark.parametrize("name", BIASED)
def test_biased_ones_are_biased_and_point_the_right_way(name: str, law: str) -> None:
    if name == "rao-blackwell" and law == "igr":
        pytest.skip("the noise of IGR-I given the category has no closed form to draw from")
    estimator = BIASED[name]()
    assert not estimator.unbiased
    of = function("network", 3)
    exact = torch.cat([g.flatten() for g in exact_gradient(of, law, 3).values()])
    mean, deviation = sampled_gradients(estimator, of, law, 3, SMALL)
    assert ((mean - exact) / (deviation / math.sqrt(SMALL))).abs().max() > 5.0
    # Biased, yet of use: the cosine with the gradient is far above zero.
    assert torch.cosine_similarity(mean, exact, dim=0) > 0.7


@pytest.mark.parametrize("law", ["gumbel-softmax", "igr", "igr-sb"])
def test_orders_of_the_straight_through_estimators(law: str) -> None:
    # The first order is exact for a linear function, the second for a quadratic one, where the first is not.
    worst = {}
    for kind, make in (
        ("linear", estimators.StraightThrough),
        ("quadratic", estimators.StraightThrough),
        ("quadratic", estimators.ReinMax),
    ):
        of = function(kind, 3)
        exact = torch.cat([g.flatten() for g in exact_gradient(of, law, 3).values()])
        mean, deviation = sampled_gradients(make(), of, law, 3, SMALL)
        error = (deviation / math.sqrt(SMALL)).clamp_min(1e-9)
        worst[kind, make] = float(((mean - exact) / error).abs().max())
    assert worst["linear", estimators.StraightThrough] < 5.0
    assert worst["quadratic", estimators.StraightThrough] > 5.0
    assert worst["quadratic", estimators.ReinMax] < 5.0


@pytest.mark.parametrize("p", [0.2, 0.8])
def test_the_bias_of_straight_through_has_its_closed_form_and_sign(p: float) -> None:
    # For (b - t)^2 the gradient in the logit is (1 - 2 t) p (1 - p), and the estimate has the mean
    # 2 (p - t) p (1 - p): biased by (2 p - 1) p (1 - p), upwards where a one is the likelier.
    t, count = 0.45, SMALL
    logits = torch.full((count, 1), math.log(p / (1 - p)), dtype=torch.float64, requires_grad=True)
    law = torch.distributions.Bernoulli(logits=logits)
    found = estimators.StraightThrough()(
        lambda b: (b - t).square().sum(-1), law, generator=torch.Generator().manual_seed(0)
    )
    (rows,) = torch.autograd.grad(found.loss.sum(), logits)
    error = float(rows.std()) / math.sqrt(count)
    assert abs(float(rows.mean()) - 2 * (p - t) * p * (1 - p)) < 5 * error
    bias = float(rows.mean()) - (1 - 2 * t) * p * (1 - p)
    assert abs(bias) > 5 * error
    assert math.copysign(1, bias) == math.copysign(1, 2 * p - 1)


@pytest.mark.parametrize("p", [0.2, 0.8])
def test_the_bias_of_relaxed_straight_through_is_its_integral(p: float) -> None:
    # E 2 (1[l + e > 0] - t) z (1 - z) / tau with z = sigmoid((l + e) / tau), over one logistic number e.
    t, tau, count = 0.45, 0.5, 5000
    logit = math.log(p / (1 - p))
    points, weights = _gauss_legendre(1000)
    x = logit + torch.logit(points)
    z = torch.sigmoid(x / tau)
    mean = float((weights * 2 * ((x > 0).double() - t) * z * (1 - z) / tau).sum())
    logits = torch.full((count, 1), logit, dtype=torch.float64, requires_grad=True)
    law = torch.distributions.RelaxedBernoulli(torch.tensor(tau, dtype=torch.float64), logits=logits)
    for estimator in (estimators.GumbelStraightThrough(), estimators.RaoBlackwellStraightThrough(4)):
        found = estimator(lambda b: (b - t).square().sum(-1), law, generator=torch.Generator().manual_seed(0))
        (rows,) = torch.autograd.grad(found.loss.sum(), logits)
        assert abs(float(rows.mean()) - mean) < 5 * float(rows.std()) / math.sqrt(count)
    assert mean != pytest.approx((1 - 2 * t) * p * (1 - p), rel=0.1)


def test_rao_blackwell_has_the_mean_of_what_it_averages_and_less_variance() -> None:
    of = function("network", 3)
    plain, spread = sampled_gradients(estimators.GumbelStraightThrough(), of, "gumbel-softmax", 3, SMALL)
    averaged = estimators.RaoBlackwellStraightThrough(8)
    mean, deviation = sampled_gradients(averaged, of, "gumbel-softmax", 3, SMALL)
    error = torch.sqrt((spread.square() + deviation.square()) / SMALL)
    assert ((mean - plain) / error).abs().max() < 5.0
    assert (deviation.square().sum() < 0.6 * spread.square().sum()).item()


def test_pathwise_is_unbiased_for_the_relaxed_law() -> None:
    # Of one binary variable: the relaxed expectation is an integral over one logistic number.
    torch.manual_seed(0)
    logits = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    points, weights = _gauss_legendre(2000)
    logistic = torch.logit(points)

    def relaxed(difference: Tensor) -> Tensor:
        z = torch.sigmoid((difference + logistic) / 0.5)
        return (weights * (z - 0.45).square()).sum()

    exact = torch.func.grad(relaxed)(logits[0, 1] - logits[0, 0])
    leaf = logits.expand(SMALL, 1, 2).clone().requires_grad_()
    law = distribution("gumbel-softmax", {"logits": leaf})
    found = estimators.Pathwise()(lambda z: (z[..., 0, 1] - 0.45).square(), law)
    (rows,) = torch.autograd.grad(found.loss.sum(), leaf)
    slopes = rows[:, 0, 1]
    assert abs(slopes.mean() - exact) < 5.0 * slopes.std() / math.sqrt(SMALL)


def _gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    import numpy as np

    points, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(0.5 + 0.5 * points), torch.from_numpy(0.5 * weights)


@pytest.mark.parametrize("relaxed", [False, True])
def test_bernoulli_is_a_law_of_numbers(relaxed: bool) -> None:
    logits = torch.tensor([0.3, -0.8], dtype=torch.float64)

    def make(leaf: Tensor) -> torch.distributions.Distribution:
        if relaxed:
            temperature = torch.tensor(0.5, dtype=torch.float64)
            return torch.distributions.RelaxedBernoulli(temperature, logits=leaf)
        return torch.distributions.Bernoulli(logits=leaf)

    def of(b: Tensor) -> Tensor:
        assert b.shape[-1] == 2
        return (b[..., 0] - 0.45).square() + b[..., 0] * b[..., 1]

    p = torch.sigmoid(logits).requires_grad_()
    value = p[0] * 0.55**2 + (1 - p[0]) * 0.45**2 + p[0] * p[1]
    exact = torch.autograd.grad(value, p)[0] * (p * (1 - p)).detach()
    for estimator in (estimators.REBAR(), estimators.DisARM(), estimators.ScoreFunction()):
        leaf = logits.expand(SMALL, 2).clone().requires_grad_()
        generator = torch.Generator().manual_seed(1)
        found = estimator(of, make(leaf), generator=generator)
        (rows,) = torch.autograd.grad(found.loss.sum(), leaf)
        z = (rows.mean(0) - exact) / (rows.std(0) / math.sqrt(SMALL))
        assert z.abs().max() < 5.0
