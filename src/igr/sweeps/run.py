"""Running a sweep in its folder, so that it may be stopped at any time and gone on with."""

import math
import shlex
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igr.errors import UserError
from igr.sweeps import record
from igr.sweeps.group import Group, Run
from igr.sweeps.job import (
    Bundle,
    Ending,
    EvaluationSettings,
    Job,
    check_folder,
    evaluation_in,
    is_begun,
    is_trained,
)
from igr.sweeps.ledger import Ledger
from igr.sweeps.record import Sweep
from igr.sweeps.slurm import work_on_slurm
from igr.sweeps.slurm_settings import SlurmSettings, check_reach
from igr.sweeps.watcher import SweepWatcher
from igr.sweeps.workers import work_here, work_in_processes
from igr.training.build import available_device, build_latent
from igr.training.config import TrainConfig
from igr.training.failures import Interrupted
from igr.training.folders import held
from igr.training.replicas import shared_settings
from igr.training.run_folder import RunFolder
from igr.training.runs import load_data, with_data_at_hand
from igr.training.stopping import stop_signals

# A cluster that takes a run away so often, and lets it come no further, has something against it.
MOST_TAKEN_AWAY = 20


@dataclass(frozen=True)
class Failure:
    """A run that did not reach its end.

    Attributes:
        run: The run.
        message: Why, in a sentence.
        traceback: Where it was raised, unless its process ended.
    """

    run: Run
    message: str
    traceback: str | None

    def __str__(self) -> str:
        return f"{self.run.path}: {self.message}"


@dataclass(frozen=True)
class SweepOutcome:
    """A sweep that has nothing left to do.

    Attributes:
        sweep: What it consists of, and where.
        runs: The runs, those that failed included.
        chosen: For each group the position of the candidate that was chosen, ``None`` where all failed.
        num_kept: How many runs were there already, finished.
        failures: The runs that failed.
        warnings: Sentences about what a reader should know.
    """

    sweep: Sweep
    runs: tuple[Run, ...]
    chosen: dict[str, int | None]
    num_kept: int
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        failed = {failure.run.path: failure.message for failure in self.failures}
        groups = []
        for group in self.sweep.groups:
            number = self.chosen[group.key]
            bounds = self.sweep.validation_bounds(group)
            names = {candidate: group.run(candidate, group.seeds[0]).name for candidate in bounds}
            groups.append(
                {
                    "key": group.key,
                    "seeds": list(group.seeds),
                    "chosen": None if number is None else group.candidates[number].to_json(),
                    "validation_bounds": {names[candidate]: bound for candidate, bound in bounds.items()},
                }
            )
        runs = [
            {
                "group": run.group,
                "path": str(self.sweep.folder / run.path),
                "seed": run.config.seed,
                "chosen": self.chosen[run.group] == run.candidate,
                "failure": failed.get(run.path),
            }
            for run in self.runs
        ]
        return {"sweep": str(self.sweep.folder), "groups": groups, "runs": runs, "kept": self.num_kept}


