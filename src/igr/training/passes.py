"""What a batch of images gives a step: gradients and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from igr.training.captured import Capture, Captured, captured
from igr.training.flat import Flat, NotFlat, flattened
from igr.training.processes import ALONE, Lost, Processes
from igr.training.task import StepTerms, Task

# Finding the operations of a pass takes as long as some hundred steps save thereby.
STEPS_BEFORE_FLAT = 100

# A gradient of at most this size moves nothing.
VANISHES = 1e-10
VANISHING = "vanishing_gradients"


class Passes:
    """The gradients of a task's loss and its figures, for a batch after another.

    Once a run has taken a hundred steps, a pass over a full batch is flattened, which changes how long it
    takes and no bit of what it gives. On a CUDA device it is captured then as one graph.

    Arguments:
        task: What is trained. Its tensors are changed in place and not replaced.
        num_tracked: Of how many of the parameters, which are the first ones, the share of gradients that
            vanish is the last figure; ``None`` for no such figure.
        capture: What records a flat pass as a graph; ``None`` to leave it as it is.
        processes: Those that have a part of each batch; the gradients and figures are of all.
    """

    def __init__(
        self,
        task: Task,
        num_tracked: int | None = None,
        capture: Capture | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.task = task
        self.processes = processes
        self._sum = None if processes.is_alone else _Sum(processes)
        # What asks other processes in the middle of a pass is no list of operations.
        self._may_be_flat = processes.is_alone or not task.join(processes)
        self.num_tracked = num_tracked
        self._parameters = list(task.model.parameters())
        self._tensors = [*self._parameters, *task.model.buffers()]
        self._steps_before_flat = STEPS_BEFORE_FLAT
        self._flat: Flat | None = None
        self._capture = capture
        self._captured: Captured | None = None

    @property
    def is_captured(self) -> bool:
        """Whether passes over full batches are one graph by now; their gradients stay in the same memory."""
        return self._captured is not None

    @property
    def is_flat(self) -> bool:
        """Whether passes over full batches are flattened by now."""
        return self._flat is not None

    def __call__(
        self, x: Tensor, step: int, num_images: int | None = None
    ) -> tuple[Sequence[Tensor], Tensor]:
        """The gradients of the parameters, and the figures summed over the images.

        Arguments:
            x: The images of the step; of several processes the part of this one.
            step: Its number, the first one being zero.
            num_images: How many images the step has in all processes, if there are several.

        Raises:
            Lost: Another process does not take part.
        """
        whole = len(x) if num_images is None else num_images
        if self._sum is None:
            return self._of_part(x, step, whole)
        before = [buffer.clone() for buffer in self.task.changing]
        try:
            gradients, sums = self._of_part(x, step, whole)
            gradients, sums = self._sum(gradients, sums, self.task.changing, whole)
        except Lost:
            # The step was not taken, and a checkpoint is to know nothing of it.
            for buffer, value in zip(self.task.changing, before, strict=True):
                buffer.copy_(value)
            raise
        if self.num_tracked is not None:
            # That of the sums of parts, and not of the parts.
            sums = self.figures(sums[:-1], gradients, whole)
        return gradients, sums

    def _of_part(self, x: Tensor, step: int, whole: int) -> tuple[Sequence[Tensor], Tensor]:
        """What the images of this process give."""
        noise = self.task.noise(step, whole)
        if self._sum is not None:
            noise = noise[:, self.processes.part(whole)]
        scheduled = {
            name: torch.full((), value, dtype=x.dtype, device=x.device)
            for name, value in self.task.scheduled(step).items()
        }
        if whole == self.task.config.batch_size:
            if self._steps_before_flat == 0 and self._may_be_flat:
                self._flatten(x, noise, scheduled)
            self._steps_before_flat -= 1
            if self._captured is not None:
                *gradients, sums = self._captured(x, noise, *scheduled.values())
                # The figures of several steps are looked at together.
                return gradients, sums.clone()
            if self._flat is not None:
                with torch.no_grad():
                    *gradients, sums = self._flat(*self._tensors, x, noise, *scheduled.values())
                return gradients, sums
        return self._results(self.task.terms(x, noise, **scheduled), self._parameters, len(x))

    def _results(
        self, terms: StepTerms, parameters: Sequence[Tensor], num_images: int
    ) -> tuple[Sequence[Tensor], Tensor]:
        gradients = torch.autograd.grad(terms.loss, parameters)
        return gradients, self.figures(terms.sums, gradients, num_images)

    def figures(self, sums: Tensor, gradients: Sequence[Tensor], num_images: int) -> Tensor:
        """The sums of a task, with what is measured of the gradients besides."""
        if self.num_tracked is None:
            return sums
        # As often as there are terms in the other sums, so that all are divided alike.
        share = vanishing_share(gradients[: self.num_tracked]) * num_images * self.task.terms_per_image
        return torch.cat([sums, share.unsqueeze(0)])

    def _flatten(self, x: Tensor, noise: Tensor, scheduled: Mapping[str, Tensor]) -> None:
        """Finds the operations of a pass over such images; if they are not always the same, all stays."""
        terms_of = terms_by_tensors(self.task, [*scheduled])
        num_parameters = len(self._parameters)

        def function(*arguments: Tensor) -> list[Tensor]:
            tensors, inputs = arguments[: len(self._tensors)], arguments[len(self._tensors) :]
            parameters = [tensor.detach().requires_grad_() for tensor in tensors[:num_parameters]]
            terms = terms_of(*parameters, *tensors[num_parameters:], *inputs)
            gradients, sums = self._results(terms, parameters, len(x))
            return [*gradients, sums]

        inputs = (x, noise, *scheduled.values())
        with suppress(NotFlat):
            self._flat = flattened(function, *self._tensors, *inputs)
        if self._flat is not None and self._capture is not None:
            self._captured = captured(partial(self._flat, *self._tensors), inputs, self._capture)


class _Sum:
    """The sum over the processes of what each has of a step.

    Arguments:
        processes: The processes.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._vector: Tensor | None = None
        self._parts: list[Tensor] = []

    @torch.no_grad()
    def __call__(
        self, gradients: Sequence[Tensor], sums: Tensor, buffers: Sequence[Tensor], num_images: int
    ) -> tuple[Sequence[Tensor], Tensor]:
        """The gradients and figures of all images, given those of this process's part.

        Gradients are those of a mean over images, and buffers are brought to theirs; the figures are sums.
        Gradients stay in the same memory.
        """
        own = [*gradients, *buffers]
        if self._vector is None:
            self._vector = torch.cat([tensor.reshape(-1) for tensor in own])
            pieces = torch.split(self._vector, [tensor.numel() for tensor in own])
            self._parts = [piece.view(tensor.shape) for piece, tensor in zip(pieces, own, strict=True)]
        torch._foreach_copy_(self._parts, own)
        self._processes.add(self._vector.mul_(self._processes.share(num_images)))
        # Where there are few images, each process has all of them.
        sums = sums / self._processes.count if num_images < self._processes.count else sums.clone()
        self._processes.add(sums)
        for buffer, part in zip(buffers, self._parts[len(gradients) :], strict=True):
            buffer.copy_(part)
        return self._parts[: len(gradients)], sums


