"""What a user calls a discrete law (probabilities, samples, a distribution), as probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    OneHotCategorical,
)

from igr import reprs
from igr.errors import shown
from igr.fitting.integer_laws import IntegerLaw, in_double, is_from_scipy, scipy_law, torch_law
from igr.validation import check_probabilities, real_number, whole_number

__all__ = ["MAX_CATEGORIES", "Target", "as_target"]

# So far a law is enumerated, and so far samples are counted, where no number of categories is given.
MAX_CATEGORIES = 100_000
# Of parameters and probabilities that are read; torch itself has up to 64.
MAX_DIMENSIONS = 32
# The first block of values; every later one is as long as all before it together.
FIRST_BLOCK = 256
# What rounding may take from the sum of the probabilities of a law.
ROUNDING = 1e-9
# What of a law is less than any digit of its sum.
NOTHING = 1e-17


@dataclass(frozen=True, eq=False)
class Target:
    r"""A law over K consecutive integers, and how much of the law it comes from lies outside of them.

    Category k stands for the value ``first + k``. The probability of a value under the law itself is
    ``probs[..., k] * (1 - tail)``, since :attr:`probs` are normalized over what is kept.

    Arguments:
        probs: Probabilities of the categories, float64, with shape :math:`(*B, K)`.
        tail: The mass of the law outside of the categories, float64, with shape :math:`(*B)`; zero for
            probabilities and samples that are kept whole.
        first: The value of category 0.
        description: What the law is, in a few words.

    Example:
        >>> target = as_target([0.5, 0.25, 0.25])
        >>> cut = target.with_num_categories(2)
        >>> [round(p, 4) for p in cut.probs.tolist()], cut.tail.item()
        ([0.6667, 0.3333], 0.25)
    """

    probs: Tensor
    tail: Tensor
    first: int
    description: str

    def __repr__(self) -> str:
        batch_shape = f"batch_shape={tuple(self.batch_shape)}" if self.batch_shape else ""
        sizes = [f"num_categories={self.num_categories}", batch_shape, f"first={self.first}"]
        return reprs.call(type(self).__name__, [self.description, *sizes, reprs.setting("tail", self.tail)])

    @property
    def num_categories(self) -> int:
        """K, the number of categories."""
        return self.probs.shape[-1]

    @property
    def batch_shape(self) -> Size:
        """The shape :math:`(*B)` of the batch of laws."""
        return self.probs.shape[:-1]

    def with_num_categories(self, num_categories: int) -> Target:
        """The same law over so many categories from the first on.

        Fewer move what is cut off into :attr:`tail`, and the rest is normalized. More are filled with
        zeros, and the tail stays: what was cut off before does not come back.

        Arguments:
            num_categories: K, an int of at least 2.

        Raises:
            TypeError: unless it is an int.
            ValueError: below 2, or where no mass lies within so many categories.
        """
        owner = "Target.with_num_categories"
        return _resized(owner, self, whole_number(owner, "num_categories", num_categories, minimum=2))

    def to_json(self) -> dict[str, Any]:
        """A mapping of JSON values that :meth:`from_json` takes back, to the last bit."""
        return {
            "probs": self.probs.tolist(),
            "tail": self.tail.tolist(),
            "first": self.first,
            "description": self.description,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The target that :meth:`to_json` wrote.

        Arguments:
            values: What it returned, before or after a way through JSON.

        Raises:
            TypeError: unless it is a mapping with entries of the right kinds.
            ValueError: if an entry is missing or unknown, or one that no target has.
        """
        owner = "Target.from_json"
        remedy = "pass what to_json() returned"
        if not isinstance(values, Mapping):
            raise TypeError(f"{owner}: expected a dict; got {type(values).__name__}; {remedy}.")
        if set(values) != {"probs", "tail", "first", "description"}:
            raise ValueError(
                f"{owner}: expected the keys probs, tail, first and description; got {shown(list(values))}; "
                f"{remedy}."
            )
        try:
            probs = numbers_of(values["probs"])
            tail = numbers_of(values["tail"])
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"{owner}: expected probs and tail to be lists of numbers; got {shown(values['probs'])} and "
                f"{shown(values['tail'])}; {remedy}."
            ) from None
        if probs.dim() == 0 or probs.shape[-1] < 2 or probs.numel() == 0 or probs.shape[:-1] != tail.shape:
            raise ValueError(
                f"{owner}: expected probs of at least 2 categories and a tail for each row; got shapes "
                f"{tuple(probs.shape)} and {tuple(tail.shape)}; {remedy}."
            )
        check_probabilities(owner, probs, normalized=True)
        inside = (tail >= 0) & (tail <= 1)
        if not bool(inside.all()):
            bad = tail[~inside].flatten()[0].item()
            raise ValueError(f"{owner}: expected tail to lie between 0 and 1; got {bad!r}; {remedy}.")
        return cls(probs, tail, whole_number(owner, "first", values["first"]), str(values["description"]))


