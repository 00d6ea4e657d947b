"""Clocks that are set back or forward, between runs and within one, change no number and no order."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from igr.cli.sweep import Display
from igr.training import loop
from igr.training.board import Board
from igr.training.failures import Interrupted
from igr.training.run_folder import RunFolder
from igr.training.watchers import Watcher
from interruptions import InterruptAt, state
from tiny_runs import TINY

YEAR = 366 * 86_400.0


class Jumps(Watcher):
    """Sets the clock of the process on by so much after each step."""

    def __init__(self, clock: "Clock", seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def advance(self, step: int) -> None:
        self._clock.offset += self._seconds


class Clock:
    """The time of the day, off by so many seconds; what counts seconds stays as it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = 0.0
        usual = time.time
        monkeypatch.setattr(time, "time", lambda: usual() + self.offset)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("seconds", [-YEAR, YEAR, -0.5])
def test_a_clock_that_jumps_within_a_run(seconds, clock, tmp_path):
    loop.train(TINY, tmp_path / "steady")
    loop.train(TINY, tmp_path / "jumping", Jumps(clock, seconds))
    assert state(tmp_path / "jumping") == state(tmp_path / "steady")
    times = [line["seconds"] for line in RunFolder(tmp_path / "jumping").timings()]
    assert all(0 <= each < 60 for each in times)
    assert RunFolder(tmp_path / "jumping").result()["training"]["seconds"] < 60


def test_checkpoints_are_ordered_by_their_steps_and_not_by_their_times(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        loop.train(TINY, path, InterruptAt(3))
    files = sorted((path / "checkpoints").iterdir())
    assert [file.name for file in files] == ["step-00000002.safetensors", "step-00000003.safetensors"]
    # The older one says that it is of a time to come, and so does all else.
    for file in path.rglob("*"):
        os.utime(file, (2**32, 2**32))
    os.utime(files[-1], (0, 0))
    assert RunFolder(path).latest_step() == 3
    loop.resume(path)
    loop.train(TINY, tmp_path / "unbroken")
    assert state(path) == state(tmp_path / "unbroken")


def events(folder: Path) -> dict[int, float]:
    board = EventAccumulator(str(folder))
    board.Reload()
    return {event.step: event.value for event in board.Scalars("seconds per epoch")}


@pytest.mark.parametrize("seconds", [-YEAR, 0.0, YEAR])
def test_the_board_of_a_run_that_goes_on_when_the_clock_was_set(seconds, clock, tmp_path):
    folder = tmp_path / "tensorboard"
    with Board(folder, 0) as board:
        for step in (2, 4, 6):
            board.figures({"step": step}, 1.0)
    # The first process was killed after the checkpoint at step 4.
    clock.offset = seconds
    with Board(folder, 4) as board:
        for step in (6, 8):
            board.figures({"step": step}, 2.0)
    assert events(folder) == {2: 1.0, 4: 1.0, 6: 2.0, 8: 2.0}
    assert len(list(folder.iterdir())) == 2


def test_the_time_left_of_a_sweep_is_counted_and_not_read_from_the_clock(clock, capsys):
    display = Display()
    display.begin(0, 4)
    clock.offset = -YEAR

    class Run:
        path = Path("group/run")

    run: Any = Run()
    display.finished(run, None, 1, 4)
    assert capsys.readouterr().err == "[1/4] group/run, about 0 s left\n"


def test_no_duration_is_measured_by_the_time_of_the_day():
    source = Path(loop.__file__).parents[1]
    # The one that reads it names event files by it, whose format wants times.
    readers = {
        path.name
        for path in source.rglob("*.py")
        if re.search(r"time\.time\(|import datetime|datetime\.now", path.read_text(encoding="utf-8"))
    }
    assert readers == {"board.py"}
