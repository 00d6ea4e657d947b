"""The abstract contract of every relaxation: a distribution on the simplex that is pure given its noise."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Size, Tensor
from torch.distributions import OneHotCategorical, kl_divergence

from igr import reprs
from igr.distributions.discrete import DiscreteLaw
from igr.distributions.estimates import METHODS, MeanEstimate, estimated_law, estimated_mean
from igr.distributions.reparameterized import Reparameterized
from igr.distributions.support import Simplex
from igr.kernels import fused as fused_draws
from igr.kernels import simplex
from igr.kernels.numbers import column
from igr.kernels.tracing import is_traced
from igr.validation import broadcast_shapes, check_float_tensor


class SimplexRelaxation(Reparameterized):
    r"""A reparameterizable distribution on the simplex whose largest coordinate follows a discrete law.

    A point is a deterministic, differentiable function of the parameters and of base noise whose law
    has no parameter. :meth:`draw_noise` is the only random step; every other method is pure, and works
    under ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and ``torch.export`` when ``noise=``
    is given. ``generator=`` is a convenience for eager code.

    Densities are with respect to Lebesgue measure on the first K - 1 coordinates and in nats
    (TensorFlow Probability's differ by :math:`\frac{1}{2} \log K`).

    Half-precision parameters (bfloat16, float16) give half-precision results; noise and arithmetic are
    float32 in between. float16 holds no number above 65504, and logarithms reach beyond at temperatures
    below about 1e-4: bfloat16 or float32 serve there.

    ``torch.compile`` turns the checks of arguments off for the whole process, as it does for every torch
    distribution; ``validate_args=True`` turns them on again.

    Where categories are masked (:attr:`mask`) the law is that over the available ones, in the simplex of all
    K: z is exactly zero at masked categories and log z minus infinity, and neither they nor the parameters
    there, which may be any numbers, have a part in a result or its gradient. The reference measure is
    Lebesgue on the available coordinates but one; a point with mass on a masked category has density zero.
    Where one category is left, that is a point mass with log-density zero. Noise keeps its shape.

    To implement one:
        1. Set the parameters as attributes of their torch names, expanded to the batch, and call
           ``super().__init__``; give ``arg_constraints``.
        2. Implement every abstract member; the noise and the logarithms that they see are float32 or
           float64, and the base class converts results to :attr:`dtype`. A law that takes a mask hands it on,
           and gives minus infinity as log z, score and log-probability of masked categories.
        3. Register closed-form KL divergences in :mod:`igr.distributions.kl`.
        4. Add instances to ``tests/cases.py``: every law of the test suite then applies.

    Arguments:
        batch_shape: The batch shape :math:`(*B)`.
        num_categories: K.
        temperature: :math:`\tau`, a float or a tensor that broadcasts against the batch.
        validate_args: Whether values given to methods are checked; those given to the constructor are its own
            to check.
        mask: True where a category is not available, with shape :math:`(*B, K)` or one that broadcasts to it;
            ``None`` if all are.
    """

    support = Simplex()

    def __init__(
        self,
        *,
        batch_shape: Size,
        num_categories: int,
        temperature: float | Tensor,
        validate_args: bool,
        mask: Tensor | None = None,
    ) -> None:
        self._mask = mask
        # The exact law, or a place for it, where it is to be computed once.
        self._kept_law: list[DiscreteLaw] | None = None
        super().__init__(
            batch_shape=batch_shape,
            event_shape=Size([num_categories]),
            temperature=temperature,
            validate_args=validate_args,
        )

    # What a relaxation states, beside what every law does.

    def with_point_temperature(self, temperature: float | Tensor) -> Self:
        """With relaxed points at another temperature, and the same vertices from the same noise.

        Arguments and errors are those of :meth:`with_temperature`.
        """
        return self.with_temperature(temperature)

    @abstractmethod
    def _noise_of_uniform(self, uniform: Tensor) -> Tensor:
        """Base noise from uniform numbers of the open unit interval, entry by entry."""

    @abstractmethod
    def _log_sample(self, noise: Tensor) -> Tensor:
        """log z [*, K] from noise [*, n]."""

    @abstractmethod
    def _log_sample_and_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """log z [*, K] and the log-density of z [*], from the noise and without an inverse."""

    @abstractmethod
    def _log_density(self, log_z: Tensor) -> Tensor:
        """Log-density of z [*] from log z [*, K], which is given as zero at masked categories."""

    @abstractmethod
    def _scores(self, noise: Tensor) -> Tensor:
        """Numbers [*, K] the largest of which marks the category, whatever underflows in z."""

    @abstractmethod
    def _exact_log_probs(self, num_nodes: int | None) -> Tensor:
        """Log-probabilities [*B, K] of the law of the largest coordinate, as computed."""

    # What follows.

    @property
    def num_categories(self) -> int:
        """K, the number of categories."""
        return self._event_shape[0]

    @property
    def mask(self) -> Tensor | None:
        """True where a category is not available, as it was given; it broadcasts against :math:`(*B, K)`."""
        return self._mask

    def rsample_log(
        self,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Logarithms of the points of :meth:`rsample`, finite wherever those underflow.

        Those of masked categories are minus infinity.

        Arguments:
            sample_shape: The shape :math:`(*S)` of independent draws; not needed where noise is given.
            generator: The source of randomness where no noise is given.
            noise: Base noise as :meth:`draw_noise` returns it.

        Shapes:
            Result :math:`(*S, *B, K)`.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        return self._log_sample(self._noise(sample_shape, generator, noise)).to(self.dtype)

    def rsample_and_log_prob(
        self,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        fused: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Points and their log-density, computed from the pre-image: exact at every temperature.

        Arguments and errors are those of :meth:`rsample`, and so is what is drawn by one kernel.

        Shapes:
            Points :math:`(*S, *B, K)`, log-densities :math:`(*S, *B)`, in nats.
        """
        draw = self._chosen_draw(sample_shape, noise, fused)
        if draw is not None:
            return fused_draws.sample_and_density(draw, sample_shape, generator)
        noise = self._noise(sample_shape, generator, noise)
        log_z, log_prob = self._log_sample_and_density(noise)
        return torch.exp(log_z).to(self.dtype), log_prob.to(self.dtype)

    def vertex(self, noise: Tensor) -> Tensor:
        """The vertex nearest to the point of that noise, a draw of the discrete law, without gradient.

        The largest category is told before the softmax, so entries that tie where they round or underflow
        do not mislead it.

        Shapes:
            Noise as :meth:`draw_noise` gives it, result :math:`(*S, *B, K)`.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        with torch.no_grad():
            return simplex.nearest_vertex(self._scores(self._noise((), None, noise))).to(self.dtype)

    def category(self, noise: Tensor) -> Tensor:
        """The category of :meth:`vertex`, counted from zero, as int64.

        Errors are those of :meth:`vertex`.

        Shapes:
            Noise as :meth:`draw_noise` gives it, result :math:`(*S, *B)`.
        """
        with torch.no_grad():
            return self._scores(self._noise((), None, noise)).argmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the stored point, in nats; entries are held at the smallest normal number.

        A point with underflowed entries has lost what tells it from its neighbours, so this is the density
        of what is stored. :meth:`log_prob_of_log` and :meth:`rsample_and_log_prob` lose nothing.

        The slope in the point itself is as steep as one over its smallest entry, and may overflow in float32;
        a gradient through the point is better taken by these two.

        Shapes:
            Value :math:`(*S, *B, K)`, result :math:`(*S, *B)`.

        Raises:
            TypeError: unless the value is a floating-point tensor.
            ValueError: if the value has another shape or is not on the simplex.
        """
        if self._validate_args:
            self._check_shape("value", value)
            if not is_traced() and not bool(self.support.check(value).all()):
                raise ValueError(
                    f"{type(self).__name__}: expected points of the simplex (entries of at least 0 that sum "
                    "to 1); got a value outside it; for logarithms there is log_prob_of_log."
                )
        log_value = simplex.log_of_clamped(value.to(self._common_dtype(value)))
        density = self._log_density(self._with_masked(log_value, 0.0)).to(self.dtype)
        if self._mask is None:
            return density
        return density.masked_fill(((value != 0) & self._mask).any(-1), -torch.inf)

    def log_prob_of_log(self, log_value: Tensor) -> Tensor:
        """The density that :meth:`log_prob` gives (of z, not of log z), from log z, in nats.

        Shapes:
            Value :math:`(*S, *B, K)`, result :math:`(*S, *B)`.

        Raises:
            TypeError: unless the value is a floating-point tensor.
            ValueError: if the value has another shape.
        """
        if self._validate_args:
            self._check_shape("log_value", log_value)
        log_z = self._with_masked(log_value.to(self._common_dtype(log_value)), 0.0)
        density = self._log_density(log_z).to(self.dtype)
        if self._mask is None:
            return density
        return density.masked_fill(((log_value != -torch.inf) & self._mask).any(-1), -torch.inf)

    def discrete(
        self,
        method: str = "exact",
        *,
        num_nodes: int | None = None,
        num_samples: int = 10_000,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> DiscreteLaw:
        """The law of the largest coordinate: what the relaxation turns into at temperature zero.

        Arguments:
            method: ``"exact"``, differentiable in every parameter; ``"monte_carlo"``, the shares of the
                categories among draws, unbiased, without gradient but with a standard error; or
                ``"quasi_monte_carlo"``, the same over 16 randomizations of Sobol points, whose error is
                smaller where K is.
            num_nodes: Quadrature nodes of the exact law, where it needs any; ``None`` chooses them from
                the parameters.
            num_samples: Draws of the estimate, where no noise is given; of Sobol points the largest power
                of two for each randomization that is no more than that.
            generator: The source of randomness of the estimate.
            noise: Noise of the Monte Carlo estimate, with shape :math:`(N, *B)` + :attr:`noise_shape`.

        Raises:
            ValueError: for another method, fewer than three nodes or no sample.
            NotImplementedError: where no exact law is known; the message says why and what to do.
        """
        if method == "exact":
            if num_nodes is not None and num_nodes < 3:
                raise ValueError(f"discrete: expected num_nodes of at least 3; got {num_nodes}.")
            # One that was computed without a graph is of no use to who needs one.
            keeps = self._kept_law is not None and num_nodes is None and torch.is_grad_enabled()
            if keeps and self._kept_law:
                return self._kept_law[0]
            law = DiscreteLaw(self._exact_log_probs(num_nodes), dtype=self.dtype)
            if keeps:
                self._kept_law = [law]
            return law
        if method not in METHODS:
            raise ValueError(
                "discrete: expected method to be 'exact' or 'monte_carlo' or 'quasi_monte_carlo'; "
                f"got {method!r}."
            )
        return estimated_law(self, method, num_samples, generator, noise)

    def discrete_kl(self, other: OneHotCategorical) -> Tensor:
        r"""The divergence of the exact discrete law from another one, in nats.

        .. math:: \sum_k P(k) (\log P(k) - \log Q(k))

        The same number as ``kl_divergence(self.discrete(), other)``; for IGR-I without a mask, in eager code
        and beside a law that is not trained, its gradient is found on the way, which saves a second pass over
        the nodes of the quadrature; on a GPU kernels find the law instead.

        Arguments:
            other: Q, with the same number of categories and a batch shape that broadcasts against
                :math:`(*B)`.

        Returns:
            Tensor with both batch shapes broadcast.

        Raises:
            ValueError: for another number of categories.
            NotImplementedError: where no exact law is known.
            RuntimeError: if the batches do not broadcast.

        Example:
            >>> from igr import InvertibleGaussian
            >>> prior = InvertibleGaussian.uniform(4, temperature=0.1)
            >>> law = InvertibleGaussian(torch.tensor([0.3, -1.0, 0.5]), 1.0, temperature=0.1)
            >>> law.discrete_kl(prior.discrete())
            tensor(0.2869)
        """
        divergence: Tensor = kl_divergence(self.discrete(), other)
        return divergence

    def keeping_exact_law(self) -> Self:
        """The same distribution, which computes its exact discrete law once while gradients are recorded.

        For several uses of the law in one graph, such as a divergence and a gradient estimator; a second
        backward pass needs ``retain_graph=True``, as through every shared tensor.
        """
        new = copy.copy(self)
        new._kept_law = []
        return new

    @property
    def mean(self) -> Tensor:
        r"""The mean point :math:`E\, z` by quadrature, differentiable, with shape :math:`(*B, K)`.

        Raises:
            NotImplementedError: where only an estimate can be had, by :meth:`mean_estimate`.
        """
        return self._mean_by_quadrature().to(self.dtype)

    def mean_estimate(
        self,
        method: str = "quadrature",
        *,
        num_samples: int = 10_000,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> MeanEstimate:
        """The mean point of the relaxation, which says how it was had.

        Arguments:
            method: ``"quadrature"`` (:attr:`mean`), ``"monte_carlo"`` or ``"quasi_monte_carlo"``, both
                without gradient but with a standard error.
            num_samples: Draws of the estimate, where no noise is given.
            generator: The source of randomness of the estimate.
            noise: Noise of the Monte Carlo estimate, with shape :math:`(N, *B)` + :attr:`noise_shape`.

        Raises:
            ValueError: for another method, or no sample.
            NotImplementedError: for the quadrature of a law that has none.
        """
        if method == "quadrature":
            return MeanEstimate(self.mean, None, method)
        if method not in METHODS:
            raise ValueError(
                "mean_estimate: expected method to be 'quadrature' or 'monte_carlo' or 'quasi_monte_carlo'; "
                f"got {method!r}."
            )
        return estimated_mean(self, method, num_samples, generator, noise)

    def _mean_by_quadrature(self) -> Tensor:
        """The mean point [*B, K]; a law that has no quadrature leaves this as it is."""
        raise NotImplementedError(
            f"mean: no quadrature is known for {self!r}, whose coordinates are not independent before the "
            "softmax; estimate it by mean_estimate('monte_carlo')."
        )

    def _divide_by_temperature(self, x: Tensor) -> Tensor:
        """x / temperature for x [*, n]."""
        return x / column(self._temperature, x.dtype)

    def _with_masked(self, x: Tensor, value: float) -> Tensor:
        """x [*, K] with a value in place of its entries at masked categories."""
        return x if self._mask is None else x.masked_fill(self._mask, value)

    def _check_shape(self, name: str, value: Tensor) -> None:
        check_float_tensor(type(self).__name__, name, value)
        if value.dim() == 0 or value.shape[-1] != self.num_categories:
            raise ValueError(
                f"{type(self).__name__}: expected {name} with {self.num_categories} categories in the "
                f"last dimension; got shape {tuple(value.shape)}."
            )
        try:
            broadcast_shapes(value.shape[:-1], self._batch_shape)
        except RuntimeError:
            raise ValueError(
                f"{type(self).__name__}: expected {name} of a shape that broadcasts against the batch "
                f"shape {tuple(self._batch_shape)}; got {tuple(value.shape)}."
            ) from None

    def _expanded(self, batch_shape: Sequence[int], instance: Any, *names: str) -> Any:
        new = super()._expanded(batch_shape, instance, *names)
        new._kept_law = None
        return new

    def _forms(self) -> Iterator[list[str]]:
        temperature = reprs.setting("temperature", self._temperature)
        yield [*reprs.shape(self), temperature, reprs.available(self._mask)]
