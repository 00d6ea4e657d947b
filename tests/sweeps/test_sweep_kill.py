"""Sweeps in processes of their own, killed for real: started again they end as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_sweep import files, results

from igr.sweeps import Group, expand, groups_of, run_sweep
from igr.training.run_folder import RunFolder

GRID = {
    "network": "dense",
    "num_variables": 2,
    "num_categories": 3,
    "max_images": 50,
    "batch_size": 25,
    "epochs": 40,
    "checkpoint_every": 10,
    "num_eval_samples": 4,
    "tensorboard": False,
}


def flags(grid: dict[str, object]) -> list[str]:
    words = []
    for key, given in grid.items():
        name = key.replace("_", "-")
        values = given if isinstance(given, list) else [given]
        words += [f"--no-{name}"] if given is False else [f"--{name}", *map(str, values)]
    return words


def launch(
    folder: Path, grid: dict[str, object], workers: int, replicas: bool = False
) -> "subprocess.Popen[bytes]":
    """Starts the sweep, or goes on with it, in a group of processes of its own."""
    command = [sys.executable, "-m", "igr", "sweep", *flags(grid), "--tune-first-seed"]
    command += ["--replicas"] if replicas else []
    return subprocess.Popen(
        [*command, "--workers", str(workers), "--out", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def groups(grid: dict[str, object]) -> list[Group]:
    return groups_of(expand(grid), tune_all=False)


def num_epochs(folder: Path) -> int:
    """The epochs that all runs together have finished."""
    return sum(len(RunFolder(path.parent).metrics()) for path in folder.rglob("metrics.jsonl"))


def wait_for_epochs(process: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    """Waits until so many epochs were done, or the sweep has ended."""
    deadline = time.monotonic() + 120
    while process.poll() is None and num_epochs(folder) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [*map(int, path.read_text().split())] if path.exists() else []


def is_alive(process: int) -> bool:
    """Whether it runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of the runs that have been trained and evaluated on the test images."""
    done = [path.parent for path in folder.rglob("result.json") if '"evaluation"' in path.read_text()]
    return {f"{path}/{name}": stamp for path in done for name, stamp in files(path).items()}


@pytest.mark.slow
def test_a_sweep_whose_parent_is_killed_leaves_no_process_and_goes_on(tmp_path):
    grid = {**GRID, "seed": [0, 1]}
    process = launch(tmp_path / "a", grid, workers=2)
    wait_for_epochs(process, tmp_path / "a", 30)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    # At once: it waits for those that are about to notice.
    before = finished(tmp_path / "a")
    outcome = run_sweep(groups(grid), tmp_path / "a")
    assert outcome.failures == ()
    assert not any(map(is_alive, workers))
    assert before.items() <= finished(tmp_path / "a").items()
    run_sweep(groups(grid), tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_any_moment_ends_with_the_same_results(tmp_path):
    grid = {**GRID, "latent": ["igr", "gumbel-softmax"], "temperature": [0.2, 1.0], "seed": [0, 1, 2]}
    grid["epochs"] = 200
    moments = random.Random(0)
    for number in range(10):
        process = launch(tmp_path / "a", grid, workers=1 + number % 2)
        wait_for_epochs(process, tmp_path / "a", num_epochs(tmp_path / "a") + moments.randrange(0, 200))
        time.sleep(moments.uniform(0, 0.3))
        before = finished(tmp_path / "a")
        assert process.poll() is None
        if number % 3:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        assert before.items() <= finished(tmp_path / "a").items()
    assert run_sweep(groups(grid), tmp_path / "a").failures == ()
    run_sweep(groups(grid), tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_leaves_checkpoints_and_says_how_to_go_on(tmp_path, number):
    grid = {**GRID, "epochs": 2000, "seed": [0, 1]}
    process = launch(tmp_path / "a", grid, workers=2)
    wait_for_epochs(process, tmp_path / "a", 50)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    last = errors.decode().splitlines()[-1]
    assert last.startswith("igr sweep: stopped after 0 of 2 runs; go on with igr sweep --network dense ")
    assert "Traceback" not in errors.decode()
    for run in groups(grid)[0].runs_of(0):
        folder = RunFolder(tmp_path / "a" / run.path)
        lines = len(folder.metrics())
        assert lines <= (folder.latest_step() or 0) / 2 < lines + 1


@pytest.mark.slow
def test_replicas_that_are_killed_at_any_moment_find_what_unbroken_ones_find(tmp_path):
    grid = {**GRID, "temperature": [0.2, 1.0], "seed": [0, 1, 2], "epochs": 400, "checkpoint_every": 1}
    grid |= {"precision": "float64", "kl": "relaxed"}
    moments = random.Random(0)
    for number in range(6):
        process = launch(tmp_path / "a", grid, workers=1 + number % 2, replicas=True)
        wait_for_epochs(process, tmp_path / "a", num_epochs(tmp_path / "a") + moments.randrange(0, 100))
        time.sleep(moments.uniform(0, 0.3))
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert run_sweep(groups(grid), tmp_path / "a", replicas=True).failures == ()
    run_sweep(groups(grid), tmp_path / "b", replicas=True)
    assert not list((tmp_path / "a").rglob(".unfinished*"))
    found, expected = (
        {
            (path.parent.name, line["step"]): (line["train_bound"], line["validation_bound"])
            for path in folder.rglob("metrics.jsonl")
            for line in RunFolder(path.parent).metrics()
        }
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert found.keys() == expected.keys()
    # Those that fell behind were stacked with others than before.
    assert all(found[key] == pytest.approx(expected[key], rel=1e-6) for key in expected)
