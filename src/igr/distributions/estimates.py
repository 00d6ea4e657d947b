"""Estimates of the discrete law and of the mean of a relaxation, by draws or by low-discrepancy points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from igr import reprs
from igr.distributions.discrete import DiscreteLaw
from igr.kernels import simplex
from igr.validation import compute_dtype

if TYPE_CHECKING:
    from igr.distributions.relaxation import SimplexRelaxation

METHODS = ("monte_carlo", "quasi_monte_carlo")

# Numbers in one part of the draws.
_DRAWN_AT_ONCE = 2**22
# Independent randomizations of the points, whose spread is the standard error.
_RANDOMIZATIONS = 16
# Torch's Sobol points are multiples of this.
_SOBOL_GRAIN = 2.0**-30

# Numbers [N, *B, K] that a law makes of the noise of N draws.
_Values: TypeAlias = "Callable[[SimplexRelaxation, Tensor], Tensor]"


@dataclass(frozen=True, eq=False)
class MeanEstimate:
    """The mean of a relaxation, and how it was had.

    Arguments:
        value: The mean point, with shape :math:`(*B, K)`.
        standard_error: Of each coordinate, for an estimate; ``None`` for quadrature.
        method: ``"quadrature"``, ``"monte_carlo"`` or ``"quasi_monte_carlo"``.
    """

    value: Tensor
    standard_error: Tensor | None
    method: str

    def __repr__(self) -> str:
        return reprs.of_fields(self)


@torch.no_grad()
def estimated_law(
    law: SimplexRelaxation,
    method: str,
    num_samples: int,
    generator: torch.Generator | None,
    noise: Tensor | None,
) -> DiscreteLaw:
    """The shares of the categories among draws of a law."""
    if method == "quasi_monte_carlo":
        shares = _over_randomizations(law, "discrete", num_samples, generator, noise, _winners)
        share = shares.mean(0)
        # Randomizations that count alike tell that it is nearly a multiple of their grain, no more.
        error = torch.maximum(_error_of_mean(shares), (share > 0).double() / num_samples)
        return DiscreteLaw(torch.log(share), error, law.dtype)
    total, parts = _draws(law, "discrete", num_samples, generator, noise)
    return DiscreteLaw.from_counts(_sums(law, parts, _winners)[0], total, law.dtype)


@torch.no_grad()
def estimated_mean(
    law: SimplexRelaxation,
    method: str,
    num_samples: int,
    generator: torch.Generator | None,
    noise: Tensor | None,
) -> MeanEstimate:
    """The average of draws of a law."""
    if method == "quasi_monte_carlo":
        means = _over_randomizations(law, "mean_estimate", num_samples, generator, noise, _points)
        value, error = means.mean(0), _error_of_mean(means)
    else:
        total, parts = _draws(law, "mean_estimate", num_samples, generator, noise)
        first, second = _sums(law, parts, _points)
        value = first / total
        # Points of the simplex have no large mean, so their squares lose nothing to it.
        # One draw says nothing of its error.
        correction = total / (total - 1) if total > 1 else math.nan
        variance = (second / total - value * value).clamp_min(0.0) * correction
        error = torch.sqrt(variance / total)
    return MeanEstimate(value.to(law.dtype), error.to(law.dtype), method)


def _winners(law: SimplexRelaxation, noise: Tensor) -> Tensor:
    return simplex.nearest_vertex(law._scores(noise))


def _points(law: SimplexRelaxation, noise: Tensor) -> Tensor:
    return law._sample(noise)


def _draws(
    law: SimplexRelaxation,
    owner: str,
    num_samples: int,
    generator: torch.Generator | None,
    noise: Tensor | None,
) -> tuple[int, Iterator[Tensor]]:
    """How many draws, and their noise in parts."""
    at_once = _at_once(law)
    if noise is not None:
        if noise.dim() == 0 or len(noise) == 0:
            raise ValueError(f"{owner}: expected noise of at least one draw; got shape {tuple(noise.shape)}.")
        return len(noise), iter(law._noise((len(noise),), None, noise).split(at_once))
    if num_samples < 1:
        raise ValueError(f"{owner}: expected num_samples of at least 1; got {num_samples}.")
    sizes = [min(at_once, num_samples - first) for first in range(0, num_samples, at_once)]
    return num_samples, (law.draw_noise((size,), generator) for size in sizes)


def _at_once(law: SimplexRelaxation) -> int:
    return max(1, _DRAWN_AT_ONCE // max(1, law.batch_shape.numel() * law.num_categories))


def _sums(law: SimplexRelaxation, parts: Iterator[Tensor], values: _Values) -> tuple[Tensor, Tensor]:
    """The sums of values [*B, K] over draws, and of their squares."""
    shape = law.batch_shape + law.event_shape
    first = torch.zeros(shape, dtype=torch.float64, device=law.device)
    second = torch.zeros_like(first)
    for part in parts:
        found = values(law, part).double()
        # Not in place: under torch.func.vmap the sums have a dimension that these zeros do not have.
        first = first + found.sum(0)
        second = second + (found * found).sum(0)
    return first, second


def _over_randomizations(
    law: SimplexRelaxation,
    owner: str,
    num_samples: int,
    generator: torch.Generator | None,
    noise: Tensor | None,
    values: _Values,
) -> Tensor:
    """Averages over the Sobol points of each randomization, [R, *B, K]; all laws of the batch share them."""
    if noise is not None:
        raise ValueError(
            f"{owner}: expected no noise for 'quasi_monte_carlo', which makes its own points; got some; use "
            "method='monte_carlo' for it."
        )
    if num_samples < 2 * _RANDOMIZATIONS:
        raise ValueError(
            f"{owner}: expected num_samples of at least {2 * _RANDOMIZATIONS} for 'quasi_monte_carlo'; got "
            f"{num_samples}."
        )
    # Sobol points are balanced in powers of two.
    count = 1 << (num_samples // _RANDOMIZATIONS).bit_length() - 1
    size = law.noise_shape.numel()
    most = torch.quasirandom.SobolEngine.MAXDIM
    if size > most:
        raise ValueError(
            f"{owner}: expected at most {most} numbers of noise for each draw "
            f"by 'quasi_monte_carlo'; got {size}; use method='monte_carlo'."
        )
    device = "cpu" if generator is None else generator.device
    seeds = torch.randint(2**31 - 1, (_RANDOMIZATIONS,), generator=generator, device=device).tolist()
    means = []
    for seed in seeds:
        engine = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed)
        sums, _ = _sums(law, _sobol_noise(law, engine, count), values)
        means.append(sums / count)
    return torch.stack(means)


def _sobol_noise(
    law: SimplexRelaxation, engine: torch.quasirandom.SobolEngine, count: int
) -> Iterator[Tensor]:
    at_once = _at_once(law)
    for first in range(0, count, at_once):
        uniform = engine.draw(min(at_once, count - first), dtype=torch.float64) + 0.5 * _SOBOL_GRAIN
        noise = law._noise_of_uniform(uniform.to(law.device)).to(compute_dtype(law.dtype))
        per_law = noise.view(len(noise), *[1] * len(law.batch_shape), *law.noise_shape)
        yield per_law.expand(len(noise), *law.batch_shape, *law.noise_shape)


def _error_of_mean(values: Tensor) -> Tensor:
    # Not torch's std, which warns of an empty batch.
    deviations = values - values.mean(0)
    return torch.sqrt((deviations * deviations).sum(0) / (len(values) * (len(values) - 1)))
