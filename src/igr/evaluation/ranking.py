"""Which figures of one kind are the best, as far as their standard errors can tell."""

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from igr.evaluation.bounds import Estimate

Key = TypeVar("Key", bound=Hashable)

# Standard errors of a difference within which it says nothing about which is ahead.
TIE = 2.0


def best(figures: Mapping[Key, Estimate]) -> tuple[Key, ...]:
    """The key of the highest figure, and then those that are not told apart from it.

    That is within two standard errors of the difference, or where one has no standard error. Only
    figures of one kind that were measured alike may be ranked. A single one is the best of nothing.
    """
    if len(figures) < 2:
        return ()
    first, *others = sorted(figures, key=lambda key: figures[key].value, reverse=True)
    return (first, *(key for key in others if _tied(figures[first], figures[key])))


def _tied(a: Estimate, b: Estimate) -> bool:
    if a.standard_error is None or b.standard_error is None:
        return True
    return abs(a.value - b.value) <= TIE * math.hypot(a.standard_error, b.standard_error)
