"""A Gaussian latent, and one that joins a Gaussian and a categorical part."""

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from igr import reprs
from igr.models.latents.discrete import DiscreteLatent
from igr.models.latents.latent import ContinuousLatent, Latent, LatentSample

# The KLs that the KL of a joint latent is the sum of.
DISCRETE_KL = "kl_discrete"
CONTINUOUS_KL = "kl_continuous"


class GaussianPosterior(NamedTuple):
    """Independent Gaussians.

    Arguments:
        loc: Means, with shape :math:`(*, D)`.
        scale: Standard deviations, of the same shape.
    """

    loc: Tensor
    scale: Tensor

    def __repr__(self) -> str:
        return reprs.of_fields(self)

    @property
    def mean(self) -> Tensor:
        """The mean, with shape :math:`(*, D)`."""
        return self.loc


def kl_from_standard(loc: Tensor, scale: Tensor) -> Tensor:
    """The KL from independent Gaussians to N(0, I), in nats.

    Arguments:
        loc: Means, with shape :math:`(*, D)`.
        scale: Standard deviations, of the same shape.

    Shapes:
        Result :math:`(*)`.
    """
    terms: Tensor = loc * loc + (scale - 1) * (scale + 1) - 2 * scale.log()
    return 0.5 * terms.sum(-1)


