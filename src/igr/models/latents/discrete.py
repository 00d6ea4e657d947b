"""What the categorical latents have in common: V variables, a relaxation of them, the prior and both KLs."""

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Generator, Tensor, nn

from igr.distributions.discrete import DiscreteLaw
from igr.distributions.relaxation import SimplexRelaxation
from igr.kernels import simplex
from igr.kernels.numbers import LOWEST_LOGARITHM
from igr.kernels.tracing import is_traced
from igr.models.latents.latent import Latent, LatentSample

Law = TypeVar("Law")

# Draws that tell the most probable category of a law that has no exact form.
_DRAWS_OF_A_LAW = 200


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
