"""What is done to one run of a sweep: training, and evaluations of its last checkpoint."""

import dataclasses
import errno
import filecmp
import itertools
import math
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from igr import data
from igr.errors import UserError, unusable_file
from igr.evaluation.evaluation import Evaluation, evaluate, stored_evaluation
from igr.sweeps.group import Run
from igr.training import loop
from igr.training.failures import Interrupted, TrainingFailure
from igr.training.folders import LOCK
from igr.training.replicas import Outcome, replicas_at_once, train_replicas
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from igr.training.watchers import Watcher

# A worker whose sweep was killed sees it within the one, and keeps the folder of its run no longer than
# the other, even while it waits for the disk.
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_WAIT = 60.0
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@dataclass(frozen=True)
class EvaluationSettings:
    """How the runs of a sweep are evaluated.

    Attributes:
        num_samples: Latent samples for each image of the test split; ``None``: as the config of a run says.
        validation_samples: The same for the validation split, by which a candidate is chosen; ``None``: as
            many as for the test split.
        max_images: Evaluate only the first so many images of a split; ``None``: all.
        seed: Fixes the noise.
    """

    num_samples: int | None = None
    validation_samples: int | None = None
    max_images: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Checks the values.

        Raises:
            UserError: One cannot be used.
        """
        for name, lowest in (("num_samples", 1), ("validation_samples", 1), ("max_images", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise UserError(
                    f"expected {name} of the evaluation to be a whole number of at least {lowest}; got "
                    f"{value}; change {name}"
                )

    def samples(self, config: RunConfig, split: str) -> int:
        """The latent samples for each image of a split.

        Arguments:
            config: The config of a run, which says how many where these settings do not.
            split: The name of the split.
        """
        chosen = self.validation_samples if split == "validation" else None
        for value in (chosen, self.num_samples):
            if value is not None:
                return value
        return config.num_eval_samples

    def num_images(self, config: RunConfig, split: str) -> int:
        """The number of images of a split that are evaluated.

        Arguments:
            config: The config of a run, which names the data set and may limit it.
            split: The name of the split.
        """
        sizes = dict(zip(("train", "validation", "test"), data.source(config.data).sizes, strict=True))
        limits = (sizes[split], config.max_images, self.max_images)
        return min(limit for limit in limits if limit is not None)


@dataclass(frozen=True)
class Job:
    """A run that has to be trained, or evaluated on some splits, or both."""

    run: Run
    path: Path
    splits: tuple[str, ...]
    evaluation: EvaluationSettings


@dataclass(frozen=True)
class Bundle:
    """Jobs that are done together: one, or several whose runs are replicas of one another.

    Attributes:
        jobs: The jobs.
        share: The part of the memory of the machine that they may take.
    """

    jobs: tuple[Job, ...]
    share: float = 1.0


@dataclass(frozen=True)
class Ending:
    """How a job ended: well, by an interrupt, or by a failure, which is a sentence.

    Attributes:
        interrupted: Whether it was asked to stop, and did.
        failure: Why it failed.
        traceback: Where that was raised, unless its process ended.
        may_pass: Whether the failure is one that may be gone if it is tried again: of the machine, and not of
            the run.
        was_taken_away: Whether it was the machine that went, through no fault of the run.
    """

    interrupted: bool = False
    failure: str | None = None
    traceback: str | None = None
    may_pass: bool = False
    was_taken_away: bool = False


def is_trained(path: Path) -> bool:
    """Whether training has finished in a folder, which need not exist."""
    return "training" in RunFolder(path).result()


def evaluation_in(
    path: Path, config: RunConfig, split: str, settings: EvaluationSettings
) -> Evaluation | None:
    """The evaluation of the latest checkpoint of a run on a split, if it was made with these settings."""
    folder = RunFolder(path)
    # A file that is broken is an error; a record of another version only has to be made anew.
    folder.result()
    with suppress(UserError):
        found = stored_evaluation(folder, split)
        wanted = (settings.samples(config, split), settings.num_images(config, split), settings.seed)
        if found is not None and (found.num_samples, found.num_data, found.seed) == wanted:
            return found
    return None


def check_folder(path: Path, config: RunConfig) -> bool:
    """Checks that a folder is free or that of the run with this config, whatever has become of it.

    Returns:
        Whether it was started with other versions of igr or torch.

    Raises:
        UserError: It is neither.
    """
    folder = RunFolder(path)
    if not is_begun(path):
        try:
            if path.exists():
                # Nothing but a folder has entries.
                next(path.iterdir(), None)
            folder.check_free()
        except (UserError, OSError):
            raise UserError(
                f"expected an empty folder, or that of a run, at {path}; got something else; move it away, "
                "or choose another folder for the sweep with --out"
            ) from None
        return False
    try:
        stored = folder.config()
    except UserError as error:
        raise UserError(
            f"expected a run of this version of igr in {path}; got one that cannot be read ({error}); use "
            "the version that wrote it, or choose another folder for the sweep with --out"
        ) from error
    differing = [f"model {stored.model} there and {config.model} now"] * (stored.model != config.model)
    differing = differing or [
        f"{key} {before} there and {getattr(config, key)} now"
        for key, before in dataclasses.asdict(stored).items()
        if not _is_same(key, before, getattr(config, key))
    ]
    if differing:
        raise UserError(
            f"expected the run of this sweep in {path}; got one with other settings "
            f"({'; '.join(differing)}); move it away, or choose another folder for the sweep with --out"
        )
    return bool(folder.version_warnings())


def _is_same(key: str, before: Any, now: Any) -> bool:
    """Whether a setting is the same in the config of a run and now."""
    if key == "data_dir":
        # The files are verified, so it does not matter where they are.
        return True
    if key == "prior" and None not in (before, now):
        # A run has a copy of its own, and needs no other once it has.
        return not Path(now).exists() or filecmp.cmp(before, now, shallow=False)
    return bool(before == now)


def attempt(
    bundle: Bundle, should_stop: Callable[[], bool], advance: Callable[[float], object]
) -> list[Ending]:
    """Does the jobs of a bundle, and tells how each ended.

    Arguments:
        bundle: What has to be done.
        should_stop: Whether it has to stop, now and then; training then ends with a checkpoint.
        advance: Called with the share of training that is done, now and then.
    """
    if len(bundle.jobs) > 1:
        return _together(bundle, should_stop, advance)
    return [_ending(partial(_perform, job, should_stop, advance)) for job in bundle.jobs]


def _ending(work: Callable[[], object]) -> Ending:
    """How some work ended."""
    try:
        work()
    except Interrupted:
        return Ending(interrupted=True)
    except Exception as error:
        return _failure(error)
    return Ending()


def _failure(error: Exception) -> Ending:
    return Ending(
        failure=_sentence(error),
        traceback="".join(traceback.format_exception(error)),
        may_pass=_is_out_of_memory(error) or any(map(_is_of_the_machine, (error, error.__cause__))),
    )


def _together(
    bundle: Bundle, should_stop: Callable[[], bool], advance: Callable[[float], object]
) -> list[Ending]:
    """Trains replicas as one model, as many at once as there is room for, and evaluates them."""
    jobs = bundle.jobs
    endings: dict[Job, Ending] = {}
    trained: list[Job] = []
    try:
        waiting = deque(_parts(jobs, replicas_at_once(jobs[0].run.config, bundle.share)))
    except Exception as error:
        return [_failure(error)] * len(jobs)
    while waiting and not should_stop():
        part = waiting.popleft()
        begun, size = (len(trained) + len(endings)) / len(jobs), len(part) / len(jobs)
        try:
            outcomes = _train(part, should_stop, partial(_advance_part, advance, begun, size))
        except Interrupted:
            break
        except Exception as error:
            if _is_out_of_memory(error) and len(part) > 1:
                half = len(part) // 2
                waiting.extendleft((part[half:], part[:half]))
            else:
                endings |= dict.fromkeys(part, _failure(error))
            continue
        for job, outcome in zip(part, outcomes, strict=True):
            if isinstance(outcome, Exception):
                endings[job] = _failure(outcome)
            else:
                trained.append(job)
    for job in trained:
        if should_stop():
            break
        endings[job] = _ending(partial(_evaluate, job, should_stop))
    return [endings.get(job, Ending(interrupted=True)) for job in jobs]


def _train(
    jobs: Sequence[Job], should_stop: Callable[[], bool], advance: Callable[[float], object]
) -> list[Outcome]:
    """Trains the runs of jobs, or goes on with them: one as such, several as replicas."""
    for job in jobs:
        _wait_for_folder(job.path, should_stop)
    watcher = _Watcher(should_stop, advance)
    if len(jobs) > 1:
        return train_replicas([(job.run.config, job.path) for job in jobs], watcher)
    (job,) = jobs
    if is_begun(job.path):
        return [loop.resume(job.path, watcher, job.run.config.data_dir)]
    return [loop.train(job.run.config, job.path, watcher)]


def _parts(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    """The jobs in as few parts of at most that size as can be, all but equal."""
    count = math.ceil(len(jobs) / size)
    ends = [round(len(jobs) * number / count) for number in range(count + 1)]
    return [jobs[start:end] for start, end in itertools.pairwise(ends)]


def _advance_part(advance: Callable[[float], object], begun: float, size: float, share: float) -> None:
    advance(begun + size * share)


def _perform(job: Job, should_stop: Callable[[], bool], advance: Callable[[float], object]) -> None:
    _train([job], should_stop, advance)
    _evaluate(job, should_stop)


def _evaluate(job: Job, should_stop: Callable[[], bool]) -> None:
    """Evaluates a trained run on the splits of its job."""
    if not job.splits:
        return
    config = job.run.config
    run = load_run(job.path, data_dir=config.data_dir)
    for split in job.splits:
        evaluate(
            run,
            split=split,
            num_samples=job.evaluation.samples(config, split),
            max_images=job.evaluation.max_images,
            seed=job.evaluation.seed,
            progress=lambda done: _stop_evaluation(should_stop),
        )


def is_begun(path: Path) -> bool:
    """Whether a folder, which need not exist, is that of a run."""
    return RunFolder(path).is_begun


def _wait_for_folder(path: Path, should_stop: Callable[[], bool]) -> None:
    """Waits for what a killed sweep has left at work in a folder, which is about to notice."""
    lock = FileLock(path / LOCK, timeout=0)
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while path.is_dir():
        try:
            with lock:
                return
        except Timeout:
            if should_stop():
                raise Interrupted("stopped before the folder was free") from None
            if time.monotonic() > deadline:
                # Training says whose it is.
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _stop_evaluation(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise Interrupted("stopped during an evaluation, which will be made anew")


class _Watcher(Watcher):
    """Has training stop where it should, and passes on how far it is."""

    def __init__(self, should_stop: Callable[[], bool], advance: Callable[[float], object]) -> None:
        self._should_stop = should_stop
        self._advance = advance
        self._num_steps = 1
        self._next_look = 0.0
        self._asked = False

    def begin(self, step: int, num_steps: int, num_epochs: int) -> None:
        self._num_steps = num_steps

    def advance(self, step: int) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        self._advance(step / self._num_steps)
        if self._should_stop() and not self._asked:
            # Training takes it as a request and writes a checkpoint; a second one would end the process.
            self._asked = True
            signal.raise_signal(signal.SIGTERM)


def _is_of_the_machine(error: BaseException | None) -> bool:
    """Whether a file could not be written for want of room, or by a fault of the disk."""
    return isinstance(error, OSError) and error.errno in _OF_THE_MACHINE


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _sentence(error: Exception) -> str:
    if isinstance(error, UserError | TrainingFailure):
        return str(error)
    if _is_out_of_memory(error):
        return (
            "expected enough memory for the run; got less; run fewer at once with --workers, or use a "
            "smaller batch_size"
        )
    if isinstance(error, OSError):
        return unusable_file(error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
