"""Evaluation of trained models: bounds on log p(x) and their comparison."""

from igr.evaluation.bounds import BOUND_KINDS, BoundKind, Estimate, estimate, per_datum_bounds
from igr.evaluation.comparison import ComparedRun, Comparison, compare
from igr.evaluation.evaluation import (
    Evaluation,
    evaluate,
    images_of_split,
    stored_evaluation,
    temperature_of,
)

__all__ = [
    "BOUND_KINDS",
    "BoundKind",
    "ComparedRun",
    "Comparison",
    "Estimate",
    "Evaluation",
    "compare",
    "estimate",
    "evaluate",
    "images_of_split",
    "per_datum_bounds",
    "stored_evaluation",
    "temperature_of",
]
