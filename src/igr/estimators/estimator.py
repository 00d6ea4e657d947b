"""What every gradient estimator is: one signature, one kind of result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from igr import reprs
from igr.distributions import SimplexRelaxation
from igr.estimators.laws import Law, law_of
from igr.kernels.tracing import is_traced
from igr.validation import compute_dtype, whole_number

Function = Callable[[Tensor], Tensor]


class Surrogate(NamedTuple):
    r"""An estimate of an expectation, and a loss whose gradient is the estimate of its gradient.

    Arguments:
        value: The estimate of the expectation, with shape :math:`(*B)`, without gradient.
        loss: The same numbers, with shape :math:`(*B)`; its gradient is the estimate, for the parameters of
            the distribution and for whatever else the function depends on. It is differentiable once.
        control_loss: What the estimator's own parameters are trained on, with shape :math:`()`: the mean
            square of the gradient from one sample, summed over parameters and averaged over samples and
            batch, which differs from its variance by a constant. Its gradient reaches those parameters alone.
            ``None`` where there are none, or no gradient is asked for.
    """

    value: Tensor
    loss: Tensor
    control_loss: Tensor | None = None

    def __repr__(self) -> str:
        return reprs.of_fields(self)


class Estimator(nn.Module, ABC):
    r"""An estimate of :math:`\nabla_\theta E_{d \sim p_\theta} f(d)` for discrete variables d.

    A module, since baselines and control variates have a state. It is called with

    Arguments:
        function: :math:`f`, which maps points :math:`(S, *B, V, K)` (vertices of the simplex, or points
            inside it where the estimator says so) to numbers :math:`(S, *B)`. It may depend on parameters of
            its own, which have their gradient from ``loss`` too.
        distribution: The law of V independent variables of K categories for each of a batch, with batch shape
            :math:`(*B, V)`: a :class:`~igr.SimplexRelaxation`, or of torch a ``OneHotCategorical``, a
            ``RelaxedOneHotCategorical``, a ``Bernoulli`` or a ``RelaxedBernoulli``. Of the latter two, points
            are numbers from 0 to 1, with shape :math:`(S, *B, V)`.
        num_samples: The number S of samples.
        noise: The noise, as :meth:`draw_noise` gives it; with it the estimate is a function of tensors and
            works under ``torch.func.vmap`` and ``torch.compile``.
        generator: The source of randomness where no noise is given.

    and returns a :class:`Surrogate`.

    Raises:
        TypeError: for a distribution that is none of those, or a number of samples that is no int.
        ValueError: for fewer samples than the estimator needs, noise or values of the function of another
            shape, values without a gradient where the estimator passes one on, or a distribution without a
            dimension for variables.
        NotImplementedError: where the estimator does not exist for the law; the message says why.

    Example:
        >>> from igr.estimators import ScoreFunction
        >>> _ = torch.manual_seed(0)
        >>> law = torch.distributions.Bernoulli(logits=torch.zeros(1, requires_grad=True))
        >>> found = ScoreFunction()(lambda b: (b.sum(-1) - 0.45) ** 2, law, num_samples=2)
        >>> found.loss.backward()
    """

    # Whether its expectation is the gradient itself.
    unbiased: ClassVar[bool]
    # Whether the function is a log-weight, and the estimate the bound of all samples together.
    of_log_weights: ClassVar[bool] = False
    least_samples: ClassVar[int] = 1
    # Whether the temperature of the law has a part in it, beside that in the discrete law.
    uses_temperature: ClassVar[bool] = False
    # What has to be known of the noise given the category: "coupled" for the gradient of a draw of it that
    # equals the free one, "drawn" for draws of their own, nothing for None.
    conditional_noise: ClassVar[str | None] = None
    only_binary: ClassVar[bool] = False
    # Independent draws of the noise that one sample takes; with more than one they are a leading dimension.
    draws_per_sample: int = 1

    def forward(
        self,
        function: Function,
        distribution: Distribution,
        num_samples: int = 1,
        noise: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Surrogate:
        """The estimate, and a loss to take its gradient from; the class has more on the arguments.

        Arguments:
            function: Maps points :math:`(S, *B, V, K)` to numbers :math:`(S, *B)`.
            distribution: The law, with batch shape :math:`(*B, V)`.
            num_samples: The number S of samples.
            noise: The noise, with the shape that :meth:`draw_noise` gives it.
            generator: The source of randomness where no noise is given; torch's default one if ``None``.

        Raises:
            TypeError: for a distribution that no estimator takes, or a number of samples that is no int.
            ValueError: for fewer samples than the estimator needs, noise or values of the function of another
                shape, values without a gradient where the estimator passes one on, or a distribution without
                a dimension for variables.
            NotImplementedError: where the estimator does not exist for the law; the message says why.
        """
        owner = type(self).__name__
        law = law_of(owner, distribution)
        count = self._checked_count(num_samples)
        if noise is None:
            noise = self._drawn(law.relaxation, count, generator)
        expected = self._noise_shape(law.relaxation, count)
        if noise.shape != expected:
            raise ValueError(
                f"{owner}: expected noise of shape {tuple(expected)}, as draw_noise returns it for "
                f"{count} samples; got {tuple(noise.shape)}."
            )
        noise = noise.to(compute_dtype(law.relaxation.dtype))

        batch = law.relaxation.batch_shape[:-1]

        def checked(points: Tensor) -> Tensor:
            values = function(law.points(points))
            if values.shape != (points.shape[0], *batch):
                raise ValueError(
                    f"{owner}: expected the function to map points of shape "
                    f"{tuple(law.points(points).shape)} to numbers of shape "
                    f"{(points.shape[0], *batch)}, one for each sample and datum; got "
                    f"{tuple(values.shape)}."
                )
            # Counts and truth values are numbers too.
            return values if values.is_floating_point() else values.to(law.relaxation.dtype)

        found = self._estimate(checked, law, noise)
        if not found.loss.requires_grad and self._asks_gradient(law.relaxation):
            raise ValueError(
                f"{owner}: expected a function with a gradient, which is what this estimator passes on; got "
                "values that have none; use ScoreFunction or RELAX(coefficient=None), which need none."
            )
        return found

    def draw_noise(
        self, distribution: Distribution, num_samples: int = 1, generator: Generator | None = None
    ) -> Tensor:
        """The noise of S samples: the only random step.

        Arguments:
            distribution: The law, with batch shape :math:`(*B, V)`.
            num_samples: The number S of samples.
            generator: The source of randomness; torch's default one if ``None``.

        Shapes:
            Result :math:`(S, *B, V, n)`, n being K or K - 1, with a leading dimension where the estimator
            needs several draws for each sample.

        Raises:
            TypeError: for a distribution that no estimator takes, or a number of samples that is no int.
            ValueError: for fewer samples than the estimator needs, or a distribution without a dimension for
                variables.
        """
        law = law_of(type(self).__name__, distribution)
        return self._drawn(law.relaxation, self._checked_count(num_samples), generator)

    def objective(self, values: Tensor) -> Tensor:
        """What the estimate is of, given the values of one draw of all samples: their mean.

        Shapes:
            Values :math:`(S, *B)`, result :math:`(*B)`.
        """
        return values.mean(0)

    def learned(self) -> dict[str, float]:
        """Single numbers that it learns, by name, for records; empty where there are none."""
        return {}

    @abstractmethod
    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        """The estimate, from checked arguments."""

    @staticmethod
    def _asks_gradient(relaxation: SimplexRelaxation) -> bool:
        """Whether a gradient in the parameters will be asked for, as far as one can tell."""
        if is_traced() or not torch.is_grad_enabled():
            return False
        return any(getattr(relaxation, name).requires_grad for name in relaxation.arg_constraints)

    def _checked_count(self, num_samples: int) -> int:
        return whole_number(type(self).__name__, "num_samples", num_samples, self.least_samples)

    def _draw_shape(self, count: int) -> tuple[int, ...]:
        return (count,) if self.draws_per_sample == 1 else (self.draws_per_sample, count)

    def _noise_shape(self, relaxation: SimplexRelaxation, count: int) -> torch.Size:
        shape = self._draw_shape(count) + relaxation.batch_shape + relaxation.noise_shape
        return torch.Size(shape)

    def _drawn(self, relaxation: SimplexRelaxation, count: int, generator: Generator | None) -> Tensor:
        return relaxation.draw_noise(self._draw_shape(count), generator=generator)


def mean_surrogate(values: Tensor) -> Surrogate:
    """The mean over samples [S, *B] as value and as loss."""
    loss = values.mean(0)
    return Surrogate(loss.detach(), loss)
