"""How much memory there is, and how much work takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_MEMINFO = Path("/proc/meminfo")
# What a container may take, and has taken, in the two versions of control groups.
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def free_memory(device: torch.device) -> int:
    """The bytes that a device has free; of the CPU those that no process and no container has taken."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [_of_machine(), *(_of_container(*paths) for paths in _LIMITS)]
    return min(number for number in free if number is not None)


def _of_machine() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    # Elsewhere than on Linux only the whole is known.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _of_container(limit: Path, taken: Path) -> int | None:
    try:
        return max(0, int(limit.read_text()) - int(taken.read_text()))
    except (OSError, ValueError):
        # There is none, or it may take all.
        return None


class Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that counts the bytes of all tensors made in it, whether or not they are still there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        # What an operation shares with its arguments is not new.
        if not any(value.alias_info is not None for value in func._schema.returns):
            for tensor in found if isinstance(found, tuple | list) else (found,):
                if isinstance(tensor, Tensor):
                    self.num_bytes += tensor.nbytes
        return found
