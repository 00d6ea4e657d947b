"""Evaluation of trained models: bounds on log p(x), their comparison, and images to look at."""

from igr.evaluation.bounds import BOUND_KINDS, BoundKind, Estimate, estimate, per_datum_bounds
from igr.evaluation.comparison import ComparedRun, Comparison, compare
from igr.evaluation.evaluation import (
    Evaluation,
    evaluate,
    images_of_split,
    stored_evaluation,
    temperature_of,
)
from igr.evaluation.pictures import hard_reconstructions, prior_samples

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
    "hard_reconstructions",
    "images_of_split",
    "per_datum_bounds",
    "prior_samples",
    "stored_evaluation",
    "temperature_of",
]
