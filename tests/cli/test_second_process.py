"""What a process holds no other one may have: it is refused in one sentence, and changes nothing."""

import dataclasses
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from igr.cli import main
from igr.studies import STUDIES
from igr.sweeps import SweepWatcher, expand, groups_of, run_sweep
from igr.training import loop
from igr.training.folders import held
from igr.training.run_folder import RunFolder
from igr.training.watchers import Watcher
from interruptions import state
from tiny_runs import TINY

RUN = dataclasses.replace(TINY, epochs=4)
FLAGS = "--network dense --num-variables 2 --num-categories 3 --max-images 50 --epochs 2 --batch-size 25"
GRID = {
    "network": "dense",
    "num_variables": 2,
    "num_categories": 3,
    "max_images": 50,
    "epochs": 2,
    "batch_size": 25,
    "num_eval_samples": 4,
    "tensorboard": False,
    "kl": "relaxed",
    "seed": [0, 1],
}
SWEEP = f"sweep {FLAGS} --num-eval-samples 4 --no-tensorboard --kl relaxed --seed 0 1 --out sweep".split()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one sentence of a command that is refused and changes no file."""
    before = contents()
    capsys.readouterr()
    code = main(list(argv))
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.count("\n") == 1, said
    assert contents() == before
    return said.strip()


class Meanwhile(Watcher):
    """Does something after the second epoch."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self._deed = deed
        self.num_done = 0

    def epoch(self, metrics: Any) -> None:
        self.num_done += 1
        if self.num_done == 2:
            self._deed()


def test_a_run_that_is_trained(capsys):
    def others() -> None:
        said = refused(capsys, "train", "--resume", "run")
        assert "expected a run folder that is free; got run, which another process is using" in said
        said = refused(capsys, "train", *FLAGS.split(), "--out", "run")
        assert "which is not empty; go on with igr train --resume run" in said
        # Its last checkpoint may be looked at.
        assert main(["evaluate", "run"]) == 0
        assert main(["compare", "run", "run"]) in (0, 2)

    watcher = Meanwhile(others)
    loop.train(RUN, "run", watcher)
    assert watcher.num_done == 4
    loop.train(RUN, "alone")
    assert state(Path("run")) == state(Path("alone"))
    result = RunFolder("run").result()
    assert result["training"]["step"] == 8
    assert result["evaluation"]["step"] == 2


@pytest.mark.parametrize("replicas", [False, True])
def test_a_sweep_that_goes_on(replicas, capsys):
    done = []

    class Others(SweepWatcher):
        def advance(self, running: Any) -> None:
            if running and not done:
                done.append(True)
                said = refused(capsys, *SWEEP, *(["--replicas"] if replicas else []))
                assert "expected a sweep folder that is free; got sweep, which another process" in said

    outcome = run_sweep(
        groups_of(expand(GRID), tune_all=True), Path("sweep"), replicas=replicas, watcher=Others()
    )
    assert done
    assert outcome.failures == ()
    assert main(SWEEP) == 0


def test_a_study_that_goes_on(capsys):
    assert "simplex-proximity" in STUDIES
    with held(Path("study"), "study"):
        said = refused(capsys, "study", "run", "simplex-proximity", "--smoke", "--out", "study")
    assert "expected a study folder that is free; got study, which another process is using" in said


def test_a_run_whose_process_was_killed_is_free_at_once():
    body = (
        "import os, signal, sys\n"
        "from igr.training.run_folder import RunFolder\n"
        "with RunFolder('run').locked():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", body], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        loop.train(RUN, "run")
    assert RunFolder("run").is_finished


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(code, capsys, monkeypatch):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert main(["train", *FLAGS.split(), "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert (
        "expected a folder where files can be locked, for the run; got run, whose file system has no" in said
    )


def test_a_file_system_that_knows_no_locks_has_files_instead(capsys, monkeypatch):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)

    def others() -> None:
        # As where a process was killed: its lock stays, and is nobody's.
        assert "another process is using" in refused(capsys, "train", "--resume", "run")

    monkeypatch.setattr("igr.cli.train.watcher", lambda line: Meanwhile(others))
    code = main(["train", *FLAGS.split(), "--out", "run", "--no-tensorboard"])
    said = capsys.readouterr().err
    # Older versions of filelock refuse.
    assert code in (0, 2), said
    assert "Warning" not in said
