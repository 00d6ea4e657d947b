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
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
# glibc takes a block of less than 32 MiB that is freed as a sign of how large blocks are from now on.
_LARGE_BLOCK = 31 * 2**20


def free_memory(device: torch.device) -> int:
    """The bytes that a device has free; of the CPU those that no process and no control group has taken."""
    if device.type == "cuda":
        # What torch keeps for later is free for it.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return min([_of_machine(), *filter(None, map(_of_group, _groups()))])


def _of_machine() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    # Elsewhere than on Linux only the whole is known.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _groups() -> list[Path]:
    """The control groups that this process is in: that of a container, a service or a Slurm job."""
    try:
        own = _OWN_GROUP.read_text().splitlines()
    except OSError:
        return []
    # Of the second version, whose line is 0::/PATH; limits of those above hold too.
    paths = [line.removeprefix("0::/") for line in own if line.startswith("0::/")]
    return [_GROUPS, *(group for path in paths for group in _above(_GROUPS / path))]


def _above(group: Path) -> list[Path]:
    return [group, *(parent for parent in group.parents if _GROUPS in parent.parents)]


def _of_group(group: Path) -> int | None:
    """What a group may still take; ``None`` where it has no limit."""
    try:
        limit, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return None
    # Of files that were read, which goes where room is needed.
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(1, limit - taken + cached)


def keep_freed_memory() -> None:
    """Has the C library keep, for the process and up to 62 MiB, what tensors on the CPU leave free.

    That of GNU gives free memory back to the system as soon as there is twice the size of the largest block
    that it has seen, which is where work that makes three large tensors, again and again, always is; each is
    then made of pages that the system has to find and to clear first, which costs more than the arithmetic.
    Other libraries are not impressed.
    """
    torch.empty(_LARGE_BLOCK, dtype=torch.uint8)


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
