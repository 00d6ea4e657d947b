"""Whether code runs as it is written, or under a tracer that needs plain operations of fixed shape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


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
