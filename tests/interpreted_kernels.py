"""Triton kernels run by its interpreter, on tensors of the CPU."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import Tensor

from igr.kernels import fused

# What the interpreter of Triton 3.6 does with NumPy, which calls it an error since 2.4.
OLD_CONVERSION = "ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning"


def _is_before(package: str, major: int, minor: int) -> bool:
    return tuple(map(int, version(package).split(".")[:2])) < (major, minor)


def interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels take tensors of the CPU, or the test is skipped; what they leave out of a result is NaN."""
    if torch.cuda.is_available():
        pytest.skip("kernels are compiled here: tests/test_gpu.py runs them")
    if _is_before("triton", 3, 7) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("needs Triton 3.7, or NumPy before 2.4, for Triton's interpreter to run")
    monkeypatch.setattr(fused, "_DEVICES", {"cuda", "cpu"})

    def new(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.full(shape, torch.nan, dtype=dtype, device=like.device)

    monkeypatch.setattr(fused, "_new", new)
