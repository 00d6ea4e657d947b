"""The 8x8 digits that scikit-learn carries with it, so that a first run downloads nothing."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from igr.data.dataset import Dataset, Source, State, ranked
from igr.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DigitsSource(Source):
    """The digits, split by :func:`igr.data.dataset.ranked` of scikit-learn's order."""

    def split_order(self) -> list[int]:
        """The fixed order of the 1,797 images, of which the splits are consecutive pieces."""
        return ranked("digits", range(sum(self.sizes)))

    @property
    def reads_files(self) -> bool:
        return False

    def state(self, data_dir: Path | None) -> State:
        # scikit-learn is looked for, not imported.
        found = importlib.util.find_spec("sklearn") is not None
        if found:
            return State("ready", "embedded in scikit-learn")
        return State("absent", "scikit-learn is not installed")

    def load(self, data_dir: Path | None) -> Dataset:
        if data_dir is not None:
            raise UserError(
                f"expected no data folder for digits; got {str(data_dir)!r}; "
                "leave data_dir out, the images come with scikit-learn"
            )
        if not self.state(None).present:
            raise UserError(
                "expected scikit-learn, which carries digits; got no such package; "
                'install it with pip install "igr[experiments]"'
            )
        # scikit-learn takes a second to import, which commands that read no data should not pay.
        from sklearn.datasets import load_digits

        bunch = load_digits()
        order = torch.tensor(self.split_order())
        sixteenths = torch.from_numpy(bunch.images).to(torch.int64)[order].unsqueeze(1)
        images = ((sixteenths * 255 + 8) // 16).to(torch.uint8)
        return self.split(images, torch.from_numpy(bunch.target).to(torch.int64)[order])

    def check(self, data_dir: Path | None) -> list[str]:
        dataset = self.load(None)
        total = sum(map(len, (dataset.train, dataset.validation, dataset.test)))
        return [f"scikit-learn: {total:,} images"]


DIGITS = DigitsSource(
    name="digits",
    origin="handwritten digits (scikit-learn)",
    sizes=(1300, 197, 300),
    image_shape=(1, 8, 8),
    class_names=tuple(map(str, range(10))),
)
