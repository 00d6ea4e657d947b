"""What a sweep tells whoever watches it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from igr.sweeps.group import Run


class SweepWatcher:
    """Is told how a sweep goes, and here says nothing."""

    def begin(self, num_done: int, num_runs: int) -> None:
        """A sweep begins, or goes on.

        Arguments:
            num_done: How many runs have ended before.
            num_runs: How many there are.
        """

    def advance(self, running: Mapping[Path, float]) -> None:
        """These runs are going on, with the share of their training that is done."""

    def submitted(self, tasks: Sequence[str], folder: Path) -> None:
        """Runs of the sweep in that folder are tasks of a cluster now, with these numbers."""

    def retried(self, run: Run, failure: str) -> None:
        """A run has failed and is tried again.

        Arguments:
            run: The run.
            failure: The sentence that it failed with.
        """

    def finished(self, run: Run, failure: str | None, num_done: int, num_runs: int) -> None:
        """A run has ended.

        Arguments:
            run: The run.
            failure: The sentence that it failed with; ``None`` where it did not.
            num_done: How many runs have ended now.
            num_runs: How many there are.
        """