def run_sweep(
    groups: Sequence[Group],
    folder: str | Path,
    *,
    workers: int = 1,
    replicas: bool = False,
    slurm: SlurmSettings | None = None,
    retries: int | None = None,
    evaluation: EvaluationSettings | None = None,
    watcher: SweepWatcher | None = None,
    command: str | None = None,
) -> SweepOutcome:
    """Runs a sweep, or goes on with it.

    Every candidate of a group is run with its first seed and evaluated on the validation split; the best
    one is then run with the other seeds, and all its runs are evaluated on the test split. Where a group
    says ``tune_all`` every candidate is run with every seed, and evaluated on both.

    The folder holds ``sweep.json``, and a run folder for each run, ``<key of the group>/<name of the run>``.
    A run is finished when it was trained and evaluated with these settings; such a one is not touched. The
    others go on from their last checkpoint, so that in the end the files are those of a sweep that was
    never stopped, whatever has stopped it.

    Arguments:
        groups: What is run.
        folder: The folder; it need not exist.
        workers: How many runs go on at once. With one they do in this process, with more each in one of
            its own; all compute with one thread, so that figures do not depend on the number of workers.
        replicas: Train runs that differ in seed, temperature, learning rate, warm-up of the KL or capacities
            alone as one stacked model, as many at once as there is memory for, see
            :func:`~igr.training.replicas.train_replicas`; others, and those that cannot be stacked, are
            trained one by one. The figures of replicas are those of single runs but for rounding.
        slurm: What is asked of a Slurm cluster, on which the runs are then tasks of job arrays; ``None`` for
            processes of this machine.
        retries: How often a run is tried again whose failure may pass: its process died, memory or the disk
            was full. ``None``: not at all on this machine, twice on a cluster.
        evaluation: How runs are evaluated; ``None`` takes the defaults.
        watcher: Is told how the sweep goes.
        command: The command that runs this sweep, for the text of an interrupt.

    Raises:
        UserError: A setting cannot be used, the data cannot be read, or the folder, or one below it, is that
            of something else, in use, or cannot be written.
        Interrupted: SIGINT or SIGTERM came; the runs that were going on have written a checkpoint, or stay on
            the cluster.
    """
    folder = Path(folder)
    evaluation = evaluation or EvaluationSettings()
    retries = (0 if slurm is None else 2) if retries is None else retries
    _check(groups, workers, retries, evaluation)
    if slurm is not None:
        check_reach(slurm)
    # Before the lock, which would leave a file in a folder that is no sweep's.
    record.check_free(folder, groups)
    with held(folder, "sweep"):
        warnings = _check_folders(folder, groups)
        sweep = record.begin(folder, groups, evaluation)
        ledger = Ledger(folder)
        work = _Work(
            sweep,
            watcher or SweepWatcher(),
            workers if slurm is None else slurm.at_once or 1,
            replicas,
            retries,
            ledger,
            is_elsewhere=slurm is not None,
        )
        try:
            _check_inputs(work.waiting, with_devices=slurm is None)
            with stop_signals() as stop:
                if slurm is not None:
                    work_on_slurm(work, slurm, folder, ledger, lambda: stop.requested)
                elif workers == 1:
                    work_here(work, lambda: stop.requested)
                else:
                    work_in_processes(work, workers, lambda: stop.requested)
        except KeyboardInterrupt:
            raise Interrupted(work.how_to_go_on(command)) from None
        if not work.is_finished:
            raise Interrupted(work.how_to_go_on(command))
        return work.outcome(warnings)


def _check(groups: Sequence[Group], workers: int, retries: int, evaluation: EvaluationSettings) -> None:
    keys = [group.key for group in groups]
    if not groups or len(set(keys)) < len(keys):
        raise ValueError(f"run_sweep: expected groups with different keys; got {keys}; rename them.")
    for name, value, lowest in (("workers", workers, 1), ("retries", retries, 0)):
        if value < lowest:
            raise UserError(
                f"expected {name} to be a whole number of at least {lowest}; got {value}; change {name}"
            )
    evaluation.check()


def _check_folders(folder: Path, groups: Sequence[Group]) -> tuple[str, ...]:
    """Checks the run folders that there are, and returns warnings about them."""
    others = [
        run
        for group in groups
        for number in range(len(group.candidates))
        for run in group.runs_of(number)
        if check_folder(folder / run.path, run.config)
    ]
    if not others:
        return ()
    return (
        f"{len(others)} runs, the first of them {folder / others[0].path}, were started with other versions "
        "of igr or torch, so their figures may differ from those of a sweep in one go; run it in a new "
        "folder, with --out, where that may matter",
    )


