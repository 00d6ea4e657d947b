"""Runs that differ in little, trained as one stacked model.

Every replica is an ordinary :class:`~igr.training.loop.Loop` with its own folder, order of the data and
noise. Its tensors are slices of stacked ones, so that what it validates, shows and saves is what it would be
if it stood alone; only steps are taken for all at once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from igr.data import prepare
from igr.estimators import by_name
from igr.models.latents import LATENTS
from igr.training.adam import Adam
from igr.training.board import Board
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.failures import Interrupted, TrainingFailure
from igr.training.flat import Flat, NotFlat, flattened
from igr.training.loop import Loop
from igr.training.memory import Allocated, free_memory
from igr.training.passes import Passes, terms_by_tensors
from igr.training.run_config import RunConfig
from igr.training.runs import RunFolder, load_data, with_data_at_hand
from igr.training.stopping import Stop, stop_signals
from igr.training.tasks import task_of
from igr.training.watchers import Watcher

# What replicas may differ in, and what stands for it where configs are compared.
_OWN: dict[str, Any] = {
    "seed": 0,
    "temperature": 1.0,
    "learning_rate": 1.0,
    "kl_warmup": 0,
    "continuous_capacity": (0.0, 0.0, 1),
    "discrete_capacity": (0.0, 0.0, 1),
}
# What is scheduled for some replicas of a stack and not for others has these values there.
_NEUTRAL = {"kl_weight": 1.0}

Outcome = dict[str, Any] | TrainingFailure


def shared_settings(config: RunConfig) -> RunConfig | None:
    """What has to be equal for runs to be replicas of one another.

    Arguments:
        config: A resolved config.

    Returns:
        The same for all that can be trained as one; ``None`` where a run has to be trained alone, because
        how a step is computed depends on the values in its tensors, or on what its model remembers.
    """
    if isinstance(config, DLGMMConfig) and config.is_truncated:
        return None
    if isinstance(config, TrainConfig):
        if config.has_categories and not LATENTS[config.latent].has_fixed_law:
            return None
        if any(True for _ in by_name(config.estimator).buffers()):
            return None
    own = {name: value for name, value in _OWN.items() if getattr(config, name, None) is not None}
    return dataclasses.replace(config, **own)


def train_replicas(
    runs: Sequence[tuple[RunConfig, str | Path]], watcher: Watcher | None = None
) -> list[Outcome]:
    """Trains runs as one stacked model, or goes on with those of them that were begun.

    Each has its folder, as :func:`igr.training.loop.train` would write it, and the same numbers but for
    rounding.

    Arguments:
        runs: Configs that differ in no more than seed, temperature, learning rate, warm-up of the KL and
            capacities, and the folder of each.
        watcher: Is told how training goes; of the figures it is told those of the first run.

    Returns:
        For each run what ``result.json`` holds in the end, or the failure that ended it.

    Raises:
        ValueError: The configs are not those of replicas.
        UserError: A config or a folder cannot be used.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of every replica was written.
    """
    configs = [config.resolved() for config, _ in runs]
    shared = {shared_settings(config) for config in configs}
    if len(shared) != 1 or None in shared:
        raise ValueError(
            "train_replicas: expected configs that differ in seed, temperature, learning_rate, kl_warmup and "
            f"capacities alone, of models that can be stacked; got {configs}; train them with train()."
        )
    folders = [RunFolder(path) for _, path in runs]
    dataset = load_data(with_data_at_hand(configs[0], None))
    outcomes: dict[int, Outcome] = {}
    loops: dict[int, Loop] = {}
    with ExitStack() as stack:
        for index, (config, folder) in enumerate(zip(configs, folders, strict=True)):
            begun = (folder.path / "config.json").is_file()
            if not begun:
                # Before the lock, which would leave a file in a folder that is no run's.
                folder.check_free()
            stack.enter_context(folder.locked())
            if begun and "training" in (result := folder.result()):
                outcomes[index] = result
                continue
            like = next(iter(loops.values()), None)
            loops[index] = Loop(folder, folder.config() if begun else config, dataset, like)
            if begun:
                loops[index].restore()
            else:
                folder.begin(config)
        # Those that were interrupted together are at the same step; of a process that was killed they may
        # not all be.
        for step in sorted({loop.step for loop in loops.values()}):
            together = {index: loop for index, loop in loops.items() if loop.step == step}
            outcomes |= zip(together, _Replicas([*together.values()]).run(watcher or Watcher()), strict=True)
    return [outcomes[index] for index in range(len(runs))]


def replicas_at_once(config: RunConfig, share: float = 1.0) -> int:
    """How many replicas of a run there is memory for, at least one.

    Half of what is free is taken. Of the rest of a step nothing is assumed to be given back before its end,
    so that there is room for what is not counted.

    Arguments:
        config: A config that can be stacked.
        share: The part of the memory at hand that they may take.
    """
    config = config.resolved()
    dataset = load_data(with_data_at_hand(config, None))
    task = task_of(config, dataset, 1)
    state = sum(tensor.nbytes for tensor in (*task.model.parameters(), *task.model.buffers()))
    images = prepare(
        dataset.train.images[: config.batch_size].to(task.device), config.likelihood, config.dtype
    )
    with Allocated() as step:
        Passes(task)(images, 0)
    # Weights, their gradients, and two moments of these.
    needed = 4 * state + step.num_bytes
    return max(1, int(0.5 * share * free_memory(task.device) / needed))


class _Replicas:
    """Loops at the same step, whose tensors are slices of stacked ones."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self.loops = loops
        self.first = loops[0]
        self.failures: dict[int, TrainingFailure] = {}
        # Those with the same learning rate are neighbours, so that Adam moves them in one go.
        self._order = sorted(range(len(loops)), key=lambda index: loops[index].config.learning_rate)
        ordered = [loops[index] for index in self._order]
        self._parameters = _stacked([loop.parameters for loop in ordered])
        self._tensors = [*self._parameters, *_stacked([[*loop.model.buffers()] for loop in ordered])]
        self._adams: list[tuple[slice, Loop, Adam]] = []
        start = 0
        while start < len(ordered):
            leader = ordered[start]
            end = start
            while end < len(ordered) and ordered[end].config.learning_rate == leader.config.learning_rate:
                end += 1
            part = slice(start, end)
            adam = Adam({str(number): p[part] for number, p in enumerate(self._parameters)})
            adam.join([loop.adam for loop in ordered[part]])
            self._adams.append((part, leader, adam))
            start = end
        self._ordered = ordered
        self._flat: dict[int, Flat] = {}
        temperatures = [loop.config.posterior_temperature for loop in ordered]
        self._constant = {"temperature": temperatures} if len({*temperatures}) > 1 else {}

    def run(self, watcher: Watcher) -> list[Outcome]:
        """Trains all to the last epoch, but for those that fail on the way."""
        first = self.first
        with ExitStack() as stack:
            boards = [stack.enter_context(loop.board() or nullcontext()) for loop in self.loops]
            stop = stack.enter_context(stop_signals())
            stack.enter_context(watcher)
            watcher.begin(first.step, first.num_steps, first.config.epochs)
            step = first.step
            while step < first.num_steps and len(self.failures) < len(self.loops):
                step = self._epoch(step, watcher, stop, boards)
        return [
            self.failures[index] if index in self.failures else loop.finish()
            for index, loop in enumerate(self.loops)
        ]

    def _epoch(self, step: int, watcher: Watcher, stop: Stop, boards: Sequence[Board | None]) -> int:
        """Takes the steps that are left of an epoch, and closes it; the step after it."""
        started = time.perf_counter()
        steps_per_epoch = self.first.steps_per_epoch
        # Those of one that has failed stay at the step where it did.
        last = (step // steps_per_epoch + 1) * steps_per_epoch
        batches = [loop.batches() for loop in self._ordered]
        while step < last and len(self.failures) < len(self.loops):
            number = step % steps_per_epoch
            self._step(step, torch.stack([each[number] for each in batches]))
            step += 1
            watcher.advance(step)
            if stop.requested and step < last:
                raise self._interrupted()
        seconds = (time.perf_counter() - started) / len(self.loops)
        lines = []
        for index, board in enumerate(boards):
            if index not in self.failures:
                lines.append(self.loops[index].close_epoch(seconds, board))
        if lines:
            watcher.epoch(lines[0])
        if stop.requested and step < self.first.num_steps:
            raise self._interrupted()
        for index, loop in enumerate(self.loops):
            if index not in self.failures:
                try:
                    loop.checkpoint_if_due()
                except TrainingFailure as failure:
                    self.failures[index] = failure
        return step

    def _step(self, step: int, batch: Tensor) -> None:
        num_images = batch.shape[1]
        x = self._images(batch)
        noise = torch.stack([loop.task.noise(step, num_images) for loop in self._ordered])
        scheduled = self._scheduled(step, x)
        inputs = (*self._tensors, x, noise, *scheduled.values())
        if num_images not in self._flat:
            self._flat[num_images] = self._pass([*scheduled], inputs)
        with torch.no_grad():
            *gradients, sums = self._flat[num_images](*inputs)
        for position, index in enumerate(self._order):
            if index not in self.failures:
                try:
                    self.loops[index].note(sums[position])
                except TrainingFailure as failure:
                    self.failures[index] = failure
        for part, leader, adam in self._adams:
            adam.step([gradient[part] for gradient in gradients], leader.task.learning_rate(step))

    def _images(self, batch: Tensor) -> Tensor:
        """The images of a step of all replicas, with shape :math:`(R, B, C, H, W)`."""
        first = self.first
        images = first.images_of(batch.flatten())
        if not first.drawn_anew:
            prepared = first.prepared(images)
            return prepared.view(*batch.shape, *prepared.shape[1:])
        parts = torch.split(images, batch.shape[1])
        return torch.stack([loop.prepared(part) for loop, part in zip(self._ordered, parts, strict=True)])

    def _scheduled(self, step: int, like: Tensor) -> dict[str, Tensor]:
        """What differs by replica or by step, by name, each with shape :math:`(R,)`."""
        found = [loop.task.scheduled(step) for loop in self._ordered]
        values = dict(self._constant)
        for name in dict.fromkeys(name for each in found for name in each):
            values[name] = [each[name] if name in each else _NEUTRAL[name] for each in found]
        return {
            name: torch.tensor(row, dtype=like.dtype).to(like.device, non_blocking=True)
            for name, row in values.items()
        }

    def _pass(self, names: Sequence[str], examples: Sequence[Tensor]) -> Flat:
        """Gradients and figures of all replicas, for images of these shapes."""
        first = self.first
        terms_of = terms_by_tensors(first.task, names)
        num_parameters = len(self._parameters)

        def loss(parameters: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            terms = terms_of(*parameters, *others)
            return terms.loss, terms.sums

        def one(*arguments: Tensor) -> list[Tensor]:
            parameters, others = arguments[:num_parameters], arguments[num_parameters:]
            gradients, sums = grad(loss, has_aux=True)(parameters, others)
            x = arguments[len(self._tensors)]
            return [*gradients, first.passes.figures(sums, gradients, len(x))]

        stacked = vmap(one)
        try:
            return flattened(stacked, *examples)
        except NotFlat:
            return stacked

    def _interrupted(self) -> Interrupted:
        """Writes a checkpoint of each replica; what is to be raised then."""
        going = [loop for index, loop in enumerate(self.loops) if index not in self.failures]
        for loop in going:
            loop.interrupted()
        return Interrupted(
            f"stopped {len(going)} replicas at step {going[0].step} of {going[0].num_steps}, each with a "
            "checkpoint; go on with the same command"
        )


def _stacked(tensors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The tensors of replicas one upon another, as which they go on, each as a slice."""
    found = []
    for same in zip(*tensors, strict=True):
        stacked = torch.stack([tensor.detach() for tensor in same])
        for tensor, part in zip(same, stacked, strict=True):
            tensor.data = part
        found.append(stacked)
    return found
