"""What was read once, kept as one memory-mapped file for each data set.

The file is safetensors: a JSON header that is checked against the length of the file, then the
arrays. Opening it reads the header alone; pixels come from the disk when they are used.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pooch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from igr import atomic
from igr.errors import UserError

FORMAT = 1
VARIABLE = "IGR_CACHE_DIR"


def folder() -> Path:
    """The cache folder: what ``IGR_CACHE_DIR`` names, or that of the system's caches."""
    return Path(os.environ.get(VARIABLE) or pooch.os_cache("igr"))


def path_of(name: str) -> Path:
    """Where the arrays of a data set are kept."""
    return folder() / f"{name}.safetensors"


def downloads_of(name: str) -> Path:
    """Where the downloaded files of a data set are kept."""
    return folder() / "downloads" / name


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
        lock.acquire()
    except OSError as error:
        raise _unwritable(error) from error
    try:
        yield
    finally:
        lock.release()


def write(name: str, images: Tensor, labels: Tensor, sources: Sequence[Stamp]) -> None:
    """Keeps arrays, atomically.

    Raises:
        UserError: The cache folder cannot be written.
    """
    record = {
        "format": FORMAT,
        "name": name,
        "sha256": _digest(images, labels),
        "sources": [asdict(source) for source in sources],
    }
    tensors = {"images": images.contiguous(), "labels": labels.contiguous()}
    metadata = {"igr": json.dumps(record)}
    try:
        atomic.remove_unfinished(folder())
        atomic.write(path_of(name), lambda temporary: save_file(tensors, temporary, metadata))
    except (OSError, SafetensorError) as error:
        raise _unwritable(error) from error


def read(name: str, image_shape: Sequence[int], num_images: int) -> Arrays:
    """The kept arrays, memory-mapped.

    Raises:
        UserError: The file is broken, of another version, or of other images.
    """
    path = path_of(name)
    tensors, record = _opened(path)
    if record.get("format") != FORMAT:
        raise _unusable(
            path, f"format {FORMAT}", f"format {record.get('format')!r} of another version of igr"
        )
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    expected = {"images": (num_images, *image_shape), "labels": (num_images,)}
    if record.get("name") != name or shapes != expected:
        raise _unusable(path, f"{name} with shapes {expected}", f"{record.get('name')} with shapes {shapes}")
    try:
        sources = tuple(Stamp(**source) for source in record["sources"])
    except (KeyError, TypeError) as error:
        raise _unusable(path, "a record of what it was made of", "none") from error
    return Arrays(tensors["images"], tensors["labels"], sources)


def verify(name: str) -> str:
    """Reads all of a kept file and returns the SHA-256 of its arrays.

    Raises:
        UserError: It is broken, or not what was written.
    """
    path = path_of(name)
    tensors, record = _opened(path)
    digest = _digest(tensors["images"], tensors["labels"])
    if digest != record.get("sha256"):
        raise _unusable(path, "the arrays that were written", "other ones, the file is damaged")
    return digest


def _opened(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["igr"])
            tensors = {key: file.get_tensor(key) for key in ("images", "labels")}
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise _unusable(path, "a whole cache file", f"a broken or foreign one ({error})") from error
    if not isinstance(record, dict):
        raise _unusable(path, "a whole cache file", "one whose header is no JSON object")
    return tensors, record


def _digest(images: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in (images, labels):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _unusable(path: Path, expected: str, got: str) -> UserError:
    return UserError(
        f"expected {expected} in the cache {path}; got {got}; remove the file to have it made anew"
    )


def _unwritable(error: OSError | SafetensorError) -> UserError:
    return UserError(
        f"expected a cache folder that can be written; got {folder()} "
        f"({getattr(error, 'strerror', None) or error}); name another with {VARIABLE}"
    )
