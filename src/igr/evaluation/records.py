"""Values as they stand in the ``result.json`` of a run, checked."""

import math
from typing import Any

from igr.errors import shown
from igr.evaluation.bounds import Estimate

# What every evaluation of a run counts.
COUNTS = ("num_data", "num_samples", "seed", "step", "epoch")


def read_integer(value: object) -> int:
    """An int; TypeError for anything else."""
    if type(value) is not int:
        raise TypeError(f"{shown(value)} is not an integer")
    return value


def read_number(value: object) -> float:
    """A finite number; TypeError for anything else."""
    try:
        if isinstance(value, float | int) and math.isfinite(value):
            return float(value)
    except OverflowError:
        # A whole number that no float comes near to.
        pass
    raise TypeError(f"{shown(value)} is not a finite number")


def read_estimate(record: dict[str, Any]) -> Estimate:
    """An estimate with its standard error, if there is one."""
    error = record["standard_error"]
    return Estimate(read_number(record["value"]), None if error is None else read_number(error))
