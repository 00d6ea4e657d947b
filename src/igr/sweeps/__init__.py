"""Sweeps: many runs in one folder, with seeds, a temperature that is tuned, and several at once."""

from igr.sweeps.grid import expand, groups_of, read_grid
from igr.sweeps.group import Group, Run
from igr.sweeps.job import EvaluationSettings
from igr.sweeps.record import Sweep, read_sweep
from igr.sweeps.run import Failure, SweepOutcome, run_sweep
from igr.sweeps.slurm_settings import SlurmSettings, read_slurm_settings
from igr.sweeps.status import RunStatus, status
from igr.sweeps.watcher import SweepWatcher

__all__ = [
    "EvaluationSettings",
    "Failure",
    "Group",
    "Run",
    "RunStatus",
    "SlurmSettings",
    "Sweep",
    "SweepOutcome",
    "SweepWatcher",
    "expand",
    "groups_of",
    "read_grid",
    "read_slurm_settings",
    "read_sweep",
    "run_sweep",
    "status",
]
