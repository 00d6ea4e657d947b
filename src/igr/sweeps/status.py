"""How each run of a sweep is, for someone who looks at it from outside."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from igr.sweeps.group import Group, Run
from igr.sweeps.job import evaluation_in, is_trained
from igr.sweeps.ledger import Ledger
from igr.sweeps.record import Sweep, read_sweep
from igr.sweeps.slurm import ENDED, log_of, name_of, states_of
from igr.training.folders import LOCK
from igr.training.run_folder import RunFolder

STATES = ("finished", "running", "queued", "waiting", "stopped", "failed", "unknown")


@dataclass(frozen=True)
class RunStatus:
    """How a run is.

    Attributes:
        run: The run.
        state: ``"finished"``: trained and evaluated; ``"running"``; ``"queued"``: it waits for a place on a
            cluster; ``"waiting"``: nothing of it is done; ``"stopped"``: it goes on from a checkpoint when
            the sweep does; ``"failed"``; ``"unknown"``: it was given to a cluster that does not answer.
        epoch: The epochs that are finished.
        num_epochs: How many there will be.
        bound: What the last validation gave, in nats per image; of a VAE with the discrete KL no bound but
            the objective of training.
        failure: Why it failed, in a sentence.
        task: The number of its last task on a cluster, if it had one.
        log: Where that writes what it says.
    """

    run: Run
    state: str
    epoch: int
    num_epochs: int
    bound: float | None
    failure: str | None
    task: str | None
    log: Path | None

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {
            "run": str(self.run.path),
            "state": self.state,
            "epoch": self.epoch,
            "num_epochs": self.num_epochs,
            "validation_bound": self.bound,
            "failure": self.failure,
            "task": self.task,
            "log": None if self.log is None else str(self.log),
        }


def status(folder: str | Path) -> list[RunStatus]:
    """How the runs of the sweep in a folder are, as far as they are known to come.

    Raises:
        UserError: There is no sweep, or one of its files cannot be read.
    """
    sweep = read_sweep(folder)
    ledger = Ledger(sweep.folder)
    # No cluster has to answer where no task is known of.
    found = states_of(name_of(sweep.folder)) if ledger.tasks else {}
    states = {task: "UNKNOWN" if found is None else found.get(task, "COMPLETED") for task in ledger.tasks}
    is_going = _is_held(sweep.folder)
    return [
        _status_of(
            sweep, run, splits, ledger.failures, ledger.last_tasks.get(str(run.path)), states, is_going
        )
        for group in sweep.groups
        for run, splits in _runs_of(sweep, group, ledger.failures).items()
    ]


def _runs_of(sweep: Sweep, group: Group, failures: Mapping[str, str]) -> dict[Run, tuple[str, ...]]:
    """The runs of a group, and the splits on which each is evaluated; the chosen one's once it is chosen."""
    tuned = ("validation", "test") if group.tune_all and group.tested else ("validation",)
    runs: dict[Run, tuple[str, ...]] = dict.fromkeys(group.tuning_runs, tuned)
    is_chosen = all(
        str(run.path) in failures or _is_finished(sweep, run, splits) for run, splits in runs.items()
    )
    chosen = sweep.chosen(group) if is_chosen else None
    if chosen is not None:
        test = ("test",) if group.tested else ()
        for run in group.runs_of(chosen):
            runs[run] = tuple(dict.fromkeys((*runs.get(run, ()), *test)))
    return runs


def _is_finished(sweep: Sweep, run: Run, splits: tuple[str, ...]) -> bool:
    path = sweep.folder / run.path
    return is_trained(path) and all(
        evaluation_in(path, run.config, split, sweep.evaluation) is not None for split in splits
    )


def _status_of(
    sweep: Sweep,
    run: Run,
    splits: tuple[str, ...],
    failures: Mapping[str, str],
    task: str | None,
    states: Mapping[str, str],
    is_going: bool,
) -> RunStatus:
    folder = RunFolder(sweep.folder / run.path)
    lines = folder.metrics() if folder.is_begun else []
    bounds = [line["validation_bound"] for line in lines if line.get("validation_bound") is not None]
    failure = failures.get(str(run.path))
    on_cluster = states.get(task or "", "COMPLETED")
    # Nobody holds a run while it is evaluated.
    is_evaluated = is_going and not states and failure is None and is_trained(folder.path)
    if _is_finished(sweep, run, splits):
        state, failure = "finished", None
    elif _is_held(folder.path) or on_cluster in ("RUNNING", "COMPLETING") or is_evaluated:
        state, failure = "running", None
    elif on_cluster == "UNKNOWN":
        state, failure = "unknown", None
    elif on_cluster not in ENDED:
        state, failure = "queued", None
    elif failure is not None:
        state = "failed"
    else:
        state = "stopped" if folder.is_begun else "waiting"
    return RunStatus(
        run,
        state,
        epoch=lines[-1]["epoch"] if lines else 0,
        num_epochs=run.config.epochs,
        bound=bounds[-1] if bounds else None,
        failure=failure,
        task=task,
        log=None if task is None else log_of(sweep.folder, task),
    )


def _is_held(path: Path) -> bool:
    """Whether a process is at work in the folder of a run."""
    lock = path / LOCK
    if not lock.exists():
        return False
    try:
        # For a moment, for which one that begins waits.
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        # Of someone else, who alone may hold it.
        return False
