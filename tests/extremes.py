"""Random parameter sets at the ends of what laws promise, and what is to hold of a law there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from cases import generator
from igr.kernels import noise as drawn

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
# Sets at a time, and numbers of an array of theirs, so that memory stays small whatever K is.
_MOST_SETS, _NUMBERS = 500, 6000


def log_uniform(low: float, high: float, shape: tuple[int, ...], source: Generator) -> Tensor:
    """Numbers between both ends, whose logarithms are uniform; one in twenty is an end itself."""
    share = torch.rand(shape, dtype=torch.float64, generator=source).mul(1.05).sub(0.025).clamp(0.0, 1.0)
    return torch.exp(math.log(low) + share * math.log(high / low)).clamp(low, high)


def signs(shape: tuple[int, ...], source: Generator) -> Tensor:
    return 2.0 * torch.randint(2, shape, generator=source).double() - 1.0


def vectors(count: int, size: int, source: Generator, low: float = 1e-4, high: float = 1e4) -> Tensor:
    """Vectors [count, size] of a few kinds, with entries that are zero or of a size between both numbers."""
    shape = (count, size)
    common = log_uniform(low, high, (count, 1), source)
    normal = torch.randn(shape, dtype=torch.float64, generator=source)
    one = torch.zeros(shape, dtype=torch.float64)
    one.scatter_(1, torch.randint(size, (count, 1), generator=source), common * signs((count, 1), source))
    kinds = [
        log_uniform(low, high, shape, source) * signs(shape, source),
        (common * normal).clamp(-high, high),
        (common * signs((count, 1), source)).expand(shape),
        torch.zeros(shape, dtype=torch.float64),
        one,
        high * signs(shape, source),
        normal.clamp(-high, high),
    ]
    kind = torch.randint(len(kinds), (count,), generator=source)
    return torch.stack(kinds)[kind, torch.arange(count)]


def scales(count: int, size: int, source: Generator, low: float = 1e-4, high: float = 1e3) -> Tensor:
    """Vectors of scales, a third of them with one number for all."""
    own = log_uniform(low, high, (count, size), source)
    alike = torch.rand((count, 1), generator=source) < 1 / 3
    return torch.where(alike, own[:, :1], own)


def masks(count: int, size: int, source: Generator, *, keeps_last: bool) -> Tensor:
    """Masks that leave a category: the last one, if all others are measured against it."""
    mask = torch.rand((count, size), generator=source) < torch.rand((count, 1), generator=source)
    place = torch.randint(size, (count, 1), generator=source)
    return mask.scatter(1, torch.full_like(place, size - 1) if keeps_last else place, False)


def gumbel(shape: torch.Size, dtype: torch.dtype, source: Generator) -> Tensor:
    noise = drawn.standard_gumbel(shape, dtype=dtype, device=torch.device("cpu"), generator=source)
    return _with_ends(noise, -3.7, 38.0, source)


def normal(shape: torch.Size, dtype: torch.dtype, source: Generator) -> Tensor:
    noise = drawn.standard_normal(shape, dtype=dtype, device=torch.device("cpu"), generator=source)
    return _with_ends(noise, -8.0, 8.0, source)


def logistic(shape: torch.Size, dtype: torch.dtype, source: Generator) -> Tensor:
    noise = drawn.standard_logistic(shape, dtype=dtype, device=torch.device("cpu"), generator=source)
    return _with_ends(noise, -38.0, 38.0, source)


def _with_ends(noise: Tensor, low: float, high: float, source: Generator) -> Tensor:
    """In a third of the sets some numbers, or all, are at the ends of what a generator gives, or at zero."""
    flat = noise.reshape(len(noise), -1)
    share = torch.rand((len(flat), 1), generator=source).mul(3.0).sub(1.7).clamp(0.0, 1.0)
    extreme = torch.rand(flat.shape, generator=source) < share
    ends = torch.tensor([low, high, 0.0], dtype=noise.dtype)
    end = ends[torch.randint(len(ends), flat.shape, generator=source)]
    return torch.where(extreme, end, flat).view(noise.shape)


@dataclass(frozen=True)
class Family:
    """Laws of one kind as a function of tensors [N, ...] and of the rest.

    Arguments:
        make: The law.
        parameters: The tensors of so many sets of so many categories, without temperature and delta.
        noise: Base noise of a shape.
        has_delta: Whether it has a delta beside the temperature.
        is_binary: Whether it is over two categories, with one number for a point.
        is_masked: Whether it has a mask.
    """

    make: Callable[..., Any]
    parameters: Callable[[int, int, Generator], dict[str, Tensor]]
    noise: Callable[[torch.Size, torch.dtype, Generator], Tensor]
    has_delta: bool = False
    is_binary: bool = False
    is_masked: bool = False


@dataclass(frozen=True)
class Sets:
    """N parameter sets of one family, with one number of categories and noise for a point of each."""

    family: Family
    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    noise: Tensor
    dtype: torch.dtype

    @property
    def count(self) -> int:
        return len(self.noise)

    def law(self) -> Any:
        return self.family.make(**self.tensors, **self.settings)

    @property
    def mask(self) -> Tensor | None:
        return self.settings.get("mask")

    def leaves(self, dtype: torch.dtype) -> Sets:
        """The same in a dtype, with fresh tensors that want a gradient."""
        tensors = {name: t.detach().to(dtype, copy=True).requires_grad_() for name, t in self.tensors.items()}
        return replace(self, tensors=tensors, noise=self.noise.to(wide(dtype)), dtype=dtype)


def draw(
    family: Family, dtype: torch.dtype, source: Generator, count: int, size: int, *, plain: bool
) -> Sets:
    """Random sets: temperature and delta are tensors, of which each set has its own, or plain numbers.

    On the CPU the latter are drawn by hand-written passes.
    """
    shape = (count,) if plain else ()
    numbers = {"temperature": log_uniform(1e-6, 1e3, shape, source)}
    if family.has_delta:
        is_one = torch.rand(shape, generator=source) < 0.5
        numbers["delta"] = torch.where(is_one, 1.0, log_uniform(1e-6, 1e6, shape, source))
    tensors = family.parameters(count, size, source)
    settings: dict[str, Any] = {}
    if plain:
        tensors |= numbers
    else:
        settings = {name: value.item() for name, value in numbers.items()}
    if family.is_masked:
        settings["mask"] = masks(count, size, source, keeps_last="loc" in tensors)
    law = family.make(**tensors, **settings)
    noise = family.noise(law.batch_shape + law.noise_shape, wide(dtype), source)
    return Sets(family, tensors, settings, noise, dtype).leaves(dtype)


def another(sets: Sets, source: Generator) -> Sets:
    """As many other sets of that family, with its masks."""
    size = 2 if sets.family.is_binary else sets.law().num_categories
    plain = "temperature" in sets.tensors
    other = draw(sets.family, sets.dtype, source, sets.count, size, plain=plain)
    if sets.mask is None:
        return other
    return replace(other, settings=other.settings | {"mask": sets.mask})


def many(family: Family, count: int, key: str, most: int = 1000) -> Iterator[tuple[Sets, Generator]]:
    """At least so many sets, of every dtype, some at a time, and the source of what else is wanted."""
    source = generator(key)
    kinds = itertools.cycle(itertools.product((True, False), DTYPES))
    while count > 0:
        plain, dtype = next(kinds)
        size = 2 if family.is_binary else round(log_uniform(2.0, most, (), source).item())
        here = max(2, min(_MOST_SETS, count // 6 + 1, _NUMBERS // size))
        yield draw(family, dtype, source, here, size, plain=plain), source
        count -= here


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.bfloat16 else dtype


def not_finite(x: Tensor) -> Tensor:
    """Which of the sets have a number that is none, [N]."""
    return ~torch.isfinite(x.detach()).reshape(len(x), -1).all(-1)


def gradients(sets: Sets, value: Tensor) -> dict[str, Tensor]:
    """Those of a random linear functional of the finite entries of a value [N, *]."""
    source = generator("functional")
    weight = torch.randn(value.shape, dtype=torch.float64, generator=source).to(value.dtype)
    functional = (torch.where(torch.isfinite(value), value, 0.0) * weight).sum()
    leaves = {name: t for name, t in sets.tensors.items() if t.requires_grad}
    found = torch.autograd.grad(functional, list(leaves.values()), retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(leaves, found, strict=True) if g is not None}
