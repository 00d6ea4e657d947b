"""The contract of a data set: what it holds, where it comes from, how it is read and verified."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from igr.errors import UserError


@dataclass(frozen=True)
class Split:
    """Images of one part of a data set, with their labels.

    Arguments:
        images: Intensities from 0 to 255, of drawings from paper to ink, of photographs from dark to
            bright, uint8 with shape :math:`(N, C, H, W)`.
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

    Arguments:
        name: The name of the set.
        train: What models are fitted to.
        validation: What choices are made on.
        test: What figures are reported on.
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


class Stopped(KeyboardInterrupt):
    """A preparation was interrupted; the text says how to go on."""


@dataclass(frozen=True)
class State:
    """What is here of a data set, without a download.

    Arguments:
        status: ``"ready"`` to be read, ``"broken"`` where something is here but not all that is
            needed, or not right, and ``"absent"``.
        where: Where it is, or what is wrong.
        num_bytes: How large it is there, if it is ready and a file.
    """

    status: Literal["ready", "broken", "absent"]
    where: str
    num_bytes: int | None = None

    @property
    def present(self) -> bool:
        """Whether it can be read."""
        return self.status == "ready"


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """What is known of a data set before it is read, and how to read it.

    To implement one, give :meth:`state`, :meth:`load` and :meth:`check`, and a line in
    :data:`igr.data.SOURCES`. A set of published files is a
    :class:`~igr.data.published.PublishedSource`.

    Arguments:
        name: Its name.
        origin: Where the images come from, in a few words.
        sizes: Numbers of images for training, validation and test.
        image_shape: Channels, height and width, in pixels.
        class_names: What the labels stand for, by their number.
    """

    name: str
    origin: str
    sizes: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    @property
    @abstractmethod
    def reads_files(self) -> bool:
        """Whether a data folder means anything to it."""

    @abstractmethod
    def state(self, data_dir: Path | None) -> State:
        """What is here; no pixels are read."""

    @abstractmethod
    def load(self, data_dir: Path | None) -> Dataset:
        """Reads it.

        Arguments:
            data_dir: The folder with the files of data sets; ``None`` takes what was read before,
                and downloads what was not.

        Raises:
            UserError: It is not there, or not what it should be.
        """

    @property
    def takes_archive(self) -> bool:
        """Whether it is made of one archive that the user names, by processes in parallel."""
        return False

    def prepare(
        self, data_dir: Path | None, archive: Path | None = None, workers: int | None = None
    ) -> Dataset:
        """Reads it and keeps what was read, however long that takes; :meth:`load` may refuse to.

        Arguments:
            data_dir: As for :meth:`load`.
            archive: The archive that it is made of, for a set that :attr:`takes_archive`.
            workers: How many processes read it, for such a set; ``None`` is one for each core.

        Raises:
            UserError: It is not there, or not what it should be.
            Stopped: It was interrupted, and can go on.
        """
        for given, what in ((archive, "archive"), (workers, "number of workers")):
            if given is not None:
                raise UserError(
                    f"expected no {what} for {self.name}; got {str(given)!r}; leave it out, only sets that "
                    "are made of an archive of yours take one"
                )
        return self.load(data_dir if self.reads_files else None)

    @abstractmethod
    def check(self, data_dir: Path | None) -> list[str]:
        """Reads everything that is there again, and says what was found to be right.

        Nothing is downloaded or written.

        Raises:
            UserError: It is not there, or not what it should be.
        """

    def split(self, images: Tensor, labels: Tensor) -> Dataset:
        """The data set whose splits are consecutive pieces of these arrays.

        Arguments:
            images: All images, uint8 with shape :math:`(N, C, H, W)`, those to train on first, then those of
                validation, then those of test.
            labels: Their classes, with shape :math:`(N)`.
        """
        pieces = zip(
            torch.split(images, list(self.sizes)), torch.split(labels, list(self.sizes)), strict=True
        )
        train, validation, test = (Split(*piece) for piece in pieces)
        return Dataset(self.name, train, validation, test)


def ranked(purpose: str, numbers: Iterable[int]) -> list[int]:
    """Numbers in a fixed order that looks random: by the SHA-256 of the text ``igr PURPOSE NUMBER``.

    This depends on no random number generator, so no release of anything can move an image between
    splits.
    """
    return sorted(numbers, key=lambda number: hashlib.sha256(f"igr {purpose} {number}".encode()).digest())


def class_numbers(counts: Sequence[int]) -> Tensor:
    """Labels of images that lie class by class, so many of each."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
