"""Small problems whose gradient is known by enumeration, for the tests of estimators."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

import igr

NUM_VARIABLES = 3
FUNCTIONS = ("linear", "quadratic", "network")
LAWS = ("gumbel-softmax", "igr", "igr-sb")


def function(
    kind: str, num_categories: int, dtype: torch.dtype = torch.float64
) -> Callable[[Tensor], Tensor]:
    """A function of points [*, V, K]."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    size = NUM_VARIABLES * num_categories
    weights = normal(NUM_VARIABLES, num_categories)
    form = normal(size, size) / size**0.5
    into, out = normal(size, 8), normal(8)
    if kind == "linear":
        return lambda z: (z * weights).sum((-2, -1)) + 0.5
    if kind == "quadratic":
        return lambda z: (z * weights).sum((-2, -1)) + ((z.flatten(-2) @ form) * z.flatten(-2)).sum(-1)
    return lambda z: torch.tanh(z.flatten(-2) @ into) @ out


def parameters(law: str, num_categories: int) -> dict[str, Tensor]:
    """Parameters of the law with batch shape [V], in float64."""
    generator = torch.Generator().manual_seed(3)
    shape = (NUM_VARIABLES, num_categories - (law != "gumbel-softmax"))
    first = torch.randn(shape, generator=generator, dtype=torch.float64)
    if law == "gumbel-softmax":
        return {"logits": first}
    scale = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
    return {"loc": 0.7 * first, "scale": scale}


def distribution(law: str, values: dict[str, Tensor], temperature: float = 0.5) -> igr.SimplexRelaxation:
    """The law with these parameters; IGR-I with a threshold that is not zero."""
    if law == "gumbel-softmax":
        return igr.GumbelSoftmax(temperature, **values, validate_args=False)
    if law == "igr":
        return igr.InvertibleGaussian(**values, temperature=temperature, delta=1.3, validate_args=False)
    # In length space the last of two categories would never win.
    space = "log" if values["loc"].shape[-1] == 1 else "length"
    transform = igr.LogisticStickBreakingTransform(space=space)
    return igr.InvertibleGaussian(**values, temperature=temperature, transform=transform, validate_args=False)


def all_points(num_categories: int, num_variables: int = NUM_VARIABLES) -> Tensor:
    """Every joint outcome, as vertices [O, V, K]."""
    outcomes = itertools.product(range(num_categories), repeat=num_variables)
    return torch.eye(num_categories, dtype=torch.float64)[torch.tensor(list(outcomes))]


def exact_gradient(of: Callable[[Tensor], Tensor], law: str, num_categories: int) -> dict[str, Tensor]:
    """The gradient of the expectation of a function, by enumeration."""
    leaves = {name: p.requires_grad_() for name, p in parameters(law, num_categories).items()}
    points = all_points(num_categories)
    log_probs = distribution(law, leaves).discrete().exact_logits
    weight = torch.exp(torch.where(points > 0, log_probs, 0.0).sum((-2, -1)))
    found = torch.autograd.grad((weight * of(points)).sum(), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def sampled_gradients(
    estimator: igr.estimators.Estimator,
    of: Callable[[Tensor], Tensor],
    law: str,
    num_categories: int,
    num_gradients: int,
    num_samples: int = 1,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of estimates, all parameters in one vector."""
    generator = torch.Generator().manual_seed(0)
    sums, squares = [], []
    # Several calls, so that a state of the estimator has a part in it.
    at_once = min(50_000, -(-num_gradients // 4))
    for first in range(0, num_gradients, at_once):
        size = min(at_once, num_gradients - first)
        leaves = {
            name: p.to(dtype).expand(size, *p.shape).clone().requires_grad_()
            for name, p in parameters(law, num_categories).items()
        }
        found = estimator(of, distribution(law, leaves), num_samples, generator=generator)
        rows = torch.autograd.grad(found.loss.sum(), list(leaves.values()))
        flat = torch.cat([row.flatten(1) for row in rows], dim=1).double()
        sums.append(flat.sum(0))
        squares.append(flat.square().sum(0))
    mean = torch.stack(sums).sum(0) / num_gradients
    variance = torch.stack(squares).sum(0) / num_gradients - mean.square()
    return mean, variance.clamp_min(0.0).sqrt()
