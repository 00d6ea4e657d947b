"""The contract of a relaxation of one binary variable: a number between zero and one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Size, Tensor
from torch.distributions import constraints

from igr import validation
from igr.distributions.discrete import DiscreteLaw
from igr.distributions.relaxation import SimplexRelaxation
from igr.distributions.reparameterized import Reparameterized
from igr.kernels import binary
from igr.kernels.numbers import log_number
from igr.kernels.tracing import is_traced


class BinaryRelaxation(Reparameterized):
    r"""A reparameterizable law of a number in the unit interval, the weight of the first of two categories.

    What :class:`~igr.SimplexRelaxation` is over two categories, with the event shape :math:`()`: z stands for
    the point :math:`(z, 1 - z)`, and as the temperature goes to zero z becomes zero or one. Noise,
    generators, half precision and tracers are the same as there. :meth:`as_simplex` is the law in that form.

    z near one has lost the digits of 1 - z, so what loses nothing is the logit
    :math:`\log(z / (1 - z))`: :meth:`rsample_logit` and :meth:`log_prob_of_logit`. All densities are
    of z, with respect to Lebesgue measure and in nats, whatever they are computed from.

    To implement one:
        1. Set the parameters as attributes of their torch names, expanded to the batch, and call
           ``super().__init__``; give ``arg_constraints``.
        2. Implement every abstract member, in the precision of the noise or the logits that come.
        3. Register closed-form KL divergences in :mod:`igr.distributions.kl`.
        4. Add instances to ``BINARY`` of ``tests/cases.py``.

    Arguments:
        batch_shape: The batch shape :math:`(*B)`.
        temperature: :math:`\tau`, a float or a tensor that broadcasts against the batch.
        validate_args: Whether values given to methods are checked; those given to the constructor are its own
            to check.
    """

    support = constraints.unit_interval

    def __init__(self, *, batch_shape: Size, temperature: float | Tensor, validate_args: bool) -> None:
        super().__init__(
            batch_shape=batch_shape, event_shape=Size(), temperature=temperature, validate_args=validate_args
        )

    # What a relaxation states, beside what every law does.

    @abstractmethod
    def as_simplex(self) -> SimplexRelaxation:
        """The law of :math:`(z, 1 - z)`, with event shape :math:`(2,)`, as a function of the same tensors."""

    @abstractmethod
    def _scores(self, noise: Tensor) -> Tensor:
        """The logit times the temperature, whose sign marks the category."""

    @abstractmethod
    def _scores_and_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and its log-density, from the noise and without an inverse."""

    @abstractmethod
    def _density_of_scores(self, scores: Tensor) -> Tensor:
        """The log-density of scores."""

    # What follows.

    @property
    def num_categories(self) -> int:
        """The number of categories, which is two."""
        return 2

    @property
    def noise_shape(self) -> Size:
        return Size()

    def rsample_logit(
        self,
        sample_shape: Sequence[int] = (),
        generator: Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        r"""Logits of the points of :meth:`rsample`, which tell points apart that round to zero or one.

        Arguments:
            sample_shape: The shape :math:`(*S)` of independent draws; not needed where noise is given.
            generator: The source of randomness where no noise is given.
            noise: Base noise as :meth:`draw_noise` returns it.

        Shapes:
            Result :math:`(*S, *B)`.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        return self._logits(self._noise(sample_shape, generator, noise)).to(self.dtype)

    def rsample_log(
        self,
        sample_shape: Sequence[int] = (),
        generator: Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        r"""Logarithms of the points of :meth:`rsample`, finite wherever those underflow.

        Arguments:
            sample_shape: The shape :math:`(*S)` of independent draws; not needed where noise is given.
            generator: The source of randomness where no noise is given.
            noise: Base noise as :meth:`draw_noise` returns it.

        Shapes:
            Result :math:`(*S, *B)`.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        return binary.log_weight(self._logits(self._noise(sample_shape, generator, noise))).to(self.dtype)

    def rsample_and_log_prob(
        self,
        sample_shape: Sequence[int] = (),
        generator: Generator | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Points and their log-density, computed from the pre-image: exact at every temperature.

        Arguments:
            sample_shape: The shape :math:`(*S)` of independent draws; not needed where noise is given.
            generator: The source of randomness where no noise is given.
            noise: Base noise as :meth:`draw_noise` returns it.

        Shapes:
            Both :math:`(*S, *B)`, the densities in nats.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        scores, density = self._scores_and_density(self._noise(sample_shape, generator, noise))
        logit = scores / self._number(scores.dtype)
        return torch.sigmoid(logit).to(self.dtype), self._density_of_z(density, logit).to(self.dtype)

    def vertex(self, noise: Tensor) -> Tensor:
        """One where the point of that noise is at least a half and zero elsewhere, without gradient.

        That is a draw of the discrete law.

        Shapes:
            Noise as :meth:`draw_noise` gives it, result :math:`(*S, *B)`.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        with torch.no_grad():
            return (self._scores(self._noise((), None, noise)) >= 0).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the stored number, in nats, held away from zero and one by what a number can be.

        :meth:`log_prob_of_logit` and :meth:`rsample_and_log_prob` lose nothing.

        Shapes:
            Value :math:`(*S, *B)`, result the same.

        Raises:
            TypeError: unless it is a floating-point tensor.
            ValueError: if the value has a shape that does not broadcast, or is not between zero and one.
        """
        value = self._checked("value", value)
        if self._reads_values and not bool(self.support.check(value).all()):
            raise ValueError(
                f"{type(self).__name__}: expected numbers between 0 and 1; got a value outside; for logits "
                "there is log_prob_of_logit."
            )
        return self._density_of_logit(binary.logit_of(value)).to(self.dtype)

    def log_prob_of_log(self, log_value: Tensor) -> Tensor:
        """The density that :meth:`log_prob` gives (of z, not of log z), from log z, in nats.

        Shapes:
            Value :math:`(*S, *B)`, result the same.

        log z close to zero has lost what :meth:`log_prob_of_logit` keeps: it is held at minus the smallest
        normal number.

        Raises:
            TypeError: unless it is a floating-point tensor.
            ValueError: if it has a shape that does not broadcast, or is not finite or above zero.
        """
        log_value = self._checked("log_value", log_value)
        if self._reads_values and not bool((torch.isfinite(log_value) & (log_value <= 0)).all()):
            raise ValueError(
                f"{type(self).__name__}: expected finite logarithms of numbers between 0 and 1; got others; "
                "for logits there is log_prob_of_logit."
            )
        return self._density_of_logit(binary.logit_of_log(log_value)).to(self.dtype)

    def log_prob_of_logit(self, logit: Tensor) -> Tensor:
        """The density that :meth:`log_prob` gives (of z, not of its logit), from the logit, in nats.

        Shapes:
            Value :math:`(*S, *B)`, result the same.

        Raises:
            TypeError: unless it is a floating-point tensor.
            ValueError: if it has a shape that does not broadcast, or is not finite.
        """
        logit = self._checked("logit", logit)
        if self._reads_values:
            validation.check_values(type(self).__name__, "logit", logit)
        return self._density_of_logit(logit).to(self.dtype)

    def discrete(
        self, method: str = "exact", *, num_samples: int = 10_000, generator: Generator | None = None
    ) -> DiscreteLaw:
        """The law of the two categories, the first being that z is more than a half.

        Its ``probs[..., 0]`` are the probabilities of a one. The law is exact and differentiable whatever the
        transform, as long as that has an inverse.

        Arguments:
            method: ``"exact"``, ``"monte_carlo"`` or ``"quasi_monte_carlo"``, as for
                :meth:`igr.SimplexRelaxation.discrete`.
            num_samples: Draws of an estimate.
            generator: The source of randomness of an estimate.

        Shapes:
            Batch shape :math:`(*B)`, event shape :math:`(2,)`.
        """
        return self.as_simplex().discrete(method, num_samples=num_samples, generator=generator)

    @property
    def mean(self) -> Tensor:
        r"""The mean :math:`E\, z` by quadrature, differentiable, with shape :math:`(*B)`.

        Raises:
            NotImplementedError: for a law with a transform.
        """
        try:
            return self.as_simplex().mean[..., 0]
        except NotImplementedError:
            raise NotImplementedError(
                f"mean: no quadrature is known for {self!r}; take the mean of draws, by rsample."
            ) from None

    @property
    def _reads_values(self) -> bool:
        """Whether values that are given are looked at."""
        return bool(self._validate_args) and not is_traced()

    def _sample(self, noise: Tensor) -> Tensor:
        return torch.sigmoid(self._logits(noise))

    def _logits(self, noise: Tensor) -> Tensor:
        return self._scores(noise) / self._number(noise.dtype)

    def _number(self, dtype: torch.dtype) -> float | Tensor:
        """The temperature, a tensor in the given dtype."""
        return self._temperature.to(dtype) if isinstance(self._temperature, Tensor) else self._temperature

    def _density_of_logit(self, logit: Tensor) -> Tensor:
        return self._density_of_z(self._density_of_scores(logit * self._number(logit.dtype)), logit)

    def _density_of_z(self, density_of_scores: Tensor, logit: Tensor) -> Tensor:
        """log-density of z from that of the scores: times temperature / (z (1 - z))."""
        return density_of_scores + log_number(self._temperature, logit.dtype) + binary.spread(logit)

    def _checked(self, name: str, value: Tensor) -> Tensor:
        """A value in the precision of the computation."""
        if self._validate_args:
            validation.check_float_tensor(type(self).__name__, name, value)
            try:
                validation.broadcast_shapes(value.shape, self._batch_shape)
            except RuntimeError:
                raise ValueError(
                    f"{type(self).__name__}: expected {name} of a shape that broadcasts against the batch "
                    f"shape {tuple(self._batch_shape)}; got {tuple(value.shape)}."
                ) from None
        return value.to(self._common_dtype(value))
