"""The temperature at which a share of the samples lies within a distance of a vertex."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

import torch
from torch import Generator, Tensor

from igr.diagnostics import noise_in_parts, vertex_distance
from igr.distributions.relaxation import SimplexRelaxation
from igr.kernels.tracing import is_traced
from igr.validation import compute_dtype, real_number, whole_number

__all__ = ["FixedSamples", "calibrate_temperature", "temperature_within"]

OWNER = "calibrate_temperature"
# The relative tolerance of the temperature.
TOLERANCE = 1e-5
# Numbers in one part of the samples: an array of float32 stays within the caches of current CPUs.
_AT_ONCE = 2**18
# No lower temperature is tried. A power of two, so that a division by it rounds nothing, and numbers of
# float32 up to 1e11 stay finite.
_COLDEST = 2.0**-90
# At so many times the widest spread of scores the samples are at their limit but for the rounding of float32.
_HOTTEST = 2.0**20
# The step in temperature that a crossing is looked for in, where distances do not rise with the temperature.
_STEP = 2.0**0.25


def calibrate_temperature(
    distribution: SimplexRelaxation,
    distance: float = 0.2,
    quantile: float = 0.75,
    *,
    num_samples: int = 10_000,
    generator: Generator | None = None,
) -> float:
    r"""The highest temperature at which a share of the samples lies within a distance of a vertex.

    .. math::
        \max \{\tau : \tfrac1N \textstyle\sum_i [\min_k |z_i(\tau) - e_k| \le d] \ge q \text{ at } \tau
        \text{ and below}\}

    with d the ``distance``, q the ``quantile``, and :math:`z_i(\tau)` the samples as functions of the
    temperature, their noise being fixed. The samples of all laws of a batch count together. The defaults
    are the choice of the paper, in whose figures relaxations are compared at temperatures that leave them
    equally close to discrete.

    The distance of each sample rises with the temperature, from 0 to that of the centre of its available
    categories, wherever z is the softmax of scores that are divided by the temperature: for Gumbel-Softmax,
    and for the Invertible Gaussian with :math:`\delta = 1`, whatever its transform. With another
    :math:`\delta` samples tend to :math:`(1, \dots, 1, \delta) / (K - 1 + \delta)` at high temperature,
    which may be closer to a vertex than the target, so that the share can fall below q and rise again. The
    temperature returned is the lower end of the first such gap, looked for in steps of :math:`2^{1/4}`.

    At the temperature returned the share is q or more, and the temperature is exact for the samples drawn to
    1 part in 100,000. Its sampling error goes like :math:`1 / \sqrt N`; for 10,000 samples of ten equal
    categories it is 2 %. The temperature that the law comes with has no part in it.

    The samples are drawn in parts, anew for every temperature tried (some ten of them), and memory grows with
    the number of samples times that of laws, but not with that times K. No gradient is kept; half precision
    is computed in float32. For eager code only.

    Arguments:
        distribution: The law, with any batch shape.
        distance: Euclidean, from 0 at a vertex to :math:`\sqrt{1 - 1/K}` at the centre; positive.
        quantile: The share of the samples that lies within the distance, above 0 and at most 1.
        num_samples: Samples of each law of the batch.
        generator: The source of randomness; torch's default one if ``None``. One number is drawn from it.

    Raises:
        TypeError: unless distribution is a SimplexRelaxation, num_samples an int and all else numbers.
        ValueError: for an empty batch, no sample, a distance or quantile out of range, samples that are NaN,
            or a distance within which the share lies at every temperature or at none; the message has the
            nearest that can be reached, and its temperature.
        NotImplementedError: under a tracer.

    References:
        | Invertible Gaussian Reparameterization (Potapczynski et al., 2020), the figures of posterior samples

    Example:
        >>> from igr.distributions import GumbelSoftmax
        >>> law = GumbelSoftmax(1.0, logits=torch.zeros(10))
        >>> temperature = calibrate_temperature(law, generator=Generator().manual_seed(2))
        >>> round(temperature, 3)
        0.169
        >>> log_z = law.with_temperature(temperature).rsample_log((10_000,), Generator().manual_seed(3))
        >>> (vertex_distance(log_z) <= 0.2).float().mean()
        tensor(0.7391)
    """
    if is_traced():
        raise NotImplementedError(
            f"{OWNER}: it searches until it has converged, which no tracer can follow; call it before "
            "torch.compile, torch.export or torch.func, and pass the temperature in."
        )
    if not isinstance(distribution, SimplexRelaxation):
        raise TypeError(
            f"{OWNER}: expected distribution to be a SimplexRelaxation; got {type(distribution).__name__}; "
            "build igr.GumbelSoftmax or igr.InvertibleGaussian from its parameters, or take as_simplex() "
            "of a binary law."
        )
    if distribution.batch_shape.numel() == 0:
        raise ValueError(
            f"{OWNER}: expected at least one law in the batch; got batch shape "
            f"{tuple(distribution.batch_shape)}; give the parameters a batch that is not empty."
        )
    total = whole_number(OWNER, "num_samples", num_samples, minimum=1)
    check_target(distance, quantile)
    source = torch.device("cpu") if generator is None else generator.device
    # A seed rather than the generator, so that every temperature can draw the same numbers anew.
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=source))
    return temperature_within(FixedSamples([distribution], total, [seed]), distance, quantile)


def check_target(distance: float, quantile: float) -> None:
    """Raises TypeError or ValueError unless they are a distance and a share of samples.

    Arguments:
        distance: Has to be positive and finite.
        quantile: Has to be above 0 and at most 1.
    """
    if not 0.0 < real_number(OWNER, "distance", distance) < math.inf:
        raise ValueError(
            f"{OWNER}: expected distance to be positive and finite; got {float(distance)!r}; give one "
            "between 0, at a vertex, and sqrt(1 - 1/K), at the centre."
        )
    if not 0.0 < real_number(OWNER, "quantile", quantile) <= 1.0:
        raise ValueError(
            f"{OWNER}: expected quantile above 0 and at most 1; got {float(quantile)!r}; give the share of "
            "the samples that is to lie within the distance."
        )


class FixedSamples:
    """Samples of several laws as functions of the temperature: their noise is the same at each.

    The noise is drawn anew at every temperature, so none of it is kept.

    Arguments:
        laws: The laws, each with any batch shape but an empty one; their own temperatures do not matter.
        num_samples: The number N of samples of each law of each batch.
        seeds: For each entry of ``laws`` the seed of its noise.
    """

    def __init__(self, laws: Sequence[SimplexRelaxation], num_samples: int, seeds: Sequence[int]) -> None:
        self.laws = tuple(laws)
        self.num_samples = num_samples
        self.seeds = tuple(seeds)

    @torch.no_grad()
    def vertex_distances(self, temperature: float) -> list[Tensor]:
        """For each entry of ``laws`` the distances of its samples to a vertex, with shape :math:`(N, *B)`."""
        return self._of_each(temperature, vertex_distance)

    def quantile(self, temperature: float, quantile: float) -> float:
        """The smallest distance within which a share of all samples lies.

        Arguments:
            temperature: The temperature of all laws.
            quantile: The share, above 0 and at most 1.
        """
        return self.quantiles(temperature, (quantile,))[0]

    def quantiles(self, temperature: float, quantiles: Sequence[float]) -> list[float]:
        """For each share the smallest distance within which it lies of all samples.

        Arguments:
            temperature: The temperature of all laws.
            quantiles: The shares, each above 0 and at most 1.
        """
        values = _pooled(self.vertex_distances(temperature))
        return [_ordered(values, _rank(len(values), quantile)) for quantile in quantiles]

    @torch.no_grad()
    def gaps(self) -> tuple[Tensor, float]:
        """How far the largest score of each sample leads the second, :math:`(M)`, and the last, at most.

        Scores are what the temperature divides. They are read from log z at a very low temperature. A lead
        over masked categories is infinite, and does not count among the latter.

        Raises:
            ValueError: for samples that are NaN.
        """
        lead = _pooled(self._of_each(_COLDEST, _lead)) * _COLDEST
        spread = _pooled(self._of_each(_COLDEST, _spread)) * _COLDEST
        if bool(lead.isnan().any()):
            raise ValueError(
                f"{OWNER}: expected samples that are numbers at temperatures down to {_COLDEST:.1e}; got NaN "
                f"in {int(lead.isnan().sum())} of {len(lead)}; check the parameters of the law, which may be "
                "too large."
            )
        return lead, float(spread.max())

    @property
    def largest_log_delta(self) -> float:
        r"""The largest :math:`|\log \delta|` of the laws; 0 for those that have no :math:`\delta`."""
        deltas = (torch.as_tensor(getattr(law, "delta", 1.0)).double() for law in self.laws)
        return max(float(delta.log().abs().max()) for delta in deltas)

    @property
    def num_categories(self) -> int:
        """The largest number of categories of the laws."""
        return max(law.num_categories for law in self.laws)

    @property
    def smallest_distance(self) -> float:
        """The smallest distance that is no rounded zero, in the precision of the samples."""
        return max(torch.finfo(compute_dtype(law.dtype)).tiny for law in self.laws)

    def _of_each(self, temperature: float, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """A function of log z [n, *B, K], with values [n, *B], for all samples."""
        found = []
        for law, seed in zip(self.laws, self.seeds, strict=True):
            shape = (self.num_samples, *law.batch_shape)
            values = torch.empty(shape, dtype=compute_dtype(law.dtype), device=law.device)
            law = law.with_temperature(temperature)
            for part, noise, _ in noise_in_parts(law, self.num_samples, seed, _AT_ONCE):
                # Not rsample_log, which would round to half precision.
                values[part] = function(law._log_sample(noise))
            found.append(values)
        return found


def _lead(log_z: Tensor) -> Tensor:
    first, second = log_z.topk(2, dim=-1).values.unbind(-1)
    return first - second


def _spread(log_z: Tensor) -> Tensor:
    first = log_z.amax(-1)
    return first - torch.where(log_z == -torch.inf, first.unsqueeze(-1), log_z).amin(-1)


def _pooled(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([of_law.flatten() for of_law in values])


def _rank(number: int, quantile: float) -> int:
    """The smallest k with k / number >= quantile."""
    k = max(1, math.ceil(quantile * number))
    # 0.1 * 30 is above 3.
    return k - 1 if k > 1 and (k - 1) / number >= quantile else k


def _ordered(values: Tensor, rank: int) -> float:
    """The smallest number but rank - 1."""
    return float(values.kthvalue(rank).values)


def temperature_within(
    samples: FixedSamples,
    distance: float,
    quantile: float,
    *,
    progress: Callable[[int], object] | None = None,
) -> float:
    """The temperature of :func:`calibrate_temperature` for samples of any number of laws.

    Arguments:
        samples: The samples.
        distance: The distance, as :func:`check_target` wants it.
        quantile: The share of all samples.
        progress: Called with the number of passes over the samples that are done.

    Raises:
        ValueError: as :func:`calibrate_temperature`.
    """
    search = _Search(samples, quantile, progress)
    found, nearest = search.temperature(distance)
    if found is not None:
        return found
    temperature, _ = search.temperature(nearest)
    if temperature is None:
        raise ValueError(
            f"{OWNER}: expected samples whose distance to the vertices rises with the temperature; got a "
            f"share of {quantile:g} within {nearest:.4g} at every temperature; choose a larger quantile, or "
            "laws with more than one category and without ties."
        )
    where = "every one" if nearest < distance else "none"
    raise ValueError(
        f"{OWNER}: expected a distance within which a share of {quantile:g} of the samples lies at some "
        f"temperatures and not at others; got {distance:g}, within which it lies at {where} of them; choose "
        f"another, the nearest that can be reached being {nearest:.4g}, at temperature {temperature:.4g}."
    )


class _Search:
    r"""Where the quantile of the distances first exceeds a distance.

    With g the lead of the largest score over the second, and softmax++ with :math:`\delta`,

    .. math::
        \frac{r}{1 + r} \le 1 - z_m \le \min_k |z - e_k| \le \sqrt2 (1 - z_m) \le \sqrt2 (K - 1) R,
        \quad r = \delta^{\mp 1} e^{-g / \tau}, \quad R = \delta^{\pm 1} e^{-g / \tau}

    so that the lead that a share of the samples has bounds the temperature from both sides.
    """

    def __init__(
        self, samples: FixedSamples, quantile: float, progress: Callable[[int], object] | None
    ) -> None:
        self._samples = samples
        self._quantile = quantile
        self._progress = progress
        self._passes = 0
        lead, spread = samples.gaps()
        # The lead that a share of the samples has or exceeds.
        self._lead = -_ordered(-lead, _rank(len(lead), quantile))
        self._hottest = min(max(spread, _COLDEST) * _HOTTEST, 1.0 / _COLDEST)
        self._shift = samples.largest_log_delta
        self._count()

    def temperature(self, distance: float) -> tuple[float | None, float]:
        """The temperature for a distance, or ``None``; and that distance, or the nearest that has one."""
        if self._lead == math.inf:
            return None, 0.0
        least = self._samples.smallest_distance
        if distance < least:
            return None, _rounded(least, ROUND_CEILING)
        low = self._below(distance)
        value = self._distance(low)
        while not value <= distance:
            if low <= _COLDEST:
                return None, _rounded(value, ROUND_CEILING)
            low = max(0.5 * low, _COLDEST)
            value = self._distance(low)
        farthest = value
        for high in self._upward(low, distance):
            value_above = self._distance(high)
            if value_above > distance:
                return self._crossing(distance, (low, value), (high, value_above)), distance
            farthest = max(farthest, value_above)
            low, value = high, value_above
        # A little less, so that it is exceeded where the number is a round one.
        return None, _rounded((1.0 - 1e-6) * farthest, ROUND_FLOOR)

    def _below(self, distance: float) -> float:
        """A temperature at and below which the quantile is no more than the distance."""
        num_others = self._samples.num_categories - 1
        exponent = math.log(math.sqrt(2.0) * num_others / min(distance, 1.0))
        low = self._lead / (exponent + self._shift)
        if self._shift > 0.0 < low:
            # The steps upward have the same places for every distance, so that all find the same farthest.
            low = _STEP ** math.floor(math.log(low, _STEP))
        return max(low, _COLDEST)

    def _upward(self, low: float, distance: float) -> Iterator[float]:
        """Temperatures above a low one, to the hottest."""
        ratio, high = _STEP, low
        if self._shift == 0.0:
            ratio = 2.0
            bound = self._lead / math.log((1.0 - distance) / distance) if distance < 0.5 else 0.0
            if low < bound < self._hottest:
                # A little beyond, for the rounding of the distances.
                high = 1.001 * bound
                yield high
        while high < self._hottest:
            high = min(high * ratio, self._hottest)
            yield high
            if self._shift == 0.0:
                ratio *= ratio

    def _crossing(self, distance: float, low: tuple[float, float], high: tuple[float, float]) -> float:
        """The temperature between two at which the quantile is the distance, from below.

        Secants in log temperature (Illinois), and a half wherever two in turn do not halve the bracket.
        """
        found = low[0]
        (a, b), (at_a, at_b) = map(math.log, (low[0], high[0])), (low[1] - distance, high[1] - distance)
        kept = 0
        poor = 0
        while b - a > TOLERANCE:
            width = b - a
            x = 0.5 * (a + b) if poor > 1 else a - at_a * width / (at_b - at_a)
            # A little off both ends, so that the bracket closes on either side.
            x = min(max(x, a + 0.25 * TOLERANCE), b - 0.25 * TOLERANCE)
            value = self._distance(math.exp(x)) - distance
            if value <= 0.0:
                a, at_a, found = x, value, math.exp(x)
                at_b *= 0.5 if kept == 1 else 1.0
                kept = 1
            else:
                b, at_b = x, value
                at_a *= 0.5 if kept == -1 else 1.0
                kept = -1
            poor = poor + 1 if b - a > 0.5 * width else 0
        return found

    def _distance(self, temperature: float) -> float:
        found = self._samples.quantile(temperature, self._quantile)
        self._count()
        return found

    def _count(self) -> None:
        self._passes += 1
        if self._progress is not None:
            self._progress(self._passes)


def _rounded(value: float, direction: str) -> float:
    """Four significant digits of it, as an error shows them."""
    return float(Context(prec=4, rounding=direction).create_decimal_from_float(value))
