"""What training tells whoever watches it."""

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

SECONDS_BETWEEN_DRAWS = 0.1

# What training maximizes, by the KL in it: with the discrete one it bounds nothing.
_OBJECTIVES = {"relaxed": "bound", "discrete": "objective"}


def objective_of(metrics: Mapping[str, Any]) -> str:
    """What a line of ``metrics.jsonl`` names ``bound``, in a word; without a KL in it, it is one."""
    return _OBJECTIVES.get(metrics.get("kl", "relaxed"), "bound")


class Watcher:
    """Is told how training goes, and here says nothing; a context in which it may draw."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the drawing."""

    def begin(self, step: int, num_steps: int, num_epochs: int) -> None:
        """Training goes on from ``step`` of ``num_steps``, which make ``num_epochs`` epochs."""

    def advance(self, step: int) -> None:
        """So many steps are done; called after each, so it must be cheap."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """An epoch has ended, with this line of ``metrics.jsonl``."""


class StartLine(Watcher):
    """Says what is trained once everything is ready, and then keeps quiet.

    Arguments:
        console: Where to write.
        line: What to say.
    """

    def __init__(self, console: Console, line: str) -> None:
        self._console = console
        self._line = line

    def begin(self, step: int, num_steps: int, num_epochs: int) -> None:
        self._console.print(self._line, soft_wrap=True, markup=False, highlight=False)


class ProgressBar(StartLine):
    """Also draws epoch, time left and the current figures, at most ten times a second.

    Arguments:
        console: Where to draw; a terminal.
        line: What to say first.
    """

    def __init__(self, console: Console, line: str) -> None:
        super().__init__(console, line)
        # Without auto_refresh no thread of rich's competes with training for the cores.
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", epoch="", figures="")
        self._next_draw = 0.0
        self._num_epochs = 0
        self._validation = "-"

    def __exit__(self, *exception: object) -> None:
        self._bar.refresh()
        self._bar.stop()

    def begin(self, step: int, num_steps: int, num_epochs: int) -> None:
        super().begin(step, num_steps, num_epochs)
        self._bar.start()
        steps_per_epoch = num_steps // num_epochs
        epoch = f"{step // steps_per_epoch}/{num_epochs}"
        self._num_epochs = num_epochs
        self._bar.update(self._task, completed=step, total=num_steps, epoch=epoch)

    def advance(self, step: int) -> None:
        now = time.monotonic()
        if now >= self._next_draw:
            self._next_draw = now + SECONDS_BETWEEN_DRAWS
            self._bar.update(self._task, completed=step, refresh=True)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        if metrics["validation_bound"] is not None:
            self._validation = f"{metrics['validation_bound']:.2f}"
        name = objective_of(metrics)
        self._bar.update(
            self._task,
            completed=metrics["step"],
            epoch=f"{metrics['epoch']}/{self._num_epochs}",
            figures=f"{name} {metrics['train_bound']:.2f} (validation {self._validation})",
        )