def numbers_of(values: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    """Nested lists of numbers, as they come from JSON, as a tensor.

    Raises:
        TypeError: for what are no numbers.
        ValueError: for lists that are no tensor.
        OverflowError: for a number that the dtype does not have.
    """
    try:
        found = torch.tensor(values, dtype=dtype)
    except RuntimeError as error:
        # What torch says of some numbers that are too large.
        raise ValueError(str(error)) from error
    if found.dim() > MAX_DIMENSIONS:
        raise ValueError(f"lists in lists, {found.dim()} deep")
    return found


def as_target(
    target: object, *, num_categories: int | None = None, tail_mass: float = 1e-6, owner: str = "fit"
) -> Target:
    r"""The probabilities over categories of a law, in whichever form it is given.

    A law whose support ends is kept whole. One whose support does not is kept from its lower end to the
    first value at which all but ``tail_mass`` of it is in, in every law of a batch; one without a lower
    end (of scipy) starts where at most half of ``tail_mass`` lies below. What is kept is normalized, in
    float64.

    Parameters of torch distributions are taken to float64 before anything is computed of them, the ones
    (probs or logits) that the distribution was made with. Note that torch and scipy count differently:
    ``torch.distributions.Geometric`` starts at 0 and ``scipy.stats.geom`` at 1, and
    ``torch.distributions.NegativeBinomial(n, p)`` is ``scipy.stats.nbinom(n, 1 - p)``.

    Arguments:
        target: One of

            - probabilities, floating-point numbers with shape :math:`(*B, K)`: a tensor, an array or a
              sequence, each row with a sum of one;
            - samples, integers in one dimension: a tensor, an array or a sequence, whose categories go from
              the smallest of them, or 0 if that is less, to the largest. Integers are always samples:
              ``[0, 1]`` is one draw of either, and ``[0.0, 1.0]`` is certain to be 1;
            - a distribution of ``torch.distributions`` over integers, or one over one-hot vectors, such as
              :class:`igr.DiscreteLaw`; batches are welcome;
            - a discrete distribution of ``scipy.stats`` with its parameters;
            - a :class:`Target`.
        num_categories: K, an int of at least 2: a law over fewer is filled with zeros, and of one over more
            the first K values are kept, whatever ``tail_mass`` says. At least 2 are returned in any case.
        tail_mass: How much of a law with an infinite support (or one of more than 100,000 values) may be
            cut off, a probability between 0 and 1 and neither.
        owner: The name that errors start with.

    Raises:
        TypeError: for anything else, for a distribution of continuous numbers or of vectors, or one of scipy
            that has no parameters yet.
        ValueError: for probabilities that are negative, not finite or do not sum to one; samples in more
            dimensions, none, or too far apart; a law with too much mass far out, or none within
            ``num_categories``; a ``tail_mass`` or ``num_categories`` outside of its range.

    Example:
        >>> target = as_target(torch.distributions.Poisson(50.0))
        >>> target.num_categories, f"{target.tail.item():.3g}", target.description
        (88, '7.54e-07', 'Poisson(rate=50)')
        >>> as_target([0, 2, 2, 3]).probs
        tensor([0.2500, 0.0000, 0.5000, 0.2500], dtype=torch.float64)
    """
    tail_mass = real_number(owner, "tail_mass", tail_mass)
    if not 0.0 < tail_mass < 1.0:
        raise ValueError(
            f"{owner}: expected 0 < tail_mass < 1; got {tail_mass!r}; give the mass that may be cut off."
        )
    if num_categories is not None:
        num_categories = whole_number(owner, "num_categories", num_categories, minimum=2)
    if isinstance(target, Target):
        return target if num_categories is None else _resized(owner, target, num_categories)
    if isinstance(target, Distribution):
        if isinstance(target, Categorical | OneHotCategorical):
            return _of_categorical(owner, target, num_categories)
        return _enumerated(owner, torch_law(owner, target), num_categories, tail_mass)
    if is_from_scipy(target):
        return _enumerated(owner, scipy_law(owner, target, tail_mass), num_categories, tail_mass)
    return _of_numbers(owner, target, num_categories)


def _resized(owner: str, target: Target, num_categories: int) -> Target:
    """Cut or filled with zeros."""
    K = target.num_categories
    if num_categories >= K:
        probs = torch.nn.functional.pad(target.probs, (0, num_categories - K))
        return Target(probs, target.tail, target.first, target.description)
    dropped = target.probs[..., num_categories:].sum(-1)
    # Of the law itself, of which probs are only what was kept.
    tail = target.tail + (1.0 - target.tail) * dropped
    return _kept(owner, target.probs[..., :num_categories], tail, target.first, target.description)


def _kept(owner: str, probs: Tensor, tail: Tensor, first: int, description: str) -> Target:
    """What is left of a law, normalized; at least two categories."""
    total = probs.sum(-1, keepdim=True)
    # A subnormal sum has too few bits to divide by.
    empty = total.squeeze(-1) < torch.finfo(torch.float64).tiny
    if bool(empty.any()):
        last = first + probs.shape[-1] - 1
        where = "" if empty.dim() == 0 else f" in {int(empty.sum())} of {empty.numel()} laws"
        raise ValueError(
            f"{owner}: expected some of the mass of {description} from {first:,} to {last:,}; got none"
            f"{where}; give a larger num_categories."
        )
    probs = probs / total
    if probs.shape[-1] < 2:
        probs = torch.nn.functional.pad(probs, (0, 1))
    return Target(probs, tail, first, description)


# Numbers: probabilities and samples


def _of_numbers(owner: str, given: object, num_categories: int | None) -> Target:
    """Of a tensor, an array or a sequence: floating-point numbers are probabilities, integers samples."""
    numbers = _tensor_or_array(owner, given)
    shape = tuple(numbers.shape)
    if 0 in shape:
        raise ValueError(
            f"{owner}: expected probabilities or at least one sample; got none (shape {shape}); pass numbers."
        )
    floating = numbers.is_floating_point() if isinstance(numbers, Tensor) else numbers.dtype.kind == "f"
    if floating:
        if not isinstance(numbers, Tensor):
            numbers = _tensor_of(numbers)
        return _of_probabilities(owner, numbers.detach(), num_categories)
    device = numbers.device if isinstance(numbers, Tensor) else None
    samples = numbers.cpu().numpy() if isinstance(numbers, Tensor) else numbers
    return _of_samples(owner, samples, num_categories, device)


def _tensor_or_array(owner: str, given: object) -> Tensor | np.ndarray[Any, np.dtype[Any]]:
    """Integers or floating-point numbers; TypeError for anything else."""
    if isinstance(given, Tensor):
        if given.dtype == torch.bool or given.is_complex():
            raise TypeError(
                f"{owner}: expected probabilities (floating-point numbers) or samples (integers); got a "
                f"tensor of {given.dtype}; use .double() or .long()."
            )
        return given
    is_sequence = isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray)
    if not (is_sequence or (hasattr(given, "__array__") and not isinstance(given, type))):
        raise TypeError(
            f"{owner}: expected probabilities, integer samples, or a law over integers of "
            f"torch.distributions or scipy.stats; got {shown(given)}; pass one such as "
            "torch.distributions.Poisson(50.0)."
        )
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{owner}: expected numbers in rows of one length; got {shown(given)}; fill the shorter rows "
            "with zeros, and detach tensors that require a gradient."
        ) from None
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"{owner}: expected probabilities (floating-point numbers) or samples (integers); got "
            f"{array.dtype} in {shown(given)}; convert it with float(...) or int(...)."
        )
    return array


