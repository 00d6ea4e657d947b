"""Laws over integers, value by value: what torch's and scipy's distributions say of themselves.

Those of scipy are known by what they can do: the library does not import it.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, constraints
from torch.distributions.utils import lazy_property

from igr.validation import broadcast_shapes

__all__ = ["IntegerLaw", "in_double", "is_from_scipy", "scipy_law", "torch_law"]


@dataclass(frozen=True)
class IntegerLaw:
    """A law over integers: how likely each value is, and where its support lies."""

    pmf: Callable[[int, int], Tensor]  # of so many values from the given one on, float64 [*B, n]
    first: int
    size: int | None  # how many values the support has from the first on; None if it has no end
    description: str
    below: Tensor  # the mass below the first value, [*B] or a number
    above: Callable[[int], Tensor] | None = None  # the mass above a value, where the law knows it


def torch_law(owner: str, given: Distribution) -> IntegerLaw:
    """That of a distribution of torch; TypeError or ValueError, with the owner's name, where it is none."""
    name = type(given).__name__
    if tuple(given.event_shape):
        discrete = callable(getattr(given, "discrete", None))
        remedy = "pass its discrete() law" if discrete else "pass a law of single integers"
        raise TypeError(
            f"{owner}: expected a law over integers; got {name}, whose draws are of shape "
            f"{tuple(given.event_shape)}; {remedy}."
        )
    if 0 in given.batch_shape:
        raise ValueError(
            f"{owner}: expected at least one law; got a batch of shape {tuple(given.batch_shape)}."
        )
    law = in_double(given)
    lower, upper = _ends(owner, law)
    description = _described(given)
    device = _device(law)
    # The components of a mixture have ends of their own, and are zero outside of them.
    ends = () if isinstance(law, MixtureSameFamily) else (lower.to(device), upper.to(device))

    def pmf(start: int, count: int) -> Tensor:
        values = torch.arange(start, start + count, dtype=torch.float64, device=device)
        values = values.reshape((-1,) + (1,) * len(law.batch_shape))
        with torch.no_grad():
            log_probs = law.log_prob(values).double()
            shape = broadcast_shapes(log_probs.shape[1:], law.batch_shape)
            log_probs = log_probs.expand(log_probs.shape[:1] + shape)
            if ends:
                # Where the supports of a batch differ, the formula may be anything outside of one.
                inside = (values >= ends[0]) & (values <= ends[1])
                log_probs = torch.where(inside, log_probs, -torch.inf)
            return torch.exp(log_probs).movedim(0, -1)

    first = _whole_end(owner, description, lower.min().item())
    last = upper.max().item()
    size = None if math.isinf(last) else _whole_end(owner, description, last) - first + 1
    below = torch.zeros((), dtype=torch.float64, device=device)
    return IntegerLaw(pmf, first, size, description, below)


def in_double(law: Distribution) -> Distribution:
    """A copy with float64 parameters, as they were given, that checks no values.

    Not made by the constructor, whose arguments a law of a user's own need not keep. Torch keeps probs that
    it made of logits (and the other way) beside them, with the rounding of their dtype; these are dropped.
    """
    new = copy.copy(law)
    derived = [
        name
        for name in new.__dict__
        if isinstance(inspect.getattr_static(type(law), name, None), lazy_property)
    ]
    # The first of them is the one that the constructor set.
    given = next((name for name in derived if name in _parameters(law)), None)
    for name, value in list(new.__dict__.items()):
        if name in derived and name != given:
            del new.__dict__[name]
        elif isinstance(value, Tensor) and value.is_floating_point():
            new.__dict__[name] = value.detach().double()
        elif isinstance(value, Distribution):
            new.__dict__[name] = in_double(value)
    new.__dict__["_validate_args"] = False
    return new


def _parameters(law: Distribution) -> list[str]:
    """Names of its parameters; a distribution need not say them."""
    try:
        return list(law.arg_constraints)
    except NotImplementedError:
        return []


def _device(law: Distribution) -> torch.device:
    """That of its parameters."""
    for value in law.__dict__.values():
        if isinstance(value, Tensor):
            return value.device
        if isinstance(value, Distribution):
            return _device(value)
    return torch.device("cpu")


def _ends(owner: str, law: Distribution) -> tuple[Tensor, Tensor]:
    """The lower and the upper end of each support; infinite if there is none."""
    name = type(law).__name__
    try:
        support: Any = law.support
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        discrete = bool(support.is_discrete)
    except NotImplementedError:
        raise TypeError(
            f"{owner}: expected a law over integers; got {name}, which does not say its support; give it one "
            "of torch.distributions.constraints."
        ) from None
    if not discrete:
        raise TypeError(
            f"{owner}: expected a law over integers; got {name}, which is continuous; pass a discrete one "
            "such as torch.distributions.Poisson(50.0)."
        )
    lower, upper = getattr(support, "lower_bound", None), getattr(support, "upper_bound", math.inf)
    if isinstance(support, type(constraints.boolean)):
        lower, upper = 0, 1
    if lower is None:
        raise TypeError(
            f"{owner}: expected a law over integers with a lower end; got {name} with the support {support}; "
            "pass its probabilities or samples of it."
        )
    return (
        torch.as_tensor(lower, dtype=torch.float64).detach(),
        torch.as_tensor(upper, dtype=torch.float64).detach(),
    )


