"""Every public name stands in the API pages, and its docstring has arguments, shapes and errors."""

import importlib
import inspect
from typing import NamedTuple

import pytest
from torch import Tensor

import igr
from api_pages import ABSENT, CALLABLES, NEEDED, PAGE_OF, WRITTEN, page_of, problems, value_of
from igr.errors import unknown_name
from igr.validation import whole_number

# Whatever these export is public.
MODULES = (
    "igr",
    "igr.data",
    "igr.diagnostics",
    "igr.distributions",
    "igr.estimators",
    "igr.evaluation",
    "igr.explorer.process",
    "igr.fitting",
    "igr.functional",
    "igr.models.latents",
    "igr.plot",
    "igr.pretrained",
    "igr.pyro",
    "igr.schedules",
    "igr.studies",
    "igr.sweeps",
    "igr.ternary",
    "igr.transforms",
)
NAMESPACES = {"igr.estimators", "igr.fitting", "igr.functional", "igr.schedules", "igr.__version__"}


def public_names(module: str) -> list[str]:
    loaded = importlib.import_module(module)
    own = [
        name
        for name, value in vars(loaded).items()
        if inspect.isfunction(value) and value.__module__ == module and not name.startswith("_")
    ]
    return list(getattr(loaded, "__all__", own))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_written_about(module):
    if module in ABSENT:
        pytest.skip(f"needs {NEEDED[module]}; its names are left out of all tests of the pages")
    documented = [value_of(name) for name in WRITTEN]
    names = [name for name in public_names(module) if f"{module}.{name}" not in NAMESPACES]
    assert names
    for name in names:
        value = getattr(importlib.import_module(module), name)
        # By identity, since a name may be exported twice; numbers and texts by name.
        assert f"{module}.{name}" in WRITTEN or any(value is other for other in documented), name


def test_no_name_is_written_about_twice():
    values = [id(value_of(name)) for name in WRITTEN if callable(value_of(name))]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("page", sorted({*PAGE_OF.values()}))
def test_docstrings(page):
    names = [name for name in CALLABLES if page_of(name) == page]
    assert names
    found = {name: list(problems(name, *CALLABLES[name])) for name in names}
    assert not {name: problems for name, problems in found.items() if problems}


def log_prob(self: object, value: Tensor, size: int, *rest: int) -> Tensor:
    """The log-density, in nats.

    Arguments:
        value: Points, with shape :math:`(*B, K)`.
        size: How many.
        rest: Others.

    Raises:
        TypeError: unless the size is an int.
        ValueError: for none.
        UserError: for too many.
    """
    whole_number("log_prob", "size", size)
    if size < 1:
        raise ValueError("none")
    if size > 9:
        raise unknown_name("size", str(size), ["1"])
    return value


# A docstring of which something is changed, and what is to be found.
CHANGES = [
    ("", "", None),
    ("The log-density, in nats.", "The log-density, in nats", "begins with no sentence"),
    ("in nats", "in bits", "tells no unit"),
    ("size: How", "sizes: How", "tells of an argument sizes"),
    ("        size: How many.\n", "", "tells nothing of size"),
    ("with shape :math:`(*B, K)`", "of the simplex", "tells no shape"),
    ("TypeError: ", "It stops ", "raises TypeError"),
    ("ValueError: ", "It stops ", "raises ValueError"),
    ("UserError: ", "It stops ", "raises UserError"),
    ("Raises:", "Stops:", "raises ValueError"),
]


@pytest.mark.parametrize(("old", "new", "problem"), CHANGES)
def test_a_gap_is_found(old, new, problem):
    text = inspect.cleandoc(log_prob.__doc__.replace(old, new))
    found = list(problems("igr.SimplexRelaxation.log_prob", log_prob, text))
    assert (problem is None and not found) or any(one.startswith(problem) for one in found)


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("The log-density at a value, of that size, in nats: shape :math:`(*B)`, with the rest.", True),
        ("The log-density at a value, of that size, in nats: shape :math:`(*B)`.", False),
        ("In nats. Arguments and errors are those of :meth:`rsample`.", False),
    ],
)
def test_arguments_are_told_in_prose_or_elsewhere(text, is_told):
    found = list(problems("igr.SimplexRelaxation.log_prob", log_prob, text))
    assert ("tells nothing of rest" not in found) == is_told


class Fields(NamedTuple):
    """What is there."""

    told: Tensor
    """The first, with shape :math:`(N)`."""
    untold: Tensor


def test_a_field_is_told_of():
    assert list(problems("igr.fitting.Fit", Fields, "What is there.")) == ["tells nothing of untold"]


def test_arguments_of_a_constructor_are_told():
    text = inspect.getdoc(igr.InvertibleGaussian)
    without = text.replace("    delta: ", "    epsilon: ").replace("    TypeError: ", "    Also: ")
    assert list(problems("igr.InvertibleGaussian", igr.InvertibleGaussian, without)) == [
        "tells of an argument epsilon, which it has not",
        "tells nothing of delta",
        "raises TypeError, which its docstring does not tell",
    ]