def _tensor_of(array: np.ndarray[Any, np.dtype[Any]]) -> Tensor:
    """A copy; of dtypes that torch does not know (long doubles, another order of bytes) in float64."""
    dtype = array.dtype if array.dtype in (np.float16, np.float32) else np.dtype(np.float64)
    return torch.from_numpy(np.array(array, dtype=dtype.newbyteorder("="), order="C"))


def _of_probabilities(owner: str, probs: Tensor, num_categories: int | None) -> Target:
    if probs.dim() == 0 or probs.shape[-1] < 2:
        raise ValueError(
            f"{owner}: expected probabilities of at least 2 categories in the last dimension; got shape "
            f"{tuple(probs.shape)}; give that of every category."
        )
    whole = bool((torch.isfinite(probs) & (probs == probs.round())).all())
    if whole and bool((probs.abs() > 1).any()):
        # As Poisson.sample() returns them.
        raise ValueError(
            f"{owner}: expected probabilities, which floating-point numbers are taken for; got whole numbers "
            f"of dtype {str(probs.dtype).removeprefix('torch.')}; if they are samples, use .long() or "
            ".astype(int)."
        )
    check_probabilities(owner, probs, normalized=True)
    probs = probs.double()
    listed = " x ".join(f"{size:,}" for size in probs.shape)
    target = _kept(owner, probs, torch.zeros_like(probs[..., 0]), 0, f"{listed} probabilities")
    return target if num_categories is None else _resized(owner, target, num_categories)


