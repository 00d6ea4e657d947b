"""Adam with its state in plain tensors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam as torch computes it, fused, with epsilon 1e-7 as in the paper's experiments.

    ``torch.optim.Adam`` gives the same bits, but making one imports ``torch._dynamo``, which takes
    longer than a smoke run trains, and hides its state until the first step.

    Arguments:
        parameters: What is trained, by name; changed in place.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = list(parameters.values())
        self._means = [torch.zeros_like(p) for p in self._parameters]
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self._parameters]
        self._names = list(parameters)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """Moves the parameters, given the gradient with respect to each."""
        adam(
            self._parameters,
            list(gradients),
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-7,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        state = {"mean": self._means, "square": self._squares, "step": self._steps}
        return {
            f"{kind}.{name}": tensor
            for kind, tensors in state.items()
            for name, tensor in zip(self._names, tensors, strict=True)
        }
