"""What the experiments half says when its input cannot be used."""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """Something a user gave cannot be used.

    The text is one sentence, *expected X; got Y; what to do*. The command line prints it without a
    traceback and exits with 2.
    """


def shown(value: object) -> str:
    """Its repr, cut so that an error stays a sentence."""
    try:
        return cut(repr(value), 80)
    except ValueError:
        # Python does not write out whole numbers of thousands of digits.
        return "a number of thousands of digits"


def cut(text: object, most: int = 240) -> str:
    """A text on one line, cut so that an error stays a sentence; other errors may quote a whole file.

    What does not print is escaped: a terminal would take it for commands.
    """
    line = " ".join(str(text)[: 2 * most].split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


# What the system calls a lack of room, and of permission.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def remedy(error: OSError) -> str:
    """What to do about something that cannot be written."""
    if error.errno in _FULL:
        return "make room there"
    return "make it writable" if error.errno in _FORBIDDEN else "check it"


def unusable_file(error: OSError) -> str:
    """What to say of a file that nobody has thought of, if the system says which one it is."""
    if error.filename is None or error.strerror is None:
        return str(error)
    return (
        f"expected a file that can be read or written at {error.filename}; got an error ({error.strerror}); "
        f"{remedy(error)}"
    )


def unwritable_file(path: Path, error: OSError) -> UserError:
    """The error for a file after ``--out`` that the system does not let us write."""
    return UserError(
        f"expected a file that can be written; got {path} ({error.strerror or error}); "
        f"{remedy(error)}, or choose another with --out"
    )


def unknown_name(key: str, given: object, allowed: Iterable[str]) -> UserError:
    """The error for a name outside a closed set; it offers the nearest allowed one."""
    names = sorted(allowed)
    return UserError(
        f"expected {key} to be one of {', '.join(names)}; got {shown(given)}; {_advice(given, names)}"
    )


def _advice(given: object, names: list[str]) -> str:
    near = difflib.get_close_matches(str(given)[:80], names, n=1)
    return f"did you mean {near[0]}?" if near else "choose one of these"