def _check_inputs(jobs: Sequence[Job], with_devices: bool) -> None:
    """Has what runs need read once, before any of them is begun, and by this process alone.

    Arguments:
        jobs: The runs.
        with_devices: Whether it is on this machine that they go on.
    """
    for config in {(job.run.config.data, job.run.config.data_dir): job.run.config for job in jobs}.values():
        load_data(with_data_at_hand(config, None))
    for job in {job.run.group: job for job in jobs}.values():
        if with_devices:
            available_device(job.run.config.device)
        # With the prior, which a run that was begun has a copy of.
        if isinstance(job.run.config, TrainConfig) and not is_begun(job.path):
            build_latent(job.run.config)


class _Work:
    """The runs of a sweep that are to be done, in the order in which they become known.

    Where all runs by which a group is tuned have ended, the others of the group are added.
    """

    def __init__(
        self,
        sweep: Sweep,
        watcher: SweepWatcher,
        workers: int,
        replicas: bool,
        retries: int,
        ledger: Ledger,
        is_elsewhere: bool,
    ) -> None:
        self._sweep = sweep
        self._retries = retries
        self._ledger = ledger
        self._is_elsewhere = is_elsewhere
        self._num_failed: Counter[Path] = Counter()
        # Since it came on last, with the step that it came to.
        self._num_taken_away: Counter[Path] = Counter()
        self._steps: dict[Path, int | None] = {}
        self._workers = workers
        self._replicas = replicas
        # So many processes have something to do.
        self._num_bundles = 0
        self._watcher = watcher
        self._groups = {group.key: group for group in sweep.groups}
        self.waiting: deque[Job] = deque()
        self._going: dict[Path, float] = {}
        self._runs: dict[Path, Run] = {}
        self._worked_on: set[Path] = set()
        self._failures: dict[Path, Failure] = {}
        self._chosen: dict[str, int | None] = {}
        for group in sweep.groups:
            splits = ("validation", "test") if group.tune_all and group.tested else ("validation",)
            self._add(group.tuning_runs, splits)
        for group in sweep.groups:
            self._choose(group)
        watcher.begin(self._num_done, self._num_runs)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.waiting and not self._going

    def take(self) -> Bundle | None:
        """The next run to do, with its replicas where these are trained together."""
        if not self.waiting:
            return None
        first = self.waiting.popleft()
        return self._begun([first, *(self._mates(first) if self._replicas else [])])

    def take_of(self, paths: Sequence[str]) -> Bundle | None:
        """The jobs of those of these runs that wait, if any does."""
        jobs = [job for job in self.waiting if str(job.run.path) in paths]
        if not jobs:
            return None
        for job in jobs:
            self.waiting.remove(job)
        return self._begun(jobs)

    def _begun(self, jobs: Sequence[Job]) -> Bundle:
        self._going |= dict.fromkeys((job.run.path for job in jobs), 0.0)
        self._num_bundles += 1
        self._watcher.advance(self._going)
        # A task of a cluster has a machine of its own.
        return Bundle(tuple(jobs), 1.0 if self._is_elsewhere else 1.0 / self._workers)

    def _mates(self, first: Job) -> list[Job]:
        """Jobs to be done together with one that is about to begin: its part of the replicas that wait."""
        shared = None if is_trained(first.path) else shared_settings(first.run.config)
        if shared is None:
            return []
        found = [
            job
            for job in self.waiting
            if shared_settings(job.run.config) == shared and not is_trained(job.path)
        ]
        # All processes that are free are to have some of them.
        free = max(1, self._workers - self._num_bundles)
        found = found[: math.ceil((1 + len(found)) / free) - 1]
        for job in found:
            self.waiting.remove(job)
        return found

    def advance(self, bundle: Bundle, share: float) -> None:
        """So much of the training of these runs is done."""
        self._going |= dict.fromkeys((job.run.path for job in bundle.jobs), share)
        self._watcher.advance(self._going)

    def submitted(self, tasks: Sequence[str]) -> None:
        """What was taken are tasks of a cluster now, with these numbers."""
        self._watcher.submitted(tasks, self._sweep.folder)

    def end(self, bundle: Bundle, endings: Sequence[Ending]) -> None:
        """Runs have ended; those that were interrupted go back."""
        self._num_bundles -= 1
        for job, ending in zip(bundle.jobs, endings, strict=True):
            run = job.run
            del self._going[run.path]
            if ending.interrupted:
                self.waiting.appendleft(job)
                continue
            if ending.failure is not None and self._is_tried_again(run, ending):
                self.waiting.append(job)
                self._watcher.retried(run, ending.failure)
                continue
            if ending.failure is not None:
                self._failures[run.path] = Failure(run, ending.failure, ending.traceback)
                self._ledger.failed(run.path, ending.failure)
            else:
                self._ledger.ended_well(run.path)
            self._choose(self._groups[run.group])
            self._watcher.finished(run, ending.failure, self._num_done, self._num_runs)

    def _is_tried_again(self, run: Run, ending: Ending) -> bool:
        """Whether a run that has failed is tried again; what the cluster took away is no try of the run."""
        step = RunFolder(self._sweep.folder / run.path).latest_step()
        if step != self._steps.get(run.path):
            self._steps[run.path] = step
            self._num_taken_away[run.path] = 0
        if ending.was_taken_away and self._num_taken_away[run.path] < MOST_TAKEN_AWAY:
            self._num_taken_away[run.path] += 1
            return True
        self._num_failed[run.path] += 1
        return ending.may_pass and self._num_failed[run.path] <= self._retries

    def outcome(self, warnings: tuple[str, ...]) -> SweepOutcome:
        """What has come of a finished sweep."""
        for key, number in self._chosen.items():
            # The only candidate of a group is known before it has failed.
            if number is not None and all(
                run.path in self._failures for run in self._groups[key].runs_of(number)
            ):
                self._chosen[key] = None
        return SweepOutcome(
            self._sweep,
            tuple(self._runs.values()),
            self._chosen,
            len(self._runs.keys() - self._worked_on),
            tuple(self._failures.values()),
            warnings,
        )

    def how_to_go_on(self, command: str | None) -> str:
        """The sentence of an interrupt."""
        how = f"with {command}" if command else f"by running the same sweep in {self._sweep.folder}"
        going = ""
        if self._is_elsewhere and self._going:
            going = f" with {len(self._going)} that go on on the cluster"
            how = f"{how}, see how they are with igr sweep status {shlex.quote(str(self._sweep.folder))}"
        return f"stopped after {self._num_done} of {self._num_runs} runs{going}; go on {how}"

    def _add(self, runs: Sequence[Run], splits: tuple[str, ...]) -> None:
        """Adds what is left to do of some runs."""
        for run in runs:
            self._runs[run.path] = run
            path = self._sweep.folder / run.path
            settings = self._sweep.evaluation
            missing = tuple(
                split for split in splits if evaluation_in(path, run.config, split, settings) is None
            )
            if run.path not in self._failures and (missing or not is_trained(path)):
                self.waiting.append(Job(run, path, missing, settings))
                self._worked_on.add(run.path)

    def _choose(self, group: Group) -> None:
        """Chooses a candidate, if that is due, and adds its runs."""
        tuning = {run.path for run in group.tuning_runs}
        if group.key in self._chosen or tuning & self._open:
            return
        chosen = self._sweep.chosen(group)
        self._chosen[group.key] = chosen
        if chosen is not None:
            self._add(group.runs_of(chosen), ("test",) if group.tested else ())

    @property
    def _open(self) -> set[Path]:
        return {job.run.path for job in self.waiting} | self._going.keys()

    @property
    def _num_done(self) -> int:
        return len(self._runs.keys() - self._open)

    @property
    def _num_runs(self) -> int:
        """The runs of all groups, as far as they are known to come."""
        return sum(
            group.num_runs if self._chosen.get(group.key, 0) is not None else len(group.tuning_runs)
            for group in self._sweep.groups
        )
