"""Data sets of published files: read once, from a folder or by download, and then from the cache."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from igr.data import cache, published
from igr.data.dataset import Dataset
from igr.data.idx import read_idx
from igr.errors import UserError
from small_images import NAMES, SIZES, compressed, idx_bytes, small_arrays, small_source, write_files

SOURCE = small_source()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_files(tmp_path / "data")
    return tmp_path / "data"


def assert_right(dataset: Dataset) -> None:
    arrays = {name: torch.from_numpy(array) for name, array in small_arrays().items()}
    splits = {"train": slice(0, 40), "validation": slice(40, 48)}
    for name, part in splits.items():
        split = getattr(dataset, name)
        assert torch.equal(split.images, arrays["train-images"][part].unsqueeze(1))
        assert torch.equal(split.labels, arrays["train-labels"][part].long())
    assert torch.equal(dataset.test.images, arrays["test-images"].unsqueeze(1))
    assert torch.equal(dataset.test.labels, arrays["test-labels"].long())
    assert tuple(map(len, (dataset.train, dataset.validation, dataset.test))) == SIZES


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Records every file that is read in full."""
    read: list[Path] = []

    def recorded(path, content):
        read.append(path)
        return read_idx(path, content)

    monkeypatch.setattr("igr.data.mnist.read_idx", recorded)
    return read


def test_files_in_a_folder_are_read_and_kept(data_dir):
    assert not SOURCE.state(None).present
    assert SOURCE.state(data_dir).present
    assert_right(SOURCE.load(data_dir))
    assert SOURCE.state(None).present
    # From the cache alone, the files being gone.
    for path in (data_dir / "small").iterdir():
        path.unlink()
    assert_right(SOURCE.load(None))


@pytest.mark.parametrize("folder", ["SMALL/raw", "."])
@pytest.mark.parametrize("plain", [False, True], ids=["gzip", "plain"])
def test_other_places_and_unpacked_files_are_found(tmp_path, folder, plain):
    place = write_files(tmp_path / "data", folder) if folder != "." else write_files(tmp_path, "data")
    if plain:
        for name, array in small_arrays().items():
            (place / f"{name}.gz").unlink()
            (place / name).write_bytes(idx_bytes(array))
    assert_right(SOURCE.load(tmp_path / "data"))


def test_files_are_read_again_only_if_they_changed(data_dir, monkeypatch):
    read = count_reads(monkeypatch)
    SOURCE.load(data_dir)
    assert len(read) == 4
    SOURCE.load(data_dir)
    assert len(read) == 4
    path = data_dir / "small" / "test-labels.gz"
    os.utime(path, ns=(1, 1))
    SOURCE.load(data_dir)
    assert len(read) == 8


def test_a_changed_file_is_refused_although_the_cache_is_right(data_dir):
    assert_right(SOURCE.load(data_dir))
    kept = cache.path_of("small").read_bytes()
    labels = small_arrays()["test-labels"]
    (data_dir / "small" / "test-labels.gz").write_bytes(compressed((labels + 1) % 10))
    with pytest.raises(UserError, match=r"test-labels.gz; got .* another one or was changed"):
        SOURCE.load(data_dir)
    assert cache.path_of("small").read_bytes() == kept
    assert_right(SOURCE.load(None))


def test_labels_that_do_not_match_the_images_are_refused(data_dir):
    place = data_dir / "small"
    (place / "train-labels.gz").write_bytes((place / "test-labels.gz").read_bytes())
    with pytest.raises(UserError, match=r"expected an IDX file of 48 labels .* claims 12 labels"):
        SOURCE.load(data_dir)
    assert not cache.path_of("small").exists()


def test_a_missing_file_is_named_with_its_places_and_its_address(data_dir):
    (data_dir / "small" / "train-images.gz").unlink()
    assert SOURCE.state(data_dir).status == "broken"
    with pytest.raises(UserError) as error:
        SOURCE.load(data_dir)
    text = str(error.value)
    for part in (
        "train-images.gz or train-images of small",
        f"in {data_dir / 'small'}; got",
        "http://127.0.0.1:9/train-images.gz",
        "--data-dir",
    ):
        assert part in text


def test_a_folder_without_the_set_is_told_where_it_should_be(tmp_path):
    state = SOURCE.state(tmp_path)
    assert (state.status, state.where) == ("absent", f"no files in {tmp_path / 'small'}")
    with pytest.raises(UserError) as error:
        SOURCE.load(tmp_path)
    assert f"in {tmp_path / 'small'} or {tmp_path / 'SMALL/raw'}; got" in str(error.value)


