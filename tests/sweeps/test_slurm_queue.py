"""What the process that waits for a cluster makes of what the cluster says; the cluster is a few scripts."""

import dataclasses
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from igr.cli import main
from igr.errors import UserError
from igr.sweeps import EvaluationSettings, Group, SlurmSettings, SweepOutcome, run_sweep, slurm, status
from igr.sweeps.job import Bundle, Ending, Job
from igr.sweeps.slurm_task import AGAIN, SlurmTask, write_endings
from igr.training.failures import Interrupted
from igr.training.run_folder import RunFolder
from tiny_runs import TINY

GROUPS = [Group("igr", (TINY,), (0, 1))]
EVALUATION = EvaluationSettings(num_samples=2, max_images=10)


class Scripts:
    """``sbatch`` numbers what it is given, and ``squeue`` says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self._write("squeue", f"cat {folder}/states")
        self._write("sbatch", f'cp "$1" {folder}/script; echo x >> {folder}/jobs; '
                    f'echo "Submitted batch job $(wc -l < {folder}/jobs)"')  # fmt: skip
        for name in ("scontrol", "srun"):
            self._write(name, f'echo "{name} $*" >> {folder}/called')
        self.say({})

    def _write(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def say(self, states: Mapping[str, str] | None) -> None:
        """What there is on the cluster; ``None``: no answer."""
        if states is None:
            (self.folder / "states").unlink(missing_ok=True)
        else:
            lines = [f"{task}|{state}\n" for task, state in states.items()]
            (self.folder / "states").write_text("".join(lines))

    @property
    def num_submitted(self) -> int:
        jobs = self.folder / "jobs"
        return len(jobs.read_text().split()) if jobs.exists() else 0


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    scripts = Scripts(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{scripts.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(slurm, "SECONDS_BEFORE_GIVEN_UP", 0.05)
    monkeypatch.setattr(slurm, "SECONDS_FOR_A_FILE", 0.05)
    return scripts


def sweep(folder: Path, evaluation: EvaluationSettings = EVALUATION, **more) -> SweepOutcome:
    return run_sweep(GROUPS, folder, slurm=SlurmSettings(), evaluation=evaluation, **more)


def submit_and_leave(folder: Path, groups: list[Group] = GROUPS) -> None:
    """A process that submits and is interrupted then."""

    class Interrupting(slurm.Ledger):
        def submitted(self, tasks):
            super().submitted(tasks)
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("igr.sweeps.run.Ledger", Interrupting)
        with pytest.raises(Interrupted, match="2 that go on on the cluster"):
            run_sweep(groups, folder, slurm=SlurmSettings(), evaluation=EVALUATION)


def tasks_of(folder: Path) -> dict[str, list[str]]:
    return json.loads((folder / "attempts.json").read_text())["tasks"]


def do(folder: Path, task: str) -> None:
    """What the node would do."""
    (path,) = tasks_of(folder)[task]
    (run,) = (run for run in GROUPS[0].runs_of(0) if str(run.path) == path)
    job = Job(run, folder / path, ("test",), EVALUATION)
    SlurmTask(Bundle((job,)), (folder / "slurm" / "endings" / f"task-{task}.json").resolve())()


def test_tasks_of_an_earlier_process_are_waited_for_and_not_submitted_again(
    cluster: Scripts, tmp_path: Path
) -> None:
    submit_and_leave(tmp_path / "sweep")
    assert [*tasks_of(tmp_path / "sweep")] == ["1_0", "1_1"]
    # One ends while nobody waits, and the cluster knows of it no more; the other one while somebody does.
    do(tmp_path / "sweep", "1_0")
    cluster.say({"1_1": "RUNNING"})
    write = slurm.Ledger.ended

    def ended(self, tasks):
        if "1_0" in tasks:
            do(tmp_path / "sweep", "1_1")
        write(self, tasks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm.Ledger, "ended", ended)
        outcome = sweep(tmp_path / "bin" / ".." / "sweep")
    assert not outcome.failures
    assert cluster.num_submitted == 1
    assert {one.state for one in status(tmp_path / "sweep")} == {"finished"}


def test_a_cluster_that_does_not_answer_at_first_is_no_empty_one(cluster: Scripts, tmp_path: Path) -> None:
    submit_and_leave(tmp_path / "sweep")
    before = tasks_of(tmp_path / "sweep")
    cluster.say(None)
    with pytest.raises(UserError, match="expected squeue to tell what is on the cluster; got no answer"):
        sweep(tmp_path / "sweep")
    assert tasks_of(tmp_path / "sweep") == before
    assert cluster.num_submitted == 1
    assert {one.state for one in status(tmp_path / "sweep")} == {"unknown"}


def test_tasks_that_are_not_noted_are_not_passed_over(cluster: Scripts, tmp_path: Path) -> None:
    cluster.say({"7_0": "RUNNING", "6_0": "COMPLETED"})
    with pytest.raises(UserError, match=r"expected no task of this sweep .* got 7_0; wait for it, or end it"):
        sweep(tmp_path / "sweep")
    assert cluster.num_submitted == 0


def test_what_died_while_nobody_waited_is_done_again(cluster: Scripts, tmp_path: Path) -> None:
    submit_and_leave(tmp_path / "sweep")
    cluster.say({"1_0": "CANCELLED", "1_1": "FAILED"})
    assert {one.state for one in status(tmp_path / "sweep")} == {"waiting"}
    # Both are submitted a second time, and die again, which somebody sees.
    outcome = sweep(tmp_path / "sweep", retries=0)
    assert cluster.num_submitted > 1
    assert len(outcome.failures) == 2


@pytest.mark.parametrize(
    ("state", "submissions"),
    [("FAILED", 3), ("OUT_OF_MEMORY", 3), ("TIMEOUT", 3), ("CANCELLED", 1), ("PREEMPTED", 6)],
)
def test_how_often_a_task_that_says_nothing_is_submitted(
    state: str, submissions: int, cluster: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igr.sweeps.run.MOST_TAKEN_AWAY", 3)
    cluster.say({str(number): state for number in range(1, 20)})
    group = Group("igr", (TINY,), (0,))
    outcome = run_sweep([group], tmp_path / "sweep", slurm=SlurmSettings(), retries=2)
    (failure,) = outcome.failures
    assert f"to end with a result; got the state {state}; see " in failure.message
    assert cluster.num_submitted == submissions


def test_a_task_that_came_on_before_its_time_was_over_may_go_on(
    cluster: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(100))
    monkeypatch.setattr(slurm, "_steps_of", lambda jobs: next(steps) if cluster.num_submitted < 5 else 0)
    cluster.say({str(number): "TIMEOUT" for number in range(1, 20)})
    group = Group("igr", (TINY,), (0,))
    run_sweep([group], tmp_path / "sweep", slurm=SlurmSettings(), retries=0)
    assert cluster.num_submitted == 5


def test_what_comes_on_each_time_may_be_taken_away_as_often_as_it_takes(
    cluster: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("igr.sweeps.run.MOST_TAKEN_AWAY", 3)
    # A checkpoint later each time, up to the eighth.
    monkeypatch.setattr(RunFolder, "latest_step", lambda self: min(cluster.num_submitted, 8))
    cluster.say({str(number): "PREEMPTED" for number in range(1, 30)})
    group = Group("igr", (TINY,), (0,))
    run_sweep([group], tmp_path / "sweep", slurm=SlurmSettings(), retries=0)
    assert cluster.num_submitted == 8 + 3


def test_an_evaluation_that_is_asked_for_since_is_made(cluster: Scripts, tmp_path: Path) -> None:
    submit_and_leave(tmp_path / "sweep")
    for task in tasks_of(tmp_path / "sweep"):
        do(tmp_path / "sweep", task)
    other = dataclasses.replace(EVALUATION, max_images=20)
    cluster.say({f"2_{number}": "CANCELLED" for number in range(2)})
    outcome = sweep(tmp_path / "sweep", other)
    # Submitted again, which this cluster cancels.
    assert cluster.num_submitted == 2
    assert len(outcome.failures) == 2


def test_endings_are_those_of_the_runs_that_still_wait(cluster: Scripts, tmp_path: Path) -> None:
    """Of two replicas in one task one is done by now, by another way."""
    folder = tmp_path / "sweep"
    submit_and_leave(folder)
    do(folder, "1_0")
    ledger = json.loads((folder / "attempts.json").read_text())
    both = [path for paths in ledger["tasks"].values() for path in paths]
    ledger["tasks"] = {"3": both}
    (folder / "attempts.json").write_text(json.dumps(ledger))
    write_endings(folder / "slurm" / "endings" / "task-3.json", [Ending(), Ending(failure="of the second")])
    outcome = sweep(folder, retries=0)
    assert [(str(failure.run.path), failure.message) for failure in outcome.failures] == [
        (both[1], "of the second")
    ]
    assert cluster.num_submitted == 1


def test_states_that_are_seen_from_outside(
    cluster: Scripts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    submit_and_leave(folder)
    for said, expected in (
        ({"1_0": "RUNNING", "1_1": "PENDING"}, ["running", "queued"]),
        ({"1_0": "COMPLETING", "1_1": "CANCELLED"}, ["running", "waiting"]),
        ({}, ["waiting", "waiting"]),
    ):
        cluster.say(said)
        assert [one.state for one in status(folder)] == expected
    cluster.say({"1_0": "RUNNING", "1_1": "PENDING"})
    capsys.readouterr()
    assert main(["sweep", "status", str(folder)]) == 0
    found = capsys.readouterr()
    assert re.search(r"running +0/2 +- +1_0", found.out)
    assert f"logs of tasks: {folder}/slurm/TASK_0_log.err" in found.err
    assert found.err.endswith("2 runs: 1 running, 1 queued\n")
    assert status(folder)[0].log == folder / "slurm" / "1_0_0_log.err"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        # The last task of an array has the number of the whole, and only it is to go back.
        ({"SLURM_JOB_ID": "5", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "1"}, "5_1"),
        ({"SLURM_JOB_ID": "5"}, "5"),
    ],
    ids=["of an array", "alone"],
)
def test_a_task_alone_goes_back_into_the_queue(
    environment: dict[str, str], named: str, cluster: Scripts, tmp_path: Path
) -> None:
    submit_and_leave(tmp_path / "sweep")
    script = (cluster.folder / "script").read_text().replace("sleep 120", ":")
    for code, called in ((0, ""), (1, ""), (AGAIN, f"scontrol requeue {named}\n")):
        (cluster.folder / "called").write_text("")
        (cluster.folder / "srun").write_text(f"#!/bin/sh\nexit {code}\n")
        done = subprocess.run(["bash", "-c", script], env={**os.environ, **environment}, check=False)
        assert done.returncode == code
        assert (cluster.folder / "called").read_text() == called
    assert not RunFolder(tmp_path / "sweep" / GROUPS[0].runs_of(0)[0].path).is_begun
