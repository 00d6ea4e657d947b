"""Distances of a law from a target, as functions of the probabilities of both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["OBJECTIVES"]


def _kl(p: Tensor, q: Tensor) -> Tensor:
    r""":math:`KL(p \| q)`, as the sum of :math:`p (x - 1 - \log x)` with :math:`x = q / p`.

    For sums of one that is the same, and of terms that are not negative: nothing cancels near zero. Where p
    is zero the term is q.
    """
    some = p > 0
    safe = torch.where(some, p, 1.0)
    ratio, excess = q / safe, (q - p) / safe
    # Far below one a ratio is lost in its excess, and near one its logarithm is that of the excess.
    near = some & (ratio > 0.5)
    far = some & ~near
    logarithm = torch.log1p(torch.where(near, excess, 0.0)) + torch.log(torch.where(far, ratio, 1.0))
    return torch.where(some, p * (excess - logarithm), q).sum(-1)


def _reverse_kl(p: Tensor, q: Tensor) -> Tensor:
    return _kl(q, p)


def _squared_error(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).square().sum(-1)


def _total_variation(p: Tensor, q: Tensor) -> Tensor:
    return 0.5 * (p - q).abs().sum(-1)


# Of the target p and the law q, both [*, K]; the result has shape [*].
OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": _kl,
    "reverse_kl": _reverse_kl,
    "squared_error": _squared_error,
    "total_variation": _total_variation,
}
