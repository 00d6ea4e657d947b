"""The latent with planar flows (IGR-Planar)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Transform

from igr.distributions.discrete import DiscreteLaw
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.relaxation import SimplexRelaxation
from igr.functional import softmax_plus_plus
from igr.models.latents.invertible_gaussian import NormalLatent, as_invertible_gaussian, uniform_parameters
from igr.transforms import PlanarFlow


class PlanarLatent(NormalLatent):
    r"""The IGR with planar flows (IGR-Planar), one flow for each variable, trained with the model.

    The prior is Gaussian after the flow, so that its discrete law is exactly uniform, and the KL is sampled
    as :math:`\log q(y) - \log|\det f'(y)| - \log p(f(y))`, as in the paper's experiments. No exact law is
    known of the posterior, so there is no KL of the discrete laws.

    Outputs of zero give the prior where the flow of the posterior is the identity, near which it starts, or
    that of the prior, at which it starts if both have as many layers.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
        prior: ``loc`` and ``scale`` of the prior after the flow, each with shape :math:`(K - 1,)`; ``None``
            for the uniform one with scale one. With ``u``, ``w`` and ``b`` besides, those of a planar flow
            of its own, the prior is what that flow makes of the Gaussian.
        prior_temperature: The temperature of the relaxed prior; ``None`` takes the posterior's.
        scale: ``"free"``, or ``"fixed"`` at the prior's.
        stick_the_landing: Whether the sampled KL has no gradient through the parameters of the posterior's
            density, only through the points (Roeder, Wu and Duvenaud, 2017).
        flow_layers: The number of planar layers.
        generator: The source of the initial flow.
    """

    kls = ("relaxed",)
    prior_families = ("igr-planar", "igr")
    options = frozenset({"prior_temperature", "scale", "stick_the_landing", "flow_layers"})

    def __init__(
        self,
        num_variables: int,
        num_categories: int,
        prior: Mapping[str, Tensor] | None = None,
        *,
        prior_temperature: float | None = None,
        scale: str = "free",
        stick_the_landing: bool = False,
        flow_layers: int = 4,
        generator: Generator | None = None,
    ) -> None:
        self._is_uniform = prior is None
        given = uniform_parameters(num_categories, "igr") if prior is None else prior
        super().__init__(num_variables, num_categories, given, scale)
        self.flow = PlanarFlow(num_categories, flow_layers, num_variables, generator=generator)
        self.prior_temperature = prior_temperature
        self.stick_the_landing = stick_the_landing
        names = ("u", "w", "b")
        self._prior_flow = tuple(given[name].double() for name in names) if "u" in given else None
        if self._prior_flow is not None and len(self._prior_flow[0]) == flow_layers:
            self._start_at(self._prior_flow)

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        return {"temperature": 0.15, "scale": "free", "flow_layers": 4}

    def _transform(self) -> PlanarFlow:
        return self.flow

    @torch.no_grad()
    def _start_at(self, flow: tuple[Tensor, ...]) -> None:
        """Gives the flow of every variable the parameters of one that has them for each layer."""
        for layer, *values in zip(self.flow.layers, *flow, strict=True):
            for name, value in zip(("u", "w", "b"), values, strict=True):
                parameter = getattr(layer, name)
                parameter.copy_(value.to(parameter).expand_as(parameter))

    def _prior_at(self, temperature: Tensor | float) -> InvertibleGaussian:
        loc, scale = self._prior_parameters()
        own = temperature if self.prior_temperature is None else self.prior_temperature
        return InvertibleGaussian(
            self._zeros[:, 1:] + loc, scale, own, self._prior_transform(), validate_args=False
        )

    def _prior_transform(self) -> Transform | None:
        flow = self._prior_flow
        if flow is None:
            return None
        return PlanarFlow.from_tensors(*(tensor.to(self._zeros) for tensor in flow))

    def discrete_prior(self) -> DiscreteLaw:
        """The prior of the discrete model; an estimate where it has a flow of its own."""
        if self._is_uniform:
            return self._uniform_law()
        prior = self.prior(1.0)
        if prior.transform is None:
            return prior.discrete()
        generator = Generator(self._zeros.device).manual_seed(0)
        return self._constant_law(
            "discrete prior", 0.0, lambda: prior.discrete("monte_carlo", generator=generator)
        )

    def relaxed(
        self, posterior: SimplexRelaxation, noise: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        law = as_invertible_gaussian(posterior)
        y = law.pre_image(noise)
        t, slope = self.flow.call_and_log_det(y)
        if self.stick_the_landing:
            log_q = self._log_density_without_parameters(law, t)
        else:
            log_q = _log_normal(y, law.loc, law.scale) - slope
        ratio = 1.0 if self.prior_temperature is None else self.prior_temperature / temperature
        log_p = self._log_prior(t * ratio)
        if self.prior_temperature is not None:
            # Of t / temperature, which both have in common, as the prior sees it.
            log_p = log_p + t.shape[-1] * _log(ratio)
        z: Tensor = softmax_plus_plus(t / temperature)
        return z, (log_q - log_p).sum(-1)

    def _log_density_without_parameters(self, law: InvertibleGaussian, t: Tensor) -> Tensor:
        """log q(t), with a gradient through t alone."""
        stacked = (
            torch.stack([getattr(layer, name).detach() for layer in self.flow.layers])
            for name in ("u", "w", "b")
        )
        flow = PlanarFlow.from_tensors(*stacked)
        y = flow.inv(t)
        slope: Tensor = flow.log_abs_det_jacobian(y, t)
        return _log_normal(y, law.loc.detach(), law.scale.detach()) - slope

    def _log_prior(self, t: Tensor) -> Tensor:
        """The log-density of the prior of t, after the flow, for each variable."""
        loc, scale = self._prior_parameters()
        transform = self._prior_transform()
        if transform is None:
            return _log_normal(t, loc, scale)
        y = transform.inv(t)
        slope: Tensor = transform.log_abs_det_jacobian(y, t)  # type: ignore[no-untyped-call]
        return _log_normal(y, loc, scale) - slope

    def pre_image(self, posterior: SimplexRelaxation, noise: Tensor) -> tuple[Tensor, Tensor]:
        law = as_invertible_gaussian(posterior)
        y = law.pre_image(noise)
        t, slope = self.flow.call_and_log_det(y)
        log_q = _log_normal(y, law.loc, law.scale) - slope
        return law.category(noise), (self._log_prior(t) - log_q).sum(-1)


def _log_normal(y: Tensor, loc: Any, scale: Any) -> Tensor:
    """The log-density of independent Gaussians, summed over the last dimension."""
    noise = (y - loc) / scale
    constant = 0.5 * math.log(2.0 * math.pi)
    terms: Tensor = -0.5 * noise * noise - _log(scale) - constant
    return terms.sum(-1)


def _log(value: Tensor | float) -> Any:
    return value.log() if isinstance(value, Tensor) else math.log(value)
