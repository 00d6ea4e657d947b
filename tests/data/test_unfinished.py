"""Arrays written piece by piece: whatever stops it, what is finished is kept, and the end is the same."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from igr import atomic
from igr.data import cache, unfinished
from igr.data.unfinished import Unfinished
from igr.errors import UserError

IMAGES = torch.arange(22 * 48).remainder(251).to(torch.uint8).view(22, 3, 4, 4)
LABELS = torch.arange(22) % 10
STAMP = cache.Stamp("/somewhere/file", 12, 34)
MADE_OF = {"archive": "first", "list": [1, 2]}
PER_PIECE, NUM_PIECES = 5, 5


@pytest.fixture(autouse=True)
def folder(a_cache_of_its_own: Path) -> Path:
    a_cache_of_its_own.mkdir()
    return a_cache_of_its_own


def begun(made_of: dict = MADE_OF, per_piece: int = PER_PIECE) -> Unfinished:
    return Unfinished("small", (3, 4, 4), 22, per_piece, made_of)


def pixels_of(piece: int) -> bytes:
    return IMAGES[piece * PER_PIECE : (piece + 1) * PER_PIECE].numpy().tobytes()


def put(pieces: Iterable[int]) -> None:
    with begun() as images:
        for piece in pieces:
            images.put(piece, pixels_of(piece))


def make() -> list[int]:
    """Goes on to the end; returns which pieces were missing."""
    with begun() as images:
        missing = images.missing
        for piece in missing:
            images.put(piece, pixels_of(piece))
        images.finish(LABELS, [STAMP])
    return missing


def result() -> bytes:
    """The finished file, of which nothing else is left."""
    assert [path.name for path in cache.folder().iterdir()] == ["small.safetensors"]
    return cache.path_of("small").read_bytes()


def test_pieces_in_any_order_are_the_arrays_that_are_read():
    assert make() == [0, 1, 2, 3, 4]
    found = cache.verify("small", (3, 4, 4), 22, 22)
    assert torch.equal(found.images, IMAGES)
    assert torch.equal(found.labels, LABELS)
    assert found.sources == (STAMP,)
    first = result()
    cache.path_of("small").unlink()
    put([4, 2])
    put([1])
    assert unfinished.pieces_of("small") == 3
    assert make() == [0, 3]
    assert result() == first


def test_the_digest_is_that_of_arrays_written_at_once():
    make()
    header = header_of(result())
    cache.write("small", IMAGES, LABELS, [STAMP])
    assert header == header_of(result())


def header_of(data: bytes) -> dict:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])


class Killed(BaseException):
    """What stops a process in a test."""


def stopping_at(count: int, call: Callable, monkeypatch: pytest.MonkeyPatch, when: str) -> list[int]:
    """Has the process stop before or after the n-th call of a function of os; returns the count of calls."""
    calls = [0]

    def counted(*arguments):
        calls[0] += 1
        if calls[0] == count and when == "before":
            raise Killed
        found = call(*arguments)
        if calls[0] == count:
            raise Killed
        return found

    monkeypatch.setattr(f"os.{call.__name__}", counted)
    return calls


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", [os.fsync, os.replace], ids=["fsync", "replace"])
def test_it_can_be_stopped_at_every_moment(monkeypatch, call, when):
    """Each is tried: nothing finished is lost, nothing else is taken for finished, the end is the same."""
    make()
    whole = result()
    stops = 0
    while True:
        stops += 1
        cache.path_of("small").unlink()
        with monkeypatch.context() as patch:
            calls = stopping_at(stops, call, patch, when)
            try:
                make()
            except Killed:
                calls[0] = -1
        if calls[0] >= 0:
            break
        before = unfinished.pieces_of("small")
        if cache.path_of("small").exists():
            assert cache.path_of("small").read_bytes() == whole
        else:
            assert NUM_PIECES - len(make()) == before
        unfinished.remove("small")
        assert result() == whole
    assert stops > NUM_PIECES


def test_bytes_that_reached_the_disk_without_the_record_are_written_again():
    put([0, 1])
    record = unfinished.record_of("small").read_bytes()
    put([2])
    unfinished.record_of("small").write_bytes(record)
    assert make() == [2, 3, 4]


def test_a_piece_that_was_changed_is_made_again():
    make()
    whole = result()
    cache.path_of("small").unlink()
    put([0, 1, 4])
    data = bytearray(unfinished.path_of("small").read_bytes())
    data[-1] ^= 1
    unfinished.path_of("small").write_bytes(data)
    assert make() == [2, 3, 4]
    assert result() == whole


@pytest.mark.parametrize(
    "other", [lambda: begun({"archive": "second", "list": [1, 2]}), lambda: begun(MADE_OF, 6)]
)
def test_what_was_made_of_something_else_is_no_part_of_it(other):
    put([0, 1])
    with other() as images:
        assert images.num_done == 0
    assert unfinished.pieces_of("small") == 0


RECORDS = {
    "empty": b"",
    "cut": b'{"pieces": {"0"',
    "binary": b"\xff\xfe",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "no pieces": b"{}",
    "other pieces": b'{"pieces": [1, 2]}',
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_that_is_none_means_nothing(record):
    put([0, 1])
    unfinished.record_of("small").write_bytes(record)
    assert unfinished.pieces_of("small") == 0
    assert len(make()) == NUM_PIECES


@pytest.mark.parametrize("pieces", [None, [1], {"0": 5, "1": "no digest", "77": "x"}])
def test_pieces_of_which_the_record_knows_nothing_right_are_made_again(pieces):
    put([0, 1])
    record = json.loads(unfinished.record_of("small").read_text())
    unfinished.record_of("small").write_text(json.dumps(record | {"pieces": pieces}))
    assert len(make()) == NUM_PIECES


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_a_file_that_is_gone_or_cut_short_is_made_anew(spoil):
    put([0, 1])
    spoil(unfinished.path_of("small"))
    assert len(make()) == NUM_PIECES
    cache.verify("small", (3, 4, 4), 22, 22)


def test_what_is_there_stays_until_the_new_one_is_whole():
    make()
    whole = result()
    with begun({"archive": "second"}) as images:
        for piece in images.missing:
            images.put(piece, bytes(len(pixels_of(piece))))
            assert cache.path_of("small").read_bytes() == whole
        images.finish(LABELS, [])
    assert cache.verify("small", (3, 4, 4), 22, 22).images.sum() == 0


def test_too_little_room_is_told_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"expected 0.00 GB of free space in .*cache for small; got 0.00 GB"):
        begun()


def test_a_full_disk_is_one_sentence_and_loses_nothing(monkeypatch):
    put([0, 1])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"No space left on device\); make room there, or name"):
            put([2])
    assert not any(atomic.is_unfinished(path) for path in cache.folder().iterdir())
    assert make() == [2, 3, 4]


def test_the_record_of_the_longest_path_fits_before_the_arrays():
    longest = cache.Stamp("\1" * 4096, 2**62, 2**62)
    header = cache.header("celeba", (3, 64, 64), 10**9, "0" * 64, [longest], unfinished._HEADER)
    assert len(header) == unfinished._HEADER
    assert json.loads(header[8:])["labels"]["shape"] == [10**9]
