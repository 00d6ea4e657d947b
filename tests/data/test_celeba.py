"""CelebA: the right pixels in the right split, whatever stops the preparation, and no archive is trusted."""

import io
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from igr.data import SOURCES, Dataset, Stopped, cache, celeba, load, unfinished
from igr.data.celeba import CELEBA
from igr.data.celeba_archive import LARGEST, inspect
from igr.data.unfinished import Unfinished
from igr.errors import UserError
from small_celeba import (
    PER_PIECE,
    SIZES,
    celeba_archive,
    celeba_files,
    celeba_prepared,
    face,
    jpeg,
    name_of,
    small_celeba,
)

TOTAL = sum(SIZES)
NUM_PIECES = -(-TOTAL // PER_PIECE)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small set, its files and archive, and the cache file that one worker makes of it."""
    folder = tmp_path_factory.mktemp("celeba")
    source = small_celeba(folder)
    archive = folder / "celeba" / "img_align_celeba.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IGR_CACHE_DIR", str(folder / "cache"))
        source.prepare(None, archive, workers=1)
        kept = cache.path_of("celeba").read_bytes()
    return SimpleNamespace(
        source=source, data_dir=folder, archive=archive, kept=kept, files=celeba_files(TOTAL)
    )


@pytest.fixture
def prepared(good: SimpleNamespace, a_cache_of_its_own: Path) -> bytes:
    """The small set in the cache folder of this test."""
    a_cache_of_its_own.mkdir()
    cache.path_of("celeba").write_bytes(good.kept)
    return good.kept


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the pieces that workers are asked for."""
    found: list[int] = []
    usual = celeba._prepared

    def recorded(archive, stamp, pieces, workers):
        found.extend(pieces)
        return usual(archive, stamp, pieces, workers)

    monkeypatch.setattr(celeba, "_prepared", recorded)
    return found


def joined(dataset: Dataset) -> torch.Tensor:
    return torch.cat([dataset.train.images, dataset.validation.images, dataset.test.images])


def square_of(number: int) -> Image.Image:
    with Image.open(io.BytesIO(jpeg(face(number)))) as image:
        return image.crop((0, 20, 178, 198))


def test_the_splits_are_the_published_ones():
    assert CELEBA.sizes == (162_770, 19_867, 19_962)
    assert sum(CELEBA.sizes) == 202_599
    assert CELEBA.image_shape == (3, 64, 64)


def test_every_image_is_in_its_place(good, prepared):
    dataset = good.source.load(None)
    images = joined(dataset)
    for number in range(1, TOTAL + 1):
        small = square_of(number).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(images[number - 1].permute(1, 2, 0).numpy(), np.asarray(small)), number
    # The last of one split and the first of the next.
    for split, position, number in (("train", -1, 40), ("validation", 0, 41), ("test", 0, 51)):
        image = getattr(dataset, split).images[position]
        assert torch.equal(image, images[number - 1])
        assert not getattr(dataset, split).labels.any()


def test_a_small_pixel_is_a_mean_by_a_triangle_as_wide_as_two(good, prepared):
    """Computed here in double precision, without Pillow."""
    scale = 178 / 64
    centers = (np.arange(64) + 0.5) * scale
    distance = np.abs(np.arange(178) + 0.5 - centers[:, None]) / scale
    weights = np.clip(1 - distance, 0, None)
    weights /= weights.sum(1, keepdims=True)
    for number in (1, 60):
        square = np.asarray(square_of(number), np.float64)
        exact = weights @ square.transpose(2, 0, 1) @ weights.T
        found = joined(good.source.load(None))[number - 1].numpy()
        # Pillow rounds after each of the two directions.
        assert np.abs(found - exact).max() <= 1.01


def test_two_workers_give_the_same_bytes_as_one(good):
    good.source.prepare(None, good.archive, workers=2)
    assert cache.path_of("celeba").read_bytes() == good.kept
    assert [path.name for path in cache.folder().iterdir() if path.suffix != ".lock"] == [
        "celeba.safetensors"
    ]


def test_a_prepared_set_is_not_prepared_again(good, prepared, sent, tmp_path):
    good.source.prepare(None, good.archive)
    good.source.prepare(good.data_dir)
    good.source.prepare(None)
    # Moved elsewhere it is the same archive.
    elsewhere = tmp_path / "elsewhere.zip"
    elsewhere.write_bytes(good.archive.read_bytes())
    stamp = good.archive.stat()
    os.utime(elsewhere, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    good.source.prepare(None, elsewhere)
    assert sent == []
    assert cache.path_of("celeba").read_bytes() == prepared


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from igr.data import celeba
from igr.data.unfinished import Unfinished
from small_celeba import PER_PIECE, SIZES

usual_put, usual_popen = Unfinished.put, celeba.subprocess.Popen
Unfinished._record, usual_record = lambda self: kill_or(self), Unfinished._record

def popen(*arguments, **options):
    process = usual_popen(*arguments, **options)
    print(process.pid, flush=True)
    return process

def kill_or(self):
    # The bytes of the fourth piece are on the disk, but not recorded.
    if len(self._pieces) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    usual_record(self)

celeba.subprocess.Popen = popen
source = replace(celeba.CELEBA, sizes=SIZES, images_per_piece=PER_PIECE)
source.prepare(None, Path(sys.argv[1]), 2)
"""


