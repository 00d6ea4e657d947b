"""Settings such as the temperature, which are Python numbers or tensors that broadcast against the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Far below every logarithm of a number, but a product with zero is zero.
LOWEST_LOGARITHM = -1e30


def log_number(value: float | Tensor, dtype: torch.dtype) -> float | Tensor:
    """The logarithm; of a tensor in the given dtype."""
    return torch.log(value.to(dtype)) if isinstance(value, Tensor) else math.log(value)


def column(value: float | Tensor, dtype: torch.dtype) -> float | Tensor:
    """A tensor with shape [*B] as [*B, 1], to meet numbers with shape [*B, n].

    One without dimensions stays so: torch lets it meet tensors of any device.
    """
    if not isinstance(value, Tensor):
        return value
    return value.to(dtype) if value.dim() == 0 else value.to(dtype).unsqueeze(-1)


def same_number(a: float | Tensor, b: float | Tensor) -> bool:
    """Equal Python numbers or one tensor object; comparing values would wait for the device."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return a == b
