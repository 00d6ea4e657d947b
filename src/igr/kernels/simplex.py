r"""The maps onto the simplex, in ordinary and in log space.

``softmax++`` appends one coordinate to :math:`x \in R^{K-1}` that is held at :math:`\log \delta` and takes
the softmax of the K numbers. The last weight is thus computed like every other one, never as one minus a sum.

A ``mask`` (bool, broadcasting against the K numbers) is True where a category is not available: its weight is
exactly zero, and no gradient comes back from it, however steep the slope there, such as that of log z.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from igr.kernels.numbers import column
from igr.kernels.tracing import is_traced

# Below the width of a vector register torch's softmax on the CPU takes a path that handles one number at a
# time, at several times the cost of the plain operations.
_VECTOR_WIDTH = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def with_reference(x: Tensor, log_delta: float | Tensor) -> Tensor:
    r"""Appends the reference coordinate :math:`\log\delta`: shape :math:`(*, K-1)` to :math:`(*, K)`.

    A tensor ``log_delta`` broadcasts against the batch :math:`(*)`.
    """
    if isinstance(log_delta, Tensor):
        last = log_delta.to(x).unsqueeze(-1).expand(*x.shape[:-1], 1)
        return torch.cat([x, last], dim=-1)
    return torch.nn.functional.pad(x, (0, 1), value=log_delta)


class _NarrowSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        z = (x - x.amax(-1, keepdim=True)).exp_()
        z.div_(z.sum(-1, keepdim=True))
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return (grad - (grad * z).sum(-1, keepdim=True)) * z


class _NarrowLogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        log_z = x - x.amax(-1, keepdim=True)
        log_z.sub_(log_z.exp().sum(-1, keepdim=True).log_())
        ctx.save_for_backward(log_z)
        return log_z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (log_z,) = ctx.saved_tensors
        return grad - torch.exp(log_z) * grad.sum(-1, keepdim=True)


class _TemperedSoftmax(torch.autograd.Function):
    """:func:`tempered_softmax` without the arrays between its steps, which cost more than the steps."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, temperature: float, log_delta: float | None) -> Tensor:
        if log_delta is None:
            x = scores / temperature
        else:
            x = scores.new_empty((*scores.shape[:-1], scores.shape[-1] + 1))
            torch.div(scores, temperature, out=x[..., :-1])
            x[..., -1] = log_delta
        if _is_narrow(x):
            z = x.sub_(x.amax(-1, keepdim=True)).exp_()
            z.div_(z.sum(-1, keepdim=True))
        else:
            z = torch.softmax(x, dim=-1)
        ctx.save_for_backward(z)
        ctx.temperature, ctx.log_delta = temperature, log_delta
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (z,) = ctx.saved_tensors
        product = grad * z
        total = product.sum(-1, keepdim=True)
        if torch.is_grad_enabled():  # to be differentiated again
            by_x = (product - z * total) / ctx.temperature
        else:
            by_x = product.addcmul_(z, total, value=-1.0).div_(ctx.temperature)
        # Whatever comes next would pass over a strided view one short row at a time.
        return by_x if ctx.log_delta is None else by_x[..., :-1].contiguous(), None, None


def tempered_softmax(
    scores: Tensor,
    temperature: float | Tensor,
    log_delta: float | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Softmax of scores / temperature, or softmax++ of it where :math:`\log\delta` is given.

    Arguments:
        scores: Numbers with shape :math:`(*, K)`, or :math:`(*, K - 1)` for softmax++.
        temperature: A float or a tensor that broadcasts against :math:`(*)`.
        log_delta: The reference coordinate of softmax++, a float or a tensor like the temperature.
        mask: Where a category is not available, with shape :math:`(*, K)`; scores are finite there too.
    """
    tensors = isinstance(temperature, Tensor) or isinstance(log_delta, Tensor)
    if tensors or mask is not None or is_traced():
        x = scores / column(temperature, scores.dtype)
        return softmax(x if log_delta is None else with_reference(x, log_delta), mask)
    return _TemperedSoftmax.apply(scores, temperature, log_delta)


def _is_narrow(x: Tensor) -> bool:
    return x.shape[-1] < _VECTOR_WIDTH and x.device.type == "cpu" and not is_traced()


def softmax(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax along the last dimension."""
    if mask is not None:
        return softmax(x.masked_fill(mask, -torch.inf)).masked_fill(mask, 0.0)
    return _NarrowSoftmax.apply(x) if _is_narrow(x) else torch.softmax(x, dim=-1)


def log_softmax(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logarithm of :func:`softmax`."""
    if mask is not None:
        return log_softmax(x.masked_fill(mask, -torch.inf)).masked_fill(mask, -torch.inf)
    return _NarrowLogSoftmax.apply(x) if _is_narrow(x) else torch.log_softmax(x, dim=-1)


def log_softmax_plus_plus(x: Tensor, log_delta: float | Tensor = 0.0, mask: Tensor | None = None) -> Tensor:
    r""":math:`\log z` of softmax++, finite wherever z underflows."""
    return log_softmax(with_reference(x, log_delta), mask)


def inverse_log_softmax_plus_plus(log_z: Tensor, log_delta: float | Tensor = 0.0) -> Tensor:
    r"""What :func:`log_softmax_plus_plus` maps to log z: :math:`\log z_k - \log z_K + \log\delta`."""
    return log_z[..., :-1] - log_z[..., -1:] + column(log_delta, log_z.dtype)


def log_of_clamped(z: Tensor) -> Tensor:
    """log z, with z held at or above the smallest normal number of its dtype.

    Close above that number the derivative 1 / z is as large as a number can be, and a product with it would
    overflow, so there it is zero, as it is below.
    """
    info = torch.finfo(z.dtype)
    clear = z > info.tiny / info.eps
    log_z = torch.log(torch.clamp(z.detach(), min=info.tiny))
    return torch.where(clear, torch.log(torch.where(clear, z, 1.0)), log_z)


def nearest_vertex(scores: Tensor) -> Tensor:
    """The one-hot vector of the largest entry along the last dimension, in the dtype of ``scores``."""
    index = scores.argmax(dim=-1, keepdim=True)
    return torch.zeros_like(scores).scatter(-1, index, 1.0)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Value of ``hard``, exactly; gradient of ``soft``."""
    # soft - soft.detach() is exactly zero, so the sum leaves the one-hot entries as they are.
    return hard.detach() + (soft - soft.detach())
