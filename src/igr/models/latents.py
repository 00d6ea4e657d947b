"""Latents: the seam between networks, which give numbers, and laws on the simplex.

A model holds one latent and never asks which. A new relaxation is one new class here and its line
in :data:`LATENTS`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.distributions import kl_divergence

from igr.distributions.discrete import DiscreteLaw
from igr.distributions.gumbel_softmax import GumbelSoftmax
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.relaxation import SimplexRelaxation
from igr.kernels.tracing import is_traced

Law = TypeVar("Law")

# Far below every logarithm of a number, but a product with zero is zero.
LOWEST_LOGARITHM = -1e30


class Latent(nn.Module, ABC):
    """V independent categorical variables with K categories each, relaxed to the simplex.

    It has no parameters: it says how many outputs of an encoder it needs, turns them into a
    relaxation at a temperature, and owns the prior and the KL. Both KLs are summed over the
    variables and in nats.

    To implement one, set the class variables and ``outputs_per_variable``, and give
    :meth:`defaults`, :meth:`_posterior`, :meth:`prior` and :meth:`relaxed_kl`; the rest follows.
    Only a law with a Gaussian pre-image has :meth:`pre_image` as well.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
        prior_temperature: The temperature of the relaxed prior; ``None`` takes the posterior's.
    """

    outputs_per_variable: int
    has_pre_image: ClassVar[bool]
    # Whether the relaxed KL needs no points of the simplex.
    has_closed_form_kl: ClassVar[bool]
    # Settings beyond the common ones, by name; all others are refused in a config.
    options: ClassVar[frozenset[str]]

    def __init__(self, num_variables: int, num_categories: int, prior_temperature: float | None) -> None:
        super().__init__()
        self.num_variables = num_variables
        self.num_categories = num_categories
        self.prior_temperature = prior_temperature
        # Its dtype and device are those that the model was moved to; it is no state to be saved.
        self.register_buffer("_zeros", torch.zeros(num_variables, num_categories), persistent=False)
        self._zeros: Tensor
        # Laws that are the same at every step, which cost more to make than to use.
        self._constant_laws: dict[str, tuple[Hashable, Any]] = {}

    def _constant_law(
        self, kind: str, temperature: Tensor | float, make: Callable[[], Law], *others: Hashable
    ) -> Law:
        """What ``make`` gives, made anew only where what it depends on is not that of the last time."""
        if isinstance(temperature, Tensor) or is_traced() or torch.is_inference_mode_enabled():
            return make()
        key = (temperature, self._zeros.device, self._zeros.dtype, *others)
        kept, law = self._constant_laws.get(kind, (None, None))
        if kept != key or law is None:
            law = make()
            self._constant_laws[kind] = (key, law)
        found: Law = law
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_constant_laws": {}}

    @classmethod
    @abstractmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        """Values for the settings that a config leaves open, given which KL is trained."""

    @property
    def num_outputs(self) -> int:
        """Numbers that an encoder has to give for each datum."""
        return self.num_variables * self.outputs_per_variable

    def forward(self, outputs: Tensor, temperature: Tensor | float) -> SimplexRelaxation:
        """The posterior for the outputs of an encoder.

        Arguments:
            outputs: Any real numbers, with shape :math:`(*, O)`, O being ``num_outputs``. Where
                all are zero the discrete law is uniform.
            temperature: The temperature.

        Returns:
            A relaxation with batch shape :math:`(*, V)` and event shape :math:`(K,)`.
        """
        per_variable = outputs.reshape(*outputs.shape[:-1], self.num_variables, self.outputs_per_variable)
        return self._posterior(per_variable, temperature)

    @abstractmethod
    def _posterior(self, outputs: Tensor, temperature: Tensor | float) -> SimplexRelaxation:
        """The posterior for outputs with shape :math:`(*, V, outputs_per_variable)`."""

    @abstractmethod
    def prior(self, temperature: Tensor | float) -> SimplexRelaxation:
        """The relaxed prior beside a posterior of that temperature, with batch shape :math:`(V,)`.

        Its discrete law is uniform.
        """

    def discrete_prior(self) -> DiscreteLaw:
        """The prior of the discrete model, uniform, with batch shape :math:`(V,)`."""
        return self._constant_law(
            "discrete prior", 0.0, lambda: DiscreteLaw(self._zeros - math.log(self.num_categories))
        )

    def draw_noise(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The noise that a posterior of any outputs takes.

        Returns:
            A tensor with shape :math:`(*S, V, n)`, where :math:`(*S)` is ``sample_shape`` (those
            of samples and of data together) and n is K - 1 or K.
        """
        device = self._zeros.device if device is None else device
        dtype = self._zeros.dtype if dtype is None else dtype

        def any_law() -> SimplexRelaxation:
            outputs = torch.zeros(self.num_variables, self.outputs_per_variable, device=device, dtype=dtype)
            return self._posterior(outputs, 1.0)

        law = self._constant_law("noise", 1.0, any_law, device, dtype)
        return law.draw_noise(sample_shape, generator=generator)

    @abstractmethod
    def relaxed_kl(
        self, posterior: SimplexRelaxation, log_z: Tensor | None, temperature: Tensor | float
    ) -> Tensor:
        """The KL of the relaxed laws from the posterior to the prior.

        Arguments:
            posterior: A posterior with batch shape :math:`(*, V)`.
            log_z: Logarithms of points drawn from it, with shape :math:`(S, *, V, K)`; not needed
                where there is a closed form.
            temperature: The temperature of the posterior.

        Returns:
            The KL in closed form, with shape :math:`(*)`; or, where there is none, its
            single-sample estimate at each point, with shape :math:`(S, *)`.
        """

    def _temperature_of_prior(self, temperature: Tensor | float) -> Tensor | float:
        return temperature if self.prior_temperature is None else self.prior_temperature

    def discrete_kl(self, posterior: SimplexRelaxation) -> Tensor:
        r"""The exact KL of the discrete laws from the posterior to the prior, shape :math:`(*)`.

        The prior being uniform, it is :math:`\sum_v \sum_k p_{vk} (\log p_{vk} + \log K)`.
        """
        # Held above minus infinity, so that a category that is never taken adds zero and not NaN.
        log_p = posterior.discrete().exact_logits.clamp_min(LOWEST_LOGARITHM)
        return (log_p.exp() * (log_p + math.log(self.num_categories))).sum((-2, -1))

    def pre_image(self, posterior: SimplexRelaxation, noise: Tensor) -> tuple[Tensor, Tensor]:
        r"""One-hot points and their importance weights over the pre-image, for Gaussian laws.

        With :math:`y = \mu + \sigma \epsilon`, the point is the category that is largest at y, and

        .. math:: \log w = \sum_v \log N(y_v; \text{prior}) - \log N(y_v; \text{posterior})

        Averages of :math:`p(x \mid d) w` are unbiased for the :math:`p(x)` of the discrete model.

        Arguments:
            posterior: A posterior with batch shape :math:`(*, V)`.
            noise: Standard normal noise, with shape :math:`(S, *, V, K - 1)`.

        Returns:
            The points with shape :math:`(S, *, V, K)` and :math:`\log w` with shape
            :math:`(S, *)`.

        Raises:
            NotImplementedError: ``has_pre_image`` is false.
        """
        raise NotImplementedError(
            f"expected a latent with a Gaussian pre-image; got {type(self).__name__}; "
            "use the exact discrete law"
        )


