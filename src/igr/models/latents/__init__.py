"""Latents: the seam between networks, which give numbers, and laws.

A model holds one latent and never asks which. A new relaxation is one new class here and its line in
:data:`LATENTS`.
"""

from igr.models.latents.bernoulli import BernoulliLatent
from igr.models.latents.discrete import DiscreteLatent
from igr.models.latents.gaussian import (
    CONTINUOUS_KL,
    DISCRETE_KL,
    GaussianLatent,
    JointLatent,
    JointPoints,
    JointPosterior,
)
from igr.models.latents.gumbel_softmax import GumbelSoftmaxLatent
from igr.models.latents.invertible_gaussian import InvertibleGaussianLatent, NormalLatent
from igr.models.latents.latent import ContinuousLatent, Latent, LatentSample
from igr.models.latents.planar import PlanarLatent
from igr.models.latents.stick_breaking import (
    MASS_CUT,
    NUM_STICKS,
    LogStickBreakingLatent,
    StickBreakingLatent,
    TruncatedStickBreakingLatent,
)

# The categorical ones; a Gaussian latent is no relaxation.
LATENTS: dict[str, type[DiscreteLatent]] = {
    "igr": InvertibleGaussianLatent,
    "igr-planar": PlanarLatent,
    "igr-sb": StickBreakingLatent,
    "igr-sb-log": LogStickBreakingLatent,
    "igr-sb-truncated": TruncatedStickBreakingLatent,
    "gumbel-softmax": GumbelSoftmaxLatent,
    "bernoulli": BernoulliLatent,
}
# The latent that has no categorical part.
GAUSSIAN = "gaussian"

__all__ = [
    "CONTINUOUS_KL",
    "DISCRETE_KL",
    "GAUSSIAN",
    "LATENTS",
    "MASS_CUT",
    "NUM_STICKS",
    "BernoulliLatent",
    "ContinuousLatent",
    "DiscreteLatent",
    "GaussianLatent",
    "GumbelSoftmaxLatent",
    "InvertibleGaussianLatent",
    "JointLatent",
    "JointPoints",
    "JointPosterior",
    "Latent",
    "LatentSample",
    "LogStickBreakingLatent",
    "NormalLatent",
    "PlanarLatent",
    "StickBreakingLatent",
    "TruncatedStickBreakingLatent",
]
