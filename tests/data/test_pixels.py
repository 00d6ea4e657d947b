"""What a likelihood is given: cut, drawn or grey, each with exactly the stated law."""

import math

import pytest
import torch

from igr.data import PreparedImages, prepare
from igr.models.likelihoods import LIKELIHOODS

GREYS = torch.arange(256, dtype=torch.uint8)


def test_fixed_binarization_cuts_at_half_intensity():
    assert prepare(GREYS, "bernoulli").tolist() == [float(grey / 255 >= 0.5) for grey in range(256)]


@pytest.mark.parametrize("likelihood", [name for name, law in LIKELIHOODS.items() if not law.binary_images])
def test_grey_values_span_zero_to_one(likelihood):
    found = prepare(GREYS, likelihood, torch.float64)
    torch.testing.assert_close(found * 255, GREYS.double(), rtol=0, atol=1e-12)
    assert (found[0], found[-1]) == (0, 1)


def test_a_drawn_pixel_is_one_with_the_probability_of_its_intensity():
    count = 20_000
    drawn = prepare(
        GREYS.expand(count, 256), "bernoulli", torch.float64, torch.Generator().manual_seed(0)
    ).sum(0)
    assert (drawn[0], drawn[-1]) == (0, count)
    p = GREYS[1:-1].double() / 255
    z = (drawn[1:-1] - count * p) / torch.sqrt(count * p * (1 - p))
    assert z.abs().max() < 5
    # Together they are as spread as independent draws: chi-square over all intensities.
    assert abs((z * z).sum() - 254) < 5 * math.sqrt(2 * 254)


def test_draws_of_neighbours_are_independent():
    half = torch.full((50_000, 2), 128, dtype=torch.uint8)
    drawn = prepare(half, "bernoulli", torch.float64, torch.Generator().manual_seed(1))
    both = drawn.prod(-1).sum()
    p = (128 / 255) ** 2
    assert abs(both - 50_000 * p) < 5 * math.sqrt(50_000 * p * (1 - p))


def test_an_image_is_drawn_the_same_however_many_follow_it():
    images = torch.arange(10 * 784).remainder(256).to(torch.uint8).view(10, 1, 28, 28)
    all_, some = (
        prepare(part, "bernoulli", generator=torch.Generator().manual_seed(3))
        for part in (images, images[:7])
    )
    assert torch.equal(all_[:7], some)


IMAGES = torch.arange(9 * 2 * 3).mul(37).remainder(256).to(torch.uint8).view(9, 1, 2, 3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slices_of_prepared_images_are_those_of_the_whole(likelihood, dtype):
    prepared, whole = PreparedImages(IMAGES, likelihood, dtype), prepare(IMAGES, likelihood, dtype)
    assert len(prepared) == 9
    for places in (slice(None), slice(2, 5), slice(7, 20), slice(4, 4), slice(None, -3)):
        assert torch.equal(prepared[places], whole[places])
        assert prepared[places].dtype == dtype
    assert torch.equal(prepared.first(4)[:], whole[:4])
    assert len(prepared.first(4)) == 4
    assert len(prepared.first(100)) == 9
    assert prepared.first(None) is prepared


def test_pixels_of_prepared_images_are_drawn_once_for_all():
    images = IMAGES.repeat(30, 1, 1, 1)
    drawn = PreparedImages(images, "bernoulli", torch.float64, torch.Generator().manual_seed(4))
    whole = prepare(images, "bernoulli", torch.float64, torch.Generator().manual_seed(4))
    assert torch.equal(drawn[:], whole)
    assert torch.equal(drawn[:], drawn[:])
    assert torch.equal(drawn[100:117], whole[100:117])
    assert torch.equal(drawn.first(50)[40:], whole[40:50])
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(whole, prepare(images, "bernoulli", torch.float64))


def test_prepared_images_read_no_pixel_before_it_is_asked_for():
    images = IMAGES.clone()
    prepared = PreparedImages(images, "normal")
    images.fill_(255)
    assert (prepared[:] == 1).all()
