"""MNIST and Fashion-MNIST are what the world knows under these names."""

import gc
import gzip
import json
import shutil
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from igr.cli import main
from igr.data import SOURCES, Dataset, load


@pytest.fixture(params=["mnist", "fmnist"])
def dataset(request, real_cache: Path, monkeypatch) -> Dataset:
    monkeypatch.setenv("IGR_CACHE_DIR", str(real_cache))
    return load(request.param)


def test_the_splits_have_the_stated_sizes_and_shape(dataset):
    source = SOURCES[dataset.name]
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == source.sizes
    assert source.sizes == (55_000, 5_000, 10_000)
    assert dataset.image_shape == source.image_shape == (1, 28, 28)


# Mean and standard deviation of the 60,000 training images in [0, 1], as they are quoted everywhere, and the
# number of training images of each digit.
KNOWN = {
    "mnist": (0.1307, 0.3081, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
    "fmnist": (0.2860, 0.3530, [6000] * 10),
}


def test_pixels_and_labels_have_the_known_statistics(dataset):
    images = torch.cat([dataset.train.images, dataset.validation.images]).float() / 255
    labels = torch.cat([dataset.train.labels, dataset.validation.labels])
    mean, deviation, counts = KNOWN[dataset.name]
    assert images.mean().item() == pytest.approx(mean, abs=5e-5)
    assert images.std().item() == pytest.approx(deviation, abs=5e-5)
    assert torch.bincount(labels).tolist() == counts


def test_the_order_is_that_of_the_files(dataset):
    first = {"mnist": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "fmnist": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]}
    test = {"mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "fmnist": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]}
    assert dataset.train.labels[:10].tolist() == first[dataset.name]
    assert dataset.test.labels[:10].tolist() == test[dataset.name]


def test_digits_are_upright_and_bright(real_cache, monkeypatch):
    """The mean image of a one is a bright vertical bar, and that of a seven is heavier at the top."""
    monkeypatch.setenv("IGR_CACHE_DIR", str(real_cache))
    train = load("mnist").train
    one, seven = (train.images[train.labels == digit, 0].float().mean(0) for digit in (1, 7))
    assert one[6:22, 12:16].mean() > 100 > 10 > one[:, :6].mean()
    assert seven[7:11].mean() > 1.3 * seven[17:21].mean()


def test_classes_are_told_by_their_labels(dataset):
    """A linear readout of a tenth of the images knows the labels of others: they belong together."""
    x, y = dataset.train.images[:5000].flatten(1).double() / 255, dataset.train.labels[:5000]
    targets = torch.nn.functional.one_hot(y, 10).double()
    gram = x.T @ x + 10 * torch.eye(784, dtype=torch.float64)
    weights = torch.linalg.solve(gram, x.T @ targets)
    predicted = (dataset.test.images[:2000].flatten(1).double() / 255 @ weights).argmax(-1)
    assert (predicted == dataset.test.labels[:2000]).double().mean() > 0.75


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def truncated(place: Path) -> None:
    data = (place / IMAGES).read_bytes()
    (place / IMAGES).write_bytes(data[: len(data) // 2])


def foreign(place: Path) -> None:
    (place / IMAGES).write_bytes(b"<html>404 not found</html>")


def claims_too_much(place: Path) -> None:
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 28, 28)
    (place / IMAGES).write_bytes(gzip.compress(header + bytes(1000)))


def wrong_dimensions(place: Path) -> None:
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 60_000, 32, 32)
    (place / IMAGES).write_bytes(gzip.compress(header + bytes(1000)))


def labels_of_the_test_set(place: Path) -> None:
    shutil.copy(place / "t10k-labels-idx1-ubyte.gz", place / LABELS)


def labels_of_another_set(place: Path) -> None:
    shutil.copy(place.parent / "fashion-mnist" / LABELS, place / LABELS)


def one_pixel_changed(place: Path) -> None:
    data = bytearray(gzip.decompress((place / IMAGES).read_bytes()))
    data[-1] ^= 1
    (place / IMAGES).write_bytes(gzip.compress(bytes(data), 1))


def a_file_missing(place: Path) -> None:
    (place / LABELS).unlink()


def images_of_another_set(place: Path) -> None:
    shutil.copy(place.parent / "fashion-mnist" / IMAGES, place / IMAGES)


@pytest.mark.parametrize(
    ("break_", "message"),
    [
        (truncated, "cut short or another file"),
        (foreign, "got another file, which starts with b'<html>"),
        (claims_too_much, "claims 2,147,483,648 images of 28 x 28"),
        (wrong_dimensions, "claims 60,000 images of 32 x 32"),
        (labels_of_the_test_set, "expected an IDX file of 60,000 labels"),
        (labels_of_another_set, "another one or was changed"),
        (one_pixel_changed, "another one or was changed"),
        (images_of_another_set, "another one or was changed"),
        (a_file_missing, "got no such file"),
    ],
)
def test_a_broken_copy_is_refused_in_one_sentence_at_once(
    real_data, real_cache, tmp_path, monkeypatch, capsys, break_, message
):
    """Through the command line, with a right copy in the cache that must not hide it."""
    data_dir = tmp_path / "data"
    for folder in ("mnist", "fashion-mnist"):
        shutil.copytree(real_data / folder, data_dir / folder, copy_function=shutil.copy)
    for path in data_dir.rglob("*"):
        path.chmod(0o700)
    break_(data_dir / "mnist")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IGR_CACHE_DIR", str(real_cache))
    before = (real_cache / "mnist.safetensors").stat()
    # A command line is imported when it is first called.
    assert main(["train", "--help"]) == 0
    capsys.readouterr()
    # What other tests have left is not for this one to clear away.
    gc.collect()
    tracemalloc.start()
    # Its own time, whatever else the machine and other threads do.
    started = time.thread_time()
    try:
        assert main(["train", "--data", "mnist", "--data-dir", str(data_dir)]) == 2
        seconds, peak = time.thread_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("igr train: expected ")
    assert err.count("\n") == 1
    assert seconds < 1
    assert peak < 20e6
    assert not (tmp_path / "runs").exists()
    assert (real_cache / "mnist.safetensors").stat() == before


def test_a_smoke_run_on_real_images(real_cache, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("IGR_CACHE_DIR", str(real_cache))
    monkeypatch.chdir(tmp_path)
    for number, flags in enumerate(
        (
            ["--data", "fmnist", "--likelihood", "normal"],
            ["--data", "omniglot", "--binarization", "stochastic"],
        )
    ):
        out = tmp_path / str(number)
        assert main(["train", "--smoke", "--network", "dense", *flags, "--out", str(out)]) == 0
        assert {path.name for path in (out / "figures").iterdir()} == {
            "prior_samples.png",
            "reconstructions.png",
        }


def test_a_run_goes_on_and_is_evaluated_where_its_files_are_elsewhere(
    real_data, tmp_path, monkeypatch, capsys
):
    """As after a move to another machine; a folder is recorded in full, whatever was typed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").symlink_to(real_data)
    small = ["--max-images", "300", "--network", "dense", "--epochs", "2", "--checkpoint-every", "1"]
    assert main(["train", "--data", "mnist", "--data-dir", "old", *small, "--out", "run"]) == 0
    assert json.loads(Path("run/config.json").read_text())["config"]["data_dir"] == str(tmp_path / "old")
    (tmp_path / "old").rename("moved")
    monkeypatch.setenv("IGR_CACHE_DIR", str(tmp_path / "another-cache"))
    latest = sorted(Path("run/checkpoints").iterdir())[-1]
    latest.unlink()
    Path("run/result.json").unlink()
    assert main(["train", "--resume", "run"]) == 2
    assert f"in {tmp_path / 'old' / 'mnist'}" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--data-dir", "moved"]) == 0
    assert latest.exists()
    # Now the images are in the cache.
    assert main(["evaluate", "run", "--num-eval-samples", "2"]) == 0
    assert main(["evaluate", "run", "--num-eval-samples", "2", "--data-dir", "typo"]) == 2


def test_arrays_are_exactly_the_bytes_of_the_files(real_data, dataset):
    folder = {"mnist": "mnist", "fmnist": "fashion-mnist"}[dataset.name]
    with gzip.open(real_data / folder / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 1, 28, 28)
    assert np.array_equal(dataset.test.images.numpy(), pixels)
