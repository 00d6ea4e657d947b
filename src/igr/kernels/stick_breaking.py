r"""Breaking a stick by logits: lengths, and their logarithms relative to what remains.

With :math:`\eta = \mathrm{sigmoid}(y)` the k-th of n pieces is :math:`\pi_k = \eta_k \prod_{j<k}
(1 - \eta_j)` and :math:`R = \prod_j (1 - \eta_j)` remains. In log space :math:`\log \pi_k = y_k -
\sum_{j \le k} \mathrm{softplus}(y_j)` and :math:`\log (\pi_k / R) = y_k + \sum_{j>k}
\mathrm{softplus}(y_j)`: one cumulative sum each, linear in n.
"""

from __future__ import annotations

import torch
from torch import Tensor


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) to the last digit: torch's own drops the 1 above 20, which shows in float64."""
    return torch.nn.functional.softplus(x, threshold=50.0)


def _cumulative_sum(x: Tensor) -> Tensor:
    """Along the last dimension. On the CPU torch adds float32 in float64; elsewhere that is asked for."""
    if x.device.type == "cpu" or x.dtype == torch.float64:
        return torch.cumsum(x, dim=-1)
    return torch.cumsum(x, dim=-1, dtype=torch.float64).to(x.dtype)


def log_lengths(logits: Tensor) -> Tensor:
    r""":math:`\log \pi_k`, with the shape :math:`(*, n)` of the logits."""
    return logits - _cumulative_sum(softplus(logits))


def lengths(logits: Tensor) -> Tensor:
    r""":math:`\pi_k`, with the shape :math:`(*, n)` of the logits."""
    return torch.exp(log_lengths(logits))


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
    later = _cumulative_sum(softplus(logits[..., 1:]).flip(-1)).flip(-1)
    return logits + torch.nn.functional.pad(later, (0, 1))


def logits_of_log_ratios(ratios: Tensor) -> Tensor:
    r"""What :func:`log_ratios` maps to the ratios: :math:`y_k = t_k - \log(1 + \sum_{j>k} e^{t_j})`."""
    whole = torch.zeros_like(ratios[..., :1])
    # From the last one backwards, with the remainder, whose logarithm is zero, before it.
    later = torch.logcumsumexp(torch.cat([whole, ratios[..., 1:].flip(-1)], dim=-1), dim=-1).flip(-1)
    return ratios - later
