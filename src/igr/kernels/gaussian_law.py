r"""The law of the largest of K - 1 independent normals and zero, exactly: the discrete law of IGR-I.

For :math:`y_j \sim N(\mu_j, \sigma_j^2)` the category is :math:`\arg\max(y_1, \dots, y_{K-1}, 0)`, and

.. math::
    P(k) = \int_0^\infty \frac{\varphi(z_k)}{\sigma_k} \prod_{j \neq k} \Phi(z_j)\, dt,
    \quad z_j = \frac{t - \mu_j}{\sigma_j}, \qquad P(K) = \prod_j \Phi(-\mu_j / \sigma_j).

All categories share the nodes of :func:`igr.kernels.quadrature.nodes_for_maximum`, so that
:math:`S(t) = \sum_j \log\Phi(z_j)` is formed once and category k is :math:`\exp(S - \log\Phi(z_k))
\varphi(z_k) / \sigma_k`. Time and memory are linear in K times nodes. A threshold c other than zero is a
shift of all means by -c.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from igr.kernels.normal import LOG_SQRT_2PI, log_ndtr, reversed_hazard
from igr.kernels.quadrature import Nodes, nodes_for_maximum
from igr.kernels.tracing import is_traced

_SQRT_HALF = math.sqrt(0.5)
_DENSITY_AT_ZERO = math.exp(-LOG_SQRT_2PI)
# Where every P(k) is above this, no product that matters has underflowed.
_SAFE = {torch.float32: 1e-28, torch.float64: 1e-280}
# The fused form keeps a Jacobian, (K - 1)^2 numbers, while K - 1 is at most so many times the nodes: it is
# then no larger than the arrays of the pass.
_WIDEST = 2
# Numbers per array in one pass of the fused form: small enough to stay in cache and to be given from the
# heap again and again. Fresh pages cost more than the arithmetic.
_CHUNK = 2**17


def maximum_log_probs(loc: Tensor, scale: Tensor, num_nodes: int) -> Tensor:
    r"""Log-probabilities :math:`\log P(k)` as the quadrature gives them, not normalized.

    Arguments:
        loc: :math:`\mu - c`, with shape :math:`(*, K - 1)`, float32 or float64.
        scale: :math:`\sigma`, with the same shape.
        num_nodes: The number of quadrature nodes.

    Returns:
        Tensor with shape :math:`(*, K)`, differentiable to every order in loc and scale.
    """
    nodes = nodes_for_maximum(loc.detach(), scale.detach(), num_nodes)
    if is_traced() or loc.shape[-1] > _WIDEST * num_nodes:
        above_zero = maximum_log_probs_reference(loc, scale, nodes)
    else:
        above_zero = _MaximumLogProbs.apply(loc, scale, *nodes)
    last = log_ndtr(-loc / scale).sum(-1, keepdim=True)
    return torch.cat([above_zero, last], dim=-1)


def maximum_log_probs_reference(loc: Tensor, scale: Tensor, nodes: Nodes) -> Tensor:
    """The K - 1 integrals by plain operations: the definition that the fused form is held to."""
    z = (nodes.points.unsqueeze(-2) - loc.unsqueeze(-1)) / scale.unsqueeze(-1)  # [*, K-1, Q]
    # No node lies further below a mean than the reach of the nodes, so erfc does not underflow.
    log_cdf = torch.log(0.5 * torch.special.erfc(z * -_SQRT_HALF))
    log_pdf = -0.5 * z * z - LOG_SQRT_2PI - torch.log(scale).unsqueeze(-1)
    common = log_cdf.sum(-2, keepdim=True) + nodes.log_weights.unsqueeze(-2)
    return torch.logsumexp(common + log_pdf - log_cdf, dim=-1)


def maximum_log_probs_and_jacobian(loc: Tensor, scale: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N, K] and their derivatives in loc [N, K, K-1], without a graph.

    Arguments:
        loc: Means with shape [N, K-1].
        scale: Scales with the same shape.
        num_nodes: The number of quadrature nodes.
    """
    with torch.no_grad():
        nodes = nodes_for_maximum(loc, scale, num_nodes)
        above_zero, by_loc, _ = _in_chunks(loc, scale, nodes, True, False)
        at = -loc / scale
        last = log_ndtr(at).sum(-1, keepdim=True)
        last_by_loc = -(reversed_hazard(at) / scale).unsqueeze(-2)
        by_loc = torch.cat([cast(Tensor, by_loc), last_by_loc], -2)
        return torch.cat([above_zero, last], -1), by_loc


