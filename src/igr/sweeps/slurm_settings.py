"""What is asked of a Slurm cluster, and whether there is one."""

import dataclasses
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from igr.errors import UserError, cut, shown, unknown_name

# What is not for others to set.
_OWN_OPTIONS = frozenset({"array", "error", "job-name", "open-mode", "output", "signal"})


@dataclass(frozen=True)
class SlurmSettings:
    """What is asked of a cluster for each task.

    Attributes:
        partition: The partition; ``None``: the cluster's default one. So for account, qos and constraint.
        at_once: Tasks of an array that may run at once; ``None``: as many as the cluster lets.
        time_limit: Minutes, after which a task stops with a checkpoint and goes back into the queue.
        gpus: GPUs of a task.
        cpus: CPU cores of a task.
        memory: Memory of a task as Slurm writes it, ``8G``; ``None``: what the cluster gives.
        account: Whose time it is.
        qos: The quality of service.
        constraint: Features that a node has to have.
        container: An Apptainer image in which tasks run; ``None``: the Python of this process.
        setup: Lines of shell before a task starts, for instance ``module load cuda``.
        options: Other options of ``sbatch``, by their long names.
    """

    partition: str | None = None
    at_once: int | None = None
    time_limit: int = 240
    gpus: int = 0
    cpus: int = 1
    memory: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    container: str | None = None
    setup: tuple[str, ...] = ()
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    def check(self) -> None:
        """Checks the values.

        Raises:
            UserError: One cannot be used.
        """
        for name, lowest in (("at_once", 1), ("time_limit", 1), ("gpus", 0), ("cpus", 1)):
            value = getattr(self, name)
            if (name, value) != ("at_once", None) and (type(value) is not int or value < lowest):
                raise UserError(
                    f"expected {name} of the cluster to be a whole number of at least {lowest}; got "
                    f"{shown(value)}; change {name}"
                )
        for name in ("partition", "memory", "account", "qos", "constraint", "container"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value or "\n" in value):
                raise UserError(
                    f"expected {name} of the cluster to be text; got {shown(value)}; change {name}"
                )
        if not all(isinstance(line, str) for line in self.setup):
            raise UserError(
                f"expected setup of the cluster to be lines of shell; got {shown(self.setup)}; change it"
            )
        for name, value in self.options.items():
            if name.replace("_", "-") in _OWN_OPTIONS:
                raise UserError(
                    f"expected options of sbatch other than {', '.join(sorted(_OWN_OPTIONS))}; got "
                    f"{shown(name)}, which igr sets; leave it out"
                )
            if not isinstance(value, str | int | bool) or "\n" in f"{name}{value}":
                raise UserError(
                    f"expected the option {shown(name)} of sbatch to be text, a number or true; got "
                    f"{shown(value)}; change it"
                )


def read_slurm_settings(path: Path) -> SlurmSettings:
    """What a TOML file asks of a cluster.

    Raises:
        UserError: The file cannot be read, or names something else.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"expected a TOML file at {path}; got {cut(error)}; name a file of settings"
        ) from error
    known = [field.name for field in dataclasses.fields(SlurmSettings)]
    for name in values:
        if name not in known:
            raise UserError(f"{unknown_name('a setting of a cluster', name, known)} (in {path})")
    if not isinstance(values.get("options", {}), dict):
        raise UserError(
            f"expected a table of options in {path}; got {shown(values['options'])}; write [options]"
        )
    setup = values.get("setup", [])
    settings = SlurmSettings(**values | {"setup": tuple(setup) if isinstance(setup, list) else (setup,)})
    settings.check()
    return settings


def check_reach(settings: SlurmSettings) -> None:
    """Checks, before anything is written, that there is what a sweep on a cluster needs.

    Raises:
        UserError: A setting cannot be used, or the image or Slurm's commands are not there.
    """
    settings.check()
    if settings.container is not None and not Path(settings.container).is_file():
        raise UserError(
            f"expected an Apptainer image at {settings.container}; got no such file; build it as "
            "docs/containers.md says, or leave --container out"
        )
    missing = [name for name in ("sbatch", "squeue", "scontrol", "srun") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"expected the commands of Slurm on the PATH; got no {', '.join(missing)}; run this on a machine "
            "that submits jobs, or use --executor local"
        )
