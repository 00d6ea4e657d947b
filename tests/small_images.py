"""A data set of a few small images in IDX files, with everything that a published one has."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from igr.data.download import Archive
from igr.data.idx import IdxContent
from igr.data.mnist import IdxPart, IdxSource

SIZES = (40, 8, 12)
NAMES = ("train-images", "train-labels", "test-images", "test-labels")


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """An IDX file, put together by hand."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def content_of(array: NDArray[np.uint8]) -> IdxContent:
    """What a reader should expect of the file."""
    data = idx_bytes(array)
    return IdxContent(array.shape, zlib.crc32(data), hashlib.sha256(data).hexdigest())


def small_arrays() -> dict[str, NDArray[np.uint8]]:
    """Images of 28 x 28 and labels for training, then for test, by the names of their files."""
    random = np.random.default_rng(0)
    first, second = SIZES[0] + SIZES[1], SIZES[2]
    return {
        "train-images": random.integers(0, 256, (first, 28, 28), dtype=np.uint8),
        "train-labels": random.integers(0, 10, first, dtype=np.uint8),
        "test-images": random.integers(0, 256, (second, 28, 28), dtype=np.uint8),
        "test-labels": random.integers(0, 10, second, dtype=np.uint8),
    }


def small_source(address: str = "http://127.0.0.1:9/") -> IdxSource:
    """The data set of :func:`small_arrays`, published at an address that does not answer."""
    parts = tuple(
        IdxPart(
            Archive(
                f"{name}.gz",
                len(compressed(array)),
                hashlib.md5(compressed(array)).hexdigest(),
                (f"{address}{name}.gz",),
            ),
            (f"{name}.gz", name),
            content_of(array),
        )
        for name, array in small_arrays().items()
    )
    first, second, third, fourth = parts
    return IdxSource(
        name="small",
        origin="made by a test",
        sizes=SIZES,
        image_shape=(1, 28, 28),
        class_names=tuple(map(str, range(10))),
        folders=("small", "SMALL/raw"),
        parts=(first, second, third, fourth),
    )


def compressed(array: NDArray[np.uint8]) -> bytes:
    """The same archive at every call."""
    return gzip.compress(idx_bytes(array), mtime=0)


def write_files(data_dir: Path, folder: str = "small") -> Path:
    """Writes the four archives below a data folder; returns the folder that they are in."""
    place = data_dir / folder
    place.mkdir(parents=True)
    for name, array in small_arrays().items():
        (place / f"{name}.gz").write_bytes(compressed(array))
    return place
