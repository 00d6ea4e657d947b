r"""The law of the largest of K - 1 independent normals and a threshold, exactly: the discrete law of IGR-I.

For :math:`y_j \sim N(\mu_j, \sigma_j^2)` the category is :math:`\arg\max(y_1, \dots, y_{K-1}, c)`, and

.. math::
    P(k) = \int_c^\infty \frac{\varphi(z_k)}{\sigma_k} \prod_{j \neq k} \Phi(z_j)\, dt,
    \quad z_j = \frac{t - \mu_j}{\sigma_j}, \qquad P(K) = \prod_j \Phi\Big(\frac{c - \mu_j}{\sigma_j}\Big).

All categories share the nodes of :func:`igr.kernels.quadrature.nodes_for_maximum`, so that
:math:`S(t) = \sum_j \log\Phi(z_j)` is formed once and category k is :math:`\exp(S - \log\Phi(z_k))
\varphi(z_k) / \sigma_k`. Time and memory are linear in K times nodes.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from igr.kernels.normal import LOG_SQRT_2PI, log_ndtr, reversed_hazard
from igr.kernels.quadrature import Nodes, default_num_nodes, nodes_for_maximum
from igr.kernels.tracing import is_traced

_SQRT_HALF = math.sqrt(0.5)
_DENSITY_AT_ZERO = math.exp(-LOG_SQRT_2PI)
# Where every P(k) is above this, no product that matters has underflowed.
_SAFE = {torch.float32: 1e-28, torch.float64: 1e-280}
# Above this erfc is a normal number.
_SAFE_ARGUMENT = {torch.float32: -12.0, torch.float64: -36.0}
# So many standard deviations below the threshold, a variable is none to the nodes, which reach less far
# above a mean, and its distribution function is one.
_DEEP = {torch.float32: 8.0, torch.float64: 10.0}
# Numbers per array in one pass of the fused form: small enough to stay in cache and to be given from the
# heap again and again. Fresh pages cost more than the arithmetic.
_CHUNK = 2**17


def maximum_log_probs(
    loc: Tensor,
    scale: Tensor,
    num_nodes: int | None = None,
    threshold: float | Tensor = 0.0,
    equal_scales: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Log-probabilities :math:`\log P(k)` as the quadrature gives them, not normalized.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*, K - 1)`, float32 or float64.
        scale: :math:`\sigma`, with the same shape.
        num_nodes: The number of quadrature nodes; ``None`` for as many as the parameters need or, where they
            cannot be read (under a tracer, or on a device that would wait), as any parameters need.
        threshold: c, a float or a tensor with shape :math:`(*, 1)`.
        equal_scales: Whether all scales of a law are known to be one number.
        mask: Where a category is not available, with shape :math:`(*, K)` and False for category K; loc is
            finite and scale positive there too.

    Returns:
        Tensor with shape :math:`(*, K)`, differentiable to every order in loc, scale and threshold.
    """
    if mask is not None:
        loc, scale = _out_of_reach(loc, scale, threshold, mask[..., :-1])
        log_probs = maximum_log_probs(loc, scale, num_nodes, threshold, equal_scales)
        return log_probs.masked_fill(mask, -torch.inf)
    if isinstance(threshold, Tensor):
        # The law depends on loc - c alone. The difference is zero, and carries the gradient.
        loc = loc - (threshold - threshold.detach())
        threshold = threshold.detach()
    if num_nodes is None and (is_traced() or loc.device.type != "cpu"):
        num_nodes = default_num_nodes(loc.dtype, loc.shape[-1] + 1, equal_scales)
    nodes = nodes_for_maximum(loc.detach(), scale.detach(), num_nodes, threshold)
    # The fused form keeps a Jacobian of K (K - 1) numbers, which is to be no larger than its other arrays.
    if is_traced() or loc.shape[-1] > nodes.offsets.shape[-1]:
        above = maximum_log_probs_reference(loc, scale, nodes)
        last = log_ndtr((threshold - loc) / scale).sum(-1, keepdim=True)
        return torch.cat([above, last], dim=-1)
    edge = torch.as_tensor(threshold, dtype=loc.dtype, device=loc.device).expand(*loc.shape[:-1], 1)
    return _MaximumLogProbs.apply(loc, scale, edge, *nodes)


