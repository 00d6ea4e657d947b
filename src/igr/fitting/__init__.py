"""Relaxations for given discrete laws: fits, uniform priors, and the temperature for a distance."""

from igr.fitting.fits import fit
from igr.fitting.priors import fit_uniform_prior, uniform_prior
from igr.fitting.result import Fit
from igr.fitting.targets import Target, as_target
from igr.fitting.temperature import calibrate_temperature

__all__ = [
    "Fit",
    "Target",
    "as_target",
    "calibrate_temperature",
    "fit",
    "fit_uniform_prior",
    "uniform_prior",
]
