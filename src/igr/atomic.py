"""Files and folders that are either the old one or the new one, whatever kills the process between."""

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# With the process in it, so that two processes that write the same file do not share one.
_NAME = re.compile(r"\.unfinished-(\d+)-(.+)")
# In the folder whose content is being moved: what that is, in at most so many bytes.
_MOVES = ".moves.json"
_MOST_BYTES = 2**20
# The folders that threads of this process are filling, which its number does not tell from what an earlier
# process of that number has left.
_FILLED: set[str] = set()
_FILLING = threading.Lock()


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Has ``fill`` write a file beside ``path``, forces it to the disk, and renames it.

    Raises:
        OSError: The file cannot be written, which is named in it; ``path`` is then as it was.
    """
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        with _named(path):
            fill(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """:func:`write` of a text."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """:func:`write` of a JSON value, indented."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_folder(path: Path, fill: Callable[[Path], object], last: str) -> None:
    """Has ``fill`` write a folder that counts as none before it is whole; it forces its files to the disk.

    A new one is filled beside ``path`` and renamed. One that is there, and empty, stays the same folder with
    the same permissions, since it may be a mount point, or somebody's working folder: what it is to hold is
    written into a folder within and moved from there, ``last`` at the end. A process that is killed amid
    these moves leaves some of the rest, which :func:`amid_moves` tells from what others have put there, and
    which is removed when the folder is written again.

    Arguments:
        path: The folder; it need not exist, and neither need those that it is in.
        fill: Writes into an empty folder.
        last: The name of what the rest means nothing without.

    Raises:
        OSError: Something cannot be written, ``path`` is a file or not empty, or another thread or process is
            writing it. The folder is named in it, and is then as it was.
    """
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_there = path.is_dir()
        folder = path if is_there else path.parent
        temporary = folder / f".unfinished-{os.getpid()}-{path.name}"
        with _claimed(temporary):
            if is_there:
                for moved in amid_moves(path, last, temporary):
                    _remove(moved)
            # Also of an earlier process of this number, which the first one in a container always has.
            for left, name in _left_over(folder, temporary):
                if is_there or name == path.name:
                    _remove(left)
            try:
                temporary.mkdir()
                if is_there:
                    # Of two that begin at once each sees the other.
                    _check_empty(entry for entry in path.iterdir() if entry != temporary)
                fill(temporary)
                _sync_folder(temporary)
                if is_there:
                    _check_empty(entry for entry in path.iterdir() if not is_unfinished(entry))
                    _move(temporary, path, last)
                else:
                    temporary.replace(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(folder)


def is_unfinished(path: Path) -> bool:
    """Whether it is what :func:`write` or :func:`write_folder` fills before it gets its name."""
    return _NAME.fullmatch(path.name) is not None


def amid_moves(folder: Path, last: str, own: Path | None = None) -> Iterator[Path]:
    """What a process that was killed has moved into a folder of what belonged there, the last not yet.

    Each is looked at as it is asked for, since another process may put its own in the place of it.

    Arguments:
        folder: What :func:`write_folder` was filling.
        last: As there.
        own: What the caller is going to fill within, if it is.
    """
    for left, _ in list(_left_over(folder, own)):
        # Else all of it was there before the process was killed.
        if (left / last).exists():
            moved = _moves(left)
            yield from (entry for entry in list(folder.iterdir()) if moved.get(entry.name) == _mark(entry))


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left of their unfinished files and folders, and nothing of live ones.

    Arguments:
        folder: Where they are.
        name: Only those of the file of this name, all of them: nobody else may be writing it now.
    """
    if name is None:
        for path, _ in _left_over(folder):
            _remove(path)
        return
    for path, found in _unfinished(folder):
        if found[2] == name:
            _remove(path)


def _unfinished(folder: Path, own: Path | None = None) -> Iterator[tuple[Path, re.Match[str]]]:
    """What is unfinished in a folder, but for the folders that other threads of this process are filling."""
    for path in folder.glob(".unfinished-*"):
        found = _NAME.fullmatch(path.name)
        if found and (path == own or os.path.realpath(path) not in _FILLED):
            yield path, found


def _left_over(folder: Path, own: Path | None = None) -> Iterator[tuple[Path, str]]:
    """What no live process is writing of it, each with the name that it was to get."""
    for path, found in _unfinished(folder, own):
        if not _is_alive(int(found[1])):
            yield path, found[2]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # Another process may be doing so too.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Has errors of the system name what the caller knows.

    Of a disk that is full it says no name, and otherwise that of a file that nobody knows.
    """
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keeps other threads from writing or removing an unfinished folder."""
    own = os.path.realpath(folder)
    with _FILLING:
        if own in _FILLED:
            raise OSError(errno.EBUSY, "another thread is writing it")
        _FILLED.add(own)
    try:
        yield
    finally:
        _FILLED.discard(own)


def _check_empty(entries: Iterator[Path]) -> None:
    if any(True for _ in entries):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def _move(source: Path, folder: Path, last: str) -> None:
    """Moves all that is in a folder into another, where nothing of it is left if that fails."""
    names = sorted(os.listdir(source), key=lambda name: (name == last, name))
    # Since others may put something of the same name there.
    marks = {name: _mark(source / name) for name in names}
    write_json(source / _MOVES, marks)
    try:
        for name in names:
            if name == last:
                _sync_folder(folder)
            (source / name).rename(folder / name)
    except BaseException:
        for name in reversed(names):
            if _mark(folder / name) == marks[name]:
                _remove(folder / name)
        raise


def _moves(source: Path) -> dict[str, Any]:
    """What :func:`_move` wrote into a folder: the marks of what it moves, by name; nothing where it did not.

    The folder may come from a stranger, so this may be anything.
    """
    path = source / _MOVES
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return {}
        moves = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return moves if isinstance(moves, dict) else {}


def _mark(path: Path) -> list[int]:
    """What tells a file from others of its name, and stays when it is moved; empty where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return []
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _is_alive(process: int) -> bool:
    """Whether another process of this number runs on this machine."""
    if process == os.getpid():
        # What this process was writing it has finished; an earlier one had the same number.
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Whether a process has ended, and nobody has asked how: in a container there may be nobody who does."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # After the name, which stands in brackets and may hold anything.
    return stat.rpartition(")")[2].split()[:1] == ["Z"]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
