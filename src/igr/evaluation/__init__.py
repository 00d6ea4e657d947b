"""Evaluation of trained models: bounds on log p(x), their comparison, and distances to the vertices."""

from igr.evaluation.bounds import BOUND_KINDS, BoundKind, Estimate, estimate, per_datum_bounds
from igr.evaluation.compared_runs import ComparedRun, failed_runs, read_runs, runs_to_csv
from igr.evaluation.comparison import Comparison, compare, compare_runs
from igr.evaluation.evaluation import (
    Components,
    Evaluation,
    evaluate,
    images_of_split,
    num_passed,
    stored_evaluation,
    temperature_of,
)
from igr.evaluation.grouped import GroupedComparison, compare_groups, has_groups
from igr.evaluation.rows import Row, Section, in_words, labels, words
from igr.evaluation.selection import selection_bound
from igr.evaluation.temperature import (
    CalibratedTemperature,
    calibrate,
    posterior_samples,
    stored_calibration,
)

__all__ = [
    "BOUND_KINDS",
    "BoundKind",
    "CalibratedTemperature",
    "ComparedRun",
    "Comparison",
    "Components",
    "Estimate",
    "Evaluation",
    "GroupedComparison",
    "Row",
    "Section",
    "calibrate",
    "compare",
    "compare_groups",
    "compare_runs",
    "estimate",
    "evaluate",
    "failed_runs",
    "has_groups",
    "images_of_split",
    "in_words",
    "labels",
    "num_passed",
    "per_datum_bounds",
    "posterior_samples",
    "read_runs",
    "runs_to_csv",
    "selection_bound",
    "stored_calibration",
    "stored_evaluation",
    "temperature_of",
    "words",
]
