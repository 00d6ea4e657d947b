"""The toy problems: unbiased estimators reach the optima, and control variates are worth their cost."""

from __future__ import annotations

import pytest
import torch

from igr.studies.toy import MAKERS, PROBLEMS, TITLES, ToyConfig, _one_seed, best_loss, exact_loss, items

UNBIASED = [name for name in TITLES if MAKERS[name]().unbiased]


def test_exact_loss_is_the_expectation() -> None:
    # Over the eight outcomes of three variables.
    targets, probs = PROBLEMS["three"], torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    total = 0.0
    for outcome in range(8):
        bits = [(outcome >> v) & 1 for v in range(3)]
        weight = 1.0
        for b, p in zip(bits, probs.tolist(), strict=True):
            weight *= p if b else 1 - p
        total += weight * sum((b - t) ** 2 for b, t in zip(bits, targets, strict=True))
    assert exact_loss(targets, probs) == pytest.approx(total)
    assert best_loss(targets) == pytest.approx(0.16)
    assert exact_loss(targets, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)) == pytest.approx(0.16)


@pytest.mark.parametrize("name", ["rebar", pytest.param("relax", marks=pytest.mark.slow)])
def test_control_variates_cut_the_variance_of_the_score_function_to_a_fifth(name: str) -> None:
    config = ToyConfig(
        problems=("close",), num_iterations=2000, num_readings=1, num_gradients=20_000, seeds=(5328,)
    )
    _, variances, score = _one_seed(config, "close", "bernoulli", name, 5328)
    assert variances[-1] <= score[-1] / 5
    # It was not so at the start: it was learned.
    assert variances[0] > score[0] / 5


@pytest.mark.slow
@pytest.mark.parametrize("law", ["bernoulli", "igr"])
@pytest.mark.parametrize("problem", ["one", "three"])
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_estimators_reach_the_optimum(name: str, problem: str, law: str) -> None:
    # The reference's problems and its iterations; it has none for the two that are harder.
    config = ToyConfig(num_iterations=10_000, num_readings=1, num_gradients=2)
    targets = PROBLEMS[problem]
    best = best_loss(targets)
    start = exact_loss(targets, torch.full((len(targets),), 0.5, dtype=torch.float64))
    # Without its constant REBAR comes as far but later: after these iterations one of the seeds with a single
    # Bernoulli variable has still 1.1 % of the way before it.
    left = 0.02 if name == "rebar_without_constant" else 0.01
    for seed in config.seeds:
        losses, _, _ = _one_seed(config, problem, law, name, seed)
        assert losses[-1] <= best + left * (start - best)


def test_a_seed_gives_the_same_numbers_whatever_was_drawn_before() -> None:
    config = ToyConfig(num_iterations=5, num_readings=1, num_gradients=10, seeds=(1,))
    first = _one_seed(config, "three", "igr", "relax", 1)
    torch.rand(7)
    assert first == _one_seed(config, "three", "igr", "relax", 1)


def test_every_case_that_there_is_has_an_item() -> None:
    keys = {item.key for item in items(ToyConfig())}
    assert "one.bernoulli.rao_blackwell_straight_through" in keys
    assert "one.igr.rao_blackwell_straight_through" not in keys
    assert len(keys) == len(PROBLEMS) * (2 * len(TITLES) - 1)
