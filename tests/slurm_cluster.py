"""A Slurm cluster of this machine's own: two nodes, no accounting, all of it in one temporary folder.

`with started_cluster() as cluster` is for tests. `python tests/slurm_cluster.py` is for a terminal: it says
what SLURM_CONF has to be for `sbatch`, `squeue` and the rest, and ends with its standard input (Ctrl-D).
Behind both is one process, the keeper, which ends daemons and jobs whatever becomes of who asked for it.
"""

import argparse
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
PACKAGES = "munge slurmctld slurmd slurm-client"
# Daemons are in folders that ordinary users may not have on their PATH.
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue", "srun", "scancel")
PATIENCE = 30.0

# What runs at once must not depend on the machine, so CPUs and memory of the nodes are made up.
# A requeued job waits for `cred_expire` seconds, by default 120.
CONFIGURATION = """\
ClusterName=igr
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0,requeue_setup_env_fail
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
JobRequeue=1
KillWait=5
KillOnBadExit=0
MinJobAge=300
OverTimeLimit=0
EnforcePartLimits=ALL
InactiveLimit=0
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=UNLIMITED DefaultTime=10 State=UP
PartitionName=short Nodes=ALL MaxTime=1 DefaultTime=1 State=UP
"""


class ClusterError(RuntimeError):
    """A cluster that cannot be had; says why."""


