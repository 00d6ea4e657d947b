r"""Bounds on the log-likelihood of a trained mixture model, and what its components are used for.

Weights and a point of one component are drawn from the posterior, and the component is summed out of both
densities, so that an importance weight costs one pass through the decoder and not one for each component.
The same holds for every law of the weights, each beside its own prior, and that is what lets them be
compared.
"""

from collections.abc import Callable
from dataclasses import dataclass

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
    """

    bounds: dict[str, Tensor]
    weights: Tensor


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
    r"""Bounds of every datum, and its weights.

    With importance weights :math:`w_s` as :meth:`igr.models.dlgmm.DLGMM.log_weights` has them,

    .. math::
        \text{ELBO} &= \tfrac1S \sum_s \log w_s \\
        \text{IW bound} &= \log \tfrac1S \sum_s w_s

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
    found: dict[str, list[Tensor]] = {RELAXED_ELBO.key: [], IMPORTANCE_WEIGHTED.key: []}
    weights: list[Tensor] = []
    for position, first in enumerate(range(0, len(images), DATA_PER_DRAW)):
        x = images[first : first + DATA_PER_DRAW].to(device)
        samples = Samples(
            num_samples=num_samples,
            seed=seed,
            block=position,
            per_chunk=max(1, element_budget // (model.largest_per_sample * len(x))),
            device=device,
        )
        posterior = model.encode(x, temperature)
        folded = Folded(x)
        total = torch.zeros(len(x), model.num_components, dtype=torch.float64, device=device)

        def draw(generator: torch.Generator, count: int = len(x)) -> Tensor:
            return model.draw_single_noise((SAMPLES_PER_DRAW, count), generator)

        for noise in samples.chunks("evaluation/mixture", draw):
            folded.add(model.log_weights(x, posterior, noise).double())
            own = noise[..., : model.num_components - 1]
            total += posterior.sticks.log_weights(own).exp().sum(0).double()
        found[RELAXED_ELBO.key].append(folded.mean.cpu())
        found[IMPORTANCE_WEIGHTED.key].append(folded.log_mean_exp.cpu())
        weights.append((total / num_samples).cpu())
        if progress is not None:
            progress(first + len(x))
    return MixtureFigures({key: torch.cat(parts) for key, parts in found.items()}, torch.cat(weights))


@torch.no_grad()
def representations(
    model: DLGMM,
    images: Tensor | PreparedImages,
    temperature: float,
    *,
    num_samples: int = SAMPLES_PER_DRAW,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    r"""The means of the posteriors, :math:`\sum_k E[\pi_k \mid x] \mu_k(x)`, with shape :math:`(N, D)`.

    Arguments:
        model: The model, in evaluation mode.
        images: In the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: Of logit-normal weights.
        num_samples: Draws that the mean weights are taken of.
        seed: Fixes these.
        progress: Called with the number of data done, after every 32.
    """
    device = next(model.parameters()).device
    found = []
    for position, first in enumerate(range(0, len(images), DATA_PER_DRAW)):
        x = images[first : first + DATA_PER_DRAW].to(device)
        posterior = model.encode(x, temperature)
        samples = Samples(num_samples, seed, position, num_samples, device)

        def draw(generator: torch.Generator, like: Tensor = x) -> Tensor:
            return model.sticks.draw_noise((SAMPLES_PER_DRAW, len(like)), generator, like)

        (noise,) = samples.chunks("evaluation/representations", draw)
        weights = posterior.sticks.log_weights(noise).exp().mean(0)
        found.append((weights.unsqueeze(-1) * posterior.loc).sum(-2).cpu())
        if progress is not None:
            progress(first + len(x))
    return torch.cat(found)
