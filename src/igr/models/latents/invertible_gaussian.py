"""The latents with Gaussian noise and an invertible map: IGR-I, IGR-Planar and IGR-SB."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Transform, kl_divergence

from igr.distributions.discrete import DiscreteLaw
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.relaxation import SimplexRelaxation
from igr.fitting import uniform_prior
from igr.models.latents.discrete import DiscreteLatent


class NormalLatent(DiscreteLatent):
    """What the latents with a Gaussian pre-image have in common.

    The outputs are offsets of the means from those of the prior, followed, where the scale is free, by the
    logarithms of the ratios of the standard deviations to those of the prior.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
        prior: ``loc`` and ``scale`` of the prior, each with shape :math:`(K - 1,)`.
        scale: ``"fixed"`` at the prior's, or ``"free"``.

    The softmax++ has its delta at one: another would only move the prior, from which the outputs are
    offsets, and so give the same model.
    """

    has_pre_image = True

    def __init__(
        self, num_variables: int, num_categories: int, prior: Mapping[str, Tensor], scale: str
    ) -> None:
        super().__init__(num_variables, num_categories)
        self.free_scale = scale == "free"
        self.outputs_per_variable = (num_categories - 1) * (2 if self.free_scale else 1)
        self._loc, self._scale = (_plain(prior[name].double()) for name in ("loc", "scale"))

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        if kl == "discrete":
            # A free scale would let the encoder shrink the noise at no cost in the discrete KL.
            return {"temperature": 0.4, "scale": "fixed"}
        return {"temperature": 0.15, "scale": "free"}

    def _prior_parameters(self) -> tuple[Tensor | float, Tensor | float]:
        """Means and scales of the prior: a number where all are equal, which makes laws cheaper."""

        def converted() -> tuple[Tensor | float, Tensor | float]:
            loc, scale = (
                value.to(self._zeros) if isinstance(value, Tensor) else value
                for value in (self._loc, self._scale)
            )
            return loc, scale

        return self._constant_law("parameters", 0.0, converted)

    def _posterior(self, outputs: Tensor, temperature: Tensor | float) -> InvertibleGaussian:
        prior_loc, prior_scale = self._prior_parameters()
        if not self.free_scale:
            return self._law(outputs + prior_loc, prior_scale, temperature)
        loc, log_scale = outputs.chunk(2, dim=-1)
        # On a strided view exp would handle one short row at a time.
        scale = log_scale.contiguous().exp()
        if isinstance(prior_scale, Tensor) or prior_scale != 1.0:
            scale = scale * prior_scale
        return self._law(loc + prior_loc, scale, temperature)

    def prior(self, temperature: Tensor | float) -> InvertibleGaussian:
        return self._constant_law("prior", temperature, lambda: self._prior_at(temperature))

    def _prior_at(self, temperature: Tensor | float) -> InvertibleGaussian:
        loc, scale = self._prior_parameters()
        return self._law(self._zeros[:, 1:] + loc, scale, temperature)

    def relaxed(
        self, posterior: SimplexRelaxation, noise: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        return posterior.rsample(noise=noise), kl_divergence(posterior, self.prior(temperature)).sum(-1)

    def pre_image(self, posterior: SimplexRelaxation, noise: Tensor) -> tuple[Tensor, Tensor]:
        law = as_invertible_gaussian(posterior)
        return law.category(noise), self._log_ratio_of_normals(law, noise).sum((-2, -1))

    def _log_ratio_of_normals(self, law: InvertibleGaussian, noise: Tensor) -> Tensor:
        """log p(y) - log q(y) of every coordinate, with shape [S, *, V, K - 1]."""
        prior_loc, prior_scale = self._prior_parameters()
        shift = (law.pre_image(noise) - prior_loc) / prior_scale
        return (law.scale / prior_scale).log() + 0.5 * (noise * noise - shift * shift)

    def _transform(self) -> Transform | None:
        """The map before the softmax++."""
        return None

    def _law(self, loc: Tensor, scale: Tensor | float, temperature: Tensor | float) -> InvertibleGaussian:
        return InvertibleGaussian(loc, scale, temperature, self._transform(), validate_args=False)


class InvertibleGaussianLatent(NormalLatent):
    """The Invertible Gaussian Reparameterization (IGR-I).

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
        prior: ``loc`` and ``scale`` of the prior, each with shape :math:`(K - 1,)`; ``None`` for the uniform
            one with scale one.
        prior_temperature: The temperature of the relaxed prior; ``None`` takes the posterior's.
        scale: ``"fixed"`` at the prior's, or ``"free"``.
    """

    prior_families = ("igr",)
    options = frozenset({"prior_temperature", "scale"})
    conditional_noise = frozenset({"coupled"})

    def __init__(
        self,
        num_variables: int,
        num_categories: int,
        prior: Mapping[str, Tensor] | None = None,
        *,
        prior_temperature: float | None = None,
        scale: str = "fixed",
    ) -> None:
        self._is_uniform = prior is None
        given = uniform_parameters(num_categories, "igr") if prior is None else prior
        super().__init__(num_variables, num_categories, given, scale)
        self.prior_temperature = prior_temperature

    def prior(self, temperature: Tensor | float) -> InvertibleGaussian:
        return super().prior(temperature if self.prior_temperature is None else self.prior_temperature)

    def discrete_prior(self) -> DiscreteLaw:
        return self._uniform_law() if self._is_uniform else super().discrete_prior()

    def discrete_kl(self, posterior: SimplexRelaxation) -> Tensor:
        # Found in one pass.
        return posterior.discrete_kl(self.discrete_prior()).sum(-1)


def uniform_parameters(num_categories: int, family: str) -> dict[str, Tensor]:
    """``loc`` and ``scale`` of the uniform prior of a family, float64 with shape :math:`(K - 1,)`."""
    law = uniform_prior(num_categories, family, dtype=torch.float64)
    return {"loc": law.loc, "scale": law.scale}  # type: ignore[attr-defined]


def as_invertible_gaussian(posterior: SimplexRelaxation) -> InvertibleGaussian:
    """The posterior; TypeError if it is that of another kind of latent."""
    if not isinstance(posterior, InvertibleGaussian):
        raise TypeError(
            f"expected an InvertibleGaussian; got {type(posterior).__name__}; give a posterior of this latent"
        )
    return posterior


def _plain(values: Tensor) -> Tensor | float:
    """One number where all are equal."""
    first = values.flatten()[0]
    return first.item() if bool((values == first).all()) else values