@pytest.mark.parametrize("name", ["a" * 300, "no/\0/path"])
def test_a_path_that_no_system_takes_is_one_sentence(tmp_path, name):
    with pytest.raises(UserError, match="expected "):
        SOURCE.load(tmp_path / name)


def test_a_wrong_folder_is_not_replaced_by_the_cache(data_dir, tmp_path):
    SOURCE.load(data_dir)
    with pytest.raises(UserError, match="got no such file"):
        SOURCE.load(tmp_path / "typo")


def test_no_network_is_one_sentence():
    with pytest.raises(UserError) as error:
        SOURCE.load(None)
    text = str(error.value)
    assert "\n" not in text
    for part in ("train-images.gz", str(cache.downloads_of("small")), "http://127.0.0.1:9/", "--data-dir"):
        assert part in text
    assert not cache.path_of("small").exists()


def test_downloads_are_read_and_kept_and_can_be_checked(monkeypatch):
    asked = []

    def fetched(archive, folder, owner):
        asked.append(archive.name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / archive.name
        path.write_bytes(compressed(small_arrays()[path.stem]))
        return path

    monkeypatch.setattr(published, "fetch", fetched)
    assert_right(SOURCE.load(None))
    assert_right(SOURCE.load(None))
    kept_at = cache.path_of("small")
    assert SOURCE.state(None).where.startswith(f"{kept_at}, made of the files in")
    kept_at.unlink()
    assert SOURCE.state(None).where == str(cache.downloads_of("small"))
    assert_right(SOURCE.load(None))
    asked = asked[:4]
    assert asked == [f"{name}.gz" for name in NAMES]
    kept, files, same = SOURCE.check(None)
    assert kept == f"the cache {cache.path_of('small')} holds 60 images, as they were written"
    assert files.startswith(f"4 files in {cache.downloads_of('small')} hold 60 images")
    assert "the cache holds" in same


def test_a_check_reads_everything_and_writes_nothing(data_dir):
    (files,) = SOURCE.check(data_dir)
    assert "hold 60 images, checksums right" in files
    assert not cache.folder().exists()
    with pytest.raises(UserError, match="got no such file; read it once with igr data prepare small"):
        SOURCE.check(None)
    SOURCE.load(data_dir)
    assert len(SOURCE.check(data_dir)) == 3
    assert len(SOURCE.check(None)) == 1


def test_a_check_compares_the_cache_with_the_files(data_dir):
    arrays = SOURCE.load(data_dir)
    images = torch.cat([arrays.train.images, arrays.validation.images, arrays.test.images])
    labels = torch.cat([arrays.train.labels, arrays.validation.labels, arrays.test.labels])
    cache.write("small", images.flip(-1), labels, [])
    with pytest.raises(UserError, match=r"expected the images of .* got other ones"):
        SOURCE.check(data_dir)


def foreign() -> None:
    cache.path_of("small").write_bytes(b"nonsense")


def of_another_set() -> None:
    cache.write(
        "other", torch.zeros(60, 1, 28, 28, dtype=torch.uint8), torch.zeros(60, dtype=torch.int64), []
    )
    cache.path_of("other").rename(cache.path_of("small"))


def of_another_version() -> None:
    path = cache.path_of("small")
    path.write_bytes(path.read_bytes().replace(b'\\"format\\": 1', b'\\"format\\": 2'))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (foreign, "broken or foreign"),
        (of_another_set, "got 'other' with"),
        (of_another_version, "got format 2"),
    ],
)
def test_a_broken_cache_is_refused_by_every_command(data_dir, spoil, message):
    SOURCE.load(data_dir)
    spoil()
    state = SOURCE.state(None)
    assert state.status == "broken"
    assert message in state.where
    for use in (SOURCE.load, SOURCE.check):
        for folder in (None, data_dir):
            with pytest.raises(UserError, match=message):
                use(folder)


LOAD = """
import sys
from pathlib import Path
from small_images import small_source
print(small_source().load(Path(sys.argv[1])).train.images.sum().item())
"""


def test_processes_that_start_at_once_get_the_same(data_dir):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", LOAD, str(data_dir)]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    expected = int(small_arrays()["train-images"][:40].sum(dtype=np.int64))
    assert outputs == [(f"{expected}\n", "")] * 3


def test_only_one_of_two_threads_reads(data_dir, monkeypatch):
    read = count_reads(monkeypatch)
    threads = [threading.Thread(target=SOURCE.load, args=(data_dir,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 4
