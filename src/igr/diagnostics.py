"""What a relaxation does to training: how discrete its points are, and how much gradient passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Generator, Tensor

from igr.distributions.parameters import parameters_of, with_parameters
from igr.distributions.relaxation import SimplexRelaxation
from igr.validation import check_float_tensor, compute_dtype, whole_number

__all__ = ["Diagnosis", "diagnose", "vertex_distance"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Numbers in one part of the samples; the arrays of a backward pass are about ten times as large.
_AT_ONCE = 2**20
# The default temperatures are the law's own times 2^-6, ..., 2^6.
_OCTAVES = 6
_ROWS = 13


def vertex_distance(log_z: Tensor) -> Tensor:
    r"""Euclidean distance of points of the simplex to their nearest vertex.

    .. math::
        \min_k |z - e_k| = \sqrt{(1 - z_m)^2 + \textstyle\sum_{k \ne m} z_k^2}, \quad m = \arg\max_k z_k

    It is 0 at a vertex and :math:`\sqrt{1 - 1/K}`, its largest value, at the centre. :math:`1 - z_m` is
    computed as the sum of the other weights, so that distances are right far below the rounding of 1.

    Arguments:
        log_z: Logarithms of the points, as :meth:`~igr.SimplexRelaxation.rsample_log` gives them.

    Shapes:
        log_z :math:`(*, K)`, result :math:`(*)`.

    Raises:
        TypeError: unless log_z is a floating-point tensor.

    Example:
        >>> vertex_distance(torch.tensor([0.5, 0.25, 0.25]).log())
        tensor(0.6124)
    """
    check_float_tensor("vertex_distance", "log_z", log_z)
    return _distance(*_others(log_z.to(compute_dtype(log_z.dtype)))).to(log_z.dtype)


def _others(log_z: Tensor) -> tuple[Tensor, Tensor]:
    """All weights but the largest, which is set to zero, and their sum."""
    z = torch.exp(log_z)
    others = z.scatter(-1, log_z.argmax(-1, keepdim=True), 0.0)
    return others, others.sum(-1)


def _distance(others: Tensor, total: Tensor) -> Tensor:
    # float64, since squares of small float32 numbers underflow.
    return torch.hypot(total, _norm(others).to(total.dtype))


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    r"""What :func:`diagnose` found; printed, a table of medians over the batch.

    Tensors are on the device of the law, in its dtype (float32 for half precision), and carry no gradient. B
    is the batch shape, Q the number of quantiles, T that of temperatures.

    Attributes:
        law: The law as text.
        num_categories: K.
        num_samples: How many samples the figures are from.
        quantiles: The levels of the quantiles, Q numbers.
        vertex_distance: Quantiles of the Euclidean distance of samples to their nearest vertex,
            :math:`(Q, *B)`; from 0 at a vertex to :math:`\sqrt{1 - 1/K}` at the centre.
        saturated_share: Share of samples whose slope :math:`\max_k z_k (1 - z_k)` is below
            ``saturation_threshold``, :math:`(*B)`.
        saturation_threshold: That threshold.
        effective_categories: :math:`e^H`, H being the entropy of the discrete law in nats, :math:`(*B)`; from
            1 for a certain category to K for the uniform law.
        effective_categories_method: ``"exact"`` or ``"monte_carlo"``, how the discrete law was computed.
        temperatures: The T temperatures of the gradients.
        gradient_norm_mean: For each parameter by name, the mean over samples of the norm of its gradient at
            each temperature, :math:`(T, *B)`.
        gradient_norm_median: The median of the same norms, :math:`(T, *B)`.
        own_temperature: The temperature of the law; ``None`` where the batch has several.
    """

    law: str
    num_categories: int
    num_samples: int
    quantiles: tuple[float, ...]
    vertex_distance: Tensor
    saturated_share: Tensor
    saturation_threshold: float
    effective_categories: Tensor
    effective_categories_method: str
    temperatures: tuple[float, ...]
    gradient_norm_mean: dict[str, Tensor]
    gradient_norm_median: dict[str, Tensor]
    own_temperature: float | None

    def __str__(self) -> str:
        return "\n".join([*self._heading(), *self._figures(), *self._gradients()])

    __repr__ = __str__

    def _heading(self) -> list[str]:
        num_laws = self.saturated_share.numel()
        samples = f"{self.num_samples:,} sample{'s' if self.num_samples > 1 else ''}"
        if num_laws > 1:
            samples += f" of each of {num_laws:,} laws; every figure is the median over the laws"
        return [f"Diagnosis of {self.law}", samples]

    def _figures(self) -> list[str]:
        centre = math.sqrt(1.0 - 1.0 / self.num_categories)
        how = {"exact": "exact", "monte_carlo": "estimated from samples"}[self.effective_categories_method]
        share = self.saturated_share
        by_law = f", {float(share.min()):.1%} to {float(share.max()):.1%} by law" if share.numel() > 1 else ""
        return [
            f"Euclidean distance to the nearest vertex (0 at a vertex, {centre:.3g} at the centre)",
            _row("quantile", [f"{level:g}" for level in self.quantiles]),
            _row("distance", [f"{_median(distance):.3g}" for distance in self.vertex_distance]),
            f"saturated samples: {_median(share):.1%}{by_law} (max z (1 - z) below "
            f"{self.saturation_threshold:g})",
            f"effective categories: {_median(self.effective_categories):.3g} of {self.num_categories} "
            f"(exp of the entropy of the discrete law, {how})",
        ]

    def _gradients(self) -> list[str]:
        names = list(self.gradient_norm_mean)
        columns = [f"{name} {kind}" for name in names for kind in ("mean", "median")]
        shown = _spread(len(self.temperatures), _ROWS)
        lines = [
            "norm of the gradient that reaches the parameters, for a unit gradient at z",
            "(a mean far above the median: few samples carry the gradient)",
            _row("temperature", columns),
        ]
        for i in shown:
            cells = [
                f"{_median(statistic[name][i]):.3g}"
                for name in names
                for statistic in (self.gradient_norm_mean, self.gradient_norm_median)
            ]
            own = "  own" if self.temperatures[i] == self.own_temperature else ""
            lines.append(_row(f"{self.temperatures[i]:.3g}", cells) + own)
        if len(shown) < len(self.temperatures):
            lines.append(f"  ({len(shown)} of {len(self.temperatures)} temperatures shown)")
        return lines


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<11}" + "".join(f"{cell:>15}" for cell in cells)


def _spread(number: int, most: int) -> list[int]:
    """At most so many indices, evenly spread from the first to the last."""
    if number <= most:
        return list(range(number))
    return [round(i * (number - 1) / (most - 1)) for i in range(most)]


def _median(values: Tensor) -> float:
    return float(_quantiles(values.flatten(), (0.5,)))


def diagnose(
    distribution: SimplexRelaxation,
    num_samples: int = 1000,
    *,
    temperatures: Iterable[float] | Tensor | None = None,
    quantiles: Iterable[float] = QUANTILES,
    saturation_threshold: float = 1e-6,
    generator: Generator | None = None,
) -> Diagnosis:
    r"""Whether a relaxation is close to discrete, and whether gradients still pass through it.

    **Distance.** Quantiles of the Euclidean distance of samples to their nearest vertex: how far the points
    that a network sees in training are from the one-hot vectors that it will see with the discrete law.

    **Saturation.** The Jacobian of the softmax, :math:`\mathrm{diag}(z) - z z^T`, has a spectral norm between
    :math:`s` and :math:`2 s` with the slope :math:`s = \max_k z_k (1 - z_k)`. A sample is saturated where
    :math:`s` is below a threshold. The default, 1e-6, is the same for every dtype, so that laws can be
    compared, and lies above the rounding of float32 (1.2e-7), below which gradients are noise. The gradient
    with respect to the scores is the Jacobian divided by the temperature.

    **Effective categories.** :math:`\exp(H)`, H being the entropy of the discrete law. Where no exact law is
    known, H is that of the shares among samples, with the correction of Miller and Madow; it stays too low
    unless there are several samples for each category.

    **Gradients.** For each temperature and sample, the norm of :math:`(\partial z / \partial\theta)^T w`
    with :math:`w` a random direction of unit length within the simplex (of the categories that are not
    masked): what reaches the parameters :math:`\theta` (loc, scale, logits; each with one entry per
    coordinate) of a loss whose own gradient at z has length 1. Its mean square is
    :math:`|\partial z / \partial\theta|_F^2 / (K - 1)`, and for K = 2 it is
    :math:`|\partial z / \partial\theta|_F` itself. All temperatures see the same noise and directions.
    Both mean and median vanish like :math:`1 / \tau` at high temperature. Toward zero the median vanishes,
    while the mean tends to a constant that ever fewer samples carry, until none of them does: where the two
    part, the variance of gradients rises.

    The samples are drawn in parts; memory grows with the number of samples times that of laws, but not with
    that times K. Works for every :class:`~igr.SimplexRelaxation` that keeps the arguments of its constructor
    as attributes, for parameters with and without ``requires_grad`` (no ``.grad`` is touched, no graph kept)
    and under ``torch.no_grad``; half precision is computed in float32. For eager code only.

    Arguments:
        distribution: The law, with any batch shape.
        num_samples: Samples of each law of the batch.
        temperatures: Temperatures for the gradients. ``None`` for the law's own and six octaves on either
            side; where the batch has several, around their geometric mean.
        quantiles: Levels of the quantiles of the distance, from 0 to 1.
        saturation_threshold: The slope below which a sample is saturated.
        generator: The source of randomness; torch's default one if ``None``. One number is drawn from it.

    Raises:
        TypeError: unless distribution is a SimplexRelaxation, num_samples an int and all else numbers.
        ValueError: for an empty batch, no sample, no temperature or quantile, quantiles outside [0, 1], or
            temperatures or a threshold that are not positive and finite.

    References:
        | Invertible Gaussian Reparameterization (Potapczynski et al., 2020), for the distance to the vertices
        | Diversity and Evenness: A Unifying Notation and Its Consequences (Hill, 1973), for :math:`e^H`
        | Note on the Bias of Information Estimates (Miller, 1955), for the correction

    Example:
        >>> from igr.distributions import InvertibleGaussian
        >>> law = InvertibleGaussian(torch.tensor([0.5, -1.0]), 1.0, temperature=0.1)
        >>> found = diagnose(law, temperatures=[0.01, 0.1, 1.0], generator=Generator().manual_seed(0))
        >>> found.effective_categories
        tensor(2.2839)
        >>> print(found)
        Diagnosis of InvertibleGaussian(loc=[0.5, -1], scale=1, temperature=0.1)
        1,000 samples
        Euclidean distance to the nearest vertex (0 at a vertex, 0.816 at the centre)
          quantile              0.05           0.25            0.5           0.75           0.95
          distance          1.35e-09       9.35e-06        0.00218         0.0639          0.467
        saturated samples: 19.1% (max z (1 - z) below 1e-06)
        effective categories: 2.28 of 3 (exp of the entropy of the discrete law, exact)
        norm of the gradient that reaches the parameters, for a unit gradient at z
        (a mean far above the median: few samples carry the gradient)
          temperature       loc mean     loc median     scale mean   scale median
          0.01                 0.222              0          0.154              0
          0.1                  0.371         0.0119          0.251         0.0026  own
          1                    0.208          0.208          0.159          0.132
    """
    if not isinstance(distribution, SimplexRelaxation):
        raise TypeError(
            f"diagnose: expected distribution to be a SimplexRelaxation; got {type(distribution).__name__}; "
            "build igr.GumbelSoftmax or igr.InvertibleGaussian from its parameters, or take as_simplex() "
            "of a binary law."
        )
    if distribution.batch_shape.numel() == 0:
        raise ValueError(
            "diagnose: expected at least one law in the batch; got batch shape "
            f"{tuple(distribution.batch_shape)}."
        )
    total = whole_number("diagnose", "num_samples", num_samples, minimum=1)
    levels = _numbers("quantiles", quantiles, "from 0 to 1", lambda level: 0.0 <= level <= 1.0)
    (threshold,) = _numbers("saturation_threshold", [saturation_threshold], *_POSITIVE)
    own, middle = _own_temperature(distribution)
    if temperatures is None:
        grid = [middle * 2.0**octave for octave in range(-_OCTAVES, _OCTAVES + 1)]
    else:
        grid = _numbers("temperatures", temperatures, *_POSITIVE)
    source = torch.device("cpu") if generator is None else generator.device
    # A seed rather than the generator, so that every temperature can draw the same numbers anew.
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=source))

    # No leaf can be made under inference mode.
    with torch.inference_mode(False):
        law = with_parameters("diagnose", distribution, parameters_of(distribution), distribution.temperature)
        distance, saturated = _closeness(law, total, threshold, seed)
        effective, method = _effective_categories(law, total, seed)
        mean: dict[str, list[Tensor]] = {name: [] for name in law.arg_constraints}
        median: dict[str, list[Tensor]] = {name: [] for name in mean}
        for temperature in grid:
            for name, norms in _gradient_norms(law, temperature, total, seed).items():
                mean[name].append(norms.mean(-1).to(law.dtype))
                median[name].append(_quantiles(norms, (0.5,))[0].to(law.dtype))
    return Diagnosis(
        law=repr(distribution),
        num_categories=law.num_categories,
        num_samples=total,
        quantiles=tuple(levels),
        vertex_distance=_quantiles(distance, levels),
        saturated_share=saturated,
        saturation_threshold=threshold,
        effective_categories=effective,
        effective_categories_method=method,
        temperatures=tuple(grid),
        gradient_norm_mean={name: torch.stack(rows) for name, rows in mean.items()},
        gradient_norm_median={name: torch.stack(rows) for name, rows in median.items()},
        own_temperature=own,
    )


def _own_temperature(law: SimplexRelaxation) -> tuple[float | None, float]:
    """The temperature of the law if there is one, and the geometric mean of those that it has."""
    if not isinstance(law.temperature, Tensor):
        return float(law.temperature), float(law.temperature)
    values = law.temperature.detach().double()
    lowest = float(values.min())
    if lowest == float(values.max()):
        return lowest, lowest
    return None, float(values.log().mean().exp())


def noise_in_parts(
    law: SimplexRelaxation, num_samples: int, seed: int, numbers: int
) -> Iterator[tuple[slice, Tensor, Generator]]:
    """The noise of the samples in parts, and a generator to go on with: the same ones for the same seed.

    Arguments:
        law: The law, with any batch shape but an empty one.
        num_samples: Samples of each law of the batch.
        seed: Of the noise.
        numbers: How many of them (samples times laws times K) make a part.
    """
    source = Generator(law.device).manual_seed(seed)
    at_once = max(1, numbers // (law.batch_shape.numel() * law.num_categories))
    for first in range(0, num_samples, at_once):
        part = slice(first, min(first + at_once, num_samples))
        yield part, law.draw_noise((part.stop - first,), source), source


@torch.no_grad()
def _closeness(
    law: SimplexRelaxation, num_samples: int, threshold: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Distances of the samples to their nearest vertex [*B, N], and the share of saturated ones [*B]."""
    distance = torch.empty((*law.batch_shape, num_samples), dtype=law.dtype, device=law.device)
    saturated = torch.zeros(law.batch_shape, dtype=torch.float64, device=law.device)
    for part, noise, _ in noise_in_parts(law, num_samples, seed, _AT_ONCE):
        others, total = _others(law.rsample_log(noise=noise))
        distance[..., part] = _distance(others, total).movedim(0, -1)
        # Among all z (1 - z) that of the largest weight is the largest.
        saturated += ((1.0 - total) * total < threshold).sum(0)
    return distance, (saturated / num_samples).to(law.dtype)


