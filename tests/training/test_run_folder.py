"""A run folder is held by one process, and says what is wrong with it in one sentence."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from igr import atomic
from igr.errors import UserError
from igr.training.run_folder import RunFolder
from tiny_runs import BEGUN, begun

# No process has it: Linux numbers them up to 2^22.
DEAD = 2**22 + 1


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return begun(tmp_path / "run")


def metrics(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "step": 10 * epoch, "train_bound": -1 / 3}


def test_the_config_comes_back(folder):
    assert folder.config() == BEGUN
    record = json.loads((folder.path / "config.json").read_text())
    assert record["torch"] == torch.__version__


NO_RUNS = {
    "absent": (lambda path: None, "which does not exist"),
    "file": (lambda path: path.touch(), "which is a file and no folder"),
    "empty": (lambda path: path.mkdir(), "which has no config.json"),
    "text": (lambda path: write_config(path, "not JSON"), "expected a JSON file"),
    "list": (lambda path: write_config(path, "[]"), "expected a JSON object .* got list"),
    "deep": (lambda path: write_config(path, "[" * 100_000), "expected a JSON file"),
    "bytes": (lambda path: write_config(path, "").write_bytes(b"\xff\xfe"), "expected a JSON file"),
    "version": (
        lambda path: write_config(path, json.dumps({"format": 99, "config": {}})),
        "format 1 at .* got format 99",
    ),
    "key": (
        lambda path: write_config(path, json.dumps({"format": 1, "config": {"epoch": 1}})),
        r"did you mean epochs\?",
    ),
}


def write_config(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "config.json").write_text(text)
    return path / "config.json"


@pytest.mark.parametrize(("make", "message"), NO_RUNS.values(), ids=NO_RUNS.keys())
def test_what_is_no_run_is_refused(tmp_path, make, message):
    make(tmp_path / "run")
    with pytest.raises(UserError, match=message) as error:
        RunFolder(tmp_path / "run").config()
    assert "\n" not in str(error.value)


def test_a_new_run_wants_an_empty_folder(folder):
    with folder.locked(), pytest.raises(UserError, match=r"igr train --resume .* --out"):
        folder.begin(BEGUN)


def test_what_a_killed_start_leaves_is_no_hindrance(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / ".lock").touch()
    (path / f".unfinished-{DEAD}-config.json").write_text('{"form')
    with RunFolder(path).locked() as folder:
        folder.begin(BEGUN)
    assert folder.config() == BEGUN
    folder.rewind(0)
    assert sorted(entry.name for entry in path.iterdir()) == [".lock", "config.json"]


def test_a_second_holder_is_refused(folder):
    with (
        folder.locked(),
        pytest.raises(UserError, match="another process is using"),
        RunFolder(folder.path).locked(),
    ):
        pass
    with folder.locked():
        pass


def test_the_lock_of_a_killed_process_does_not_block(folder):
    holder = (
        "import sys, time; from filelock import FileLock\n"
        "lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder.path / ".lock")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UserError, match="another process"), folder.locked():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with folder.locked():
            pass


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"folder that can be written .* choose another with --out"),
        RunFolder(tmp_path / "file" / "run").locked(),
    ):
        pass


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    # Tests may run as root, whom no mode keeps from writing.
    def refuse(self, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(UserError, match=r"got .* \(Permission denied\); make it writable, or choose another"),
        RunFolder(tmp_path / "run").locked(),
    ):
        pass


def test_lines_come_back_to_the_bit(folder):
    assert folder.metrics() == []
    for epoch in (1, 2):
        folder.append(metrics(epoch), seconds=0.5)
    assert folder.metrics() == [metrics(1), metrics(2)]
    assert [line["seconds"] for line in folder.timings()] == [0.5, 0.5]


def test_a_line_that_a_killed_process_left_unfinished_is_not_read(folder):
    folder.append(metrics(1), seconds=0.5)
    path = folder.path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"epoch": 2, "st')
    assert folder.metrics() == [metrics(1)]


@pytest.mark.parametrize(
    "line", ["not JSON", "[1]", "{}", '{"step": "many"}', "[" * 100_000, "\ud800", "[" + "1, " * 5_000 + "1]"]
)
def test_broken_metrics_are_named(folder, line):
    # Half a character is no text.
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\n' + line + "\n", errors="surrogatepass")
    with pytest.raises(UserError, match=r"^expected .{,40} on each line of .*metrics\.jsonl; got .{,99}; "):
        folder.metrics()


def test_rewinding_removes_later_lines_and_unfinished_files(folder):
    for epoch in (1, 2, 3):
        folder.append(metrics(epoch), seconds=0.5)
    whole = (folder.path / "metrics.jsonl").read_bytes()
    (folder.path / f".unfinished-{DEAD}-result.json").touch()
    folder.checkpoints.mkdir()
    (folder.checkpoints / f".unfinished-{DEAD}-step-00000030.safetensors").touch()
    # Of an export into the run.
    (folder.path / f".unfinished-{DEAD}-export/checkpoints").mkdir(parents=True)
    (folder.path / f".unfinished-{DEAD}-export/model.safetensors").touch()
    folder.rewind(20)
    assert folder.metrics() == [metrics(1), metrics(2)]
    assert len(folder.timings()) == 2
    assert whole.startswith((folder.path / "metrics.jsonl").read_bytes())
    assert not list(folder.path.rglob(".unfinished*"))


def test_rewinding_leaves_what_a_live_process_writes(folder):
    live = folder.path / f".unfinished-{os.getppid()}-result.json"
    live.touch()
    folder.rewind(0)
    assert live.exists()


def test_processes_that_write_one_file_share_no_temporary(tmp_path):
    inner = "import sys; from pathlib import Path; from igr import atomic\n"
    inner += "atomic.write_text(Path(sys.argv[1]), 'other')"

    def fill(temporary: Path) -> None:
        temporary.write_text("own")
        subprocess.run([sys.executable, "-c", inner, str(tmp_path / "file")], check=True)

    atomic.write(tmp_path / "file", fill)
    assert (tmp_path / "file").read_text() == "own"


def test_an_update_of_the_result_waits_for_another(folder):
    update = "import sys; from igr.training.run_folder import RunFolder\n"
    update += "print('up', flush=True); RunFolder(sys.argv[1]).update_result({'evaluation': 1})"
    lock = FileLock(folder.path / ".result.lock")
    with lock:
        process = subprocess.Popen([sys.executable, "-c", update, str(folder.path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        atomic.write_json(folder.path / "result.json", {"training": 2})
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert folder.result() == {"training": 2, "evaluation": 1}


def test_results_are_updated_key_by_key(folder):
    assert folder.result() == {}
    folder.update_result({"training": {"step": 1}})
    folder.update_result({"evaluation": 2})
    folder.update_result({"evaluation": 3})
    assert folder.result() == {"training": {"step": 1}, "evaluation": 3}


def test_what_a_zombie_has_left_is_removed(tmp_path: Path) -> None:
    """A process that has ended keeps its number until someone asks how, which in a container may be never."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    left, kept = (tmp_path / f".unfinished-{process.pid}-a.json" for process in (ended, living))
    for path in (left, kept):
        path.touch()
    atomic.remove_unfinished(tmp_path)
    assert (left.exists(), kept.exists()) == (False, True)
    living.communicate(b"\n")
    ended.wait()
