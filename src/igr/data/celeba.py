"""CelebA: 202,599 photographs of faces, brought to 64x64 in colour.

The archive is that of the aligned and cropped images, 178 pixels wide and 218 high; nothing is
downloaded, since its owners give it to those who agree to their terms. The images stay in the order
of their numbers, and the splits are the published ones: 1 to 162,770 for training, to 182,637 for
validation, to 202,599 for test. Of each image the central square is resized by Pillow
(:func:`igr.data.celeba_worker.small_face`). The archive has no labels: all are 0.

References:
    Deep Learning Face Attributes in the Wild (Liu, Luo, Wang and Tang, 2015)
"""

import hashlib
import json
import os
import selectors
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import features

from igr import progress
from igr.data import cache, celeba_worker, unfinished
from igr.data.cache import Arrays, Stamp
from igr.data.celeba_archive import ADVICE, NAME, PAGE, inspect
from igr.data.celeba_worker import HEIGHT, SMALL, WIDTH, Entry
from igr.data.dataset import Dataset, Source, State, Stopped
from igr.data.unfinished import Unfinished
from igr.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CelebASource(Source):
    """The faces of an archive that the user brings, prepared once.

    Arguments:
        images_per_piece: How many images a process prepares at a time; what is lost by a kill is at
            most such a piece of each process.
        folders: Where the archive may lie below a data folder, besides in it.
    """

    images_per_piece: int = 1024
    folders: tuple[str, ...] = ("celeba",)

    @property
    def reads_files(self) -> bool:
        return True

    @property
    def takes_archive(self) -> bool:
        return True

    def state(self, data_dir: Path | None) -> State:
        if data_dir is not None:
            archive = self._present(data_dir)
            if archive is None:
                return State("absent", f"no {NAME} in {data_dir / self.folders[0]}")
            try:
                kept = self._arrays_of(archive)
            except UserError as error:
                return State("broken", str(error))
            if kept is None:
                return State("broken", f"{archive}, {self._to_be_prepared(data_dir)}")
        elif cache.is_there(self.name):
            try:
                kept = self._arrays()
            except UserError as error:
                return State("broken", str(error))
        else:
            return State("absent", f"{self._to_be_prepared(None)}, {NAME} being from {PAGE}")
        path = cache.path_of(self.name)
        made_of = ", ".join(stamp.path for stamp in kept.sources)
        return State("ready", f"{path}, made of {made_of}", path.stat().st_size)

    def load(self, data_dir: Path | None) -> Dataset:
        if data_dir is not None:
            kept = self._arrays_of(self._found(data_dir))
        else:
            kept = self._arrays() if cache.is_there(self.name) else None
        if kept is None:
            # Many minutes of work, which whoever wants to train should not find himself waiting for.
            raise self._unprepared(data_dir)
        return self.split(kept.images, kept.labels)

    def prepare(
        self, data_dir: Path | None, archive: Path | None = None, workers: int | None = None
    ) -> Dataset:
        if workers is not None and workers < 1:
            raise UserError(f"expected 1 or more workers; got {workers}; change workers")
        if archive is not None and data_dir is not None:
            raise UserError(
                f"expected an archive or a data folder with it for {self.name}; got both, {archive} and "
                f"{data_dir}; leave one out"
            )
        if archive is None:
            if data_dir is None:
                return self.load(None)
            archive = self._found(data_dir)
        kept = self._arrays_of(archive)
        if kept is None:
            with cache.locked(self.name):
                # Another process may have been faster.
                kept = self._arrays_of(archive)
                if kept is None:
                    self._make(archive, workers or os.cpu_count() or 1)
                    kept = self._arrays()
        return self.split(kept.images, kept.labels)

    def check(self, data_dir: Path | None) -> list[str]:
        kept = cache.path_of(self.name)
        arrays = None
        report = []
        if cache.is_there(self.name):
            arrays = cache.verify(self.name, self.image_shape, sum(self.sizes), len(self.class_names))
            report.append(f"the cache {kept} holds {len(arrays.images):,} images, as they were written")
        if data_dir is not None:
            archive = self._found(data_dir)
            self._compare(archive, arrays)
            report.append(f"{archive} holds {sum(self.sizes):,} images, checksums right")
            if arrays is not None:
                report.append("the cache holds the images of this archive")
        if not report:
            raise self._unprepared(None)
        return report

    def _arrays(self) -> Arrays:
        return cache.read(self.name, self.image_shape, sum(self.sizes), len(self.class_names))

    def _arrays_of(self, archive: Path) -> Arrays | None:
        """What the cache has, if it is of this archive, wherever that was then."""
        stamp = _stamp(archive)
        if not cache.is_there(self.name):
            return None
        arrays = self._arrays()
        made_of = [(source.num_bytes, source.modified) for source in arrays.sources]
        return arrays if made_of == [(stamp.num_bytes, stamp.modified)] else None

    def _make(self, archive: Path, workers: int) -> None:
        # Taken before it is read: an archive that changes meanwhile does not match its stamp.
        stamp = _stamp(archive)
        total = sum(self.sizes)
        entries = inspect(archive, total)
        made_of = {
            "num_bytes": stamp.num_bytes,
            "modified": stamp.modified,
            "entries": hashlib.sha256(json.dumps(entries).encode()).hexdigest(),
            # Other versions may round otherwise.
            "decoder": [PIL.__version__, features.version("jpg"), features.version("libjpeg_turbo")],
        }
        try:
            with Unfinished(self.name, self.image_shape, total, self.images_per_piece, made_of) as images:
                with progress.bar(f"preparing {self.name}", total, "images") as show:
                    show(images.num_done)
                    pieces = {piece: self._piece(entries, piece) for piece in images.missing}
                    for piece, pixels in _prepared(archive, stamp, pieces, workers):
                        images.put(piece, pixels)
                        show(images.num_done)
                images.finish(torch.zeros(total, dtype=torch.int64), [stamp])
        except _BrokenArchive:
            # There will have to be another archive, of which nothing is prepared.
            unfinished.remove(self.name)
            raise
        except KeyboardInterrupt as interrupt:
            raise Stopped(
                f"stopped after {self._num_done():,} of {total:,} images of {self.name}, which are kept; "
                f"go on with igr data prepare {self.name} --archive {shlex.quote(str(archive))}"
            ) from interrupt

    def _compare(self, archive: Path, arrays: Arrays | None) -> None:
        """Reads an archive again, and compares its images with those of the cache."""
        stamp = _stamp(archive)
        total = sum(self.sizes)
        entries = inspect(archive, total)
        count = -(-total // self.images_per_piece)
        pieces = {piece: self._piece(entries, piece) for piece in range(count)}
        done = 0
        with progress.bar(f"reading {self.name}", total, "images") as show:
            for piece, pixels in _prepared(archive, stamp, pieces, os.cpu_count() or 1):
                images = np.frombuffer(pixels, np.uint8).reshape(-1, *self.image_shape)
                first = piece * self.images_per_piece
                if arrays is not None:
                    kept = arrays.images[first : first + len(images)]
                    if not np.array_equal(kept.numpy(), images):
                        raise UserError(
                            f"expected the images of {archive} in the cache {cache.path_of(self.name)}; got "
                            "other ones; remove the cache file and prepare it anew"
                        )
                done += len(images)
                show(done)

    def _piece(self, entries: Sequence[Entry], piece: int) -> Sequence[Entry]:
        first = piece * self.images_per_piece
        return entries[first : first + self.images_per_piece]

    def _present(self, data_dir: Path) -> Path | None:
        places = (*(data_dir / folder / NAME for folder in self.folders), data_dir / NAME)
        return next(filter(cache.exists, places), None)

    def _found(self, data_dir: Path) -> Path:
        archive = self._present(data_dir)
        if archive is None:
            places = " or ".join(str(data_dir / folder) for folder in self.folders)
            raise UserError(
                f"expected {NAME} of {self.name} in {places} or {data_dir}; got no such file; get it from "
                f"{PAGE}, or name another folder with --data-dir"
            )
        return archive

    def _to_be_prepared(self, data_dir: Path | None) -> str:
        """How it comes to be here, and how far it is."""
        done = self._num_done()
        command = f"igr data prepare {self.name} {_flag(data_dir)}"
        if done:
            return f"{done:,} of {sum(self.sizes):,} images are prepared, go on with {command}"
        return f"to be prepared with {command}"

    def _num_done(self) -> int:
        """How many images an unfinished preparation has."""
        return min(unfinished.pieces_of(self.name) * self.images_per_piece, sum(self.sizes))

    def _unprepared(self, data_dir: Path | None) -> UserError:
        place = f"made of the archive in {data_dir} " if data_dir is not None else ""
        return UserError(
            f"expected {self.name} {place}in {cache.path_of(self.name)}; got no such images; prepare them "
            f"once with igr data prepare {self.name} {_flag(data_dir)}, {NAME} being from {PAGE}"
        )


class _BrokenArchive(UserError):
    """An image in the archive is not what it should be."""


def _flag(data_dir: Path | None) -> str:
    """What names the archive in a command."""
    return f"--archive {NAME}" if data_dir is None else f"--data-dir {shlex.quote(str(data_dir))}"


def _stamp(archive: Path) -> Stamp:
    try:
        return Stamp.of(archive)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"expected the archive {NAME} at {archive}; got {reason}; {ADVICE}") from error


