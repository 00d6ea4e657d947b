"""Runs of a sweep as tasks of a Slurm cluster, submitted as job arrays by submitit."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from igr.errors import UserError
from igr.sweeps.job import Bundle, Ending, Job, evaluation_in
from igr.sweeps.ledger import LEDGER, Ledger
from igr.sweeps.slurm_settings import SlurmSettings
from igr.sweeps.slurm_task import AGAIN, SlurmTask, read_endings
from igr.sweeps.workers import Queue
from igr.training.run_folder import RunFolder

# What submitit writes, and how tasks ended, below the folder of a sweep.
FOLDER = "slurm"
SECONDS_BETWEEN_LOOKS = 5.0
# So long a task has to be seen ended, or not at all, before it is believed to have ended without a word: one
# that goes back into the queue is ended for a moment. A file may take longer to come over a network.
SECONDS_BEFORE_GIVEN_UP = 15.0
SECONDS_FOR_A_FILE = 90.0
# What most clusters take as one array.
_LARGEST_ARRAY = 1000

# States out of which a task does not come by itself.
ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)
# Those that say nothing about the run.
_TAKEN_AWAY = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED"})
# submitit has a limit where none is given.
_UNLIMITED = 100_000
# Seconds for a checkpoint before the time limit ends a task.
_SECONDS_TO_STOP = 120


class ClusterQueue(Queue, Protocol):
    """Where jobs come from and their endings go, for tasks that may have been submitted before."""

    def take_of(self, paths: Sequence[str]) -> Bundle | None:
        """The jobs of those of these runs that wait, if any does."""

    def submitted(self, tasks: Sequence[str]) -> None:
        """What was taken are tasks of a cluster now, with these numbers."""


@dataclass
class _Going:
    """A task that has not ended, as far as is known.

    Attributes:
        bundle: The jobs that wait for it.
        places: Which of the runs of the task these are.
        num_runs: How many runs it has.
        step: The steps that were done of these when it was met, all in all.
        is_adopted: Whether an earlier process has submitted it.
        last_state: The last state that was seen of it.
        ended_since: When it was first seen ended without word.
    """

    bundle: Bundle
    places: tuple[int, ...]
    num_runs: int
    step: int
    is_adopted: bool
    last_state: str | None = None
    ended_since: float | None = None


def work_on_slurm(
    queue: ClusterQueue,
    settings: SlurmSettings,
    folder: Path,
    ledger: Ledger,
    should_stop: Callable[[], bool],
) -> None:
    """Has a cluster do the jobs of a queue, until it has none, or this process has to stop; tasks go on then.

    All that wait are submitted as one job array. What an earlier process has submitted is waited for and not
    submitted again.

    Arguments:
        queue: The jobs.
        settings: What is asked of the cluster.
        folder: The folder of the sweep, which the nodes of the cluster share.
        ledger: Where tasks are noted.
        should_stop: Whether to stop.

    Raises:
        UserError: There is no cluster, it does not answer at first, it has tasks of this sweep that are not
            noted, or it refuses the jobs.
    """
    cluster = _Cluster(settings, folder, ledger.tasks)
    going: dict[str, _Going] = {}
    for task, paths in ledger.tasks.items():
        found = queue.take_of(paths)
        if found is not None:
            places = tuple(paths.index(str(job.run.path)) for job in found.jobs)
            going[task] = _Going(found, places, len(paths), _steps_of(found.jobs), is_adopted=True)
    ledger.ended([task for task in [*ledger.tasks] if task not in going])
    next_look = 0.0
    while True:
        fresh: list[Bundle] = []
        while len(fresh) < _LARGEST_ARRAY and (bundle := queue.take()) is not None:
            fresh.append(bundle)
        if fresh:
            submitted = cluster.submit(fresh)
            going |= submitted
            ledger.submitted(
                {task: [job.run.path for job in new.bundle.jobs] for task, new in submitted.items()}
            )
            queue.submitted([*submitted])
            continue
        if not going or should_stop():
            return
        if time.monotonic() < next_look:
            time.sleep(0.1)
            continue
        next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        ended = cluster.look(going)
        for task, endings in ended.items():
            queue.end(going.pop(task).bundle, endings)
        ledger.ended([*ended])
        for one in going.values():
            queue.advance(one.bundle, _share_done(one.bundle.jobs))


class _Cluster:
    """The cluster that ``sbatch`` and ``squeue`` reach."""

    def __init__(self, settings: SlurmSettings, folder: Path, known: Collection[str]) -> None:
        self._folder = folder.resolve() / FOLDER
        self._name = name_of(folder)
        states = states_of(self._name)
        if states is None:
            raise UserError(
                "expected squeue to tell what is on the cluster; got no answer; try again when it does, see "
                f"squeue --name={self._name}"
            )
        foreign = [task for task, state in states.items() if state not in ENDED and task not in known]
        if foreign:
            raise UserError(
                f"expected no task of this sweep on the cluster that {LEDGER} does not know of; got "
                f"{foreign[0]}; wait for it, or end it with scancel --name={self._name}"
            )
        self._executor = _executor(settings, self._folder, self._name)

    def submit(self, bundles: Sequence[Bundle]) -> dict[str, _Going]:
        """Submits an array with a task for each."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        tokens = [uuid.uuid4().hex for _ in bundles]
        endings = [self._folder / "endings" / f"{token}.json" for token in tokens]
        tasks = [
            SlurmTask(_with_absolute_paths(bundle), ending)
            for bundle, ending in zip(bundles, endings, strict=True)
        ]
        try:
            with self._executor.batch():
                jobs = [self._executor.submit(task) for task in tasks]
        except (FailedJobError, FailedSubmissionError) as error:
            said = " ".join(str(error).split())
            raise UserError(
                f"expected the cluster to take the jobs; got: {said}; change what is asked of it, see igr "
                "sweep --help"
            ) from error
        going = {}
        for job, bundle, ending in zip(jobs, bundles, endings, strict=True):
            # So that it is found by its number, without submitit's own files.
            link = self._ending_of(job.job_id)
            link.parent.mkdir(parents=True, exist_ok=True)
            # A cluster may begin to count anew.
            link.unlink(missing_ok=True)
            link.symlink_to(ending.name)
            count = len(bundle.jobs)
            going[job.job_id] = _Going(
                bundle, tuple(range(count)), count, _steps_of(bundle.jobs), is_adopted=False
            )
        return going

    def _ending_of(self, task: str) -> Path:
        """The file that says how the runs of a task ended."""
        return self._folder / "endings" / f"task-{task}.json"

    def look(self, going: Mapping[str, _Going]) -> dict[str, list[Ending]]:
        """The tasks that have ended, and how their runs did."""
        states = states_of(self._name)
        endings = self._folder / "endings"
        if endings.is_dir():
            # Over a network a folder that was listed shows files that are new.
            os.listdir(endings)
        ended = {}
        for task, one in going.items():
            found = read_endings(self._ending_of(task), one.num_runs)
            if found is not None:
                ended[task] = [
                    _of_now(job, found[place], one.is_adopted)
                    for place, job in zip(one.places, one.bundle.jobs, strict=True)
                ]
            elif states is not None:
                one.last_state = states.get(task, one.last_state)
                if states.get(task, "COMPLETED") not in ENDED:
                    one.ended_since = None
                elif self._is_given_up(one):
                    ended[task] = [self._without_word(task, one)] * len(one.bundle.jobs)
        return ended

    @staticmethod
    def _is_given_up(one: _Going) -> bool:
        """Whether a task has been seen ended for so long that it will say nothing, nor come back."""
        now = time.monotonic()
        if one.ended_since is None:
            one.ended_since = now
        # One that has ended well has written a file.
        patience = SECONDS_FOR_A_FILE if one.last_state == "COMPLETED" else SECONDS_BEFORE_GIVEN_UP
        return now - one.ended_since >= patience

    def _without_word(self, task: str, one: _Going) -> Ending:
        has_moved = _steps_of(one.bundle.jobs) > one.step
        state = one.last_state
        return Ending(
            failure=f"expected the task {task} of the cluster to end with a result; got the state "
            f"{state or 'unknown'}; see {log_of(self._folder.parent, task)}",
            may_pass=state != "CANCELLED",
            # What has happened to it while nobody waited is the reason to go on now, and no failure.
            was_taken_away=one.is_adopted or state in _TAKEN_AWAY or (state == "TIMEOUT" and has_moved),
        )