def missing_programs() -> str:
    """What of Slurm this machine does not have and how to get it, in one sentence; empty where it has all."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=SEARCHED) is None]
    if not missing:
        return ""
    return f"Expected Slurm and MUNGE; found no {', '.join(missing)}. On Debian: apt-get install {PACKAGES}"


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs, as those see it who use it."""

    configuration: Path
    keeper: subprocess.Popen[str]

    @property
    def folder(self) -> Path:
        return self.configuration.parent

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the way to this cluster alone."""
        kept = {name: value for name, value in os.environ.items() if name not in self.foreign_variables()}
        return kept | {"SLURM_CONF": str(self.configuration)}

    @staticmethod
    def foreign_variables() -> list[str]:
        """What Slurm's commands would read: tests may run inside a job of another cluster."""
        return [
            name
            for name in os.environ
            if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SINFO_"))
        ]

    def __call__(self, *command: str, check: bool = True, **more: object) -> str:
        """Runs one of Slurm's commands and returns what it printed, without the last line break."""
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            **more,
        )
        if check and done.returncode != 0:
            raise ClusterError(f"{' '.join(command)} exited with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.removesuffix("\n")

    def describe(self, job: str) -> dict[str, str]:
        """The fields of `scontrol show job` for one job or one task of an array ("12" or "12_3")."""
        line = self("scontrol", "--oneliner", "show", "job", job)
        return dict(field.split("=", 1) for field in line.split(" ") if "=" in field)

    def wait_for(self, job: str, *states: str, seconds: float = PATIENCE) -> dict[str, str]:
        """Waits until a job is in one of these states and describes it."""
        end = time.monotonic() + seconds
        while (found := self.describe(job))["JobState"] not in states:
            if time.monotonic() > end:
                raise ClusterError(f"job {job} is {found['JobState']} after {seconds:g} s; expected {states}")
            time.sleep(0.1)
        return found

    def drain(self) -> None:
        """Ends all jobs and waits until both nodes are free; one that was set down comes back by itself."""
        self("scancel", "--user", user_name())
        end = time.monotonic() + PATIENCE
        while self("squeue", "--noheader") or self("sinfo", "--noheader", "-o", "%T") != "idle":
            self("scancel", "--full", "--signal=KILL", "--user", user_name(), check=False)
            if time.monotonic() > end:
                raise ClusterError(f"expected two idle nodes; got {self('sinfo', '-N')}\n{self('squeue')}")
            time.sleep(0.1)


def user_name() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


@contextmanager
def started_cluster(cpus: int = 1) -> Iterator[Cluster]:
    """A cluster for as long as the block lasts.

    Arguments:
        cpus: how many jobs of one CPU each of the two nodes runs at once.

    Raises:
        ClusterError: where Slurm is not installed or does not start.
    """
    if reason := missing_programs():
        raise ClusterError(reason)
    # A session of its own: Ctrl-C in the terminal is for the tests, and the keeper ends when they are done.
    keeper = subprocess.Popen(
        [sys.executable, __file__, "--cpus", str(cpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        first = keeper.stdout.readline().strip()
        if not first.startswith("SLURM_CONF="):
            raise ClusterError(first or "the process that keeps the cluster ended at once")
        yield Cluster(Path(first.removeprefix("SLURM_CONF=")), keeper)
    finally:
        keeper.stdin.close()
        keeper.wait()
        keeper.stdout.close()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def write_configuration(folder: Path, cpus: int) -> Path:
    controller_port, *node_ports = free_ports(1 + len(NODES))
    host = socket.gethostname().split(".")[0]
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=64000"
        for node, port in zip(NODES, node_ports, strict=True)
    )
    path = folder / "slurm.conf"
    path.write_text(
        CONFIGURATION.format(
            folder=folder, host=host, user=user_name(), controller_port=controller_port, nodes=nodes
        )
    )
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool-{node}").mkdir()
    return path


def of_cluster(folder: Path) -> list[int]:
    """Every process with the cluster's configuration in its environment: daemons, steps, those of jobs."""
    mark = f"SLURM_CONF={folder / 'slurm.conf'}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # ended meanwhile, or somebody else's
                continue
    return found


class Keeper:
    """Starts the daemons and ends them, and whatever they have started."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder = folder
        self.configuration = write_configuration(folder, cpus)
        self.environment = os.environ | {"SLURM_CONF": str(self.configuration), "PATH": SEARCHED}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        at = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={at['socket']}",
            f"--pid-file={at['pid']}", f"--log-file={at['log']}", f"--seed-file={at['seed']}",
        )  # fmt: skip
        self._until(at["socket"].exists)
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        self._until(
            lambda: self._say("sinfo", "--noheader", "-o", "%T %D").split() == ["idle", str(len(NODES))]
        )

    def stop(self) -> None:
        # Jobs are asked first, by those who know them, and then the daemons; what stays is killed.
        if "slurmctld" in self.daemons and self.daemons["slurmctld"].poll() is None:
            self._say("scancel", "--user", user_name())
        for name in reversed(list(self.daemons)):
            self.daemons[name].terminate()
        end = time.monotonic() + 5
        for daemon in self.daemons.values():
            try:
                daemon.wait(max(end - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        while left := of_cluster(self.folder):
            for process in left:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)

    def _daemon(self, *command: str) -> None:
        name = "-".join((command[0], *command[3:])) if command[0] == "slurmd" else command[0]
        with (self.folder / f"{name}.err").open("wb") as messages:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages
            )

    def _say(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        return done.stdout

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    raise ClusterError(f"{name} ended with {daemon.returncode}: {self._last_words(name)}")
            if time.monotonic() > end:
                words = "; ".join(f"{name}: {self._last_words(name)}" for name in self.daemons)
                raise ClusterError(f"the cluster is not up after {PATIENCE:g} s ({words})")
            time.sleep(0.05)

    def _last_words(self, name: str) -> str:
        return " ".join((self.folder / f"{name}.err").read_text(errors="replace").splitlines()[-3:])


def keep(cpus: int) -> int:
    """Starts a cluster, says where its configuration is, and ends it when standard input does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="igr-slurm-"))
    folder.chmod(0o755)  # MUNGE wants a socket that everybody can reach
    keeper = Keeper(folder, cpus)
    try:
        keeper.start()
        print(f"SLURM_CONF={keeper.configuration}", flush=True)
        sys.stdin.read()
    except ClusterError as error:
        print(error, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        keeper.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpus", type=int, default=1, help="how many jobs of one CPU a node runs at once")
    parser.add_argument("--check", action="store_true", help="only say what is missing here, if anything is")
    arguments = parser.parse_args()
    if reason := missing_programs():
        print(reason)
        sys.exit(2)
    if not arguments.check:
        sys.exit(keep(arguments.cpus))
