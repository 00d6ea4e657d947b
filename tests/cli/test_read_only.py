"""Folders that cannot be written: said in one sentence, before any work, with exit code 2."""

from pathlib import Path

import pytest

from disks import read_only
from igr.cli import main
from igr.data import cache
from igr.errors import UserError
from igr.evaluation import evaluate
from igr.training import loop
from igr.training.failures import Interrupted
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from interruptions import InterruptAt
from run_folders import KEYS, evaluation, write_run
from tiny_runs import TINY

FLAGS = "--network dense --num-variables 2 --num-categories 3 --max-images 50 --epochs 2 --batch-size 25"
SWEEP = ["sweep", *FLAGS.split(), "--num-eval-samples", "4", "--no-tensorboard", "--out", "sweep"]
ADVICE = "make it writable, or choose another with --out"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *argv: str) -> str:
    """The one sentence that is said while nobody may write the folder, in which nothing changes."""
    before = contents(Path())
    capsys.readouterr()
    with read_only(folder):
        code = main(list(argv))
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.count("\n") == 1, said
    assert contents(Path()) == before
    return said.strip()


@pytest.fixture
def run() -> Path:
    """A run that has stopped after its first epoch."""
    with pytest.raises(Interrupted):
        loop.train(TINY, "run", InterruptAt(3))
    return Path("run")


def test_a_new_run_in_a_folder_that_is_read_only(capsys):
    Path("runs").mkdir()
    said = refused(capsys, Path("runs"), "train", *FLAGS.split(), "--out", "runs/one")
    assert said.startswith("igr train: expected a folder that can be written for the run; got runs/one (")
    assert said.endswith(ADVICE)


def test_a_run_that_is_read_only_does_not_go_on(run, capsys):
    said = refused(capsys, run, "train", "--resume", "run")
    assert "expected a folder that can be written for the run; got run (" in said
    assert said.endswith(ADVICE)


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
def test_a_run_of_which_one_folder_is_read_only_does_not_go_on(run, name, capsys):
    (run / name).mkdir(exist_ok=True)
    said = refused(capsys, run / name, "train", "--resume", "run")
    assert f"expected a run that can be written; got run/{name}, which is read-only; make it writable" in said
    loop.resume(run)
    assert RunFolder(run).is_finished


def test_nothing_is_evaluated_that_cannot_be_written(run, capsys, monkeypatch):
    loop.resume(run)
    monkeypatch.setattr("igr.cli.evaluate.evaluate", None)
    assert "got run, which is read-only" in refused(capsys, run, "evaluate", "run")
    (run / "figures").mkdir()
    assert "got run/figures, which is read-only" in refused(capsys, run / "figures", "evaluate", "run")
    # By a program it is evaluated, and what cannot be written has a name.
    with read_only(run), pytest.raises(OSError, match=r"run/\.?result") as error:
        evaluate(load_run(run))
    assert error.value.filename is not None


def test_runs_that_are_read_only_are_compared(capsys):
    for seed in (0, 1):
        write_run(Path(f"runs/{seed}"), {"seed": seed}, evaluation([-1.0] * len(KEYS)))
    Path("out").mkdir()
    said = refused(capsys, Path("out"), "compare", "runs/0", "runs/1", "--out", "out")
    assert "expected a folder that can be written; got out (" in said
    assert said.endswith(ADVICE)
    with read_only(Path("runs")):
        assert main(["compare", "runs/0", "runs/1", "--out", "out"]) == 0


def test_a_sweep_that_is_read_only(capsys):
    Path("sweep").mkdir()
    said = refused(capsys, Path("sweep"), *SWEEP)
    assert said.startswith("igr sweep: expected a folder that can be written for the sweep; got sweep (")
    assert main(SWEEP) == 0
    said = refused(capsys, Path("sweep"), *SWEEP)
    assert said.endswith(ADVICE)
    # Of one run alone.
    (result,) = Path("sweep").rglob("result.json")
    result.unlink()
    capsys.readouterr()
    with read_only(result.parent):
        assert main(SWEEP) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "expected" in line]
    assert f"{result.parent}" in said
    assert "make it writable" in said
    assert main(SWEEP) == 0


def test_a_study_that_is_read_only(capsys):
    Path("study").mkdir()
    said = refused(capsys, Path("study"), "study", "run", "simplex-proximity", "--smoke", "--out", "study")
    assert "expected a folder that can be written for the study; got study (" in said
    assert said.endswith(ADVICE)


def test_a_cache_that_is_read_only():
    folder = cache.folder()
    folder.mkdir()
    said = r"cache folder .*; make it writable, or name another with IGR_CACHE_DIR"
    with read_only(folder), pytest.raises(UserError, match=said), cache.locked("small"):
        pass