class GaussianLatent(ContinuousLatent):
    r"""One Gaussian variable with independent coordinates, beside the prior :math:`N(0, I)`.

    The outputs are the means, followed by the logarithms of the standard deviations. Neither a temperature
    nor the choice of a KL has a part in it.

    Arguments:
        dim: The number D of coordinates.
    """

    discrete = None
    has_pre_image = False

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.num_outputs = 2 * dim
        self.num_features = dim
        # Tells the dtype and the device of the model; it is no state to be saved.
        self.register_buffer("_zeros", torch.zeros(dim), persistent=False)
        self._zeros: Tensor

    @property
    def continuous(self) -> "GaussianLatent":  # type: ignore[override]
        """Itself."""
        return self

    def forward(self, outputs: Tensor, temperature: Tensor | float) -> GaussianPosterior:
        """The posterior for the outputs of an encoder.

        Arguments:
            outputs: Means and logarithms of standard deviations, with shape :math:`(*, 2 D)`.
            temperature: Has no part in it.

        Returns:
            The posterior, whose loc and scale have the shape :math:`(*, D)`.
        """
        loc, log_scale = outputs.chunk(2, dim=-1)
        return GaussianPosterior(loc, log_scale.exp())

    def draw_noise(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Standard normal numbers.

        Arguments are those of :meth:`Latent.draw_noise`.

        Shapes:
            Result :math:`(*S, D)`.
        """
        device = self._zeros.device if device is None else device
        dtype = self._zeros.dtype if dtype is None else dtype
        return torch.randn((*sample_shape, self.dim), generator=generator, device=device, dtype=dtype)

    def sample(
        self,
        posterior: GaussianPosterior,
        noise: Tensor,
        temperature: Tensor | float,
        kl: str,
        straight_through: bool = False,
    ) -> LatentSample:
        return LatentSample(self.points(posterior, noise), self.divergence(posterior), {})

    def points(self, posterior: GaussianPosterior, noise: Tensor) -> Tensor:
        return torch.addcmul(posterior.loc, posterior.scale, noise)

    def divergence(self, posterior: GaussianPosterior) -> Tensor:
        """The KL from the posterior to the prior, in closed form, with shape :math:`(*)`, in nats."""
        return kl_from_standard(*posterior)

    def log_ratio(self, posterior: GaussianPosterior, points: Tensor) -> Tensor:
        loc, scale = posterior
        noise = (points - loc) / scale
        terms: Tensor = scale.log() + 0.5 * (noise * noise - points * points)
        return terms.sum(-1)

    def features(self, points: Tensor) -> Tensor:
        return points

    def parts_of(self, posterior: GaussianPosterior) -> tuple[None, GaussianPosterior]:
        return None, posterior

    def join(self, discrete: None, continuous: Any) -> Tensor:
        points: Tensor = continuous
        return points

    def draw_prior_points(self, num_points: int, generator: Generator | None = None) -> Tensor:
        return self.draw_noise((num_points,), generator)


class JointPoints(NamedTuple):
    """Points of a joint latent: those of its parts.

    Arguments:
        discrete: Of V categorical variables, with shape :math:`(*, V, K)`, or vertices by their categories,
            int64 with shape :math:`(*, V)`.
        continuous: Of the Gaussian part, with shape :math:`(*, D)`.
    """

    discrete: Tensor
    continuous: Tensor

    def __repr__(self) -> str:
        return reprs.of_fields(self)


class JointPosterior(NamedTuple):
    """The posterior of a joint latent: those of its parts, which are independent given the datum.

    Arguments:
        discrete: A relaxation with batch shape :math:`(*, V)`.
        continuous: Gaussians with shape :math:`(*, D)`.
    """

    discrete: Any
    continuous: GaussianPosterior


class JointLatent(Latent):
    """A Gaussian variable beside categorical ones, independent in prior and posterior, as in a JointVAE.

    The outputs are those of the categorical part, followed by those of the Gaussian one, and so are the
    features.

    Arguments:
        discrete: The categorical part.
        continuous: The Gaussian part.

    References:
        Learning Disentangled Joint Continuous and Discrete Representations (Dupont, 2018)
    """

    def __init__(self, discrete: DiscreteLatent, continuous: GaussianLatent) -> None:
        super().__init__()
        self.discrete: DiscreteLatent = discrete
        self.continuous: GaussianLatent = continuous
        self.num_outputs = discrete.num_outputs + continuous.num_outputs
        self.num_features = discrete.num_features + continuous.num_features

    def forward(self, outputs: Tensor, temperature: Tensor | float) -> JointPosterior:
        sizes = [self.discrete.num_outputs, self.continuous.num_outputs]
        discrete, continuous = torch.split(outputs, sizes, dim=-1)
        return JointPosterior(self.discrete(discrete, temperature), self.continuous(continuous, temperature))

    def draw_noise(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The noise of the categorical part, made flat, followed by that of the Gaussian one.

        Arguments are those of :meth:`Latent.draw_noise`.

        Shapes:
            Result :math:`(*S, V n + D)`, n being K - 1 or K.
        """
        discrete = self.discrete.draw_noise(sample_shape, generator, device, dtype)
        continuous = self.continuous.draw_noise(sample_shape, generator, device, dtype)
        return torch.cat([discrete.flatten(-2), continuous], dim=-1)

    def sample(
        self,
        posterior: JointPosterior,
        noise: Tensor,
        temperature: Tensor | float,
        kl: str,
        straight_through: bool = False,
    ) -> LatentSample:
        of_discrete, own = self._noise_of_parts(noise)
        d = self.discrete.sample(posterior.discrete, of_discrete, temperature, kl, straight_through)
        c = self.continuous.sample(posterior.continuous, own, temperature, kl)
        parts = {DISCRETE_KL: d.kl, CONTINUOUS_KL: c.kl, **d.parts}
        return LatentSample(JointPoints(d.points, c.points), d.kl + c.kl, parts)

    def points(self, posterior: JointPosterior, noise: Tensor) -> JointPoints:
        of_discrete, own = self._noise_of_parts(noise)
        return JointPoints(
            self.discrete.points(posterior.discrete, of_discrete),
            self.continuous.points(posterior.continuous, own),
        )

    @property
    def part_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the two KLs, and what the categorical part has."""
        return (DISCRETE_KL, CONTINUOUS_KL, *self.discrete.part_names)

    @property
    def has_pre_image(self) -> bool:  # type: ignore[override]
        """Whether the categorical part has one."""
        return self.discrete.has_pre_image

    def pre_image(self, posterior: JointPosterior, noise: Tensor) -> tuple[JointPoints, Tensor]:
        of_discrete, own = self._noise_of_parts(noise)
        d, log_ratio = self.discrete.pre_image(posterior.discrete, of_discrete)
        c = self.continuous.points(posterior.continuous, own)
        return JointPoints(d, c), log_ratio + self.continuous.log_ratio(posterior.continuous, c)

    def _noise_of_parts(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        flat, own = noise[..., : -self.continuous.dim], noise[..., -self.continuous.dim :]
        return flat.reshape(*flat.shape[:-1], self.discrete.num_variables, -1), own

    def features(self, points: JointPoints) -> Tensor:
        return torch.cat([self.discrete.features(points.discrete), points.continuous], dim=-1)

    def parts_of(self, posterior: JointPosterior) -> tuple[Any, GaussianPosterior]:
        return posterior.discrete, posterior.continuous

    def join(self, discrete: Any, continuous: Any) -> JointPoints:
        return JointPoints(discrete, continuous)
