"""Files that are either the old one or the new one, whatever kills the process between."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MARK = ".unfinished-"


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Has ``fill`` write a file beside ``path``, forces it to the disk, and renames it.

    Raises:
        OSError: The file cannot be written; ``path`` is then as it was.
    """
    temporary = path.with_name(f"{_MARK}{path.name}")
    try:
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


def is_unfinished(path: Path) -> bool:
    """Whether a file is what a killed process left of one that it was writing."""
    return path.name.startswith(_MARK)


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left of their unfinished files."""
    for leftover in folder.glob(f"{_MARK}*"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