def test_a_killed_preparation_goes_on_and_ends_with_the_same_bytes(good, sent):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, str(good.archive)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert process.stderr == ""
    workers = list(map(int, process.stdout.split()))
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    state = good.source.state(None)
    assert state.status == "absent"
    assert state.where.startswith("24 of 60 images are prepared, go on with igr data prepare celeba --arch")
    with pytest.raises(UserError, match="got no such images; prepare them once with igr data prepare"):
        good.source.load(None)
    good.source.prepare(None, good.archive, workers=1)
    assert len(sent) == NUM_PIECES - 3
    assert cache.path_of("celeba").read_bytes() == good.kept


def is_running(process: int) -> bool:
    """Whether there is such a process, and not only what its parent did not ask for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def interrupted_after(monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    usual = Unfinished.put

    def put(self, piece, pixels):
        if len(self.missing) == NUM_PIECES - pieces:
            raise KeyboardInterrupt
        usual(self, piece, pixels)

    monkeypatch.setattr(Unfinished, "put", put)


def test_an_interrupt_says_how_to_go_on(good, sent):
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(patch, 2)
        with pytest.raises(Stopped) as stopped:
            good.source.prepare(None, good.archive, workers=1)
    assert str(stopped.value) == (
        "stopped after 16 of 60 images of celeba, which are kept; go on with igr data prepare celeba "
        f"--archive {good.archive}"
    )
    good.source.prepare(None, good.archive, workers=1)
    assert sent == [*range(NUM_PIECES), *range(2, NUM_PIECES)]
    assert cache.path_of("celeba").read_bytes() == good.kept


@pytest.mark.parametrize("how", ["time", "content"])
def test_another_archive_starts_anew(good, sent, tmp_path, how):
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(patch, 2)
        with pytest.raises(Stopped):
            good.source.prepare(None, good.archive, workers=1)
    other = tmp_path / "other.zip"
    other.write_bytes(good.archive.read_bytes())
    if how == "content":
        celeba_archive(other, TOTAL, dict(reversed(good.files.items())))
    stamp = good.archive.stat().st_mtime_ns
    os.utime(other, ns=(stamp, stamp + (how == "time")))
    good.source.prepare(None, other, workers=1)
    assert sent == [*range(NUM_PIECES), *range(NUM_PIECES)]


def test_a_worker_that_dies_is_told_and_loses_nothing(good, monkeypatch, sent):
    usual = Unfinished.put

    def put(self, piece, pixels):
        usual(self, piece, pixels)
        if len(self.missing) == NUM_PIECES - 2:
            os.kill(workers[0], signal.SIGKILL)

    workers: list[int] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            workers.append(self.pid)

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "put", put)
        patch.setattr(celeba.subprocess, "Popen", Recorded)
        with pytest.raises(ChildProcessError, match=r"ended by itself \(exit code -9\).* finished is kept"):
            good.source.prepare(None, good.archive, workers=1)
    assert unfinished.pieces_of("celeba") >= 2
    good.source.prepare(None, good.archive, workers=1)
    assert cache.path_of("celeba").read_bytes() == good.kept


def test_a_check_reads_the_archive_again_and_compares(good, prepared):
    assert good.source.check(None) == [
        f"the cache {cache.path_of('celeba')} holds 60 images, as they were written"
    ]
    assert good.source.check(good.data_dir)[1:] == [
        f"{good.archive} holds 60 images, checksums right",
        "the cache holds the images of this archive",
    ]
    images = joined(good.source.load(None)).clone()
    images[59, 2, 63, 63] ^= 1
    cache.write("celeba", images, torch.zeros(TOTAL, dtype=torch.int64), [])
    with pytest.raises(UserError, match=r"expected the images of .* got other ones; remove the cache file"):
        good.source.check(good.data_dir)


def test_a_flipped_bit_is_found_by_a_check(good, prepared):
    cache.path_of("celeba").write_bytes(prepared[:-5] + bytes([prepared[-5] ^ 1]) + prepared[-4:])
    with pytest.raises(UserError, match=r"expected the arrays that were written .* damaged"):
        good.source.check(None)


def test_the_state_tells_what_is_here(good, prepared, tmp_path):
    path = cache.path_of("celeba")
    for data_dir in (None, good.data_dir):
        state = good.source.state(data_dir)
        assert (state.status, state.num_bytes) == ("ready", len(prepared))
        assert state.where == f"{path}, made of {good.archive}"
    assert good.source.state(tmp_path).status == "absent"
    (tmp_path / "img_align_celeba.zip").touch()
    state = good.source.state(tmp_path)
    assert state.status == "broken"
    assert f"to be prepared with igr data prepare celeba --data-dir {tmp_path}" in state.where
    path.write_bytes(b"nonsense")
    assert good.source.state(None).status == "broken"
    for use in (good.source.load, good.source.check, good.source.prepare):
        with pytest.raises(UserError, match="expected a whole cache file"):
            use(good.data_dir)


def test_training_is_told_the_command_and_prepares_nothing(good, sent, monkeypatch):
    monkeypatch.setitem(SOURCES, "celeba", good.source)
    for data_dir, flag in ((None, "--archive img_align_celeba.zip"), (good.data_dir, "--data-dir ")):
        with pytest.raises(UserError, match=f"prepare them once with igr data prepare celeba {flag}"):
            load("celeba", data_dir)
    assert sent == []
    with pytest.raises(UserError, match=r"expected img_align_celeba.zip of celeba in .* got no such file"):
        load("celeba", "/nowhere")
    with pytest.raises(UserError, match="prepare them once with"):
        good.source.check(None)


def test_what_a_command_may_not_combine_is_one_sentence(good, tmp_path):
    for arguments, message in (
        ((good.data_dir, good.archive), "expected an archive or a data folder with it for celeba; got both"),
        ((None, good.archive, 0), "expected 1 or more workers; got 0"),
        ((None,), "got no such images; prepare them once with igr data prepare celeba --archive"),
        ((tmp_path,), "expected img_align_celeba.zip of celeba in"),
    ):
        with pytest.raises(UserError, match=message):
            good.source.prepare(*arguments)
    with pytest.raises(UserError, match="expected no archive for digits; got '"):
        SOURCES["digits"].prepare(None, good.archive)
    with pytest.raises(UserError, match="expected no number of workers for mnist; got '2'"):
        SOURCES["mnist"].prepare(None, None, 2)


def test_the_small_set_can_stand_for_the_large_one(tmp_path):
    with celeba_prepared(tmp_path, (4, 2, 2)) as source:
        assert len(load("celeba").train) == 4
        assert SOURCES["celeba"] is source
    assert SOURCES["celeba"] is CELEBA


def test_pixels_of_the_whole_set_stay_on_the_disk(a_cache_of_its_own):
    """As large as the real one, 2.5 GB, but for the pixels, which are a hole in the file."""
    a_cache_of_its_own.mkdir()
    total = sum(CELEBA.sizes)
    with cache.path_of("celeba").open("wb") as file:
        file.write(cache.header("celeba", CELEBA.image_shape, total, "0" * 64, [], 2**15))
        file.truncate(2**15 + total * (8 + 3 * 64 * 64))
    before = resident_bytes()
    dataset = CELEBA.load(None)
    assert tuple(map(len, (dataset.train, dataset.validation, dataset.test))) == CELEBA.sizes
    assert dataset.test.images[-1].sum() == 0
    assert resident_bytes() - before < 20e6


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# Archives that are refused. Each case changes the files, or writes a file in its own way.


def with_(name: str, data: bytes) -> Callable:
    return lambda path, files: celeba_archive(path, TOTAL, {**files, name: data})


def without(*numbers: int) -> Callable:
    missing = {name_of(number) for number in numbers}
    return lambda path, files: celeba_archive(
        path, TOTAL, {name: data for name, data in files.items() if name not in missing}
    )


def only(**files: bytes) -> Callable:
    def write(path: Path, _: object) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)

    return write


def raw(data: bytes) -> Callable:
    return lambda path, _: path.write_bytes(data)


def cut(path: Path, files: dict[str, bytes]) -> None:
    whole = celeba_archive(path, TOTAL, files).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def twice(path: Path, files: dict[str, bytes]) -> None:
    celeba_archive(path, TOTAL, files)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(name_of(7), files[name_of(7)])


def link(path: Path, files: dict[str, bytes]) -> None:
    celeba_archive(path, TOTAL, {name: data for name, data in files.items() if name != name_of(7)})
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo(name_of(7))
        entry.create_system = 3
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")


# Positions in an entry of the central directory.
FLAGS, METHOD, CRC, PACKED, SIZE, OFFSET = (
    (8, "<H"),
    (10, "<H"),
    (16, "<I"),
    (20, "<I"),
    (24, "<I"),
    (42, "<I"),
)


def central(data: bytes, number: int) -> int:
    """Where the central directory describes an image."""
    return data.rindex(name_of(number).encode()) - 46


def patched(field: tuple[int, str], value: int, number: int = 7) -> Callable:
    """The directory says something else of an image."""

    def write(path: Path, files: dict[str, bytes]) -> None:
        data = bytearray(celeba_archive(path, TOTAL, files).read_bytes())
        struct.pack_into(field[1], data, central(data, number) + field[0], value)
        path.write_bytes(data)

    return write


def at_another(path: Path, files: dict[str, bytes]) -> None:
    """The directory says that an image is where another one is."""
    data = bytearray(celeba_archive(path, TOTAL, files).read_bytes())
    (offset,) = struct.unpack_from("<I", data, central(data, 8) + 42)
    struct.pack_into("<I", data, central(data, 7) + 42, offset)
    path.write_bytes(data)


def flipped(path: Path, files: dict[str, bytes]) -> None:
    """A bit of an image that is stored as it is."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    data = bytearray(path.read_bytes())
    data[data.index(files[name_of(7)]) + 3000] ^= 1
    path.write_bytes(data)


