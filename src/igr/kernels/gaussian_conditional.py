r"""The conditional law of the Gaussian vector of IGR-I given the category that won.

For :math:`y_j \sim N(\mu_j, \sigma_j^2)` and the category :math:`k = \arg\max(y_1, \dots, y_{K-1}, c)`, the
winning value :math:`t = y_k` has the distribution function

.. math::
    v = \frac{H_k(t)}{P(k)}, \quad H_k(t) = \int_c^t \frac{\varphi(z_k)}{\sigma_k}
    \prod_{j \neq k} \Phi(z_j)\, ds, \quad z_j = \frac{s - \mu_j}{\sigma_j},

and given t the others are normals that are truncated above at t, with the distribution functions
:math:`v_j = \Phi((y_j - \mu_j) / \sigma_j) / \Phi((t - \mu_j) / \sigma_j)`. Where category K won, all are
truncated at c. Given k, the numbers v are independent and uniform, so they are noise of the conditional law;
a vector that is drawn from the joint law has a value of them, and holding it while the parameters move gives
the derivatives of the conditional reparameterization at that very vector.

With the integral above t, :math:`G = P(k) - H`, and the density :math:`f` of t times :math:`P(k)`,

.. math:: dt = -\frac{H G}{(H + G) f} (d\log H - d\log G), \quad
    d \log P(k) = \frac{H\, d\log H + G\, d\log G}{H + G},

which loses nothing in either tail, as :math:`v` close to one would.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from igr.kernels.normal import LOG_SQRT_2PI, log_ndtr, reversed_hazard
from igr.kernels.quadrature import default_num_nodes, enough_nodes, nodes_for_maximum
from igr.kernels.tracing import is_traced

_SQRT_HALF = math.sqrt(0.5)
# Numbers per array in one pass: small enough to stay in cache.
_CHUNK = 2**16


class GaussianConditional(NamedTuple):
    """Derivatives, for one draw of the vector and the category that it gives, without a graph.

    All have shape :math:`(*, K - 1)`.

    Arguments:
        score_by_loc: Of :math:`\\log P(k)` in the means.
        score_by_scale: Of :math:`\\log P(k)` in the scales.
        top_by_loc: Of the winning value in the means, at fixed v; zero where category K won.
        top_by_scale: Of the winning value in the scales, at fixed v.
        follow: How fast each other variable moves with the value that it is truncated at: a ratio of hazards
            from zero to one; one for the winner itself.
        depth: The winning value (c where category K won) standardized by each variable.
    """

    score_by_loc: Tensor
    score_by_scale: Tensor
    top_by_loc: Tensor
    top_by_scale: Tensor
    follow: Tensor
    depth: Tensor


def gaussian_conditional(
    loc: Tensor,
    scale: Tensor,
    noise: Tensor,
    winner: Tensor,
    threshold: float | Tensor = 0.0,
    num_nodes: int | None = None,
) -> GaussianConditional:
    r"""Derivatives of the law of the category and of the conditional map at a draw.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*, K - 1)`, float32 or float64.
        scale: :math:`\sigma`, with the same shape.
        noise: The draw, :math:`\epsilon = (y - \mu) / \sigma`, with the same shape.
        winner: Whether a variable won, a bool tensor with the same shape; all False where category K did.
        threshold: c, a float or a tensor with shape :math:`(*, 1)`.
        num_nodes: Quadrature nodes of either integral; ``None`` for as many as the parameters need.
    """
    # Autocast would take the matrix products in half precision.
    with torch.no_grad(), torch.autocast(loc.device.type, enabled=False):
        edge = torch.as_tensor(threshold, dtype=loc.dtype, device=loc.device)
        edge = edge.expand(*loc.shape[:-1], 1)
        loc, scale, noise = loc.detach(), scale.detach(), noise.detach()
        if is_traced() or loc.device.type != "cpu":
            if num_nodes is None:
                num_nodes = default_num_nodes(loc.dtype, loc.shape[-1] + 1, False)
            return _conditional(loc, scale, noise, winner, edge, num_nodes)
        rows = [part.reshape(-1, part.shape[-1]) for part in (loc, scale, noise, winner, edge)]
        # As many as the hardest law needs for all, so that results do not depend on the chunks.
        if num_nodes is None:
            # No integral over a part is longer than the whole one.
            num_nodes = enough_nodes(rows[0], rows[1], rows[4])
        size = max(1, _CHUNK // (loc.shape[-1] * num_nodes))
        chunks = [
            _conditional(mu, sigma, epsilon, won, c, num_nodes)
            for mu, sigma, epsilon, won, c in zip(*(row.split(size) for row in rows), strict=True)
        ]
        found = (torch.cat(part).view(loc.shape) for part in zip(*chunks, strict=True))
        return GaussianConditional(*found)


def _conditional(
    loc: Tensor, scale: Tensor, noise: Tensor, winner: Tensor, edge: Tensor, num_nodes: int
) -> GaussianConditional:
    y = torch.addcmul(loc, scale, noise)
    has_winner = winner.any(-1, keepdim=True)
    top = torch.where(has_winner, torch.where(winner, y, 0.0).sum(-1, keepdim=True), edge)
    # Where category K won the integrals mean nothing, but are to be finite.
    middle = torch.where(has_winner, top, edge + scale.amax(-1, keepdim=True))
    below = _integral(loc, scale, winner, edge, middle, num_nodes)
    above = _integral(loc, scale, winner, middle, None, num_nodes)

    rate = scale.reciprocal()
    depth = (top - loc) * rate
    hazard = reversed_hazard(depth)
    # log of f: the density of the winner there, and the distribution functions of the others.
    log_pdf = -0.5 * depth * depth - LOG_SQRT_2PI - torch.log(scale)
    log_f = torch.where(winner, log_pdf, log_ndtr(depth)).sum(-1, keepdim=True)
    share = torch.sigmoid(below.log_mass - above.log_mass)  # H / (H + G)
    step = torch.exp(torch.minimum(below.log_mass, above.log_mass) - log_f)
    step = step * torch.maximum(share, 1.0 - share)  # H G / ((H + G) f)

    # Of category K: log P(K) is the sum of the log Phi.
    of_edge = -hazard * rate
    return GaussianConditional(
        torch.where(has_winner, share * below.by_loc + (1.0 - share) * above.by_loc, of_edge),
        torch.where(has_winner, share * below.by_scale + (1.0 - share) * above.by_scale, of_edge * depth),
        torch.where(has_winner, -step * (below.by_loc - above.by_loc), 0.0),
        torch.where(has_winner, -step * (below.by_scale - above.by_scale), 0.0),
        torch.where(winner, 1.0, hazard / reversed_hazard(noise)),
        depth,
    )


class _Integral(NamedTuple):
    log_mass: Tensor  # [*, 1]
    by_loc: Tensor  # of log_mass, [*, K-1]
    by_scale: Tensor


def _integral(
    loc: Tensor, scale: Tensor, winner: Tensor, low: Tensor, high: Tensor | None, num_nodes: int
) -> _Integral:
    """The logarithm of the integral of the winner's density, and its derivatives at fixed limits."""
    nodes = nodes_for_maximum(loc, scale, num_nodes, low, high)
    rate = scale.reciprocal()
    distance = nodes.offsets.unsqueeze(-2) + (nodes.start - loc).unsqueeze(-1)
    z = distance.mul_(rate.unsqueeze(-1))  # [*, K-1, Q]
    # Category K, which has no row, stands for the first; nothing of it is used.
    index = winner.to(torch.uint8).argmax(-1, keepdim=True)
    row = index.unsqueeze(-1).expand(*index.shape, z.shape[-1])
    own = z.gather(-2, row)
    # No node lies further below a mean than the reach of the nodes, so erfc does not underflow.
    cdf = torch.mul(z, -_SQRT_HALF).erfc_().mul_(0.5)
    # Of the logarithm of the integrand in a mean: z / sigma of the winner, minus the hazard of another.
    slope = torch.mul(z, z).mul_(-0.5).exp_().mul_(-math.exp(-LOG_SQRT_2PI)).div_(cdf)
    slope = slope.scatter(-2, row, own)
    log_cdf = cdf.log_()
    log_pdf = -0.5 * own * own - LOG_SQRT_2PI - torch.log(scale).gather(-1, index).unsqueeze(-1)
    others = log_cdf.sum(-2, keepdim=True) - log_cdf.gather(-2, row)
    exponent = (others + log_pdf).squeeze(-2) + nodes.log_weights
    log_mass = torch.logsumexp(exponent, dim=-1, keepdim=True)
    share = torch.exp(exponent - log_mass).unsqueeze(-1)
    by_loc = (slope @ share).squeeze(-1) * rate
    by_scale = ((slope * z @ share).squeeze(-1) - winner.to(z.dtype)) * rate
    return _Integral(log_mass, by_loc, by_scale)


def push_back(
    conditional: GaussianConditional, noise: Tensor, winner: Tensor, cotangent: Tensor
) -> tuple[Tensor, Tensor]:
    r"""What changes between the vector and its conditional twin: :math:`(J_y - J_{\tilde y})^T u`.

    Both have the same value; the one moves with the parameters at fixed :math:`\epsilon`, the other at fixed
    category and v.

    Arguments:
        conditional: Of the draw.
        noise: The draw, with shape :math:`(*, K - 1)`.
        winner: Whether a variable won, with the same shape.
        cotangent: u, with the same shape; the result is differentiable in it.

    Returns:
        The products for the means and for the scales.
    """
    # Of y the derivatives are 1 and epsilon. Those of the twin are, of the winner, those of the top; of
    # another variable 1 + follow (d top - 1) and epsilon + follow (d top - depth).
    pulled = (conditional.follow * cotangent).sum(-1, keepdim=True)
    own = torch.where(winner, noise, conditional.depth)
    by_loc = conditional.follow * cotangent - conditional.top_by_loc * pulled
    by_scale = conditional.follow * cotangent * own - conditional.top_by_scale * pulled
    return by_loc, by_scale
