"""Laws of images given the numbers that a decoder puts out, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import softplus

LEAST_SCALE = 1e-6


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


def _bernoulli(parameters: Tensor) -> Distribution:
    logits = parameters.squeeze(-4)
    return Independent(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False)


def _normal(parameters: Tensor) -> Distribution:
    mean, scale = parameters.unbind(-4)
    law = Normal(mean.sigmoid(), LEAST_SCALE + softplus(scale), validate_args=False)
    return Independent(law, 3, validate_args=False)


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(parameters_per_pixel=1, binary_images=True, law=_bernoulli),
    "normal": Likelihood(parameters_per_pixel=2, binary_images=False, law=_normal),
}
