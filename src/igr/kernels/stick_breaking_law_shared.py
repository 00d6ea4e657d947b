"""The law of the longest piece on meshes that laws share: the fused form, for code whose values can be read.

:mod:`igr.kernels.stick_breaking_law` has the definitions. On a mesh of
:mod:`igr.kernels.stick_breaking_law_mesh` a piece of all laws costs one matrix product, of a fixed tensor
with the densities at the nodes, and what was fixed is applied to vectors, forward for the distribution
function and the leaders so far, backward for the row. The slope of the law is bilinear in the same vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from igr.kernels.stick_breaking_law_mesh import (
    NUM_MOMENTS,
    Interval,
    Resolution,
    Stage,
    interval,
    lowest_point,
    num_points,
    stages,
)
from igr.kernels.stick_breaking_law_piece import REACH

# Scales of meshes are powers of the square root of a half; no mesh is made for wider scales than two.
_WIDEST = -2
# In length space the threshold is the highest of these that no lead falls short of.
_EDGES = (-1.0, -2.0, -3.0, -4.0, -5.5, -7.5, -10.0, -14.0, -20.0)
# Other thresholds are handled in cells of length one.
_CELLS = (-8, 3)
_MOST_POINTS = 64
_MOST_NUMBERS = 2**25
# Fewer laws are not worth a mesh of their own where there is a finer one.
_FEW = 128
# Laws in one pass, and numbers that may be kept for the gradient; beyond, they are formed again.
_CHUNK = 1024
_KEPT = 2**24


class Effort(NamedTuple):
    """What a precision asks of a mesh."""

    points: tuple[float, float]
    nodes: tuple[float, float]
    between: tuple[float, float]
    reach: float
    # The probability that may be given to a threshold that stands for none.
    lost: float


class Group(NamedTuple):
    """Laws on one mesh."""

    chosen: Tensor
    edge: tuple[float, float]
    resolution: Resolution


def shared_groups(
    loc: Tensor, scale: Tensor, threshold: Tensor, in_lengths: bool, effort: Effort
) -> tuple[list[Group], Tensor]:
    """Which of the laws [N, n] share meshes, and which have none; the threshold has shape [N, 1]."""
    edges, cell = _edges(loc.detach(), scale.detach(), threshold, in_lengths, effort)
    reaches = [0.0 if edge is None else _reach(loc.shape[-1], edge, effort) for edge in edges]
    reach = torch.tensor(reaches, dtype=loc.dtype, device=loc.device).index_select(0, cell).unsqueeze(-1)
    level = _levels(loc.detach(), scale.detach(), reach)
    codes, inverse, counts = torch.unique(128 * cell + level, return_inverse=True, return_counts=True)
    groups, rest = [], [inverse[:0]]
    waiting: list[Tensor] = []
    # In the order of edges, and from coarse to fine: few laws wait for the next mesh, if it has their edges.
    keys = [(code // 128, code % 128) for code in codes.tolist()]
    found = [_resolution(loc.shape[-1], edges[c], level + _WIDEST, effort) for c, level in keys]
    for index, chosen in enumerate(inverse.argsort().split(counts.tolist())):
        waiting.append(chosen)
        edge, resolution = edges[keys[index][0]], found[index]
        if edge is None or resolution is None:
            rest += waiting
        else:
            is_last = (
                index + 1 == len(keys) or keys[index + 1][0] != keys[index][0] or found[index + 1] is None
            )
            if sum(map(len, waiting)) < _FEW and not is_last:
                continue
            groups.append(Group(torch.cat(waiting), edge, resolution))
        waiting = []
    return groups, torch.cat(rest)


def _reach(num_pieces: int, edge: tuple[float, float], effort: Effort) -> float:
    """How far from zero the nodes go: as far as the points at least."""
    return max(effort.reach, float(math.ceil(max(-lowest_point(num_pieces, edge[0]), edge[1]))))


def _levels(loc: Tensor, scale: Tensor, reach: Tensor) -> Tensor:
    """The mesh for the finest scale among the pieces that meet any node, [N]; zero is the coarsest."""
    near = REACH * scale
    active = (loc + near > -reach) & (loc - near < reach)
    # A scale whose square may underflow is for no mesh.
    finest = torch.where(active | (scale < 1e-9), scale, torch.inf).amin(-1)
    return torch.ceil(-2.0 * torch.log2(finest)).clamp(_WIDEST, 64.0).nan_to_num(0.0).long() - _WIDEST


def _edges(
    loc: Tensor, scale: Tensor, threshold: Tensor, in_lengths: bool, effort: Effort
) -> tuple[list[tuple[float, float] | None], Tensor]:
    """Between which edges thresholds lie, and which of them are those of a law, [N]; the last are none's."""
    edges: list[tuple[float, float] | None]
    finite = torch.isfinite(loc + scale).all(-1)
    if in_lengths:
        edges = [(edge, edge) for edge in _EDGES]
        # A lead that does not reach an edge takes a logit that does not, of every piece.
        cell = torch.zeros(len(loc), dtype=torch.long, device=loc.device)
        for edge in _EDGES:
            reached = ~(torch.special.ndtr((edge - loc) / scale).prod(-1) < effort.lost)
            if not reached.any():
                break
            cell += reached
    else:
        first, last = _CELLS
        edges = [(float(low), low + 1.0) for low in range(first, last)]
        c = threshold.detach().squeeze(-1)
        cell = torch.floor(c.clamp(first - 1, last)).nan_to_num(last).long() - first
        cell = torch.where(cell < 0, last - first, cell)
        # The default has a mesh for itself, whose last function is one number; it knows no slope.
        if not threshold.requires_grad:
            edges.insert(0, (0.0, 0.0))
            cell = torch.where(c == 0.0, 0, cell + 1)
    return [*edges, None], torch.where(finite, cell, len(edges))


