"""Estimators by name, as configs and tables call them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from igr.estimators.control_variates import REBAR, RELAX
from igr.estimators.estimator import Estimator
from igr.estimators.reparameterized import (
    GappedStraightThrough,
    GumbelStraightThrough,
    Pathwise,
    RaoBlackwellStraightThrough,
    ReinMax,
    StraightThrough,
)
from igr.estimators.score import VIMCO, DisARM, ScoreFunction
from igr.validation import check_name

ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "pathwise": Pathwise,
    "straight_through": StraightThrough,
    "gumbel_straight_through": GumbelStraightThrough,
    "rao_blackwell_straight_through": RaoBlackwellStraightThrough,
    "reinmax": ReinMax,
    "gapped_straight_through": GappedStraightThrough,
    "score_function": ScoreFunction,
    "score_function_moving_average": partial(ScoreFunction, "moving_average"),
    "score_function_leave_one_out": partial(ScoreFunction, "leave_one_out"),
    "vimco": VIMCO,
    "rebar": REBAR,
    "relax": RELAX,
    "disarm": DisARM,
}


def by_name(name: str, **options: Any) -> Estimator:
    """The estimator of that name, with options of its class.

    Arguments:
        name: A key of :data:`~igr.estimators.ESTIMATORS`.
        options: What the class takes, by name.

    Raises:
        TypeError: The class has no such option.
        ValueError: There is none; the message lists them.

    Example:
        >>> by_name("reinmax", temperature=1.3)
        ReinMax(temperature=1.3)
    """
    check_name("estimators.by_name", "name", name, ESTIMATORS)
    return ESTIMATORS[name](**options)
