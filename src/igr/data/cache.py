"""What was read once, kept as one memory-mapped file for each data set.

The file is safetensors: a JSON header that is checked against the length of the file, then the
arrays. Opening it reads the header alone; pixels come from the disk when they are used.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pooch
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from igr import atomic, progress
from igr.errors import UserError, cut, remedy, shown

FORMAT = 1
VARIABLE = "IGR_CACHE_DIR"
# What is read at once of arrays that need not fit into memory, in bytes.
_PIECE = 2**22
_LENGTH = struct.Struct("<Q")


def folder() -> Path:
    """The cache folder: what ``IGR_CACHE_DIR`` names, or that of the system's caches."""
    return Path(os.environ.get(VARIABLE) or pooch.os_cache("igr"))


def path_of(name: str) -> Path:
    """Where the arrays of a data set are kept."""
    return folder() / f"{name}.safetensors"


def downloads_of(name: str) -> Path:
    """Where the downloaded files of a data set are kept."""
    return folder() / "downloads" / name


def is_there(name: str) -> bool:
    """Whether there is a file with the arrays of a data set, right or not.

    Raises:
        UserError: The cache folder cannot be looked at.
    """
    return exists(path_of(name))


def exists(path: Path) -> bool:
    """Whether there is such a path.

    Raises:
        UserError: The system does not tell, for lack of permission or for the length of the path.
    """
    try:
        return path.exists()
    except OSError as error:
        raise UserError(
            f"expected a path that can be looked at; got {path} ({error.strerror or error}); "
            "check it and its permissions"
        ) from error


