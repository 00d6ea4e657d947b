r"""Numbers of the unit interval by their logit :math:`l = \log(z / (1 - z))`, which loses neither end."""

from __future__ import annotations

import torch
from torch import Tensor

from igr.kernels.simplex import log_of_clamped
from igr.kernels.stick_breaking import softplus


def spread(logit: Tensor) -> Tensor:
    r""":math:`-\log(z (1 - z))` of a logit: what a density of logits gains when it becomes one of z.

    Its negative is the log-density of the standard logistic law.
    """
    size = logit.abs()
    return size + 2.0 * torch.log1p(torch.exp(-size))


def log_weight(logit: Tensor) -> Tensor:
    r""":math:`\log z` of a logit, finite wherever z underflows."""
    return -softplus(-logit)


def logit_of(z: Tensor) -> Tensor:
    """The logit of a stored number, held at the smallest normal number and half a grain below one."""
    grain = torch.finfo(z.dtype).eps
    return log_of_clamped(z) - torch.log1p(-torch.clamp(z, max=1.0 - grain / 2.0))


def logit_of_log(log_z: Tensor) -> Tensor:
    """The logit from log z, which is held at the largest number below zero."""
    log_z = torch.clamp(log_z, max=-torch.finfo(log_z.dtype).tiny)
    return log_z - torch.log(-torch.expm1(log_z))
