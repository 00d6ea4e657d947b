r"""The threshold :math:`c = \tau \log\delta`: what the last category is held at beside the others.

Before they are divided by the temperature, scores are compared with it, so the vertex of a point and the
discrete law depend on temperature and delta through this number alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from igr import validation
from igr.kernels.numbers import log_number
from igr.kernels.tracing import is_traced


def threshold_of(temperature: float | Tensor, delta: float | Tensor, dtype: torch.dtype) -> float | Tensor:
    """c; where the temperature or delta is a tensor, one in the given dtype."""
    if isinstance(temperature, Tensor):
        temperature = temperature.to(dtype)
    return temperature * log_number(delta, dtype)


def delta_beside(
    owner: str, threshold: float | Tensor, temperature: float | Tensor, dtype: torch.dtype
) -> float | Tensor:
    r"""The delta with which the threshold is the same at that temperature, :math:`\exp(c / \tau)`.

    Arguments:
        owner: Who asks, for errors.
        threshold: c, in float64 where it is a tensor.
        temperature: :math:`\tau`, not checked yet.
        dtype: The dtype of a delta that is a tensor.

    Raises:
        TypeError: unless the temperature is a number or a tensor.
        ValueError: for a number that is not positive and finite, or beside which delta is none in float64.
    """
    validation.check_number_or_tensor(owner, "temperature", temperature)
    if not isinstance(temperature, Tensor):
        validation.check_values(owner, "temperature", temperature, positive=True)
    log_delta = threshold / temperature
    if isinstance(log_delta, Tensor):
        return torch.exp(log_delta).to(dtype)
    limits = torch.finfo(torch.float64)
    if not math.log(limits.tiny) < log_delta < math.log(limits.max):
        raise ValueError(
            f"{owner}: expected a temperature that leaves delta a number; got {temperature:.4g}, with which "
            f"it would be exp({log_delta:.4g}) beside the same threshold; take a higher one."
        )
    return math.exp(log_delta)


def log_threshold(threshold: float | Tensor, like: Tensor) -> Tensor:
    """log c, to meet logarithms of lengths; minus infinity where no length is below c."""
    c = torch.as_tensor(threshold, dtype=like.dtype, device=like.device)
    return torch.where(c > 0, torch.log(torch.where(c > 0, c, 1.0)), -torch.inf)


def check_reference_loses(delta: float | Tensor) -> None:
    r"""NotImplementedError unless :math:`\tau \log\delta \leq 0`, which no stick length is below.

    Where values cannot be read, or a device would wait, that is left to the user.
    """
    if not isinstance(delta, Tensor):
        largest = delta
    elif is_traced() or delta.device.type != "cpu" or delta.numel() == 0:
        return
    else:
        largest = delta.max().item()
    if largest > 1.0:
        raise NotImplementedError(
            f"discrete: no exact law is known for stick lengths with delta above one; got {largest:.4g}, "
            "with which the last category competes with the lengths themselves; use space='log', a delta of "
            "at most one, or method='monte_carlo'."
        )
