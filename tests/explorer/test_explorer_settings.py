"""What the page may be set to."""

import math

import pytest

from igr.errors import UserError
from igr.explorer.settings import KINDS, Settings, num_parameters
from igr.fitting.families import FAMILIES


def test_the_laws_are_the_families_that_can_be_fitted():
    assert set(KINDS) == set(FAMILIES)


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("count", [3, 10])
def test_every_law_has_its_parameters(family: str, count: int):
    settings = Settings(family, count, (0.0,) * num_parameters(family, count))
    assert settings.num_parameters == (count if family == "gumbel-softmax" else count - 1)


@pytest.mark.parametrize(
    "change",
    [
        {"family": "igr-sb-logs"},
        {"family": ["igr"]},
        {"num_categories": 1},
        {"num_categories": 11},
        {"num_categories": 3.0},
        {"num_categories": True},
        {"family": "igr-sb", "num_categories": 2, "parameters": (0.0,)},
        {"parameters": (0.0,)},
        {"parameters": (0.0, math.nan)},
        {"parameters": (0.0, "1")},
        {"parameters": (0.0, 5.01)},
        {"scale": 0.0},
        {"scale": None},
        {"temperature": 0.009},
        {"temperature": math.inf},
        {"delta": 0.0},
        {"family": "igr-sb", "delta": 1.01},
        {"num_samples": 10**6},
        {"seed": -1},
        {"seed": None},
        {"flow_seed": 2.5},
        {"strength": -0.1},
    ],
)
def test_anything_else_is_refused_in_one_sentence(change: dict):
    with pytest.raises(UserError, match=r"^expected [^;]*; got [^;]*; [^;]*$"):
        Settings(**change)