def bomb(path: Path, files: dict[str, bytes]) -> None:
    """Fifty million zeros, of which the directory says that they are a thousand."""
    celeba_archive(path, TOTAL, {**files, name_of(7): bytes(50_000_000)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, central(data, 7) + 24, 1000)
    path.write_bytes(data)


def huge_directory(path: Path, _: object) -> None:
    """The end of a zip archive, which says that the directory before it has nearly 200 MB."""
    size = 200_000_000
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0))


def of_size(width: int, height: int) -> bytes:
    """A JPEG file whose header claims so many pixels."""
    data = bytearray(jpeg(face(7)))
    start = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, start + 5, height, width)
    return bytes(data)


def in_format(name: str) -> bytes:
    buffer = io.BytesIO()
    face(7).save(buffer, format=name)
    return buffer.getvalue()


def in_parts() -> bytes:
    """A file of less than 256 kB that takes seconds to decode: the last part of an image, again and again."""
    whole = jpeg(Image.new("RGB", (178, 218)), progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (250_000 // len(last) - 1) + whole[-2:]


FILE = jpeg(face(7))
IMAGE = "expected a JPEG image in colour of 178 x 218 pixels as img_align_celeba/000007.jpg in .*; got "
AT_A_GLANCE = {
    "text": (raw(b"It was a dark and stormy night. " * 100), "got a file that is none or is cut short"),
    "nothing": (raw(b""), "got a file that is none or is cut short"),
    "half an archive": (cut, "got a file that is none or is cut short"),
    "a folder": (lambda path, _: path.mkdir(), r"expected the archive .*\.zip at .*; got a folder"),
    "no file": (lambda path, _: None, "got No such file or directory"),
    "a pipe": (lambda path, _: os.mkfifo(path), "got no file"),
    "an empty archive": (only(), "got a zip archive of something else, without entries"),
    "another archive": (only(**{"a.txt": b"a"}), "of something else, whose first entry is 'a.txt'"),
    "one missing": (without(7), "got one that lacks 1 of them, the first img_align_celeba/000007.jpg"),
    "many missing": (without(*range(9, 61)), "got one that lacks 52 of them, the first .*/000009.jpg"),
    "one too many": (with_(name_of(61), FILE), r"000061.jpg', which is none of these"),
    "number zero": (with_(name_of(0), FILE), r"000000.jpg', which is none of these"),
    "another file": (with_("list.csv", b"1"), "the entry 'list.csv', which is none of these"),
    "another folder": (with_("more/", b""), "the entry 'more/', which is none of these"),
    "other digits": (
        with_(name_of(1).replace("1", "\N{ARABIC-INDIC DIGIT ONE}"), FILE),
        "which is none of these",
    ),
    "a name of two lines": (with_("a\nb", b""), r"the entry 'a\\nb', which is none of these"),
    "a long name": (with_("a" * 5000, b""), r"'a{57}\.\.\.', which is none of these"),
    "a way up": (with_("../000001.jpg", FILE), r"'\.\./000001\.jpg', whose name leads elsewhere"),
    "a way up inside": (with_("img_align_celeba/../../x.jpg", FILE), "leads elsewhere"),
    "a hidden way up": (with_("__MACOSX/../../._x", b""), "leads elsewhere"),
    "a way up in Windows": (with_("..\\x.jpg", b""), "leads elsewhere"),
    "an absolute name": (with_("/etc/passwd", b""), "the entry '/etc/passwd', whose name leads elsewhere"),
    "a drive": (with_("C:/x.jpg", b""), "leads elsewhere"),
    "a link": (link, r"000007\.jpg', which is a link or a device"),
    "twice": (twice, r"one that has the entry 'img_align_celeba/000007.jpg' twice"),
    "encrypted": (patched(FLAGS, 1), "000007.jpg', which is encrypted"),
    "another method": (patched(METHOD, 12), "which is neither stored nor deflated"),
    "no content": (patched(SIZE, 0), "which has 0 bytes unpacked, and not 1 to 262,144"),
    "too much content": (with_(name_of(7), bytes(LARGEST + 1)), "which has 262,145 bytes unpacked"),
    "a huge claim": (patched(SIZE, 2**32 - 2), "which has 4,294,967,294 bytes unpacked"),
    "a huge packed claim": (patched(PACKED, 2**31), "which has 2,147,483,648 bytes packed"),
    "a huge directory": (huge_directory, r"cut short \(a directory of 200,000,000 bytes\)"),
}
AT_THE_IMAGE = {
    "thousands of parts": (with_(name_of(7), in_parts()), IMAGE + r"one in [\d,]+ parts"),
    "a lie of the size": (bomb, IMAGE + "one of more than the 1,000 bytes that the archive declares"),
    "fewer bytes": (patched(SIZE, 200_000), IMAGE + "one of fewer than the 200,000 bytes"),
    "a wrong checksum": (patched(CRC, 5), IMAGE + "one with another checksum"),
    "a flipped bit": (flipped, IMAGE + "one with another checksum"),
    "another's place": (at_another, IMAGE + "an entry of another name"),
    "no place": (patched(OFFSET, 1), IMAGE + "no entry where the archive says"),
    "behind the end": (patched(OFFSET, 2**31), IMAGE + "no entry where the archive says"),
    "cut packed data": (patched(PACKED, 500), IMAGE + "compressed data that end early"),
    "not packed": (patched(METHOD, 0), IMAGE + "one of (more|fewer) than"),
    "nonsense": (with_(name_of(7), b"nonsense"), IMAGE + "no JPEG image"),
    "PNG": (with_(name_of(7), in_format("PNG")), IMAGE + "no JPEG image"),
    "half an image": (with_(name_of(7), FILE[: len(FILE) // 2]), IMAGE + "a broken one .*truncated"),
    "wide": (with_(name_of(7), jpeg(face(7).rotate(90, expand=True))), IMAGE + "one of 218 x 178 pixels"),
    "grey": (with_(name_of(7), jpeg(face(7).convert("L"))), IMAGE + "a grey one"),
    "CMYK": (with_(name_of(7), jpeg(face(7).convert("CMYK"))), IMAGE + "one of colour mode CMYK"),
    "large": (with_(name_of(7), of_size(10_000, 10_000)), IMAGE + "one of far too many pixels"),
    "huge": (with_(name_of(7), of_size(65_000, 65_000)), IMAGE + "one of far too many pixels"),
}


def refusal(good: SimpleNamespace, path: Path, write: Callable) -> str:
    """What is said of an archive; it is one sentence, and what was here before is as it was."""
    write(path, good.files)
    with pytest.raises(UserError) as error:
        good.source.prepare(None, path, workers=1)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("expected ")
    assert text.count("; ") == 2
    assert cache.path_of("celeba").read_bytes() == good.kept
    assert {file.name for file in cache.folder().iterdir()} <= {"celeba.safetensors", ".celeba.lock"}
    assert torch.equal(good.source.load(None).test.images[0], joined(good.source.load(None))[50])
    return text


@pytest.mark.parametrize(("write", "message"), AT_A_GLANCE.values(), ids=AT_A_GLANCE.keys())
def test_what_is_not_the_archive_is_refused_before_any_image_is_read(
    good, prepared, sent, tmp_path, write, message
):
    text = refusal(good, tmp_path / "given.zip", write)
    assert re.search(message, text), text
    assert sent == []


@pytest.mark.parametrize(("write", "message"), AT_THE_IMAGE.values(), ids=AT_THE_IMAGE.keys())
def test_an_image_that_is_none_refuses_the_archive(good, prepared, tmp_path, write, message):
    text = refusal(good, tmp_path / "given.zip", write)
    assert re.search(message, text), text


def test_entries_that_share_their_bytes_are_refused(good, tmp_path):
    path = tmp_path / "given.zip"
    data = bytearray(celeba_archive(path, TOTAL, dict.fromkeys(good.files, b"1")).read_bytes())
    for number in range(1, TOTAL + 1):
        struct.pack_into("<I", data, central(data, number) + 20, 2**18)
    path.write_bytes(data)
    with pytest.raises(UserError, match="got one whose entries overlap"):
        inspect(path, TOTAL)


def test_what_systems_add_is_passed_over(good, tmp_path):
    path = tmp_path / "img_align_celeba.zip"
    added = {
        ".DS_Store": b"x",
        "img_align_celeba/.DS_Store": b"x",
        "img_align_celeba/Thumbs.db": b"x",
        "__MACOSX/": b"",
        "__MACOSX/img_align_celeba/._000001.jpg": b"x",
        "img_align_celeba/._000001.jpg": b"x",
    }
    celeba_archive(path, TOTAL, {**added, **dict(reversed(good.files.items()))})
    entries = inspect(path, TOTAL)
    assert [entry.name for entry in entries] == list(good.files)
    assert torch.equal(
        joined(good.source.prepare(None, path, workers=2)),
        torch.from_numpy(
            np.stack(
                [
                    np.asarray(square_of(n).resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
                    for n in range(1, TOTAL + 1)
                ]
            )
        ),
    )


def test_an_archive_that_changes_meanwhile_is_refused(good, tmp_path, monkeypatch):
    path = tmp_path / "img_align_celeba.zip"
    path.write_bytes(good.archive.read_bytes())
    usual = Unfinished.put

    def put(self, piece, pixels):
        usual(self, piece, pixels)
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(Unfinished, "put", put)
    with pytest.raises(UserError, match=r"stays as it is at .*; got one that was changed meanwhile"):
        good.source.prepare(None, path, workers=1)
    assert not cache.is_there("celeba")


def test_only_one_of_two_threads_prepares(good, sent):
    threads = [threading.Thread(target=good.source.prepare, args=(None, good.archive, 1)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent == [*range(NUM_PIECES)]
    assert cache.path_of("celeba").read_bytes() == good.kept


def test_no_more_workers_start_than_there_are_pieces(good, monkeypatch):
    started = []
    usual = subprocess.Popen
    monkeypatch.setattr(
        celeba.subprocess, "Popen", lambda *a, **k: started.append(usual(*a, **k)) or started[-1]
    )
    replace(good.source, images_per_piece=30).prepare(None, good.archive, workers=100)
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


def test_workers_import_neither_torch_nor_igr():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); print('torch' in sys.modules, 'igr' in sys.modules)"
    )
    command = [sys.executable, "-c", code, celeba.celeba_worker.__file__]
    assert subprocess.check_output(command, text=True).split() == ["False", "False"]
