"""Laws of images given the numbers that a decoder puts out, by name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import binary_cross_entropy_with_logits, elu, softplus

from igr.kernels.tracing import is_traced

# Images have 256 grey levels. A scale far below the distance of two of them says nothing more about
# an image, but the density of pixels that are always black would grow without bound, and one such
# pixel that is not black would undo what was learned.
GREY_LEVEL = 1 / 255
# Logits within which the constant of the continuous Bernoulli law goes by its series.
_SMALL_LOGIT = 0.5
# How often the factors of pixels are multiplied with each other: the products are at least 2^-32.
_HALVINGS = 5
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
        if not torch.is_grad_enabled() and self.logits.dtype == value.dtype and not is_traced():
            return _log_prob_of_pixels(self.logits.flatten(-3), value.flatten(-3))
        logits, value = torch.broadcast_tensors(self.logits, value)  # type: ignore[no-untyped-call]
        return -binary_cross_entropy_with_logits(logits, value, reduction="none").flatten(-3).sum(-1)


def _log_prob_of_pixels(a: Tensor, x: Tensor) -> Tensor:
    r"""Bernoulli log-probability with shape [*] of pixels x [*, D] by logits a [*, D], without gradient.

    .. math:: \sum_i (x_i - \tfrac12) a_i - \tfrac12 |a_i| + \log \mathrm{sigmoid}(|a_i|)

    Factors between a half and one are multiplied before their logarithm is taken, which costs the most.
    """
    size = a.abs()
    # Before they are added up, since both are large beside what is left.
    linear = ((x - 0.5) * a).sub_(size, alpha=0.5).sum(-1)
    factors = size.sigmoid_()
    for _ in range(_HALVINGS):
        rest = factors.shape[-1]
        half = rest // 2
        factors[..., :half].mul_(factors[..., rest - half :])
        factors = factors[..., : rest - half]
    return linear + factors.log().sum(-1)


class _ContinuousBernoulliImages(Distribution):
    r"""Independent pixels in [0, 1] with the continuous Bernoulli law.

    .. math::
        \log p(x) = x a + \log C(a), \qquad C(a) = \frac{a}{e^a - 1}

    for the logit a. torch's law of that name holds a within 16 of zero in the constant but not in the rest,
    so that its density has not the integral one beyond.

    Arguments:
        logits: With shape :math:`(*, C, H, W)`.

    References:
        The Continuous Bernoulli: Fixing a Pervasive Error in Variational Autoencoders
        (Loaiza-Ganem and Cunningham, 2019)
    """

    arg_constraints = {}  # noqa: RUF012 (torch reads it from the class)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-3], logits.shape[-3:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        a = self.logits
        is_small = a.abs() < _SMALL_LOGIT
        safe = torch.where(is_small, 1.0, a)
        square = a * a
        bracket = 1 / 720 - square * (1 / 30240 - square * (1 / 1209600 - square / 47900160))
        series = 0.5 + a * (1 / 12 - square * bracket)
        return torch.where(is_small, series, -1 / torch.expm1(-safe) - 1 / safe)

    def log_prob(self, value: Tensor) -> Tensor:
        # In its even form: log C(a) = -a/2 - log(sinh(h) / h) with h = |a| / 2.
        h = 0.5 * self.logits.abs()
        is_small = h < 0.5 * _SMALL_LOGIT
        safe = torch.where(is_small, 1.0, h)
        large = safe + torch.log1p(-torch.exp(-2 * safe)) - torch.log(2 * safe)
        square = torch.where(is_small, h * h, 0.0)
        # Around zero, where the difference above loses its digits.
        bracket = 1 / 180 - square * (1 / 2835 - square * (1 / 37800 - square / 467775))
        series = square * (1 / 6 - square * bracket)
        log_ratio = torch.where(is_small, series, large)
        return ((value - 0.5) * self.logits - log_ratio).flatten(-3).sum(-1)


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


def _continuous_bernoulli(parameters: Tensor) -> Distribution:
    return _ContinuousBernoulliImages(parameters.squeeze(-4))


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(parameters_per_pixel=1, binary_images=True, law=_bernoulli),
    "continuous-bernoulli": Likelihood(
        parameters_per_pixel=1, binary_images=False, law=_continuous_bernoulli
    ),
    "normal": Likelihood(parameters_per_pixel=2, binary_images=False, law=_normal),
    "normal-elu": Likelihood(parameters_per_pixel=2, binary_images=False, law=_normal_elu),
}
