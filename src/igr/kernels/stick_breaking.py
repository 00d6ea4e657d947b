r"""Breaking a stick by logits: lengths, and their logarithms relative to what remains.

With :math:`\eta = \mathrm{sigmoid}(y)` the k-th of n pieces is :math:`\pi_k = \eta_k \prod_{j<k}
(1 - \eta_j)` and :math:`R = \prod_j (1 - \eta_j)` remains. In log space :math:`\log \pi_k = y_k -
\sum_{j \le k} \mathrm{softplus}(y_j)` and :math:`\log (\pi_k / R) = y_k + \sum_{j>k}
\mathrm{softplus}(y_j)`: one cumulative sum each, linear in n.
Lengths themselves are a cumulative product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from igr.kernels.tracing import is_traced


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) to the last digit: torch's own drops the 1 above 20, which shows in float64."""
    return torch.nn.functional.softplus(x, threshold=50.0)


def _cumulative_sum(x: Tensor) -> Tensor:
    """Along the last dimension. On the CPU torch adds float32 in float64; elsewhere that is asked for."""
    if x.device.type == "cpu" or x.dtype == torch.float64:
        return torch.cumsum(x, dim=-1)
    return torch.cumsum(x, dim=-1, dtype=torch.float64).to(x.dtype)


class _Lengths(torch.autograd.Function):
    """:func:`lengths` without the arrays that a composed backward pass keeps and makes.

    The shares of what is left, sigmoid(logits), are a second result, so that a second derivative finds them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> tuple[Tensor, Tensor]:
        pieces, shares = _lengths_and_shares(logits)
        ctx.save_for_backward(pieces, shares)
        ctx.set_materialize_grads(False)
        return pieces, shares

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_of_shares: Tensor | None) -> Tensor | None:
        pieces, shares = ctx.saved_tensors
        total = None
        if grad is not None:
            by_log = grad * pieces
            # What the k-th logit takes from the k-th and every later piece.
            later = _cumulative_sum(by_log.flip(-1)).flip(-1)
            if torch.is_grad_enabled():  # to be differentiated again
                total = by_log - shares * later
            else:
                total = by_log.addcmul_(shares, later, value=-1.0)
        if grad_of_shares is not None:
            of_shares = grad_of_shares * shares * (1.0 - shares)
            total = of_shares if total is None else total + of_shares
        return total


class _LogRatios(torch.autograd.Function):
    """:func:`log_ratios`, in the same way."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        return _log_ratios(logits)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        # What the k-th logit gives to every earlier ratio.
        earlier = _cumulative_sum(grad[..., :-1])
        return grad + torch.nn.functional.pad(torch.sigmoid(logits[..., 1:]) * earlier, (1, 0))


def _cumulative_product(x: Tensor) -> Tensor:
    """As :func:`_cumulative_sum`."""
    if x.device.type == "cpu" or x.dtype == torch.float64:
        return torch.cumprod(x, dim=-1)
    return torch.cumprod(x, dim=-1, dtype=torch.float64).to(x.dtype)


def log_lengths(logits: Tensor) -> Tensor:
    r""":math:`\log \pi_k`, with the shape :math:`(*, n)` of the logits."""
    return logits - _cumulative_sum(softplus(logits))


def lengths(logits: Tensor) -> Tensor:
    r""":math:`\pi_k`, with the shape :math:`(*, n)` of the logits."""
    pieces: Tensor = (_lengths_and_shares if is_traced() else _Lengths.apply)(logits)[0]
    return pieces


def _lengths_and_shares(logits: Tensor) -> tuple[Tensor, Tensor]:
    shares = torch.sigmoid(logits)
    # A product of what is left, each factor with all its digits, costs half of the sum of its logarithms.
    left = _cumulative_product(torch.sigmoid(-logits[..., :-1]))
    pieces = shares * torch.nn.functional.pad(left, (1, 0), value=1.0)
    # Numbers below the smallest normal one are so slow on the CPU that a few of them would cost the most.
    return torch.threshold(pieces, torch.finfo(pieces.dtype).tiny, 0.0), shares


def logits_of_lengths(sticks: Tensor) -> Tensor:
    r"""The logits :math:`y_k = \log \pi_k - \log R_k` of :func:`lengths`; not finite for what is none.

    :math:`R_k` is what remains after k pieces; it is formed by subtracting one piece after another, which is
    exact as long as each takes at least half of what is there (Sterbenz' lemma).
    """
    whole = torch.ones_like(sticks[..., :1])
    remaining = _cumulative_sum(torch.cat([whole, -sticks], dim=-1))[..., 1:]
    return torch.log(sticks) - torch.log(remaining)


def slope_of_lengths(logits: Tensor, logs: Tensor) -> Tensor:
    r"""Log-determinant of :func:`lengths`, :math:`\sum_k \log \pi_k + \log (1 - \eta_k)`, with shape [*].

    Arguments:
        logits: :math:`y`.
        logs: What :func:`log_lengths` gives for them.
    """
    return (logs - softplus(logits)).sum(-1)


def log_ratios(logits: Tensor) -> Tensor:
    r""":math:`\log (\pi_k / R)`, with the shape :math:`(*, n)` of the logits; its determinant is one."""
    return _log_ratios(logits) if is_traced() else _LogRatios.apply(logits)


def _log_ratios(logits: Tensor) -> Tensor:
    later = _cumulative_sum(softplus(logits[..., 1:]).flip(-1)).flip(-1)
    return logits + torch.nn.functional.pad(later, (0, 1))


def logits_of_log_ratios(ratios: Tensor) -> Tensor:
    r"""What :func:`log_ratios` maps to the ratios: :math:`y_k = t_k - \log(1 + \sum_{j>k} e^{t_j})`."""
    whole = torch.zeros_like(ratios[..., :1])
    # From the last one backwards, with the remainder, whose logarithm is zero, before it.
    later = torch.logcumsumexp(torch.cat([whole, ratios[..., 1:].flip(-1)], dim=-1), dim=-1).flip(-1)
    return ratios - later
