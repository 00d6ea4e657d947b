"""What an estimator does: its bias beside the exact gradient, its variance, and its cost."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from igr import reprs
from igr.estimators.estimator import Estimator, Function
from igr.estimators.laws import law_of, leaves_of, with_leaves
from igr.estimators.names import by_name
from igr.estimators.score import ScoreFunction
from igr.validation import check_name, whole_number

# Joint outcomes that are enumerated; beyond, a long run stands in for the exact gradient.
MOST_OUTCOMES = 2**14
# Numbers of points in one pass.
_AT_ONCE = 2**19
# Repetitions that are timed, after two that are not.
_TIMED = 15
# A gradient of which every sample is the same differs from the exact one by rounding alone.
_ROUNDING = 64.0


@dataclass(frozen=True)
class ProbedEstimator:
    """What :func:`probe` found about one estimator.

    Attributes:
        name: Its name.
        unbiased: Whether it says that it is.
        worst_z: The largest absolute z-score of the bias over all coordinates of the gradient; below 5 for an
            unbiased one.
        relative_bias: The norm of the bias, as a share of the norm of the exact gradient. Of an unbiased
            estimator it is sampling error.
        relative_error: The standard error of that norm, as the same share: what sampling alone would give.
        variance: The variance of one estimate (from ``num_samples`` samples), summed over coordinates.
        seconds: The median time of one estimate, forward and backward, for the distribution as it was given.
        mean: The mean gradient, all P parameters in one vector of shape :math:`(P)`.
        standard_error: Of each coordinate of the mean, with the same shape.
    """

    name: str
    unbiased: bool
    worst_z: float
    relative_bias: float
    relative_error: float
    variance: float
    seconds: float
    mean: Tensor
    standard_error: Tensor


@dataclass(frozen=True)
class Probe:
    """What :func:`probe` found; printed, a table.

    Attributes:
        law: The distribution as text.
        num_samples: Samples of one estimate.
        num_gradients: Estimates of each estimator.
        reference: ``"exact enumeration"``, or which long run stands in for it.
        rows: One for each estimator.
    """

    law: str
    num_samples: int
    num_gradients: int
    reference: str
    rows: tuple[ProbedEstimator, ...]

    def __str__(self) -> str:
        width = max(9, *(len(row.name) for row in self.rows))
        lines = [
            f"Gradients for {self.law}",
            f"{self.num_gradients:,} estimates from {self.num_samples} sample"
            f"{'s' if self.num_samples > 1 else ''} each, beside {self.reference}",
            f"  {'estimator':<{width}}  {'says':<8}{'worst z':>9}{'bias':>18}{'variance':>11}"
            f"{'time (ms)':>11}",
        ]
        for row in self.rows:
            says = "unbiased" if row.unbiased else "biased"
            z = f"{row.worst_z:.1f}" if row.worst_z < 1000 else ">1000"
            bias = f"{row.relative_bias:.2%} ± {row.relative_error:.2%}"
            lines.append(
                f"  {row.name:<{width}}  {says:<8}{z:>9}{bias:>18}{row.variance:>11.3g}"
                f"{1e3 * row.seconds:>11.3g}"
            )
        lines.append(
            "  (z: bias over its standard error, the worst coordinate; bias: its norm over the gradient's)"
        )
        return "\n".join(lines)

    __repr__ = __str__


def probe(
    function: Function,
    distribution: Distribution,
    estimators: Mapping[str, Estimator] | Sequence[Estimator | str],
    num_samples: int = 1,
    num_gradients: int = 10_000,
    *,
    generator: Generator | None = None,
) -> Probe:
    r"""Measures gradient estimators against the exact gradient: bias, variance, and time.

    Every estimator makes many independent estimates of the gradient in the parameters of the distribution
    (logits; loc and scale), at their present values. Their mean is compared with the gradient of

    .. math:: \sum_d p_\theta(d) f(d)

    over all joint outcomes of the V variables, or, where there are more than :data:`MOST_OUTCOMES`, with a
    run of the score-function estimator with a leave-one-out baseline, whose own standard error is then part
    of the z-scores. (Of VIMCO the exact gradient is that of its own bound.) Estimators are measured as they
    stand, and left so: with the control variate that they have learned, and with the moving average that they
    have, which is zero for one that has seen nothing.

    Arguments:
        function: As an :class:`~igr.estimators.Estimator` takes it; it is called with points that have one
            more batch dimension, in front of the others.
        distribution: The law, with batch shape :math:`(*B, V)`.
        estimators: Estimators, with names; a list takes those of their classes. In a list, the name of one of
            :data:`~igr.estimators.ESTIMATORS` stands for it.
        num_samples: Samples of one estimate.
        num_gradients: Estimates of each, at least two.
        generator: The source of randomness; torch's default one if ``None``.

    Raises:
        TypeError: for numbers that are no int, or a distribution that no estimator takes.
        ValueError: for no estimator, a name that there is none of, or numbers that are too small.

    Example:
        >>> from igr.estimators import REBAR
        >>> law = torch.distributions.OneHotCategorical(logits=torch.zeros(2, 3))
        >>> weights = torch.tensor([0.0, 1.0, 3.0])
        >>> found = probe(
        ...     lambda d: (d @ weights).sum(-1).square(),
        ...     law,
        ...     [ScoreFunction(), REBAR(), "reinmax"],
        ...     generator=Generator().manual_seed(0),
        ... )
        >>> [row.worst_z < 5 for row in found.rows], found.rows[0].variance > found.rows[1].variance
        ([True, True, True], True)
    """
    named = _named(estimators)
    count = whole_number("probe", "num_samples", num_samples, 1)
    repetitions = whole_number("probe", "num_gradients", num_gradients, 2)
    for name, estimator in named.items():
        whole_number("probe", f"num_samples for {name}", count, estimator.least_samples)
    outcomes = _outcomes(distribution)
    rows = []
    long_run: tuple[Tensor, Tensor] | None = None
    for name, estimator in named.items():
        length = count if estimator.of_log_weights else 1
        few = outcomes is not None and len(outcomes) ** length <= MOST_OUTCOMES
        if not few and estimator.of_log_weights:
            raise ValueError(
                f"probe: expected at most {MOST_OUTCOMES} joint outcomes of all samples for {name}; got "
                "more; use fewer variables, categories or samples."
            )
        if outcomes is not None and few:
            exact = _exact(estimator, function, distribution, outcomes, length)
            reference_error = torch.zeros_like(exact)
        else:
            if long_run is None:
                best = ScoreFunction("leave_one_out")
                settings = (function, distribution, 16, 4 * repetitions)
                long_run = gradient_moments(best, *settings, generator=generator)[:2]
            exact, reference_error = long_run
        was_training = estimator.training
        estimator.eval()
        try:
            mean, error, variance = gradient_moments(
                estimator, function, distribution, count, repetitions, generator=generator
            )
            seconds = _seconds(estimator, function, distribution, count, generator)
        finally:
            estimator.train(was_training)
        bias = mean - exact
        norm = float(exact.norm())
        dtype = next(iter(leaves_of(distribution).values())).dtype
        floor = _ROUNDING * torch.finfo(dtype).eps * float(exact.abs().max() + mean.abs().max())
        together = torch.sqrt(error.square() + reference_error.square()).clamp_min(floor)
        rows.append(
            ProbedEstimator(
                name,
                estimator.unbiased,
                float((bias / together).abs().max()),
                float(bias.norm()) / norm if norm else math.inf,
                float(together.norm()) / norm if norm else math.inf,
                float(variance.sum()),
                seconds,
                mean,
                error,
            )
        )
    reference = "exact enumeration" if long_run is None else "a long run of the score-function estimator"
    return Probe(_described(distribution), count, repetitions, reference, tuple(rows))


def _named(estimators: Mapping[str, Estimator] | Sequence[Estimator | str]) -> dict[str, Estimator]:
    if isinstance(estimators, str):
        estimators = [estimators]
    if not isinstance(estimators, Mapping):
        names = [one if isinstance(one, str) else type(one).__name__ for one in estimators]
        made = [by_name(one) if isinstance(one, str) else one for one in estimators]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(
                f"probe: expected a name for each of several estimators of one class; got {len(names)} with "
                f"{sorted(twice)[0]} more than once; give a dict."
            )
        estimators = dict(zip(names, made, strict=True))
    if not estimators:
        raise ValueError("probe: expected at least one estimator; got none.")
    return dict(estimators)


def _described(distribution: Distribution) -> str:
    text = repr(distribution)
    if "\n" not in text and len(text) < 120:
        return text
    return f"{type(distribution).__name__}(batch_shape={tuple(distribution.batch_shape)})"


def _outcomes(distribution: Distribution) -> Tensor | None:
    """All joint outcomes as vertices [O, V, K], or None where there are too many."""
    law = law_of("probe", distribution).relaxation
    num_variables, num_categories = law.batch_shape[-1], law.num_categories
    if num_variables * math.log(num_categories) > math.log(MOST_OUTCOMES) + 1e-9:
        return None
    index = torch.tensor(list(itertools.product(range(num_categories), repeat=num_variables)))
    return torch.nn.functional.one_hot(index, num_categories).to(law.device, law.dtype)


def _exact(
    estimator: Estimator, function: Function, distribution: Distribution, outcomes: Tensor, length: int
) -> Tensor:
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves_of(distribution).items()}
    with torch.enable_grad():
        law = law_of("probe", with_leaves("probe", distribution, leaves))
        batch = law.relaxation.batch_shape[:-1]
        inner = outcomes.shape[1:]
        points = outcomes.reshape(len(outcomes), *([1] * len(batch)), *inner)
        points = points.expand(len(outcomes), *batch, *inner)
        log_prob = torch.where(points > 0, law.log_probs(), 0.0).sum((-2, -1)).double()
        values = function(law.points(points)).detach().double()
        each = torch.cartesian_prod(*[torch.arange(len(outcomes), device=points.device)] * length)
        each = each.reshape(-1, length)
        objective = estimator.objective(values[each.mT])
        weight = torch.exp(log_prob[each.mT].sum(0))
        found = torch.autograd.grad((weight * objective).sum(), list(leaves.values()))
    return torch.cat([gradient.flatten().double() for gradient in found])


class GradientMoments(NamedTuple):
    """Moments of the estimates of a gradient, all P parameters in one vector of shape :math:`(P)`.

    Arguments:
        mean: Their mean.
        standard_error: Of each coordinate of the mean.
        variance: Of each coordinate of one estimate.
    """

    mean: Tensor
    standard_error: Tensor
    variance: Tensor

    def __repr__(self) -> str:
        return reprs.of_fields(self)


def gradient_moments(
    estimator: Estimator,
    function: Function,
    distribution: Distribution,
    num_samples: int = 1,
    num_gradients: int = 10_000,
    *,
    parameters: Sequence[str] | None = None,
    generator: Generator | None = None,
) -> GradientMoments:
    """Mean and variance of independent estimates of a gradient, at the present parameters.

    Arguments:
        estimator: The estimator, which is left as it is.
        function: As for :func:`probe`.
        distribution: The law, with batch shape :math:`(*B, V)`.
        num_samples: Samples of one estimate.
        num_gradients: Estimates, at least two.
        parameters: The names of the parameters of the distribution that count; ``None`` for all of them.
        generator: The source of randomness; torch's default one if ``None``.

    Raises:
        ValueError: The distribution has no parameter of a name.
    """
    repetitions = num_gradients
    leaves = leaves_of(distribution)
    wanted = list(leaves) if parameters is None else list(parameters)
    for name in wanted:
        check_name("gradient_moments", "each of parameters", name, leaves)
    law = law_of("probe", distribution).relaxation
    per_gradient = estimator.draws_per_sample * num_samples * law.batch_shape.numel() * law.num_categories
    at_once = max(1, min(repetitions, _AT_ONCE // per_gradient))
    done = 0
    sums: list[Tensor] = []
    while done < repetitions:
        size = min(at_once, repetitions - done)
        many = {
            name: leaf.expand(size, *leaf.shape).clone().requires_grad_() for name, leaf in leaves.items()
        }
        with torch.enable_grad():
            found = estimator(
                function, with_leaves("probe", distribution, many), num_samples, generator=generator
            )
            gradients = torch.autograd.grad(found.loss.sum(), [many[name] for name in wanted])
        rows = torch.cat([gradient.flatten(1).double() for gradient in gradients], dim=1)
        if not sums:
            # Taken about the first mean, so that the squares do not lose what they differ in.
            centre = rows.mean(0)
            sums = [torch.zeros_like(centre), torch.zeros_like(centre)]
        rows = rows - centre
        sums = [sums[0] + rows.sum(0), sums[1] + rows.square().sum(0)]
        done += size
    mean, square = (total / done for total in sums)
    variance = ((square - mean.square()) * (done / (done - 1))).clamp_min(0.0)
    return GradientMoments(centre + mean, torch.sqrt(variance / done), variance)


def _seconds(
    estimator: Estimator,
    function: Function,
    distribution: Distribution,
    num_samples: int,
    generator: Generator | None,
) -> float:
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves_of(distribution).items()}
    device = next(iter(leaves.values())).device
    times = []
    for _ in range(_TIMED + 2):
        start = time.perf_counter()
        with torch.enable_grad():
            law = with_leaves("probe", distribution, leaves)
            loss = estimator(function, law, num_samples, generator=generator).loss.sum()
            torch.autograd.grad(loss, list(leaves.values()))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])
