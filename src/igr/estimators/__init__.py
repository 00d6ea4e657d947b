"""Gradients of expectations over discrete laws: estimators with one signature, by class or by name."""

from igr.estimators.control_variates import REBAR, RELAX, ControlNetwork
from igr.estimators.estimator import Estimator, Surrogate
from igr.estimators.names import ESTIMATORS, by_name
from igr.estimators.probing import GradientMoments, Probe, ProbedEstimator, gradient_moments, probe
from igr.estimators.reparameterized import (
    GappedStraightThrough,
    GumbelStraightThrough,
    Pathwise,
    RaoBlackwellStraightThrough,
    ReinMax,
    StraightThrough,
)
from igr.estimators.score import VIMCO, DisARM, ScoreFunction

__all__ = [
    "ESTIMATORS",
    "REBAR",
    "RELAX",
    "VIMCO",
    "ControlNetwork",
    "DisARM",
    "Estimator",
    "GappedStraightThrough",
    "GradientMoments",
    "GumbelStraightThrough",
    "Pathwise",
    "Probe",
    "ProbedEstimator",
    "RaoBlackwellStraightThrough",
    "ReinMax",
    "ScoreFunction",
    "StraightThrough",
    "Surrogate",
    "by_name",
    "gradient_moments",
    "probe",
]
