"""From the settings of the page to the law, its noise, its uniform prior and the divergences."""

import copy
import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.distributions import Transform, kl_divergence

from igr.distributions import DiscreteLaw, GumbelSoftmax, InvertibleGaussian, SimplexRelaxation
from igr.explorer.settings import Settings
from igr.fitting import Fit, fit_uniform_prior
from igr.transforms import LogisticStickBreakingTransform, PlanarFlow, PlanarTransform

NUM_LAYERS = 4
# Draws of the discrete law where it is not known exactly; others than those that are shown.
NUM_DRAWS = 20_000
DRAWS_SEED = 10_000


class Number(NamedTuple):
    """A number, with its standard error where it is an estimate."""

    value: float
    error: float | None


def relaxation(settings: Settings) -> SimplexRelaxation:
    """The law, in float32 as the copied lines build it."""
    parameters = torch.tensor(settings.parameters)
    if settings.family == "gumbel-softmax":
        return GumbelSoftmax(settings.temperature, logits=parameters)
    return InvertibleGaussian(
        parameters, settings.scale, settings.temperature, transform(settings), settings.delta
    )


def unchecked(law: SimplexRelaxation, dtype: torch.dtype) -> SimplexRelaxation:
    """The law in another precision, without checks of points, for the first of which torch imports much."""
    if isinstance(law, GumbelSoftmax):
        return GumbelSoftmax(law.temperature, logits=law.logits.to(dtype), validate_args=False)
    if not isinstance(law, InvertibleGaussian):
        raise TypeError(f"unchecked: expected a law of the page; got {type(law).__name__}.")
    flow = law.transform
    return InvertibleGaussian(
        law.loc.to(dtype),
        law.scale.to(dtype),
        law.temperature,
        # A module changes in place.
        copy.deepcopy(flow).to(dtype) if isinstance(flow, PlanarFlow) else flow,
        law.delta,
        validate_args=False,
    )


def transform(settings: Settings) -> Transform | None:
    """What stands between the Gaussians and the softmax."""
    if settings.family in ("igr-sb", "igr-sb-log"):
        return LogisticStickBreakingTransform("length" if settings.family == "igr-sb" else "log")
    if settings.family != "igr-planar":
        return None
    generator = Generator().manual_seed(settings.flow_seed)
    flow = PlanarFlow(settings.num_categories, NUM_LAYERS, generator=generator).requires_grad_(False)
    layer: PlanarTransform
    for layer in flow.layers:  # type: ignore[assignment]
        layer.u += settings.strength * torch.randn(settings.num_categories - 1, generator=generator)
    return flow


def noise(settings: Settings, law: SimplexRelaxation) -> Tensor:
    """Noise that is the same for all parameters and temperatures of a law with so many categories."""
    return law.draw_noise((settings.num_samples,), Generator().manual_seed(settings.seed))


def discrete(settings: Settings, law: SimplexRelaxation) -> DiscreteLaw:
    """The law of the largest coordinate: exact, or from draws where it has to be."""
    if settings.is_exact:
        return law.discrete()
    generator = Generator().manual_seed(DRAWS_SEED)
    return law.discrete("monte_carlo", num_samples=NUM_DRAWS, generator=generator)


def uniform(settings: Settings) -> SimplexRelaxation:
    """The law to which the KL is taken, whose discrete law is uniform; that of planar flows is IGR-I."""
    count, temperature = settings.num_categories, settings.temperature
    if settings.family == "gumbel-softmax":
        return GumbelSoftmax(temperature, logits=torch.zeros(count))
    if settings.family in ("igr", "igr-planar"):
        return InvertibleGaussian.uniform(count, temperature, delta=settings.delta)
    prior = _fitted_prior(count, settings.family).distribution(temperature)
    if settings.family == "igr-sb" and isinstance(prior, InvertibleGaussian):
        # No delta up to one changes which of the lengths wins, and with the same one the KL is closed form.
        return InvertibleGaussian(prior.loc, prior.scale, temperature, prior.transform, settings.delta)
    return prior


@lru_cache(maxsize=32)
def _fitted_prior(num_categories: int, family: str) -> Fit:
    return fit_uniform_prior(num_categories, family, cache=False)


def relaxed_kl(settings: Settings, law: SimplexRelaxation, prior: SimplexRelaxation, noise: Tensor) -> Number:
    """The KL of the relaxed laws in nats: in closed form, or from the points that are shown."""
    if settings.has_closed_kl:
        return Number(kl_divergence(law, prior).item(), None)
    _, log_prob = law.rsample_and_log_prob(noise=noise)
    other = unchecked(prior, prior.dtype).log_prob_of_log(law.rsample_log(noise=noise))
    differences = (log_prob - other).double()
    return Number(differences.mean().item(), differences.std().item() / math.sqrt(len(differences)))


def discrete_kl(settings: Settings, found: DiscreteLaw, prior: SimplexRelaxation) -> Number:
    """The KL of the discrete laws in nats."""
    other = prior.discrete()
    value = kl_divergence(found, other).item()
    if settings.is_exact:
        return Number(value, None)
    taken = found.probs > 0
    ratios = (found.exact_logits - other.exact_logits)[taken]
    variance = (found.probs[taken] * (ratios - value) ** 2).sum().item()
    return Number(value, math.sqrt(variance / NUM_DRAWS))
