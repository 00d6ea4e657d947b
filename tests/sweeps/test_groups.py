"""Groups: which runs they make, and the names of their folders."""

import dataclasses

import pytest

from igr.sweeps import Group
from igr.training.config import TrainConfig

CONFIG = TrainConfig(temperature=0.5).resolved()


def with_rates(*rates: float, **settings: object) -> tuple[TrainConfig, ...]:
    return tuple(dataclasses.replace(CONFIG, learning_rate=rate, **settings) for rate in rates)


def test_a_run_has_the_name_of_its_config_and_its_seed():
    group = Group("igr", (CONFIG,), (0, 7))
    first, second = group.runs_of(0)
    assert (first.config, first.name) == (CONFIG, CONFIG.run_name)
    assert second.config == dataclasses.replace(CONFIG, seed=7)
    assert second.path.as_posix() == f"igr/{second.config.run_name}"


def test_names_that_collide_show_what_differs():
    plain = dataclasses.replace(CONFIG, temperature=0.2)
    group = Group("a", (*with_rates(1e-3, 3e-4), *with_rates(3e-4, batch_size=50), plain), (0,))
    names = [run.name for run in group.tuning_runs]
    common = CONFIG.run_name
    assert names == [
        f"{common}-batch-size100-lr0.001",
        f"{common}-batch-size100-lr0.0003",
        f"{common}-batch-size50-lr0.0003",
        plain.run_name,
    ]


def test_names_differ_where_temperatures_look_the_same():
    near = dataclasses.replace(CONFIG, temperature=0.5000000001)
    names = {run.name for run in Group("a", (CONFIG, near), (0,)).tuning_runs}
    assert names == {f"{CONFIG.run_name}-temperature{value}" for value in (0.5, 0.5000000001)}


def test_what_is_tuned_with_the_first_seed_or_with_all():
    candidates = with_rates(1e-3, 3e-4, 1e-4, seed=3)
    first, every = (Group("a", candidates, (3, 4), tune_all) for tune_all in (False, True))
    assert [(run.candidate, run.config.seed) for run in first.tuning_runs] == [(0, 3), (1, 3), (2, 3)]
    assert first.num_runs == 4
    assert [(run.candidate, run.config.seed) for run in every.tuning_runs] == [
        (0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4),
    ]  # fmt: skip
    assert every.num_runs == 6
    assert Group("a", candidates[:1], (3, 4)).tuning_runs == []


BAD = {
    "key": (("A b", (CONFIG,), (0,)), "expected a key of small letters, digits and . _ -; got 'A b'"),
    "path": (("../a", (CONFIG,), (0,)), "expected a key"),
    "no candidates": (("a", (), (0,)), "expected different candidates, at least one"),
    "no seeds": (("a", (CONFIG,), ()), "expected different seeds, at least one"),
    "a seed twice": (("a", (CONFIG,), (0, 0)), "expected different seeds"),
    "another seed": (("a", (CONFIG,), (1,)), "expected resolved candidates with the seed 1"),
    "an open setting": (("a", (TrainConfig(),), (0,)), "expected resolved candidates"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD.keys())
def test_a_group_that_cannot_be_is_refused(arguments, said):
    with pytest.raises(ValueError, match=r"^Group: ") as refusal:
        Group(*arguments)
    assert said in str(refusal.value)
