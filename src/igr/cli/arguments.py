"""Flags and exit codes that the commands share."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from igr.errors import UserError, unusable_file
from igr.training.failures import Elsewhere, Interrupted, TrainingFailure
from igr.training.processes import Lost

Arguments = TypeVar("Arguments")

# A flag that is given or not; a setting of the config can also be switched off by --no-NAME.
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class CommonArguments:
    """Flags that every command has."""

    json: Flag = False
    """Print the result as JSON."""

    debug: Flag = False
    """Show the traceback of an error."""


def run(command: str, body: Callable[[list[str]], int], argv: list[str]) -> int:
    """Runs the body of a command and turns what it raises into one line and an exit code.

    Arguments:
        command: The name of the command, as it stands before its messages.
        body: Takes the arguments and returns the exit code.
        argv: The arguments after the command.

    Returns:
        The exit code: that of the body, 2 for input that cannot be used, 1 for a failure, 130 for
        an interrupt.
    """
    try:
        return body(argv)
    except Elsewhere as error:
        return 130 if error.is_interrupt else 1
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except BrokenPipeError:
        # Of who reads the output, which is no failure of the command.
        raise
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            traceback.print_exception(error)
        code, message = _outcome(error)
    print(f"igr {command}: {message}", file=sys.stderr)
    return code


def _outcome(error: BaseException) -> tuple[int, str]:
    if isinstance(error, UserError):
        return 2, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, Interrupted):
        return 130, str(error)
    if isinstance(error, TrainingFailure | Lost):
        return 1, str(error)
    if isinstance(error, OSError):
        return 1, unusable_file(error)
    first_line = str(error).partition("\n")[0]
    return 1, f"{type(error).__name__}: {first_line}; add --debug for the traceback"


def parse(
    kind: type[Arguments],
    argv: Sequence[str],
    command: str,
    default: Arguments | None = None,
) -> Arguments:
    """Reads the flags of a dataclass; ``--help`` prints them and exits.

    Arguments:
        kind: A dataclass, each field with a docstring under it.
        argv: The arguments after the command.
        command: The name of the command.
        default: Values of the flags that are not given; ``None`` takes those of the class.

    Raises:
        UserError: The flags cannot be understood.
    """
    _check_flags(kind, argv, command)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind,
                args=argv,
                prog=f"igr {command}",
                default=tyro.MISSING_NONPROP if default is None else default,
                registry=_REGISTRY,
            )
    except SystemExit as exit_:
        if not exit_.code:
            raise
        raise UserError(_one_sentence(complaint.getvalue(), command)) from None


def flag_value(argv: Sequence[str], flag: str, command: str) -> str | None:
    """The value of a flag, the last one given, before flags are parsed; ``None`` where it is not there.

    Raises:
        UserError: It is there without a value.
    """
    found = None
    for place, token in enumerate(argv):
        name, equals, value = token.partition("=")
        if name != flag:
            continue
        found = value if equals else next(iter(argv[place + 1 :]), "--")
        if found.startswith("--"):
            raise UserError(f"expected a value after {flag}; got none; see igr {command} --help")
    return found


def _check_flags(kind: type, argv: Sequence[str], command: str) -> None:
    known = {f"--{name.replace('_', '-')}" for name in _field_names(kind)} | {"--help"}
    for token in argv:
        flag = token.partition("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            near = difflib.get_close_matches(flag, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"see igr {command} --help"
            raise UserError(f"expected a flag of igr {command}; got {flag}; {advice}")


def _field_names(kind: type) -> set[str]:
    names: set[str] = set()
    hints, annotated = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        nested: type = hints[field.name]
        if dataclasses.is_dataclass(nested):
            names |= _field_names(nested)
        else:
            names.add(field.name)
            if annotated[field.name] is bool:
                names.add(f"no_{field.name}")
    return names


def _one_sentence(box: str, command: str) -> str:
    """What tyro says in a box, drawn by lines or by ASCII, as one sentence in our own form."""
    lines = (line.strip("│| ") for line in box.splitlines())
    # Rules and empty lines part its paragraphs.
    marked = (line if any(map(str.isalnum, line)) else "\n" for line in lines)
    paragraphs = [part.strip() for part in " ".join(marked).split("\n")]
    for paragraph in paragraphs:
        for pattern, sentence in _SENTENCES.items():
            found = re.search(pattern, paragraph)
            if found:
                return f"{sentence.format(*found.groups())}; see igr {command} --help"
    return f"{' '.join(filter(None, paragraphs))}; see igr {command} --help"


_SENTENCES = {
    # Of a list of numbers, as LOWER UPPER STEPS.
    r"Error parsing (\S+): no type matching \{None\}\|\{(.+?)\} could be instantiated from (\[.*?\])": (
        "expected {0} to be {1}; got {2}"
    ),
    r"Error parsing (\S+): (.*)": "expected {0} to be {1}",
    r"Missing value for argument '(\S+)'": "expected a value after {0}; got none",
    r"Unrecognized options: (.*)": "expected no more arguments; got {0}",
    r"Missing from [^:]*: (\S+) .*\(required\)": "expected the argument {0}; got none",
}

_REGISTRY = ConstructorRegistry()

_KINDS: dict[type, tuple[str, str]] = {
    int: ("INT", "a whole number"),
    float: ("FLOAT", "a number"),
    str: ("TEXT", "text"),
    Path: ("PATH", "a path"),
}


@_REGISTRY.primitive_rule
def _scalar(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Numbers, texts and paths, each possibly ``None``, with our words for a bad one."""
    members = get_args(info.type) or (info.type,)
    kinds = [member for member in members if member is not NoneType]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        return None
    kind = kinds[0]
    metavar, expected = _KINDS[kind]

    def from_text(texts: list[str]) -> Any:
        if NoneType in members and texts[0] == "None":
            return None
        try:
            return kind(texts[0])
        except ValueError:
            raise ValueError(f"{expected}; got {texts[0]!r}") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=from_text,
        is_instance=lambda value: isinstance(value, members),
        str_from_instance=lambda value: [str(value)],
    )
