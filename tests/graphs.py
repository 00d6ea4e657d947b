"""A stand-in for CUDA graphs where there is no CUDA."""

import torch


def replayed(function):
    """What a CUDA graph does: nothing when it is recorded, and then all in the same memory."""
    results: list[torch.Tensor] = []

    @torch.no_grad()
    def replay() -> None:
        found = function()
        if not results:
            results.extend(tensor.clone() for tensor in found)
        for kept, tensor in zip(results, found, strict=True):
            kept.copy_(tensor)

    return replay, results
