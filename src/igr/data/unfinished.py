"""Arrays too large for memory, written piece by piece into what becomes a cache file.

Beside the cache file of a set lie two others while it is being made: ``NAME.unfinished``, the file in
its whole length, and ``NAME.unfinished.json``, which says what it is made of and which pieces are
finished, each with its digest. A piece is recorded only when its bytes are on the disk, and the
record is replaced atomically, so whatever kills the process, what the record names is there; what
was there nevertheless changed is found by its digest. The last step is a rename.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from igr import atomic
from igr.data import cache
from igr.data.cache import Stamp
from igr.errors import UserError

FORMAT = 1
# Before the arrays; the record of the longest path that there can be still fits in.
_HEADER = 2**15


def path_of(name: str) -> Path:
    """The file of a set that is being made."""
    return cache.folder() / f"{name}.unfinished"


def record_of(name: str) -> Path:
    """What is finished of it."""
    return cache.folder() / f"{name}.unfinished.json"


def remove(name: str) -> None:
    """Removes what is unfinished of a set, if anything is."""
    with _written():
        # The record first: without it the file means nothing.
        record_of(name).unlink(missing_ok=True)
        path_of(name).unlink(missing_ok=True)
        atomic.remove_unfinished(cache.folder(), record_of(name).name)


def pieces_of(name: str) -> int:
    """How many pieces are recorded as finished; none where there is no record, or no right one."""
    pieces = _recorded(name).get("pieces")
    return len(pieces) if isinstance(pieces, dict) and path_of(name).is_file() else 0


class Unfinished:
    """Images that are being made; the caller holds :func:`igr.data.cache.locked`.

    What an earlier process has finished is taken over if it was made of the same.

    Arguments:
        name: The data set.
        image_shape: Channels, height and width, in pixels.
        num_images: How many images there will be.
        per_piece: How many of them are a piece; the last one has the rest.
        made_of: Whatever the pixels depend on, as JSON.

    Raises:
        UserError: The cache folder cannot be written, or has not the room.
    """

    def __init__(
        self, name: str, image_shape: Sequence[int], num_images: int, per_piece: int, made_of: dict[str, Any]
    ) -> None:
        self._name, self._image_shape, self._num_images = name, tuple(image_shape), num_images
        self._per_piece, self._image_size = per_piece, math.prod(image_shape)
        self._identity = {
            "format": FORMAT,
            "images": [num_images, *image_shape],
            "per_piece": per_piece,
            "made_of": made_of,
        }
        self._start = _HEADER + 8 * num_images
        size = self._start + num_images * self._image_size
        self._pieces: dict[str, str] = {}
        path = path_of(name)
        recorded = _recorded(name)
        with _written():
            atomic.remove_unfinished(path.parent, record_of(name).name)
            if {**recorded, "pieces": {}} == {**self._identity, "pieces": {}} and _length(path) == size:
                self._file = path.open("r+b")
                self._take_over(recorded.get("pieces"))
            else:
                remove(name)
                self._file = path.open("w+b")
                self._file.truncate(size)
        try:
            self._require_room(self._image_size * (num_images - self.num_done))
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> "Unfinished":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def missing(self) -> list[int]:
        """The numbers of the pieces that are not finished."""
        return [
            piece
            for piece in range(-(-self._num_images // self._per_piece))
            if str(piece) not in self._pieces
        ]

    @property
    def num_done(self) -> int:
        """How many images are finished."""
        return self._num_images - sum(self.length(piece) for piece in self.missing)

    def length(self, piece: int) -> int:
        """How many images a piece has."""
        return min(self._per_piece, self._num_images - piece * self._per_piece)

    def put(self, piece: int, pixels: bytes) -> None:
        """Writes a piece, and records it as finished when it is on the disk.

        Raises:
            UserError: The cache folder cannot be written.
        """
        with _written():
            self._file.seek(self._position(piece))
            self._file.write(pixels)
            self._flush()
            self._pieces[str(piece)] = hashlib.sha256(pixels).hexdigest()
            self._record()

    def finish(self, labels: Tensor, sources: Sequence[Stamp]) -> None:
        """Makes the whole, with these labels, the cache file of the set.

        Raises:
            UserError: The cache folder cannot be written.
        """
        digest = hashlib.sha256()
        with _written():
            for block in cache.blocks(self._file, self._start, self._num_images * self._image_size):
                digest.update(block)
            rest = labels.numpy().tobytes()
            digest.update(rest)
            start = cache.header(
                self._name, self._image_shape, self._num_images, digest.hexdigest(), sources, _HEADER
            )
            self._file.seek(0)
            self._file.write(start + rest)
            self._flush()
            path_of(self._name).replace(cache.path_of(self._name))
            # Writes the new name to the disk too, before the record is gone.
            self._record()
        remove(self._name)

    def _position(self, piece: int) -> int:
        return self._start + piece * self._per_piece * self._image_size

    def _take_over(self, pieces: object) -> None:
        if not isinstance(pieces, dict):
            return
        for piece in self.missing:
            digest = hashlib.sha256()
            if str(piece) in pieces:
                for block in cache.blocks(
                    self._file, self._position(piece), self.length(piece) * self._image_size
                ):
                    digest.update(block)
                if digest.hexdigest() == pieces[str(piece)]:
                    self._pieces[str(piece)] = digest.hexdigest()

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(cache.folder()).free
        if free < needed:
            raise UserError(
                f"expected {needed / 1e9:.2f} GB of free space in {cache.folder()} for {self._name}; got "
                f"{free / 1e9:.2f} GB; make room there, or name another cache folder with {cache.VARIABLE}"
            )

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _record(self) -> None:
        atomic.write_json(record_of(self._name), {**self._identity, "pieces": self._pieces})


def _recorded(name: str) -> dict[str, Any]:
    """The record of a set, as it stands; empty where there is none that can be read."""
    try:
        record = json.loads(record_of(name).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _length(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


@contextmanager
def _written() -> Iterator[None]:
    """What the system says of files that cannot be written, as one sentence."""
    try:
        yield
    except OSError as error:
        raise cache.unwritable(error) from error
