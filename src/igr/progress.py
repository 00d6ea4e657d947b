"""A bar for work that takes a while, where there is a terminal to draw it on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def bar(work: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Shows how far the body is, on standard error, and removes the bar at the end.

    Arguments:
        work: What is done, in a word or two.
        total: How much there is to do.
        unit: What is counted; ``"bytes"`` are shown as such and with their rate.

    Yields:
        A function to call with how much is done so far. It does nothing where standard error is no
        terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn(unit))
    if unit == "bytes":
        counts = (DownloadColumn(), TransferSpeedColumn())
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *counts,
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
    with shown:
        task = shown.add_task(work, total=total)
        yield lambda done: shown.update(task, completed=done)


@contextmanager
def spinner(work: str) -> Iterator[None]:
    """Shows that the body is at work, on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(work):
        yield
