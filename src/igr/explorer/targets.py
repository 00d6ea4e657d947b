"""Discrete laws to start from, and the parameters of a law that has one of them."""

import torch
from torch import Generator, Tensor

from igr.distributions import InvertibleGaussian
from igr.explorer.settings import PARAMETERS, Settings
from igr.fitting import fit

# Smaller probabilities lie beyond the ends of the sliders.
_LEAST = 1e-4
_FAVOURITE = 0.7


def uniform(num_categories: int) -> Tensor:
    """All categories alike."""
    return torch.full((num_categories,), 1.0 / num_categories)


def peaked(num_categories: int) -> Tensor:
    """The first category most of the time."""
    probs = torch.full((num_categories,), (1.0 - _FAVOURITE) / (num_categories - 1))
    probs[0] = _FAVOURITE
    return probs


def random(num_categories: int, seed: int) -> Tensor:
    """A law that is itself drawn uniformly."""
    weights = torch.empty(num_categories).exponential_(generator=Generator().manual_seed(seed))
    return weights / weights.sum()


def over(probs: Tensor, num_categories: int) -> Tensor:
    """A law over fewer categories, or over more that are as likely as the others on average."""
    more = torch.full((max(0, num_categories - len(probs)),), 1.0 / len(probs))
    longer = torch.cat([probs, more])[:num_categories]
    return longer / longer.sum()


def parameters_for(probs: Tensor, settings: Settings) -> tuple[float, ...]:
    """Parameters with which a law has these probabilities, to two decimals and as far as the sliders go.

    Planar layers move them on; of stick lengths those of the last category go to the others.

    Arguments:
        probs: K probabilities.
        settings: The family, the scale, the temperature and delta; their parameters have no part.

    Raises:
        RuntimeError: where Newton's method does not reach the law.
        NotImplementedError: where the law of a scale is not known.
    """
    target = probs.double().clamp_min(_LEAST)
    target = target / target.sum()
    if settings.family == "gumbel-softmax":
        logits = target.log()
        found = logits - logits.mean()
    elif settings.family in ("igr", "igr-planar"):
        found = InvertibleGaussian.from_probs(
            target, settings.scale, temperature=settings.temperature, delta=settings.delta
        ).loc
    else:
        if settings.family == "igr-sb":
            target = target[:-1] / target[:-1].sum()
        found = fit(
            target, settings.family, num_categories=settings.num_categories, scale=settings.scale
        ).parameters["loc"]
    return tuple(round(value, 2) + 0.0 for value in found.clamp(*PARAMETERS).tolist())