class _MaximumLogProbs(torch.autograd.Function):
    """The fused form: value and Jacobian of each law in one pass over its K - 1 by Q arrays.

    Moving y_j acts on P(j) through its density, and on every other P(k) through its distribution
    function, so the Jacobian is a matrix product of what each node contributes to P(k) with the reversed
    hazard rate of y_j there. Nothing of the size of the nodes outlives the pass.
    """

    @staticmethod
    def forward(ctx: Any, loc: Tensor, scale: Tensor, points: Tensor, log_weights: Tensor) -> Tensor:
        mu, sigma, at, weights = (t.reshape(-1, t.shape[-1]) for t in (loc, scale, points, log_weights))
        with_loc, with_scale, *_ = ctx.needs_input_grad
        log_probs, by_loc, by_scale = _in_chunks(mu, sigma, Nodes(at, weights), with_loc, with_scale)
        ctx.save_for_backward(loc, scale, points, log_weights, by_loc, by_scale)
        return log_probs.view(loc.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        loc, scale, points, log_weights, *jacobians = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: plain operations
            inputs = tuple(t for t, j in zip((loc, scale), jacobians, strict=True) if j is not None)
            log_probs = maximum_log_probs_reference(loc, scale, Nodes(points, log_weights))
            found = iter(torch.autograd.grad(log_probs, inputs, grad, create_graph=True))
            grads = [None if j is None else next(found) for j in jacobians]
        else:
            row = grad.reshape(-1, 1, grad.shape[-1])
            grads = [None if j is None else torch.bmm(row, j).view(loc.shape) for j in jacobians]
        return *grads, None, None


def _in_chunks(
    loc: Tensor, scale: Tensor, nodes: Nodes, with_loc: bool, with_scale: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """:func:`_log_probs_and_jacobians` over [N, K-1], a few laws at a time on the CPU."""
    per_law = loc.shape[-1] * nodes.points.shape[-1]
    size = max(1, _CHUNK // per_law) if loc.device.type == "cpu" else max(1, len(loc))
    chunks = zip(*(t.split(size) for t in (loc, scale, *nodes)), strict=True)
    results = [_log_probs_and_jacobians(*chunk, with_loc, with_scale) for chunk in chunks]  # type: ignore[call-arg]
    log_probs, by_loc, by_scale = (
        None if parts[0] is None else torch.cat(parts) for parts in zip(*results, strict=True)
    )
    return cast(Tensor, log_probs), by_loc, by_scale


def _shares(z: Tensor, cdf: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each node gives to each P(k), as a fraction of it; the reversed hazard; and log P(k).

    The densities stand without their constants 1 / (sigma sqrt(2 pi)). ``cdf`` is overwritten.
    """
    if z.device.type == "cpu" and z.numel() > 0:
        # Products of probabilities as they are, without a logarithm or its inverse: a third less time.
        weight = cdf.prod(-2, keepdim=True).mul_(torch.exp(log_weights).unsqueeze(-2))
        hazard = (z * z).mul_(-0.5).exp_().div_(cdf)
        share = hazard * weight
        mass = share.sum(-1)
        if float(mass.min()) > _SAFE[z.dtype]:
            return share.div_(mass.unsqueeze(-1)), hazard, mass.log_()
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


def _log_probs_and_jacobians(
    loc: Tensor,
    scale: Tensor,
    points: Tensor,
    log_weights: Tensor,
    with_loc: bool,
    with_scale: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """log P(k) with shape [N, K-1], and its derivatives in loc and scale, [N, K-1, K-1]."""
    rate = scale.reciprocal()
    z = (points.unsqueeze(-2) - loc.unsqueeze(-1)).mul_(rate.unsqueeze(-1))
    cdf = torch.special.erfc(z * -_SQRT_HALF).mul_(0.5)
    share, hazard, log_mass = _shares(z, cdf, log_weights)
    log_probs = log_mass + torch.log(rate) - LOG_SQRT_2PI
    hazard.mul_(_DENSITY_AT_ZERO)
    by_loc = by_scale = None
    if with_loc:
        by_loc = torch.bmm(share, hazard.mT).mul_(-rate.unsqueeze(-2))
        by_loc.diagonal(dim1=-2, dim2=-1).copy_(torch.linalg.vecdot(share, z) * rate)
    if with_scale:
        by_scale = torch.bmm(share, hazard.mul_(z).mT).mul_(-rate.unsqueeze(-2))
        own = torch.linalg.vecdot(share, z * z) - 1.0
        by_scale.diagonal(dim1=-2, dim2=-1).copy_(own * rate)
    return log_probs, by_loc, by_scale
