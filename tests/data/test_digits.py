"""The digits: the splits are fixed for ever, and the pictures are what they claim to be."""

import hashlib
from pathlib import Path

import pytest
import torch

from igr.data import SOURCES, Dataset, load, prepare
from igr.data.digits import DIGITS
from igr.errors import UserError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def test_the_order_of_the_images_never_changes():
    order = DIGITS.split_order()
    assert sorted(order) == list(range(1797))
    assert order[:5] == [1272, 1676, 383, 1480, 1538]
    text = ",".join(map(str, order)).encode()
    assert hashlib.sha256(text).hexdigest().startswith("6176a0216d80356a")


def test_the_splits_have_the_stated_sizes_and_shape(digits):
    source = SOURCES["digits"]
    assert (len(digits.train), len(digits.validation), len(digits.test)) == source.sizes == (1300, 197, 300)
    assert digits.image_shape == source.image_shape == (1, 8, 8)


def test_the_splits_together_are_scikit_learns_images(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = DIGITS.split_order()
    splits = (digits.train, digits.validation, digits.test)
    images = torch.cat([split.images for split in splits])
    labels = torch.cat([split.labels for split in splits])
    assert labels.tolist() == bunch.target[order].tolist()
    exact = torch.from_numpy(bunch.images[order]) * 255 / 16
    assert ((images[:, 0] - exact).abs() <= 0.5).all()
    assert (images.min(), images.max(), images.dtype) == (0, 255, torch.uint8)


def test_every_split_has_every_digit_in_about_its_share(digits):
    for split in (digits.train, digits.validation, digits.test):
        counts = torch.bincount(split.labels, minlength=10)
        z = (counts - 0.1 * len(split)) / (len(split) * 0.1 * 0.9) ** 0.5
        assert z.abs().max() < 5


def test_bernoulli_images_are_cut_at_half_intensity():
    sixteenths = torch.arange(17)
    images = ((sixteenths * 255 + 8) // 16).to(torch.uint8)
    assert prepare(images, "bernoulli").tolist() == (sixteenths >= 8).float().tolist()


def test_prepare_keeps_shape_and_takes_the_precision(digits):
    x = prepare(digits.test.images, "bernoulli", torch.float64)
    assert x.shape == (300, 1, 8, 8)
    assert x.dtype == torch.float64
    # About half of the pixels of these digits have ink.
    assert 0.25 < x.mean() < 0.5


def test_a_limit_keeps_the_first_images_of_each_split(digits):
    limited = digits.limited(250)
    assert (len(limited.train), len(limited.validation), len(limited.test)) == (250, 197, 250)
    assert torch.equal(limited.test.images, digits.test.images[:250])
    assert digits.limited(None) is digits


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UserError, match=r"one of .*digits.*got 'digit'; did you mean digits\?"):
        load("digit")


def test_embedded_images_take_no_data_folder(tmp_path: Path):
    with pytest.raises(UserError, match="expected no data folder for digits"):
        load("digits", tmp_path)