@torch.no_grad()
def _effective_categories(law: SimplexRelaxation, num_samples: int, seed: int) -> tuple[Tensor, str]:
    """exp of the entropy [*B], and how the discrete law was computed."""
    try:
        return law.discrete().entropy().exp(), "exact"
    except NotImplementedError:
        source = Generator(law.device).manual_seed(seed)
        estimate = law.discrete("monte_carlo", num_samples=num_samples, generator=source)
    num_seen = (estimate.probs > 0).sum(-1)
    entropy = estimate.entropy() + (num_seen - 1) / (2 * num_samples)
    return entropy.exp().clamp(max=law.num_categories), "monte_carlo"


@torch.enable_grad()
def _gradient_norms(
    law: SimplexRelaxation, temperature: float, num_samples: int, seed: int
) -> dict[str, Tensor]:
    """For every parameter the norm of the gradient of each sample, [*B, N]."""
    parameters = {name: getattr(law, name) for name in law.arg_constraints}
    shape = (*law.batch_shape, num_samples)
    norms = {name: torch.empty(shape, dtype=torch.float64, device=law.device) for name in parameters}
    for part, noise, source in noise_in_parts(law, num_samples, seed, _AT_ONCE):
        # Each sample has parameters of its own, so that one backward pass keeps their gradients apart.
        leaves = {
            name: value.expand(len(noise), *value.shape).detach().requires_grad_()
            for name, value in parameters.items()
        }
        z = with_parameters("diagnose", law, leaves, temperature).rsample(noise=noise)
        gradients = torch.autograd.grad(z, list(leaves.values()), _directions(z, law.mask, source))
        for name, gradient in zip(norms, gradients, strict=True):
            norms[name][..., part] = _norm(gradient).movedim(0, -1)
    return norms