def _of_now(job: Job, ending: Ending, is_adopted: bool) -> Ending:
    """How a job ended, if what was asked of it is what is asked now; else it is to be done again."""
    if is_adopted and ending == Ending():
        settings = job.evaluation
        missing = [
            split for split in job.splits if evaluation_in(job.path, job.run.config, split, settings) is None
        ]
        return Ending(interrupted=True) if missing else ending
    return ending


def states_of(name: str) -> dict[str, str] | None:
    """The states of all tasks of jobs of that name, by their numbers; ``None`` where no cluster answers."""
    command = ["squeue", f"--user={os.getuid()}", f"--name={name}", "--noheader", "--array"]
    try:
        found = subprocess.run(
            [*command, "--states=all", "--format=%i|%T"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.strip().split("|") for line in found.stdout.splitlines() if "|" in line]
    return dict(lines)


def name_of(folder: Path) -> str:
    """The name under which the tasks of the sweep in a folder, and no others, are submitted."""
    return f"igr-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:10]}"


def log_of(folder: Path, task: str) -> Path:
    """Where a task of the sweep in a folder writes what it says on standard error."""
    return folder / FOLDER / f"{task}_0_log.err"


def _executor(settings: SlurmSettings, folder: Path, name: str) -> Any:
    """The executor of submitit."""
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "expected submitit for a cluster; got none; install it with pip install 'igr[cluster]'"
        ) from error
    executor = submitit.SlurmExecutor(folder=folder, python=_python(settings, folder))
    asked = {
        "partition": settings.partition,
        "gpus_per_node": settings.gpus or None,
        "mem": settings.memory,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
    }
    executor.update_parameters(
        job_name=name,
        time=settings.time_limit,
        nodes=1,
        ntasks_per_node=1,
        cpus_per_task=settings.cpus,
        # A task of one minute has no two to stop in.
        signal_delay_s=min(_SECONDS_TO_STOP, 30 * settings.time_limit),
        array_parallelism=settings.at_once or _UNLIMITED,
        setup=list(settings.setup) or None,
        # By the script and not by the task, which may be in a container that knows no Slurm.
        teardown=[
            "code=$?",
            # Not by SLURM_JOB_ID: the last task of an array has the number of the whole.
            "task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}",
            f'if [ "$code" -eq {AGAIN} ]; then scontrol requeue "${{task:-$SLURM_JOB_ID}}"; sleep 120; fi',
            'exit "$code"',
        ],
        additional_parameters={
            "requeue": True,
            **{name: value for name, value in settings.options.items() if value is not False},
        },
        **{key: value for key, value in asked.items() if value is not None},
    )
    return executor


def _python(settings: SlurmSettings, folder: Path) -> str | None:
    """The command that starts Python in a task; ``None`` for that of this process."""
    if settings.container is None:
        return None
    options = ["--nv"] if settings.gpus else []
    image = str(Path(settings.container).absolute())
    return shlex.join(["apptainer", "exec", *options, "--bind", str(folder.parent), image, "python"])


def _with_absolute_paths(bundle: Bundle) -> Bundle:
    """The bundle for a process with another working folder."""
    return dataclasses.replace(
        bundle, jobs=tuple(dataclasses.replace(job, path=job.path.absolute()) for job in bundle.jobs)
    )


def _steps_of(jobs: Sequence[Job]) -> int:
    """The steps of the latest checkpoints of runs, all in all."""
    return sum(RunFolder(job.path).latest_step() or 0 for job in jobs)


def _share_done(jobs: Sequence[Job]) -> float:
    """The share of training that runs have done, by their finished epochs."""
    shares = []
    for job in jobs:
        folder = RunFolder(job.path)
        lines = folder.metrics() if folder.is_begun else []
        shares.append(lines[-1]["epoch"] / job.run.config.epochs if lines else 0.0)
    return sum(shares) / len(shares)
