r"""Bounds on the log-likelihood of a trained model of structured output prediction.

What is predicted is the lower half :math:`x_l` of an image given the upper one :math:`x_u`. Hard units are
drawn from the model itself, so that there is no KL, and the mean over samples of the likelihoods is an
unbiased estimate of :math:`p(x_l \mid x_u)`; its logarithm is in expectation a lower bound, tighter with
every sample (Burda et al., 2016). Its negative is what papers call the negative log-likelihood by so many
samples.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from igr.data import PreparedImages
from igr.evaluation.bounds import DISCRETE_ELBO, IMPORTANCE_WEIGHTED, RELAXED_ELBO
from igr.evaluation.samples import (
    DATA_PER_DRAW,
    ELEMENT_BUDGET,
    SAMPLES_PER_DRAW,
    Folded,
    Samples,
    check_sizes,
)
from igr.models.sop import SOP

# Numbers of samples by which the bound is also given, where there are as many.
COUNTS = (1, 10, 100, 1000)
# Samples that the relaxed figure, a plain mean, is of at most.
MOST_RELAXED = 100


def counts_up_to(num_samples: int) -> list[int]:
    """The numbers of samples by which the bound is given."""
    return sorted({*(count for count in COUNTS if count < num_samples), num_samples})


@torch.no_grad()
def sop_bounds(
    model: SOP,
    images: Tensor | PreparedImages,
    temperature: float,
    *,
    num_samples: int,
    seed: int = 0,
    element_budget: int = ELEMENT_BUDGET,
    progress: Callable[[int], object] | None = None,
) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    r"""Bounds of every datum.

    With :math:`h_s` the relaxed units of the last layer and :math:`b_s` the hard ones of the same noise,

    .. math::
        \text{relaxed ELBO} &= \tfrac1S \sum_s \log p(x_l \mid h_s) \\
        \text{discrete ELBO} &= \tfrac1S \sum_s \log p(x_l \mid b_s) \\
        \text{IW bound} &= \log \tfrac1S \sum_s p(x_l \mid b_s)

    the first over 100 samples at most. The figures of a datum depend on the seed, the datum, its place among
    the data, the kind of device and, in the last block of 32, on how many are in it; but for rounding on
    nothing else. The first samples of a longer evaluation are those of a shorter one.

    Arguments:
        model: The model, in evaluation mode; its device is where the work is done.
        images: Whole images in the form that the likelihood needs, with shape :math:`(N, C, H, W)`.
        temperature: The temperature of the units.
        num_samples: The number S of samples for each datum.
        seed: Together with the position of a datum and of a sample it fixes the noise.
        element_budget: Elements of the largest tensor that one chunk of samples may make, as far as a single
            sample of 32 data leaves a choice. Memory does not grow with S.
        progress: Called with the number of data done, after every 32.

    Returns:
        The three by their keys in :data:`igr.evaluation.BOUND_KINDS`, and the last by the first 1, 10, 100,
        1000 and all samples; each float64 on the CPU with shape :math:`(N,)`, in nats.

    Raises:
        UserError: ``num_samples`` is below one, or there are no images.
    """
    check_sizes(images, num_samples)
    device = next(model.parameters()).device
    widest = model.largest_per_sample
    results: dict[str, list[Tensor]] = {}
    by_count: dict[int, list[Tensor]] = {count: [] for count in counts_up_to(num_samples)}
    for position, first in enumerate(range(0, len(images), DATA_PER_DRAW)):
        x = images[first : first + DATA_PER_DRAW].to(device)
        samples = Samples(
            num_samples=num_samples,
            seed=seed,
            block=position,
            per_chunk=max(1, element_budget // (widest * len(x))),
            device=device,
        )
        figures, tightened = _block(model, x, temperature, samples, list(by_count))
        for key, values in figures.items():
            results.setdefault(key, []).append(values.cpu())
        for count, values in tightened.items():
            by_count[count].append(values.cpu())
        if progress is not None:
            progress(first + len(x))
    return (
        {key: torch.cat(parts) for key, parts in results.items()},
        {count: torch.cat(parts) for count, parts in by_count.items()},
    )


def _block(
    model: SOP, x: Tensor, temperature: float, samples: Samples, counts: Sequence[int]
) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    def draw(generator: torch.Generator) -> Tensor:
        return model.draw_noise((SAMPLES_PER_DRAW, len(x)), generator)

    relaxed = Folded(x)
    hard = Folded(x)
    tightened: dict[int, Tensor] = {}
    for noise in samples.chunks("evaluation/units", draw):
        log_p = model.log_likelihood(x, noise, temperature, "hard").double()
        # Cut where a figure of fewer samples is due.
        inside = [count - hard.count for count in counts if 0 < count - hard.count < len(log_p)]
        for part in torch.tensor_split(log_p, inside):
            hard.add(part)
            if hard.count in counts:
                tightened[hard.count] = hard.log_mean_exp
        if relaxed.count < MOST_RELAXED:
            few = noise[: MOST_RELAXED - relaxed.count]
            relaxed.add(model.log_likelihood(x, few, temperature).double())
    figures = {
        RELAXED_ELBO.key: relaxed.mean,
        DISCRETE_ELBO.key: hard.mean,
        IMPORTANCE_WEIGHTED.key: hard.log_mean_exp,
    }
    return figures, tightened
