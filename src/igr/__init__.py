"""Reparameterizable distributions on the simplex for PyTorch.

The Invertible Gaussian Reparameterization (Potapczynski, Loaiza-Ganem and Cunningham, 2020) beside
Gumbel-Softmax: laws that are right at every temperature, KL divergences in closed form, and the exact
discrete law behind each relaxation. Importing this package changes nothing in torch.
"""

from igr import estimators, fitting, functional, schedules
from igr.diagnostics import diagnose
from igr.distributions import (
    BinaryConcrete,
    BinaryInvertibleGaussian,
    BinaryRelaxation,
    DiscreteLaw,
    GumbelSoftmax,
    InvertibleGaussian,
    SimplexRelaxation,
    StickTruncation,
)
from igr.transforms import (
    LogisticStickBreakingTransform,
    PlanarFlow,
    PlanarTransform,
    SoftmaxPlusPlusTransform,
)

__version__ = "0.1.0"

__all__ = [
    "BinaryConcrete",
    "BinaryInvertibleGaussian",
    "BinaryRelaxation",
    "DiscreteLaw",
    "GumbelSoftmax",
    "InvertibleGaussian",
    "LogisticStickBreakingTransform",
    "PlanarFlow",
    "PlanarTransform",
    "SimplexRelaxation",
    "SoftmaxPlusPlusTransform",
    "StickTruncation",
    "__version__",
    "diagnose",
    "estimators",
    "fitting",
    "functional",
    "schedules",
]
