"""What a VAE has between its encoder and its decoder: the seam between networks and laws."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from igr import reprs

if TYPE_CHECKING:
    from igr.models.latents.discrete import DiscreteLatent


class LatentSample(NamedTuple):
    """Points of a posterior, and what it costs to tell them from the prior.

    Arguments:
        points: Points as :meth:`Latent.features` takes them, S for each of B data.
        kl: The KL from the posterior to the prior, with shape :math:`(B)` in closed form, or its
            single-sample estimate at each point with shape :math:`(S, B)`, in nats.
        parts: What else there is to report of each datum, by name, in shapes like those of ``kl``: the KLs
            that it is the sum of, or what was cut.
    """

    points: Any
    kl: Tensor
    parts: dict[str, Tensor]

    def __repr__(self) -> str:
        return reprs.of_fields(self)


class Latent(nn.Module, ABC):
    """The latent variables of a model: how an encoder's outputs become their law, and the prior beside it.

    A model holds one latent and never asks which. Posteriors and points are whatever the latent makes of
    them; a model hands them back to it.
    """

    # Numbers that an encoder gives for each datum, and numbers that a decoder takes.
    num_outputs: int
    num_features: int
    # Whether there is :meth:`pre_image`.
    has_pre_image: bool
    # The names of the parts that its samples have.
    part_names: tuple[str, ...] = ()
    # The parts that it is made of; None where it has none of that kind.
    discrete: "DiscreteLatent | None"
    continuous: "ContinuousLatent | None"

    @abstractmethod
    def forward(self, outputs: Tensor, temperature: Tensor | float) -> Any:
        """The posterior for the outputs of an encoder.

        Arguments:
            outputs: Any real numbers, with shape :math:`(*, O)`, O being ``num_outputs``. Where all are zero
                the law is the prior's.
            temperature: The temperature of the categorical variables, a float or a tensor of shape
                :math:`()`.

        Returns:
            What the other methods take as a posterior, with batch shape :math:`(*)`.
        """

    @abstractmethod
    def draw_noise(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The noise that a posterior takes: the only random step.

        Arguments:
            sample_shape: The shape :math:`(*S)` of samples and of data together, such as :math:`(S, B)`.
            generator: The source of randomness; torch's default one if ``None``.
            device: The device of the noise; that of the model if ``None``.
            dtype: The dtype of the noise; that of the model if ``None``.

        Shapes:
            Result :math:`(*S)` and what one point takes: :math:`(V, n)` of V categorical variables, n being K
            or K - 1; :math:`(D)` of D Gaussian coordinates; both, made flat, of a joint latent.
        """

    @abstractmethod
    def sample(
        self,
        posterior: Any,
        noise: Tensor,
        temperature: Tensor | float,
        kl: str,
        straight_through: bool = False,
    ) -> LatentSample:
        """Points of a posterior, with the KL that is asked for.

        Arguments:
            posterior: As :meth:`forward` gives it.
            noise: As :meth:`draw_noise` gives it for the sample shape :math:`(S, B)`.
            temperature: The temperature of the posterior.
            kl: ``"relaxed"`` or ``"discrete"``: which laws of a categorical variable it is taken of.
            straight_through: Whether categorical points are the vertices nearest to the relaxed ones, with
                the gradient of these.
        """

    def points(self, posterior: Any, noise: Tensor) -> Any:
        """Points of a posterior alone, without a KL, and with nothing cut.

        Arguments:
            posterior: As :meth:`forward` gives it, with batch shape :math:`(B)`.
            noise: As :meth:`draw_noise` gives it for the sample shape :math:`(S, B)`.

        Returns:
            The points as :meth:`features` takes them, S for each of B data: with shape :math:`(S, B, V, K)`
            of V categorical variables, :math:`(S, B, D)` of D Gaussian coordinates, and
            :class:`~igr.models.latents.JointPoints` of both where the latent is a joint one.

        Raises:
            NotImplementedError: The latent does not tell; all of this library do.
        """
        raise NotImplementedError(
            f"expected a latent with points apart from their KL; got {type(self).__name__}; use sample, or "
            "implement points"
        )

    def pre_image(self, posterior: Any, noise: Tensor) -> tuple[Any, Tensor]:
        r"""Vertices and their importance weights over the pre-image, for Gaussian laws.

        With :math:`y = \mu + \sigma \epsilon`, the point is the category that is largest at y, and

        .. math:: \log w = \sum_v \log p(y_v) - \log q(y_v \mid x)

        Averages of :math:`p(x \mid d) w` are unbiased for the :math:`p(x)` of the discrete model.

        Arguments:
            posterior: As :meth:`forward` gives it.
            noise: As :meth:`draw_noise` gives it for the sample shape :math:`(S, B)`.

        Returns:
            The points, those of a categorical variable by their categories, int64 with shape
            :math:`(S, B, V)`, and :math:`\log w` with shape :math:`(S, B)`.

        Raises:
            NotImplementedError: ``has_pre_image`` is false.
        """
        raise NotImplementedError(
            f"expected a latent with a Gaussian pre-image; got {type(self).__name__}; "
            "use the exact discrete law"
        )

    @abstractmethod
    def features(self, points: Any) -> Tensor:
        """Points as a decoder takes them, with shape :math:`(*, F)`, F being ``num_features``."""

    @abstractmethod
    def parts_of(self, posterior: Any) -> tuple[Any, Any]:
        """The posteriors of the discrete and of the continuous part; ``None`` where it has no such part."""

    @abstractmethod
    def join(self, discrete: Any, continuous: Any) -> Any:
        """Points made of those of the parts.

        Arguments:
            discrete: Points of the categorical part, with shape :math:`(*, V, K)`; ``None`` where there is
                none.
            continuous: Points of the Gaussian part, with shape :math:`(*, D)`; ``None`` where there is none.
        """

    def draw_prior(self, num_points: int, generator: Generator | None = None) -> Any:
        """Points of the prior, categorical ones at vertices.

        Arguments:
            num_points: The number N of points.
            generator: The source of randomness, on the device of the model; torch's default one if ``None``.
        """
        parts = (
            None if part is None else part.draw_prior_points(num_points, generator)
            for part in (self.discrete, self.continuous)
        )
        return self.join(*parts)

    def representative(self, posterior: Any) -> Any:
        """One point for each posterior: the most probable category of each variable, the mean elsewhere."""
        discrete, continuous = self.parts_of(posterior)
        return self.join(
            None if self.discrete is None else self.discrete.most_probable(discrete),
            None if self.continuous is None else continuous.mean,
        )


class ContinuousLatent(Latent):
    """A latent of real numbers, with an ordinary density; see :class:`~igr.models.latents.GaussianLatent`."""

    def points(self, posterior: Any, noise: Tensor) -> Any:
        # Neither a temperature nor the choice of a KL has a part in them.
        return self.sample(posterior, noise, 1.0, "relaxed").points

    @abstractmethod
    def draw_prior_points(self, num_points: int, generator: Generator | None = None) -> Tensor:
        """Points of the prior.

        Arguments:
            num_points: The number N of points.
            generator: The source of randomness, on the device of the model; torch's default one if ``None``.

        Shapes:
            Result :math:`(N, D)`.
        """

    @abstractmethod
    def divergence(self, posterior: Any) -> Tensor:
        """The KL from the posterior to the prior, with shape :math:`(*)`, in nats."""

    @abstractmethod
    def log_ratio(self, posterior: Any, points: Tensor) -> Tensor:
        r""":math:`\log p(c) - \log q(c \mid x)` at points of a posterior, in nats.

        Arguments:
            posterior: As :meth:`forward` gives it, with batch shape :math:`(B)`.
            points: Its points, with shape :math:`(S, B, D)`.

        Shapes:
            Result :math:`(S, B)`.
        """
