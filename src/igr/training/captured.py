"""A function of tensors as one CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Recorded = tuple[Callable[[], object], Sequence[Tensor]]
Capture = Callable[[Callable[[], Sequence[Tensor]], torch.device], Recorded]


def cuda_graph(function: Callable[[], Sequence[Tensor]], device: torch.device) -> Recorded:
    """What the function does as a graph, to be called, and where its results are found after each call.

    The function is not run, only recorded, so what it changes stays as it is. Libraries that it uses must
    have been used before.
    """
    # What runs on another device than the current one would not be recorded; and torch keeps the stream that
    # it records on by default, which is one of the first device that was used.
    with torch.cuda.device(device):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
            results = function()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay, results


class Captured:
    """A function whose kernels are launched at once, without Python between them.

    Results stay in the same memory: each call writes over those of the one before it.

    Arguments:
        function: Takes tensors of fixed shapes and gives tensors; reads no number of them.
        inputs: Examples of what it takes, on the device where all is. Other tensors that it uses must stay
            where they are in memory.
        capture: What records it.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        *inputs: Tensor,
        capture: Capture = cuda_graph,
    ) -> None:
        self._inputs = [given.clone() for given in inputs]
        self._replay, self._results = capture(lambda: function(*self._inputs), inputs[0].device)

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        for held, given in zip(self._inputs, inputs, strict=True):
            held.copy_(given)
        self._replay()
        return self._results


@torch.no_grad()
def captured(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], capture: Capture
) -> Captured | None:
    """The function as a graph, or ``None`` and a warning where it cannot be one; see :class:`Captured`."""
    try:
        return Captured(function, *inputs, capture=capture)
    except RuntimeError as error:
        warnings.warn(
            f"expected a step that can be captured as a CUDA graph; got: {error}; the run goes on without "
            "one, slower",
            stacklevel=2,
        )
        return None
