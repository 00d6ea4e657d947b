"""Folders that are whole or not there."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from igr import atomic


def fill(folder: Path) -> None:
    (folder / "a").write_text("1")


def fill_two(folder: Path) -> None:
    fill(folder)
    (folder / "last").write_text("2")


def test_a_folder_takes_the_place_of_an_empty_one(tmp_path):
    atomic.write_folder(tmp_path / "x/y", fill, "a")
    (tmp_path / "z").mkdir()
    atomic.write_folder(tmp_path / "z", fill, "a")
    for name in ("x/y", "z"):
        assert (tmp_path / name / "a").read_text() == "1"
    assert {path.name for path in tmp_path.iterdir()} == {"x", "z"}


def test_an_empty_folder_is_filled_and_stays_the_folder_that_it_is(tmp_path, monkeypatch):
    """It may be the working folder of a shell, a mount point, or one that others may not look into."""
    (tmp_path / "x").mkdir(mode=0o700)
    before = (tmp_path / "x").stat()
    monkeypatch.chdir(tmp_path / "x")
    moved: list[str] = []
    real = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: (moved.append(path.name), real(path, to))[1])
    atomic.write_folder(Path.cwd(), fill_two, "last")
    after = (tmp_path / "x").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert sorted(os.listdir()) == ["a", "last"]
    assert moved == ["a", "last"]
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["a", "last"])
def test_an_empty_folder_that_cannot_be_filled_is_empty_again(tmp_path, name, monkeypatch):
    real = Path.rename

    def fails(path: Path, to: Path) -> Path:
        if path.name == name:
            raise OSError(28, "full")
        return real(path, to)

    monkeypatch.setattr(Path, "rename", fails)
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="full") as caught:
        atomic.write_folder(tmp_path / "x", fill_two, "last")
    assert caught.value.filename == str(tmp_path / "x")
    assert os.listdir(tmp_path / "x") == []
    assert os.listdir(tmp_path) == ["x"]


def test_what_others_put_into_an_empty_folder_meanwhile_stays(tmp_path):
    (tmp_path / "x").mkdir()

    def meets(folder: Path) -> None:
        fill(folder)
        (tmp_path / "x/a").write_text("mine")

    with pytest.raises(OSError, match="not empty"):
        atomic.write_folder(tmp_path / "x", meets, "a")
    assert os.listdir(tmp_path / "x") == ["a"]
    assert (tmp_path / "x/a").read_text() == "mine"


def test_what_a_killed_process_left_in_an_empty_folder_is_no_content(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    left = tmp_path / f"x/.unfinished-{dead.pid}-x"
    left.mkdir(parents=True)
    fill(left)
    atomic.write_folder(tmp_path / "x", fill, "a")
    assert os.listdir(tmp_path / "x") == ["a"]


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(tmp_path, error):
    def fails(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises(type(error)) as caught:
        atomic.write_folder(tmp_path / "x", fails, "a")
    assert [*tmp_path.iterdir()] == []
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(tmp_path / "x")


@pytest.mark.parametrize("name", ["file/model", "file/a/b/model", "new/" + 250 * "x"])
def test_the_folder_is_named_where_none_can_be_made(tmp_path, name):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OSError, match=r"File exists|Not a directory|File name too long") as caught:
        atomic.write_folder(tmp_path / name, fill, "a")
    assert caught.value.filename == str(tmp_path / name)
    assert caught.value.filename2 is None


@pytest.mark.parametrize("is_there", [False, True])
def test_what_another_thread_writes_is_left_alone(tmp_path, is_there):
    """Threads of one process share its number, so the number alone does not tell what is left over."""
    path, begun, done = tmp_path / "x", Event(), Event()
    if is_there:
        path.mkdir()

    def slow(folder: Path) -> None:
        begun.set()
        assert done.wait(30)
        fill_two(folder)

    with ThreadPoolExecutor() as threads:
        writing = threads.submit(atomic.write_folder, path, slow, "last")
        assert begun.wait(30)
        try:
            for folder in (tmp_path, path):
                atomic.remove_unfinished(folder)
                atomic.remove_unfinished(folder, "x")
            with pytest.raises(OSError, match="another thread is writing it") as caught:
                atomic.write_folder(path, fill, "a")
        finally:
            done.set()
        writing.result()
    assert caught.value.filename == str(path)
    assert sorted(os.listdir(path)) == ["a", "last"]
    assert os.listdir(tmp_path) == ["x"]
    atomic.write_folder(tmp_path / "y", fill, "a")


# As power or a scheduler would: nothing is tidied up. A step is a call that changes the file system.
KILLED = """
import importlib.util, os, sys
from pathlib import Path

