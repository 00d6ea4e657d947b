r"""The law of the longest piece of a stick broken by normal logits, exactly: the discrete law of IGR-SB.

With :math:`y_k \sim N(\mu_k, \sigma_k^2)` for k = 1 .. n, pieces :math:`\pi_k` and what remains after
them, :math:`R_k`, as in :mod:`igr.kernels.stick_breaking`, let :math:`A_k = \max_{j \le k} \log \pi_j - \log
R_k` be how far the longest of the first k pieces leads what remains. It is a Markov chain,

.. math:: A_0 = -\infty, \qquad A_k = \max(A_{k-1} + \mathrm{softplus}(y_k), \; y_k),

in which piece k takes the lead if :math:`A_{k-1} < \log\mathrm{sigmoid}(y_k)`, and category K = n + 1 wins
if :math:`A_n < c`. Everything follows from two linear operators on functions of x,

.. math::
    (S_k f)(x) = \int_{y<x} N_k(y)\, f(x - \mathrm{softplus}(y))\, dy, \qquad
    (C_k f)(x) = \int_{y>x} N_k(y)\, f(\log\mathrm{sigmoid}(y))\, dy.

:math:`F_k = S_k F_{k-1}`, :math:`F_0 = 1`, is the distribution function of :math:`A_k`.
:math:`C_k F_{k-1}` is the probability that piece k takes the lead and is by more than x ahead of what
remains, as a function of x; and :math:`S_k + C_k` carries such a function for an earlier leader past
piece k. Hence

.. math::
    P(k) = \big((S_n + C_n) \cdots (S_{k+1} + C_{k+1})\, C_k F_{k-1}\big)(c), \qquad P(K) = F_n(c),

with the product applied from the left, as one row vector for all k.

What makes it cheap is that a winner has at least the K-th part of the stick: the functions are asked
for on :math:`[-\log(n - k + e^{-c}), \max(c, 0)]` alone, an interval that every step maps into the one
before, and they are smooth there, without the kinks that the law of the later pieces has. So few
Chebyshev points represent them, and the integrals go by Gauss-Legendre. Time is linear in K, and all
parameters enter through :math:`N_k`.

In length space the remainder takes no part: that is the limit of a threshold c below every piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from igr.kernels.chebyshev import chebyshev_rule
from igr.kernels.quadrature import clenshaw_curtis, gauss_legendre
from igr.kernels.stick_breaking import softplus
from igr.kernels.stick_breaking_law_piece import FLAT, REACH, Piece
from igr.kernels.stick_breaking_law_shared import Effort, shared_groups, shared_probs
from igr.kernels.tracing import is_traced

# For integrals of one variable, which cost next to nothing.
_OUTER_NODES = 64
# Numbers per array in one pass: they stay in cache, and are still many to a call.
_CHUNK = 2**16
# Numbers that a chunk may keep for its gradient.
_KEPT = 2**25
_MOST_POINTS = 320


class Mesh(NamedTuple):
    """Chebyshev points for each function, and nodes for each of its integrals."""

    num_points: int
    num_nodes: int


class _Precision(NamedTuple):
    """Points and nodes as linear functions of how fine the finest feature is, and what they reach.

    Fitted to hard laws (K to 50, scales 0.1 to 5, equal or mixed, means wide, alike or geometric).
    """

    points: tuple[float, float]
    nodes: tuple[float, float]
    # Probabilities below this are noise.
    floor: float
    # Where values cannot be read; what it does not resolve becomes NaN there.
    unread: Mesh
    # Of the meshes that laws share.
    shared: Effort


_PRECISION = {
    torch.float64: _Precision(
        (10.0, 3.6),
        (8.0, 1.3),
        1e-11,
        Mesh(96, 64),
        Effort((13.0, 4.0), (10.0, 1.8), (3.0, 2.0), 8.5, 1e-12),
    ),
    torch.float32: _Precision(
        (6.0, 2.8),
        (7.0, 1.0),
        1e-8,
        Mesh(64, 44),
        Effort((5.2, 3.0), (8.0, 1.2), (1.8, 2.0), 6.5, 1e-9),
    ),
}


def longest_piece_log_probs(
    loc: Tensor,
    scale: Tensor,
    num_nodes: int | None = None,
    threshold: float | Tensor = 0.0,
    in_lengths: bool = False,
) -> Tensor:
    r"""Log-probabilities :math:`\log P(k)` as computed, not normalized.

    The arithmetic is float64; for float32 parameters it is done with less effort. On the CPU, where values
    can be read, laws of ordinary scales share their meshes, which takes a fiftieth of the time; other laws,
    and all where ``num_nodes`` is given, have one each. Probabilities below what the arithmetic resolves
    (1e-11, or 1e-8 in float32) are held there, without a gradient.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*, K - 1)`, float32 or float64.
        scale: :math:`\sigma`, with the same shape.
        num_nodes: Points and nodes; ``None`` for as many as the parameters need or, where they cannot be read
            (under a tracer, or on a device that would wait), a fixed number, with NaN where it is too small.
        threshold: c, a float or a tensor with shape :math:`(*, 1)`; not used in length space.
        in_lengths: Whether the remainder takes no part, so that :math:`\log P(K) = -\infty`.

    Returns:
        Tensor with shape :math:`(*, K)`, differentiable to every order in loc, scale and threshold.

    Raises:
        NotImplementedError: where scales are so small that too many points would be needed.
        ValueError: where ``num_nodes`` are too few for the probabilities to sum to one.
    """
    precision = _PRECISION[loc.dtype]
    mu, sigma = loc.double(), scale.double()
    c = torch.as_tensor(threshold, dtype=torch.float64, device=loc.device).expand(*loc.shape[:-1], 1)
    if is_traced():
        mesh = precision.unread if num_nodes is None else Mesh(num_nodes, num_nodes)
        probs = longest_piece_probs(mu, sigma, c, in_lengths, mesh)
        if num_nodes is None:
            probs = _where_resolved(probs, mu, sigma, c, in_lengths, precision)
    else:
        flat_mu, flat_sigma, flat_c = (t.reshape(-1, t.shape[-1]) for t in (mu, sigma, c))
        if num_nodes is None and loc.device.type == "cpu":
            probs = _on_shared_meshes(flat_mu, flat_sigma, flat_c, in_lengths, precision)
        else:
            probs = _in_chunks(flat_mu, flat_sigma, flat_c, in_lengths, precision, num_nodes)
        probs = probs.view(*loc.shape[:-1], loc.shape[-1] + 1)
    held = probs <= precision.floor
    # What is certain may be more than that by rounding.
    logs = torch.log(torch.where(held, 1.0, probs)).clamp_max(0.0)
    log_probs = torch.where(held, math.log(precision.floor), logs)
    log_probs = log_probs.to(loc.dtype)
    if in_lengths:
        return torch.cat([log_probs[..., :-1], torch.full_like(log_probs[..., -1:], -torch.inf)], dim=-1)
    return log_probs


def longest_piece_law_and_jacobian(loc: Tensor, scale: Tensor, in_lengths: bool) -> tuple[Tensor, Tensor]:
    r"""The probabilities of laws on the CPU, and their slopes in the means; the threshold is zero.

    Arguments:
        loc: :math:`\mu`, float64, with shape :math:`(N, K - 1)`.
        scale: :math:`\sigma`, with the same shape.
        in_lengths: Whether the remainder takes no part.

    Returns:
        Tensors with shapes :math:`(N, K)` and :math:`(N, K, K - 1)`, without gradient.

    Raises:
        NotImplementedError: where scales are so small that too many points would be needed.
    """
    edge = torch.zeros_like(loc[:, :1])
    probs, jacobian = loc.new_empty(len(loc), loc.shape[-1] + 1), loc.new_empty(*loc.shape, loc.shape[-1])
    jacobian = torch.cat([jacobian, jacobian[:, :1]], dim=1)
    with torch.no_grad():
        for chosen, mesh in _chunks(
            loc, scale, edge, in_lengths, _PRECISION[torch.float64], None, keeps=True
        ):
            mu, sigma, c = (t.index_select(0, chosen) for t in (loc, scale, edge))
            probs[chosen], jacobian[chosen] = longest_piece_probs_and_jacobian(mu, sigma, c, in_lengths, mesh)
    return probs, jacobian


def _on_shared_meshes(
    loc: Tensor, scale: Tensor, edge: Tensor, in_lengths: bool, precision: _Precision
) -> Tensor:
    """:func:`longest_piece_probs` over [N, n] by the fused form; with a mesh of its own where it has none."""

    def plain(loc: Tensor, scale: Tensor, edge: Tensor) -> Tensor:
        return _in_chunks(loc, scale, edge, in_lengths, precision, None)

    if len(loc) == 0:
        return plain(loc, scale, edge)
    groups, rest = shared_groups(loc, scale, edge, in_lengths, precision.shared)
    if not groups:
        return plain(loc, scale, edge)
    probs = shared_probs(loc, scale, edge, groups, plain)
    if len(rest) == 0:
        return probs
    return probs.index_put((rest,), plain(*(t.index_select(0, rest) for t in (loc, scale, edge))))


def _in_chunks(
    loc: Tensor, scale: Tensor, edge: Tensor, in_lengths: bool, precision: _Precision, num_nodes: int | None
) -> Tensor:
    """:func:`longest_piece_probs` over [N, n], a few laws at a time, those of like needs together."""
    if len(loc) == 0:
        return torch.cat([loc, loc[:, :1]], dim=-1)
    # Without a gradient, checkpoint only loads torch's compiler, which takes longer than a law.
    keeps = torch.is_grad_enabled() and any(t.requires_grad for t in (loc, scale, edge))
    parts, order = [], []
    for chosen, mesh in _chunks(loc, scale, edge, in_lengths, precision, num_nodes, keeps):
        mu, sigma, c = (t.index_select(0, chosen) for t in (loc, scale, edge))
        order.append(chosen)
        # What a gradient needs is far larger than the law; it is formed again when it is wanted.
        parts.append(
            checkpoint(
                longest_piece_probs,
                mu,
                sigma,
                c,
                in_lengths,
                mesh,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            if keeps
            else longest_piece_probs(mu, sigma, c, in_lengths, mesh)
        )
    probs = torch.cat(parts).index_select(0, torch.cat(order).argsort())
    if num_nodes is None:
        read = loc.device.type == "cpu"
        return probs if read else _where_resolved(probs, loc, scale, edge, in_lengths, precision)
    lost = (probs.detach().sum(-1) - 1.0).abs().max().item()
    if lost > 1e-4:
        raise ValueError(
            f"discrete: expected num_nodes to resolve the law; got {num_nodes}, with which the probabilities "
            f"of stick-breaking miss a sum of one by {lost:.1g}; leave it out, or give more."
        )
    return probs


def _chunks(
    loc: Tensor,
    scale: Tensor,
    edge: Tensor,
    in_lengths: bool,
    precision: _Precision,
    num_nodes: int | None,
    keeps: bool,
) -> Iterator[tuple[Tensor, Mesh]]:
    """Which of the laws [N, n] to compute at a time, and on what mesh; those of like needs together.

    Arguments:
        keeps: Whether every step keeps arrays of the size of its operators.
    """
    mesh = precision.unread if num_nodes is None else Mesh(num_nodes, num_nodes)
    order = torch.arange(len(loc), device=loc.device)
    wanted: list[list[int]] | None = None
    if num_nodes is None and loc.device.type == "cpu":
        needs = _needs(loc.detach(), scale.detach(), edge.detach(), in_lengths, precision)
        order = needs[:, 0].argsort(descending=True)
        wanted = needs[order].tolist()
        if wanted[0][0] > _MOST_POINTS:
            smallest = scale[order[0]].min().item()
            raise NotImplementedError(
                f"discrete: no exact law of stick-breaking is known for scales as small as {smallest:.2g} "
                f"with these means: {wanted[0][0]} points would be needed and {_MOST_POINTS} are the most; "
                "use method='monte_carlo'."
            )
    first = 0
    while first < len(loc):
        mesh = mesh if wanted is None else Mesh(wanted[first][0], wanted[first][1])
        per_law = mesh.num_points * mesh.num_nodes
        size = max(1, _CHUNK // per_law)
        if keeps:
            # Each step keeps as many arrays as there are points.
            size = max(1, min(size, _KEPT // (per_law * mesh.num_points * loc.shape[-1])))
        if wanted is not None:
            mesh = Mesh(mesh.num_points, max(row[1] for row in wanted[first : first + size]))
        yield order[first : first + size], mesh
        first += size


def _where_resolved(
    probs: Tensor, loc: Tensor, scale: Tensor, edge: Tensor, in_lengths: bool, precision: _Precision
) -> Tensor:
    """The probabilities, or NaN where the mesh for values that are not read is too coarse."""
    needs = _needs(loc.detach(), scale.detach(), edge.detach(), in_lengths, precision)
    # Too few nodes lose mass, too few points need not.
    lost = (probs.detach().sum(-1, keepdim=True) - 1.0).abs()
    resolved = (needs[..., :1] <= precision.unread.num_points) & (lost < 1e3 * precision.floor)
    return torch.where(resolved, probs, torch.nan)


def _needs(loc: Tensor, scale: Tensor, edge: Tensor, in_lengths: bool, precision: _Precision) -> Tensor:
    """Points and nodes that each law needs, [N, 2], by the lengths of its intervals over its scales."""
    low, high = loc - REACH * scale, loc + REACH * scale
    lows, highs, _ = _intervals(loc, scale, edge, in_lengths)
    # A piece that is narrow but certain to be above or below every other one has no feature to resolve.
    active = (low < highs[0].clamp_min(0.0)) & (high > lows[0])
    finest = torch.where(active, scale, torch.inf).amin(-1, keepdim=True)
    longest = (torch.cat(highs, -1) - torch.cat(lows, -1)).amax(-1, keepdim=True)
    covered = (torch.minimum(torch.cat(highs[1:], -1), high) - low.clamp_min(-FLAT)).clamp_min(0.0)
    # softplus has a slope of at most a half below zero, and bends over about one and a half.
    feature = torch.minimum(scale, 2.0 * finest).clamp_max(1.5)
    counts = []
    for ratio, (least, slope) in (
        # However wide the scales, softplus bends.
        (longest / finest.clamp_max(2.0), precision.points),
        ((covered / feature).amax(-1, keepdim=True).clamp_max(40.0), precision.nodes),
    ):
        # In steps of 4, so that chunks share their rules.
        counts.append((4.0 * torch.ceil(0.25 * (least + slope * ratio.nan_to_num(0.0, 0.0)))).long())
    return torch.cat(counts, dim=-1)


def longest_piece_probs(
    loc: Tensor, scale: Tensor, threshold: Tensor, in_lengths: bool, mesh: Mesh
) -> Tensor:
    """The probabilities by plain operations, with shape [*, K]; threshold with shape [*, 1]."""
    lead = _certain(loc, mesh)
    carries, takes = [], []
    for stay, take in _operators(loc, scale, threshold, in_lengths, mesh):
        takes.append(take @ lead)
        lead = stay @ lead
        carries.append(stay + take)
    found = [lead.squeeze(-1)]
    row = torch.ones_like(lead)
    for carry, taken in zip(reversed(carries), reversed(takes), strict=True):
        found.append((row @ taken).squeeze(-1))
        row = row @ carry
    return torch.cat(found[::-1], dim=-1)


def longest_piece_probs_and_jacobian(
    loc: Tensor, scale: Tensor, threshold: Tensor, in_lengths: bool, mesh: Mesh
) -> tuple[Tensor, Tensor]:
    r"""The probabilities, and their slopes :math:`\partial P(k) / \partial \mu_j`, with shape [*, K, n].

    The slope of an operator in its mean is the same integral with the weight :math:`(y - \mu) / \sigma^2`, so
    all of them cost twice the law. With what each has done to the vectors after it, two columns for each
    piece, they are carried along the chain, which adds little as long as K is in the hundreds.
    """
    lead = _certain(loc, mesh)
    # Slopes of the distribution function in the means so far; what has led so far, carried to here.
    slopes = leaders = lead[..., :0]
    carries, own_slopes, later_slopes = [], [], []
    for stays, takes in _operators(loc, scale, threshold, in_lengths, mesh, slopes=True):
        (stay, stay_slope), (take, take_slope) = stays, takes
        carry = stay + take
        own_slopes.append(torch.cat([take @ slopes, take_slope @ lead], dim=-1))
        later_slopes.append((stay_slope + take_slope) @ leaders)
        slopes = torch.cat([stay @ slopes, stay_slope @ lead], dim=-1)
        leaders = torch.cat([carry @ leaders, take @ lead], dim=-1)
        lead = stay @ lead
        carries.append(carry)
    jacobian = loc.new_zeros(*loc.shape, loc.shape[-1])
    row = torch.ones_like(lead)
    for k in reversed(range(loc.shape[-1])):
        jacobian[..., k, : k + 1] = (row @ own_slopes[k]).squeeze(-2)
        jacobian[..., :k, k] = (row @ later_slopes[k]).squeeze(-2)
        row = row @ carries[k]
    probs = torch.cat([leaders, lead], dim=-1).squeeze(-2)
    return probs, torch.cat([jacobian, slopes], dim=-2)


def _certain(loc: Tensor, mesh: Mesh) -> Tensor:
    """:math:`F_0 = 1` at the points of the mesh, [*, points, 1]."""
    return torch.ones_like(loc[..., :1]).unsqueeze(-1).expand(*loc.shape[:-1], mesh.num_points, 1)


def _operators(
    loc: Tensor, scale: Tensor, threshold: Tensor, in_lengths: bool, mesh: Mesh, slopes: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """:math:`S_k` and :math:`C_k` for k = 1 .. n as matrices on values at the points, [*, points, points].

    The last ones have one row, for the one value that is asked for. With slopes there is a dimension of two
    before all others: the operator, and its slope in the mean of the piece.
    """
    n = loc.shape[-1]
    # Clenshaw-Curtis is the one that a tracer can follow; it needs more nodes.
    rule = clenshaw_curtis if is_traced() else gauss_legendre
    inner = rule(mesh.num_nodes, loc.dtype, loc.device)
    outer = rule(_OUTER_NODES, loc.dtype, loc.device)
    points, coefficients, tails = chebyshev_rule(mesh.num_points, loc.dtype, loc.device)
    lows, highs, edge = _intervals(loc.detach(), scale.detach(), threshold, in_lengths)
    for k in range(n):
        piece = Piece(loc[..., k, None], scale[..., k, None], lows[k], highs[k], mesh.num_points, slopes)
        if k == n - 1:
            # The one point that is asked for, which carries the gradient of the threshold.
            stay, take = piece.stays(edge, *inner), piece.leads_above(edge, *outer)
        else:
            half = 0.5 * (highs[k + 1] - lows[k + 1])
            x = lows[k + 1] + half * (1.0 + points)
            stay = piece.stays(x, *inner)
            within = half.unsqueeze(-1) * (tails @ piece.leads_at(x))
            take = piece.leads_above(highs[k + 1], *outer) + within
        yield stay @ coefficients, take @ coefficients


def _intervals(
    loc: Tensor, scale: Tensor, threshold: Tensor, in_lengths: bool
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Ends [*, 1] of the intervals on which :math:`F_0 .. F_n` are needed, and the threshold as it is used.

    Where no piece exceeds e, every logit is below log(2 e) as long as 2 (n + 1) e < 1; so far below some
    mean that is as good as impossible, and the threshold may be raised to such an e. Likewise it may be
    lowered to what no lead exceeds.
    """
    n = loc.shape[-1]
    high = loc + REACH * scale
    lowest = (loc - REACH * scale).amax(-1, keepdim=True).clamp_max(-math.log(n + 1.0)) - math.log(2.0)
    largest = high.amax(-1, keepdim=True) + softplus(high).sum(-1, keepdim=True)
    edge = lowest if in_lengths else torch.maximum(torch.minimum(threshold, largest), lowest)
    top = -softplus(-high)
    lows = highs = [edge.detach()]
    for k in range(1, n + 1):
        count = torch.full_like(edge, math.log(k))
        lows = [-torch.logaddexp(-edge.detach(), count), *lows]
        highs = [torch.maximum(highs[0], top[..., n - k, None]), *highs]
    return lows, highs, edge
