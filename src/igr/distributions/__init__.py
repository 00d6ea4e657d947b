"""Distributions on the simplex and the discrete laws behind them."""

from igr.distributions import kl as _registers_divergences  # noqa: F401
from igr.distributions.binary import BinaryConcrete, BinaryInvertibleGaussian
from igr.distributions.binary_relaxation import BinaryRelaxation
from igr.distributions.discrete import DiscreteLaw
from igr.distributions.estimates import MeanEstimate
from igr.distributions.gumbel_softmax import GumbelSoftmax
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.relaxation import SimplexRelaxation
from igr.distributions.sticks import CutSticks, StickTruncation

__all__ = [
    "BinaryConcrete",
    "BinaryInvertibleGaussian",
    "BinaryRelaxation",
    "CutSticks",
    "DiscreteLaw",
    "GumbelSoftmax",
    "InvertibleGaussian",
    "MeanEstimate",
    "SimplexRelaxation",
    "StickTruncation",
]
