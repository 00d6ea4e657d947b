r"""The law of the largest of K - 1 independent normals and a threshold, exactly: the discrete law of IGR-I.

For :math:`y_j \sim N(\mu_j, \sigma_j^2)` the category is :math:`\arg\max(y_1, \dots, y_{K-1}, c)`, and

.. math::
    P(k) = \int_c^\infty \frac{\varphi(z_k)}{\sigma_k} \prod_{j \neq k} \Phi(z_j)\, dt,
    \quad z_j = \frac{t - \mu_j}{\sigma_j}, \qquad P(K) = \prod_j \Phi\Big(\frac{c - \mu_j}{\sigma_j}\Big).

All categories share the nodes of :func:`igr.kernels.quadrature.nodes_for_maximum`, so that
:math:`S(t) = \sum_j \log\Phi(z_j)` is formed once and category k is :math:`\exp(S - \log\Phi(z_k))
\varphi(z_k) / \sigma_k`. Time and memory are linear in K times nodes, and nothing of that size is kept for a
backward pass, which reads the nodes again.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from igr.kernels import gaussian_law_fused
from igr.kernels.gaussian_law_pass import Laws, gradients, log_probs_and_jacobian, log_probs_of
from igr.kernels.normal import LOG_SQRT_2PI, log_ndtr
from igr.kernels.numbers import LOWEST_LOGARITHM
from igr.kernels.quadrature import Nodes, default_num_nodes, nodes_for_maximum
from igr.kernels.tracing import is_batched, is_traced

_SQRT_HALF = math.sqrt(0.5)
# So many standard deviations below the threshold, a variable is none to the nodes, which reach less far
# above a mean, and its distribution function is one.
_DEEP = {torch.float32: 8.0, torch.float64: 10.0}


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
    if num_nodes is None and (is_traced() or loc.device.type != "cpu"):
        num_nodes = _most_nodes(loc, equal_scales)
    if mask is not None:
        # Those of masked variables are others.
        loc, scale = _out_of_reach(loc, scale, threshold, mask[..., :-1])
        return maximum_log_probs(loc, scale, num_nodes, threshold).masked_fill(mask, -torch.inf)
    if isinstance(threshold, Tensor):
        # The law depends on loc - c alone. The difference is zero, and carries the gradient.
        loc = loc - (threshold - threshold.detach())
        threshold = threshold.detach()
    edge = _edge(threshold, loc)
    if is_traced():
        return _by_plain_operations(loc, scale, edge, num_nodes)
    by_kernel = gaussian_law_fused.can_run(loc, scale)
    if by_kernel and num_nodes is None:
        num_nodes = _most_nodes(loc, equal_scales)
    return _MaximumLogProbs.apply(loc, scale, edge, num_nodes, equal_scales, by_kernel)


def maximum_kl(
    loc: Tensor,
    scale: Tensor,
    log_q: Tensor,
    threshold: float | Tensor = 0.0,
    equal_scales: bool = False,
) -> Tensor:
    r"""The divergence :math:`\sum_k P(k) (\log P(k) - \log q(k))`, with P normalized, in one pass.

    Value and gradient are found together, which :func:`maximum_log_probs` cannot, since it does not know what
    its result is for.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*, K - 1)`, float32 or float64.
        scale: :math:`\sigma`, with the same shape.
        log_q: :math:`\log q`, with a shape that expands to :math:`(*, K)`; finite, and without gradient.
        threshold: c, a float or a tensor with shape :math:`(*, 1)`, without gradient.
        equal_scales: Whether all scales of a law are known to be one number.

    Returns:
        Tensor with shape :math:`(*)`, differentiable to every order in loc and scale; not for tracers.
    """
    num_nodes = None if loc.device.type == "cpu" else _most_nodes(loc, equal_scales)
    edge = _edge(threshold, loc)
    wide_log_q = log_q.expand(*loc.shape[:-1], loc.shape[-1] + 1)
    if not torch.is_grad_enabled():  # which an autograd.Function cannot see
        log_probs = log_probs_of(Laws(_rows(loc), _rows(scale), _rows(edge), num_nodes, equal_scales))
        return _divergence(log_probs.T, _rows(wide_log_q).T)[0].view(loc.shape[:-1])
    return _MaximumKL.apply(loc, scale, wide_log_q, edge, num_nodes, equal_scales)


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


def _by_plain_operations(loc: Tensor, scale: Tensor, edge: Tensor, num_nodes: int | None) -> Tensor:
    nodes = nodes_for_maximum(loc.detach(), scale.detach(), num_nodes, edge)
    above = maximum_log_probs_reference(loc, scale, nodes)
    return torch.cat([above, log_ndtr((edge - loc) / scale).sum(-1, keepdim=True)], dim=-1)


def _edge(threshold: float | Tensor, loc: Tensor) -> Tensor:
    """The threshold of each law, [*, 1]; a number is written by the device, which then need not wait."""
    if isinstance(threshold, Tensor):
        return threshold.to(loc.device, loc.dtype).expand(*loc.shape[:-1], 1)
    return loc.new_full((1,), threshold).expand(*loc.shape[:-1], 1)


def _most_nodes(loc: Tensor, equal_scales: bool) -> int:
    return default_num_nodes(loc.dtype, loc.shape[-1] + 1, equal_scales)


def maximum_log_probs_and_jacobian(loc: Tensor, scale: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N, K] for the threshold 0 and their derivatives in loc [N, K, K-1], without a graph.

    Arguments:
        loc: Means with shape [N, K-1].
        scale: Scales with the same shape.
        num_nodes: The number of quadrature nodes.
    """
    # Autocast would take the matrix product in half precision.
    with torch.no_grad(), torch.autocast(loc.device.type, enabled=False):
        return log_probs_and_jacobian(Laws(loc, scale, torch.zeros_like(loc[:, :1]), num_nodes))


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


class _MaximumLogProbs(torch.autograd.Function):
    """:func:`_by_plain_operations` by passes or kernels: the nodes are read again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        loc: Tensor,
        scale: Tensor,
        edge: Tensor,
        num_nodes: int | None,
        equal_scales: bool,
        by_kernel: bool,
    ) -> Tensor:
        ctx.num_nodes, ctx.equal_scales = num_nodes, equal_scales
        mu, sigma, c = _rows(loc), _rows(scale), _rows(edge)
        if by_kernel:
            log_probs = gaussian_law_fused.log_probs_of(mu, sigma, c, cast(int, num_nodes))
        else:
            log_probs = log_probs_of(Laws(mu, sigma, c, num_nodes, equal_scales))
        ctx.save_for_backward(loc, scale, edge, log_probs if by_kernel else None)
        return log_probs.view(*loc.shape[:-1], loc.shape[-1] + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        loc, scale, edge, log_probs = ctx.saved_tensors
        needed = with_loc, with_scale = ctx.needs_input_grad[:2]
        nothing = (None, None, None, None)
        if torch.is_grad_enabled():  # to be differentiated again: plain operations
            value = _by_plain_operations(loc, scale, edge, ctx.num_nodes)
            return *_again(value, grad, (loc, scale), needed), *nothing
        if is_batched(grad):
            inputs = loc.detach().requires_grad_(), scale.detach().requires_grad_()
            with torch.enable_grad():
                value = _by_plain_operations(*inputs, edge, ctx.num_nodes)
            found = torch.autograd.grad(value, inputs, grad)
            return *(g if n else None for g, n in zip(found, needed, strict=True)), *nothing
        mu, sigma, c, upstream = _rows(loc), _rows(scale), _rows(edge), _rows(grad)
        if log_probs is not None:
            by_loc, by_scale = gaussian_law_fused.gradients(
                mu, sigma, c, ctx.num_nodes, log_probs, upstream, with_scale
            )
        else:
            laws = Laws(mu, sigma, c, ctx.num_nodes, ctx.equal_scales)
            columns = laws.arranged(upstream)
            by_loc, by_scale = gradients(laws, lambda here, _: columns[:, here], with_scale)
        return (
            by_loc.view(loc.shape) if with_loc else None,
            None if by_scale is None else by_scale.view(scale.shape),
            *nothing,
        )


class _MaximumKL(torch.autograd.Function):
    """The divergence with its gradient, which the same pass over the nodes finds."""

    @staticmethod
    def forward(
        ctx: Any,
        loc: Tensor,
        scale: Tensor,
        log_q: Tensor,
        edge: Tensor,
        num_nodes: int | None,
        equal_scales: bool,
    ) -> Tensor:
        _, with_scale, *_ = ctx.needs_input_grad
        laws = Laws(_rows(loc), _rows(scale), _rows(edge), num_nodes, equal_scales)
        target = laws.arranged(_rows(log_q))
        divergence = laws.shift.new_empty(laws.size)

        def upstream(here: slice, log_probs: Tensor) -> Tensor:
            divergence[here], gradient = _divergence(log_probs, target[:, here])
            return gradient

        by_loc, by_scale = gradients(laws, upstream, with_scale)
        ctx.save_for_backward(loc, scale, log_q, edge, by_loc, by_scale)
        ctx.num_nodes = num_nodes
        return laws.restored(divergence).view(loc.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        loc, scale, log_q, edge, by_loc, by_scale = ctx.saved_tensors
        with_loc, with_scale, *_ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # to be differentiated again: plain operations
            log_p = torch.log_softmax(_by_plain_operations(loc, scale, edge, ctx.num_nodes), dim=-1)
            log_p = log_p.clamp_min(LOWEST_LOGARITHM)
            value = (log_p.exp() * (log_p - log_q)).sum(-1)
            return *_again(value, grad, (loc, scale), (with_loc, with_scale)), None, None, None, None
        weight = grad.unsqueeze(-1)
        return (
            weight * by_loc.view(loc.shape) if with_loc else None,
            weight * by_scale.view(scale.shape) if with_scale else None,
            None,
            None,
            None,
            None,
        )


def _divergence(log_probs: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """That of normalized probabilities, [L] from [K, L], and its gradient in the logarithms as they are."""
    # Held above minus infinity, so that a category that is never taken adds zero and not NaN.
    log_p = torch.log_softmax(log_probs, dim=0).clamp_(min=LOWEST_LOGARITHM)
    excess = log_p - log_q
    p = log_p.exp_()
    value = (p * excess).sum(0)
    return value, excess.sub_(value).mul_(p)


def _again(
    value: Tensor, grad: Tensor, inputs: tuple[Tensor, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of a value that was formed once more, in those inputs that need one, with a graph."""
    wanted = [t for t, n in zip(inputs, needed, strict=True) if n]
    found = iter(torch.autograd.grad(value, wanted, grad, create_graph=True))
    return [next(found) if n else None for n in needed]
