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


class _Points(torch.autograd.Function):
    """Softmax(++) of (loc + scale * noise) / temperature without the arrays between its steps.

    Fresh memory costs more than the arithmetic, so every step writes over the one before it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        loc: Tensor,
        scale: float | Tensor | None,
        noise: Tensor | None,
        temperature: float,
        log_delta: float | None,
    ) -> Tensor:
        like = loc if noise is None else noise
        if log_delta is not None:
            z = like.new_empty((*like.shape[:-1], like.shape[-1] + 1))
            z[..., -1] = log_delta
            x = z[..., :-1]
        else:
            x = z = torch.empty_like(like)
        if noise is None:
            torch.div(loc, temperature, out=x)
        elif isinstance(scale, Tensor):
            torch.addcmul(loc, scale, noise, out=x).div_(temperature)
        else:
            torch.add(loc, noise, alpha=1.0 if scale is None else scale, out=x).div_(temperature)
        if _is_narrow(z):
            z.sub_(z.amax(-1, keepdim=True)).exp_()
            z.div_(z.sum(-1, keepdim=True))
        else:
            torch.softmax(z, dim=-1, out=z)
        by_scale, by_noise = ctx.needs_input_grad[1:3]
        ctx.save_for_backward(
            z, noise if by_scale else None, scale if by_noise and isinstance(scale, Tensor) else None
        )
        ctx.temperature, ctx.log_delta, ctx.loc_shape = temperature, log_delta, loc.shape
        ctx.scale_shape = scale.shape if isinstance(scale, Tensor) else None
        ctx.factor = 1.0 if scale is None or isinstance(scale, Tensor) else float(scale)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, noise, scale = ctx.saved_tensors
        by_loc, by_scale, by_noise = ctx.needs_input_grad[:3]
        spare = None
        if torch.is_grad_enabled() or _is_narrow(z):  # the first to be differentiated again
            by_x = (grad - (grad * z).sum(-1, keepdim=True)) * z
            by_x = by_x if ctx.log_delta is None else by_x[..., :-1]
            by_x = by_x / ctx.temperature
        else:
            by_x = torch._softmax_backward_data(grad, z, -1, z.dtype)
            if ctx.log_delta is None:
                by_x = by_x.div_(ctx.temperature)
            else:
                # Whatever comes next would pass over a strided view one short row at a time.
                spare = by_x.view(-1)
                by_x = torch.div(by_x[..., :-1], ctx.temperature)
        of_scale = of_noise = None
        if by_scale:
            if spare is None:
                product = by_x * noise
            else:
                product = torch.mul(by_x, noise, out=spare[: by_x.numel()].view(by_x.shape))
            of_scale = product.sum_to_size(ctx.scale_shape)
        if by_noise:
            of_noise = by_x * (ctx.factor if scale is None else scale)
        return by_x.sum_to_size(ctx.loc_shape) if by_loc else None, of_scale, of_noise, None, None


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
    if _in_one(temperature, log_delta, mask):
        return _Points.apply(scores, None, None, temperature, log_delta)
    x = scores / column(temperature, scores.dtype)
    return softmax(x if log_delta is None else with_reference(x, log_delta), mask)


def points_of_noise(
    loc: Tensor,
    scale: float | Tensor | None,
    noise: Tensor,
    temperature: float | Tensor,
    log_delta: float | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """:func:`tempered_softmax` of loc + scale * noise.

    Arguments:
        loc: Numbers that broadcast against the noise.
        scale: The same, or a number; ``None`` for one.
        noise: Numbers with shape :math:`(*, K)`, or :math:`(*, K - 1)` for softmax++.
        temperature: A float or a tensor that broadcasts against :math:`(*)`.
        log_delta: The reference coordinate of softmax++, a float or a tensor like the temperature.
        mask: Where a category is not available, with shape :math:`(*, K)`.
    """
    if _in_one(temperature, log_delta, mask):
        return _Points.apply(loc, scale, noise, temperature, log_delta)
    return tempered_softmax(shifted(loc, scale, noise), temperature, log_delta, mask)


def shifted(loc: Tensor, scale: float | Tensor | None, noise: Tensor) -> Tensor:
    """loc + scale * noise in one pass."""
    if isinstance(scale, Tensor):
        return torch.addcmul(loc, scale, noise)
    return torch.add(loc, noise, alpha=1.0 if scale is None else scale)


def _in_one(temperature: float | Tensor, log_delta: float | Tensor | None, mask: Tensor | None) -> bool:
    """Whether the hand-written pass does: settings are numbers, and nothing traces it."""
    tensors = isinstance(temperature, Tensor) or isinstance(log_delta, Tensor)
    return not tensors and mask is None and not is_traced()


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
