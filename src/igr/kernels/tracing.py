"""Whether code runs as it is written, or under a tracer that needs plain operations of fixed shape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def is_traced() -> bool:
    """True under ``torch.compile``, ``torch.export``, the transforms of ``torch.func`` and forward-mode AD.

    There values cannot be read, and shapes must not depend on them; hand-written backward passes and work
    in place give way to plain operations. Under ``torch.func`` that holds for every tensor, mapped or not:
    it refuses an ``autograd.Function`` without ``setup_context`` even on those that it does not wrap.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def is_batched(gradient: Tensor) -> bool:
    """Whether it stands for many, as in ``torch.autograd.grad(..., is_grads_batched=True)``.

    That is no transform of ``torch.func``, and knows no work in place either.
    """
    return bool(torch._C._functorch.is_legacy_batchedtensor(gradient))


def can_be_read(value: Tensor) -> bool:
    """Whether the numbers of a tensor are at hand: in memory, and no stand-ins of a tracer."""
    plain = type(value) in (Tensor, torch.nn.Parameter) and value.device.type == "cpu"
    if not plain or is_traced() or is_in_torch_dispatch_mode():
        return False
    # What has escaped from a transform of torch.func has no numbers of its own.
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(value) or is_batched(value)
    return not wrapped and value.layout == torch.strided
