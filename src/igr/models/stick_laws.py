"""Laws of the weights of a mixture: fractions of a stick, broken off one after the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.distributions import kl_divergence

from igr.distributions import InvertibleGaussian
from igr.distributions.sticks import first_sticks
from igr.kernels import kumaraswamy, stick_breaking
from igr.kernels.noise import standard_gumbel, standard_normal
from igr.transforms import LogisticStickBreakingTransform

# No concentration of a posterior is below this, where single digits of its KL begin to be lost.
_LEAST_CONCENTRATION = 1e-3


class StickLaw(ABC):
    r"""The law of K weights :math:`\pi_k = v_k \prod_{j<k} (1 - v_j)` with independent fractions, and
    :math:`\pi_K` being what remains of the stick.

    Noise has the shape :math:`(*S, *B, K - 1)`, and everything is a function of it.
    """

    @abstractmethod
    def log_weights(self, noise: Tensor) -> Tensor:
        r""":math:`\log \pi`, with shape :math:`(*S, *B, K)`."""

    @abstractmethod
    def log_left(self, noise: Tensor) -> Tensor:
        r""":math:`\log \prod_{j \le k} (1 - v_j)` after each stick, with shape :math:`(*S, *B, K - 1)`."""

    @abstractmethod
    def kl(self) -> Tensor:
        """The KL to the prior, in nats, with shape :math:`(*B)`."""

    @abstractmethod
    def log_ratio(self, noise: Tensor) -> Tensor:
        """The log-density of the prior less that of this law at the draws, in nats: :math:`(*S, *B)`."""

    @abstractmethod
    def first(self, count: int) -> StickLaw:
        """The law of the first so many sticks and of what they leave, for weights that are lengths."""


class Sticks(nn.Module, ABC):
    r"""How the outputs of an encoder become a law of K weights, and the prior beside it.

    Where all outputs are zero the law is the prior, GEM(:math:`\alpha`) or what is closest to it.

    Arguments:
        num_components: The number K of weights, at least two.
        concentration: :math:`\alpha`: of the fractions of the prior Beta(1, :math:`\alpha`). The larger, the
            more components the prior expects.
    """

    options: ClassVar[frozenset[str]] = frozenset()
    """What else can be said of it: settings of a config that have a part in it."""

    def __init__(self, num_components: int, concentration: float = 1.0) -> None:
        super().__init__()
        self.num_components = num_components
        self.concentration = concentration

    @property
    def num_outputs(self) -> int:
        """Numbers that an encoder has to give for each datum."""
        return 2 * (self.num_components - 1)

    @abstractmethod
    def forward(self, outputs: Tensor, temperature: Tensor | float = 1.0) -> StickLaw:
        """The law for the outputs of an encoder.

        Arguments:
            outputs: Any real numbers, with shape :math:`(*B, 2 (K - 1))`; where all are zero the law is the
                prior.
            temperature: That of logit-normal fractions; it has no part in others.
        """

    @abstractmethod
    def draw_noise(self, sample_shape: Sequence[int], generator: Generator | None, like: Tensor) -> Tensor:
        """The noise of draws: the only random step.

        Arguments:
            sample_shape: The shape :math:`(*S)` of draws and of data together.
            generator: The source of randomness; torch's default one if ``None``.
            like: A tensor that has the dtype and the device of the noise.

        Shapes:
            Result :math:`(*S, K - 1)`.
        """


class KumaraswamyLaw(StickLaw):
    r"""Fractions with the law Kumaraswamy(a, b), beside the prior Beta(1, :math:`\alpha`).

    Arguments:
        a: The first concentrations, with shape :math:`(*B, K - 1)`.
        b: The second ones.
        concentration: :math:`\alpha`.
    """

    def __init__(self, a: Tensor, b: Tensor, concentration: float) -> None:
        self.a = a
        self.b = b
        self.concentration = concentration

    def log_weights(self, noise: Tensor) -> Tensor:
        log_v, log_rest, _ = kumaraswamy.log_fractions(self.a, self.b, noise)
        left = torch.cumsum(log_rest, dim=-1)
        before = torch.nn.functional.pad(left[..., :-1], (1, 0))
        return torch.cat([log_v + before, left[..., -1:]], dim=-1)

    def log_left(self, noise: Tensor) -> Tensor:
        return torch.cumsum(kumaraswamy.log_fractions(self.a, self.b, noise)[1], dim=-1)

    def kl(self) -> Tensor:
        return kumaraswamy.kl_from_beta(self.a, self.b, self.concentration).sum(-1)

    def log_ratio(self, noise: Tensor) -> Tensor:
        log_v, log_rest, log_w = kumaraswamy.log_fractions(self.a, self.b, noise)
        log_p = math.log(self.concentration) + (self.concentration - 1.0) * log_rest
        return (log_p - kumaraswamy.log_density(self.a, self.b, log_v, log_w)).sum(-1)

    def first(self, count: int) -> KumaraswamyLaw:
        return KumaraswamyLaw(self.a[..., :count], self.b[..., :count], self.concentration)


class KumaraswamySticks(Sticks):
    r"""Kumaraswamy fractions, whose prior is that of a Dirichlet process, GEM(:math:`\alpha`).

    Arguments are those of :class:`Sticks`.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017)
    """

    def forward(self, outputs: Tensor, temperature: Tensor | float = 1.0) -> KumaraswamyLaw:
        # softplus(x + log(e - 1)) is one at zero, where the law is the prior itself.
        positive = torch.nn.functional.softplus(outputs + math.log(math.e - 1.0)) + _LEAST_CONCENTRATION
        a, b = positive.chunk(2, dim=-1)
        return KumaraswamyLaw(a, self.concentration * b, self.concentration)

    def draw_noise(self, sample_shape: Sequence[int], generator: Generator | None, like: Tensor) -> Tensor:
        shape = torch.Size((*sample_shape, self.num_components - 1))
        return standard_gumbel(shape, dtype=like.dtype, device=like.device, generator=generator)


class LogitNormalLaw(StickLaw):
    r"""Fractions whose logits are Gaussian, beside a Gaussian prior: the IGR with stick-breaking.

    With the temperature one the weights are the lengths themselves; below it they are closer to a vertex.

    Arguments:
        law: IGR-SB in log space, with batch shape :math:`(*B)` and event shape :math:`(K,)`.
        prior: The same with the parameters of the prior.
    """

    def __init__(self, law: InvertibleGaussian, prior: InvertibleGaussian) -> None:
        self.law = law
        self.prior = prior

    def log_weights(self, noise: Tensor) -> Tensor:
        return self.law.rsample_log(noise=noise)

    def log_left(self, noise: Tensor) -> Tensor:
        return -torch.cumsum(stick_breaking.softplus(self.law.pre_image(noise)), dim=-1)

    def kl(self) -> Tensor:
        return kl_divergence(self.law, self.prior)

    def log_ratio(self, noise: Tensor) -> Tensor:
        # One map from y to the weights on both sides, whose determinant cancels.
        y = self.law.pre_image(noise)
        away = (y - self.prior.loc) / self.prior.scale
        terms: Tensor = torch.log(self.law.scale / self.prior.scale) + 0.5 * (noise * noise - away * away)
        return terms.sum(-1)

    def first(self, count: int) -> LogitNormalLaw:
        return LogitNormalLaw(*(first_sticks(law, count) for law in (self.law, self.prior)))


class LogitNormalSticks(Sticks):
    r"""Logit-normal fractions, whose prior is the Gaussian closest to GEM(:math:`\alpha`).

    The logit of a variable with the law Beta(1, :math:`\alpha`) has the mean
    :math:`\psi(1) - \psi(\alpha)` and the variance :math:`\psi'(1) + \psi'(\alpha)`; of all Gaussians the
    one with the same mean and variance has the smallest KL from it.

    Arguments are those of :class:`Sticks`.
    """

    options = frozenset({"temperature"})

    def __init__(self, num_components: int, concentration: float = 1.0) -> None:
        super().__init__(num_components, concentration)
        one, alpha = (torch.tensor(value, dtype=torch.float64) for value in (1.0, concentration))
        self.prior_loc = float(torch.digamma(one) - torch.digamma(alpha))
        self.prior_scale = math.sqrt(float(torch.polygamma(1, one) + torch.polygamma(1, alpha)))
        self._transform = LogisticStickBreakingTransform("log")

    def forward(self, outputs: Tensor, temperature: Tensor | float = 1.0) -> LogitNormalLaw:
        offset, log_scale = outputs.chunk(2, dim=-1)
        prior_loc = torch.full_like(offset.detach(), self.prior_loc)
        prior_scale = torch.full_like(prior_loc, self.prior_scale)
        law, prior = (
            InvertibleGaussian(loc, scale, temperature, self._transform, validate_args=False)
            for loc, scale in (
                (self.prior_loc + offset, self.prior_scale * torch.exp(log_scale)),
                (prior_loc, prior_scale),
            )
        )
        return LogitNormalLaw(law, prior)

    def draw_noise(self, sample_shape: Sequence[int], generator: Generator | None, like: Tensor) -> Tensor:
        shape = torch.Size((*sample_shape, self.num_components - 1))
        return standard_normal(shape, dtype=like.dtype, device=like.device, generator=generator)


@dataclass(frozen=True)
class Mixture:
    """How the weights of a mixture model are made.

    Arguments:
        sticks: The law of the weights.
        is_truncated: Whether training keeps no more sticks than a batch needs.
    """

    sticks: type[Sticks]
    is_truncated: bool

    @property
    def options(self) -> frozenset[str]:
        """What else can be said of it: settings of a config that have a part in it."""
        # Only lengths of sticks can be cut, and weights are lengths at the temperature one alone.
        cut = frozenset({"stick_threshold", "stick_quantile"})
        return cut if self.is_truncated else self.sticks.options


MIXTURES: dict[str, Mixture] = {
    "dlgmm": Mixture(KumaraswamySticks, False),
    "dlgmm-truncated": Mixture(KumaraswamySticks, True),
    "dlgmm-igr": Mixture(LogitNormalSticks, False),
    "dlgmm-igr-truncated": Mixture(LogitNormalSticks, True),
}
