"""A function of tensors as one CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Capture = Callable[[Callable[[], Sequence[Tensor]]], tuple[Callable[[], object], Sequence[Tensor]]]


def cuda_graph(function: Callable[[], Sequence[Tensor]]) -> tuple[Callable[[], object], Sequence[Tensor]]:
    """What the function does as a graph, to be called, and where its results are found after each call.

    The function is not run, only recorded, so what it changes stays as it is. Libraries that it uses must
    have been used before.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph.replay, results


class Captured:
    """A function whose kernels are launched at once, without Python between them.

    Results stay in the same memory: each call writes over those of the one before it.

    Arguments:
        function: Takes tensors of fixed shapes and gives tensors; reads no number of them.
        inputs: Examples of what it takes. Other tensors that it uses must stay where they are in memory.
        capture: What records it.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        *inputs: Tensor,
        capture: Capture = cuda_graph,
    ) -> None:
        self._inputs = [given.clone() for given in inputs]
        self._replay, self._results = capture(lambda: function(*self._inputs))

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
