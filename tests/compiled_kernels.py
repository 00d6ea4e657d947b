"""Triton kernels compiled to machine code for GPUs that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DRIVER = """
import sys
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

class Driver:
    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", int(sys.argv[1]), 32)

def compiled(self, *arguments, grid, warmup=False, **settings):
    kernel = run(self, *arguments, grid=grid, warmup=True, **settings)
    print(self.__name__, kernel.metadata.num_warps, len(kernel.asm["cubin"]) > 0)

driver.set_active(Driver())
run, JITFunction.run = JITFunction.run, compiled
"""


def compiled(script: str, capability: int, cache: Path, *arguments: str) -> list[str]:
    """The names of the kernels that a script launches, each compiled and none of them run, in turn.

    Arguments:
        script: What launches them, with its arguments from ``sys.argv[2]`` on.
        capability: Of the GPU, times ten.
        cache: Where Triton keeps what it compiles.
        arguments: Those of the script.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", DRIVER + script, str(capability), *arguments],
        env={**environment, "TRITON_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return [line.split()[0] for line in result.stdout.splitlines() if line.endswith("True")]
