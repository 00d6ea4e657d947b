"""Checks of arguments: one sentence each, and none where values cannot be read."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from igr.errors import shown
from igr.kernels.tracing import is_traced


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the arithmetic: float32 for half precision, otherwise the dtype itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def check_float_tensor(owner: str, name: str, value: object) -> None:
    """Raises TypeError unless the value is a tensor of floating-point numbers."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{owner}: expected {name} to be a tensor; got {type(value).__name__}; wrap it in torch.tensor."
        )
    if not value.is_floating_point():
        raise TypeError(
            f"{owner}: expected {name} of a floating-point dtype; got {value.dtype}; use .float()."
        )


def logits_or_probs(owner: str, logits: Tensor | None, probs: Tensor | None) -> tuple[str, Tensor]:
    """The one that is given, with its name: ValueError unless there is one, TypeError for no floats."""
    if (logits is None) == (probs is None):
        given = "neither" if logits is None else "both"
        raise ValueError(f"{owner}: expected exactly one of logits and probs; got {given}.")
    name = "logits" if probs is None else "probs"
    parameter: Any = logits if probs is None else probs
    check_float_tensor(owner, name, parameter)
    return name, parameter


def check_mask(owner: str, mask: object, num_categories: int) -> None:
    """Raises TypeError or ValueError unless the mask is a tensor of bool over the categories."""
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"{owner}: expected mask to be a tensor; got {type(mask).__name__}; wrap it in torch.tensor."
        )
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{owner}: expected mask of dtype torch.bool, True where a category is not available; "
            f"got {mask.dtype}; use .bool()."
        )
    if mask.dim() == 0 or mask.shape[-1] != num_categories:
        raise ValueError(
            f"{owner}: expected mask with {num_categories} categories in the last dimension; "
            f"got shape {tuple(mask.shape)}."
        )


def check_available(owner: str, mask: Tensor) -> None:
    """Raises ValueError where a mask leaves no category."""
    if is_traced():
        return
    forbidden = mask.all(-1)
    if bool(forbidden.any()):
        where = "" if mask.dim() == 1 else f" in {int(forbidden.sum())} of {forbidden.numel()} rows"
        raise ValueError(
            f"{owner}: expected mask to leave at least one category available (False); got all "
            f"{mask.shape[-1]} masked{where}."
        )


def check_number_or_tensor(owner: str, name: str, value: object) -> None:
    """Raises TypeError unless the value is a number or a tensor."""
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise TypeError(
            f"{owner}: expected {name} to be a number or a tensor; got {value!r}; convert it with float(...)."
        )


def whole_number(owner: str, name: str, value: Any, minimum: int | None = None) -> int:
    """The value as an int: TypeError for another kind of number, ValueError below the minimum."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(
            f"{owner}: expected {name} to be an int; got {shown(value)}; convert it with int(...)."
        )
    if minimum is not None and number < minimum:
        raise ValueError(f"{owner}: expected {name} of at least {minimum}; got {number}.")
    return number


def real_number(owner: str, name: str, value: Any) -> float:
    """The value as a float: TypeError for what is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{owner}: expected {name} to be a number; got {shown(value)}; convert it with float(...)."
        )
    return float(value)


def check_name(owner: str, key: str, given: object, allowed: Iterable[str]) -> None:
    """Raises ValueError unless it is one of a closed set of names; the nearest is offered."""
    names = list(allowed)
    if not isinstance(given, str) or given not in names:
        text = given.lower() if isinstance(given, str) else ""
        near = difflib.get_close_matches(text, names, n=1)
        advice = f"did you mean {near[0]}?" if near else "choose one of these."
        raise ValueError(
            f"{owner}: expected {key} to be one of {', '.join(names)}; got {shown(given)}; {advice}"
        )


