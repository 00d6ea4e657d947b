"""The latents with stick-breaking (IGR-SB): in length space, in log space, and truncated."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from torch.distributions import kl_divergence

from igr.distributions.discrete import DiscreteLaw
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.relaxation import SimplexRelaxation
from igr.distributions.sticks import StickTruncation
from igr.models.latents.invertible_gaussian import NormalLatent, as_invertible_gaussian, uniform_parameters
from igr.models.latents.latent import LatentSample
from igr.transforms import LogisticStickBreakingTransform

# Scales that those of sticks are raised to, one after the other, until their law can be computed.
_RESOLVED_SCALES = (0.02, 0.05, 0.1, 0.2, 0.5)
# What a truncated latent reports: the mass of the sticks that were cut, and how many were kept.
MASS_CUT = "mass_cut"
NUM_STICKS = "num_sticks"


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
        given = uniform_parameters(num_categories, family) if prior is None else prior
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
        law = as_invertible_gaussian(posterior)
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
    """:class:`StickBreakingLatent` in log space, where no lower temperature is needed than for IGR-I.

    Arguments are those of :class:`StickBreakingLatent`, but for the space; two categories are enough.
    """

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
    has_fixed_law = False

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
        """The noise of the points, followed in the last dimension by that of the pilot draw.

        Arguments are those of :meth:`Latent.draw_noise`.

        Shapes:
            Result :math:`(*S, V, 2 (K - 1))`.
        """
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
        law = as_invertible_gaussian(posterior)
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

    def points(self, posterior: SimplexRelaxation, noise: Tensor) -> Tensor:
        return super().points(posterior, noise.chunk(2, dim=-1)[0])

    def relaxed(
        self, posterior: SimplexRelaxation, noise: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Points of the whole law, no stick of which is cut, and its KL.

        Arguments and errors are those of :meth:`DiscreteLatent.relaxed`; the noise is that of the points and
        of the pilot draw.

        Returns:
            Points with shape :math:`(S, *, V, K)`, and the KL in closed form, with shape :math:`(*)`, in
            nats.
        """
        return super().relaxed(posterior, noise.chunk(2, dim=-1)[0], temperature)

    def pre_image(self, posterior: SimplexRelaxation, noise: Tensor) -> tuple[Tensor, Tensor]:
        return super().pre_image(posterior, noise.chunk(2, dim=-1)[0])