def _out_of_reach(
    loc: Tensor, scale: Tensor, threshold: float | Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Means and scales with masked variables so far below the threshold that nothing depends on them.

    Their distribution functions are exactly one at every node; and since they do not reach up to the
    threshold and none is narrower than another variable, neither the ends of the nodes nor their spacing is
    theirs. They are as wide as the nodes reach, lest their densities underflow, at the cost of the fast path.
    """
    deep = _DEEP[loc.dtype]
    with torch.no_grad():
        edge = torch.as_tensor(threshold, dtype=loc.dtype, device=loc.device)
        reach = (loc + deep * scale).amax(-1, keepdim=True) - edge
        # A few units of the threshold, since it rounds what is taken from it.
        grain = 4.0 * torch.finfo(loc.dtype).eps * edge.abs()
        wide = reach.clamp(min=0.0) + scale.amax(-1, keepdim=True) + grain
        low = edge - deep * wide
    return torch.where(mask, low, loc), torch.where(mask, wide, scale)


def maximum_log_probs_reference(loc: Tensor, scale: Tensor, nodes: Nodes) -> Tensor:
    """The K - 1 integrals by plain operations: the definition that the fused form is held to."""
    distance = nodes.offsets.unsqueeze(-2) + (nodes.start - loc).unsqueeze(-1)
    z = distance / scale.unsqueeze(-1)  # [*, K-1, Q]
    # No node lies further below a mean than the reach of the nodes, so erfc does not underflow.
    log_cdf = torch.log(0.5 * torch.special.erfc(z * -_SQRT_HALF))
    log_pdf = -0.5 * z * z - LOG_SQRT_2PI - torch.log(scale).unsqueeze(-1)
    common = log_cdf.sum(-2, keepdim=True) + nodes.log_weights.unsqueeze(-2)
    return torch.logsumexp(common + log_pdf - log_cdf, dim=-1)


def maximum_log_probs_and_jacobian(loc: Tensor, scale: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N, K] for the threshold 0 and their derivatives in loc [N, K, K-1], without a graph.

    Arguments:
        loc: Means with shape [N, K-1].
        scale: Scales with the same shape.
        num_nodes: The number of quadrature nodes.
    """
    with torch.no_grad():
        nodes = nodes_for_maximum(loc, scale, num_nodes)
        log_probs, by_loc, _ = _in_chunks(loc, scale, torch.zeros_like(loc[:, :1]), nodes, True, False)
        return log_probs, cast(Tensor, by_loc)


class _MaximumLogProbs(torch.autograd.Function):
    """The fused form: value and Jacobian of each law in one pass over its K - 1 by Q arrays.

    Moving y_j acts on P(j) through its density, and on every other P(k) through its distribution
    function, so the Jacobian is a matrix product of what each node contributes to P(k) with the reversed
    hazard rate of y_j there. Nothing of the size of the nodes outlives the pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        loc: Tensor,
        scale: Tensor,
        edge: Tensor,
        start: Tensor,
        offsets: Tensor,
        log_weights: Tensor,
    ) -> Tensor:
        mu, sigma, c, first, apart, weights = (
            t.reshape(-1, t.shape[-1]) for t in (loc, scale, edge, start, offsets, log_weights)
        )
        with_loc, with_scale, *_ = ctx.needs_input_grad
        nodes = Nodes(first, apart, weights)
        # Autocast would take the matrix products in half precision.
        with torch.autocast(loc.device.type, enabled=False):
            log_probs, by_loc, by_scale = _in_chunks(mu, sigma, c, nodes, with_loc, with_scale)
        ctx.save_for_backward(loc, scale, edge, start, offsets, log_weights, by_loc, by_scale)
        return log_probs.view(*loc.shape[:-1], loc.shape[-1] + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        loc, scale, edge, start, offsets, log_weights, *jacobians = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: plain operations
            inputs = tuple(t for t, j in zip((loc, scale), jacobians, strict=True) if j is not None)
            above = maximum_log_probs_reference(loc, scale, Nodes(start, offsets, log_weights))
            last = log_ndtr((edge - loc) / scale).sum(-1, keepdim=True)
            log_probs = torch.cat([above, last], dim=-1)
            found = iter(torch.autograd.grad(log_probs, inputs, grad, create_graph=True))
            grads = [None if j is None else next(found) for j in jacobians]
        else:
            row = grad.reshape(-1, 1, grad.shape[-1])
            with torch.autocast(loc.device.type, enabled=False):
                grads = [None if j is None else torch.bmm(row, j).view(loc.shape) for j in jacobians]
        return *grads, None, None, None, None


def _in_chunks(
    loc: Tensor, scale: Tensor, edge: Tensor, nodes: Nodes, with_loc: bool, with_scale: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """:func:`_log_probs_and_jacobians` over [N, K-1], a few laws at a time on the CPU."""
    per_law = loc.shape[-1] * nodes.offsets.shape[-1]
    size = max(1, _CHUNK // per_law) if loc.device.type == "cpu" else max(1, len(loc))
    chunks = zip(*(t.split(size) for t in (loc, scale, edge, *nodes)), strict=True)
    results = [
        _log_probs_and_jacobians(mu, sigma, c, Nodes(*rest), with_loc, with_scale)
        for mu, sigma, c, *rest in chunks
    ]
    log_probs, by_loc, by_scale = (
        None if parts[0] is None else torch.cat(parts) for parts in zip(*results, strict=True)
    )
    return cast(Tensor, log_probs), by_loc, by_scale


def _log_probs_and_jacobians(
    loc: Tensor, scale: Tensor, edge: Tensor, nodes: Nodes, with_loc: bool, with_scale: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """log P(k) with shape [N, K], and its derivatives in loc and scale, [N, K, K-1]."""
    rate = scale.reciprocal()
    distance = nodes.offsets.unsqueeze(-2) + (nodes.start - loc).unsqueeze(-1)
    z = distance.mul_(rate.unsqueeze(-1))
    share, hazard, log_mass = _shares(z, nodes.log_weights)
    above = log_mass + torch.log(rate) - LOG_SQRT_2PI
    at_edge = (edge - loc).mul_(rate)
    log_cdf, edge_hazard = _at_edge(at_edge)
    log_probs = torch.cat([above, log_cdf.sum(-1, keepdim=True)], dim=-1)
    if not (with_loc or with_scale):
        return log_probs, None, None

    # Each Jacobian: what moves the other P(k), then what moves P(j) itself, then the row of P(K).
    n = loc.shape[-1]
    weighted = torch.cat([hazard, hazard * z], dim=-2) if with_scale else hazard
    products = torch.bmm(share, weighted.mT)  # one product for both
    moment = share.mul_(z)
    by_loc = by_scale = None
    column_rate = rate.unsqueeze(-2)
    if with_loc:
        by_loc = torch.cat([products[..., :n].mul_(-_DENSITY_AT_ZERO), -edge_hazard.unsqueeze(-2)], dim=-2)
        by_loc.diagonal(dim1=-2, dim2=-1).copy_(moment.sum(-1))
        by_loc.mul_(column_rate)
    if with_scale:
        edge_row = -(edge_hazard * at_edge).unsqueeze(-2)
        by_scale = torch.cat([products[..., n:].mul_(-_DENSITY_AT_ZERO), edge_row], dim=-2)
        by_scale.diagonal(dim1=-2, dim2=-1).copy_(moment.mul_(z).sum(-1) - 1.0)
        by_scale.mul_(column_rate)
    return log_probs, by_loc, by_scale


def _shares(z: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each node gives to each P(k), as a fraction of it; the reversed hazard; and log P(k).

    The densities stand without their constants 1 / (sigma sqrt(2 pi)).
    """
    cdf = (z * -_SQRT_HALF).erfc_().mul_(0.5)
    if z.device.type == "cpu" and z.numel() > 0:
        # Products of probabilities as they are, without a logarithm or its inverse: a third less time.
        weight = cdf.prod(-2, keepdim=True).mul_(torch.exp(log_weights).unsqueeze(-2))
        hazard = (z * z).mul_(-0.5).exp_().div_(cdf)
        share = torch.mul(hazard, weight, out=cdf)
        mass = share.sum(-1)
        if float(mass.min()) > _SAFE[z.dtype]:
            return share.div_(mass.unsqueeze(-1)), hazard, mass.log_()
        cdf = (z * -_SQRT_HALF).erfc_().mul_(0.5)
    log_cdf = cdf.log_()
    common = log_cdf.sum(-2, keepdim=True).add_(log_weights.unsqueeze(-2))
    log_hazard = torch.addcmul(log_cdf.neg_(), z, z, value=-0.5)
    exponent = log_hazard + common
    # log_softmax takes the same number, log P, from every entry; the mean of what it took, by the shares
    # themselves, reads that number where it is most accurate, and costs less than logsumexp.
    log_share = torch.log_softmax(exponent, dim=-1)
    taken = exponent.sub_(log_share)
    share = log_share.exp_()
    return share, log_hazard.exp_(), torch.linalg.vecdot(share, taken)


def _at_edge(x: Tensor) -> tuple[Tensor, Tensor]:
    """log Phi(x) and the reversed hazard, [N, K-1]."""
    if x.device.type == "cpu" and x.numel() > 0 and float(x.min()) > _SAFE_ARGUMENT[x.dtype]:
        cdf = (x * -_SQRT_HALF).erfc_().mul_(0.5)
        return torch.log(cdf), torch.exp(-0.5 * x * x - LOG_SQRT_2PI).div_(cdf)
    return log_ndtr(x), reversed_hazard(x)
