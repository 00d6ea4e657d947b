"""The base noise of the laws: the only random step of the library.

Torch's ``exponential_``, from which ``torch.nn.functional.gumbel_softmax`` takes its Gumbel noise, costs
several times as much on the CPU as all the arithmetic after it; a logarithm of ``rand`` is cheap, but in
float32 ``rand`` has a grain of 2^-24, which shows in both tails. Here the outermost 2^-11 on either side is
drawn anew from a uniform of its own, so that the grain there is 2^-35.

Many numbers at once on the CPU, normal ones too, are made of 31 bits each from numpy's SFC64, seeded by
the generator: it gives them faster than torch's Mersenne Twister. The grain is then 2^-31 at zero and 2^-42
at one, and of normal numbers, whose middle is made of what float32 holds of these bits, 2^-24 of
probability where the tails begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from igr.kernels.tracing import is_traced

_TAIL = 2.0**-11
# From here on, seeding another generator pays.
_MANY = 2**16
_MANY_NORMAL = 2**17


def standard_exponential(
    shape: torch.Size,
    *,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Exponential variables of mean 1 with both tails finer than the grain of ``torch.rand``.

    Arguments:
        shape: The shape of the result.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: Where the result is made.
        generator: The source of randomness; torch's default one if ``None``.
    """
    return _of_uniform(
        lambda u: u.neg_().log1p_().neg_(),
        lambda fine: -torch.log(fine) - math.log(_TAIL),
        shape,
        dtype=dtype,
        device=device,
        generator=generator,
    )


def _of_uniform(
    function: Callable[[Tensor], Tensor],
    upper: Callable[[Tensor], Tensor],
    shape: torch.Size,
    *,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """A function of uniform variables u whose tails are finer than those of ``torch.rand``.

    Arguments:
        function: Of u, precise where u is small; it may write over u.
        upper: The same as a function of (1 - u) / 2^-11, where u is above 1 - 2^-11.
        shape: The shape of the result.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: Where the result is made.
        generator: The source of randomness; torch's default one if ``None``.
    """
    # A redraw of the tails alone has a shape that depends on values, for which a device would wait.
    static = is_traced() or device.type != "cpu"
    if not static and dtype == torch.float32 and shape.numel() >= _MANY:
        return _of_many(function, upper, shape, generator)
    uniform = torch.rand(shape, dtype=dtype, device=device, generator=generator)
    grain = torch.finfo(dtype).eps / 2  # 2^-24 in float32, 2^-53 in float64
    if dtype == torch.float64:
        return function(uniform.clamp_(min=0.5 * grain))
    if static:
        fine = torch.rand(shape, dtype=dtype, device=device, generator=generator)
        fine = fine.clamp(min=0.5 * grain)
        low, high = uniform < _TAIL, uniform >= 1.0 - _TAIL
        return torch.where(high, upper(fine), function(torch.where(low, fine * _TAIL, uniform)))
    # numpy compares and searches several times as fast as torch.
    values = uniform.view(-1).numpy()
    places = np.flatnonzero((values < _TAIL) | (values >= 1.0 - _TAIL))
    low = torch.from_numpy(values[places] < 0.5)
    result = function(uniform)
    if places.size:
        fine = torch.rand(low.shape, dtype=dtype, device=device, generator=generator)
        fine.clamp_(min=0.5 * grain)
        result.view(-1)[torch.from_numpy(places)] = torch.where(low, function(fine * _TAIL), upper(fine))
    return result


def _of_many(
    function: Callable[[Tensor], Tensor],
    upper: Callable[[Tensor], Tensor],
    shape: torch.Size,
    generator: torch.Generator | None,
) -> Tensor:
    """:func:`_of_uniform` in float32 on the CPU from a faster source, which the generator seeds."""
    source = _seeded(generator)
    result = function(_uniform_of_bits(source, shape.numel(), 1.0 - _TAIL))
    high = _chosen(source, shape.numel(), _TAIL)
    result[high] = upper(_uniform_of_bits(source, len(high)))
    return result.view(shape)


def _many_normal(shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    """:func:`standard_normal` in float32 on the CPU from a faster source, which the generator seeds."""
    source = _seeded(generator)
    signed = _bits(source, shape.numel()).to(torch.float32).mul_((1.0 - _TAIL) * 2.0**-31)
    result = signed.erfinv_().mul_(math.sqrt(2.0))
    tails = _chosen(source, shape.numel(), _TAIL)
    # Of (-1, 0) and (0, 1): a sign and the rest.
    fine = _bits(source, len(tails)).double().add_(0.5).mul_(2.0**-31)
    result[tails] = (torch.special.ndtri(fine.abs().mul_(0.5 * _TAIL)) * fine.sgn()).to(torch.float32)
    return result.view(shape)


def _seeded(generator: torch.Generator | None) -> np.random.BitGenerator:
    """A source of bits that a generator of torch determines."""
    return np.random.SFC64(torch.randint(2**62, (2,), generator=generator).tolist())


def _chosen(source: np.random.BitGenerator, count: int, probability: float) -> Tensor:
    """Which of so many numbers belong to a tail of this probability, each independently of the others.

    They are chosen, and not found among the numbers, which would have to be searched.
    """
    generator = np.random.Generator(source)
    number = generator.binomial(count, probability)
    return torch.from_numpy(generator.choice(count, number, replace=False, shuffle=False))


def _bits(source: np.random.BitGenerator, count: int) -> Tensor:
    """Integers of 32 bits."""
    return torch.from_numpy(source.random_raw((count + 1) // 2).view(np.int32)[:count])


def _uniform_of_bits(source: np.random.BitGenerator, count: int, end: float = 1.0) -> Tensor:
    """Uniform numbers of (0, end], in float32, each of 31 bits: the size of a signed integer and a half."""
    return _bits(source, count).to(torch.float32).add_(0.5).abs_().mul_(end * 2.0**-31)


def standard_gumbel(
    shape: torch.Size,
    *,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Standard Gumbel variables: minus the logarithm of :func:`standard_exponential`."""
    exponential = standard_exponential(shape, dtype=dtype, device=device, generator=generator)
    return exponential.log_().neg_()


def standard_logistic(
    shape: torch.Size,
    *,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Standard logistic variables, the difference of two Gumbel ones, of one uniform each."""
    return _of_uniform(
        lambda u: u.logit_(),
        lambda fine: -torch.logit(fine * _TAIL),
        shape,
        dtype=dtype,
        device=device,
        generator=generator,
    )


def standard_normal(
    shape: torch.Size,
    *,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Standard normal variables.

    Many at once on the CPU are made of 31 bits each, by the inverse of the law, which torch has for a quarter
    of the price of its own normal numbers; both tails, of 2^-12 each, are made of as many bits again.
    """
    if device.type == "cpu" and dtype == torch.float32 and shape.numel() >= _MANY_NORMAL and not is_traced():
        return _many_normal(shape, generator)
    return torch.randn(shape, dtype=dtype, device=device, generator=generator)
