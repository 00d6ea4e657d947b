"""Omniglot: every drawing once, in a fixed split, made small exactly, ink bright, under its right name."""

import csv
import gzip
import hashlib
import io
import os
import struct
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from igr.data import Dataset, load
from igr.data.omniglot import DRAWERS, OMNIGLOT, read_zip, shrunk
from igr.errors import UserError

DRAWINGS = (np.random.default_rng(0).random((8, 105, 105)) > 0.1).astype(np.uint8) * np.uint8(255)


@pytest.fixture
def omniglot(real_cache: Path, monkeypatch) -> Dataset:
    monkeypatch.setenv("IGR_CACHE_DIR", str(real_cache))
    return load("omniglot")


@pytest.fixture(scope="module")
def originals(real_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Every 61st drawing of both sets together, in the order of the files, with their numbers."""
    every, kept, numbers, first = 61, [], [], 0
    for name in ("background", "evaluation"):
        with gzip.open(real_data / "omniglot" / f"images_{name}-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 105, 105)
        kept.append(pixels[::every].copy())
        numbers.append(first + np.arange(0, len(pixels), every))
        first += len(pixels)
    return np.concatenate(kept), np.concatenate(numbers)


def test_shrinking_is_the_mean_ink_of_each_small_pixel():
    """Each large pixel cut into four by four, and squares of fifteen by fifteen of these averaged."""
    ink = 255.0 - torch.from_numpy(DRAWINGS).double()
    fine = ink.repeat_interleave(4, -1).repeat_interleave(4, -2)
    means = torch.nn.functional.avg_pool2d(fine, 15)
    assert np.array_equal(shrunk(DRAWINGS), torch.floor(means + 0.5).numpy())
    assert shrunk(np.zeros((1, 105, 105), np.uint8)).min() == 255
    assert shrunk(np.full((1, 105, 105), 255, np.uint8)).max() == 0


def test_the_order_of_the_images_never_changes():
    order = OMNIGLOT.split_order()
    assert sorted(order) == list(range(32_460))
    text = ",".join(map(str, order)).encode()
    assert hashlib.sha256(text).hexdigest()[:16] == "539a6ed059def8f5"


def test_the_splits_are_those_of_the_paper():
    order = OMNIGLOT.split_order()
    train, test = order[:24_345], order[24_345:]
    assert len(test) == 8_115
    assert set(range(19_280)) <= set(train)
    assert OMNIGLOT.sizes == (23_000, 1_345, 8_115)
    # The drawings of evaluation alphabets are as frequent in the validation split as in training.
    from_evaluation = sum(number >= 19_280 for number in order[23_000:24_345])
    p = 5_065 / 24_345
    assert abs(from_evaluation - 1_345 * p) < 5 * (1_345 * p * (1 - p)) ** 0.5


def test_every_drawing_is_in_its_place(omniglot, originals):
    order = torch.tensor(OMNIGLOT.split_order())
    small = torch.cat([omniglot.train.images, omniglot.validation.images, omniglot.test.images])
    labels = torch.cat([omniglot.train.labels, omniglot.validation.labels, omniglot.test.labels])
    assert torch.equal(labels, order // DRAWERS)
    drawings, numbers = originals
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order))
    assert np.array_equal(small[position[torch.from_numpy(numbers)], 0].numpy(), shrunk(drawings))
    assert len(numbers) > 500


def test_ink_is_bright_and_little(omniglot):
    means = omniglot.test.images.float().mean((1, 2, 3)) / 255
    assert 0.05 < means.mean() < 0.12
    assert means.max() < 0.5


def test_drawings_of_one_character_are_alike(omniglot):
    """Small images of one label are nearer to each other than to those of other labels."""
    x = omniglot.train.images[:, 0, ::2, ::2].flatten(1).float() / 255
    labels = omniglot.train.labels
    same = [x[labels == label] for label in range(0, 900, 30)]
    within = torch.stack([torch.pdist(group).mean() for group in same]).mean()
    across = torch.pdist(torch.cat([group[:1] for group in same])).mean()
    assert within < 0.9 * across


def test_class_names_are_those_of_the_files(real_data):
    with (real_data / "omniglot" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [
        f"{row['alphabet'].replace('_', ' ')} {int(row['character'].removeprefix('character'))}"
        for row in rows
    ]
    assert list(OMNIGLOT.class_names) == names
    assert len(names) == 1_623


@pytest.fixture
def small_part():
    """The first part, as if it had but two alphabets of two and one characters."""
    return replace(OMNIGLOT.parts[0], alphabets={"Alpha": 2, "Beta": 1})


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(buffer, format="PNG")
    return buffer.getvalue()


def write_zip(path: Path, part, change=lambda files: files):
    """An archive in the published layout; returns the part with its MD5, and the pixels in order."""
    random = np.random.default_rng(3)
    pixels = (random.random((3 * DRAWERS, 105, 105)) > 0.1).astype(np.uint8) * np.uint8(255)
    characters = [("Alpha", 1, 9), ("Alpha", 2, 3), ("Beta", 1, 7)]
    files = {
        f"images_background/{alphabet}/character{character:02d}/{number:04d}_{drawer:02d}.png": png(
            pixels[position * DRAWERS + drawer - 1]
        )
        for position, (alphabet, character, number) in enumerate(characters)
        for drawer in range(1, DRAWERS + 1)
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images_background/", b"")
        # In another order than that of their names.
        for name, data in reversed(change(files).items()):
            archive.writestr(name, data)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    return replace(part, archive=replace(part.archive, md5=md5)), pixels


def test_the_published_archive_is_read_in_the_order_of_its_names(tmp_path, small_part):
    part, pixels = write_zip(tmp_path / "images.zip", small_part)
    blocks = list(read_zip(tmp_path / "images.zip", part))
    assert [len(block) for block in blocks] == [2 * DRAWERS, DRAWERS]
    assert np.array_equal(np.concatenate(blocks), pixels)


def without(name):
    return lambda files: {key: value for key, value in files.items() if key != name}


def with_(name, data):
    return lambda files: {**files, name: data}


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A drawing with one more part, whose checksum is right."""
    whole = png(DRAWINGS[0])
    checked = kind + data
    part = struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))
    return whole[:33] + part + whole[33:]


