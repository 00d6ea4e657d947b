"""Files and folders that are either the old one or the new one, whatever kills the process between."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

# With the process in it, so that two processes that write the same file do not share one.
_NAME = re.compile(r"\.unfinished-(\d+)-(.+)")


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Has ``fill`` write a file beside ``path``, forces it to the disk, and renames it.

    Raises:
        OSError: The file cannot be written, which is named in it; ``path`` is then as it was.
    """
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        fill(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError):
            # Of a disk that is full the system says no name, and otherwise that of a file that nobody knows.
            error.filename, error.filename2 = str(path), None
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """:func:`write` of a text."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """:func:`write` of a JSON value, indented."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Has ``fill`` write a folder beside ``path``, and renames it; its files are forced to the disk by it.

    Arguments:
        path: The folder; it need not exist, and neither need those that it is in.
        fill: Writes into an empty folder.

    Raises:
        OSError: Something cannot be written, or ``path`` is a file or not empty; it is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(".unfinished-*"):
        found = _NAME.fullmatch(left.name)
        if found and found[2] == path.name and not _is_alive(int(found[1])):
            # Of a process that was killed.
            shutil.rmtree(left, ignore_errors=True)
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    temporary.mkdir()
    try:
        fill(temporary)
        _sync_folder(temporary)
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether a file is what :func:`write` fills before it renames it."""
    return _NAME.fullmatch(path.name) is not None


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left of their unfinished files, and nothing of live ones.

    Arguments:
        folder: Where they are.
        name: Only those of the file of this name, all of them: nobody else may be writing it now.
    """
    for path in folder.glob(".unfinished-*"):
        found = _NAME.fullmatch(path.name)
        if found and (not _is_alive(int(found[1])) if name is None else found[2] == name):
            path.unlink(missing_ok=True)


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
