"""The latents with Gaussian noise and an invertible map: IGR-I, IGR-Planar and IGR-SB."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Transform, kl_divergence

from igr.distributions.discrete import DiscreteLaw
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.relaxation import SimplexRelaxation
from igr.distributions.sticks import StickTruncation
from igr.fitting import uniform_prior
from igr.functional import softmax_plus_plus
from igr.models.latents.latent import DiscreteLatent, LatentSample
from igr.transforms import LogisticStickBreakingTransform, PlanarFlow

# Scales that those of sticks are raised to, one after the other, until their law can be computed.
_RESOLVED_SCALES = (0.02, 0.05, 0.1, 0.2, 0.5)
# What a truncated latent reports: the mass of the sticks that were cut, and how many were kept.
MASS_CUT = "mass_cut"
NUM_STICKS = "num_sticks"


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
        law = _checked(posterior)
        return law.vertex(noise), self._log_ratio_of_normals(law, noise).sum((-2, -1))

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
        given = _uniform_prior(num_categories, "igr") if prior is None else prior
        super().__init__(num_variables, num_categories, given, scale)
        self.prior_temperature = prior_temperature

    def prior(self, temperature: Tensor | float) -> InvertibleGaussian:
        return super().prior(temperature if self.prior_temperature is None else self.prior_temperature)

    def discrete_prior(self) -> DiscreteLaw:
        return self._uniform_law() if self._is_uniform else super().discrete_prior()


class StickBreakingLatent(NormalLatent):
    """The IGR with stick-breaking (IGR-SB), in length space as in the paper, or in log space.

    In length space the last category never wins, so the uniform prior is one over the first K - 1.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each; in length space at least three.
        prior: ``loc`` and ``scale`` of the prior, each with shape :math:`(K - 1,)`; ``None`` for the uniform
            one with scale one.
        scale: ``"fixed"`` at the prior's, or ``"free"``.
        space: ``"length"`` or ``"log"``.
    """

    prior_families = ("igr-sb",)
    least_categories = 3
    options = frozenset({"scale"})

    def __init__(
        self,
        num_variables: int,
        num_categories: int,
        prior: Mapping[str, Tensor] | None = None,
        *,
        scale: str = "fixed",
        space: str = "length",
    ) -> None:
        family = {"length": "igr-sb", "log": "igr-sb-log"}[space]
        given = _uniform_prior(num_categories, family) if prior is None else prior
        super().__init__(num_variables, num_categories, given, scale)
        self._sticks = LogisticStickBreakingTransform(space)

    def _transform(self) -> LogisticStickBreakingTransform:
        return self._sticks

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        found = super().defaults(kl)
        # Lengths lie within (0, 1), so at the temperatures of the others points stay far from the vertices.
        return {**found, "temperature": 0.05} if kl == "discrete" else found

    def exact_law(self, posterior: SimplexRelaxation) -> DiscreteLaw:
        """That of the posterior; where scales are too small for it, of one with these scales raised."""
        law = _checked(posterior)
        for least in (None, *_RESOLVED_SCALES):
            if least is not None:
                raised = law.scale.clamp_min(least)
                law = InvertibleGaussian(
                    law.loc, raised, law.temperature, self._transform(), validate_args=False
                )
            try:
                return law.discrete()
            except NotImplementedError:
                continue
        return law.discrete()


class LogStickBreakingLatent(StickBreakingLatent):
    """:class:`StickBreakingLatent` in log space, where no lower temperature is needed than for IGR-I."""

    prior_families = ("igr-sb-log",)
    least_categories = 2

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        return super(StickBreakingLatent, cls).defaults(kl)

    def __init__(
        self,
        num_variables: int,
        num_categories: int,
        prior: Mapping[str, Tensor] | None = None,
        *,
        scale: str = "fixed",
    ) -> None:
        super().__init__(num_variables, num_categories, prior, scale=scale, space="log")


class TruncatedStickBreakingLatent(StickBreakingLatent):
    r"""IGR-SB with as many sticks as a batch needs, for a support that is countable.

    In training a pilot draw, apart from the draw of the points and without gradient, tells how many of the
    K - 1 sticks are needed for their lengths to sum to the threshold; the batch takes a quantile of these
    numbers, and posterior and prior are cut to the same sticks (:class:`igr.StickTruncation`). A decoder
    meets every category at one place, however many sticks are kept. In evaluation mode nothing is cut.

    The prior does not depend on K: without another one all means are zero and all scales one, so that the
    sticks shrink by half each on average, and there might be infinitely many.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The largest number K of categories, at least three.
        prior: ``loc`` and ``scale`` of the prior, each with shape :math:`(K - 1,)`; ``None`` for 0 and 1.
        scale: ``"fixed"`` at the prior's, or ``"free"``.
        stick_threshold: The sum of lengths that a draw has to reach.
        stick_quantile: The share of draws that are to reach it.
    """

    part_names = (MASS_CUT, NUM_STICKS)
    options = frozenset({"scale", "stick_threshold", "stick_quantile"})

    def __init__(
        self,
        num_variables: int,
        num_categories: int,
        prior: Mapping[str, Tensor] | None = None,
        *,
        scale: str = "fixed",
        stick_threshold: float = 0.9,
        stick_quantile: float = 0.75,
    ) -> None:
        zeros = torch.zeros(num_categories - 1, dtype=torch.float64)
        given = {"loc": zeros, "scale": zeros + 1.0} if prior is None else prior
        super().__init__(num_variables, num_categories, given, scale=scale)
        self._truncation = StickTruncation(stick_threshold, stick_quantile)

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        return {**super().defaults(kl), "stick_threshold": 0.9, "stick_quantile": 0.75}

    def draw_noise(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The noise of the points, followed in the last dimension by that of the pilot draw."""
        own = super().draw_noise(sample_shape, generator, device, dtype)
        return torch.cat([own, super().draw_noise(sample_shape, generator, device, dtype)], dim=-1)

    def sample(
        self,
        posterior: SimplexRelaxation,
        noise: Tensor,
        temperature: Tensor | float,
        kl: str,
        straight_through: bool = False,
    ) -> LatentSample:
        own, pilot = noise.chunk(2, dim=-1)
        law = _checked(posterior)
        cut = self._truncation(law, noise=pilot) if self.training else self._truncation.whole(law)
        prior = cut.same_cut(self.prior(temperature))
        own = own[..., : cut.num_sticks]
        if kl == "relaxed":
            divergence = kl_divergence(cut.law, prior).sum(-1)
        else:
            divergence = self._kl_of_laws(cut.law.discrete(), prior.discrete())
        z = cut.law.rsample(noise=own)
        if straight_through:
            z = self._hard(cut.law, own, z)
        mass = cut.mass_cut.mean(-1)
        parts = {MASS_CUT: mass, NUM_STICKS: torch.full_like(mass, cut.num_sticks)}
        return LatentSample(cut.pad(z), divergence, parts)

    def relaxed(
        self, posterior: SimplexRelaxation, noise: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Of the whole law."""
        return super().relaxed(posterior, noise.chunk(2, dim=-1)[0], temperature)

    def pre_image(self, posterior: SimplexRelaxation, noise: Tensor) -> tuple[Tensor, Tensor]:
        return super().pre_image(posterior, noise.chunk(2, dim=-1)[0])


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
        num_layers: The number of planar layers.
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
        given = _uniform_prior(num_categories, "igr") if prior is None else prior
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
        law = _checked(posterior)
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
        law = _checked(posterior)
        y = law.pre_image(noise)
        t, slope = self.flow.call_and_log_det(y)
        log_q = _log_normal(y, law.loc, law.scale) - slope
        return law.vertex(noise), (self._log_prior(t) - log_q).sum(-1)


def _plain(values: Tensor) -> Tensor | float:
    """One number where all are equal."""
    first = values.flatten()[0]
    return first.item() if bool((values == first).all()) else values


def _uniform_prior(num_categories: int, family: str) -> dict[str, Tensor]:
    law = uniform_prior(num_categories, family, dtype=torch.float64)
    return {"loc": law.loc, "scale": law.scale}  # type: ignore[attr-defined]


def _checked(posterior: SimplexRelaxation) -> InvertibleGaussian:
    if not isinstance(posterior, InvertibleGaussian):
        raise TypeError(
            f"expected an InvertibleGaussian; got {type(posterior).__name__}; give a posterior of this latent"
        )
    return posterior


def _log_normal(y: Tensor, loc: Any, scale: Any) -> Tensor:
    """The log-density of independent Gaussians, summed over the last dimension."""
    noise = (y - loc) / scale
    constant = 0.5 * math.log(2.0 * math.pi)
    terms: Tensor = -0.5 * noise * noise - _log(scale) - constant
    return terms.sum(-1)


def _log(value: Tensor | float) -> Any:
    return value.log() if isinstance(value, Tensor) else math.log(value)
