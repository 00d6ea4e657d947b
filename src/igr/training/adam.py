"""Adam with its state in plain tensors."""

from collections.abc import Mapping, Sequence
from typing import Self

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
    def step(self, gradients: Sequence[Tensor], learning_rate: float | Tensor) -> None:
        """Moves the parameters, given the gradient with respect to each.

        The learning rate as a tensor, on the device of the parameters, is for a graph.
        """
        adam(
            self._parameters,
            # The fused form looks at memory and not at strides.
            [gradient.contiguous() for gradient in gradients],
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

    def join(self, others: Sequence[Self]) -> None:
        """Takes the state of those that have done as many steps each, for parameters stacked from theirs.

        They keep it as slices of what is here, so that they see what becomes of it, and step no more.
        """
        for mine, theirs in (
            (self._means, [other._means for other in others]),
            (self._squares, [other._squares for other in others]),
        ):
            for index, stacked in enumerate(mine):
                for part, tensors in zip(stacked, theirs, strict=True):
                    part.copy_(tensors[index])
                    tensors[index] = part
        for index, steps in enumerate(self._steps):
            steps.copy_(others[0]._steps[index])
            for other in others:
                other._steps[index] = steps

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        state = {"mean": self._means, "square": self._squares, "step": self._steps}
        return {
            f"{kind}.{name}": tensor
            for kind, tensors in state.items()
            for name, tensor in zip(self._names, tensors, strict=True)
        }