@dataclass(frozen=True)
class Stamp:
    """A file that arrays were made of, as it was then; a file that equals its stamp is not read again."""

    path: str
    num_bytes: int
    modified: int  # nanoseconds

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """The stamp of a file as it is now."""
        status = path.stat()
        return cls(str(path.resolve()), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Arrays:
    """Images, uint8 [N, C, H, W], their labels, int64 [N], and the files that they were made of."""

    images: Tensor
    labels: Tensor
    sources: tuple[Stamp, ...]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds a data set against other processes that would download or write it; waits for its turn.

    Raises:
        UserError: The cache folder cannot be written.
    """
    try:
        folder().mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder() / f".{name}.lock")
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            with progress.spinner(f"waiting for another process that reads {name}"):
                lock.acquire()
    except OSError as error:
        raise unwritable(error) from error
    try:
        yield
    finally:
        lock.release()


def write(name: str, images: Tensor, labels: Tensor, sources: Sequence[Stamp]) -> None:
    """Keeps arrays, atomically; the caller holds :func:`locked`.

    Raises:
        UserError: The cache folder cannot be written.
    """
    # Not save_file, which makes a file that only its owner may read.
    contents = save(
        {"images": images.contiguous(), "labels": labels.contiguous()},
        {"igr": _record(name, _digest(images, labels), sources)},
    )
    path = path_of(name)
    try:
        atomic.remove_unfinished(path.parent, path.name)
        atomic.write(path, lambda temporary: temporary.write_bytes(contents))
    except OSError as error:
        raise unwritable(error) from error


def header(
    name: str, image_shape: Sequence[int], num_images: int, sha256: str, sources: Sequence[Stamp], size: int
) -> bytes:
    """What stands before the arrays in a file that is written piece by piece: labels, then images.

    Arguments:
        name: The data set.
        image_shape: Channels, height and width, in pixels.
        num_images: How many images there are.
        sha256: That of all pixels and then all labels, in hexadecimal.
        sources: The files that they were made of.
        size: How many bytes it has to have; the format lets spaces follow the JSON.
    """
    labels, pixels = num_images * 8, num_images * math.prod(image_shape)
    text = json.dumps(
        {
            "__metadata__": {"igr": _record(name, sha256, sources)},
            "labels": {"dtype": "I64", "shape": [num_images], "data_offsets": [0, labels]},
            "images": {
                "dtype": "U8",
                "shape": [num_images, *image_shape],
                "data_offsets": [labels, labels + pixels],
            },
        }
    ).encode()
    return _LENGTH.pack(size - _LENGTH.size) + text.ljust(size - _LENGTH.size)


def read(name: str, image_shape: Sequence[int], num_images: int, num_classes: int) -> Arrays:
    """The kept arrays, memory-mapped; of these only the labels are read.

    Raises:
        UserError: The file is broken, of another version, or of other images.
    """
    return _opened(name, image_shape, num_images, num_classes)[0]


def verify(name: str, image_shape: Sequence[int], num_images: int, num_classes: int) -> Arrays:
    """:func:`read`, and a look at every byte, of which few are in memory at a time.

    Raises:
        UserError: The file is not what it should be, or not what was written.
    """
    arrays, record = _opened(name, image_shape, num_images, num_classes)
    try:
        sha256 = _digest_of_file(path_of(name))
    except OSError as error:
        raise _unusable(path_of(name), "a whole cache file", f"a broken one ({error})") from error
    if sha256 != record.get("sha256"):
        raise _unusable(
            path_of(name), "the arrays that were written", "other ones, since the file is damaged"
        )
    return arrays


def _opened(
    name: str, image_shape: Sequence[int], num_images: int, num_classes: int
) -> tuple[Arrays, dict[str, Any]]:
    path = path_of(name)
    if path.exists() and not path.is_file():
        # A pipe or a device could keep a reader waiting for ever.
        raise _unusable(path, "a whole cache file", "what is no file")
    try:
        # safetensors takes a file that it may not read for one that is not there.
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"expected a cache file that can be read at {path}; got {error.strerror or error}; check its "
            f"permissions, or name another cache folder with {VARIABLE}"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["igr"])
            images, labels = (file.get_tensor(key) for key in ("images", "labels"))
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise _unusable(path, "a whole cache file", f"a broken or foreign one ({cut(error)})") from error
    if not isinstance(record, dict):
        raise _unusable(path, "a whole cache file", "one whose header is no JSON object")
    if record.get("format") != FORMAT:
        raise _unusable(
            path, f"format {FORMAT}", f"format {shown(record.get('format'))} of another version of igr"
        )
    found = {"images": _layout(images), "labels": _layout(labels)}
    expected = {
        "images": ((num_images, *image_shape), torch.uint8),
        "labels": ((num_images,), torch.int64),
    }
    if record.get("name") != name or found != expected:
        got = f"{shown(record.get('name'))} with {cut(found)}"
        raise _unusable(path, f"{name!r} with {expected}", got)
    if num_images and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        got = f"{int(labels.min())} to {int(labels.max())}, since the file is damaged"
        raise _unusable(path, f"labels from 0 to {num_classes - 1}", got)
    try:
        sources = tuple(
            Stamp(str(source["path"]), int(source["num_bytes"]), int(source["modified"]))
            for source in record["sources"]
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unusable(path, "a record of what it was made of", "none") from error
    return Arrays(images, labels, sources), record


def _record(name: str, sha256: str, sources: Sequence[Stamp]) -> str:
    """What the file says of its arrays."""
    record = {
        "format": FORMAT,
        "name": name,
        "sha256": sha256,
        "sources": [asdict(source) for source in sources],
    }
    return json.dumps(record)


def _layout(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype]:
    return tuple(tensor.shape), tensor.dtype


def _digest(images: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in (images, labels):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    """:func:`_digest` of the arrays in a file that safetensors has found whole."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        arrays = json.loads(file.read(length))
        for key in ("images", "labels"):
            start, end = arrays[key]["data_offsets"]
            for block in blocks(file, _LENGTH.size + length + start, end - start):
                digest.update(block)
    return digest.hexdigest()


def blocks(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    """So many bytes of a file from a position on, a few megabytes at a time; fewer where it ends."""
    file.seek(start)
    while size > 0 and (block := file.read(min(size, _PIECE))):
        size -= len(block)
        yield block


def _unusable(path: Path, expected: str, got: str) -> UserError:
    return UserError(
        f"expected {expected} in the cache {path}; got {got}; remove the file to have it made anew"
    )


def unwritable(error: OSError) -> UserError:
    """The error for a cache folder that does not take what has to be written."""
    return UserError(
        f"expected a cache folder that can be written; got {folder()} "
        f"({error.strerror or error}); {remedy(error)}, or name another with {VARIABLE}"
    )
