"""How training ends when it does not reach its last epoch."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from igr.errors import remedy


class TrainingFailure(RuntimeError):
    """Training cannot go on; the text says where it stopped, what is intact and why."""


class Interrupted(Exception):
    """Training was asked to stop, and did so after a checkpoint; the text says how to go on."""


class Elsewhere(Exception):
    """Another process of the run has what is to be said of its end.

    Attributes:
        is_interrupt: Whether it was asked to stop.
    """

    def __init__(self, message: str, is_interrupt: bool = False) -> None:
        super().__init__(message)
        self.is_interrupt = is_interrupt


@contextmanager
def writing(path: Path, run: Path) -> Iterator[None]:
    """Says of a file of a run that cannot be written how to go on.

    Arguments:
        path: The file.
        run: The folder of the run.

    Raises:
        TrainingFailure: The body raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise TrainingFailure(
            f"expected to write {path}; got an error ({error.strerror or error}); what the run had before is "
            f"intact: {remedy(error)} and go on with igr train --resume {shlex.quote(str(run))}"
        ) from error
