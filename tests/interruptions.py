"""Runs that are interrupted at a step, and all that a run that goes on has to agree with."""

import os
import signal
from pathlib import Path

from igr.training.run_folder import RunFolder
from igr.training.watchers import Watcher


class InterruptAt(Watcher):
    """Asks training to stop once so many steps are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def advance(self, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def state(path: Path) -> tuple[bytes, bytes]:
    """The figures and the latest checkpoint of a run, byte for byte."""
    folder = RunFolder(path)
    latest = folder.latest_checkpoint()
    assert latest is not None
    return (path / "metrics.jsonl").read_bytes(), latest.read_bytes()
