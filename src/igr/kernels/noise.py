"""The base noise of the laws: the only random step of the library.

Torch's ``exponential_``, from which ``torch.nn.functional.gumbel_softmax`` takes its Gumbel noise, costs
several times as much on the CPU as all the arithmetic after it; a logarithm of ``rand`` is cheap, but in
float32 ``rand`` has a grain of 2^-24, which shows in both tails. Here the outermost 2^-11 on either side is
drawn anew from a uniform of its own, so that the grain there is 2^-35.

Many numbers at once on the CPU are made of 31 bits each from numpy's SFC64, seeded by the generator: it gives
them faster than torch's Mersenne Twister. The grain is then 2^-31 at zero and 2^-42 at one.
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
    seed = torch.randint(2**62, (2,), generator=generator)
    source = np.random.SFC64(seed.tolist())
    uniform = _uniform_of_bits(source, shape.numel())
    high = torch.from_numpy(np.flatnonzero(uniform.numpy() >= 1.0 - _TAIL))
    result = function(uniform)
    result[high] = upper(_uniform_of_bits(source, len(high)))
    return result.view(shape)


def _uniform_of_bits(source: np.random.BitGenerator, count: int) -> Tensor:
    """Uniform numbers of (0, 1], in float32, each of 31 bits: the size of a signed integer and a half."""
    bits = torch.from_numpy(source.random_raw((count + 1) // 2).view(np.int32)[:count])
    return bits.to(torch.float32).add_(0.5).abs_().mul_(2.0**-31)


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
    """Standard normal variables."""
    return torch.randn(shape, dtype=dtype, device=device, generator=generator)
