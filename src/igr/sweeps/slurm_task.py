"""What a task of a Slurm cluster does: some runs of a sweep, until they end or it has to make room."""

import dataclasses
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from igr import atomic
from igr.errors import UserError
from igr.sweeps.job import Bundle, Ending, attempt, evaluation_in, is_trained
from igr.training.run_folder import read_json
from igr.training.stopping import stop_signals

# What the script of a job takes as the wish to be put into the queue again.
AGAIN = 75
# Slurm gives a job as long as this to end, or it is more than it is given anywhere.
SECONDS_TO_BE_KILLED = 600.0
# Those that come some time before the end of the limit.
_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class SlurmTask:
    """The runs of a bundle, in a process that Slurm may stop and start again.

    Where a signal announces the end of the time limit, training stops with a checkpoint, and the task asks to
    be put into the queue again; at SIGTERM, with which Slurm takes a node away or cancels, it stops with a
    checkpoint and leaves it to Slurm what comes of it. How the runs ended stands in a file.

    Arguments:
        bundle: The runs.
        ending: The file.
    """

    bundle: Bundle
    ending: Path

    def __call__(self) -> None:
        """Does the work.

        Raises:
            SystemExit: It was stopped before its end.
        """
        # As everywhere in a sweep.
        torch.set_num_threads(1)
        left = self._to_evaluate()
        with stop_signals() as stop, _Announced() as announced:

            def should_stop() -> bool:
                return stop.requested or announced.has_come

            endings = attempt(self.bundle, should_stop, _Progress())
        if any(ending.interrupted for ending in endings):
            if not announced.has_come:
                # To Slurm a job that ends now has failed. One that it has to kill goes back into the queue.
                time.sleep(SECONDS_TO_BE_KILLED)
                raise SystemExit(128 + signal.SIGTERM)
            if left != self._to_evaluate() or not left:
                raise SystemExit(AGAIN)
            endings = [_too_long(ending) for ending in endings]
        for job, ending in zip(self.bundle.jobs, endings, strict=True):
            print(f"{job.run.path}: {ending.failure or 'finished'}\n{ending.traceback or ''}", flush=True)
        write_endings(self.ending, endings)

    def _to_evaluate(self) -> list[tuple[Path, str]]:
        """The evaluations that are missing, if all runs are trained; else nothing."""
        jobs = self.bundle.jobs
        if not all(is_trained(job.path) for job in jobs):
            return []
        return [
            (job.path, split)
            for job in jobs
            for split in job.splits
            if evaluation_in(job.path, job.run.config, split, job.evaluation) is None
        ]


def _too_long(ending: Ending) -> Ending:
    """An interrupt of what would not end in the next round either."""
    if not ending.interrupted:
        return ending
    return Ending(
        failure="expected an evaluation to end within the time limit, since it is made in one go; got none; "
        "raise --time-limit, or evaluate fewer images with --max-eval-images"
    )


class _Progress:
    """Says in the log of the task how far training is, at every tenth."""

    def __init__(self) -> None:
        self._tenths = 0

    def __call__(self, share: float) -> None:
        if int(10 * share) > self._tenths:
            self._tenths = int(10 * share)
            print(f"{share:.0%} trained", flush=True)


class _Announced:
    """Whether the end of the time limit was announced, as long as the context lasts."""

    def __init__(self) -> None:
        self.has_come = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Announced":
        self._before = {number: signal.signal(number, self._note) for number in _WARNINGS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.has_come = True


def write_endings(path: Path, endings: list[Ending]) -> None:
    """Writes how the runs of a task ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, {"endings": [dataclasses.asdict(ending) for ending in endings]})


def read_endings(path: Path, count: int) -> list[Ending] | None:
    """How the runs of a task ended; ``None`` where they have not.

    Raises:
        UserError: The file is another one.
    """
    if not path.exists():
        return None
    endings: list[Ending] = []
    with suppress(KeyError, TypeError):
        endings = [Ending(**fields) for fields in read_json(path)["endings"]]
    if len(endings) != count or not all(map(_is_typed, endings)):
        raise UserError(f"expected how {count} runs ended in {path}; got something else; remove the file")
    return endings


def _is_typed(ending: Ending) -> bool:
    texts = (ending.failure, ending.traceback)
    flags = (ending.interrupted, ending.may_pass, ending.was_taken_away)
    return all(isinstance(text, str | None) for text in texts) and all(type(flag) is bool for flag in flags)
