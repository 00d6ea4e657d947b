"""Disks that are full or cannot be written, for real."""

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from igr.training.watchers import Watcher


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Has the system write no file beyond so many bytes: what is longer is cut there, and fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Full(Watcher):
    """Has the disk be full from a moment of training on; around it, a context that makes room again.

    Arguments:
        moment: ``"step"``: before the line of the epoch, ``"epoch"``: after it and before the checkpoint,
            ``"end"``: after the last checkpoint.
        epoch: The epoch, the first one being one.
        num_bytes: What a file may hold; with ``"step"`` beyond what the metrics have.
        metrics: The file of the metrics.
    """

    def __init__(self, moment: str, epoch: int, num_bytes: int, metrics: Path) -> None:
        self._moment, self._epoch, self._num_bytes, self._metrics = moment, epoch, num_bytes, metrics
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._num_done = self._depth = 0

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._limit(self._soft)
        elif self._moment == "end":
            self._limit(self._num_bytes)

    def advance(self, step: int) -> None:
        if self._moment == "step" and self._num_done == self._epoch - 1:
            self._limit(self._metrics.stat().st_size + self._num_bytes)

    def epoch(self, metrics: object) -> None:
        self._num_done += 1
        if self._moment == "epoch" and self._num_done == self._epoch:
            self._limit(self._num_bytes)

    def _limit(self, num_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, self._hard))


@contextmanager
def mounted(num_bytes: int) -> Iterator[Path]:
    """A file system of its own of so many bytes; skips the test where nobody may mount one."""
    folder = Path(tempfile.mkdtemp(prefix="igr-disk-"))
    how = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
    try:
        # Of users only root may, and in a container not even root as a rule.
        done = shutil.which("mount") and os.geteuid() == 0 and subprocess.run(how, capture_output=True)
        if not done or done.returncode:
            pytest.skip("needs to mount a file system, which this machine does not let us")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        folder.rmdir()


def fill(folder: Path, left: int) -> Path:
    """Fills a file system but for so many bytes, and returns the file that does."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - left))
    return ballast


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Lets nobody write a folder and what is in it; skips the test where that cannot be done."""
    if os.geteuid() != 0:
        # A user is kept out by permissions, and root by nothing but a mount.
        paths = [folder, *folder.rglob("*")]
        modes = [path.stat().st_mode for path in paths]
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode & ~0o222)
        try:
            yield
        finally:
            for path, mode in zip(paths, modes, strict=True):
                path.chmod(mode)
        return
    bound = ["mount", "--bind", str(folder), str(folder)]
    if not shutil.which("mount") or subprocess.run(bound, capture_output=True).returncode:
        pytest.skip("needs to mount a folder, which this machine does not let us")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
