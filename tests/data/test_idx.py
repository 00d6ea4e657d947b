"""IDX files: what is right is read, and what is not is refused in one sentence, at once, in little memory."""

import gzip
import hashlib
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from igr.data.idx import IdxContent, inspect, read_idx
from igr.errors import UserError
from small_images import compressed, content_of, idx_bytes

IMAGES = np.random.default_rng(1).integers(0, 256, (50, 28, 28), dtype=np.uint8)
EXPECTED = content_of(IMAGES)
LABELS = np.arange(50, dtype=np.uint8) % 10
LARGE = np.random.default_rng(2).integers(0, 256, (9000, 28, 28), dtype=np.uint8)


def claiming(*shape: int) -> bytes:
    """A header for a file of that shape, followed by next to nothing."""
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + b"\0" * 100


def refused(path: Path, content: IdxContent = EXPECTED) -> str:
    with pytest.raises(UserError) as error:
        list(read_idx(path, content))
    text = str(error.value)
    assert text.startswith("expected ")
    assert "; got " in text
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("array", [IMAGES, LABELS, LARGE], ids=["images", "labels", "several blocks"])
@pytest.mark.parametrize("form", ["plain", "gzip", "two gzip members"])
def test_what_was_written_is_read(tmp_path, array, form):
    path = tmp_path / "file"
    data = idx_bytes(array)
    if form == "two gzip members":
        # As some parallel compressors write it; only the end of the second one says how long it is.
        path.write_bytes(gzip.compress(data[:20]) + gzip.compress(data[20:]))
        assert "does not end as such" in refused(path, content_of(array))
        return
    path.write_bytes(compressed(array) if form == "gzip" else data)
    inspect(path, content_of(array))
    found = np.concatenate(list(read_idx(path, content_of(array))))
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


HOSTILE = {
    "empty": (b"", "got an empty file"),
    "foreign": (b"PK\x03\x04 and so on, a zip archive" * 10, "another file, which starts with b'PK"),
    "web page": (b"<!DOCTYPE html><html>Not found</html>", "another file, which starts with b'<!DOCTY"),
    "two to the 31 images": (claiming(2**31, 28, 28), "claims 2,147,483,648 images of 28 x 28"),
    "images as large as memory": (claiming(50, 2**20, 2**20), "claims 50 images of 1048576 x 1048576"),
    "other dimensions": (idx_bytes(IMAGES[:, :14]), "claims 50 images of 14 x 28"),
    "labels": (idx_bytes(LABELS), "claims 50 labels"),
    "too few images": (idx_bytes(IMAGES[:40]), "claims 40 images of 28 x 28"),
    "four dimensions": (claiming(50, 1, 28, 28), "another file"),
    "floating point": (b"\0\0\x0d\x03" + idx_bytes(IMAGES)[4:], "another file"),
    "cut short": (idx_bytes(IMAGES)[:-1], "got 39,215 bytes"),
    "more than it should be": (idx_bytes(IMAGES) + b"\0", "got 39,217 bytes"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_at_once(tmp_path, data, message, zipped):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(data) if zipped else data)
    tracemalloc.start()
    started = time.thread_time()
    try:
        text = refused(path)
        seconds, peak = time.thread_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if not (zipped and message.startswith("got 39")):
        assert message in text
    assert seconds < 1
    assert peak < 2**20


def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path):
    path = tmp_path / "file.gz"
    whole = compressed(IMAGES)
    for length in (1, 2, 5, 10, 11, 20, len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "get" in refused(path)


def test_every_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "file.gz"
    small = IMAGES[:2]
    whole = compressed(small)
    # But for four of the header, which say when and where it was made.
    for position in {*range(0, len(whole), 37), *range(len(whole) - 8, len(whole))} - {4, 5, 6, 7, 8, 9}:
        data = bytearray(whole)
        data[position] ^= 0x10
        path.write_bytes(data)
        refused(path, content_of(small))


def test_another_content_is_refused_by_its_checksum_before_it_is_decompressed(tmp_path, monkeypatch):
    path = tmp_path / "file.gz"
    other = IMAGES.copy()
    other[-1, -1, -1] ^= 1
    path.write_bytes(compressed(other))
    with pytest.raises(UserError, match=r"checksum \(CRC-32\) [0-9a-f]{8} in .* another one or was changed"):
        inspect(path, content_of(IMAGES))


def test_a_content_made_to_have_the_same_crc_is_refused_by_its_sha(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(compressed(IMAGES))
    right = content_of(IMAGES)
    content = IdxContent(right.shape, right.crc32, hashlib.sha256(b"another").hexdigest())
    assert "SHA-256" in refused(path, content)
    # Not a single block comes before the whole is verified where it all fits into one.
    blocks = []
    with pytest.raises(UserError):
        blocks += read_idx(path, content)
    assert blocks == []


def test_a_bomb_is_not_decompressed(tmp_path):
    path = tmp_path / "bomb.gz"
    data = idx_bytes(IMAGES)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(packer.compress(data))
        for _ in range(40):
            file.write(packer.compress(bytes(2**20)))
        # An end that is a lie, so that only reading shows it.
        file.write(packer.flush()[:-8] + struct.pack("<II", zlib.crc32(data), len(data)))
    tracemalloc.start()
    try:
        assert "more bytes after them" in refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def endless_name(size: int) -> bytes:
    """A gzip header with a file name that never ends."""
    return b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * size


SLOW = {
    "a header without an end": lambda: endless_name(7_000_000),
    "a header larger than all": lambda: endless_name(9_000_000),
    "empty members": lambda: gzip.compress(b"", mtime=0) * 300_000,
}


@pytest.mark.parametrize("make", SLOW.values(), ids=SLOW.keys())
def test_a_file_made_to_keep_a_reader_busy_is_refused_at_once(tmp_path, make):
    path = tmp_path / "file.gz"
    path.write_bytes(make())
    started = time.thread_time()
    refused(path, content_of(LARGE))
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "dead link"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dead link":
        path.symlink_to(tmp_path / "nowhere")
    assert f"expected a file at {path}; got none" in refused(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(IMAGES))
    path.chmod(0)
    assert "Permission denied" in refused(path)
