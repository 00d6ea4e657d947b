"""Sweeps on a real cluster give the files of this machine, whatever is killed, requeued or out of time."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from igr.cli import main
from igr.errors import UserError
from igr.sweeps import Group, SlurmSettings, read_sweep, run_sweep, status
from igr.sweeps import slurm as slurm_of_sweeps
from igr.training.failures import Interrupted
from igr.training.run_folder import RunFolder
from interruptions import state
from slurm_cluster import Cluster
from tiny_runs import TINY

pytestmark = pytest.mark.slurm
# Long enough to be met at work.
LONGER = dataclasses.replace(TINY, epochs=400, eval_every=50, checkpoint_every=50)
ASKED = SlurmSettings(time_limit=5)


def grid(base=TINY) -> list[Group]:
    """Six runs: three temperatures with two seeds each."""
    candidates = [dataclasses.replace(base, temperature=temperature) for temperature in (0.3, 0.6, 1.2)]
    return [Group("igr", tuple(candidates), (0, 1), tune_all=True)]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_of_sweeps, "SECONDS_BETWEEN_LOOKS", 0.5)


def assert_same_sweep(folder: Path, other: Path) -> None:
    sweep = read_sweep(other)
    runs = [
        run
        for group in sweep.groups
        for number in range(len(group.candidates))
        for run in group.runs_of(number)
    ]
    assert len(runs) == 6
    for run in runs:
        assert state(folder / run.path) == state(other / run.path)
        mine, theirs = (RunFolder(path / run.path).result() for path in (folder, other))
        for key in ("evaluation", "validation_evaluation"):
            found, expected = ({**record.get(key, {}), "seconds": 0} for record in (mine, theirs))
            assert found == expected


def report(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["compare", str(folder), "--out", str(folder.with_name("report"))]) == 0
    return capsys.readouterr().out.replace(str(folder), "FOLDER")


def wait_for(condition, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def kill_process_of(task: str) -> None:
    """Ends the Python of a task, as the system does where memory runs out."""
    job, _, number = task.partition("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={job}".encode(), f"SLURM_ARRAY_TASK_ID={number}".encode()}
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (
                (folder / name).read_bytes().split(b"\0") for name in ("environ", "cmdline")
            )
            if wanted <= {*environment} and b"submitit.core._submit" in command:
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
        except OSError:
            continue
    assert killed


def tasks_of(folder: Path) -> dict[str, list[str]]:
    ledger = folder / "attempts.json"
    return json.loads(ledger.read_text())["tasks"] if ledger.exists() else {}


def test_six_runs_on_two_nodes_one_requeued_and_one_killed_give_the_report_of_this_machine(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = grid(LONGER)
    command = f"import test_slurm_sweep as t; t.sweep({str(tmp_path / 'slurm')!r})"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
    }
    with subprocess.Popen([sys.executable, "-c", command], env=environment) as driver:
        folder = tmp_path / "slurm"
        wait_for(lambda: len(tasks_of(folder)) == 6)
        first, second = [*tasks_of(folder)][:2]
        paths = {task: folder / runs[0] for task, runs in tasks_of(folder).items()}
        for task in (first, second):
            wait_for(
                lambda task=task: len(RunFolder(paths[task]).metrics() if paths[task].exists() else []) > 5
            )
        cluster("scontrol", "requeue", first)
        kill_process_of(second)
        found = {one.task: one.state for one in status(folder)}
        assert found[first] in ("running", "queued")
        assert driver.wait(400) == 0
    run_sweep(groups, tmp_path / "local")
    assert_same_sweep(folder, tmp_path / "local")
    assert report(folder, capsys) == report(tmp_path / "local", capsys)
    assert {one.state for one in status(folder)} == {"finished"}
    record = json.loads((folder / "attempts.json").read_text())
    assert (record["failures"], record["tasks"]) == ({}, {})
    assert len({*record["last_tasks"].values()}) == 6


def sweep(folder: str) -> None:
    """What the process that runs the sweep does."""
    slurm_of_sweeps.SECONDS_BETWEEN_LOOKS = 0.5
    outcome = run_sweep(grid(LONGER), folder, slurm=ASKED)
    assert not outcome.failures, outcome.failures


def test_the_process_that_waits_may_be_killed_and_another_waits_for_the_same_tasks(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "slurm"
    command = f"import test_slurm_sweep as t; t.sweep({str(folder)!r})"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
    }
    with subprocess.Popen([sys.executable, "-c", command], env=environment) as driver:
        wait_for(lambda: len(tasks_of(folder)) == 6)
        before = tasks_of(folder)
        driver.kill()
    sweep(str(folder))
    assert tasks_of(folder) == {}
    logs = {path.name.rpartition("_0_log")[0] for path in (folder / "slurm").glob("*_0_log.out")}
    assert logs == {*before}


def test_a_task_that_runs_out_of_time_goes_back_into_the_queue_with_a_checkpoint(
    cluster: Cluster, tmp_path: Path
) -> None:
    endless = dataclasses.replace(TINY, epochs=100_000, eval_every=1000, checkpoint_every=100_000)
    folder = tmp_path / "slurm"
    groups = [Group("igr", (endless.resolved(),), (0,))]
    command = (
        "import test_slurm_sweep as t; from igr.sweeps import run_sweep, SlurmSettings; "
        f"run_sweep([t.Group('igr', (t.dataclasses.replace(t.TINY, epochs=100_000, eval_every=1000, "
        f"checkpoint_every=100_000).resolved(),), (0,))], {str(folder)!r}, slurm=SlurmSettings(time_limit=1))"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
    }
    with subprocess.Popen([sys.executable, "-c", command], env=environment) as driver:
        wait_for(lambda: len(tasks_of(folder)) == 1)
        (task,) = tasks_of(folder)
        run = RunFolder(folder / groups[0].runs_of(0)[0].path)
        wait_for(lambda: cluster.describe(task)["Restarts"] == "1", seconds=150)
        step = run.latest_step()
        assert step is not None
        # It goes on from there.
        wait_for(lambda: cluster.describe(task)["JobState"] == "RUNNING", seconds=150)
        lines = len(run.metrics())
        wait_for(lambda: len(run.metrics()) > lines, seconds=60)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(60) != 0
        cluster("scancel", task)
        cluster.wait_for(task, "CANCELLED")
        wait_for(lambda: (run.latest_step() or 0) > step, seconds=60)


def test_a_run_that_is_cancelled_has_failed_and_is_not_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "slurm"

    class Canceller(slurm_of_sweeps.Ledger):
        def submitted(self, tasks):
            super().submitted(tasks)
            cluster("scancel", *tasks)

    group = Group("igr", (dataclasses.replace(LONGER, latent="igr").resolved(),), (0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("igr.sweeps.run.Ledger", Canceller)
        outcome = run_sweep([group], folder, slurm=ASKED)
    (failure,) = outcome.failures
    assert "got the state CANCELLED; see" in failure.message
    (one,) = status(folder)
    assert (one.state, one.failure) == ("failed", failure.message)


def test_what_the_cluster_refuses_is_one_sentence(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["sweep", "--smoke", "--executor", "slurm", "--partition", "none-such", "--out", "sweep"]
    assert main(argv) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("igr sweep: expected the cluster to take the jobs; got: ")
    assert "invalid partition" in said[-1]
    assert tasks_of(tmp_path / "sweep") == {}


def test_an_interrupt_leaves_the_tasks_at_work(cluster: Cluster, tmp_path: Path) -> None:
    class Interrupting(slurm_of_sweeps.Ledger):
        def submitted(self, tasks):
            super().submitted(tasks)
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "slurm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("igr.sweeps.run.Ledger", Interrupting)
        with pytest.raises(Interrupted) as interrupt:
            run_sweep(grid(), folder, slurm=ASKED)
    assert "stopped after 0 of 6 runs with 6 that go on on the cluster; go on by running" in str(
        interrupt.value
    )
    assert {one.state for one in status(folder)} <= {"queued", "running", "finished"}
    outcome = run_sweep(grid(), folder, slurm=ASKED)
    assert not outcome.failures
    run_sweep(grid(), tmp_path / "local")
    assert_same_sweep(folder, tmp_path / "local")


def test_without_a_cluster_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="expected the commands of Slurm on the PATH; got no sbatch"):
        run_sweep(grid(), tmp_path / "slurm", slurm=ASKED)
