"""Faces of CelebA made small, a piece of the archive at a time, in a process of its own.

:mod:`igr.data.celeba` runs this file as a script, by its path. Nothing of igr is imported here: with
it would come torch, which takes seconds and memory in each process and prepares no image. A job is a
line of JSON on standard input, the entries of a piece; the answer is a line of JSON on standard
output and, if all went well, the pixels. A worker ends where its input does, so none outlives the
process that started it, however that ends, and it writes no file: that is for the process which holds
the lock.
"""

import io
import json
import os
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

# Width and height of a published image; the central square of its width is kept.
WIDTH, HEIGHT = 178, 218
SMALL = 64
_TOP = (HEIGHT - WIDTH) // 2
_SQUARE = (0, _TOP, WIDTH, _TOP + WIDTH)
# A triangle as wide as two small pixels: no aliasing, and since all weights are positive, no value
# outside the range of those that it is a mean of, which Lanczos and bicubic weights would have to cut.
FILTER = Image.Resampling.BILINEAR

# Parts in which a JPEG file may come, each a refinement of the whole image; usual ones have up to ten.
# Tens of thousands fit into a small file, and keep a decoder busy for seconds.
MOST_SCANS = 64
_SCAN = b"\xff\xda"

_LOCAL_HEADER = struct.Struct("<4s22xHH")


class Entry(NamedTuple):
    """An image in the archive, as the central directory describes it.

    Arguments:
        name: Its name.
        offset: Where its local header starts in the archive, in bytes.
        packed: How many bytes it takes there.
        size: How many bytes the JPEG file has.
        crc: Their CRC-32.
        method: How they are packed: stored or deflated.
    """

    name: str
    offset: int
    packed: int
    size: int
    crc: int
    method: int


class Unusable(Exception):
    """An entry is no image as expected; the arguments are its name and what it is instead."""


def content_of(archive: BinaryIO, entry: Entry) -> bytes:
    """The JPEG file of an entry; whatever the archive claims, no more than ``entry.size`` bytes.

    Not by ``zipfile``, which would read the central directory, of 200,000 entries, in each process.

    Raises:
        Unusable: The archive does not hold it as its central directory says.
    """
    archive.seek(entry.offset)
    header = archive.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise Unusable(entry.name, "no entry where the archive says it is")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    if archive.read(name_length) != entry.name.encode():
        raise Unusable(entry.name, "an entry of another name where the archive says it is")
    archive.seek(extra_length, os.SEEK_CUR)
    packed = archive.read(entry.packed)
    if len(packed) < entry.packed:
        raise Unusable(entry.name, "an archive that ends before it")
    if entry.method == zipfile.ZIP_STORED:
        content = packed
    else:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # One byte more than it may have tells that there are more.
            content = unpacker.decompress(packed, entry.size + 1)
        except zlib.error as error:
            raise Unusable(entry.name, f"broken compressed data ({error})") from error
        if len(content) <= entry.size and not unpacker.eof:
            raise Unusable(entry.name, "compressed data that end early")
    if len(content) != entry.size:
        than = "more" if len(content) > entry.size else "fewer"
        raise Unusable(entry.name, f"one of {than} than the {entry.size:,} bytes that the archive declares")
    if zlib.crc32(content) != entry.crc:
        raise Unusable(entry.name, "one with another checksum (CRC-32) than the archive declares")
    return content


def small_face(jpeg: bytes, name: str) -> NDArray[np.uint8]:
    """The central square of a JPEG file, as [3, 64, 64].

    Raises:
        Unusable: It is no JPEG image in colour of 178 x 218 pixels.
    """
    scans = jpeg.count(_SCAN)
    if scans > MOST_SCANS:
        raise Unusable(name, f"one in {scans:,} parts")
    try:
        # Reads the header alone.
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            if image.size != (WIDTH, HEIGHT):
                got = f"one of {image.width} x {image.height} pixels"
            elif image.mode != "RGB":
                got = "a grey one" if image.mode == "L" else f"one of colour mode {image.mode}"
            else:
                # Cut first: resizing a box of the image would look across its edges.
                square = image.crop(_SQUARE)
                return np.asarray(square.resize((SMALL, SMALL), FILTER)).transpose(2, 0, 1)
    except UnidentifiedImageError:
        got = "no JPEG image"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        got = "one of far too many pixels"
    except Exception as error:
        # Decoders have many ways to fail on data made to make them fail.
        got = f"a broken one ({' '.join(str(error).split()) or type(error).__name__})"
    raise Unusable(name, got)


def small_faces(archive: BinaryIO, entries: Sequence[Entry]) -> NDArray[np.uint8]:
    """The small images of some entries, [N, 3, 64, 64].

    Raises:
        Unusable: One is not what it should be.
    """
    faces = np.empty((len(entries), 3, SMALL, SMALL), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for face, entry in zip(faces, entries, strict=True):
            face[:] = small_face(content_of(archive, entry), entry.name)
    return faces


def main(path: str, num_bytes: int, modified: int) -> None:
    """Answers jobs until there are no more.

    Arguments:
        path: The archive.
        num_bytes: Its length, and
        modified: its time of change, in nanoseconds, as it was when its directory was read.
    """
    for line in sys.stdin.buffer:
        pixels = b""
        answer: dict[str, object] = {}
        try:
            # Opened for each piece, so that another file in its place is seen.
            with open(path, "rb") as archive:
                status = os.fstat(archive.fileno())
                if (status.st_size, status.st_mtime_ns) != (num_bytes, modified):
                    answer = {"got": "one that was changed meanwhile"}
                else:
                    pixels = small_faces(archive, [Entry(*entry) for entry in json.loads(line)]).tobytes()
        except Unusable as error:
            name, got = error.args
            answer = {"entry": name, "got": got}
        except Exception as error:
            answer = {"got": f"{type(error).__name__}: {error}"}
        sys.stdout.buffer.write(json.dumps({"num_bytes": len(pixels), **answer}).encode() + b"\n")
        sys.stdout.buffer.write(pixels)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
