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
        f"expected {key} to be one of {', '.join(names)}; got {given!r}; {_advice(given, names)}"
    )


def _advice(given: object, names: list[str]) -> str:
    near = difflib.get_close_matches(str(given), names, n=1)
    return f"did you mean {near[0]}?" if near else "choose one of these"
