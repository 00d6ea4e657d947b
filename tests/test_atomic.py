"""Folders that are whole or not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from igr import atomic


def fill(folder: Path) -> None:
    (folder / "a").write_text("1")


def test_a_folder_takes_the_place_of_an_empty_one(tmp_path):
    atomic.write_folder(tmp_path / "x/y", fill)
    (tmp_path / "z").mkdir()
    atomic.write_folder(tmp_path / "z", fill)
    for name in ("x/y", "z"):
        assert (tmp_path / name / "a").read_text() == "1"
    assert {path.name for path in tmp_path.iterdir()} == {"x", "z"}


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(tmp_path, error):
    def fails(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises(type(error)) as caught:
        atomic.write_folder(tmp_path / "x", fails)
    assert [*tmp_path.iterdir()] == []
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(tmp_path / "x")


def test_what_is_there_stays(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine").write_text("2")
    (tmp_path / "y").write_text("3")
    for name in ("x", "y"):
        with pytest.raises(OSError, match=name):
            atomic.write_folder(tmp_path / name, fill)
    assert (tmp_path / "x/mine").read_text() == "2"
    assert (tmp_path / "y").read_text() == "3"
    assert {path.name for path in tmp_path.iterdir()} == {"x", "y"}


def test_what_killed_processes_left_is_removed_and_that_of_live_ones_is_not(tmp_path):
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(program) as live:
        with subprocess.Popen([sys.executable, "-c", ""]) as dead:
            dead.wait()
        names = [f".unfinished-{dead.pid}-x", f".unfinished-{live.pid}-x", f".unfinished-{dead.pid}-y"]
        for name in names:
            (tmp_path / name).mkdir()
            fill(tmp_path / name)
        atomic.write_folder(tmp_path / "x", fill)
        live.kill()
    assert {path.name for path in tmp_path.iterdir()} == {"x", *names[1:]}
    assert os.listdir(tmp_path / "x") == ["a"]
