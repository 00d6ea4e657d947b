r"""Four bounds on the log-likelihood of a trained VAE.

A VAE trained through a relaxation is two models with one decoder: the *relaxed* model, whose latent
lies inside the simplex, and the *discrete* model, whose latent is one-hot and which is what one
wants in the end. The relaxed ELBO bounds the first, the other three bound the second; figures of
different kinds are different quantities.

A latent of both kinds, categorical and Gaussian, is drawn and weighted in both. A Gaussian one alone is not
relaxed: its ELBO stands with the relaxed ones, its importance-weighted bound, whose weights are by the exact
density, with those by the exact law, and the other two are missing.

The one-hot latents come from the exact law :math:`q(d \mid x)` as it was computed and then
normalized, and the same numbers stand in the weights, so that the bounds hold whatever the error of
the quadrature behind that law. Where it cannot be computed for a posterior (sticks with scales of a few
hundredths), that of a posterior with these scales raised takes its place in both, and the bounds hold too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from igr.data import PreparedImages
from igr.evaluation.samples import (
    DATA_PER_DRAW,
    ELEMENT_BUDGET,
    SAMPLES_PER_DRAW,
    Folded,
    Samples,
    check_sizes,
)
from igr.kernels.numbers import LOWEST_LOGARITHM
from igr.models.latents import DiscreteLatent
from igr.models.vae import VAE


@dataclass(frozen=True)
class BoundKind:
    """One kind of figure.

    Arguments:
        key: Its key in ``result.json``.
        name: Its plain name.
        meaning: What it bounds.
    """

    key: str
    name: str
    meaning: str


RELAXED_ELBO = BoundKind(
    "relaxed_elbo",
    "relaxed ELBO",
    "lower bound on log p(x) of the relaxed model (latent inside the simplex)",
)
DISCRETE_ELBO = BoundKind(
    "discrete_elbo",
    "discrete ELBO",
    "lower bound on log p(x) of the discrete model (latent one-hot)",
)
IMPORTANCE_WEIGHTED = BoundKind(
    "importance_weighted",
    "IW bound, exact q",
    "the same, in expectation a tighter bound; weights by the exact law q(d | x)",
)
PRE_IMAGE = BoundKind(
    "importance_weighted_pre_image",
    "IW bound, pre-image",
    "the same, in expectation looser than by the exact law; weights by the Gaussians before argmax",
)
BOUND_KINDS = (RELAXED_ELBO, DISCRETE_ELBO, IMPORTANCE_WEIGHTED, PRE_IMAGE)

# The key of the KL from q(d | x) to the prior: what the discrete latent says of an image. No bound.
DISCRETE_KL = "discrete_kl"
# The key of what the paper's experiments report as the log-likelihood. No bound: it can exceed log p(x).
LEGACY_ESTIMATE = "legacy_estimate"


@dataclass(frozen=True)
class Estimate:
    """A mean over data, in nats per datum, with the standard error of that mean.

    The standard error is the standard deviation of the per-datum figures over the square root of
    their number. It covers the choice of the data and the sampling of the latents, which is
    independent between data; it does not cover the training seed. It is ``None`` for one datum.

    Arguments:
        value: The mean.
        standard_error: Of the mean.
    """

    value: float
    standard_error: float | None

    def __str__(self) -> str:
        # Without a space after the sign, so that a narrow table breaks before it.
        error = "" if self.standard_error is None else f" ±{self.standard_error:.2f}"
        return f"{self.value:.2f}{error}"


def estimate(per_datum: Tensor) -> Estimate:
    """The mean of independent figures, with shape :math:`(N,)`, and its standard error."""
    count = len(per_datum)
    spread = per_datum.std().item() / math.sqrt(count) if count > 1 else None
    return Estimate(per_datum.mean().item(), spread)


@torch.no_grad()
def per_datum_bounds(
    model: VAE,
    images: Tensor | PreparedImages,
    temperature: float,
    *,
    num_samples: int,
    seed: int = 0,
    legacy: bool = False,
    element_budget: int = ELEMENT_BUDGET,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Tensor]:
    r"""Every bound of every datum, and the KL of its discrete law to the prior.

    With :math:`z_s` drawn from the relaxed posterior and :math:`d_s` from the exact discrete one,

    .. math::
        \text{relaxed ELBO} &= \tfrac1S \sum_s \log p(x \mid z_s) - \mathrm{KL}(q(z|x) \| p(z)) \\
        \text{discrete ELBO} &= \tfrac1S \sum_s \log p(x \mid d_s) - \mathrm{KL}(q(d|x) \| p(d)) \\
        \text{IW bound} &= \log \tfrac1S \sum_s p(x \mid d_s)\, p(d_s) / q(d_s \mid x)

    and over the pre-image the ratio in the last line is that of the densities of y, where
    :math:`d_s` is the largest category at :math:`y_s`. The KL is in closed form where there is one
    and otherwise taken at the same :math:`z_s`.

    On request there is also the number that the paper's experiments report,

    .. math:: \log \tfrac1S \sum_s p(x \mid z_s) - \mathrm{KL}(q(z|x) \| p(z))

    which is no bound and can exceed :math:`\log p(x)`.

    The figures of a datum depend on the seed, the datum, its place among the data, ``num_samples``,
    the kind of device and, in the last block of 32, on how many are in it; but for rounding on
    nothing else. The first samples of a longer evaluation are those of a shorter one.

    Arguments:
        model: The VAE, in evaluation mode; its device is where the work is done.
        images: The data in the form that the likelihood needs, with shape :math:`(N, C, H, W)`; whatever
            has a length and gives such a tensor for a slice will do.
        temperature: The temperature of the posterior.
        num_samples: The number S of samples for each datum.
        seed: Together with the position of a datum and of a sample it fixes the noise.
        legacy: Whether to give ``legacy_estimate`` besides.
        element_budget: Elements of the largest tensor that one chunk of samples may make, as far
            as a single sample of 32 data leaves a choice. Memory does not grow with S.
        progress: Called with the number of data done, after every 32.

    Returns:
        For each key of :data:`BOUND_KINDS`, and for ``discrete_kl``, a float64 tensor on the CPU with
        shape :math:`(N,)`, in nats. What there is not for the latent is missing.

    Raises:
        UserError: ``num_samples`` is below one, or there are no images.
    """
    check_sizes(images, num_samples)
    parameter = next(model.parameters())
    largest = _largest_tensor_per_sample(model, parameter.device)
    keys = (*(kind.key for kind in BOUND_KINDS), DISCRETE_KL, LEGACY_ESTIMATE)
    results: dict[str, list[Tensor]] = {key: [] for key in keys}
    for position, first in enumerate(range(0, len(images), DATA_PER_DRAW)):
        x = images[first : first + DATA_PER_DRAW].to(parameter.device)
        samples = Samples(
            num_samples=num_samples,
            seed=seed,
            block=position,
            per_chunk=max(1, element_budget // (largest * len(x))),
            device=parameter.device,
        )
        posterior = model.encode(x, temperature)
        figures = _relaxed_pass(model, x, posterior, temperature, samples, legacy)
        discrete = model.latent.discrete
        if discrete is not None and discrete.has_exact_law():
            figures |= _discrete_pass(model, x, posterior, discrete, samples)
        for key, values in figures.items():
            results[key].append(values.cpu())
        if progress is not None:
            progress(first + len(x))
    return {key: torch.cat(parts) for key, parts in results.items() if parts}


def _relaxed_pass(
    model: VAE, x: Tensor, posterior: Any, temperature: float, samples: Samples, legacy: bool
) -> dict[str, Tensor]:
    """What is found with points of the posterior as they are drawn, and over their pre-image."""
    latent = model.latent
    dtype = next(model.parameters()).dtype
    _, of_continuous = latent.parts_of(posterior)

    def draw(generator: torch.Generator) -> Tensor:
        shape = (SAMPLES_PER_DRAW, len(x))
        return latent.draw_noise(shape, generator=generator, device=samples.device, dtype=dtype)

    log_likelihood = Folded(x)
    divergence = torch.zeros(len(x), dtype=torch.float64, device=samples.device)
    weighted = Folded(x)
    for noise in samples.chunks("evaluation/relaxed", draw):
        drawn = latent.sample(posterior, noise, temperature, "relaxed")
        log_p_x = model.decode(drawn.points).log_prob(x).double()
        log_likelihood.add(log_p_x)
        divergence += drawn.kl.double().expand_as(log_p_x).sum(0)
        if latent.discrete is None and latent.continuous is not None:
            weighted.add(log_p_x + latent.continuous.log_ratio(of_continuous, drawn.points).double())
        elif latent.has_pre_image:
            points, log_ratio = latent.pre_image(posterior, noise)
            weighted.add(model.decode(points).log_prob(x).double() + log_ratio.double())
    divergence /= samples.num_samples
    figures = {RELAXED_ELBO.key: log_likelihood.mean - divergence}
    if latent.discrete is None:
        figures[IMPORTANCE_WEIGHTED.key] = weighted.log_mean_exp
    elif latent.has_pre_image:
        figures[PRE_IMAGE.key] = weighted.log_mean_exp
    if legacy:
        figures[LEGACY_ESTIMATE] = log_likelihood.log_mean_exp - divergence
    return figures


def _discrete_pass(
    model: VAE, x: Tensor, posterior: Any, discrete: DiscreteLatent, samples: Samples
) -> dict[str, Tensor]:
    """What is found with one-hot points drawn from the exact law; those of a Gaussian part beside them."""
    latent = model.latent
    of_discrete, of_continuous = latent.parts_of(posterior)
    law = _DiscretePosterior(discrete.exact_law(of_discrete).logits, discrete)
    dtype = next(model.parameters()).dtype
    num_variables = discrete.num_variables
    kl = law.kl
    if latent.continuous is not None:
        kl = kl + latent.continuous.divergence(of_continuous).double()

    def draw(generator: torch.Generator) -> Tensor:
        shape = (SAMPLES_PER_DRAW, len(x))
        # 53 bits: with 24 the frequencies of rare categories would differ from q.
        uniform = torch.rand(
            (*shape, num_variables), generator=generator, dtype=torch.float64, device=samples.device
        )
        if latent.continuous is None:
            return uniform
        normal = latent.continuous.draw_noise(shape, generator, samples.device, torch.float64)
        return torch.cat([uniform, normal], dim=-1)

    log_likelihood, weighted = Folded(x), Folded(x)
    for noise in samples.chunks("evaluation/discrete", draw):
        d, log_ratio = law.sample(noise[..., :num_variables])
        c = None
        if latent.continuous is not None:
            normal = noise[..., num_variables:].to(dtype)
            c = latent.continuous.sample(of_continuous, normal, 1.0, "relaxed").points
            log_ratio = log_ratio + latent.continuous.log_ratio(of_continuous, c).double()
        log_p_x = model.decode(latent.join(d, c)).log_prob(x).double()
        log_likelihood.add(log_p_x)
        weighted.add(log_p_x + log_ratio)
    return {
        DISCRETE_ELBO.key: log_likelihood.mean - kl,
        IMPORTANCE_WEIGHTED.key: weighted.log_mean_exp,
        DISCRETE_KL: law.kl,
    }


class _DiscretePosterior:
    """The law q(d | x) of a block of data, normalized in float64, beside the prior.

    Arguments:
        logits: Log-probabilities, with shape :math:`(B, V, K)`.
        latent: Owns the prior.
    """

    def __init__(self, logits: Tensor, latent: DiscreteLatent) -> None:
        log_q = logits.double().log_softmax(-1)
        log_p = latent.discrete_prior().logits.to(log_q).log_softmax(-1)
        # A category that neither side ever takes adds nothing.
        log_q, log_p = (t.clamp_min(LOWEST_LOGARITHM) for t in (log_q, log_p))
        q = log_q.exp()
        self.kl = -(torch.special.entr(q) + q * log_p).sum((-2, -1))  # [B]
        self._log_ratio = log_p - log_q  # [B, V, K]
        cumulative = q.cumsum(-1)
        self._edges = (cumulative / cumulative[..., -1:])[..., :-1].contiguous()  # [B, V, K-1]

    def sample(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Categories d, [S, B, V], and log p(d) - log q(d | x), [S, B], from [S, B, V]."""
        # Intervals closed on the left: a category of probability zero is never taken.
        index = torch.searchsorted(self._edges, uniform.permute(1, 2, 0).contiguous(), right=True)
        log_ratio = self._log_ratio.gather(-1, index).sum(1).T
        return index.permute(2, 0, 1), log_ratio


def _largest_tensor_per_sample(model: VAE, device: torch.device) -> int:
    """Elements of the largest tensor that decoding one point makes."""
    points = model.latent.draw_prior(1, torch.Generator(device).manual_seed(0))
    features = model.latent.features(points)
    sizes = [features.numel()]
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
        for module in model.decoder.modules()
    ]
    try:
        model.decoder(features)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)
