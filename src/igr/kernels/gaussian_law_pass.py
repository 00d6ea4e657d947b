r"""The passes over nodes of :mod:`igr.kernels.gaussian_law`, written by hand: a few laws at a time, in place.

With :math:`\Phi_j` and :math:`\varphi_j` at node t, :math:`h_j = \varphi_j / \Phi_j`, and
:math:`s_{kt}` what node t gives to P(k), as a fraction of it,

.. math::
    \frac{\partial \log P(k)}{\partial \mu_j} = -\frac{1}{\sigma_j} \sum_t s_{kt} h_{jt} \;(k \neq j), \qquad
    \frac{\partial \log P(j)}{\partial \mu_j} = \frac{1}{\sigma_j} \sum_t s_{jt} z_{jt},

and for :math:`\sigma_j` every summand gains the factor :math:`z_{jt}`, and P(j) loses one. A gradient needs
:math:`\sum_k g_k s_{kt}` alone, so it is one more pass over the same K - 1 by Q arrays; a Jacobian is a
matrix product.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor

from igr.kernels.normal import LOG_SQRT_2PI, log_ndtr, reversed_hazard
from igr.kernels.quadrature import Mesh, growth_of, mesh_for_maximum

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2 = math.sqrt(2.0)
_DENSITY_AT_ZERO = math.exp(-LOG_SQRT_2PI)
# Where every P(k) is above this, no product that matters has underflowed.
_SAFE = {torch.float32: 1e-22, torch.float64: 1e-160}
# Above this erfc is a normal number.
_SAFE_ARGUMENT = {torch.float32: -12.0, torch.float64: -36.0}
# What a probability lacks to one is nothing below this: as deep as that lie variables that are masked.
_NOTHING = {torch.float32: 1e-15, torch.float64: 1e-23}
# So far above a mean its density is zero, in units of sqrt(2) standard deviations: to a P(k) that is safe it
# adds nothing there, and numbers that are almost too small for their type take ten times as long as others.
_CUT = {torch.float32: 8.0, torch.float64: 20.0}
# Exponentials of less add nothing beside one: shares are taken for this, so that none is almost too small,
# and hazards for zero, since what they are multiplied by may be large.
_LEAST_LOGARITHM = {torch.float32: -40.0, torch.float64: -150.0}
# Up to so many factors of two overflow nothing.
_FEW = 64
# Numbers per array: on the CPU small enough to stay in cache; elsewhere as memory allows.
_CHUNK = 2**18
_CHUNK_OF_A_DEVICE = 2**26
_KEPT = threading.local()

# The gradient of what is wanted in the log P(k) of some laws, [K, L], from which they are and the log P(k).
Upstream = Callable[[slice, Tensor], Tensor]


class Laws:
    """N laws of K categories, laid out for the passes: categories first, and laws that need most nodes first.

    Arguments:
        loc: Means with shape [N, K-1].
        scale: Scales with the same shape.
        edge: The threshold of each law, [N, 1].
        num_nodes: The number of quadrature nodes; ``None`` for as many as each law needs.
        equal_scales: Whether the scales of each law are known to be one number.
    """

    def __init__(
        self, loc: Tensor, scale: Tensor, edge: Tensor, num_nodes: int | None, equal_scales: bool = False
    ) -> None:
        self.size, self.count = loc.shape
        self.equal_scales = equal_scales
        self.order: Tensor | None = None
        # From here on laws are the last dimension.
        scale = scale[:, :1] if self.equal_scales else scale
        loc, scale, edge = (t.T.contiguous() for t in (loc, scale, edge))
        mesh = mesh_for_maximum(loc, scale, edge, equal_scales=self.equal_scales, dim=0)
        most = _CHUNK if loc.device.type == "cpu" else _CHUNK_OF_A_DEVICE
        counts: Tensor | None = None
        if num_nodes is None and self.size > 0:
            counts, order = mesh.sufficient_num_nodes(self.count + 1).squeeze(0).sort(descending=True)
            num_nodes = int(counts[0])
            if self.size * self.count * num_nodes <= most or num_nodes == int(counts[-1]):
                counts = None
            else:
                self.order = order
                loc, scale, edge, *rest = (t[:, order] for t in (loc, scale, edge, *mesh))
                mesh = Mesh(*rest)
        self.chunks: list[tuple[slice, int]] = []
        first = 0
        while first < self.size:
            needed = cast(int, num_nodes) if counts is None else int(counts[first])
            here = slice(first, min(self.size, first + max(1, most // (self.count * needed))))
            self.chunks.append((here, needed))
            first = here.stop
        self.span = mesh.span.T  # [N, 1]
        # The rest is [K-1, N], or [1, N] where it is the same for all. At a node, -z / sqrt(2) is its growth
        # times the slope, plus the shift.
        self.rate = scale.reciprocal()
        in_units = self.rate * -_SQRT_HALF
        self.slope = in_units * mesh.unit
        self.shift = (mesh.start - loc).mul_(in_units).sub_(self.slope)
        self.at_edge = (edge - loc).mul_(self.rate)
        self.edge_hazard, self.last = _of_edge(self.at_edge)
        # What is left out of the weights of the nodes, and of the density.
        self.factor = self.rate * (mesh.span * mesh.unit * _DENSITY_AT_ZERO)

    def arranged(self, rows: Tensor) -> Tensor:
        """[N, M] as [M, N] in the order of the passes."""
        return (rows if self.order is None else rows[self.order]).T.contiguous()

    def restored(self, columns: Tensor) -> Tensor:
        """[*, N] as [N, *] in the order that was given."""
        if self.order is None:
            return columns.movedim(-1, 0).contiguous()
        result = columns.new_empty(self.size, *columns.shape[:-1])
        result[self.order] = columns.movedim(-1, 0)
        return result


def _arrays(like: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """Four arrays for one pass, the same for every pass of a thread: fresh pages cost more than arithmetic.

    None of them may be kept or returned.
    """
    size = math.prod(shape)
    if size > _CHUNK:  # one law that is larger than a chunk
        return [like.new_empty(shape) for _ in range(4)]
    kept: dict[torch.dtype, Tensor] = _KEPT.__dict__.setdefault("arrays", {})
    if like.dtype not in kept:
        with torch.inference_mode(False):
            kept[like.dtype] = torch.empty(4, _CHUNK, dtype=like.dtype, device=like.device)
    return [flat[:size].view(shape) for flat in kept[like.dtype]]


class _Read(NamedTuple):
    """What was read at the nodes of L laws, [K-1, L, Q] each where nothing else is said."""

    depth: Tensor  # -z / sqrt(2), cut where it does not matter
    hazard: Tensor  # in units of 2 phi(0)
    share: Tensor
    mass: Tensor  # what the shares of a category sum to, [K-1, L]
    log_probs: Tensor  # [K, L]
    spare: Tensor  # to be written over, of the shape of the first


def log_probs_of(laws: Laws) -> Tensor:
    """log P(k) with shape [N, K]."""
    result = laws.shift.new_empty(laws.count + 1, laws.size)
    for here, num_nodes in laws.chunks:
        result[:, here] = _read(laws, here, num_nodes).log_probs
    return laws.restored(result)


def gradients(laws: Laws, upstream: Upstream, with_scale: bool) -> tuple[Tensor, Tensor | None]:
    """Gradients in loc and, if wanted, in scale, [N, K-1], from those in the log P(k) of each chunk."""
    by_loc = torch.empty_like(laws.shift)
    by_scale = torch.empty_like(laws.shift) if with_scale else None
    of_all = laws.shift.new_empty(laws.count + 1, laws.size)
    for here, num_nodes in laws.chunks:
        depth, hazard, share, mass, log_probs, spare = _read(laws, here, num_nodes)
        of_each = upstream(here, log_probs)
        of_all[:, here] = of_each
        share.mul_((of_each[:-1] / mass).unsqueeze(-1))
        # What moves the other P(k): the sum over all less its own.
        terms = torch.sub(share.sum(0), share, out=spare).mul_(hazard)
        # Both sums at once: terms times -2 phi(0), and the shares times z.
        terms.addcmul_(share, depth, value=_SQRT_2 / (2.0 * _DENSITY_AT_ZERO))
        by_loc[:, here] = terms.sum(-1)
        if by_scale is not None:
            by_scale[:, here] = terms.mul_(depth).sum(-1)
    at_edge = laws.edge_hazard * of_all[-1]
    by_loc = by_loc.mul_(-2.0 * _DENSITY_AT_ZERO).sub_(at_edge).mul_(laws.rate)
    if by_scale is None:
        return laws.restored(by_loc), None
    by_scale = by_scale.mul_(2.0 * _SQRT_2 * _DENSITY_AT_ZERO).sub_(of_all[:-1])
    by_scale = by_scale.sub_(at_edge.mul_(laws.at_edge)).mul_(laws.rate)
    return laws.restored(by_loc), laws.restored(by_scale)


def log_probs_and_jacobian(laws: Laws) -> tuple[Tensor, Tensor]:
    """log P(k), and the derivatives of all of them in loc, [N, K, K-1]."""
    count = laws.count
    log_probs = laws.shift.new_empty(count + 1, laws.size)
    jacobian = laws.shift.new_empty(count + 1, count, laws.size)
    for here, num_nodes in laws.chunks:
        depth, hazard, share, mass, log_probs[:, here], _ = _read(laws, here, num_nodes)
        share.div_(mass.unsqueeze(-1))
        product = torch.bmm(share.transpose(0, 1), hazard.permute(1, 2, 0))
        product.mul_(-2.0 * _DENSITY_AT_ZERO)
        own = share.mul_(depth).sum(-1).mul_(-_SQRT_2)
        product.diagonal(dim1=-2, dim2=-1).copy_(own.T)
        jacobian[:-1, :, here] = product.permute(1, 2, 0)
    jacobian[-1] = -laws.edge_hazard
    return laws.restored(log_probs), laws.restored(jacobian.mul_(laws.rate))


def _read(laws: Laws, here: slice, num_nodes: int) -> _Read:
    growth, rule = growth_of(laws.span[here], num_nodes)
    weights = growth * rule
    if laws.shift.device.type != "cpu":
        return _read_by_logarithms(laws, here, growth, weights)
    count = laws.count
    depth, cdf, hazard, share = _arrays(laws.shift, (count, *growth.shape))
    # Products of probabilities as they are, without a logarithm or its inverse.
    torch.special.erfc(_depth(laws, here, growth, depth), out=cdf)  # twice the distribution function
    unit = 0.5**count if count <= _FEW else 1.0
    product = (cdf if count <= _FEW else torch.mul(cdf, 0.5, out=share)).prod(0).mul_(weights)
    cut = _CUT[depth.dtype]
    torch.addcmul(depth.new_zeros(()), depth.clamp_(min=-cut), depth, value=-1.0, out=hazard).exp_()
    torch.threshold_(hazard, math.exp(-cut * cut) * (1.0 + 1e-5), 0.0).div_(cdf)
    torch.mul(hazard, product, out=share)
    mass = share.sum(-1)
    above = (mass * laws.factor[:, here]).mul_(2.0 * unit).log_()
    found = _Read(depth, hazard, share, mass, torch.cat([above, laws.last[:, here]]), cdf)
    least = _SAFE[depth.dtype] / unit
    if not mass.min().item() > least:
        rows = (~(mass.amin(0) > least)).nonzero().squeeze(-1)
        exact = _read_by_logarithms(laws, rows + here.start, growth[rows], weights[rows])
        for whole, part in zip(found[:-1], exact[:-1], strict=True):
            whole[:, rows] = part
    return found


def _read_by_logarithms(laws: Laws, which: slice | Tensor, growth: Tensor, weights: Tensor) -> _Read:
    """The same where products of probabilities may underflow, and where it cannot be seen whether they do."""
    depth = _depth(laws, which, growth, growth.new_empty(laws.count, *growth.shape))
    log_cdf = torch.special.erfc(depth).mul_(0.5).log_()
    common = log_cdf.sum(0).add_(weights.log())
    log_hazard = torch.addcmul(log_cdf.neg_(), depth, depth, value=-1.0)
    exponent = log_hazard + common
    # log_softmax takes the same number, log P, from every entry; the mean of what it took, by the shares
    # themselves, reads that number where it is most accurate, and costs less than logsumexp.
    log_share = torch.log_softmax(exponent, dim=-1)
    taken = exponent.sub_(log_share)
    least = _LEAST_LOGARITHM[exponent.dtype]
    share = log_share.clamp_(min=least).exp_()
    # Not a dot product, which autocast would take in half precision.
    above = (share * taken).sum(-1) + torch.log(laws.factor[:, which])
    log_probs = torch.cat([above, laws.last[:, which]])
    hazard = torch.threshold_(log_hazard.clamp_(min=least).exp_(), math.exp(least) * (1.0 + 1e-5), 0.0)
    return _Read(depth, hazard.mul_(0.5), share, torch.ones_like(above), log_probs, exponent)


def _depth(laws: Laws, which: slice | Tensor, growth: Tensor, out: Tensor) -> Tensor:
    shift = laws.shift[:, which].unsqueeze(-1)
    if laws.equal_scales:
        return torch.add(growth * laws.slope[0, which].unsqueeze(-1), shift, out=out)
    return torch.mul(growth, laws.slope[:, which].unsqueeze(-1), out=out).add_(shift)


def _of_edge(x: Tensor) -> tuple[Tensor, Tensor]:
    """The reversed hazards at the threshold, [K-1, N], and log P(K), [1, N]."""
    if x.device.type == "cpu" and x.numel() > 0 and float(x.min()) > _SAFE_ARGUMENT[x.dtype]:
        tail = torch.abs(x).mul_(_SQRT_HALF).erfc_().mul_(0.5)
        # The logarithm of what is nearly one from what it lacks, since rounding would add up over categories.
        below = x < 0
        lacking = torch.where(tail > _NOTHING[x.dtype], tail, 0.0)
        log_cdf = torch.where(below, torch.log(tail), torch.log1p(-lacking))
        cdf = torch.where(below, tail, 1.0 - tail)
        return torch.exp(-0.5 * x * x - LOG_SQRT_2PI).div_(cdf), log_cdf.sum(0, keepdim=True)
    return reversed_hazard(x), log_ndtr(x).sum(0, keepdim=True)
