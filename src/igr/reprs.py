"""What objects say of themselves: one line, told without waiting for a device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from igr.kernels.tracing import can_be_read


class _HasShape(Protocol):
    @property
    def num_categories(self) -> int: ...
    @property
    def batch_shape(self) -> torch.Size: ...


# Characters of a line, where a shorter form is at hand, and at most.
LONGEST = 120
_MOST = 140
# Numbers that are written out.
FEW = 6
# Numbers that are looked through for their range.
_MOST_READ = 2**20


def is_small(value: Tensor) -> bool:
    """Whether all its numbers are shown."""
    return 0 < value.numel() <= FEW and can_be_read(value)


def is_constant(value: Tensor) -> bool:
    """Whether its numbers are known to be all the same one."""
    if not 0 < value.numel() <= _MOST_READ or not can_be_read(value):
        return False
    low, high = _range(value)
    return low == high


def number(value: float) -> str:
    """A number with four digits."""
    return f"{value:.4g}"


def numbers(values: Any, mask: Any = None) -> str:
    """Nested lists of numbers with three digits each; a dash where the mask, nested alike, is True."""
    if isinstance(values, list):
        inner = [None] * len(values) if mask is None else mask
        return f"[{', '.join(numbers(*pair) for pair in zip(values, inner, strict=True))}]"
    return "-" if mask else f"{values:.3g}"


def setting(name: str, value: float | Tensor) -> str:
    """``name=value``: a number, several of them, or the shape of a tensor and the range of what it holds."""
    if not isinstance(value, Tensor):
        return f"{name}={number(value)}"
    if value.dim() == 0 and can_be_read(value):
        return f"{name}={number(value.item())}"
    if is_small(value):
        return f"{name}={numbers(value.tolist())}"
    found = spread("", value)
    return f"{name}=tensor{tuple(value.shape)}{' of ' if found[:1] == '=' else ''}{found.removeprefix('=')}"


def spread(name: str, value: Tensor) -> str:
    """The range of many numbers, or the only number that they are; empty where they cannot be read."""
    if not 0 < value.numel() <= _MOST_READ or not can_be_read(value):
        return ""
    low, high = _range(value)
    if math.isnan(low) or math.isnan(high):
        return f"{name} with NaN"
    return f"{name} in {low:.3g}..{high:.3g}" if low < high else f"{name}={number(low)}"


def call(owner: str, *forms: Iterable[str]) -> str:
    """``owner(part, part)`` in the first of several forms that is short enough.

    Arguments:
        owner: The name of the class.
        forms: The parts of each form, empty ones to be left out; of the last one what is far too long is cut.
    """
    for parts in forms:
        whole = f"{owner}({', '.join(part for part in parts if part)})"
        if len(whole) <= LONGEST:
            return whole
    return whole if len(whole) <= _MOST else f"{whole[: _MOST - 4]}...)"


def of_fields(whole: Any) -> str:
    """A NamedTuple or a dataclass, whose default shows all numbers of its tensors; for its ``__repr__``."""
    names = getattr(whole, "_fields", None) or [field.name for field in dataclasses.fields(whole)]
    parts = []
    for name in names:
        value = getattr(whole, name)
        if isinstance(value, Tensor):
            parts.append(setting(name, value))
        elif isinstance(value, Mapping):
            parts.append(f"{name}={list(value)}")
        else:
            parts.append(f"{name}={value!r}")
    return call(type(whole).__name__, parts)


def shape(law: _HasShape) -> list[str]:
    """How many categories a law has, and the shape of its batch."""
    return [f"num_categories={law.num_categories}", f"batch_shape={tuple(law.batch_shape)}"]


def available(mask: Tensor | None) -> str:
    """How many categories a mask leaves, with their range over a batch."""
    if mask is None:
        return ""
    if mask.numel() == 0 or not can_be_read(mask):
        return "masked"
    counts = (~mask).sum(-1)
    low, high = int(counts.min()), int(counts.max())
    return f"available={low if low == high else f'{low}..{high}'} of {mask.shape[-1]}"


@torch.no_grad()
def _range(value: Tensor) -> tuple[float, float]:
    low, high = value.aminmax()
    return low.item(), high.item()
