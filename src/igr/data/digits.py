"""The 8x8 digits that scikit-learn carries with it, so that a first run downloads nothing."""

import hashlib
import importlib.util
from pathlib import Path

import torch

from igr.data.dataset import Dataset, Source, Split
from igr.errors import UserError

SIZES = (1300, 197, 300)


def split_order() -> list[int]:
    """The fixed order of the 1,797 images, of which the splits are consecutive pieces.

    Image ``i`` of scikit-learn's order is ranked by the SHA-256 of the text ``igr digits i``. This
    depends on no random number generator, so no release of anything can move an image between
    splits.
    """
    return sorted(
        range(sum(SIZES)), key=lambda index: hashlib.sha256(f"igr digits {index}".encode()).digest()
    )


def is_present(data_dir: Path | None) -> bool:
    """Whether scikit-learn, which carries the images, is installed; it is not imported."""
    return importlib.util.find_spec("sklearn") is not None


def load(data_dir: Path | None) -> Dataset:
    """Reads the digits.

    Raises:
        UserError: A data folder was given, or scikit-learn is not installed.
    """
    if data_dir is not None:
        raise UserError(
            f"expected no data folder for digits; got {str(data_dir)!r}; "
            "leave data_dir out, the images come with scikit-learn"
        )
    if not is_present(data_dir):
        raise UserError(
            "expected scikit-learn, which carries digits; got no such package; "
            'install it with pip install "igr[experiments]"'
        )
    # scikit-learn takes a second to import, which commands that read no data should not pay.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.tensor(split_order())
    sixteenths = torch.from_numpy(bunch.images).to(torch.int64)[order].unsqueeze(1)
    images = ((sixteenths * 255 + 8) // 16).to(torch.uint8)
    labels = torch.from_numpy(bunch.target).to(torch.int64)[order]
    pieces = zip(torch.split(images, list(SIZES)), torch.split(labels, list(SIZES)), strict=True)
    train, validation, test = (Split(*piece) for piece in pieces)
    return Dataset("digits", train, validation, test)


SOURCE = Source(
    origin="scikit-learn, embedded",
    sizes=SIZES,
    image_shape=(1, 8, 8),
    is_present=is_present,
    load=load,
)
