"""What commands say on standard error."""

import shlex
import sys
from pathlib import Path

from rich.console import Console

from igr.training.watchers import ProgressBar, StartLine, Watcher


def say(message: str) -> None:
    """Prints a message."""
    print(message, file=sys.stderr)


def watcher(line: str) -> Watcher:
    """Says what is trained, with a bar below if standard error is a terminal."""
    kind = ProgressBar if sys.stderr.isatty() else StartLine
    return kind(Console(stderr=True), line)


def quoted(path: Path) -> str:
    """The path as it stands in a command of a shell."""
    return shlex.quote(str(path))
