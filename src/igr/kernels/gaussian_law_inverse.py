r"""The means of IGR-I for a given discrete law: the inverse of :mod:`igr.kernels.gaussian_law`.

At fixed scales the law is the gradient, in the means, of the convex function
:math:`E \max(y_1, \dots, y_{K-1}, 0)`, and the map onto the interior of the simplex is one to one.
Newton's method is run on :math:`\log P(k) - \log P(K)`, in which the map is close to linear (for Gumbel noise
it would be the identity), so that small probabilities count as much as large ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from igr.kernels.gaussian_law import maximum_log_probs, maximum_log_probs_and_jacobian
from igr.kernels.quadrature import default_num_nodes

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-12


def uniform_loc(num_categories: int, scale: float) -> float:
    r"""The mean at which all categories are equally likely: :math:`-\sigma \Phi^{-1}(K^{-1/(K-1)})`."""
    # Phi^-1(q) by 1 - q, which for a thousand categories is 0.0069 and would round in q.
    tail = -math.expm1(-math.log(num_categories) / (num_categories - 1))
    return scale * torch.special.ndtri(torch.tensor(tail, dtype=torch.float64)).item()


class Solution(NamedTuple):
    """Means [N, K - 1], and whether the law of each was reached [N]."""

    loc: Tensor
    converged: Tensor


def newton_loc_for_probs(
    probs: Tensor, scale: Tensor, observe: Callable[[Tensor, Tensor], None] | None = None
) -> Solution:
    """:func:`loc_for_probs` without gradient, which says what it did not reach.

    Arguments:
        probs: Positive, summing to one, float64, with shape :math:`(N, K)`.
        scale: float64, with shape :math:`(N, K - 1)`.
        observe: Called at every step with the indices of laws and the log-probabilities [n, K] they have.
    """
    num_nodes = default_num_nodes(torch.float64, probs.shape[-1], equal_scales=False)
    return _newton(_log_ratios(torch.log(probs), -1), scale, num_nodes, observe)


def loc_for_probs(probs: Tensor, scale: Tensor) -> Tensor:
    r"""Means :math:`\mu` (threshold zero) whose law of the maximum is ``probs``.

    Arguments:
        probs: Positive, summing to one, float64, with shape :math:`(*, K)`.
        scale: :math:`\sigma`, float64, with shape :math:`(*, K - 1)`.

    Returns:
        Tensor with shape :math:`(*, K - 1)`, differentiable once in both by the implicit function theorem.

    Raises:
        RuntimeError: if Newton's method does not converge.
    """
    flat_probs, flat_scale = probs.reshape(-1, probs.shape[-1]), scale.reshape(-1, scale.shape[-1])
    num_nodes = default_num_nodes(torch.float64, probs.shape[-1], equal_scales=False)
    goal = torch.log(flat_probs[:, :-1]) - torch.log(flat_probs[:, -1:])
    loc, converged = _newton(goal.detach(), flat_scale.detach(), num_nodes)
    if not bool(converged.all()):
        raise RuntimeError(
            f"from_probs: Newton's method did not reach {int((~converged).sum())} of {len(goal)} laws within "
            f"{_MAX_ITERATIONS} iterations; expected probabilities and scales within about ten orders of "
            "magnitude of one another."
        )
    _, jacobian = maximum_log_probs_and_jacobian(loc, flat_scale.detach(), num_nodes)
    reached = _log_ratios(maximum_log_probs(loc, flat_scale, num_nodes), -1)
    solution: Tensor = _ImplicitFunction.apply(goal, reached, loc, _log_ratios(jacobian, -2))
    return solution.view(scale.shape)


class _ImplicitFunction(torch.autograd.Function):
    """The loc at which ``reached`` equals ``goal``, with its first derivatives; a second raises an error."""

    @staticmethod
    def forward(ctx: Any, goal: Tensor, reached: Tensor, loc: Tensor, jacobian: Tensor) -> Tensor:
        ctx.save_for_backward(jacobian)
        return loc.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            # Not torch's once_differentiable, which lets a constant gradient pass and gives a wrong number.
            raise NotImplementedError(
                "from_probs: it has first derivatives only; got create_graph=True; detach its loc, or leave "
                "create_graph out."
            )
        (jacobian,) = ctx.saved_tensors
        by_goal = torch.linalg.solve(jacobian.mT, grad.unsqueeze(-1)).squeeze(-1)
        return by_goal, -by_goal, None, None


def _log_ratios(x: Tensor, dim: int) -> Tensor:
    """The first K - 1 entries less the last one."""
    count = x.shape[dim] - 1
    return x.narrow(dim, 0, count) - x.narrow(dim, count, 1)


def _newton(
    goal: Tensor, scale: Tensor, num_nodes: int, observe: Callable[[Tensor, Tensor], None] | None = None
) -> Solution:
    loc = (0.8 * goal).clamp(-3.0, 3.0) * scale
    active = torch.arange(len(goal), device=goal.device)
    converged = torch.zeros_like(active, dtype=torch.bool)
    for _ in range(_MAX_ITERATIONS):
        log_probs, jacobian = maximum_log_probs_and_jacobian(loc[active], scale[active], num_nodes)
        if observe is not None:
            observe(active, log_probs)
        residual = _log_ratios(log_probs, -1) - goal[active]
        missing = residual.abs().amax(-1) > _TOLERANCE * goal[active].abs().amax(-1).clamp(min=1.0)
        converged[active[~missing]] = True
        if not bool(missing.any()):
            break
        active, residual, jacobian = active[missing], residual[missing], jacobian[missing]
        matrix = _log_ratios(jacobian, -2)
        step = torch.linalg.solve(matrix, residual.unsqueeze(-1)).squeeze(-1)
        # A step longer than the scale of a category would leave the region where the slope holds.
        length = (step / scale[active]).abs().amax(-1, keepdim=True)
        loc[active] -= step / length.clamp(min=1.0)
    return Solution(loc, converged)
