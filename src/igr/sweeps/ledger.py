"""``attempts.json``: runs of a sweep that have failed, or that a cluster has, for those who look or go on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from igr import atomic
from igr.errors import UserError
from igr.training.run_folder import read_json

LEDGER = "attempts.json"


class Ledger:
    """The file in the folder of a sweep, which the process that runs the sweep alone writes.

    Arguments:
        folder: The folder of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        stored = read_json(self.path) if self.path.exists() else {}
        self._failures = _section(self.path, stored, "failures")
        self._tasks = _section(self.path, stored, "tasks")
        self._last_tasks = _section(self.path, stored, "last_tasks")

    @property
    def failures(self) -> Mapping[str, str]:
        """Why runs failed when they were last tried, by their paths, seen from the folder."""
        return self._failures

    @property
    def tasks(self) -> Mapping[str, Sequence[str]]:
        """The paths of the runs of each task of a cluster that was not seen to end, by its number."""
        return self._tasks

    @property
    def last_tasks(self) -> Mapping[str, str]:
        """The number of the last task of a cluster that each run had, whether or not that has ended."""
        return self._last_tasks

    def failed(self, run: Path, failure: str) -> None:
        """Notes that a run has failed."""
        self._failures[str(run)] = failure
        self._write()

    def ended_well(self, run: Path) -> None:
        """Forgets that a run has failed before."""
        if self._failures.pop(str(run), None) is not None:
            self._write()

    def submitted(self, tasks: Mapping[str, Sequence[Path]]) -> None:
        """Notes tasks of a cluster, with their runs."""
        self._tasks |= {task: [str(run) for run in runs] for task, runs in tasks.items()}
        self._last_tasks |= {str(run): task for task, runs in tasks.items() for run in runs}
        self._write()

    def ended(self, tasks: Sequence[str]) -> None:
        """Forgets tasks of a cluster."""
        for task in tasks:
            del self._tasks[task]
        if tasks:
            self._write()

    def _write(self) -> None:
        record = {"failures": self._failures, "tasks": self._tasks, "last_tasks": self._last_tasks}
        atomic.write_json(self.path, record)


def _section(path: Path, stored: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = stored.get(name, {})
    kind = list if name == "tasks" else str
    if not isinstance(found, dict) or not all(isinstance(value, kind) for value in found.values()):
        raise UserError(
            f"expected {name} by name in {path}; got something else; remove the file, which nothing but igr "
            "sweep status needs while no run is on a cluster"
        )
    return found
