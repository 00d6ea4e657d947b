"""Every public name stands in the API pages, and its docstring has arguments, shapes and errors."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "api"
# Whatever these export is public.
MODULES = (
    "igr",
    "igr.data",
    "igr.diagnostics",
    "igr.distributions",
    "igr.estimators",
    "igr.evaluation",
    "igr.fitting",
    "igr.functional",
    "igr.models.latents",
    "igr.plot",
    "igr.schedules",
    "igr.studies",
    "igr.sweeps",
    "igr.transforms",
)
NAMESPACES = {"igr.estimators", "igr.fitting", "igr.functional", "igr.schedules", "igr.__version__"}


def written() -> list[str]:
    """What the pages document, by its full name."""
    found = []
    for page in sorted(PAGES.glob("*.rst")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = match[1]
            elif match := re.match(r"\.\. (?:autoclass|autofunction|py:data):: (\S+)", line):
                found.append(f"{module}.{match[1]}")
    return found


WRITTEN = written()


def value_of(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


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


def callables() -> Iterator[tuple[str, Any, str]]:
    """Public functions, classes and their methods, each with its docstring and that of its class."""
    for name in WRITTEN:
        value = value_of(name)
        if inspect.isclass(value):
            of_class = inspect.getdoc(value) or ""
            yield name, value, of_class
            for key, member in vars(value).items():
                member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if inspect.isfunction(member) and not key.startswith("_"):
                    yield f"{name}.{key}", member, inspect.getdoc(getattr(value, key)) or ""
        elif inspect.isfunction(value):
            yield name, value, inspect.getdoc(value) or ""


CALLABLES = {name: (value, text) for name, value, text in callables()}


@pytest.mark.parametrize("name", CALLABLES)
def test_docstring(name):
    value, text = CALLABLES[name]
    first = text.partition("\n\n")[0]
    assert first.rstrip().endswith((".", ":")), first
    if inspect.isfunction(value):
        for problem in problems_of_function(value, text):
            pytest.fail(f"{name}: {problem}")


def problems_of_function(function: Any, text: str) -> Iterator[str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        node.exc.func.id
        for node in ast.walk(body)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id.endswith(("Error", "Failure"))
    }
    for error in raised:
        if error not in text:
            yield f"raises {error}, which its docstring does not tell"
    tensors = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if re.match(r"(torch\.)?Tensor\b", str(parameter.annotation).removeprefix("<class '"))
    ]
    if tensors and not re.search(r"shape|:math:`\(", text):
        yield f"tells no shape, and takes {tensors}"
    parameters = [
        name for name in inspect.signature(function).parameters if name not in ("self", "cls", "_instance")
    ]
    if len(parameters) > 1 and not re.search(r"Arguments( are|:)", text):
        yield f"tells nothing of its arguments {parameters}"


if __name__ == "__main__":
    for name, (value, text) in CALLABLES.items():
        if inspect.isfunction(value):
            for p in problems_of_function(value, text):
                print(name, p)
        if not text.partition("\n\n")[0].rstrip().endswith((".", ":")):
            print(name, "FIRST", repr(text[:80]))
