"""Small mixture models, and their exact log-likelihood and bounds by quadrature."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from cases import generator
from igr.distributions import StickTruncation
from igr.models.dlgmm import DLGMM, separated_means
from igr.models.stick_laws import (
    KumaraswamyLaw,
    KumaraswamySticks,
    LogitNormalLaw,
    LogitNormalSticks,
    StickLaw,
)

FAMILIES = {"kumaraswamy": KumaraswamySticks, "logit-normal": LogitNormalSticks}
SHAPE = (1, 2, 3)


def model_of(
    family: str,
    num_components: int = 2,
    dim: int = 1,
    concentration: float = 1.0,
    separation: float = 1.5,
    truncation: StickTruncation | None = None,
    sums_out: bool = False,
) -> DLGMM:
    """A model over images of six pixels in float64 and evaluation mode.

    Its posteriors are as near to the prior as importance weights of a finite variance ask for.
    """
    source = generator(f"{family} {num_components}")
    made = DLGMM(
        trunk=nn.Sequential(nn.Flatten(-3), nn.Linear(6, 5), nn.Tanh()),
        num_hidden=5,
        decoder=nn.Sequential(nn.Linear(dim, 6), nn.Unflatten(-1, (1, *SHAPE))),
        widest=6,
        sticks=FAMILIES[family](num_components, concentration),
        prior_loc=separated_means(num_components, dim, separation, source),
        generator=source,
        truncation=truncation,
        sums_out=sums_out,
    ).double()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            spread = 0.08 if "head" in name else 0.7
            parameter.copy_(spread * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    return made.eval()


def images(count: int = 3) -> Tensor:
    return torch.bernoulli(
        torch.full((count, *SHAPE), 0.5, dtype=torch.float64), generator=generator("images")
    )


def mean_fractions(law: StickLaw) -> Tensor:
    """The mean of each fraction of a stick, at the temperature one."""
    if isinstance(law, KumaraswamyLaw):
        a, b = law.a.detach().numpy(), law.b.detach().numpy()
        return torch.from_numpy(b * special.beta(1.0 + 1.0 / a, b))
    assert isinstance(law, LogitNormalLaw)
    nodes, weights = np.polynomial.hermite_e.hermegauss(180)
    y = law.law.loc.detach().unsqueeze(-1) + law.law.scale.detach().unsqueeze(-1) * torch.from_numpy(nodes)
    return (torch.sigmoid(y) * torch.from_numpy(weights / weights.sum())).sum(-1)


def mean_weights(law: StickLaw) -> Tensor:
    """The means of all weights: fractions are independent."""
    v = mean_fractions(law)
    left = torch.cumprod(1.0 - v, dim=-1)
    before = torch.cat([torch.ones_like(left[..., :1]), left], dim=-1)
    return torch.cat([v, torch.ones_like(v[..., :1])], dim=-1) * before


def over_gaussians(model: DLGMM, x: Tensor, loc: Tensor, scale: Tensor, log: bool) -> Tensor:
    """E p(x | z) or E log p(x | z) for z of Gaussians with loc and scale [B, K, D], with shape [B, K]."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = torch.tensor(list(itertools.product(nodes, repeat=model.dim)))
    share = torch.tensor([np.prod(w) for w in itertools.product(weights / weights.sum(), repeat=model.dim)])
    z = loc.unsqueeze(-3) + scale.unsqueeze(-3) * grid.view(-1, 1, model.dim)
    values = model.decode(z).log_prob(x.view(-1, 1, 1, *SHAPE))
    return ((values if log else values.exp()) * share.view(-1, 1)).sum(-2)


@torch.no_grad()
def exact_log_likelihood(model: DLGMM, x: Tensor) -> Tensor:
    """log p(x): the weights enter p(x | pi) linearly, and so by their means alone."""
    outputs = torch.zeros(len(x), model.sticks.num_outputs, dtype=torch.float64)
    weights = mean_weights(model.sticks(outputs))
    loc = model.prior_loc.expand(len(x), -1, -1)
    return (weights * over_gaussians(model, x, loc, torch.ones_like(loc), log=False)).sum(-1).log()


@torch.no_grad()
def exact_bound(model: DLGMM, x: Tensor) -> Tensor:
    """The bound that is trained, with all expectations by quadrature but for the KL of the sticks."""
    posterior = model.encode(x)
    log_likelihood = over_gaussians(model, x, posterior.loc, posterior.scale, log=True)
    q = torch.distributions.Normal(posterior.loc, posterior.scale)
    p = torch.distributions.Normal(posterior.prior_loc, torch.ones_like(posterior.prior_loc))
    kl = torch.distributions.kl_divergence(q, p).sum(-1)
    return (mean_weights(posterior.sticks) * (log_likelihood - kl)).sum(-1) - posterior.sticks.kl()


@torch.no_grad()
def exact_shares(model: DLGMM, x: Tensor) -> Tensor:
    """The posterior probabilities of the components, with shape [B, K]."""
    outputs = torch.zeros(len(x), model.sticks.num_outputs, dtype=torch.float64)
    loc = model.prior_loc.expand(len(x), -1, -1)
    joint = mean_weights(model.sticks(outputs)) * over_gaussians(
        model, x, loc, torch.ones_like(loc), log=False
    )
    return joint / joint.sum(-1, keepdim=True)