def _prepared(
    archive: Path, stamp: Stamp, pieces: Mapping[int, Sequence[Entry]], workers: int
) -> Iterator[tuple[int, bytes]]:
    """The pixels of the pieces, by their numbers, in the order in which they are finished.

    Raises:
        _BrokenArchive: An image is not what it should be.
        ChildProcessError: A worker was killed.
    """
    waiting = list(reversed(list(pieces.items())))
    at_work: dict[_Process, int] = {}
    with (
        _workers(archive, stamp, min(workers, len(pieces))) as processes,
        selectors.DefaultSelector() as selector,
    ):

        def start(process: _Process) -> None:
            if waiting:
                at_work[process], entries = waiting.pop()
                _send(process, entries)

        for process in processes:
            selector.register(process.stdout, selectors.EVENT_READ, process)
            start(process)
        while at_work:
            for key, _ in selector.select():
                piece = at_work.pop(key.data)
                pixels = _receive(key.data, archive)
                # It goes on while the caller writes.
                start(key.data)
                yield piece, pixels


_Process = subprocess.Popen[bytes]


@contextmanager
def _workers(archive: Path, stamp: Stamp, count: int) -> Iterator[list[Any]]:
    """Processes of :mod:`igr.data.celeba_worker`, which end with the body."""
    processes: list[_Process] = []
    # With -P its folder, where our modules have names like those of others, is no place to import from.
    command = [sys.executable, "-P", celeba_worker.__file__, str(archive)]
    try:
        for _ in range(count):
            processes.append(  # noqa: PERF401, those that have started have to be ended
                subprocess.Popen(
                    [*command, str(stamp.num_bytes), str(stamp.modified)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    # Out of reach of Ctrl-C, which this process answers for all.
                    process_group=0,
                )
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


def _send(process: Any, entries: Sequence[Entry]) -> None:
    try:
        process.stdin.write(json.dumps(entries).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError as error:
        raise _lost(process) from error


def _receive(process: Any, archive: Path) -> bytes:
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise _lost(process)
    answer = json.loads(line)
    if "entry" in answer:
        raise _BrokenArchive(
            f"expected a JPEG image in colour of {WIDTH} x {HEIGHT} pixels as {answer['entry']} in "
            f"{archive}; got {answer['got']}; {ADVICE}"
        )
    if "got" in answer:
        raise UserError(
            f"expected an archive that can be read and stays as it is at {archive}; got {answer['got']}; "
            "give the command again"
        )
    pixels: bytes = process.stdout.read(answer["num_bytes"])
    if len(pixels) < answer["num_bytes"]:
        raise _lost(process)
    return pixels


def _lost(process: Any) -> ChildProcessError:
    process.kill()
    return ChildProcessError(
        f"a process that prepares images ended by itself (exit code {process.wait()}), perhaps for lack of "
        "memory; what is finished is kept, give the command again, with fewer workers if need be"
    )


CELEBA = CelebASource(
    name="celeba",
    origin="CelebA, photographs of faces (Liu et al.)",
    sizes=(162_770, 19_867, 19_962),
    image_shape=(3, SMALL, SMALL),
    class_names=("face",),
)
