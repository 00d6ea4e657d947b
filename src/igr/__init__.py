"""Reparameterizable distributions on the simplex for PyTorch.

The Invertible Gaussian Reparameterization (Potapczynski, Loaiza-Ganem and Cunningham, 2020) beside
Gumbel-Softmax: laws that are right at every temperature, KL divergences in closed form, and the exact
discrete law behind each relaxation. Importing this package changes nothing in torch.
"""

from igr import functional
from igr.distributions import DiscreteLaw, GumbelSoftmax, InvertibleGaussian, SimplexRelaxation
from igr.transforms import LogisticStickBreakingTransform, SoftmaxPlusPlusTransform

__version__ = "0.1.0"

__all__ = [
    "DiscreteLaw",
    "GumbelSoftmax",
    "InvertibleGaussian",
    "LogisticStickBreakingTransform",
    "SimplexRelaxation",
    "SoftmaxPlusPlusTransform",
    "__version__",
    "functional",
]
