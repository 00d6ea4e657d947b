"""What is asked of a cluster, what a task of it does, and what is said where there is none."""

import dataclasses
import os
import signal
import stat
from pathlib import Path

import pytest

from igr.errors import UserError
from igr.sweeps import EvaluationSettings, Group, SlurmSettings, read_slurm_settings, run_sweep
from igr.sweeps.job import Bundle, Ending, Job
from igr.sweeps.slurm import states_of
from igr.sweeps.slurm_task import AGAIN, SlurmTask, read_endings, write_endings
from igr.training import loop
from igr.training.run_folder import RunFolder
from interruptions import state
from tiny_runs import TINY

LONGER = dataclasses.replace(TINY, epochs=60, checkpoint_every=60, eval_every=20)


def test_a_file_of_settings_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(
        'partition = "gpu"\ntime_limit = 90\ngpus = 1\nmemory = "8G"\nsetup = ["module load cuda"]\n'
        '[options]\nnice = 100\nmail-type = "FAIL"\nexclusive = true\n'
    )
    assert read_slurm_settings(path) == SlurmSettings(
        partition="gpu",
        time_limit=90,
        gpus=1,
        memory="8G",
        setup=("module load cuda",),
        options={"nice": 100, "mail-type": "FAIL", "exclusive": True},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition = ", "expected a TOML file at .*; got "),
        ("partitoin = 'a'", "got 'partitoin'; did you mean partition"),
        ("time_limit = 0", "expected time_limit of the cluster to be a whole number of at least 1; got 0"),
        ("gpus = 1.5", "expected gpus of the cluster to be a whole number of at least 0; got 1.5"),
        ("cpus = true", "expected cpus of the cluster to be a whole number of at least 1; got True"),
        ("partition = 3", "expected partition of the cluster to be text; got 3"),
        ("partition = 'a\\n#SBATCH --uid=0'", None),
        ('partition = "a\\n#SBATCH --uid=0"', "expected partition of the cluster to be text; got "),
        ("setup = [1]", "expected setup of the cluster to be lines of shell"),
        ("setup = 1", "expected setup of the cluster to be lines of shell"),
        ("options = 3", "expected a table of options in "),
        ("[options]\na = [1]", "expected the option 'a' of sbatch to be text, a number or true"),
        ("[options]\narray = '0-3'", "expected options of sbatch other than array, .*; got 'array'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(text: str, message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    if message is None:
        # In TOML a backslash in single quotes is no line break.
        assert read_slurm_settings(path).partition == "a\\n#SBATCH --uid=0"
        return
    with pytest.raises(UserError, match=message):
        read_slurm_settings(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a TOML file at .*none.toml"):
        read_slurm_settings(tmp_path / "none.toml")


def task(folder: Path, config=LONGER, splits=("test",)) -> SlurmTask:
    run = Group("igr", (config,), (0,)).runs_of(0)[0]
    job = Job(run, folder / "run", splits, EvaluationSettings(num_samples=2, max_images=10))
    return SlurmTask(Bundle((job,)), folder / "endings" / "one.json")


def interrupt_at(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends the signal once so many steps are done, and not again."""
    usual = loop.Loop._step

    def with_signal(self: loop.Loop, *arguments: object) -> None:
        usual(self, *arguments)  # type: ignore[arg-type]
        if self.step == step:
            signal.raise_signal(number)

    monkeypatch.setattr(loop.Loop, "_step", with_signal)
    # A signal is looked for now and then, and these runs are short.
    monkeypatch.setattr("igr.sweeps.job.SECONDS_BETWEEN_LOOKS", 0.0)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGUSR1, AGAIN), (signal.SIGUSR2, AGAIN), (signal.SIGTERM, 128 + signal.SIGTERM)],
    ids=["usr1", "usr2", "term"],
)
def test_a_task_that_has_to_stop_leaves_a_checkpoint_and_says_whether_it_wants_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {which: signal.getsignal(which) for which in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)}
    whole = task(tmp_path)
    monkeypatch.setattr("igr.sweeps.slurm_task.SECONDS_TO_BE_KILLED", 0.0)
    with monkeypatch.context() as patch:
        interrupt_at(33, number, patch)
        with pytest.raises(SystemExit) as exit_:
            whole()
    assert exit_.value.code == code
    assert RunFolder(tmp_path / "run").latest_step() in (33, 34)
    assert read_endings(whole.ending, 1) is None
    # Started again, as by Slurm.
    whole()
    assert read_endings(whole.ending, 1) == [Ending()]
    loop.train(LONGER, tmp_path / "unbroken")
    assert state(tmp_path / "run") == state(tmp_path / "unbroken")
    assert {which: signal.getsignal(which) for which in before} == before


def test_an_evaluation_that_takes_longer_than_the_limit_fails_rather_than_begin_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*arguments: object, progress, **settings: object) -> None:
        signal.raise_signal(signal.SIGUSR2)
        progress(1)

    monkeypatch.setattr("igr.sweeps.job.evaluate", evaluate)
    with pytest.raises(SystemExit) as exit_:
        task(tmp_path)()
    # It was training when the task began, so the evaluation has not had a whole one yet.
    assert exit_.value.code == AGAIN
    whole = task(tmp_path)
    whole()
    (ending,) = read_endings(whole.ending, 1) or []
    assert ending.failure is not None
    assert ending.failure.startswith("expected an evaluation to end within the time limit")


def test_endings_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "endings" / "a.json"
    assert read_endings(path, 2) is None
    endings = [Ending(), Ending(failure="f", traceback="t", may_pass=True)]
    write_endings(path, endings)
    assert read_endings(path, 2) == endings
    for text in ("{}", '{"endings": [{"failed": 1}, {}]}', '{"endings": 3}', '{"endings": [{}]}', "[]"):
        path.write_text(text)
        with pytest.raises(UserError):
            read_endings(path, 2)


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_states_are_those_that_squeue_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    fake(tmp_path, "squeue", 'echo "12_0|RUNNING"; echo "12_1|PENDING"; echo "13|FAILED"')
    assert states_of("igr-x") == {"12_0": "RUNNING", "12_1": "PENDING", "13": "FAILED"}
    fake(tmp_path, "squeue", "exit 0")
    assert states_of("igr-x") == {}
    # A controller that is away says nothing of tasks.
    fake(tmp_path, "squeue", 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1')
    assert states_of("igr-x") is None


def test_without_a_cluster_or_submitit_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [Group("igr", (TINY,), (0,))]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="expected the commands of Slurm on the PATH; got no sbatch, squeue"):
        run_sweep(groups, tmp_path / "sweep", slurm=SlurmSettings())
    with pytest.raises(UserError, match=r"expected an Apptainer image at nowhere.sif; got no such file"):
        run_sweep(groups, tmp_path / "sweep", slurm=SlurmSettings(container="nowhere.sif"))
    assert not (tmp_path / "sweep").exists()
    for name in ("sbatch", "squeue", "scontrol", "srun"):
        fake(tmp_path, name, "exit 0")
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(UserError, match=r"expected submitit for a cluster; got none; install it with pip"):
        run_sweep(groups, tmp_path / "sweep", slurm=SlurmSettings())


def test_what_is_asked_stands_in_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    image = tmp_path / "my igr.sif"
    image.touch()
    for name in ("squeue", "scontrol", "srun"):
        fake(bin_, name, "exit 0")
    fake(bin_, "sbatch", f'cp "$1" {tmp_path}/script; echo "sbatch: error: no" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    asked = SlurmSettings(
        partition="gpu",
        at_once=2,
        time_limit=90,
        gpus=1,
        cpus=3,
        memory="8G",
        account="me",
        container=str(image),
        setup=("module load cuda",),
        options={"nice": 100, "exclusive": True},
    )
    groups = [Group("igr", (TINY,), (0, 1, 2))]
    with pytest.raises(UserError, match="expected the cluster to take the jobs; got: sbatch: error: no;"):
        run_sweep(groups, tmp_path / "sweep", slurm=asked)
    lines = (tmp_path / "script").read_text().splitlines()
    for line in [
        "--partition=gpu",
        "--array=0-2%2",
        "--time=90",
        "--gpus-per-node=1",
        "--cpus-per-task=3",
        "--mem=8G",
        "--account=me",
        "--nice=100",
        "--exclusive",
        "--requeue",
        "--signal=USR2@120",
    ]:
        assert f"#SBATCH {line}" in lines
    assert lines.index("module load cuda") < next(
        n for n, line in enumerate(lines) if line.startswith("srun")
    )
    (command,) = (line for line in lines if line.startswith("srun"))
    assert f"apptainer exec --nv --bind {tmp_path / 'sweep'} '{image}' python -u -m submitit" in command
    assert f'if [ "$code" -eq {AGAIN} ]; then scontrol requeue' in "\n".join(lines)
