r"""Bounds on the log-likelihood of a trained mixture model, and what its components are used for.

Every sample has a point of each component, and a component counts by its weight, so that a rare one is not
left to chance: an importance weight of a sample is that of all its components together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from igr.data import PreparedImages
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, RELAXED_ELBO
from igr.evaluation.samples import (
    DATA_PER_DRAW,
    ELEMENT_BUDGET,
    SAMPLES_PER_DRAW,
    Folded,
    Samples,
    check_sizes,
)
from igr.models.dlgmm import DLGMM


@dataclass(frozen=True)
class MixtureFigures:
    """What is found of a mixture model.

    Arguments:
        bounds: By their keys in :data:`igr.evaluation.BOUND_KINDS`, each float64 on the CPU with shape
            :math:`(N,)`, in nats.
        weights: The mean weights of the components for each datum, with shape :math:`(N, K)`.
        shares: Their posterior probabilities given the datum, by the importance weights, of the same shape.
    """

    bounds: dict[str, Tensor]
    weights: Tensor
    shares: Tensor


@torch.no_grad()
def dlgmm_bounds(
    model: DLGMM,
    images: Tensor | PreparedImages,
    temperature: float,
    *,
    num_samples: int,
    seed: int = 0,
    element_budget: int = ELEMENT_BUDGET,
    progress: Callable[[int], object] | None = None,
) -> MixtureFigures:
    r"""Bounds of every datum, and what it says of the components.

    With :math:`\pi_s` and :math:`z_{sk}` drawn from the posterior,

    .. math::
        w_{sk} &= \pi_{sk} \frac{p(x \mid z_{sk}) N(z_{sk}; m_k, I)}{q_k(z_{sk} \mid x)}
        \frac{p(\pi_s)}{q(\pi_s \mid x)} \\
        \text{IW bound} &= \log \tfrac1S \sum_s \sum_k w_{sk}

    and the ELBO is the mean of the bound that was trained, over the same draws and all components.

    The figures of a datum depend on the seed, the datum, its place among the data, the kind of device and, in
    the last block of 32, on how many are in it; but for rounding on nothing else. The first samples of a
    longer evaluation are those of a shorter one.

    Arguments:
        model: The model, in evaluation mode; its device is where the work is done.
        images: In the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: Of logit-normal weights.
        num_samples: The number S of samples for each datum.
        seed: Together with the position of a datum and of a sample it fixes the noise.
        element_budget: Elements of the largest tensor that one chunk of samples may make, as far as a single
            sample of 32 data leaves a choice. Memory does not grow with S.
        progress: Called with the number of data done, after every 32.

    Raises:
        UserError: ``num_samples`` is below one, or there are no images.
    """
    check_sizes(images, num_samples)
    device = next(model.parameters()).device
    found: list[tuple[Tensor, ...]] = []
    for position, first in enumerate(range(0, len(images), DATA_PER_DRAW)):
        x = images[first : first + DATA_PER_DRAW].to(device)
        samples = _samples(model, x, num_samples, seed, position, element_budget)
        found.append(tuple(values.cpu() for values in _block(model, x, temperature, samples)))
        if progress is not None:
            progress(first + len(x))
    elbo, weighted, weights, shares = (torch.cat(parts) for parts in zip(*found, strict=True))
    return MixtureFigures({RELAXED_ELBO.key: elbo, IMPORTANCE_WEIGHTED.key: weighted}, weights, shares)


def _samples(
    model: DLGMM, x: Tensor, num_samples: int, seed: int, block: int, element_budget: int
) -> Samples:
    per_chunk = max(1, element_budget // (model.largest_per_sample * len(x)))
    return Samples(num_samples, seed, block, per_chunk, x.device)


def _draw(model: DLGMM, num_data: int, generator: torch.Generator) -> Tensor:
    return model.draw_noise((SAMPLES_PER_DRAW, num_data), generator)


def _block(model: DLGMM, x: Tensor, temperature: float, samples: Samples) -> tuple[Tensor, ...]:
    """The ELBO and the IW bound, [B], and the mean weights and the shares of the components, [B, K]."""

    posterior = model.encode(x, temperature)
    bound = Folded(x)
    size = (len(x), model.num_components)
    total = torch.zeros(size, dtype=torch.float64, device=x.device)
    log_sums = torch.full_like(total, -math.inf)
    for noise in samples.chunks("evaluation/mixture", partial(_draw, model, len(x))):
        drawn = model.draw(x, posterior, noise)
        bound.add(model.bound(posterior, drawn).double())
        total += drawn.log_weights.exp().sum(0).double()
        ratio = posterior.sticks.log_ratio(noise[..., : model.num_components - 1]).unsqueeze(-1)
        logs = (drawn.log_terms + ratio).double()
        log_sums = torch.logaddexp(log_sums, logs.logsumexp(0))
    weighted = log_sums.logsumexp(-1) - math.log(samples.num_samples)
    return bound.mean, weighted, total / samples.num_samples, log_sums.softmax(-1)


@torch.no_grad()
def representations(
    model: DLGMM,
    images: Tensor | PreparedImages,
    temperature: float,
    *,
    num_samples: int = 4,
    seed: int = 0,
    element_budget: int = ELEMENT_BUDGET,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    r"""The means of the posteriors, :math:`\sum_k r_k \mu_k(x)`, with shape :math:`(N, D)`.

    The shares are the posterior probabilities of the components as the bound that was trained has them: the
    mean weights or, where the component is summed out, what each adds to the likelihood of the image.

    Arguments:
        model: The model, in evaluation mode.
        images: In the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: Of logit-normal weights.
        num_samples: Draws that the shares are means of.
        seed: Fixes these.
        element_budget: As for :func:`dlgmm_bounds`.
        progress: Called with the number of data done, after every 32.
    """
    check_sizes(images, num_samples)
    device = next(model.parameters()).device
    found = []
    for position, first in enumerate(range(0, len(images), DATA_PER_DRAW)):
        x = images[first : first + DATA_PER_DRAW].to(device)
        posterior = model.encode(x, temperature)
        samples = _samples(model, x, num_samples, seed, position, element_budget)
        shares = torch.zeros(len(x), model.num_components, dtype=x.dtype, device=device)
        for noise in samples.chunks("evaluation/representations", partial(_draw, model, len(x))):
            shares += model.shares(x, posterior, noise).sum(0) / num_samples
        found.append((shares.unsqueeze(-1) * posterior.loc).sum(-2).cpu())
        if progress is not None:
            progress(first + len(x))
    return torch.cat(found)
