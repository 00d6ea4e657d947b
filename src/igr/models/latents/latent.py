"""What a VAE has between its encoder and its decoder: the seam between networks and laws."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Generator, Tensor, nn

from igr import reprs
from igr.distributions.discrete import DiscreteLaw
from igr.distributions.relaxation import SimplexRelaxation
from igr.kernels import simplex
from igr.kernels.numbers import LOWEST_LOGARITHM
from igr.kernels.tracing import is_traced

Law = TypeVar("Law")

# Draws that tell the most probable category of a law that has no exact form.
_DRAWS_OF_A_LAW = 200


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


class DiscreteLatent(Latent):
    """V independent categorical variables with K categories each, relaxed to the simplex.

    It says how many outputs of an encoder a variable needs, turns them into a relaxation at a temperature,
    and owns the prior and the KL. Both KLs are summed over the variables and in nats.

    To implement one, set the class variables and ``outputs_per_variable``, and give :meth:`defaults`,
    :meth:`_posterior`, :meth:`prior` and :meth:`relaxed`; the rest follows. Only a law with a Gaussian
    pre-image has :meth:`pre_image` as well.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
    """

    # Settings of a config that it takes beyond the common ones; all others are refused.
    options: ClassVar[frozenset[str]]
    # The KLs that there are of it, the one that is trained by default first. One of the discrete laws needs
    # their exact form.
    kls: ClassVar[tuple[str, ...]] = ("discrete", "relaxed")
    # Families of :func:`igr.fitting.fit` of which its prior may be, the usual one first.
    prior_families: ClassVar[tuple[str, ...]]
    least_categories: ClassVar[int] = 2
    # Whether the features of a vertex are its one-hot vectors.
    has_one_hot_features: ClassVar[bool] = True
    # The only number of categories that there can be, if there is one.
    fixed_categories: ClassVar[int | None] = None
    # Whether its posterior is one law, and not another one at each draw; gradient estimators need that.
    has_fixed_law: ClassVar[bool] = True
    # Ways in which the law of the noise given the category is known; see :class:`igr.estimators.Estimator`.
    conditional_noise: ClassVar[frozenset[str]] = frozenset()
    outputs_per_variable: int
    continuous = None

    def __init__(self, num_variables: int, num_categories: int) -> None:
        super().__init__()
        self.num_variables = num_variables
        self.num_categories = num_categories
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

    @classmethod
    def has_exact_law(cls) -> bool:
        """Whether the discrete law of a posterior can be computed."""
        return "discrete" in cls.kls

    # A property, since a module that were an attribute of itself would be its own child.
    @property
    def discrete(self) -> "DiscreteLatent":  # type: ignore[override]
        """Itself."""
        return self

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """Numbers that an encoder has to give for each datum."""
        return self.num_variables * self.outputs_per_variable

    @property
    def num_features(self) -> int:  # type: ignore[override]
        """Numbers that a decoder takes."""
        return self.num_variables * self.num_categories

    def forward(self, outputs: Tensor, temperature: Tensor | float) -> SimplexRelaxation:
        """The posterior for the outputs of an encoder.

        Arguments:
            outputs: Any real numbers, with shape :math:`(*, O)`, O being ``num_outputs``. Where
                all are zero the law is the prior's.
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
        """The relaxed prior beside a posterior of that temperature, with batch shape :math:`(V,)`."""

    def discrete_prior(self) -> DiscreteLaw:
        """The prior of the discrete model, with batch shape :math:`(V,)`."""
        # The temperature has no part in it.
        return self._constant_law("discrete prior", 0.0, lambda: self.prior(1.0).discrete())

    def draw_noise(
        self,
        sample_shape: torch.Size | tuple[int, ...] = (),
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The noise that a posterior of any outputs takes.

        Arguments are those of :meth:`Latent.draw_noise`.

        Shapes:
            Result :math:`(*S, V, n)`, n being K - 1 or K.
        """
        device = self._zeros.device if device is None else device
        dtype = self._zeros.dtype if dtype is None else dtype

        def any_law() -> SimplexRelaxation:
            outputs = torch.zeros(self.num_variables, self.outputs_per_variable, device=device, dtype=dtype)
            return self._posterior(outputs, 1.0)

        law = self._constant_law("noise", 1.0, any_law, device, dtype)
        return law.draw_noise(sample_shape, generator=generator)

    def sample(
        self,
        posterior: SimplexRelaxation,
        noise: Tensor,
        temperature: Tensor | float,
        kl: str,
        straight_through: bool = False,
    ) -> LatentSample:
        if kl == "relaxed":
            z, value = self.relaxed(posterior, noise, temperature)
        else:
            z, value = posterior.rsample(noise=noise), self.discrete_kl(posterior)
        if straight_through:
            z = self._hard(posterior, noise, z)
        return LatentSample(z, value, {})

    def points(self, posterior: SimplexRelaxation, noise: Tensor) -> Tensor:
        return posterior.rsample(noise=noise)

    @abstractmethod
    def relaxed(
        self, posterior: SimplexRelaxation, noise: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Points, and the KL of the relaxed laws from the posterior to the prior.

        Arguments:
            posterior: A posterior with batch shape :math:`(*, V)`.
            noise: Its noise, with shape :math:`(S, *, V, n)`.
            temperature: The temperature of the posterior.

        Returns:
            Points with shape :math:`(S, *, V, K)`, and the KL in closed form, with shape :math:`(*)`;
            or, where there is none, its single-sample estimate at each point, with shape :math:`(S, *)`; in
            nats.

        Raises:
            TypeError: for a posterior of another latent.
        """

    def exact_law(self, posterior: SimplexRelaxation) -> DiscreteLaw:
        """The discrete law of a posterior as it is evaluated: what points are drawn from and weighted by.

        It is that of the posterior itself unless that cannot be computed; then it is one close to it. Bounds
        hold for whatever law it is.
        """
        return posterior.discrete()

    def discrete_kl(self, posterior: SimplexRelaxation) -> Tensor:
        r"""The exact KL of the discrete laws from the posterior to the prior, in nats: shape :math:`(*)`.

        .. math:: \sum_v \sum_k q_{vk} (\log q_{vk} - \log p_{vk})
        """
        return self._kl_of_laws(posterior.discrete(), self.discrete_prior())

    def log_ratio(self, posterior: SimplexRelaxation, points: Tensor) -> Tensor:
        r""":math:`\log p(d) - \log q(d \mid x)` of the discrete laws at vertices, in nats.

        Arguments:
            posterior: A posterior with batch shape :math:`(*, V)`.
            points: Vertices, with shape :math:`(S, *, V, K)`.

        Shapes:
            Result :math:`(S, *)`.
        """
        log_q, log_p = posterior.discrete().exact_logits, self.discrete_prior().exact_logits
        # Chosen and not multiplied, since zero times minus infinity is no number.
        return torch.where(points > 0, log_p - log_q, 0.0).sum((-2, -1))

    def _kl_of_laws(self, posterior: DiscreteLaw, prior: DiscreteLaw) -> Tensor:
        # Held above minus infinity, so that a category that is never taken adds zero and not NaN.
        log_q = posterior.exact_logits.clamp_min(LOWEST_LOGARITHM)
        log_p = prior.exact_logits.clamp_min(LOWEST_LOGARITHM)
        return (log_q.exp() * (log_q - log_p)).sum((-2, -1))

    def features(self, points: Tensor) -> Tensor:
        """Points as a decoder takes them; vertices may be given by their categories, int64 :math:`(*, V)`."""
        return (points if points.is_floating_point() else self._one_hot(points)).flatten(-2)

    def parts_of(self, posterior: SimplexRelaxation) -> tuple[SimplexRelaxation, None]:
        return posterior, None

    def join(self, discrete: Any, continuous: None) -> Tensor:
        points: Tensor = discrete
        return points

    def draw_prior_points(self, num_points: int, generator: Generator | None = None) -> Tensor:
        """Vertices, one for each variable, drawn from the prior.

        Arguments:
            num_points: The number N of points.
            generator: The source of randomness, on the device of the model; torch's default one if ``None``.

        Shapes:
            Result :math:`(N, V, K)`.
        """
        probs = self.discrete_prior().probs
        index = torch.multinomial(probs, num_points, replacement=True, generator=generator).T
        return self._one_hot(index)

    def most_probable(self, posterior: SimplexRelaxation) -> Tensor:
        """The vertex of the most probable category of each variable, with shape :math:`(*, V, K)`."""
        if self.has_exact_law():
            return self._one_hot(self.exact_law(posterior).logits.argmax(-1))
        generator = Generator(self._zeros.device).manual_seed(0)
        law = posterior.discrete("monte_carlo", num_samples=_DRAWS_OF_A_LAW, generator=generator)
        return self._one_hot(law.logits.argmax(-1))

    def _hard(self, posterior: SimplexRelaxation, noise: Tensor, z: Tensor) -> Tensor:
        return simplex.straight_through(posterior.vertex(noise).to(z.dtype), z)

    def _one_hot(self, index: Tensor) -> Tensor:
        return nn.functional.one_hot(index, self.num_categories).to(self._zeros.dtype)

    def _uniform_law(self) -> DiscreteLaw:
        return self._constant_law(
            "discrete prior", 0.0, lambda: DiscreteLaw(self._zeros - math.log(self.num_categories))
        )