# Without the package, whose import of torch takes long.
spec = importlib.util.spec_from_file_location("atomic", sys.argv[2])
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
steps = int(sys.argv[1])
def counted(real):
    def call(*arguments, **named):
        global steps
        if steps == 0:
            os._exit(9)
        steps -= 1
        return real(*arguments, **named)
    return call

for name in ("rename", "replace", "mkdir", "write_text"):
    setattr(Path, name, counted(getattr(Path, name)))
os.unlink, os.rmdir = counted(os.unlink), counted(os.rmdir)

def fill(folder):
    for name in ("a", "b", "last"):
        (folder / name).write_text("old")

atomic.write_folder(Path("x"), fill, "last")
"""


@pytest.mark.parametrize("is_there", [True, False])
def test_a_process_that_is_killed_at_any_step_leaves_nothing_in_the_way(tmp_path, is_there):
    def newer(folder: Path) -> None:
        for name in ("a", "last"):
            (folder / name).write_text("new")

    seen = set()
    for steps in range(30):
        place = tmp_path / str(steps)
        (place / "x" if is_there else place).mkdir(parents=True)
        killed = subprocess.run([sys.executable, "-c", KILLED, str(steps), atomic.__file__], cwd=place)
        path = place / "x"
        found = sorted(entry.name for entry in path.glob("[!.]*"))
        seen.add(tuple(found))
        if "last" in found:
            # Whole, though the process may have been killed afterwards.
            assert found == ["a", "b", "last"]
            with pytest.raises(OSError, match="not empty"):
                atomic.write_folder(path, newer, "last")
        else:
            assert {*atomic.amid_moves(path, "last")} == {path / name for name in found}
            if found == ["a", "b"]:
                # Another file of that name, which others have put there since.
                (path / "mine").write_text("mine")
                (path / "mine").replace(path / "b")
                assert {*atomic.amid_moves(path, "last")} == {path / "a"}
                with pytest.raises(OSError, match="not empty"):
                    atomic.write_folder(path, newer, "last")
                assert (path / "b").read_text() == "mine"
                (path / "b").unlink()
            atomic.write_folder(path, newer, "last")
            assert sorted(os.listdir(path)) == ["a", "last"]
            assert (path / "a").read_text() == "new"
            assert os.listdir(place) == ["x"]
        if killed.returncode == 0:
            break
    assert killed.returncode == 0
    moves = [(), ("a",), ("a", "b"), ("a", "b", "last")]
    assert seen == set(moves if is_there else moves[::3])


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What a process that was killed amid its moves has left in a folder, but for its file of these."""
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    folder = tmp_path / f"x/.unfinished-{dead.pid}-x"
    folder.mkdir(parents=True)
    (folder / "last").write_text("2")
    return folder


