"""MNIST and Fashion-MNIST: 28x28 grey images in four IDX files each.

The 60,000 training images stay in the order of their files; the last 5,000 of them are the
validation split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from igr.data.download import Archive
from igr.data.idx import IdxContent, inspect, read_idx
from igr.data.published import Part, PublishedSource


@dataclass(frozen=True)
class IdxPart(Part):
    """An IDX file and what it must hold."""

    content: IdxContent


@dataclass(frozen=True, kw_only=True)
class IdxSource(PublishedSource):
    """Images and labels for training, then for test, in IDX files."""

    parts: tuple[IdxPart, IdxPart, IdxPart, IdxPart]

    def _decode(self, files: Mapping[str, Path]) -> tuple[Tensor, Tensor]:
        contents = [(files[part.archive.name], part.content) for part in self.parts]
        for path, content in contents:
            inspect(path, content)
        arrays = [np.concatenate(list(read_idx(path, content))) for path, content in contents]
        train_images, train_labels, test_images, test_labels = map(torch.from_numpy, arrays)
        images = torch.cat([train_images, test_images]).unsqueeze(1)
        return images, torch.cat([train_labels, test_labels]).long()


def _part(name: str, folders: Sequence[str], num_bytes: int, md5: str, content: IdxContent) -> IdxPart:
    archive = Archive(f"{name}.gz", num_bytes, md5, tuple(f"{folder}{name}.gz" for folder in folders))
    return IdxPart(archive, (f"{name}.gz", name), content)


_MNIST_ADDRESSES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_FASHION_ADDRESSES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
SIZES = (55_000, 5_000, 10_000)
_SHAPE = (1, 28, 28)

MNIST = IdxSource(
    name="mnist",
    origin="handwritten digits (LeCun, Cortes and Burges)",
    sizes=SIZES,
    image_shape=_SHAPE,
    class_names=tuple(map(str, range(10))),
    folders=("mnist", "MNIST/raw"),
    parts=(
        _part(
            "train-images-idx3-ubyte",
            _MNIST_ADDRESSES,
            9_912_422,
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            IdxContent(
                (60_000, 28, 28),
                0xE9F4D8B3,
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
        ),
        _part(
            "train-labels-idx1-ubyte",
            _MNIST_ADDRESSES,
            28_881,
            "d53e105ee54ea40749a09fcbcd1e9432",
            IdxContent(
                (60_000,), 0xE0CB4AD2, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
            ),
        ),
        _part(
            "t10k-images-idx3-ubyte",
            _MNIST_ADDRESSES,
            1_648_877,
            "9fb629c4189551a2d022fa330f9573f3",
            IdxContent(
                (10_000, 28, 28),
                0x91373BDF,
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
        ),
        _part(
            "t10k-labels-idx1-ubyte",
            _MNIST_ADDRESSES,
            4_542,
            "ec29112dd5afa0611ce80d1b7f02629c",
            IdxContent(
                (10_000,), 0x4AB9EFF9, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
            ),
        ),
    ),
)

FASHION_MNIST = IdxSource(
    name="fmnist",
    origin="Fashion-MNIST, articles of clothing (Zalando)",
    sizes=SIZES,
    image_shape=_SHAPE,
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    folders=("fashion-mnist", "fmnist", "FashionMNIST/raw"),
    parts=(
        _part(
            "train-images-idx3-ubyte",
            _FASHION_ADDRESSES,
            26_421_880,
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            IdxContent(
                (60_000, 28, 28),
                0xB4F29F28,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
        ),
        _part(
            "train-labels-idx1-ubyte",
            _FASHION_ADDRESSES,
            29_515,
            "25c81989df183df01b3e8a0aad5dffbe",
            IdxContent(
                (60_000,), 0x741A4657, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
            ),
        ),
        _part(
            "t10k-images-idx3-ubyte",
            _FASHION_ADDRESSES,
            4_422_102,
            "bef4ecab320f06d8554ea6380940ec79",
            IdxContent(
                (10_000, 28, 28),
                0x678FE0B1,
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
        ),
        _part(
            "t10k-labels-idx1-ubyte",
            _FASHION_ADDRESSES,
            5_148,
            "bb300cfdad3c16e7a12a480ee83cd310",
            IdxContent(
                (10_000,), 0x80142C1F, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
            ),
        ),
    ),
)