def terms_by_tensors(task: Task, scheduled: Sequence[str]) -> Callable[..., StepTerms]:
    """The terms of a task as a function of all tensors that they depend on.

    Arguments:
        task: What is trained.
        scheduled: The names of what is scheduled.

    Returns:
        A function of the parameters and buffers of the model, in their order, of images, noise, and what is
        scheduled.
    """
    holder = _Holder(task)
    names = [name for name, _ in (*holder.named_parameters(), *holder.named_buffers())]

    def terms(*arguments: Tensor) -> StepTerms:
        tensors, (x, noise, *values) = arguments[: len(names)], arguments[len(names) :]
        held = dict(zip(names, tensors, strict=True))
        found = functional_call(holder, held, (x, noise, dict(zip(scheduled, values, strict=True))))
        return cast(StepTerms, found)

    return terms


class _Holder(nn.Module):
    """The terms of a task as a module, whose tensors can be replaced for a call."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._terms = task.terms

    def forward(self, x: Tensor, noise: Tensor, scheduled: Mapping[str, Tensor]) -> StepTerms:
        return self._terms(x, noise, **scheduled)


@torch.no_grad()
def vanishing_share(gradients: Sequence[Tensor]) -> Tensor:
    """The share of the numbers in gradients that are at most 1e-10 in size, float64."""
    count = sum(gradient.numel() for gradient in gradients)
    vanishing = torch.stack([(gradient.abs() <= VANISHES).sum() for gradient in gradients]).sum()
    return vanishing.double() / count
