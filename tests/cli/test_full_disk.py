"""A full disk: one sentence, all that was there is intact, and with room it goes on to the same bits."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from disks import Full, files_of_at_most, fill, mounted
from igr.cli import main
from igr.evaluation import evaluation
from igr.training import checkpoints, loop
from igr.training.failures import TrainingFailure
from igr.training.replicas import train_replicas
from igr.training.run_folder import RunFolder
from igr.training.watchers import Watcher
from interruptions import state
from tiny_runs import TINY

RUN = dataclasses.replace(TINY, epochs=6, tensorboard=True)
FLAGS = "--network dense --num-variables 2 --num-categories 3 --max-images 50 --epochs 6 --batch-size 25"
FLAGS += " --checkpoint-every 1 --num-eval-samples 4"
TRAIN = ["train", *FLAGS.split(), "--out"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unbroken") / "run"
    loop.train(RUN, path)
    return path


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sentence(capsys: pytest.CaptureFixture[str], code: int, *argv: str) -> str:
    """The one sentence that is said last by a command that ends with this code."""
    capsys.readouterr()
    assert main(list(argv)) == code
    found = capsys.readouterr().err
    assert "Traceback" not in found
    last = found.splitlines()[-1]
    assert last.startswith(f"igr {argv[0]}: ")
    assert sum(line.startswith("igr ") for line in found.splitlines()) == 1
    return last


def result_of(path: Path) -> dict[str, Any]:
    result = RunFolder(path).result()
    for part in result.values():
        part.pop("seconds", None)
    return result


def assert_same(path: Path, unbroken: Path) -> None:
    assert state(path) == state(unbroken)
    assert result_of(path) == result_of(unbroken)
    assert not list(path.rglob(".unfinished*"))


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Has ``igr train`` tell this watcher."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("igr.cli.train.watcher", lambda line: watcher)
        yield


MOMENTS = {
    # What fills, where, and what could not be written.
    "metrics": (("step", 4, 100), "metrics.jsonl"),
    "checkpoint": (("epoch", 4, 5000), "checkpoints/step-00000008.safetensors"),
    "result": (("end", 6, 100), "result.json"),
}


@pytest.mark.parametrize(("moment", "file"), MOMENTS.values(), ids=MOMENTS)
def test_a_disk_that_is_full_while_a_run_writes(moment, file, unbroken, capsys):
    config = dataclasses.replace(RUN, tensorboard=False)
    full = Full(*moment, Path("run/metrics.jsonl"))
    with watched_by(full), full:
        said = sentence(capsys, 1, *TRAIN, "run", "--no-tensorboard")
    assert f"expected to write {Path('run', file)}" in said
    assert "File too large" in said
    assert said.endswith("make room there and go on with igr train --resume run")
    # As far as it came is whole, and has a checkpoint.
    last = checkpoints.every(Path("run/checkpoints"))[-1]
    assert checkpoints.step_of(last) == (12 if file == "result.json" else 6)
    assert not list(Path("run").rglob(".unfinished*"))
    if file == "metrics.jsonl":
        # Part of a line was written.
        assert not Path("run/metrics.jsonl").read_text().endswith("\n")
    assert len(RunFolder("run").metrics()) == {"metrics.jsonl": 3, "result.json": 6}.get(file, 4)
    loop.resume("run")
    assert state(Path("run")) == state(unbroken)
    assert result_of(Path("run"))["training"] == result_of(unbroken)["training"]
    assert RunFolder("run").config() == config


def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(unbroken, capsys):
    with mounted(2**20) as disk:
        run = disk / "run"

        class Fill(Watcher):
            def epoch(self, metrics: Any) -> None:
                if metrics["epoch"] == 4:
                    fill(disk, left=4096)

        with watched_by(Fill()):
            said = sentence(capsys, 1, *TRAIN, str(run))
        assert f"expected to write {run}/checkpoints/step-00000008.safetensors" in said
        assert "(No space left on device)" in said
        assert said.endswith(f"make room there and go on with igr train --resume {run}")
        assert RunFolder(run).latest_step() == 6
        assert not list(run.rglob(".unfinished*"))
        # Without room it goes no further, and harms nothing.
        assert "No space left on device" in sentence(capsys, 1, "train", "--resume", str(run))
        assert RunFolder(run).latest_step() == 6
        (disk / "ballast").unlink()
        loop.resume(run)
        assert_same(run, unbroken)


def test_a_disk_that_is_full_at_the_start(capsys):
    with files_of_at_most(50):
        said = sentence(capsys, 2, *TRAIN, "run")
    assert "expected a folder that can be written for the run; got run (File too large); make room" in said
    assert [path.name for path in Path("run").iterdir()] == [".lock"]
    loop.train(RUN, "run")


def test_a_disk_that_is_full_at_the_copy_of_a_prior(capsys):
    assert main(["prior", "--num-categories", "3", "--out", "prior.json"]) == 0
    with files_of_at_most(50):
        said = sentence(capsys, 2, *TRAIN, "run", "--prior", "prior.json")
    assert "got run (File too large)" in said
    assert [path.name for path in Path("run").iterdir()] == [".lock"]
    assert main([*TRAIN, "run", "--prior", "prior.json"]) == 0


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_is_full_while_the_board_is_written(unbroken, capsys):
    # A picture is larger than all else.
    with files_of_at_most(20_000):
        said = sentence(capsys, 1, *TRAIN, "run")
    assert "expected to write run/tensorboard/events.out.tfevents" in said
    assert "(File too large)" in said
    assert said.endswith("make room there and go on with igr train --resume run")
    loop.resume("run")
    assert_same(Path("run"), unbroken)
    # What was cut off hides nothing that came later.
    board = EventAccumulator("run/tensorboard")
    board.Reload()
    assert [event.step for event in board.Scalars("seconds per epoch")][-3:] == [8, 10, 12]


def test_a_disk_that_is_full_while_a_run_goes_on(unbroken, capsys):
    shutil.copytree(unbroken, "run")
    Path("run/result.json").unlink()
    Path("run/metrics.jsonl").write_text(Path("run/metrics.jsonl").read_text() + '{"half')
    before = state(Path("run"))
    with files_of_at_most(100):
        said = sentence(capsys, 1, "train", "--resume", "run")
    assert "expected to write run/metrics.jsonl; got an error (File too large)" in said
    assert state(Path("run")) == before
    loop.resume("run")
    assert_same(Path("run"), unbroken)


@pytest.mark.parametrize(("size", "kept"), [(100, False), (20_000, True)], ids=["result", "figures"])
def test_a_disk_that_is_full_while_a_run_is_evaluated(size, kept, unbroken, capsys):
    shutil.copytree(unbroken, "run")
    before = state(Path("run"))
    with files_of_at_most(size):
        said = sentence(capsys, 2, "evaluate", "run")
    assert "expected a run folder that can be written; got run (File too large); make room there" in said
    assert state(Path("run")) == before
    assert ("evaluation" in RunFolder("run").result()) == kept
    assert not list(Path("run").rglob(".unfinished*"))
    assert main(["evaluate", "run"]) == 0


def test_a_disk_that_is_full_while_a_sweep_begins_or_trains(capsys):
    sweep = ["sweep", *FLAGS.split(), "--epochs", "2", "--seed", "0", "1", "--out", "sweep"]
    with files_of_at_most(50):
        said = sentence(capsys, 2, *sweep)
    assert "got sweep (File too large); make room there" in said
    assert [path.name for path in Path("sweep").iterdir()] == [".lock"]
    # More than the record, and less than a checkpoint.
    for replicas in ([], ["--replicas"]):
        with files_of_at_most(6000):
            capsys.readouterr()
            assert main([*sweep, "--no-tensorboard", *replicas]) == 1
        said = [line for line in capsys.readouterr().err.splitlines() if "expected" in line]
        assert len(said) == 2
        assert all(
            "/checkpoints/step-00000002.safetensors; got an error (File too large)" in line for line in said
        )
        assert not list(Path("sweep").rglob(".unfinished*"))
    assert main([*sweep, "--no-tensorboard"]) == 0


def test_the_evaluation_of_a_sweep_that_cannot_be_written_is_a_sentence(capsys, monkeypatch):
    def evaluate(*arguments: Any, **settings: Any) -> Any:
        with files_of_at_most(100):
            return evaluation.evaluate(*arguments, **settings)

    monkeypatch.setattr("igr.sweeps.job.evaluate", evaluate)
    sweep = ["sweep", *FLAGS.split(), "--epochs", "1", "--no-tensorboard", "--out", "sweep"]
    assert main(sweep) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "expected" in line]
    assert "expected a file that can be read or written at sweep/" in said
    assert said.endswith("/result.json; got an error (File too large); make room there")


def test_whatever_else_cannot_be_written_is_a_sentence(capsys, monkeypatch):
    def fail(*arguments: Any) -> None:
        with Path("nowhere/file").open("w"):
            pass

    monkeypatch.setattr(loop, "train", fail)
    said = sentence(capsys, 1, *TRAIN, "run")
    assert said == (
        "igr train: expected a file that can be read or written at nowhere/file; got an error "
        "(No such file or directory); check it"
    )


def test_what_is_printed_to_a_full_disk_is_a_failure():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "igr", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == (
        "igr: expected to write what was found to standard output; got an error (No space left on device); "
        "make room there\n"
    )


def test_replicas_whose_ends_cannot_be_written_fail_one_by_one():
    config = dataclasses.replace(TINY, kl="relaxed").resolved()
    runs = [(dataclasses.replace(config, seed=seed), Path(f"run-{seed}")) for seed in (0, 1)]
    full = Full("end", 2, 100, Path("run-0/metrics.jsonl"))
    with full:
        failures = train_replicas(runs, full)
    for failure, (_, path) in zip(failures, runs, strict=True):
        assert isinstance(failure, TrainingFailure)
        assert f"expected to write {path}/result.json" in str(failure)
    assert all(isinstance(found, dict) for found in train_replicas(runs))


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["--help"], "closed"),
        pytest.param(["data", "list", "--json"], "closed", marks=pytest.mark.slow),
        (["data", "list", "--json"], "read no more"),
    ],
)
def test_output_that_nobody_wants_is_no_failure(command, output):
    """Daemons have none, and who pipes into head has seen enough."""
    program = [sys.executable, "-m", "igr", *command]
    if output == "closed":
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", *program], stderr=subprocess.PIPE, text=True, check=False
        )
        code, said = done.returncode, done.stderr
    else:
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        code = process.wait()
    assert (code, said) == (0, "")
