"""Temperature schedules: exact at the ends, equal to their formulas between, and resumed to the bit."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from igr.schedules import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    LinearSchedule,
    TemperatureSchedule,
)

ANNEALING = [ExponentialSchedule, LinearSchedule, CosineSchedule]
SCHEDULES = [
    ConstantSchedule(0.3),
    ExponentialSchedule(1.0, 0.1, 7),
    LinearSchedule(2.0, 0.1, 7),
    CosineSchedule(0.1, 0.7, 7),
]

temperatures = st.floats(1e-300, 1e300)
numbers_of_steps = st.integers(1, 10**9)
each_annealing = pytest.mark.parametrize("family", ANNEALING)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)

# What each formula says, in terms of the fraction f of the steps.
FORMULAS = {
    ExponentialSchedule: lambda start, end, f: start * (end / start) ** f,
    LinearSchedule: lambda start, end, f: start + (end - start) * f,
    CosineSchedule: lambda start, end, f: end + (start - end) * (1.0 + math.cos(math.pi * f)) / 2.0,
}


@each_annealing
@given(start=temperatures, end=temperatures, num_steps=numbers_of_steps, later=st.integers(0, 10**12))
def test_both_ends_are_exact_and_the_end_is_held(family, start, end, num_steps, later):
    schedule = family(start, end, num_steps)
    assert schedule.at(0) == start
    assert schedule.at(num_steps) == end
    assert schedule.at(num_steps + later) == end


@each_annealing
@given(start=temperatures, end=temperatures, num_steps=numbers_of_steps, data=st.data())
def test_values_are_monotone_and_between_the_ends(family, start, end, num_steps, data):
    schedule = family(start, end, num_steps)
    first, second = sorted(data.draw(st.tuples(*[st.integers(0, num_steps)] * 2)))
    values = [schedule.at(step) for step in (0, first, second, num_steps)]
    assert min(start, end) <= min(values)
    assert max(values) <= max(start, end)
    # Rounding may turn two equal values round, by a few units in the last place.
    rising = math.copysign(1.0, end - start)
    assert rising * (values[2] - values[1]) >= -1e-12 * max(values)


@each_annealing
def test_values_are_those_of_the_formula(family):
    start, end, num_steps = 1.3, 0.05, 17
    schedule = family(start, end, num_steps)
    for step in range(1, num_steps):
        expected = FORMULAS[family](start, end, step / num_steps)
        assert schedule.at(step) == pytest.approx(expected, rel=1e-14)


def test_the_annealing_of_jang_et_al_is_an_exponential_one():
    rate, end = 1e-4, 0.5
    schedule = ExponentialSchedule(1.0, end, math.ceil(-math.log(end) / rate))
    for step in range(0, 20_000, 777):
        assert schedule(step) == pytest.approx(max(end, math.exp(-rate * step)), rel=rate)


@each_schedule
def test_steps_go_through_the_values(schedule):
    walked = copy.deepcopy(schedule)
    values = []
    for _ in range(10):
        values.append(walked.value)
        assert walked.step() is None
    assert values == [schedule.at(step) for step in range(10)]
    assert walked.current_step == 10
    assert schedule.current_step == 0  # asking for values has moved nothing


@each_schedule
def test_a_killed_run_goes_on_to_the_bit(schedule):
    whole, killed = copy.deepcopy(schedule), copy.deepcopy(schedule)
    for _ in range(3):
        whole.step()
        killed.step()
    state = json.loads(json.dumps(killed.state_dict()))
    resumed = copy.deepcopy(schedule)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == whole.state_dict() == state
    for _ in range(8):
        assert resumed.value == whole.value
        resumed.step()
        whole.step()


@each_schedule
def test_a_state_is_a_copy(schedule):
    walked = copy.deepcopy(schedule)
    state = walked.state_dict()
    walked.step()
    state["settings"].clear()
    assert state["step"] == 0
    assert walked.settings == schedule.settings


@each_schedule
def test_pickling_keeps_the_step(schedule):
    walked = copy.deepcopy(schedule)
    walked.step()
    assert pickle.loads(pickle.dumps(walked)).state_dict() == walked.state_dict()


@each_schedule
def test_repr_makes_it_again(schedule):
    again = eval(repr(schedule))
    assert type(again) is type(schedule)
    assert again.settings == schedule.settings


def test_whole_numbers_are_taken_from_numpy_and_torch_and_kept_plain():
    schedule = LinearSchedule(2, 1, np.int64(4))
    assert json.loads(json.dumps(schedule.state_dict()))["settings"] == {
        "start": 2.0,
        "end": 1.0,
        "num_steps": 4,
    }
    assert schedule.at(np.int32(2)) == schedule.at(torch.tensor(2)) == 1.5


def test_a_schedule_of_ones_own_needs_its_formula_alone():
    class Halved(TemperatureSchedule):
        settings = {}  # noqa: RUF012

        def _at(self, step):
            return 2.0**-step

    schedule = Halved()
    schedule.step()
    schedule.load_state_dict(schedule.state_dict())
    assert (schedule.value, schedule.at(3), repr(schedule)) == (0.5, 0.125, "Halved()")


SCHEDULE = ExponentialSchedule(1.0, 0.1, 10)
STATE = SCHEDULE.state_dict()

REFUSALS = {
    "start": (lambda: LinearSchedule(0.0, 1.0, 2), "LinearSchedule: expected start to be positive"),
    "end": (lambda: CosineSchedule(1.0, math.inf, 2), "expected end to be positive and finite; got inf"),
    "nan": (lambda: ConstantSchedule(math.nan), "expected temperature to be positive and finite; got nan"),
    "num_steps": (lambda: LinearSchedule(1.0, 0.5, 0), "expected num_steps of at least 1; got 0"),
    "at": (lambda: SCHEDULE.at(-1), "ExponentialSchedule: expected step of at least 0; got -1"),
    "class": (
        lambda: SCHEDULE.load_state_dict(LinearSchedule(1.0, 0.1, 10).state_dict()),
        "got that of LinearSchedule(start=1.0, end=0.1, num_steps=10); build the schedule as it was",
    ),
    "settings": (
        lambda: SCHEDULE.load_state_dict(ExponentialSchedule(1.0, 0.2, 10).state_dict()),
        "expected the state of ExponentialSchedule(start=1.0, end=0.1, num_steps=10); got that of "
        "ExponentialSchedule(start=1.0, end=0.2, num_steps=10)",
    ),
    "keys": (lambda: SCHEDULE.load_state_dict({"last_epoch": 3}), "got {'last_epoch': 3}; pass what"),
    "no-settings": (
        lambda: SCHEDULE.load_state_dict({**STATE, "settings": None}),
        "expected a dict with the keys schedule, settings and step",
    ),
    "step": (lambda: SCHEDULE.load_state_dict({**STATE, "step": -1}), "expected step of at least 0; got -1"),
}

WRONG_TYPES = {
    "text": (lambda: ConstantSchedule("0.5"), "expected temperature to be a number; got '0.5'; convert it"),
    "tensor": (
        lambda: LinearSchedule(torch.tensor(1.0), 0.5, 2),
        "expected start to be a number; got tensor",
    ),
    "bool": (lambda: LinearSchedule(True, 0.5, 2), "expected start to be a number; got True"),
    "num_steps": (lambda: LinearSchedule(1.0, 0.5, 2.0), "expected num_steps to be an int; got 2.0; convert"),
    "at": (lambda: SCHEDULE.at(0.5), "expected step to be an int; got 0.5"),
    "at-tensor": (lambda: SCHEDULE.at(torch.tensor(0.5)), "expected step to be an int; got tensor(0.5000)"),
    "state": (lambda: SCHEDULE.load_state_dict([1]), "expected state_dict to be a dict; got list"),
    "step": (lambda: SCHEDULE.load_state_dict({**STATE, "step": "3"}), "expected step to be an int; got '3'"),
}


def assert_refused(kind, call, part):
    with pytest.raises(kind) as error:
        call()
    text = str(error.value)
    assert part in text
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    assert_refused(ValueError, *REFUSALS[name])


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types(name):
    assert_refused(TypeError, *WRONG_TYPES[name])


def test_a_refused_state_changes_nothing():
    schedule = ExponentialSchedule(1.0, 0.1, 10)
    schedule.step()
    for state in ({**STATE, "step": -1}, {**STATE, "settings": {}}):
        with pytest.raises(ValueError, match="expected"):
            schedule.load_state_dict(state)
    assert schedule.current_step == 1