def claiming(width: int, height: int) -> bytes:
    """A drawing whose header, checksum and all, has another size."""
    whole = bytearray(png(DRAWINGS[0]))
    struct.pack_into(">II", whole, 16, width, height)
    struct.pack_into(">I", whole, 29, zlib.crc32(whole[12:29]))
    return bytes(whole)


FIRST = "images_background/Alpha/character01/0009_01.png"
BROKEN = {
    "a drawing missing": (without(FIRST), "expected 40 drawings of Alpha .* got 39"),
    "a drawing too many": (with_("images_background/Alpha/x/y.png", b""), "expected 40 .* got 41"),
    "another size": (with_(FIRST, png(np.zeros((64, 64), np.uint8))), r"0009_01\.png'; got 64 x 64 pixels"),
    "no image": (with_(FIRST, b"nonsense"), "got a broken one"),
    "half an image": (with_(FIRST, png(DRAWINGS[0])[:300]), "got a broken one"),
    "a broken part": (with_(FIRST, with_chunk(b"gAMA", b"1")), "got a broken one .*gAMA"),
    "a broken animation": (with_(FIRST, with_chunk(b"acTL", b"1")), "got a broken one .*acTL"),
    "an image of no type": (with_(FIRST, png(DRAWINGS[0])[:24] + bytes(1_000)), "got a broken one"),
    "far too many pixels": (with_(FIRST, claiming(10_000, 10_000)), "got far too many pixels"),
    "more pixels than memory": (
        with_(FIRST, claiming(2**31 - 1, 2**31 - 1)),
        "far too many pixels",
    ),
    "a file too large": (
        with_(FIRST, png(DRAWINGS[0]) + bytes(2**16)),
        "bytes unpacked, and not 1 to 65,536",
    ),
    "another format": (with_(FIRST, b"GIF89a" + bytes(100)), "got a broken one"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_an_archive_that_is_not_as_published_is_refused(tmp_path, small_part, change, message):
    path = tmp_path / "images.zip"
    part, _ = write_zip(path, small_part, change)
    with pytest.raises(UserError, match=message):
        list(read_zip(path, part))


DIRECTORY = {
    "encrypted": (8, 1, "which is encrypted"),
    "another method": (10, 99, "which is neither stored nor deflated"),
    "a huge claim": (24, 2**32 - 2, "which has 4,294,967,294 bytes unpacked"),
    "a version to come": (6, 255, "expected a whole zip archive"),
    "another checksum": (16, 5, "one with another checksum"),
}


@pytest.mark.parametrize(("at", "value", "message"), DIRECTORY.values(), ids=DIRECTORY.keys())
def test_a_directory_that_lies_is_refused_were_the_checksum_right(tmp_path, small_part, at, value, message):
    path = tmp_path / "images.zip"
    part, _ = write_zip(path, small_part)
    data = bytearray(path.read_bytes())
    struct.pack_into("<H" if at < 16 else "<I", data, data.rindex(FIRST.encode()) - 46 + at, value)
    path.write_bytes(data)
    fooled = replace(part, archive=replace(part.archive, md5=hashlib.md5(data).hexdigest()))
    with pytest.raises(UserError, match=message):
        list(read_zip(path, fooled))


def test_an_archive_with_another_md5_is_not_opened(tmp_path, small_part):
    path = tmp_path / "images.zip"
    write_zip(path, small_part)
    with pytest.raises(UserError, match=r"expected the published images_background.zip with MD5 68d2efa1"):
        list(read_zip(path, small_part))


def test_an_archive_that_is_no_zip_is_refused(tmp_path, small_part):
    path = tmp_path / "images.zip"
    path.write_bytes(b"no zip")
    part = replace(small_part, archive=replace(small_part.archive, md5=hashlib.md5(b"no zip").hexdigest()))
    with pytest.raises(UserError, match="expected a whole zip archive"):
        list(read_zip(path, part))


def test_a_file_that_is_far_too_large_is_not_read(tmp_path, small_part):
    path = tmp_path / "images.zip"
    with path.open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(UserError, match=r"about 9,464,212 bytes .* got 8,589,934,592 bytes"):
        list(read_zip(path, small_part))


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, small_part, kind):
    path = tmp_path / "images.zip"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(UserError, match=r"expected a file at .* got none"):
        list(read_zip(path, small_part))


@pytest.mark.parametrize("name", ["images_evaluation.zip", "images_evaluation-idx3-ubyte.gz"])
def test_a_broken_second_file_is_refused_before_the_first_is_read(real_data, tmp_path, monkeypatch, name):
    place = tmp_path / "omniglot"
    place.mkdir()
    first = "images_background-idx3-ubyte.gz"
    (place / first).symlink_to(real_data / "omniglot" / first)
    (place / name).write_bytes(b"PK\x03\x04")

    def fail(*arguments):
        raise AssertionError("a drawing was read")

    monkeypatch.setattr("igr.data.omniglot.shrunk", fail)
    started = time.thread_time()
    with pytest.raises(UserError, match="images_evaluation"):
        OMNIGLOT.load(tmp_path)
    assert time.thread_time() - started < 1


@pytest.mark.slow
def test_archives_of_all_drawings_give_the_same_images(real_data, omniglot, tmp_path):
    """The published layout made of the real drawings, read like a download."""
    folder = tmp_path / "data" / "omniglot"
    folder.mkdir(parents=True)
    parts = []
    for part in OMNIGLOT.parts:
        stem = part.archive.name.removesuffix(".zip")
        with gzip.open(real_data / "omniglot" / f"{stem}-idx3-ubyte.gz") as file:
            drawings = iter(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 105, 105))
        path = folder / part.archive.name
        with zipfile.ZipFile(path, "w") as archive:
            for alphabet, characters in part.alphabets.items():
                for character in range(1, characters + 1):
                    for drawer in range(1, DRAWERS + 1):
                        name = f"{stem}/{alphabet}/character{character:02d}/0001_{drawer:02d}.png"
                        archive.writestr(name, png(next(drawings)))
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        parts.append(replace(part, archive=replace(part.archive, md5=md5)))
    source = replace(OMNIGLOT, name="omniglot-from-zip", parts=tuple(parts))
    found = source.load(tmp_path / "data")
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(found, split).images, getattr(omniglot, split).images)
        assert torch.equal(getattr(found, split).labels, getattr(omniglot, split).labels)