def _directions(z: Tensor, mask: Tensor | None, source: Generator) -> Tensor:
    """Random vectors of unit length whose entries sum to zero, as the differences of points do."""
    drawn = torch.randn(z.shape, dtype=z.dtype, device=z.device, generator=source)
    available = torch.ones_like(z) if mask is None else (~mask).to(z.dtype).expand(z.shape)
    mean = (drawn * available).sum(-1, keepdim=True) / available.sum(-1, keepdim=True)
    within = (drawn - mean) * available
    # One category, or equal numbers, leave no direction, and the sample counts as one without gradient.
    length = torch.linalg.vector_norm(within, dim=-1, keepdim=True)
    return within / length.clamp(min=torch.finfo(z.dtype).tiny)


def _quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles [Q, *] of values [*, N], between neighbours by linear interpolation.

    ``torch.quantile`` refuses more than 16 million numbers.
    """
    ordered = values.sort(-1).values
    last = values.shape[-1] - 1
    rows = []
    for level in levels:
        low = math.floor(level * last)
        high = min(low + 1, last)
        rows.append(torch.lerp(ordered[..., low], ordered[..., high], level * last - low))
    return torch.stack(rows)


_POSITIVE = "positive and finite", lambda number: 0.0 < number < math.inf


def _numbers(name: str, values: Any, kind: str, is_good: Callable[[float], bool]) -> list[float]:
    given = values.tolist() if isinstance(values, Tensor) else values
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"diagnose: expected {name} to be a sequence of numbers; got {given!r}; use a list.")
    found = []
    for number in given:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise TypeError(
                f"diagnose: expected {name} to be numbers; got {number!r}; convert it with float(...)."
            )
        if not is_good(float(number)):
            raise ValueError(f"diagnose: expected {name} to be {kind}; got {float(number)!r}.")
        found.append(float(number))
    if not found:
        raise ValueError(f"diagnose: expected at least one number in {name}; got none.")
    return found