def test_nothing_outside_of_a_folder_is_removed_whatever_is_said_of_it(tmp_path, left):
    """The folder may come from a stranger, who may look at the files of others."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "others").mkdir()
    fill(tmp_path / "others")
    moves = {}
    for path in (tmp_path / "mine", tmp_path / "others", tmp_path / "others/a", tmp_path):
        found = path.stat()
        mark = [found.st_ino, found.st_size, found.st_mtime_ns]
        for name in (str(path), os.path.relpath(path, tmp_path / "x")):
            moves[name] = mark
    found = (tmp_path / "x").stat()
    moves["."] = [found.st_ino, found.st_size, found.st_mtime_ns]
    for said in (moves, [[name, *mark] for name, mark in moves.items()]):
        (left / ".moves.json").write_text(json.dumps(said))
        assert {*atomic.amid_moves(tmp_path / "x", "last")} == set()
    atomic.write_folder(tmp_path / "x", fill, "a")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "others/a").read_text() == "1"
    assert os.listdir(tmp_path / "x") == ["a"]


@pytest.mark.parametrize(
    "said",
    ["", "{", "5", "null", '"a"', '["a"]', '{"a": 5}', '{"a": null}', '{"a": [[]]}', "[" * 100_000, b"\xff"],
)
def test_what_says_nothing_of_moves_names_none(tmp_path, left, said):
    (tmp_path / "x/a").write_text("mine")
    (left / ".moves.json").write_bytes(said if isinstance(said, bytes) else said.encode())
    assert {*atomic.amid_moves(tmp_path / "x", "last")} == set()
    with pytest.raises(OSError, match="not empty"):
        atomic.write_folder(tmp_path / "x", fill, "a")
    assert (tmp_path / "x/a").read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "pipe", "large", "link to what has no end"])
def test_what_is_no_small_file_is_not_read_for_moves(tmp_path, left, kind):
    path = left / ".moves.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as file:
            # Of holes, which take no place on a disk.
            file.truncate(2**40)
    else:
        path.symlink_to("/dev/zero")
    assert {*atomic.amid_moves(tmp_path / "x", "last")} == set()


def test_what_another_process_writes_while_a_slower_one_tidies_up_stays(tmp_path, left, monkeypatch):
    path, moves = tmp_path / "x", {}
    for name in ("a", "b"):
        (path / name).write_text("old")
        found = (path / name).stat()
        moves[name] = [found.st_ino, found.st_size, found.st_mtime_ns]
    (left / ".moves.json").write_text(json.dumps(moves))
    real = atomic._remove

    def overtaken(_: Path) -> None:
        monkeypatch.setattr(atomic, "_remove", real)
        for old in (left, path / "a", path / "b"):
            real(old)
        for name in ("a", "b", "last"):
            (tmp_path / name).write_text("new")
            (tmp_path / name).rename(path / name)

    monkeypatch.setattr(atomic, "_remove", overtaken)
    with pytest.raises(OSError, match="not empty"):
        atomic.write_folder(path, fill, "last")
    assert {entry.name: entry.read_text() for entry in path.iterdir()} == dict.fromkeys(
        ("a", "b", "last"), "new"
    )


def test_what_others_put_in_the_place_of_a_moved_file_stays_where_a_move_fails(tmp_path, monkeypatch):
    real = Path.rename

    def fails(path: Path, to: Path) -> Path:
        if path.name == "last":
            (tmp_path / "mine").write_text("mine")
            (tmp_path / "mine").replace(tmp_path / "x/a")
            raise OSError(28, "full")
        return real(path, to)

    (tmp_path / "x").mkdir()
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="full"):
        atomic.write_folder(tmp_path / "x", fill_two, "last")
    assert os.listdir(tmp_path / "x") == ["a"]
    assert (tmp_path / "x/a").read_text() == "mine"


def test_of_two_processes_that_fill_an_empty_folder_the_second_is_refused(tmp_path):
    live = tmp_path / f"x/.unfinished-{os.getppid()}-x"
    live.mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        atomic.write_folder(tmp_path / "x", fill, "a")
    assert [*(tmp_path / "x").iterdir()] == [live]


def test_what_is_there_stays(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine").write_text("2")
    (tmp_path / "y").write_text("3")
    for name in ("x", "y"):
        with pytest.raises(OSError, match=name):
            atomic.write_folder(tmp_path / name, fill, "a")
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
        atomic.write_folder(tmp_path / "x", fill, "a")
        live.kill()
    assert {path.name for path in tmp_path.iterdir()} == {"x", *names[1:]}
    assert os.listdir(tmp_path / "x") == ["a"]
