"""Real processes, killed for real: a resumed run equals an unbroken one bit for bit."""

import dataclasses
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder

# A checkpoint at each epoch, so that kills fall into their writing too.
SMALL = TrainConfig(
    network="dense", num_variables=5, num_categories=4, epochs=60, checkpoint_every=1
).resolved()
LONGER = dataclasses.replace(SMALL, epochs=500)
SHORT = dataclasses.replace(SMALL, epochs=3)
# With checkpoints that take a moment to write.
LARGER = dataclasses.replace(
    SMALL, num_variables=20, num_categories=10, kl="relaxed", max_images=200, epochs=600
).resolved()


def flags(config: TrainConfig) -> list[str]:
    defaults = TrainConfig()
    return [
        f"--{key.replace('_', '-')}={value}"
        for key, value in config.to_json().items()
        if value != getattr(defaults, key)
    ]


def launch(path: Path, config: TrainConfig) -> subprocess.Popen[bytes]:
    """Starts the run, or goes on with it, in a process of its own."""
    how = ["--resume", str(path)] if path.exists() else ["--out", str(path), *flags(config)]
    command = [sys.executable, "-m", "igr", "train", *how]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_after(path: Path, config: TrainConfig, epochs: int, delay: float) -> None:
    """Kills the run so many seconds after it has finished so many epochs more."""
    goal = len(RunFolder(path).metrics()) + epochs
    process = launch(path, config)
    deadline = time.monotonic() + 120
    while len(RunFolder(path).metrics()) < goal:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names_in(path: Path) -> set[Path]:
    """The names of all files, but for event files: each process writes one of its own."""
    return {file.relative_to(path) for file in path.rglob("*") if "tfevents" not in file.name}


def assert_same_as_unbroken(path: Path, config: TrainConfig) -> None:
    loop.resume(path)
    unbroken = path.with_name("unbroken")
    loop.train(config, unbroken)
    assert (path / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()
    latest = [RunFolder(folder).latest_checkpoint() for folder in (path, unbroken)]
    first, second = (load_file(file) for file in latest if file is not None)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert names_in(path) == names_in(unbroken)
    assert len(RunFolder(path).timings()) == len(RunFolder(path).metrics())
    results = [RunFolder(folder).result() for folder in (path, unbroken)]
    for result in results:
        del result["training"]["seconds"]
    assert results[0] == results[1]


def test_a_kill_changes_nothing(tmp_path):
    kill_after(tmp_path / "run", SMALL, epochs=3, delay=0.013)
    assert_same_as_unbroken(tmp_path / "run", SMALL)


class Fresh:
    """Sees a file that was not there before as soon as it appears, among those that a pattern fits."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern = folder, pattern
        self._before = self._names()

    def _names(self) -> set[str]:
        return {path.name for path in self._folder.glob(self._pattern)}

    def __call__(self) -> bool:
        return bool(self._names() - self._before)


# Where the interpreter starts, imports and reads flags nothing is written, so most runs are forked from a
# process that has imported all. It is told what to train, and tells the number of the process and in the end
# its exit code.
_FORKS = """
import json, os, sys
import tensorboard.summary.writer.record_writer, torch.utils.tensorboard.summary
from igr import data
from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder
data.load("digits", None)
for line in sys.stdin:
    path, config = json.loads(line)
    child = os.fork()
    if child == 0:
        # One that was killed at its very start is no run yet.
        if RunFolder(path).is_begun:
            loop.resume(path)
        else:
            loop.train(TrainConfig.from_json(config), path)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def forks() -> Iterator["subprocess.Popen[str]"]:
    """A process that forks others."""
    command = [sys.executable, "-c", _FORKS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        yield process
        process.stdin.close()


def kill_at(
    forks: "subprocess.Popen[str]",
    path: Path,
    config: TrainConfig,
    event: Callable[[], bool],
    seconds: float,
) -> int:
    """Kills the run at an event, without a moment's delay, or after so many seconds; its exit code."""
    assert forks.stdin is not None
    assert forks.stdout is not None
    forks.stdin.write(json.dumps([str(path), config.to_json()]) + "\n")
    forks.stdin.flush()
    process = int(forks.stdout.readline())
    deadline = time.monotonic() + seconds
    while not event() and time.monotonic() < deadline and not select.select([forks.stdout], [], [], 0)[0]:
        pass
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    return int(forks.stdout.readline())


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def is_larger(path: Path, size: float) -> bool:
    return size_of(path) > size


def left_unfinished(path: Path) -> list[str]:
    return [file.name.split("-", 2)[-1] for file in path.rglob(".unfinished*")]


@pytest.mark.slow
def test_fifty_kills_change_nothing(tmp_path, forks):
    path = tmp_path / "run"
    moments = random.Random(0)
    torn: list[str] = []
    for number in range(50):
        seconds = 60.0
        metrics = path / "metrics.jsonl"
        if number % 5 == 0:
            # Anywhere from the start on: the lock, the config, reading the checkpoint, rewinding, epochs.
            seconds, event = moments.uniform(0, 0.5), bool
        elif number % 5 == 1:
            # Where the run goes on, or begins.
            event = Fresh(path, "tensorboard/events*" if number % 2 else ".unfinished*")
            seconds = 0.3
        elif number % 5 == 2:
            event = Fresh(path, "checkpoints/.unfinished*")
        elif number % 5 == 3:
            # Between the line of an epoch, its time, and its checkpoint.
            event = partial(is_larger, metrics, size_of(metrics) + moments.uniform(0, 5000))
        else:
            event = Fresh(path, "checkpoints/step-*")
        assert kill_at(forks, path, LARGER, event, seconds) == -signal.SIGKILL
        torn += left_unfinished(path)
        assert not (path / "result.json").exists()
    # Some kills fell into the writing of a checkpoint.
    assert any("step-" in name for name in torn), torn
    assert_same_as_unbroken(path, LARGER)


@pytest.mark.slow
def test_kills_at_the_end_of_a_run_change_nothing(tmp_path, forks):
    path = tmp_path / "run"
    moments = random.Random(1)
    loop.train(SHORT, path)
    for number in range(10):
        # As it is before the end.
        (path / "result.json").unlink(missing_ok=True)
        event = Fresh(path, ".unfinished-*-result.json" if number % 2 else ".result.lock")
        (path / ".result.lock").unlink(missing_ok=True)
        if number % 3:
            code = kill_at(forks, path, SHORT, event, 60.0)
        else:
            code = kill_at(forks, path, SHORT, bool, moments.uniform(0, 0.5))
        assert code in (0, -signal.SIGKILL)
        if (path / "result.json").exists():
            json.loads((path / "result.json").read_text())
    assert_same_as_unbroken(path, SHORT)


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path):
    process = launch(tmp_path / "run", LONGER)
    while not RunFolder(tmp_path / "run").metrics():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    last = errors.decode().splitlines()[-1]
    step = RunFolder(tmp_path / "run").latest_step()
    assert last.startswith(f"igr train: stopped at step {step} of ")
    assert last.endswith(f"go on with igr train --resume {tmp_path / 'run'}")
    assert "Traceback" not in errors.decode()
