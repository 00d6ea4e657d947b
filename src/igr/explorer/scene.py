"""All that the page shows for one state, as arrays and numbers."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from igr.diagnostics import vertex_distance
from igr.distributions import InvertibleGaussian, SimplexRelaxation
from igr.explorer import laws
from igr.explorer.laws import Number
from igr.explorer.lines import lines
from igr.explorer.settings import TEMPERATURES, Settings

Array: TypeAlias = NDArray[np.floating]

# Pixels of the density along each side of the square around the triangle.
PIXELS = 140
# Places of the curves.
NUM_TEMPERATURES = 25
CURVE = 400
# Of the points the first so many make the curves of the distance.
CURVE_POINTS = 1000
LEVELS = (0.05, 0.5, 0.95)
# Points whose weights are drawn one by one where K is above three.
STRIP_POINTS = 400
# A point so near counts as being at a vertex.
NEAR = 0.1


@dataclass(frozen=True, eq=False)
class Scene:
    """What is shown.

    Attributes:
        settings: The state of the page.
        law: The law as text.
        points: The points, [N, K].
        winners: The place of the largest coordinate of each point, [N].
        distances: The Euclidean distance of each point to its nearest vertex, [N].
        median_distance: Their median.
        density: For K = 3 the logarithm of the density over that of the uniform law on the simplex, for each
            pixel of the square around the triangle; NaN outside, minus infinity where no point falls. For
            K = 2 the density of the first coordinate at :func:`curve_places`. Else ``None``.
        probs: The discrete law, [K].
        probs_error: Its standard error where it is an estimate.
        frequencies: How often each coordinate of the points is the largest, [K].
        frequencies_error: Their standard errors.
        temperatures: Those of the curves.
        quantiles: Of the distance at these temperatures, a row for each of :data:`LEVELS`.
        relaxed_kl: The KL to the uniform prior in nats.
        discrete_kl: That of the discrete laws.
        prior: The uniform prior as text.
        prior_probs: Its discrete law.
        prior_mean: The first of its means; ``None`` for logits.
        lines: The program that builds all this.
    """

    settings: Settings
    law: str
    points: Array
    winners: NDArray[np.integer]
    distances: Array
    median_distance: float
    density: Array | None
    probs: Array
    probs_error: Array | None
    frequencies: Array
    frequencies_error: Array
    temperatures: Array
    quantiles: Array
    relaxed_kl: Number
    discrete_kl: Number
    prior: str
    prior_probs: Array
    prior_mean: float | None
    lines: str

    @property
    def share_near(self) -> float:
        """The share of the points that are at a vertex, but for :data:`NEAR`."""
        return float((self.distances < NEAR).mean())

    @property
    def share_on_pixels(self) -> float:
        """How much of the mass the pixels of the triangle hold; at low temperatures it lies between them."""
        if self.settings.num_categories != 3 or self.density is None:
            raise ValueError(
                f"expected 3 categories for a triangle; got {self.settings.num_categories}; see the points"
            )
        # A pixel of the unit square is worth two on the triangle, whose area there is a half.
        return float(np.exp(self.density[np.isfinite(self.density)]).sum()) * 2 / PIXELS**2

    @property
    def farthest(self) -> float:
        """The distance of the centre of the simplex to the vertices, the largest there is."""
        return math.sqrt(1.0 - 1.0 / self.settings.num_categories)


@torch.no_grad()
def scene(settings: Settings) -> Scene:
    """Computes what is shown.

    Raises:
        ValueError: and NotImplementedError or RuntimeError, where the library refuses the law.
    """
    law = laws.relaxation(settings)
    noise = laws.noise(settings, law)
    prior = laws.uniform(settings)
    found = laws.discrete(settings, law)
    frequencies = law.discrete("monte_carlo", noise=noise)
    distances = vertex_distance(law.rsample_log(noise=noise))
    temperatures, quantiles = _distance_curves(replace(settings, temperature=1.0))
    error = found.standard_error
    return Scene(
        settings=settings,
        law=repr(law),
        points=law.rsample(noise=noise).numpy(),
        winners=law.category(noise).numpy(),
        distances=distances.numpy(),
        median_distance=distances.median().item(),
        density=_density(law),
        probs=found.probs.numpy(),
        probs_error=None if error is None else error.numpy(),
        frequencies=frequencies.probs.numpy(),
        frequencies_error=_standard_error(frequencies.standard_error).numpy(),
        temperatures=temperatures,
        quantiles=quantiles,
        relaxed_kl=laws.relaxed_kl(settings, law, prior, noise),
        discrete_kl=laws.discrete_kl(settings, found, prior),
        prior=repr(prior),
        prior_probs=prior.discrete().probs.numpy(),
        prior_mean=prior.loc[0].item() if isinstance(prior, InvertibleGaussian) else None,
        lines=lines(settings),
    )


@lru_cache(maxsize=8)
@torch.no_grad()
def _distance_curves(settings: Settings) -> tuple[Array, Array]:
    """Quantiles of the distance at all temperatures, from settings at temperature one."""
    law = laws.relaxation(settings)
    noise = laws.noise(settings, law)[:CURVE_POINTS]
    temperatures = np.geomspace(*TEMPERATURES, NUM_TEMPERATURES)
    # At temperature one the exponents are the log-ratios but for delta, so what comes before them, which may
    # be a flow, is computed once.
    log_z = law.rsample_log(noise=noise)
    log_delta = math.log(law.delta) if isinstance(law, InvertibleGaussian) else 0.0
    exponents = log_z[:, :-1] - log_z[:, -1:] + log_delta
    ratios = exponents / torch.from_numpy(temperatures).float()[:, None, None] - log_delta
    distances = vertex_distance(torch.log_softmax(pad(ratios, (0, 1)), dim=-1))
    return temperatures, torch.quantile(distances, torch.tensor(LEVELS), dim=-1).numpy()


def _density(law: SimplexRelaxation) -> Array | None:
    if law.num_categories == 3:
        return _on_triangle(laws.unchecked(law, torch.float64))
    if law.num_categories == 2:
        first = torch.from_numpy(curve_places())
        log_z = torch.stack([first, 1.0 - first], dim=-1).log()
        return laws.unchecked(law, torch.float64).log_prob_of_log(log_z).exp().numpy()
    return None


def curve_places() -> Array:
    """Where the density of the first of two coordinates is computed."""
    return (np.arange(CURVE) + 0.5) / CURVE


def _on_triangle(law: SimplexRelaxation) -> Array:
    log_z, inside = _pixels()
    density = torch.full(inside.shape, torch.nan, dtype=torch.float64)
    # The density of the uniform law, in the coordinates that all densities are in.
    density[inside] = law.log_prob_of_log(log_z) - math.log(2.0)
    return density.float().numpy()


@lru_cache(maxsize=1)
def _pixels() -> tuple[Tensor, Tensor]:
    """Logarithms of the barycentric coordinates of the pixels in the triangle, and which these are."""
    centres = (torch.arange(PIXELS, dtype=torch.float64) + 0.5) / PIXELS
    third, across = torch.meshgrid(centres, centres, indexing="ij")
    second = across - 0.5 * third
    z = torch.stack([1.0 - second - third, second, third], dim=-1)
    # Pixels that the outline cuts are drawn as if they were just inside.
    inside = (z > -0.5 / PIXELS).all(-1)
    z = z[inside].clamp_min(0.1 / PIXELS)
    return torch.log(z / z.sum(-1, keepdim=True)), inside


def _standard_error(error: Tensor | None) -> Tensor:
    if error is None:
        raise TypeError("expected an estimated law, which has a standard error; got an exact one")
    return error