def _of_samples(
    owner: str,
    samples: np.ndarray[Any, np.dtype[Any]],
    num_categories: int | None,
    device: torch.device | None,
) -> Target:
    """The shares of the values among integer samples."""
    if samples.ndim != 1:
        raise ValueError(
            f"{owner}: expected samples (integers) in one dimension; got shape {samples.shape}; flatten them "
            "or pass them row by row, and probabilities as floating-point numbers."
        )
    # As ints of Python, whose difference does not overflow.
    low, high = min(0, int(samples.min())), int(samples.max())
    size = high - low + 1
    if num_categories is None and size > MAX_CATEGORIES:
        raise ValueError(
            f"{owner}: expected samples within {MAX_CATEGORIES:,} consecutive values, 0 among them; got some "
            f"from {low:,} to {high:,}; shift or group them, or give num_categories."
        )
    size = size if num_categories is None else num_categories
    kept = samples if high < low + size else samples[samples < low + size]
    counts = np.bincount(kept.astype(np.int64) - low, minlength=size)
    share = torch.from_numpy(counts).to(device).double() / samples.size
    tail = torch.tensor((samples.size - kept.size) / samples.size, dtype=torch.float64, device=device)
    noun = "sample" if samples.size == 1 else "samples"
    return _kept(owner, share, tail, low, f"{samples.size:,} {noun}")


# Laws over integers, value by value


def _block(owner: str, law: IntegerLaw, first: int, count: int) -> Tensor:
    """Probabilities of consecutive values, if that is what they are."""
    probs = law.pmf(first, count)
    good = torch.isfinite(probs) & (probs >= 0)
    if not bool(good.all()):
        bad = probs[~good].flatten()[0].item()
        raise ValueError(
            f"{owner}: expected {law.description} to have probabilities that are at least 0 and finite; got "
            f"{bad!r}; check its parameters."
        )
    return probs


def _remaining(law: IntegerLaw, total: Tensor, last: int) -> Tensor:
    """The mass above a value, of which total is at or below it."""
    above = 1.0 - law.below - total if law.above is None else law.above(last)
    return above.clamp(min=0.0).expand(total.shape)


def _check_total(owner: str, law: IntegerLaw, total: Tensor, least: float) -> None:
    """ValueError unless the probabilities of integers sum to what they should."""
    wrong = (total > 1.0 + 1e-6) | (total < least)
    if bool(wrong.any()):
        raise ValueError(
            f"{owner}: expected the probabilities of integers under {law.description} to sum to 1; got a sum "
            f"of {total[wrong].flatten()[0].item():.6g}; pass a law over integers."
        )


