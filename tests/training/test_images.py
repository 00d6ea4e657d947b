"""What a step sees of the training images, and validation of its own."""

import dataclasses

import torch

from igr.data import load
from igr.training.config import TrainConfig
from igr.training.images import Images
from igr.training.runs import evaluation_images

CPU = torch.device("cpu")
PLAIN = TrainConfig(network="dense", max_images=110, batch_size=40).resolved()
DRAWN = dataclasses.replace(PLAIN, binarization="stochastic").resolved()


def test_pixels_are_drawn_anew_in_each_epoch_but_once_for_evaluation():
    images = Images(DRAWN, load("digits"), CPU)
    batch = images.take(torch.arange(40))
    first = images.prepared(batch, 0)
    assert torch.equal(images.prepared(batch, 0), first)
    assert not torch.equal(images.prepared(batch, 3), first)
    other = dataclasses.replace(DRAWN, seed=1)
    fixed = [evaluation_images(settings, load("digits"), "test")[:] for settings in (DRAWN, other)]
    assert torch.equal(*fixed)
    assert not torch.equal(fixed[0], evaluation_images(PLAIN, load("digits"), "test")[:])


def test_an_epoch_has_each_image_once_in_an_order_of_its_seed_and_number():
    images = Images(PLAIN, load("digits").limited(110), CPU)
    first, again, later = (images.batches(epoch) for epoch in (0, 0, 1))
    assert [len(batch) for batch in first] == [40, 40, 30]
    assert sorted(torch.cat(first).tolist()) == list(range(110))
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(later))
    other = Images(dataclasses.replace(PLAIN, seed=1), load("digits").limited(110), CPU, like=images)
    assert not torch.equal(torch.cat(first), torch.cat(other.batches(0)))


def test_those_of_another_share_its_memory_and_draw_their_own_pixels():
    dataset = load("digits")
    images = Images(DRAWN, dataset, CPU)
    other = Images(dataclasses.replace(DRAWN, seed=1), dataset, CPU, like=images)
    assert other.train is images.train
    assert other.validation is images.validation
    batch = images.take(torch.arange(40))
    assert not torch.equal(other.prepared(batch, 0), images.prepared(batch, 0))