class InvertibleGaussianLatent(Latent):
    """The Invertible Gaussian Reparameterization (IGR-I).

    The outputs are offsets of the means from those of the uniform law, followed, where the scale
    is free, by the logarithms of the standard deviations.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
        prior_temperature: The temperature of the relaxed prior; ``None`` takes the posterior's.
        scale: ``"fixed"`` at one, or ``"free"``.

    The softmax++ has its delta at one: another would only move the uniform law, from which the
    outputs are offsets, and so give the same model.
    """

    has_pre_image = True
    has_closed_form_kl = True
    options = frozenset({"scale"})

    def __init__(
        self,
        num_variables: int,
        num_categories: int,
        prior_temperature: float | None = None,
        *,
        scale: str = "fixed",
    ) -> None:
        super().__init__(num_variables, num_categories, prior_temperature)
        self.free_scale = scale == "free"
        # The means of the uniform law, all equal and the same at every temperature.
        uniform = InvertibleGaussian.uniform(num_categories, 1.0, dtype=torch.float64)
        self._uniform_loc = uniform.loc[0].item()
        self.outputs_per_variable = (num_categories - 1) * (2 if self.free_scale else 1)

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        if kl == "discrete":
            # A free scale would let the encoder shrink the noise at no cost in the discrete KL.
            return {"temperature": 0.4, "scale": "fixed"}
        return {"temperature": 0.15, "scale": "free"}

    def _posterior(self, outputs: Tensor, temperature: Tensor | float) -> InvertibleGaussian:
        if self.free_scale:
            loc, log_scale = outputs.chunk(2, dim=-1)
            # On a strided view exp would handle one short row at a time.
            return self._law(loc + self._uniform_loc, log_scale.contiguous().exp(), temperature)
        return self._law(outputs + self._uniform_loc, 1.0, temperature)

    def prior(self, temperature: Tensor | float) -> InvertibleGaussian:
        own = self._temperature_of_prior(temperature)
        return self._constant_law(
            "prior", own, lambda: self._law(self._zeros[:, 1:] + self._uniform_loc, 1.0, own)
        )

    def relaxed_kl(
        self, posterior: SimplexRelaxation, log_z: Tensor | None, temperature: Tensor | float
    ) -> Tensor:
        return kl_divergence(posterior, self.prior(temperature)).sum(-1)

    def pre_image(self, posterior: SimplexRelaxation, noise: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(posterior, InvertibleGaussian):
            raise TypeError(
                f"expected an InvertibleGaussian; got {type(posterior).__name__}; "
                "give a posterior of this latent"
            )
        y = posterior.loc + posterior.scale * noise
        winner = torch.nn.functional.pad(y, (0, 1)).argmax(-1)
        d = torch.nn.functional.one_hot(winner, self.num_categories).to(y)
        shift = y - self._uniform_loc
        log_ratio = posterior.scale.log() + 0.5 * (noise * noise - shift * shift)
        return d, log_ratio.sum((-2, -1))

    def _law(self, loc: Tensor, scale: Tensor | float, temperature: Tensor | float) -> InvertibleGaussian:
        return InvertibleGaussian(loc, scale, temperature, validate_args=False)


class GumbelSoftmaxLatent(Latent):
    """The Gumbel-Softmax, also named Concrete. The outputs are the logits.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
        prior_temperature: The temperature of the relaxed prior; ``None`` takes the posterior's.
    """

    has_pre_image = False
    has_closed_form_kl = False
    options = frozenset()

    def __init__(
        self, num_variables: int, num_categories: int, prior_temperature: float | None = 0.5
    ) -> None:
        super().__init__(num_variables, num_categories, prior_temperature)
        self.outputs_per_variable = num_categories

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        return {"temperature": 0.67, "prior_temperature": 0.5}

    def _posterior(self, outputs: Tensor, temperature: Tensor | float) -> GumbelSoftmax:
        return GumbelSoftmax(temperature, logits=outputs, validate_args=False)

    def prior(self, temperature: Tensor | float) -> GumbelSoftmax:
        own = self._temperature_of_prior(temperature)
        return self._constant_law(
            "prior", own, lambda: GumbelSoftmax(own, logits=self._zeros, validate_args=False)
        )

    def relaxed_kl(
        self, posterior: SimplexRelaxation, log_z: Tensor | None, temperature: Tensor | float
    ) -> Tensor:
        if log_z is None:
            raise ValueError("expected points for the KL of Gumbel-Softmax laws, which is sampled; got None")
        log_prior = self.prior(temperature).log_prob_of_log(log_z)
        return (posterior.log_prob_of_log(log_z) - log_prior).sum(-1)


LATENTS: dict[str, type[Latent]] = {
    "igr": InvertibleGaussianLatent,
    "gumbel-softmax": GumbelSoftmaxLatent,
}