def _whole_end(owner: str, description: str, end: float) -> int:
    """An end of a support as an int; ValueError if it is none."""
    if not math.isfinite(end) or end != math.floor(end):
        raise ValueError(
            f"{owner}: expected {description} to have a support of integers; got one that ends at {end!r}; "
            "check its parameters."
        )
    return int(end)


def _described(law: Distribution) -> str:
    """Its name with the parameters it was made with."""
    name = type(law).__name__
    if isinstance(law, MixtureSameFamily):
        component = law.component_distribution
        return f"{name}({component.batch_shape[-1]} x {type(component).__name__})"
    kept = in_double(law).__dict__
    parameters = [
        f"{parameter}={_brief(kept[parameter])}"
        for parameter in _parameters(law)
        if isinstance(kept.get(parameter), Tensor)
    ]
    return f"{name}({', '.join(parameters)})" if parameters else name


def _brief(value: Tensor) -> str:
    """A number, a few of them, or the shape of many."""
    if value.dim() == 0:
        return f"{value.item():g}"
    if value.dim() == 1 and value.numel() <= 4:
        return f"[{', '.join(f'{number:g}' for number in value.tolist())}]"
    return f"<shape {tuple(value.shape)}>"


def is_from_scipy(target: object) -> bool:
    """Whether it looks like a distribution of scipy, old style or new."""
    return any(callable(getattr(target, name, None)) for name in ("pmf", "pdf")) and callable(
        getattr(target, "support", None)
    )


def scipy_law(owner: str, given: Any, tail_mass: float) -> IntegerLaw:
    """That of a distribution of scipy; one without a lower end starts where half of tail_mass is below."""
    unfrozen = (
        f"{owner}: expected a distribution of scipy.stats with its parameters; got {_scipy_name(given)} "
        "without; give them, as in scipy.stats.poisson(50)."
    )
    if isinstance(given, type):
        raise TypeError(unfrozen)
    # The new style gives continuous laws a pmf too, zero everywhere.
    families = {family.__name__ for family in type(given).__mro__}
    if not callable(getattr(given, "pmf", None)) or "ContinuousDistribution" in families:
        raise TypeError(
            f"{owner}: expected a law over integers; got {_scipy_name(given)}, which is continuous; pass a "
            "discrete one such as scipy.stats.poisson(50)."
        )
    try:
        support = given.support()
    except TypeError:
        raise TypeError(unfrozen) from None
    description = _scipy_name(given)
    lower, upper = np.broadcast_arrays(*(np.asarray(end, dtype=np.float64) for end in support))
    if lower.size == 0:
        raise ValueError(f"{owner}: expected at least one law; got a batch of shape {lower.shape}.")

    def evaluate(function: Callable[[Any], Any], values: Any) -> Tensor:
        # Far out scipy warns of what rounds to zero.
        with np.errstate(all="ignore"):
            return torch.from_numpy(np.array(function(values), dtype=np.float64))

    def pmf(start: int, count: int) -> Tensor:
        values = np.arange(start, start + count).reshape((-1,) + (1,) * lower.ndim)
        return evaluate(given.pmf, values).movedim(0, -1)

    below = torch.zeros((), dtype=torch.float64)
    bottom = float(lower.min())
    if bottom == -math.inf:
        quantile, cdf = (
            getattr(given, "ppf", None) or getattr(given, "icdf", None),
            getattr(given, "cdf", None),
        )
        if not (callable(quantile) and callable(cdf)):
            raise TypeError(
                f"{owner}: expected a law over integers with a lower end, or with quantiles and a cdf; got "
                f"{description}; pass its probabilities or samples of it."
            )
        # The smallest value with at least so much at or below it: less than that is strictly below.
        bottom = evaluate(quantile, 0.5 * tail_mass).min().item()
        below = evaluate(cdf, bottom - 1.0)
    first, top = _whole_end(owner, description, bottom), float(upper.max())
    size = None if top == math.inf else _whole_end(owner, description, top) - first + 1
    survival = getattr(given, "sf", None) or getattr(given, "ccdf", None)
    above = (lambda last: evaluate(survival, last)) if callable(survival) else None
    return IntegerLaw(pmf, first, size, description, below, above)


def _scipy_name(law: Any) -> str:
    """Such as binom(12, 0.3)."""
    if isinstance(law, type):
        return law.__name__
    family = getattr(law, "dist", None)
    if family is None and " at 0x" not in repr(law):
        return _cut(str(law))
    if family is None:
        # An address says nothing, and changes from run to run; nor does the name that scipy gives by itself.
        name = getattr(law, "name", None)
        return type(law).__name__ if name in (None, "Distribution") else str(name)
    given = [str(value) for value in getattr(law, "args", ())]
    given += [f"{name}={value}" for name, value in getattr(law, "kwds", {}).items()]
    return f"{getattr(family, 'name', None) or type(family).__name__}({_cut(', '.join(given))})"


def _cut(text: str) -> str:
    """On one line, and short enough for a sentence."""
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
