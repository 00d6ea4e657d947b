"""The density of Gumbel-Softmax in log space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from igr.kernels.numbers import log_number
from igr.kernels.simplex import log_softmax


def gumbel_log_density(
    scores: Tensor, log_z: Tensor, temperature: float | Tensor, mask: Tensor | None = None
) -> Tensor:
    r"""Log-density of z (Maddison et al. 2017, equation 10), with :math:`s_k = l_k - \tau \log z_k`:

    .. math::
        \log \Gamma(K) + (K - 1) \log\tau + \sum_k \log \mathrm{softmax}(s)_k - \sum_k \log z_k

    Arguments:
        scores: :math:`s`, known up to a constant, with shape :math:`(*, K)`.
        log_z: :math:`\log z`, with shape :math:`(*, K)`.
        temperature: :math:`\tau`, a float or a tensor that broadcasts against :math:`(*)`.
        mask: Where a category is not available: K is the number of the others, over which the sums run. Both
            scores and log z are finite there, and log z is zero.
    """
    if mask is not None:
        available = (~mask).sum(-1).to(log_z.dtype)
        return (
            log_softmax(scores, mask).masked_fill(mask, 0.0).sum(-1)
            - log_z.sum(-1)
            + (available - 1) * log_number(temperature, log_z.dtype)
            + torch.lgamma(available)
        )
    num_categories = log_z.shape[-1]
    # The sum of log_softmax, since K logsumexp(s) and sum(s) would cancel.
    return (
        log_softmax(scores).sum(-1)
        - log_z.sum(-1)
        + (num_categories - 1) * log_number(temperature, log_z.dtype)
        + math.lgamma(num_categories)
    )
