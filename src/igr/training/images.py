"""The images of a run, as its steps and its validation take them."""

from typing import Self

import torch
from torch import Tensor

from igr.data import Dataset, cut, prepare
from igr.models.likelihoods import LIKELIHOODS
from igr.training.randomness import keyed_generator
from igr.training.run_config import RunConfig
from igr.training.runs import evaluation_images

# Training images of more bytes than this are not brought to the device, nor cut, all at once.
MOST_RESIDENT_BYTES = 2**30


class Images:
    """The images of training, batch by batch, and those of validation.

    Arguments:
        config: A resolved config.
        dataset: The data set of the config.
        device: Where steps are taken.
        like: Others of the same form, to share their memory.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, device: torch.device, like: Self | None = None
    ) -> None:
        self.config = config
        self.device = device
        self.drawn_anew = config.binarization == "stochastic"
        # What is larger stays where it is, on the disk as a rule, and comes batch by batch.
        fits = dataset.train.images.nbytes <= MOST_RESIDENT_BYTES
        self.cut_once = fits and LIKELIHOODS[config.likelihood].binary_images and not self.drawn_anew
        if like is None:
            images = dataset.train.images.to(device) if fits else dataset.train.images
            self.train = cut(images) if self.cut_once else images
            self.validation = evaluation_images(config, dataset, "validation")
        else:
            self.train, self.validation = like.train, like.validation

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """The training images of each step of an epoch, the first one being zero, by their numbers."""
        generator = keyed_generator(self.config.seed, "order", epoch)
        order = torch.randperm(len(self.train), generator=generator)
        return torch.split(order.to(self.train.device), self.config.batch_size)

    def take(self, batch: Tensor) -> Tensor:
        """The training images with these numbers, on the device, as they are kept."""
        return self.train.index_select(0, batch).to(self.device)

    def prepared(self, images: Tensor, step: int) -> Tensor:
        """Training images of a step, the first one being zero, in the form that the likelihood needs."""
        if self.cut_once:
            return images.to(self.config.dtype)
        generator = None
        if self.drawn_anew:
            generator = keyed_generator(self.config.seed, "binarization", step, self.device)
        return prepare(images, self.config.likelihood, self.config.dtype, generator)
