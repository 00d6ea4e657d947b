"""Images in the form that a likelihood is a law of."""

import torch
from torch import Generator, Tensor

from igr.models.likelihoods import LIKELIHOODS

BINARIZATIONS = ("fixed", "stochastic")


def cut(images: Tensor) -> Tensor:
    """Fixed binarization: which pixels have at least half of the full intensity, as Booleans.

    Shapes:
        Images, uint8, and the result of any one shape.
    """
    return images >= 128


def prepare(
    images: Tensor,
    likelihood: str,
    dtype: torch.dtype = torch.float32,
    generator: Generator | None = None,
) -> Tensor:
    r"""Images in the form that a likelihood is a law of.

    Arguments:
        images: Intensities, uint8 with any shape.
        likelihood: A name in :data:`igr.models.likelihoods.LIKELIHOODS`.
        dtype: The floating-point type of the result.
        generator: Where the pixels of binary images are drawn from, each 1 with the probability
            :math:`\text{intensity} / 255`; ``None`` cuts them at half of the full intensity. It has
            to be on the device of the images.

    Returns:
        A tensor with the shape of ``images``: 0 or 1 where the likelihood is one of binary images;
        intensities in [0, 1] elsewhere.
    """
    if not LIKELIHOODS[likelihood].binary_images:
        return images.to(dtype) / 255
    if generator is None:
        return cut(images).to(dtype)
    # Of 255 equally likely numbers, as many as the intensity are below it: exactly, with no rounding.
    drawn = torch.randint(0, 255, images.shape, generator=generator, dtype=torch.uint8, device=images.device)
    return (drawn < images).to(dtype)


class PreparedImages:
    """Images in the form that a likelihood is a law of, each prepared when it is asked for.

    Arguments:
        images: Intensities, uint8 with shape :math:`(N, C, H, W)`; they may be memory-mapped.
        likelihood: A name in :data:`igr.models.likelihoods.LIKELIHOODS`.
        dtype: The floating-point type of what is given.
        generator: Where the pixels of binary images are drawn from, once for all; ``None`` cuts them.
    """

    def __init__(
        self,
        images: Tensor,
        likelihood: str,
        dtype: torch.dtype = torch.float32,
        generator: Generator | None = None,
    ) -> None:
        if generator is not None:
            # Bytes again, which the cut then leaves as they are.
            images = prepare(images, likelihood, torch.uint8, generator) * 255
        self._images, self._likelihood, self._dtype = images, likelihood, dtype

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, places: slice) -> Tensor:
        return prepare(self._images[places], self._likelihood, self._dtype)

    def first(self, count: int | None) -> "PreparedImages":
        """The first so many of them; ``None`` for all."""
        return self if count is None else PreparedImages(self._images[:count], self._likelihood, self._dtype)
