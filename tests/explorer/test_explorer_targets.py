"""Discrete laws to start from."""

from dataclasses import replace

import pytest
import torch

from igr.explorer import laws, targets
from igr.explorer.settings import KINDS, PARAMETERS, Settings, num_parameters


def start(family: str, count: int, **more: float) -> Settings:
    return Settings(family, count, (0.0,) * num_parameters(family, count), **more)


@pytest.mark.parametrize("family", [name for name in KINDS if name != "igr-planar"])
@pytest.mark.parametrize(("name", "count"), [("uniform", 10), ("peaked", 3), ("random", 3), ("random", 10)])
def test_a_law_has_the_probabilities_that_are_asked_for(family: str, count: int, name: str):
    probs = {
        "uniform": targets.uniform(count),
        "peaked": targets.peaked(count),
        "random": targets.random(count, 1),
    }[name]
    assert probs.sum().item() == pytest.approx(1.0)
    settings = start(family, count)
    found = replace(settings, parameters=targets.parameters_for(probs, settings))
    wanted = probs.clone()
    if family == "igr-sb":
        wanted[-1] = 0.0
        wanted /= wanted.sum()
    torch.testing.assert_close(laws.relaxation(found).discrete().probs, wanted, atol=0.01, rtol=0.0)


def test_delta_and_the_scale_have_their_part():
    probs = torch.tensor([0.5, 0.3, 0.2])
    settings = start("igr", 3, delta=0.1, temperature=0.5, scale=2.0)
    found = replace(settings, parameters=targets.parameters_for(probs, settings))
    torch.testing.assert_close(laws.relaxation(found).discrete().probs, probs, atol=0.01, rtol=0.0)


@pytest.mark.parametrize("family", KINDS)
def test_no_parameter_leaves_its_slider(family: str):
    probs = torch.tensor([1.0, 0.0, 0.0])
    low, high = PARAMETERS
    parameters = targets.parameters_for(probs, start(family, 3))
    assert all(low <= value <= high and round(value, 2) == value for value in parameters)
    Settings(family, 3, parameters)


def test_a_random_law_is_another_one_each_time():
    assert not torch.equal(targets.random(3, 1), targets.random(3, 2))
    torch.testing.assert_close(targets.random(3, 1), targets.random(3, 1))


def test_a_law_over_more_or_fewer_categories():
    probs = torch.tensor([0.5, 0.3, 0.2])
    torch.testing.assert_close(targets.over(probs, 2), torch.tensor([0.625, 0.375]))
    torch.testing.assert_close(targets.over(probs, 4), torch.tensor([0.375, 0.225, 0.15, 0.25]))
