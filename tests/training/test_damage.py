"""What a disk or a user does to the folder of a run: it goes on to the same bits, or says what to do."""

import dataclasses
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from igr.cli import main
from igr.errors import UserError
from igr.evaluation import evaluate
from igr.training import checkpoints, loop
from igr.training.failures import TrainingFailure
from igr.training.replicas import train_replicas
from igr.training.runs import load_run
from igr.training.watchers import Watcher
from interruptions import state
from tiny_runs import TINY

RUN = dataclasses.replace(TINY, epochs=5)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unbroken") / "run"
    loop.train(RUN, path)
    return path


@pytest.fixture
def run(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run after its last checkpoint and before its end."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(unbroken, "run")
    Path("run/result.json").unlink()
    return Path("run")


def flip(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[-9] ^= 16
    path.write_bytes(contents)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


DAMAGES = {"flipped": flip, "cut": cut, "empty": lambda path: path.write_bytes(b"")}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(run, unbroken, damage, capsys):
    damage(run / "checkpoints/step-00000010.safetensors")
    assert main(["train", "--resume", "run"]) == 0
    warning, line, *_ = capsys.readouterr().err.splitlines()
    assert warning.startswith(
        "warning: expected a whole checkpoint at run/checkpoints/step-00000010.safetensors"
    )
    assert warning.endswith("training goes on from step-00000008.safetensors, which is whole")
    assert line == "going on with run from step 8"
    assert state(run) == state(unbroken)


@pytest.mark.parametrize("removed", [False, True])
def test_the_damaged_end_of_a_finished_run_is_trained_again(run, unbroken, removed, capsys):
    shutil.copy(unbroken / "result.json", run)
    last = run / "checkpoints/step-00000010.safetensors"
    flip(last)
    assert main(["evaluate", "run"]) == 2
    assert "igr train --resume run goes on from step-00000008" in capsys.readouterr().err
    if removed:
        last.unlink()
    assert main(["train", "--resume", "run"]) == 0
    assert "going on with run from step 8" in capsys.readouterr().err
    assert state(run) == state(unbroken)
    # Of a run whose checkpoints were thrown away on purpose nothing is trained again.
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").stat()
    loop.resume(run)
    assert (run / "metrics.jsonl").stat() == before


def test_replicas_go_on_from_the_checkpoint_before_too(tmp_path):
    config = dataclasses.replace(TINY, kl="relaxed").resolved()
    runs = [(dataclasses.replace(config, seed=seed), tmp_path / str(seed)) for seed in (0, 1)]
    before = train_replicas(runs)
    flip(tmp_path / "1/checkpoints/step-00000004.safetensors")
    kept = state(tmp_path / "0")
    after = train_replicas(runs)
    assert after[0] == before[0]
    assert state(tmp_path / "0") == kept
    figures = [each[1]["training"]["train_bound"] for each in (before, after)]
    assert figures[1] == pytest.approx(figures[0], rel=1e-4)
    newest, broken = checkpoints.newest_whole(tmp_path / "1/checkpoints")
    assert newest == tmp_path / "1/checkpoints/step-00000004.safetensors"
    assert broken == []


def test_without_a_whole_checkpoint_the_run_says_how_to_start_anew(run, unbroken, capsys):
    for path in checkpoints.every(run / "checkpoints"):
        flip(path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["train", "--resume", "run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    for path in checkpoints.every(run / "checkpoints"):
        with pytest.raises(UserError, match=r"checkpoints/step-0*\d+\.safetensors; got a broken file"):
            loop.resume(run)
        path.unlink()
    loop.resume(run)
    assert state(run) == state(unbroken)


EDITS: dict[str, Callable[[list[str]], list[str]]] = {
    "one gone": lambda lines: lines[1:],
    "one twice": lambda lines: [lines[0], *lines[:-1]],
    "out of order": lambda lines: [lines[1], lines[0], *lines[2:]],
    "none": lambda lines: [],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_metrics_that_do_not_fit_the_checkpoint_are_refused(run, edit):
    file = run / "metrics.jsonl"
    file.write_text("".join(line + "\n" for line in edit(file.read_text().splitlines())))
    with pytest.raises(UserError, match=r"expected metrics\.jsonl to have a line for each epoch"):
        loop.resume(run)


def test_metrics_that_are_no_text_are_refused(run):
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match=r"on each line of run/metrics\.jsonl"):
        loop.resume(run)


class Meanwhile(Watcher):
    """Does something to the folder after an epoch."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self._deed = deed

    def epoch(self, metrics: Any) -> None:
        if metrics["epoch"] == 2:
            self._deed()


def replace() -> None:
    Path("run").rename("moved")
    loop.train(dataclasses.replace(RUN, seed=1, epochs=1), "run")


DEEDS = {
    "removed": lambda: shutil.rmtree("run"),
    "moved": lambda: Path("run").rename("moved"),
    "replaced": replace,
}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_a_folder_that_is_gone_while_it_is_trained_in_is_noticed(deed, unbroken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    others: dict[Path, bytes] = {}

    def do() -> None:
        deed()
        others.update({path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()})

    with pytest.raises(TrainingFailure, match="got run, which was moved, removed or replaced meanwhile"):
        loop.train(RUN, "run", Meanwhile(do))
    # Nothing went into what stands there now.
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == others
    if Path("moved").exists():
        loop.resume("moved")
        assert state(Path("moved")) == state(unbroken)


def test_an_evaluation_sees_no_numbers_of_a_damaged_checkpoint(run):
    flip(run / "checkpoints/step-00000010.safetensors")
    with pytest.raises(checkpoints.BrokenCheckpoint):
        evaluate(load_run(run))


def of_a_type_that_is_never_written(path: Path) -> None:
    """With a checksum that is right for no type that numpy knows."""
    step = checkpoints.step_of(path)
    record = {"format": 1, "step": step, "epoch": 5, "crc32": {"model.a": 0}}
    save_file({"model.a": torch.zeros(3, dtype=torch.bfloat16)}, path, {"igr": json.dumps(record)})


def test_a_type_that_is_never_written_is_damage(run, unbroken, capsys):
    of_a_type_that_is_never_written(run / "checkpoints/step-00000010.safetensors")
    assert main(["train", "--resume", "run"]) == 0
    assert "model.a has the type BF16, which is never written" in capsys.readouterr().err
    assert state(run) == state(unbroken)


@pytest.mark.parametrize(
    "which", [["step-00000010"], ["step-00000008", "step-00000010"]], ids=["newest", "all"]
)
@pytest.mark.parametrize(
    "command", [["train", "--resume", "run"], ["evaluate", "run"]], ids=["train", "evaluate"]
)
@pytest.mark.parametrize("finished", [False, True])
def test_a_checkpoint_that_cannot_be_read_is_not_made_anew(
    run, unbroken, which, command, finished, capsys, monkeypatch
):
    """It may be whole, and what cannot be read for want of permission must not be replaced."""
    if finished:
        shutil.copy(unbroken / "result.json", run)
    usual = Path.open

    def refuse(self: Path, *arguments: Any, **settings: Any) -> Any:
        if self.suffix == ".safetensors" and self.stem in which:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return usual(self, *arguments, **settings)

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert "expected a checkpoint that can be read at run/checkpoints/step-00000010.safetensors" in said[-1]
    assert "Permission denied" in said[-1]
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == {path: data for path, data in before.items() if path.name != ".lock"}


@pytest.mark.parametrize("training", [{}, 5, [], {"step": "x"}, {"step": 10}, {"step": 10, "epoch": None}])
def test_a_result_that_says_nothing_of_training_is_refused(run, training, capsys):
    (run / "result.json").write_text(json.dumps({"training": training}))
    assert main(["train", "--resume", "run"]) == 2
    said = capsys.readouterr().err
    assert "expected what training found, with its step and epoch, in run/result.json; got " in said


def test_lines_that_cannot_be_read_lose_no_checkpoint(run):
    """The newer checkpoint is damaged and would go; not before it is known that the rest fits."""
    flip(run / "checkpoints/step-00000010.safetensors")
    (run / "metrics.jsonl").write_text("{\n")
    before = sorted((run / "checkpoints").iterdir())
    with pytest.raises(UserError, match="expected one JSON object on each line"):
        loop.resume(run)
    assert sorted((run / "checkpoints").iterdir()) == before
