"""The cache: one memory-mapped file, whole or not there, and refused where it is not what it should be."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from igr import atomic
from igr.data import cache
from igr.errors import UserError

IMAGES = torch.arange(20 * 784).remainder(251).to(torch.uint8).view(20, 1, 28, 28)
LABELS = torch.arange(20) % 10
STAMP = cache.Stamp("/somewhere/file", 12, 34)


def written() -> Path:
    cache.folder().mkdir(exist_ok=True)
    cache.write("small", IMAGES, LABELS, [STAMP])
    return cache.path_of("small")


def read() -> cache.Arrays:
    return cache.read("small", (1, 28, 28), 20, 10)


def test_what_was_written_is_read():
    path = written()
    found = read()
    assert torch.equal(found.images, IMAGES)
    assert torch.equal(found.labels, LABELS)
    assert found.sources == (STAMP,)
    assert [entry.name for entry in path.parent.iterdir()] == ["small.safetensors"]
    assert torch.equal(cache.verify("small", (1, 28, 28), 20, 10).images, IMAGES)


def test_pixels_stay_on_the_disk_until_they_are_used():
    cache.folder().mkdir()
    large = torch.zeros(100_000, 1, 28, 28, dtype=torch.uint8)
    cache.write("large", large, torch.zeros(100_000, dtype=torch.int64), [])
    del large
    before = resident_bytes()
    arrays = cache.read("large", (1, 28, 28), 100_000, 10)
    assert resident_bytes() - before < 10e6
    assert arrays.images.sum() == 0
    assert resident_bytes() - before > 50e6


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_what_is_done_to_a_tensor_does_not_reach_the_file():
    written()
    read().images.zero_()
    assert torch.equal(read().images, IMAGES)


def stored(record: object, images: torch.Tensor = IMAGES, labels: torch.Tensor = LABELS) -> Path:
    """A cache file with another header or other arrays."""
    cache.folder().mkdir(exist_ok=True)
    path = cache.path_of("small")
    save_file({"images": images, "labels": labels}, path, {"igr": json.dumps(record)})
    return path


RECORD = {"format": cache.FORMAT, "name": "small", "sha256": "0", "sources": []}
OTHER = {
    "another version": (lambda: stored(RECORD | {"format": 2}), "expected format 1 .* got format 2 of"),
    "no version": (lambda: stored({}), "got format None of another version"),
    "another set": (lambda: stored(RECORD | {"name": "mnist"}), "expected 'small' with .* got 'mnist' with"),
    "a name of two lines": (lambda: stored(RECORD | {"name": "a\nb"}), r"got 'a\\nb' with"),
    "fewer images": (lambda: stored(RECORD, IMAGES[:19]), r"got 'small' with .*\(19, 1, 28, 28\)"),
    "another size": (lambda: stored(RECORD, IMAGES[..., :14].contiguous()), r"got 'small' .*28, 14\)"),
    "grey values": (lambda: stored(RECORD, IMAGES / 255), r"got 'small' .*28, 28\), torch.float32"),
    "labels as numbers": (
        lambda: stored(RECORD, IMAGES, LABELS.float()),
        r"\(20,\), torch.float32",
    ),
    "a label of no class": (
        lambda: stored(RECORD, IMAGES, LABELS + 1),
        r"expected labels from 0 to 9 .* got 1 to 10, since the file is damaged",
    ),
    "a label below zero": (lambda: stored(RECORD, IMAGES, LABELS - 1), "expected labels .* got -1 to 8"),
    "no sources": (lambda: stored(RECORD | {"sources": [{"path": "x"}]}), "expected a record of what it was"),
    "a source without a size": (
        lambda: stored(RECORD | {"sources": [{"path": "x", "num_bytes": float("inf"), "modified": 1}]}),
        "expected a record of what it was",
    ),
    "no list of sources": (lambda: stored(RECORD | {"sources": 5}), "expected a record of what it was"),
    "a list": (lambda: stored([]), "header is no JSON object"),
}


@pytest.mark.parametrize(("make", "message"), OTHER.values(), ids=OTHER.keys())
def test_a_foreign_cache_is_refused_by_one_sentence_that_names_it(make, message):
    path = make()
    with pytest.raises(UserError, match=message) as error:
        read()
    text = str(error.value)
    assert f"in the cache {path}" in text
    assert text.endswith("remove the file to have it made anew")
    assert "\n" not in text


def test_every_truncated_or_foreign_file_is_refused():
    path = written()
    whole = path.read_bytes()
    cut = [whole[:end] for end in (0, 4, 7, 8, 100, len(whole) // 2, len(whole) - 1)]
    for data in (*cut, whole + b"\0", b"\xff" * 100, b"\0" * 100):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"expected a whole cache file .* broken or foreign"):
            read()


def test_a_flipped_bit_is_found_by_verification():
    path = written()
    data = bytearray(path.read_bytes())
    data[-3000] ^= 4
    path.write_bytes(data)
    read()
    with pytest.raises(UserError, match=r"expected the arrays that were written .* damaged"):
        cache.verify("small", (1, 28, 28), 20, 10)


def test_a_failed_write_leaves_what_was_there(monkeypatch):
    path = written()
    before = path.read_bytes()

    def fail(self, contents):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"No space left on device\); make room there, or name another with"):
        cache.write("small", IMAGES + 1, LABELS, [])
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert not any(atomic.is_unfinished(entry) for entry in path.parent.iterdir())


def test_what_a_killed_process_left_of_this_set_is_removed_and_nothing_else():
    """Processes that write other sets hold other locks, and may run on another machine."""
    cache.folder().mkdir()
    ours = cache.folder() / ".unfinished-999999999-small.safetensors"
    others = cache.folder() / ".unfinished-999999999-mnist.safetensors"
    for path in (ours, others):
        path.touch()
    written()
    assert not ours.exists()
    assert others.exists()


def test_others_may_read_what_the_umask_lets_them(monkeypatch):
    usual = os.umask(0o027)
    try:
        assert written().stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(usual)


def test_a_process_that_waits_says_so_only_to_a_terminal(capsys):
    with cache.locked("small"):
        waiter = threading.Thread(target=lambda: cache.locked("small").__enter__())
        waiter.start()
        waiter.join(0.8)
        assert waiter.is_alive()
    waiter.join(10)
    assert not waiter.is_alive()
    assert capsys.readouterr() == ("", "")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("IGR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"expected a cache folder that can be written; got .*file/cache"):
        cache.locked("small").__enter__()


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"a file of the user")
    monkeypatch.setenv("IGR_CACHE_DIR", str(tmp_path / "file"))
    assert not cache.is_there("small")
    with pytest.raises(UserError, match=r"expected a cache folder that can be written; got .*/file \("):
        cache.locked("small").__enter__()
    assert (tmp_path / "file").read_bytes() == b"a file of the user"


def test_a_folder_that_may_only_be_read_serves_what_it_has(monkeypatch):
    path = written()
    path.parent.chmod(0o500)
    if os.geteuid() == 0:
        # Root may write everywhere, so that the system has to be played.
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr(Path, "write_bytes", refuse)
    assert torch.equal(read().images, IMAGES)
    with pytest.raises(
        UserError, match=r"expected a cache folder that can be written; got .*Permission denied"
    ):
        cache.write("other", IMAGES, LABELS, [STAMP])
    monkeypatch.undo()
    path.parent.chmod(0o700)


@pytest.mark.parametrize("kind", ["folder", "pipe", "dead link"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, kind):
    path = written()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        UserError, match=r"expected a (whole )?cache file .*; got (what is no file|No such file)"
    ):
        read()


def test_without_the_variable_the_system_says_where_caches_are(monkeypatch, tmp_path):
    monkeypatch.delenv("IGR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "igr"
