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
    return softplus(logit) + softplus(-logit)


def log_weight(logit: Tensor) -> Tensor:
    r""":math:`\log z` of a logit, finite wherever z underflows."""
    return -softplus(-logit)


def logit_of(z: Tensor) -> Tensor:
    """The logit of a stored number, held at the smallest normal number and half a grain below one."""
    grain = torch.finfo(z.dtype).eps
    return log_of_clamped(z) - torch.log1p(-torch.clamp(z, max=1.0 - grain / 2.0))


def logit_of_log(log_z: Tensor) -> Tensor:
    """The logit from log z, which is held at minus the smallest normal number.

    Close to it the slope is as large as a number can be, and a product with it would overflow, so there it is
    zero, as it is above.
    """
    info = torch.finfo(log_z.dtype)
    clear = log_z < -info.tiny / info.eps
    held = torch.clamp(log_z.detach(), max=-info.tiny)
    inside = torch.where(clear, log_z, -1.0)
    return torch.where(clear, inside - torch.log(-torch.expm1(inside)), -torch.log(-held))