def check_values(
    owner: str, name: str, value: float | Tensor, *, positive: bool = False, advice: str = ""
) -> None:
    """Raises ValueError unless every entry is finite (and positive); the advice ends the sentence."""
    if is_traced():
        return
    kind = "positive and finite" if positive else "finite"
    if isinstance(value, Tensor):
        good = torch.isfinite(value) & (value > 0) if positive else torch.isfinite(value)
        if not bool(good.all()):
            bad = value[~good].flatten()
            where = "" if value.dim() == 0 else f" in {bad.numel()} of {value.numel()} entries"
            raise ValueError(f"{owner}: expected {name} to be {kind}; got {bad[0].item()!r}{where}{advice}.")
    elif not (math.isfinite(value) and (value > 0 or not positive)):
        raise ValueError(f"{owner}: expected {name} to be {kind}; got {value!r}{advice}.")


def check_temperature(owner: str, name: str, value: float | Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError unless every entry is positive, finite, and large enough to divide by.

    Scores of up to one over the rounding of the type have quotients that are numbers.

    Arguments:
        owner: Whose argument it is.
        name: The name of the argument.
        value: The temperature.
        dtype: The dtype of what is divided.
    """
    if is_traced():
        return
    info = torch.finfo(compute_dtype(dtype))
    lowest = info.tiny / info.eps
    if isinstance(value, Tensor):
        if value.numel() == 0:
            return
        # One look where all is well, for which a device has to wait.
        low, high = torch.stack(value.detach().aminmax()).tolist()
        if lowest <= low and high < math.inf:
            return
    elif lowest <= value < math.inf:
        return
    least = value.min().item() if isinstance(value, Tensor) else value
    limit = (
        "the nearest vertex, which is the limit, is that of hard=True and of law.vertex(noise) at any "
        "temperature"
    )
    check_values(owner, name, value, positive=True, advice=f"; {limit}" if least == 0 else "")
    raise ValueError(
        f"{owner}: expected {name} of at least {lowest:.1e} in {info.dtype}, or what is divided by it "
        f"overflows; got {least!r}; take a larger one: {limit}."
    )


def check_probabilities(owner: str, probs: Tensor, *, normalized: bool = False) -> None:
    """Raises ValueError unless the last dimension holds probabilities (that sum to one)."""
    if is_traced():
        return
    if not bool(torch.isfinite(probs).all()) or not bool((probs >= 0).all()):
        bad = probs[~(torch.isfinite(probs) & (probs >= 0))].flatten()[0].item()
        raise ValueError(f"{owner}: expected probs to be at least 0 and finite; got {bad!r}.")
    total = probs.sum(-1)
    if normalized:
        # Probabilities that a user normalized in float32 are off by a few of its units.
        off = (total - 1.0).abs() > 1e-4 if probs.dtype.itemsize >= 4 else (total - 1.0).abs() > 0.02
        if bool(off.any()):
            raise ValueError(
                f"{owner}: expected probs to sum to 1; got a sum of {total[off].flatten()[0].item()!r}; "
                "divide by the sum."
            )
    elif bool((total <= 0).any()):
        raise ValueError(f"{owner}: expected probs with a positive sum; got a row of zeros.")


def broadcast_shapes(*shapes: Size | tuple[int, ...]) -> Size:
    """What ``torch.broadcast_shapes`` gives, whose first call imports hundreds of modules.

    Raises:
        RuntimeError: They do not broadcast.
    """
    # Sizes of tracers are no plain numbers.
    plain = all(type(size) is int for shape in shapes for size in shape)
    if not plain or is_traced() or torch._C._is_tracing():
        return Size(torch.broadcast_shapes(*shapes))
    try:
        return Size(np.broadcast_shapes(*map(tuple, shapes)))
    except ValueError as error:
        raise RuntimeError(str(error)) from error


def broadcast_batch(owner: str, **shapes: Size | tuple[int, ...]) -> Size:
    """The common batch shape; ValueError that names every argument and its shape if there is none."""
    if not is_traced():
        longest = max(shapes.values(), key=len)
        if all(shape in (longest, ()) for shape in shapes.values()):
            # The usual case; torch's function takes as long as a small softmax.
            return Size(longest)
    try:
        return broadcast_shapes(*shapes.values())
    except RuntimeError:
        listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(
            f"{owner}: expected shapes that broadcast against each other; got {listed}."
        ) from None


def shape_of(value: float | Tensor) -> Size:
    """The shape of a tensor, or that of a number."""
    return value.shape if isinstance(value, Tensor) else Size()
