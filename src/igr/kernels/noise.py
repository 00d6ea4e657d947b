"""The base noise of the laws: the only random step of the library.

Torch's ``exponential_``, from which ``torch.nn.functional.gumbel_softmax`` takes its Gumbel noise, costs
several times as much on the CPU as all the arithmetic after it; a logarithm of ``rand`` is cheap, but in
float32 ``rand`` has a grain of 2^-24, which shows in both tails. Here the outermost 2^-11 on either side is
drawn anew from a uniform of its own, so that the grain there is 2^-35.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from igr.kernels.tracing import is_traced

_TAIL = 2.0**-11


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
        lambda u: torch.log1p(-u).neg_(),
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
        function: Of u, precise where u is small.
        upper: The same as a function of (1 - u) / 2^-11, where u is above 1 - 2^-11.
        shape: The shape of the result.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: Where the result is made.
        generator: The source of randomness; torch's default one if ``None``.
    """
    uniform = torch.rand(shape, dtype=dtype, device=device, generator=generator)
    grain = torch.finfo(dtype).eps / 2  # 2^-24 in float32, 2^-53 in float64
    if dtype == torch.float64:
        return function(uniform.clamp_(min=0.5 * grain))
    # A redraw of the tails alone has a shape that depends on values, for which a device would wait.
    if is_traced() or device.type != "cpu":
        fine = torch.rand(shape, dtype=dtype, device=device, generator=generator)
        fine = fine.clamp(min=0.5 * grain)
        low, high = uniform < _TAIL, uniform >= 1.0 - _TAIL
        return torch.where(high, upper(fine), function(torch.where(low, fine * _TAIL, uniform)))
    # numpy compares and searches several times as fast as torch.
    values = uniform.view(-1).numpy()
    tails = torch.from_numpy(np.flatnonzero((values < _TAIL) | (values >= 1.0 - _TAIL)))
    result = function(uniform)
    if tails.numel():
        fine = torch.rand(tails.shape, dtype=dtype, device=device, generator=generator)
        fine.clamp_(min=0.5 * grain)
        low = uniform.view(-1).index_select(0, tails) < 0.5
        result.view(-1)[tails] = torch.where(low, function(fine * _TAIL), upper(fine))
    return result


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
        torch.logit,
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