def _enumerated(owner: str, law: IntegerLaw, num_categories: int | None, tail_mass: float) -> Target:
    """The probabilities of a law, value by value as far as they are needed."""
    if law.size is not None and law.size <= MAX_CATEGORIES:
        probs = _block(owner, law, law.first, law.size)
        total = probs.sum(-1) + law.below
        _check_total(owner, law, total, least=1.0 - 1e-6)
        target = _kept(owner, probs, law.below.expand(total.shape), law.first, law.description)
        return target if num_categories is None else _resized(owner, target, num_categories)
    if num_categories is None:
        probs, tails = _until(owner, law, tail_mass)
        enough = (tails <= tail_mass).flatten(end_dim=-2).all(0) if tails.dim() > 1 else tails <= tail_mass
        count = max(2, int(enough.int().argmax()) + 1)
        return _kept(owner, probs[..., :count], tails[..., count - 1], law.first, law.description)
    count = num_categories if law.size is None else min(num_categories, law.size)
    probs = _block(owner, law, law.first, count)
    total = probs.sum(-1)
    _check_total(owner, law, total, least=0.0)
    tail = law.below + _remaining(law, total, law.first + count - 1)
    target = _kept(owner, probs, tail, law.first, law.description)
    return _resized(owner, target, num_categories)


def _until(owner: str, law: IntegerLaw, tail_mass: float) -> tuple[Tensor, Tensor]:
    """Probabilities until all but tail_mass is in, and the mass left out by an end at each of them."""
    # Further than the law may go, to see what follows.
    limit = 2 * MAX_CATEGORIES if law.size is None else min(law.size, 2 * MAX_CATEGORIES)
    blocks: list[Tensor] = []
    count, total, enough = 0, torch.zeros((), dtype=torch.float64), False
    while True:
        size = min(max(count, FIRST_BLOCK), limit - count)
        blocks.append(_block(owner, law, law.first + count, size))
        mass = blocks[-1].sum(-1)
        count, total = count + size, total.to(mass) + mass
        _check_total(owner, law, total, least=0.0)
        remaining = _remaining(law, total, law.first + count - 1)
        # A block as long as all before it with nothing in it: the law has ended, and what the sum lacks is
        # rounding. To find that out, one block more than needed is looked at, unless the law says what is
        # above; otherwise a small tail would be the difference of large numbers.
        ended = (mass <= NOTHING) & (remaining < ROUNDING) & (law.above is None)
        outside = law.below + torch.where(ended, 0.0, remaining)
        before, enough = enough, bool((outside <= tail_mass).all())
        if count == limit or bool(ended.all()) or (enough and (before or law.above is not None)):
            break
    probs = torch.cat(blocks, dim=-1)
    # Summed from the far end, for the same reason.
    after = probs.flip(-1).cumsum(-1).flip(-1) - probs
    after = after / torch.where(ended, total, 1.0).unsqueeze(-1) + outside.unsqueeze(-1)
    within = min(count, MAX_CATEGORIES)
    left = after[..., within - 1].max().item()
    if left > tail_mass:
        raise ValueError(
            f"{owner}: expected all but {tail_mass:g} (tail_mass) of {law.description} to lie within "
            f"{within:,} values; got {left:.3g} outside of them; give a larger tail_mass, or num_categories."
        )
    return probs[..., :within], after[..., :within]


# torch.distributions


def _of_categorical(owner: str, law: Categorical | OneHotCategorical, num_categories: int | None) -> Target:
    """Of probabilities that are there already."""
    exact = getattr(law, "exact_logits", None)
    if isinstance(exact, Tensor):
        # Of a DiscreteLaw, whose own may be in half precision.
        probs = torch.softmax(exact.detach().double(), dim=-1)
    else:
        categorical = law if isinstance(law, Categorical) else law._categorical
        with torch.no_grad():
            probs = cast(Categorical, in_double(categorical)).probs
    description = f"{type(law).__name__}({probs.shape[-1]:,} categories)"
    if 0 in probs.shape:
        raise ValueError(
            f"{owner}: expected at least one law; got a batch of shape {tuple(law.batch_shape)}."
        )
    check_probabilities(owner, probs)
    target = _kept(owner, probs, torch.zeros_like(probs[..., 0]), 0, description)
    return target if num_categories is None else _resized(owner, target, num_categories)
