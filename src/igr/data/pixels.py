"""Images in the form that a likelihood is a law of."""

import torch
from torch import Generator, Tensor

from igr.models.likelihoods import LIKELIHOODS

BINARIZATIONS = ("fixed", "stochastic")


def cut(images: Tensor) -> Tensor:
    """Fixed binarization: which pixels have at least half of the full intensity, as Booleans."""
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