def _resolution(
    num_pieces: int, edge: tuple[float, float] | None, level: int, effort: Effort
) -> Resolution | None:
    """That of a mesh, or None where it would be too large."""
    if edge is None:
        return None
    low = lowest_point(num_pieces, edge[0])
    reach = _reach(num_pieces, edge, effort)
    resolution = Resolution(2.0 ** (-0.5 * level), effort.points, effort.nodes, effort.between, reach)
    points = num_points(max(edge[1], 0.0) - low, resolution)
    numbers = num_pieces * points**2 * (effort.between[0] * points + 2.0 * effort.nodes[0] + 2.0 * points)
    return resolution if points <= _MOST_POINTS and numbers <= _MOST_NUMBERS else None


def shared_probs(
    loc: Tensor,
    scale: Tensor,
    threshold: Tensor,
    groups: list[Group],
    plain: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """The probabilities [N, K] of the laws in the groups, and zeros for the others; float64.

    Arguments:
        plain: The same law by operations that can be differentiated again.
    """
    if torch.is_grad_enabled() and (loc.requires_grad or scale.requires_grad or threshold.requires_grad):
        probs: Tensor = _SharedProbs.apply(loc, scale, threshold, groups, plain)
        return probs
    return _forward(loc, scale, threshold, groups)[0]


class _Step(NamedTuple):
    """What the sweeps leave of a piece for the gradient; laws come last everywhere."""

    values: Tensor  # v, [J + 6, N]
    z: Tensor  # the nodes in standard deviations, [J, N]
    stay: Tensor  # S, [P, Q, N]
    lead: Tensor  # F before the piece, [Q, N]
    row: Tensor  # after it, [P, N]
    above: Tensor  # the row, summed over the points below each node, [J_C + 3, N]
    taken: Tensor  # the row times C, [Q, N]


class _Laws(NamedTuple):
    """Some laws on one mesh."""

    chosen: Tensor
    stages: list[Stage]
    mu: Tensor  # [n, N]
    sigma: Tensor
    ends: tuple[float, float]  # where the moments begin
    row: Tensor  # what reads the last function at the threshold, [P, N]
    row_slope: Tensor


def _laws(loc: Tensor, scale: Tensor, threshold: Tensor, groups: list[Group]) -> Iterator[_Laws]:
    """A few laws at a time, always in the same order."""
    for group in groups:
        all_stages = stages(loc.shape[-1], group.edge, group.resolution)
        last = interval(0, group.edge, group.resolution)
        reach = group.resolution.reach
        per_law = sum(stage.num_points * stage.num_before + 3 * len(stage.nodes) for stage in all_stages)
        for chosen in group.chosen.split(max(1, min(_CHUNK, _KEPT // per_law))):
            mu, sigma = (t.index_select(0, chosen).mT.contiguous() for t in (loc, scale))
            c = threshold.index_select(0, chosen).squeeze(-1)
            yield _Laws(chosen, all_stages, mu, sigma, (-reach, reach), *_reading(last, c))


def _reading(last: Interval, c: Tensor) -> tuple[Tensor, Tensor]:
    """The row that reads a function at c [N], and its slope in c."""
    if last.count == 1:
        return torch.ones_like(c).unsqueeze(0), torch.zeros_like(c).unsqueeze(0)
    angle = torch.acos(((c - last.low) / last.half - 1.0).clamp(-1.0, 1.0))
    polynomials = torch.cos(torch.arange(last.count, dtype=c.dtype, device=c.device).unsqueeze(-1) * angle)
    value, slope = (torch.from_numpy(last.series(order)) for order in (0, 1))
    return value.mT @ polynomials, slope.mT @ polynomials[: len(slope)]


def _moments(end: float, mu: Tensor, sigma: Tensor) -> Tensor:
    """The integrals of N(y) exp(p y) below the end for p = 0, 1, 2: [n, 3, N]."""
    mu, sigma = mu.unsqueeze(1), sigma.unsqueeze(1)
    shift = _orders(mu) * sigma
    inside = torch.special.log_ndtr((end - mu) / sigma - shift)
    return inside.add_(_orders(mu) * (mu + 0.5 * shift * sigma)).exp_()


def _slopes_of_moments(
    end: float, mu: Tensor, sigma: Tensor, moments: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The slopes in mean and scale of the weighted sum of the moments, [n, N]."""
    mu, sigma = mu.unsqueeze(1), sigma.unsqueeze(1)
    order = _orders(mu)
    z = (end - mu) / sigma
    # By parts; and to widen a normal law is to diffuse it.
    at_end = torch.exp(order * end - 0.5 * z * z) / (sigma * math.sqrt(2.0 * math.pi))
    by_loc = order * moments - at_end
    by_scale = sigma * order * by_loc - z * at_end
    return (weight * by_loc).sum(1), (weight * by_scale).sum(1)


def _orders(like: Tensor) -> Tensor:
    return torch.arange(NUM_MOMENTS, dtype=like.dtype, device=like.device).unsqueeze(-1)


class _Applied:
    """S, or its transpose, applied to vectors; products stand in one array, for fresh memory is slow."""

    def __init__(self, laws: _Laws) -> None:
        most = max(stage.num_points * stage.num_before for stage in laws.stages)
        self._room = laws.mu.new_empty(most * laws.mu.shape[1])

    def room(self, like: Tensor) -> Tensor:
        return self._room[: like.numel()].view(like.shape)

    def forward(self, stay: Tensor, vector: Tensor) -> Tensor:
        return torch.mul(stay, vector, out=self.room(stay)).sum(1)

    def backward(self, stay: Tensor, row: Tensor) -> Tensor:
        return torch.mul(stay, row.unsqueeze(1), out=self.room(stay)).sum(0)


def _sweep(laws: _Laws) -> tuple[Tensor, list[_Step], Tensor]:
    """The probabilities [K, N]; what each piece leaves; and F of the last one."""
    m = NUM_MOMENTS
    lower, upper = _moments(laws.ends[0], laws.mu, laws.sigma), _moments(-laws.ends[1], -laws.mu, laws.sigma)
    rate = laws.sigma.reciprocal()
    height = rate / math.sqrt(2.0 * math.pi)
    applied = _Applied(laws)
    lead = torch.ones_like(laws.mu[:1])
    forward = []
    for k, stage in enumerate(laws.stages):
        z = (stage.nodes - laws.mu[k]).mul_(rate[k])
        values = z.new_empty(len(z) + 2 * m, z.shape[1])
        values[:m], values[-m:] = lower[k], upper[k]
        torch.mul(z, z, out=values[m:-m]).mul_(-0.5).exp_().mul_(height[k])
        stay = (stage.stays @ values[: stage.stays.shape[1]]).view(stage.num_points, stage.num_before, -1)
        forward.append((values, z, stay, lead))
        lead = applied.forward(stay, lead)
    row = laws.row
    found = [(row * lead).sum(0)]
    steps = []
    for stage, (values, z, stay, before) in zip(reversed(laws.stages), reversed(forward), strict=True):
        above = stage.leads.mT @ row
        taken = stage.reads.mT @ (above * values[-len(above) :])
        found.append((taken * before).sum(0))
        steps.append(_Step(values, z, stay, before, row, above, taken))
        row = applied.backward(stay, row).add_(taken)
    return torch.stack(found[::-1]), steps[::-1], lead


def _gradients(
    laws: _Laws, steps: list[_Step], last: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of the weighted sum of the probabilities in means and scales, [n, N], and in the threshold, [N].

    With h_k the weighted leaders so far, b_k the weighted row of the distribution function and a_k the row of
    the law, that of piece k is read off a_k (dS h + dC (h + g_k F)) + b_k dS F.
    """
    m = NUM_MOMENTS
    applied = _Applied(laws)
    leaders = torch.zeros_like(steps[0].lead)
    leaders_before, reads = [], []
    for k, (stage, step) in enumerate(zip(laws.stages, steps, strict=True)):
        leaders_before.append(leaders)
        read = stage.reads @ torch.addcmul(leaders, weight[k], step.lead)
        reads.append(read)
        leaders = applied.forward(step.stay, leaders).add_(stage.leads @ (read * step.values[-len(read) :]))
    by_edge = (laws.row_slope * torch.addcmul(leaders, weight[-1], last)).sum(0)
    row = laws.row * weight[-1]
    # Sums over the nodes of slope times density, with the powers 0, 1, 2 of z.
    sums = laws.mu.new_empty(3, *laws.mu.shape)
    ends = laws.mu.new_empty(4, len(laws.mu), m, laws.mu.shape[1])
    for k in reversed(range(len(steps))):
        stage, step, read = laws.stages[k], steps[k], reads[k]
        outer = torch.mul(step.row.unsqueeze(1), leaders_before[k], out=applied.room(step.stay))
        outer.addcmul_(row.unsqueeze(1), step.lead)
        slope, count = torch.empty_like(step.values), stage.stays.shape[1]
        torch.mm(stage.stays.mT, outer.view(-1, outer.shape[-1]), out=slope[:count])
        slope[count:] = 0.0
        slope[-len(read) :].addcmul_(step.above, read)
        ends[0, k], ends[1, k], ends[2, k], ends[3, k] = (
            slope[:m],
            slope[-m:],
            step.values[:m],
            step.values[-m:],
        )
        mass = slope[m:-m].mul_(step.values[m:-m])
        for power in range(3):
            torch.sum(mass if power == 0 else mass.mul_(step.z), 0, out=sums[power, k])
        row = applied.backward(step.stay, row).addcmul_(step.taken, weight[k])
    below = _slopes_of_moments(laws.ends[0], laws.mu, laws.sigma, ends[2], ends[0])
    above = _slopes_of_moments(-laws.ends[1], -laws.mu, laws.sigma, ends[3], ends[1])
    by_loc = (below[0] - above[0]).addcdiv_(sums[1], laws.sigma)
    by_scale = (below[1] + above[1]).addcdiv_(sums[2] - sums[0], laws.sigma)
    return by_loc, by_scale, by_edge


def _forward(
    loc: Tensor, scale: Tensor, threshold: Tensor, groups: list[Group], keeps: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """The probabilities [N, K], and the arrays of all sweeps if they are to be kept and not too many."""
    probs = loc.new_zeros(len(loc), loc.shape[-1] + 1)
    kept: list[Tensor] = []
    count = 0
    for laws in _laws(loc, scale, threshold, groups):
        found, steps, last = _sweep(laws)
        probs[laws.chosen] = found.mT
        if keeps:
            arrays = [*(t for step in steps for t in step), last]
            count += sum(t.numel() for t in arrays)
            keeps = count <= _KEPT
            kept = [*kept, *arrays] if keeps else []
    return probs, kept


class _SharedProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        loc: Tensor,
        scale: Tensor,
        threshold: Tensor,
        groups: list[Group],
        plain: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        probs, kept = _forward(loc, scale, threshold, groups, keeps=True)
        ctx.groups, ctx.plain = groups, plain
        ctx.save_for_backward(loc, scale, threshold, *kept)
        return probs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        loc, scale, threshold, *kept = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # to be differentiated again: plain operations
            inputs = [t for t, n in zip((loc, scale, threshold), needed, strict=True) if n]
            chosen = torch.cat([group.chosen for group in ctx.groups])
            probs = ctx.plain(*(t.index_select(0, chosen) for t in (loc, scale, threshold)))
            weight = grad.index_select(0, chosen)
            found = iter(
                torch.autograd.grad(probs, inputs, weight, create_graph=True, materialize_grads=True)
            )
            return *(next(found) if n else None for n in needed), None, None
        grads = torch.zeros_like(loc), torch.zeros_like(scale), torch.zeros_like(threshold)
        size = len(_Step._fields)
        for laws in _laws(loc, scale, threshold, ctx.groups):
            if kept:
                count = size * len(laws.stages)
                arrays, kept = kept[: count + 1], kept[count + 1 :]
                steps = [_Step(*arrays[first : first + size]) for first in range(0, count, size)]
                last = arrays[-1]
            else:
                _, steps, last = _sweep(laws)
            weight = grad.index_select(0, laws.chosen).mT.contiguous()
            by_loc, by_scale, by_edge = _gradients(laws, steps, last, weight)
            for target, part in zip(grads, (by_loc.mT, by_scale.mT, by_edge.unsqueeze(-1)), strict=True):
                target[laws.chosen] = part
        return *(t if n else None for t, n in zip(grads, needed, strict=True)), None, None
