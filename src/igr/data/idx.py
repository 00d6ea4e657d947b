"""IDX files, the format of MNIST, read without trusting them.

An IDX file is two zero bytes, a code for the type of an entry, the number of dimensions, each
dimension as a big-endian 32-bit number, and the entries. What a file must hold is known before it
is opened: nothing is allocated by what its header claims, nothing is read past what it should hold,
and nothing is trusted before the SHA-256 of all of it agrees.
"""

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from igr.errors import UserError

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
# CRC-32 and length of the content, at the end of a gzip archive.
_TRAILER = struct.Struct("<II")
# What is decompressed, and what is read from the disk, at once, in bytes.
_BLOCK, _PIECE = 2**22, 2**16
# That of images.
_LONGEST_HEADER = 16


@dataclass(frozen=True)
class IdxContent:
    """What an IDX file must hold, whether it is compressed or not.

    Arguments:
        shape: The number of items, then the shape of one; entries are unsigned bytes.
        crc32: Of the whole uncompressed file, header included.
        sha256: Of the same, in hexadecimal.
    """

    shape: tuple[int, ...]
    crc32: int
    sha256: str

    @property
    def header(self) -> bytes:
        """The bytes before the entries."""
        start = bytes((0, 0, _UNSIGNED_BYTE, len(self.shape)))
        return start + struct.pack(f">{len(self.shape)}I", *self.shape)

    @property
    def num_bytes(self) -> int:
        """The length of the whole uncompressed file."""
        return len(self.header) + math.prod(self.shape)


def inspect(path: Path, content: IdxContent) -> None:
    """Refuses a file that cannot be the right one, at once, by its size and its first and last bytes.

    Raises:
        UserError: The file cannot be read or does not hold what is expected.
    """
    with _opened(path) as raw:
        compressed = _is_gzip(raw)
        size = raw.seek(0, os.SEEK_END)
        # What cannot be compressed is stored, in blocks of 64 kB with five bytes each.
        most = content.num_bytes * 1.01 + 2**16
        if compressed and size > most:
            raise UserError(
                f"expected an archive of {content.num_bytes:,} bytes at {path}; got a file of {size:,} "
                "bytes, which is more than these need; check that it is the right file"
            )
        stream = _content(raw)
        header = stream.read(len(content.header))
        if header != content.header:
            header += stream.read(_LONGEST_HEADER - len(header))
            raise UserError(
                f"expected an IDX file of {_described(content.shape)} at {path}; got {_claim(header)}; "
                "check that it is the right file, or get it again"
            )
        if compressed:
            _check_trailer(path, raw, content)
        elif size != content.num_bytes:
            raise UserError(
                f"expected a file of {content.num_bytes:,} bytes at {path}; got {size:,} bytes; get it again"
            )


def _check_trailer(path: Path, raw: BinaryIO, content: IdxContent) -> None:
    """Compares what a gzip archive says of its content at its end, which costs no decompression."""
    raw.seek(-_TRAILER.size, os.SEEK_END)
    crc32, num_bytes = _TRAILER.unpack(raw.read(_TRAILER.size))
    if num_bytes != content.num_bytes % 2**32:
        raise UserError(
            f"expected a gzip archive of {content.num_bytes:,} bytes at {path}; got one that does not end "
            "as such; it is cut short or another file, get it again"
        )
    if crc32 != content.crc32:
        raise UserError(
            f"expected a content with checksum (CRC-32) {content.crc32:08x} in {path}; got {crc32:08x}; "
            "the file is another one or was changed, get it again"
        )


def read_idx(path: Path, content: IdxContent) -> Iterator[NDArray[np.uint8]]:
    """The items of an IDX file, plain or gzip-compressed, some at a time.

    The last ones come only after the whole file was verified; until then a caller should keep to
    itself what it made of the earlier ones.

    Yields:
        Read-only arrays with shape ``(n, *content.shape[1:])``, a few megabytes each.

    Raises:
        UserError: The file cannot be read or does not hold what is expected.
    """
    inspect(path, content)
    with _opened(path) as raw:
        stream = _content(raw)
        digest = hashlib.sha256(stream.read(len(content.header)))
        item = math.prod(content.shape[1:])
        per_block = max(1, _BLOCK // item)
        total = content.shape[0]
        for first in range(0, total, per_block):
            count = min(per_block, total - first)
            entries = stream.read(count * item)
            if len(entries) < count * item:
                raise UserError(
                    f"expected {total * item:,} bytes after the header of {path}; got "
                    f"{first * item + len(entries):,}; the file is cut short, get it again"
                )
            digest.update(entries)
            if first + count == total:
                _check_end(path, stream, content, digest.hexdigest())
            yield np.frombuffer(entries, np.uint8).reshape(count, *content.shape[1:])


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Gunzipped:
    """The content of a gzip archive of one member, decompressed as far as it is read.

    Not ``gzip.GzipFile``, which a header without an end, or a million empty members, keep busy for
    long.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def read(self, size: int, /) -> bytes:
        """So many bytes, or all that are left."""
        pieces = []
        while size > 0 and not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._raw.read(_PIECE)
            piece = self._unpacker.decompress(packed, size)
            if not (packed or piece or self._unpacker.eof):
                raise EOFError("it ends early")
            pieces.append(piece)
            size -= len(piece)
        if size > 0 and (self._unpacker.unused_data or self._raw.read(1)):
            raise EOFError("something follows after its end")
        return b"".join(pieces)


def _is_gzip(raw: BinaryIO) -> bool:
    raw.seek(0)
    return raw.read(len(_GZIP)) == _GZIP


def _content(raw: BinaryIO) -> _Readable:
    """The uncompressed content of a file, from its beginning."""
    compressed = _is_gzip(raw)
    raw.seek(0)
    return _Gunzipped(raw) if compressed else raw


def _check_end(path: Path, stream: _Readable, content: IdxContent, sha256: str) -> None:
    # A gzip archive is compared with its own checksum only by a read past its end.
    if stream.read(1):
        raise UserError(
            f"expected {_described(content.shape)} and nothing more in {path}; got more bytes after "
            "them; get the file again"
        )
    if sha256 != content.sha256:
        raise UserError(
            f"expected a content with SHA-256 {content.sha256[:12]}... in {path}; got "
            f"{sha256[:12]}...; the file is damaged or was changed, get it again"
        )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to be read; what is wrong with it becomes one sentence."""
    try:
        if not path.is_file():
            # A pipe or a device could keep a reader waiting for ever.
            raise UserError(f"expected a file at {path}; got none; check the path")
        with path.open("rb") as raw:
            yield raw
    except (EOFError, zlib.error) as error:
        raise UserError(
            f"expected a whole gzip archive at {path}; got a broken one ({error}); get the file again"
        ) from error
    except OSError as error:
        raise UserError(
            f"expected a file that can be read at {path}; got {error.strerror or error}; "
            "check the path and its permissions"
        ) from error


def _described(shape: tuple[int, ...]) -> str:
    count, *item = shape
    return f"{count:,} images of {' x '.join(map(str, item))}" if item else f"{count:,} labels"


def _claim(header: bytes) -> str:
    """What a header that was not expected says of its file."""
    if len(header) >= 4 and header[:3] == bytes((0, 0, _UNSIGNED_BYTE)) and 1 <= header[3] <= 3:
        dimensions = header[3]
        sizes = header[4 : 4 + 4 * dimensions]
        if len(sizes) == 4 * dimensions:
            return f"a header that claims {_described(struct.unpack(f'>{dimensions}I', sizes))}"
    return f"another file, which starts with {header[:8]!r}" if header else "an empty file"
