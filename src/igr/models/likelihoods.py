"""Laws of images given the numbers that a decoder puts out, by name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import binary_cross_entropy_with_logits, elu, softplus

# Images have 256 grey levels. A scale far below the distance of two of them says nothing more about
# an image, but the density of pixels that are always black would grow without bound, and one such
# pixel that is not black would undo what was learned.
GREY_LEVEL = 1 / 255
# What the original adds to a scale.
_ORIGINAL_LEAST_SCALE = 1e-6


@dataclass(frozen=True)
class Likelihood:
    """The law of an image given the output of a decoder.

    Arguments:
        parameters_per_pixel: How many numbers the decoder gives for each pixel.
        binary_images: Whether it is a law of pixels 0 and 1 rather than of intensities.
        law: Takes parameters with shape :math:`(*, P, C, H, W)` to a distribution with batch
            shape :math:`(*)` and event shape :math:`(C, H, W)`.
    """

    parameters_per_pixel: int
    binary_images: bool
    law: Callable[[Tensor], Distribution]


class _BinaryImages(Distribution):
    """Independent Bernoulli pixels: ``Independent(Bernoulli(logits=...), 3)`` without its detours.

    Arguments:
        logits: With shape :math:`(*, C, H, W)`.
    """

    arg_constraints = {}  # noqa: RUF012 (torch reads it from the class)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-3], logits.shape[-3:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = torch.broadcast_tensors(self.logits, value)  # type: ignore[no-untyped-call]
        return -binary_cross_entropy_with_logits(logits, value, reduction="none").flatten(-3).sum(-1)


def _bernoulli(parameters: Tensor) -> Distribution:
    return _BinaryImages(parameters.squeeze(-4))


def _normal(parameters: Tensor) -> Distribution:
    """Mean sigmoid(a) and scale 1/255 + softplus(b), for the two numbers a and b of a pixel."""
    return _normal_law(parameters, GREY_LEVEL)


def _normal_elu(parameters: Tensor) -> Distribution:
    """The original's: an ELU first, so that no mean is below 0.27 and no scale below 0.31."""
    return _normal_law(elu(parameters), _ORIGINAL_LEAST_SCALE)


def _normal_law(parameters: Tensor, least_scale: float) -> Distribution:
    mean, scale = parameters.unbind(-4)
    law = Normal(mean.sigmoid(), least_scale + softplus(scale), validate_args=False)
    return Independent(law, 3, validate_args=False)


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(parameters_per_pixel=1, binary_images=True, law=_bernoulli),
    "normal": Likelihood(parameters_per_pixel=2, binary_images=False, law=_normal),
    "normal-elu": Likelihood(parameters_per_pixel=2, binary_images=False, law=_normal_elu),
}
