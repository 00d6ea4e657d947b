"""Evaluation of trained models: bounds on log p(x), their comparison, and distances to the vertices."""

from igr.evaluation.bounds import BOUND_KINDS, BoundKind, Estimate, estimate, per_datum_bounds
from igr.evaluation.comparison import ComparedRun, Comparison, compare
from igr.evaluation.evaluation import (
    Evaluation,
    evaluate,
    images_of_split,
    stored_evaluation,
    temperature_of,
)
from igr.evaluation.temperature import CalibratedTemperature, calibrate, stored_calibration

__all__ = [
    "BOUND_KINDS",
    "BoundKind",
    "CalibratedTemperature",
    "ComparedRun",
    "Comparison",
    "Estimate",
    "Evaluation",
    "calibrate",
    "compare",
    "estimate",
    "evaluate",
    "images_of_split",
    "per_datum_bounds",
    "stored_calibration",
    "stored_evaluation",
    "temperature_of",
]
