"""How fits are made: by Newton's method on the exact law, and by Adam on any law of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from igr.fitting.families import FAMILIES, relaxation
from igr.fitting.objectives import OBJECTIVES
from igr.fitting.targets import Target
from igr.kernels.gaussian_law_inverse import newton_loc_for_probs
from igr.kernels.stick_breaking_law import longest_piece_law_and_jacobian
from igr.kernels.stick_breaking_law_inverse import stick_loc_for_probs

__all__ = ["by_adam", "by_newton", "discrete_law", "exact_law", "positive", "relaxed_mean"]

# A category of probability zero gets this much, so that it has parameters.
_SMALLEST = 1e-15
# Draws that tell the law of a family that has no exact one.
_LAW_DRAWS = 100_000

Parameters = dict[str, Tensor]


def by_newton(
    family: str, law: Target, scale: Tensor, objective: str
) -> tuple[Parameters, Tensor, Tensor, Tensor]:
    """Parameters, the law at the start, the history of the objective, and whether each law was reached."""
    count = law.num_categories
    goal, flat_scale = law.probs.reshape(-1, count), scale.reshape(-1, count - 1)
    space = FAMILIES[family].space
    seen: list[tuple[Tensor, Tensor]] = []
    first: list[Tensor] = []

    def observe(index: Tensor, found: Tensor) -> None:
        # Far from the target a probability may underflow, and the divergence must not be infinite for that.
        tiny = torch.finfo(found.dtype).tiny
        reached = torch.softmax(found, -1).clamp_min(tiny) if space is None else _normalized(found, space)
        if not first:
            first.append(reached)
        seen.append((index, OBJECTIVES[objective](goal[index], reached)))

    if space is None:
        loc, converged = newton_loc_for_probs(positive(goal), flat_scale, observe)
    else:
        loc, converged = stick_loc_for_probs(goal, flat_scale, space == "length", observe)
    history = _history(seen, len(goal))
    return (
        {"loc": loc.view(scale.shape), "scale": scale},
        first[0].view(law.probs.shape),
        history.view(-1, *law.batch_shape),
        converged.view(law.batch_shape),
    )


def _normalized(found: Tensor, space: str) -> Tensor:
    """Probabilities as computed, without noise below zero and what belongs to a category that cannot win."""
    found = found.clamp_min(_SMALLEST)
    if space == "length":
        found = torch.cat([found[:, :-1], torch.zeros_like(found[:, -1:])], -1)
    return found / found.sum(-1, keepdim=True)


def relaxed_mean(
    family: str, temperature: float, num_samples: int, generator: Generator | None
) -> Callable[[Parameters], Tensor]:
    """The mean of relaxed samples as a function of the parameters."""

    def mean(values: Parameters) -> Tensor:
        # Half the memory to pass over; the error of the mean is far above that of float32.
        law = relaxation(family, {name: value.float() for name, value in values.items()}, temperature)
        return law.rsample((num_samples,), generator).mean(0, dtype=torch.float64)

    return mean


def exact_law(family: str, fit_scale: bool) -> Callable[[Parameters], Tensor]:
    """The exact law as a function of the parameters."""
    space = FAMILIES[family].space
    if space is None or fit_scale:
        return lambda values: relaxation(family, values, 1.0).discrete().probs
    # All slopes in loc come with the law for three times its price; torch's way back takes twenty.
    return lambda values: _StickLaw.apply(values["loc"], values["scale"], space)


class _StickLaw(torch.autograd.Function):
    """The law of the longest piece, with its slope in loc."""

    @staticmethod
    def forward(ctx: Any, loc: Tensor, scale: Tensor, space: str) -> Tensor:
        n = loc.shape[-1]
        law, jacobian = longest_piece_law_and_jacobian(
            loc.reshape(-1, n), scale.reshape(-1, n), space == "length"
        )
        ctx.save_for_backward(jacobian)
        return _normalized(law, space).view(*loc.shape[:-1], n + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (jacobian,) = ctx.saved_tensors
        row = grad.reshape(len(jacobian), 1, -1).nan_to_num(0.0, 0.0, 0.0)
        return (row @ jacobian).view(*grad.shape[:-1], -1), None, None


def _history(seen: list[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """[T, N] from the values of some laws at a time; a law that is done keeps its last value."""
    rows: list[list[float]] = [[] for _ in range(count)]
    for index, values in seen:
        for law, value in zip(index.tolist(), values.tolist(), strict=True):
            rows[law].append(value)
    longest = max(map(len, rows))
    return torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows], dtype=torch.float64).mT


def by_adam(
    probs: Tensor,
    start: Parameters,
    probs_of: Callable[[Parameters], Tensor],
    objective: str,
    num_iterations: int,
    learning_rate: float,
    fit_scale: bool,
) -> tuple[Parameters, Tensor]:
    """The parameters after so many steps, and the objective before each of them, [T, *B]."""
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    if "scale" in leaves:
        # The logarithm, so that every step keeps it positive.
        leaves["scale"] = start["scale"].log().requires_grad_(fit_scale)

    def values() -> Parameters:
        return {name: leaf.exp() if name == "scale" else leaf for name, leaf in leaves.items()}

    optimizer = torch.optim.Adam([leaf for leaf in leaves.values() if leaf.requires_grad], lr=learning_rate)
    history = []
    for _ in range(num_iterations):
        with torch.enable_grad():
            loss = OBJECTIVES[objective](probs, probs_of(values()))
            optimizer.zero_grad()
            # Adam moves every number for itself, so the laws of a batch do not meet in the sum.
            loss.sum().backward()
        history.append(loss.detach())
        for leaf in leaves.values():
            if leaf.grad is not None:
                # A law without a slope stays where it is, and is not converged.
                leaf.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimizer.step()
        _check_step(values(), learning_rate)
    return {name: value.detach().clone() for name, value in values().items()}, torch.stack(history)


def _check_step(values: Parameters, learning_rate: float) -> None:
    """ValueError where a step has left what a law can have."""
    lost = not all(bool(torch.isfinite(value).all()) for value in values.values())
    if lost or ("scale" in values and not bool((values["scale"] > 0).all())):
        raise ValueError(
            "fit: expected steps that keep all parameters finite, and scales positive; got others with "
            f"learning_rate {learning_rate:g}; lower it."
        )


def discrete_law(
    family: str, parameters: Parameters, generator: Generator | None
) -> tuple[Tensor, int | None]:
    """The discrete law, [*B, K], and the number of draws that it is estimated from, if it is."""
    law = relaxation(family, parameters, 1.0)
    if family == "igr-planar":
        estimate = law.discrete("monte_carlo", num_samples=_LAW_DRAWS, generator=generator)
        return estimate.probs, _LAW_DRAWS
    return law.discrete().probs, None


def positive(probs: Tensor) -> Tensor:
    probs = probs.clamp_min(_SMALLEST)
    return probs / probs.sum(-1, keepdim=True)
