r"""The means of IGR-SB for a given discrete law: the inverse of :mod:`igr.kernels.stick_breaking_law`.

A piece that takes more than half of what remains is the longest for sure. So, with wide scales, category k
wins among those that are left with about the probability :math:`\Phi(\mu_k / \sigma_k)`, and the means are
about

.. math:: \mu_k \approx \sigma_k \Phi^{-1}(h_k), \qquad h_k = \frac{p_k}{\sum_{j \ge k} p_j}.

Newton's method is run in these coordinates, :math:`\sigma_k \Phi^{-1}(h_k)` of the law that is reached, where
the map is close to the identity: three steps from that start suffice at scales of 3 and more. Narrower laws
are reached from wider ones, the scales shrinking by a factor that is adapted and the means going on along the
line through the last two. That keeps the means of rare categories as many deviations away as they have to be:
nearer or farther, their probabilities would be without a slope.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from igr.kernels.gaussian_law_inverse import Solution
from igr.kernels.stick_breaking_law import longest_piece_law_and_jacobian

# The law is known to about 1e-12, once it is normalized (each piece that takes nothing loses some 4e-11 of
# its sum); a probability below this has no slope that can be trusted.
_FLOOR = 1e-10
_TOLERANCE = 1e-12
_GOOD_ENOUGH = 1e-9
# On the way to narrower scales.
_COARSE = 1e-3
_WIDE = 3.0
_SHRINK = 0.7
_LEAST_SHRINK = 0.97
_STEPS = 12


def stick_loc_for_probs(
    probs: Tensor,
    scale: Tensor,
    in_lengths: bool,
    observe: Callable[[Tensor, Tensor], None] | None = None,
) -> Solution:
    r"""Means :math:`\mu` (threshold zero) whose law of the longest piece is ``probs``.

    Probabilities below 1e-10 are met by the formula of the start, to about their own size.

    Arguments:
        probs: Summing to one, float64, with shape :math:`(N, K)`; in length space that of category K, which
            never wins, is not looked at, and the last mean is :math:`3 \sigma`.
        scale: :math:`\sigma`, float64, with shape :math:`(N, K - 1)`.
        in_lengths: Whether the remainder takes no part.
        observe: Called at every step with the indices of laws and the probabilities [n, K] they have there,
            at scales that may still be wider.
    """
    count = probs.shape[-1] - 1
    if in_lengths:
        probs = probs[:, :-1]
    probs = probs.clamp_min(1e-3 * _FLOOR)
    probs = probs / probs.sum(-1, keepdim=True)
    goal = _Hazards.of(probs)
    start = torch.nn.functional.pad(goal.probit, (0, count - goal.probit.shape[-1]), value=3.0)
    loc = start * scale
    factor = (_WIDE / scale.amin(-1)).clamp_min(1.0)
    shrink = torch.full_like(factor, _SHRINK)
    # The first scales have no wider ones before them.
    solved = torch.zeros_like(factor, dtype=torch.bool)
    # How the means change with the factor; for wide scales they are proportional to it.
    slope = loc
    loc = loc * factor.unsqueeze(-1)
    active = torch.arange(len(probs))
    converged = torch.zeros_like(solved)
    while len(active):
        here = torch.where(solved[active], (factor * shrink)[active].clamp_min(1.0), factor[active])
        problem = _Problem(
            probs[active], scale[active] * here.unsqueeze(-1), goal.at(active), in_lengths, here == 1.0
        )
        narrower = (here - factor[active]).unsqueeze(-1)
        guess = loc[active] + slope[active] * narrower
        tried, reached = _newton(problem, problem.start(guess, start[active]), active, observe)
        good, bad = active[reached], active[~reached]
        moved = reached & solved[active]
        slope[active[moved]] = ((tried - loc[active]) / narrower)[moved]
        loc[good], factor[good], solved[good] = tried[reached], here[reached], True
        converged[good] = here[reached] == 1.0
        # A failure at the first scales is one of a target that is out of reach.
        shrink[bad] = torch.where(solved[bad], shrink[bad].sqrt(), 1.0)
        lost = shrink > _LEAST_SHRINK
        # Means of the scale that was asked for, in proportion.
        nearest = tried[~reached] / here[~reached].unsqueeze(-1)
        loc[bad] = torch.where(lost[bad].unsqueeze(-1), nearest, loc[bad])
        active = active[~(converged | lost)[active]]
    return Solution(loc, converged)


class _Hazards(NamedTuple):
    r"""Of a law [*, K]: what is left from each category on, and :math:`\Phi^{-1}(h_k)` for k < K."""

    rest: Tensor
    probit: Tensor

    @classmethod
    def of(cls, probs: Tensor) -> _Hazards:
        rest = probs.flip(-1).cumsum(-1).flip(-1)
        # From the smaller of h and 1 - h, which alone has all digits.
        share, other = probs[..., :-1] / rest[..., :-1], rest[..., 1:] / rest[..., :-1]
        smaller = torch.special.ndtri(torch.minimum(share, other).clamp_min(1e-300))
        return cls(rest, torch.where(share < other, smaller, -smaller))

    def at(self, index: Tensor) -> _Hazards:
        return _Hazards(self.rest[index], self.probit[index])


class _Problem:
    """Laws to be reached at the given scales."""

    def __init__(self, probs: Tensor, scale: Tensor, goal: _Hazards, in_lengths: bool, last: Tensor) -> None:
        self.probs, self.scale, self.goal, self.in_lengths = probs, scale, goal, in_lengths
        self.tolerance = torch.where(last, _TOLERANCE, _COARSE)
        self.good_enough = torch.where(last, _GOOD_ENOUGH, _COARSE)
        self.free = (probs[:, :-1] > _FLOOR) & (goal.rest[:, 1:] > _FLOOR)

    def start(self, loc: Tensor, probit: Tensor) -> Tensor:
        """The means with those that are held put where their pieces take nothing, or all there is."""
        free = torch.nn.functional.pad(self.free, (0, loc.shape[-1] - self.free.shape[-1]))
        held = probit * self.scale
        # With 7 standard deviations to spare such a piece is shorter than the K-th part of what there is, so
        # that it does not win however narrow the others are, or leaves so little.
        far = 7.0 * self.scale + math.log(loc.shape[-1]) + 1.0
        beyond = torch.where(held < 0, torch.minimum(held, -far), torch.maximum(held, far))
        last = torch.arange(loc.shape[-1]) >= self.free.shape[-1]
        return torch.where(free, loc, torch.where(last, held, beyond))


def _newton(
    problem: _Problem, loc: Tensor, names: Tensor, observe: Callable[[Tensor, Tensor], None] | None
) -> tuple[Tensor, Tensor]:
    """Means, and whether their laws are the ones of the problem, [n]."""
    loc = loc.clone()
    best = torch.full((len(loc),), torch.inf, dtype=loc.dtype)
    kept = loc.clone()
    active = torch.arange(len(loc))
    width = problem.free.shape[-1]
    for _ in range(_STEPS):
        scale = problem.scale[active]
        law, jacobian = longest_piece_law_and_jacobian(loc[active], scale, problem.in_lengths)
        if observe is not None:
            observe(names[active], law)
        law, jacobian = law[:, : width + 1], jacobian[:, : width + 1, :width]
        # What the whole law has lost is no error of its shape.
        error = (law / law.sum(-1, keepdim=True) - problem.probs[active]).abs().amax(-1)
        better = error < best[active]
        kept[active[better]] = loc[active[better]]
        # Once it is small, an error that is no longer halved is that of the law itself.
        done = (error <= problem.tolerance[active]) | (
            (error > 0.5 * best[active]) & (best[active] <= problem.good_enough[active])
        )
        best[active] = torch.minimum(best[active], error)
        active, law, jacobian, scale = active[~done], law[~done], jacobian[~done], scale[~done]
        if not len(active):
            break
        step = _step(law, jacobian, scale[:, :width], problem.goal.at(active), problem.free[active])
        # A step longer than the scale of a piece would leave the region where the slope holds. Each is cut
        # for itself: that of a probability which is hardly resolved may be any, and must not stop others.
        loc[active, :width] -= torch.clamp(step, -scale[:, :width], scale[:, :width])
    return kept, best <= problem.good_enough


def _step(law: Tensor, jacobian: Tensor, scale: Tensor, goal: _Hazards, free: Tensor) -> Tensor:
    """What to subtract from the means [n, K - 1] by the linear map at hand; zero where they are held."""
    law = law.clamp_min(1e-3 * _FLOOR)
    reached = _Hazards.of(law)
    residual = torch.where(free, scale * (reached.probit - goal.probit), 0.0)
    rest = reached.rest[:, :-1, None]
    rest_slope = jacobian.flip(-2).cumsum(-2).flip(-2)[:, :-1]
    slope = jacobian[:, :-1] / rest - law[:, :-1, None] * rest_slope / rest**2
    density = torch.exp(-0.5 * reached.probit**2) / math.sqrt(2.0 * math.pi)
    matrix = slope * (scale / density).unsqueeze(-1)
    both = free.unsqueeze(-1) & free.unsqueeze(-2)
    matrix = torch.where(both, matrix, torch.eye(free.shape[-1], dtype=law.dtype))
    found, failed = torch.linalg.solve_ex(matrix, residual.unsqueeze(-1))
    # Where there is no way by the slope, that of a map that were the identity.
    bad = (failed != 0).unsqueeze(-1) | ~torch.isfinite(found.squeeze(-1)).all(-1, keepdim=True)
    step: Tensor = torch.where(bad, residual, found.squeeze(-1))
    return step
