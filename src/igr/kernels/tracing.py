"""Whether code runs as it is written, or under a tracer that needs plain operations of fixed shape."""

from __future__ import annotations

import torch
from torch import Tensor


def is_traced(*values: object) -> bool:
    """True under ``torch.compile`` and ``torch.export``, and for tensors inside ``torch.func``.

    There values cannot be read, and shapes must not depend on them; hand-written backward passes and work
    in place give way to plain operations.
    """
    if torch.compiler.is_compiling():
        return True
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(isinstance(value, Tensor) and wrapped(value) for value in values)
