"""Real processes, killed for real: a resumed run equals an unbroken one bit for bit."""

import dataclasses
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.runs import RunFolder

# A checkpoint at each epoch, so that kills fall into their writing too.
SMALL = TrainConfig(
    network="dense", num_variables=5, num_categories=4, epochs=60, checkpoint_every=1
).resolved()
LONGER = dataclasses.replace(SMALL, epochs=500)


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


def test_a_kill_changes_nothing(tmp_path):
    kill_after(tmp_path / "run", SMALL, epochs=3, delay=0.013)
    assert_same_as_unbroken(tmp_path / "run", SMALL)


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path):
    moments = random.Random(0)
    for _ in range(10):
        kill_after(tmp_path / "run", LONGER, moments.randrange(0, 40), moments.uniform(0, 0.05))
    assert_same_as_unbroken(tmp_path / "run", LONGER)


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
