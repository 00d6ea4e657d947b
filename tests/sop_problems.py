"""Small models of structured output prediction, and the exact log-likelihood of them by enumeration."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from cases import generator
from igr.models.likelihoods import LIKELIHOODS
from igr.models.sop import BINARY_LATENTS, NETWORKS, SOP, BinaryLatent, sop_layers

HALF = (1, 2, 3)


def model_of(
    latent: str = "igr",
    network: str = "double_linear",
    num_units: int = 3,
    straight_through: bool = False,
    spread: float = 1.0,
    **options: object,
) -> SOP:
    """A small model over images of four rows and three columns, with biases, in float64."""
    source = generator(f"{latent} {network}")
    latents: list[BinaryLatent] = []
    for _ in range(NETWORKS[network].num_layers):
        more = {"generator": source} if latent == "igr-planar" else {}
        latents.append(BINARY_LATENTS[latent](num_units, **options, **more))  # type: ignore[arg-type]
    layers = sop_layers(NETWORKS[network], latents, 6, 6, source)
    made = SOP(layers, latents, HALF, LIKELIHOODS["bernoulli"], straight_through).double()
    with torch.no_grad():
        for parameter in made.layers.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    return made


def images(count: int = 2) -> Tensor:
    shape = (count, 1, 4, 3)
    return torch.bernoulli(torch.full(shape, 0.5, dtype=torch.float64), generator=generator("images"))


@torch.no_grad()
def exact_log_probs(model: SOP, x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log p(state | upper half) of the last layer, [B, states], and log p(lower half | state), the same."""
    known, wanted = model.split(x)
    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=model.num_units)), dtype=torch.float64)

    def log_law(index: int, h: Tensor) -> Tensor:
        """log p(state of a layer | h), with shape [*h, states]."""
        law = model.latents[index](model.layers[index](h), temperature).discrete()
        ones = law.exact_logits[..., 0].unsqueeze(-2)
        zeros = law.exact_logits[..., 1].unsqueeze(-2)
        return torch.where(states > 0, ones, zeros).sum(-1)

    log_p = log_law(0, 2.0 * known.flatten(-3) - 1.0)
    for index in range(1, model.num_layers):
        # p(b') = sum over b of p(b) p(b' | b)
        log_p = torch.logsumexp(log_p.unsqueeze(-1) + log_law(index, states), dim=-2)
    return log_p, model.pixels(states.unsqueeze(1)).log_prob(wanted).T


def exact_log_likelihood(model: SOP, x: Tensor, temperature: float, power: int = 1) -> Tensor:
    """log p(lower half | upper half) of the discrete model; or the logarithm of another moment."""
    log_p, of_pixels = exact_log_probs(model, x, temperature)
    return torch.logsumexp(log_p + power * of_pixels, dim=-1)


def exact_bound(model: SOP, x: Tensor, temperature: float, num_samples: int) -> Tensor:
    """The expectation of the multi-sample bound, over all tuples of states of the last layer."""
    log_p, of_pixels = exact_log_probs(model, x, temperature)
    tuples = torch.cartesian_prod(*[torch.arange(log_p.shape[-1])] * num_samples).reshape(-1, num_samples)
    weights = log_p[:, tuples].sum(-1).exp()
    bounds = of_pixels[:, tuples].logsumexp(-1) - math.log(num_samples)
    return (weights * bounds).sum(-1)
