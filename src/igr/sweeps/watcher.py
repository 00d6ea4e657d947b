"""What a sweep tells whoever watches it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from igr.sweeps.group import Run


class SweepWatcher:
    """Is told how a sweep goes, and here says nothing."""

    def begin(self, num_done: int, num_runs: int) -> None:
        """So many runs of all are there already."""

    def advance(self, running: Mapping[Path, float]) -> None:
        """These runs are going on, with the share of their training that is done."""

    def submitted(self, tasks: Sequence[str], folder: Path) -> None:
        """Runs of the sweep in that folder are tasks of a cluster now, with these numbers."""

    def retried(self, run: Run, failure: str) -> None:
        """A run has failed with a sentence, and is tried again."""

    def finished(self, run: Run, failure: str | None, num_done: int, num_runs: int) -> None:
        """A run has ended, where it failed with a sentence; so many of all have now."""
