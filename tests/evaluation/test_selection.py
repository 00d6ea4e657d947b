"""What is tried is chosen by the validation split, over the seeds that all of it shares."""

import math
from typing import Any

import numpy as np
import pytest

from igr.errors import UserError
from igr.evaluation import BOUND_KINDS, ComparedRun, Estimate, selection_bound
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, PRE_IMAGE, RELAXED_ELBO
from igr.evaluation.selection import choose, grouped, over_seeds
from igr.training.config import TrainConfig
from run_folders import KEYS, evaluation


def run(iw: float | None = None, name: str | None = None, measured: Any = (), **settings: Any) -> ComparedRun:
    """A run with this importance-weighted bound on the validation split, and with an even test bound."""
    config = TrainConfig(**{"epochs": 10, **settings}).resolved()
    found = None if iw is None else evaluation([-30.0, -35.0, iw, -32.0], "validation", **dict(measured))
    return ComparedRun(name or config.run_name, config, evaluation([-20.0] * 4), [], found)


def test_the_bound_of_the_choice_is_the_tightest_that_there_is() -> None:
    figures: list[float | None] = [-1.0, -2.0, -3.0, -4.0]
    for kind, value in ((IMPORTANCE_WEIGHTED, -3.0), (PRE_IMAGE, -4.0), (RELAXED_ELBO, -1.0)):
        assert selection_bound(evaluation(figures)) == (kind, Estimate(value, 0.25))
        figures[BOUND_KINDS.index(kind)] = None
    with pytest.raises(ValueError, match="with one of the bounds IW bound, exact q"):
        selection_bound(evaluation(figures))


def test_a_group_differs_in_what_is_tried_in_seeds_and_in_what_changes_no_figure() -> None:
    same = [
        run(),
        run(seed=1),
        run(temperature=0.7),
        run(learning_rate=0.1),
        run(prior_temperature=0.3),
        run(data_dir="elsewhere", device="cuda", tensorboard=False),
        run(eval_every=3, checkpoint_every=7, num_eval_samples=5),
    ]
    others = [
        run(kl="relaxed"),
        run(epochs=11),
        run(num_categories=4),
        run(scale="free"),
        run(latent="gumbel-softmax"),
    ]
    assert grouped([others[0], *same, *others[1:]]) == [[others[0]], same, *([one] for one in others[1:])]


def test_every_setting_but_these_parts_groups() -> None:
    """Also one that is added to the config later."""
    free = {"seed", "temperature", "prior_temperature", "learning_rate"}
    free |= {"data_dir", "device", "tensorboard", "eval_every", "checkpoint_every", "num_eval_samples"}
    free |= {"track_gradients"}
    config = TrainConfig().resolved()
    for key in config.to_json():
        changed = TrainConfig().resolved()
        object.__setattr__(changed, key, "another")
        runs = [ComparedRun(name, one, None, []) for name, one in (("a", config), ("b", changed))]
        assert len(grouped(runs)) == (1 if key in free else 2), key


def test_the_highest_mean_over_shared_seeds_is_chosen() -> None:
    found = {0.2: [-5.0, -9.0], 0.5: [-6.0, -6.5, -100.0], 0.9: [-8.0, -6.0]}
    runs = [
        run(iw, temperature=t, seed=seed) for t, values in found.items() for seed, iw in enumerate(values)
    ]
    choice = choose(runs[::-1])
    assert choice.chosen.temperature == 0.5
    assert choice.kind == IMPORTANCE_WEIGHTED
    assert choice.seeds == (0, 1)
    assert [one.temperature for one in choice.candidates] == [0.2, 0.5, 0.9]
    # The third seed, which the others lack, has no part in the choice, but is a repetition.
    assert [one.config.seed for one in choice.chosen.runs] == [0, 1, 2]
    for one in choice.candidates:
        values = np.array(found[one.temperature or 0.0][:2])
        assert one.validation is not None
        assert one.validation.value == pytest.approx(values.mean())
        assert one.validation.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(2))


