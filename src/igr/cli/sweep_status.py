"""``igr sweep status``: how each run of a sweep is."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from igr import studies
from igr.cli.arguments import CommonArguments, parse, run
from igr.cli.terminal import say
from igr.sweeps import status
from igr.sweeps.slurm import log_of
from igr.sweeps.status import STATES


@dataclass(frozen=True, kw_only=True)
class StatusArguments(CommonArguments):
    """How each run of a sweep is: its state, its last validation and its log."""

    sweep: Annotated[Path, tyro.conf.Positional]
    """The folder of the sweep, or of a study."""


def main(argv: list[str]) -> int:
    """Runs ``igr sweep status`` and returns the exit code."""
    return run("sweep status", _status, argv)


def _status(argv: list[str]) -> int:
    arguments = parse(StatusArguments, argv, "sweep status")
    folder = arguments.sweep / studies.RUNS if (arguments.sweep / studies.RUNS).is_dir() else arguments.sweep
    found = status(folder)
    if arguments.json:
        print(json.dumps([one.to_json() for one in found], indent=2))
        return 0
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("run", "state", "epoch", "validation", "task"):
        is_number = title in ("epoch", "validation")
        table.add_column(title, overflow="fold", justify="right" if is_number else "left")
    for one in found:
        bound = "-" if one.bound is None else f"{one.bound:.2f}"
        epoch = f"{one.epoch}/{one.num_epochs}"
        table.add_row(*map(Text, [str(one.run.path), one.state, epoch, bound, one.task or "-"]))
    Console().print(table)
    for one in found:
        if one.failure is not None:
            say(f"{one.run.path}: {one.failure}")
    if any(one.log is not None for one in found):
        say(f"logs of tasks: {log_of(folder, 'TASK')}")
    counts = Counter(one.state for one in found)
    say(f"{len(found)} runs: {', '.join(f'{counts[state]} {state}' for state in STATES if counts[state])}")
    return 0
