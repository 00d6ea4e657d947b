"""The contract of a data set: what it holds, where it comes from, how a likelihood wants it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from igr.models.likelihoods import LIKELIHOODS


@dataclass(frozen=True)
class Split:
    """Images of one part of a data set, with their labels.

    Arguments:
        images: Intensities from 0 (paper) to 255 (ink), uint8 with shape :math:`(N, C, H, W)`.
        labels: Class numbers from 0, int64 with shape :math:`(N,)`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> "Split":
        """The first ``count`` images; all of them where there are fewer."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Dataset:
    """Three fixed, disjoint splits of one set of images.

    Models are fitted to ``train``, choices made on ``validation``, figures reported on ``test``.
    """

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width, in pixels."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def limited(self, max_images: int | None) -> "Dataset":
        """The same set with at most ``max_images`` images in each split; ``None`` keeps all."""
        if max_images is None:
            return self
        return replace(
            self,
            train=self.train.first(max_images),
            validation=self.validation.first(max_images),
            test=self.test.first(max_images),
        )


@dataclass(frozen=True)
class Source:
    """What is known of a data set before it is read.

    Arguments:
        origin: Where the images come from, in a few words.
        sizes: Numbers of images for training, validation and test.
        image_shape: Channels, height and width, in pixels.
        is_present: Whether it can be read now; takes the data folder.
        load: Reads it; takes the data folder.
    """

    origin: str
    sizes: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    is_present: Callable[[Path | None], bool]
    load: Callable[[Path | None], Dataset]


def prepare(images: Tensor, likelihood: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images in the form that a likelihood is a law of.

    Arguments:
        images: Intensities, uint8 with any shape.
        likelihood: A name in :data:`igr.models.likelihoods.LIKELIHOODS`.
        dtype: The floating-point type of the result.

    Returns:
        A tensor with the shape of ``images``: 0 or 1, cut at half of the full intensity, where the
        likelihood is one of binary images; intensities in [0, 1] elsewhere.
    """
    if LIKELIHOODS[likelihood].binary_images:
        return (images >= 128).to(dtype)
    return images.to(dtype) / 255