def test_one_shared_seed_is_enough_and_others_need_no_validation() -> None:
    runs = [run(-5.0, temperature=0.2), run(-4.0, temperature=0.5), run(None, temperature=0.5, seed=1)]
    choice = choose(runs)
    assert choice.chosen.runs == (runs[1], runs[2])
    assert choice.chosen.validation == Estimate(-4.0, None)


def test_learning_rates_and_prior_temperatures_are_tried_too() -> None:
    runs = [
        run(iw, learning_rate=rate, prior_temperature=prior)
        for iw, rate, prior in ((-5.0, 0.1, None), (-3.0, 0.2, None), (-4.0, 0.1, 0.6))
    ]
    choice = choose(runs)
    assert len(choice.candidates) == 3
    assert (choice.chosen.learning_rate, choice.chosen.prior_temperature) == (0.2, None)


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_candidates_the_first_is_chosen(order: int) -> None:
    runs = [run(-5.0, temperature=temperature) for temperature in (0.3, 0.6)]
    assert choose(runs[::order]).chosen.temperature == 0.3


def test_repetitions_alone_need_no_validation() -> None:
    choice = choose([run(seed=1), run(seed=0)])
    assert (choice.kind, choice.chosen.validation) == (None, None)
    assert [one.config.seed for one in choice.chosen.runs] == [0, 1]


def test_candidates_without_a_shared_seed_are_refused() -> None:
    runs = [run(-5.0, "a", temperature=0.2), run(-5.0, "b", temperature=0.5, seed=1)]
    with pytest.raises(UserError, match=r"in common; got the seeds 0 in a; 1 in b; train the missing"):
        choose(runs)


def test_a_missing_validation_evaluation_is_named_with_the_command() -> None:
    runs = [run(-5.0, "a", temperature=0.2), *(run(None, f"x y{i}", temperature=i) for i in (3.0, 4.0))]
    with pytest.raises(UserError) as caught:
        choose(runs)
    said = [f"igr evaluate 'x y{i}' --split validation" for i in (3.0, 4.0)]
    assert f"got 2 of 3 without one; run {' && '.join(said)}; or" in str(caught.value)
    many = [run(-5.0, temperature=0.2), *(run(None, f"r{i}", temperature=float(i)) for i in range(1, 9))]
    with pytest.raises(UserError) as caught:
        choose(many)
    assert "got 8 of 9 without one" in str(caught.value)
    assert "igr evaluate r3 --split validation, and so on for the other 5" in str(caught.value)
    assert "r4" not in str(caught.value)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"num_data": 20}, "got 300 images, 100 samples, seed 0, IW bound, exact q in a and 20 images"),
        ({"num_samples": 7}, "and 300 images, 7 samples"),
        ({"seed": 3}, "and 300 images, 100 samples, seed 3"),
        ({"bounds": dict.fromkeys(KEYS) | {"relaxed_elbo": Estimate(-1.0, 0.1)}}, "relaxed ELBO in b"),
    ],
)
def test_validation_evaluations_made_unalike_are_refused(measured: Any, said: str) -> None:
    runs = [run(-5.0, "a", temperature=0.2), run(-5.0, "b", measured, temperature=0.5)]
    with pytest.raises(UserError) as caught:
        choose(runs)
    assert said in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_the_same_run_twice_is_no_repetition() -> None:
    with pytest.raises(UserError, match="got a and b, both with the seed 0; leave one of them out"):
        choose([run(name="a"), run(name="b", device="cuda")])


def test_the_error_over_seeds_is_that_of_a_mean() -> None:
    values = [-20.3, -21.7, -19.9, -24.0]
    found = over_seeds([Estimate(value, 9.0) for value in values])
    assert found is not None
    assert found.value == pytest.approx(np.mean(values))
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / 2)
    assert over_seeds([Estimate(-3.0, 9.0)]) == Estimate(-3.0, None)
    assert over_seeds([Estimate(-3.0, 9.0), None]) is None
