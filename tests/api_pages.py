"""What the API pages document, and what is missing in the docstrings that they show."""

import ast
import builtins
import dataclasses
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parents[1] / "docs" / "api"

# Of modules that cannot be imported without an extra, the package of it.
NEEDED = {"igr.pyro": "pyro"}


def is_absent(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return True
    return False


# Their names are left out, and tests of them are skipped.
ABSENT = {module for module, package in NEEDED.items() if is_absent(package)}


def written() -> dict[str, str]:
    """What the pages document, by its full name, and the page of each; but for what is absent."""
    found = {}
    for page in sorted(PAGES.glob("*.rst")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = match[1]
            elif match := re.match(r"\.\. (?:autoclass|autofunction|py:data):: (\S+)", line):
                full_name = f"{module}.{match[1]}"
                assert full_name not in found, full_name
                if module not in ABSENT:
                    found[full_name] = page.stem
    return found


PAGE_OF = written()
WRITTEN = list(PAGE_OF)


def value_of(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def callables() -> Iterator[tuple[str, Any, str]]:
    """Public functions, classes and their members, each with its docstring."""
    documented = {id(value_of(name)) for name in WRITTEN}
    for name in WRITTEN:
        value = value_of(name)
        if inspect.isclass(value):
            yield name, value, inspect.getdoc(value) or ""
            # Sphinx shows members of a base that has no entry of its own among those of the class.
            shown: set[str] = set()
            for base in value.__mro__:
                if not base.__module__.startswith("igr.") or (base is not value and id(base) in documented):
                    continue
                for key, member in vars(base).items():
                    if key.startswith("_") or key in fields_of(value) or key in shown:
                        continue
                    shown.add(key)
                    if (function := function_of(member)) is not None:
                        yield f"{name}.{key}", function, inspect.getdoc(getattr(value, key)) or ""
        elif inspect.isfunction(value):
            yield name, inspect.unwrap(value), inspect.getdoc(value) or ""


def function_of(member: Any) -> Any:
    """What a method or a property runs; None for another member of a class."""
    if isinstance(member, classmethod | staticmethod):
        return inspect.unwrap(member.__func__)
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    return inspect.unwrap(member) if inspect.isfunction(member) else None


def fields_of(value: type) -> list[str]:
    """The fields of a dataclass or a named tuple."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.init]
    return list(getattr(value, "_fields", ()))


CALLABLES = {name: (value, text) for name, value, text in callables()}


IN_NATS = re.compile(
    r"[._](log_prob|kl|entropy|log_likelihood|log_ratio|log_abs_det_jacobian|divergence)(_of_\w+)?$"
)


def problems(name: str, value: Any, text: str) -> Iterator[str]:
    first = text.partition("\n\n")[0].rstrip()
    if not first.endswith((".", ":")):
        yield f"begins with no sentence: {first!r}"
    runs = method_of(value, "__init__") if inspect.isclass(value) else value
    owner = value if inspect.isclass(value) else value_of_owner(name)
    above = referred(text, owner)
    if inspect.isclass(value) and fields_of(value):
        yield from problems_of_arguments(own_fields(value), text, field_docstrings(value), every=True)
        annotations = [str(kind) for kind in value.__annotations__.values()]
        if any(re.search(r"\bTensor\b", kind) for kind in annotations) and not tells_shapes(
            text + "".join(field_docstrings(value).values())
        ):
            yield "tells no shape, and has fields that are tensors"
        runs = method_of(value, "__post_init__")
    elif runs is not None:
        parameters = inspect.signature(runs).parameters
        names = [key for key in parameters if key not in ("self", "cls") and not key.startswith("_")]
        # What a method takes as its only argument stands in its name.
        if len(names) > 1 or inspect.isclass(value) or section(text, "Arguments") is not None:
            yield from problems_of_arguments(names, text, dict.fromkeys(entries(section(above, "Arguments"))))
        kinds = [str(parameter.annotation) for parameter in parameters.values()]
        if not inspect.isclass(value) and gives_something(value):
            kinds.append(str(inspect.signature(runs).return_annotation))
        if any(re.search(r"\bTensor\b", kind) for kind in kinds) and not tells_shapes(text + above):
            yield f"tells no shape, and has tensors among {kinds}"
    if runs is not None:
        told_errors = section(text, "Raises") or ""
        if re.search(r"\b[Ee]rrors\s+are\s+those\s+of\b", text):
            told_errors += section(above, "Raises") or ""
        for error in sorted(errors_of(runs, owner, follow=in_library(name))):
            if error not in told_errors:
                yield f"raises {error}, which its docstring does not tell"
        is_number = not inspect.isclass(value) and any("Tensor" in kind for kind in kinds[-1:])
        if is_number and IN_NATS.search(name) and "nats" not in text:
            yield "tells no unit"


def gives_something(function: Any) -> bool:
    """Whether a function does not only raise an error."""
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body
    return not isinstance(body[-1], ast.Raise)


def method_of(value: type, name: str, below: Any = None) -> Any:
    """A method of a class or of a base of it in igr; if ``below`` is one, that which it overrides."""
    bases = [base for base in value.__mro__ if base.__module__.startswith("igr.")]
    methods = [found for base in bases if (found := function_of(base.__dict__.get(name))) is not None]
    methods = [found for found in methods if is_written(found)]
    if below in methods:
        methods = methods[methods.index(below) + 1 :]
    return methods[0] if methods else None


def is_written(function: Any) -> bool:
    """Whether a function has a source; methods of dataclasses and named tuples may be made."""
    return Path(function.__code__.co_filename).is_file()


def referred(text: str, owner: Any) -> str:
    """The docstrings of what a docstring leaves its arguments or errors to."""
    found = ""
    for match in re.finditer(r"(?:are|as)\s+those\s+of\s+:(?:meth|func|class):`~?([\w.]+)`", text):
        first, _, last = match[1].rpartition(".")
        holders = [value_of(name) for name in PAGE_OF if f".{name}".endswith(f".{match[1]}")]
        if first:
            holders += [
                getattr(value_of(name), last)
                for name in PAGE_OF
                if f".{name}".endswith(f".{first}") and hasattr(value_of(name), last)
            ]
        elif hasattr(owner, last):
            holders.append(getattr(owner, last))
        assert holders, match[0]
        found += f"{inspect.getdoc(holders[0])}\n\n"
    return found


def tells_shapes(text: str) -> bool:
    return re.search(r"\b[Ss]hapes?\b|\bbroadcasts?\b|:math:`\(", text) is not None


def section(text: str, title: str) -> str | None:
    """What stands in a section of a docstring."""
    found = re.search(rf"^{title}:\n((?:(?: .*)?\n)*)", text + "\n", re.M)
    return None if found is None else found[1]


def entries(text: str | None) -> list[str]:
    """The names that a section tells of."""
    return re.findall(r"^ {4}\*{0,2}(\w+):", text or "", re.M)


def problems_of_arguments(
    names: list[str], text: str, elsewhere: dict[str, str], every: bool = False
) -> Iterator[str]:
    told = entries(section(text, "Arguments"))
    if every:
        told += entries(section(text, "Attributes"))
    elif section(text, "Arguments") is None:
        prose = re.sub(r"^(Example|References):\n((?: .*)?\n)*", "", text + "\n", flags=re.M)
        told += [
            name for name in names if re.search(rf"\b{name.replace('_', '[_ ]')}\b", prose, re.IGNORECASE)
        ]
    else:
        for name in sorted(set(told) - set(names)):
            yield f"tells of an argument {name}, which it has not"
    for name in names:
        if name not in told and name not in elsewhere:
            yield f"tells nothing of {name}"


def own_fields(value: type) -> list[str]:
    """Fields that no documented base has."""
    told = {id(value_of(name)) for name in WRITTEN}
    bases = [base for base in value.__mro__[1:] if id(base) in told]
    above = {name for base in bases for name in getattr(base, "__annotations__", ())}
    return [name for name in fields_of(value) if name not in above and not name.startswith("_")]


@functools.cache
def field_docstrings(value: type) -> dict[str, str]:
    """The docstrings that stand under fields, of a class and its bases."""
    found = {}
    for base in value.__mro__:
        if "__annotations__" not in vars(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        for node, after in pairwise(body.body):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[node.target.id] = after.value.value
    return found


def value_of_owner(name: str) -> Any:
    """The class of a method; None for a function."""
    return None if name in PAGE_OF else value_of(name.rpartition(".")[0])


def page_of(name: str) -> str:
    """The page of a name, or of the class of a method."""
    return PAGE_OF.get(name) or PAGE_OF[name.rpartition(".")[0]]


def in_library(name: str) -> bool:
    """Whether it is of the half that every user of the package meets."""
    return page_of(name) in ("laws", "transforms", "functional", "estimators", "fitting", "schedules")


def errors_of(function: Any, owner: Any, follow: bool, seen: frozenset = frozenset()) -> set[str]:
    """The errors that a function raises, or, if followed, what it calls of its own does."""
    raised, calls = steps_of(function)
    found = {error_of(node, function) for node in raised} - {None}
    if follow:
        for node in calls:
            called = called_helper(node, function, owner)
            if called is not None and called not in seen:
                found |= errors_of(called, owner, True, seen | {function, called})
    return found


@functools.cache
def steps_of(function: Any) -> tuple[list[ast.expr], list[ast.expr]]:
    """What a function raises and what it calls, but where it may catch what comes of it."""
    raised, calls = [], []
    left: list[ast.AST] = [ast.parse(textwrap.dedent(inspect.getsource(function)))]
    while left:
        node = left.pop()
        if isinstance(node, ast.Try) and node.handlers:
            left += [*node.handlers, *node.orelse, *node.finalbody]
            continue
        left += ast.iter_child_nodes(node)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            raised.append(node.exc.func)
        elif isinstance(node, ast.Call):
            calls.append(node.func)
    return raised, calls


def error_of(node: ast.expr, function: Any) -> str | None:
    """The name of an error that is made by its class, or by a function that says which it returns."""
    value = resolved(node, function)
    if inspect.isfunction(value):
        value = inspect.signature(value).return_annotation
    return getattr(value, "__name__", value)


def resolved(node: ast.expr, function: Any) -> Any:
    """What a name stands for in a function."""
    if isinstance(node, ast.Name):
        return function.__globals__.get(node.id, getattr(builtins, node.id, None))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return getattr(function.__globals__.get(node.value.id), node.attr, None)
    return None


def called_helper(node: ast.expr, function: Any, owner: Any) -> Any:
    """What is called, if it is a check of igr.validation, private in igr, or of the class itself."""
    called = ast.unparse(node)
    if called in ("cls", "type(self)"):
        value = method_of(owner, "__init__")
    elif called.startswith("super()."):
        value = method_of(owner, node.attr, below=function)
    elif called.startswith(("self.", "cls.")) and "." not in called.partition(".")[2]:
        value = function_of(inspect.getattr_static(owner, node.attr, None))
    else:
        value = resolved(node, function)
    if not inspect.isfunction(value) or not value.__module__.startswith("igr."):
        return None
    value = inspect.unwrap(value)
    is_check = is_written(value) and (
        value.__module__ == "igr.validation" or value.__name__.startswith(("_", "check_"))
    )
    return value if is_check or called.startswith(("self.", "cls.", "super().")) else None
