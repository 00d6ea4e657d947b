"""Runs that differ in little, trained as one stacked model.

Every replica is an ordinary :class:`~igr.training.loop.Loop` with its own folder, order of the data and
noise. Its tensors are slices of stacked ones, so that what it validates, shows and saves is what it would be
if it stood alone; only steps are taken for all at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from igr.data import Dataset, prepare
from igr.errors import UserError
from igr.estimators import by_name
from igr.models.latents import LATENTS, StickBreakingLatent
from igr.models.latents.invertible_gaussian import NormalLatent
from igr.training.adam import Adam
from igr.training.captured import captured
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.failures import Interrupted, TrainingFailure
from igr.training.flat import Flat, NotFlat, flattened
from igr.training.loop import Loop
from igr.training.memory import Allocated, free_memory
from igr.training.passes import Passes, terms_by_tensors
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_data, with_data_at_hand
from igr.training.stopping import Stop, stop_signals
from igr.training.task import Task
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

# The numbers of a run's result, or what kept it from being trained to its end.
Outcome = dict[str, Any] | TrainingFailure | UserError


def shared_settings(config: RunConfig) -> RunConfig | None:
    """What has to be equal for runs to be replicas of one another.

    Arguments:
        config: A resolved config.

    Returns:
        The same for all that can be trained as one; ``None`` where a run is to be trained alone, because how
        a step is computed depends on the values in its tensors, or on what its model remembers.
    """
    if isinstance(config, DLGMMConfig) and config.is_truncated:
        return None
    if isinstance(config, TrainConfig):
        if config.has_categories and not _has_plain_law(config):
            return None
        if any(True for _ in by_name(config.estimator).buffers()):
            return None
    own = {name: value for name, value in _OWN.items() if getattr(config, name, None) is not None}
    return dataclasses.replace(config, **own)


def _has_plain_law(config: TrainConfig) -> bool:
    """Whether what a step needs of the latent's law is computed alike whatever the values of parameters are.

    The exact laws of the IGR choose their nodes by the parameters. Where these cannot be read, they take as
    many as any might need: of IGR-I a few times more, which a GPU does anyway, of sticks thousands.
    """
    latent = LATENTS[config.latent]
    if not latent.has_fixed_law:
        return False
    if config.trained_kl != "discrete" or not issubclass(latent, NormalLatent):
        return True
    return not issubclass(latent, StickBreakingLatent) and config.device != "cpu"


def train_replicas(
    runs: Sequence[tuple[RunConfig, str | Path]], watcher: Watcher | None = None
) -> list[Outcome]:
    """Trains runs as one stacked model, or goes on with those of them that were begun.

    Each has its folder, as :func:`igr.training.loop.train` would write it, and the same numbers but for
    rounding; of the seconds of an epoch each has its part. Those that were begun and are behind the others
    catch up with them first.

    Arguments:
        runs: Configs that differ in no more than seed, temperature, learning rate, warm-up of the KL and
            capacities, and the folder of each.
        watcher: Is told how training goes; of the figures it is told those of one run.

    Returns:
        For each run what ``result.json`` holds in the end, or the failure that ended it, or why it could not
        begin. What becomes of one run changes no other.

    Raises:
        ValueError: The configs are not those of replicas, or two have one folder.
        UserError: The data cannot be read.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of every replica was written.
    """
    configs = [config.resolved() for config, _ in runs]
    paths = [Path(path) for _, path in runs]
    shared = {shared_settings(config) for config in configs}
    if len(shared) > 1 or None in shared:
        raise ValueError(
            "train_replicas: expected configs that differ in seed, temperature, learning_rate, kl_warmup and "
            f"capacities alone, of models that can be stacked; got {configs}; train them with train()."
        )
    if len({path.absolute() for path in paths}) < len(paths):
        raise ValueError(f"train_replicas: expected a folder for each run; got {paths}; change one.")
    if not runs:
        return []
    dataset = load_data(with_data_at_hand(configs[0], None))
    outcomes: dict[int, Outcome] = {}
    loops: dict[int, Loop] = {}
    with ExitStack() as stack:
        for index, (config, path) in enumerate(zip(configs, paths, strict=True)):
            try:
                opened = _open(config, RunFolder(path), dataset, next(iter(loops.values()), None), stack)
            except (UserError, TrainingFailure) as error:
                outcomes[index] = error
                continue
            if isinstance(opened, Loop):
                loops[index] = opened
            else:
                outcomes[index] = opened
        if loops:
            outcomes |= _Training(loops).run(watcher or Watcher())
    return [outcomes[index] for index in range(len(runs))]


def _open(
    config: RunConfig, folder: RunFolder, dataset: Dataset, like: Loop | None, stack: ExitStack
) -> Loop | dict[str, Any]:
    """The loop of a run, new or from its latest checkpoint, or its result where it has finished.

    The stack holds the folder.
    """
    if not folder.is_begun:
        # Before the lock, which would leave a file in a folder that is no run's.
        loop = Loop(folder, config, dataset, like)
        folder.check_free()
        stack.enter_context(folder.locked())
        folder.begin(config)
        return loop
    stored = folder.config()
    # Data and prior are the same wherever they are.
    here = {name: getattr(config, name) for name in ("data_dir", "prior") if hasattr(config, name)}
    if dataclasses.replace(stored, **here) != config:
        raise UserError(
            f"expected the run of this config in {folder.path}; got one with other settings; choose another "
            "folder"
        )
    with ExitStack() as own:
        own.enter_context(folder.locked())
        if folder.is_finished:
            return folder.result()
        loop = Loop(folder, stored, dataset, like)
        loop.restore()
        stack.push(own.pop_all())
    return loop


def replicas_at_once(config: RunConfig, share: float = 1.0) -> int:
    """How many replicas of a run there is memory for, at least one.

    Half of what is free is taken, and of what a step makes nothing is assumed to be given back before its
    end, so that there is room for what is not counted.

    Arguments:
        config: A config that can be stacked.
        share: The part of the memory at hand that they may take.
    """
    config = config.resolved()
    dataset = load_data(with_data_at_hand(config, None))
    task = task_of(config, dataset, 1)
    tensors = [*task.model.parameters(), *task.model.buffers()]
    images = dataset.train.images[: config.batch_size].to(task.device)
    x = prepare(images, config.likelihood, config.dtype)
    temperature = torch.tensor([config.posterior_temperature], dtype=x.dtype, device=x.device)
    step = _mapped(task, Passes(task), ["temperature"])
    with torch.no_grad(), Allocated() as made:
        one = [tensor.detach().unsqueeze(0) for tensor in (*tensors, x, task.noise(0, len(x)))]
        step(*one, temperature)
    # Weights and two moments of their gradients; the gradients are among what the step made.
    state = 3 * sum(tensor.nbytes for tensor in tensors)
    return max(1, int(0.5 * share * free_memory(task.device) / (state + made.num_bytes)))


class _Training:
    """Loops, some of which may be behind the others, on their way to the last epoch."""

    def __init__(self, loops: Mapping[int, Loop]) -> None:
        self.loops = dict(loops)
        self.failures: dict[int, TrainingFailure] = {}
        # Those that are trained now, all at the same step.
        self.going: dict[int, Loop] = {}
        self.first = next(iter(self.loops.values()))
        self._indices = {id(loop): index for index, loop in self.loops.items()}

    def run(self, watcher: Watcher) -> dict[int, Outcome]:
        """Trains all to the last epoch, but for those that fail on the way."""
        first = self.first
        with ExitStack() as stack:
            self._boards = {
                index: stack.enter_context(loop.board() or nullcontext())
                for index, loop in self.loops.items()
            }
            stop = stack.enter_context(stop_signals())
            stack.enter_context(watcher)
            starts = sorted({loop.step for loop in self.loops.values()})
            watcher.begin(starts[0], first.num_steps, first.config.epochs)
            for start, end in zip(starts, [*starts[1:], first.num_steps], strict=True):
                self.going |= {index: loop for index, loop in self.loops.items() if loop.step == start}
                self._advance(start, end, watcher, stop)
        finished: dict[int, dict[str, Any]] = {}
        for index, loop in list(self.going.items()):
            self._try(index, partial(self._finish_one, index, loop, finished))
        return {**self.failures, **finished}

    def _advance(self, step: int, end: int, watcher: Watcher, stop: Stop) -> None:
        """Takes those that are going from one step to another."""
        per_epoch = self.first.steps_per_epoch
        stacked: _Stack | None = None
        while step < end and self.going:
            if stacked is None or len(stacked.loops) > len(self.going):
                # One that has failed is frozen: it is no part of the stack from the next epoch on.
                stacked = _Stack(list(self.going.values()))
            started = time.perf_counter()
            last = min(end, (step // per_epoch + 1) * per_epoch)
            batches = [loop.batches() for loop in stacked.loops]
            for number in range(step % per_epoch, last - step + step % per_epoch):
                stacked.step(torch.stack([each[number] for each in batches]), self._note)
                step += 1
                watcher.advance(step)
                if stop.requested and step % per_epoch:
                    self._interrupt()
                if not self.going:
                    return
            if step % per_epoch:
                return
            self._close(watcher, (time.perf_counter() - started) / len(stacked.loops))
            if stop.requested and step < self.first.num_steps:
                self._interrupt()
            self._try_each(lambda loop: loop.checkpoint_if_due())

    def _note(self, loop: Loop, sums: Tensor) -> None:
        """Counts a step of one, if it is still going."""
        index = self._indices[id(loop)]
        if index in self.going:
            self._try(index, partial(loop.note, sums))

    def _close(self, watcher: Watcher, seconds: float) -> None:
        """Ends an epoch of each."""
        lines: list[dict[str, Any]] = []
        for index, loop in list(self.going.items()):
            self._try(index, partial(self._close_one, index, loop, seconds, lines))
        if lines:
            watcher.epoch(lines[0])

    def _close_one(self, index: int, loop: Loop, seconds: float, lines: list[dict[str, Any]]) -> None:
        lines.append(loop.close_epoch(seconds, self._boards[index]))

    def _finish_one(self, index: int, loop: Loop, finished: dict[int, dict[str, Any]]) -> None:
        finished[index] = loop.finish()

    def _try_each(self, work: Callable[[Loop], object]) -> None:
        for index, loop in list(self.going.items()):
            self._try(index, partial(work, loop))

    def _try(self, index: int, work: Callable[[], object]) -> None:
        """Does something with one that is going, which goes no further if it fails."""
        try:
            work()
        except TrainingFailure as failure:
            self.failures[index] = failure
            del self.going[index]

    def _interrupt(self) -> None:
        """Writes a checkpoint of each and stops, unless all have failed."""
        self._try_each(lambda loop: loop.interrupted())
        if self.going:
            first = next(iter(self.going.values()))
            raise Interrupted(
                f"stopped {len(self.going)} replicas at step {first.step} of {first.num_steps}, each with a "
                "checkpoint; go on with the same command"
            )


class _Stack:
    """Loops at the same step, whose tensors are slices of stacked ones."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        # Those with the same learning rate are neighbours, so that Adam moves them in one go.
        self.loops = sorted(loops, key=lambda loop: loop.config.learning_rate)
        self._parameters = _stacked([loop.parameters for loop in self.loops])
        self._tensors = [*self._parameters, *_stacked([[*loop.model.buffers()] for loop in self.loops])]
        self._adams: list[tuple[slice, Loop, Adam]] = []
        start = 0
        for _, alike in itertools.groupby(self.loops, key=lambda loop: loop.config.learning_rate):
            members = list(alike)
            part = slice(start, start + len(members))
            adam = Adam({str(number): p[part] for number, p in enumerate(self._parameters)})
            adam.join([loop.adam for loop in members])
            self._adams.append((part, members[0], adam))
            start = part.stop
        temperatures = [loop.config.posterior_temperature for loop in self.loops]
        self._constant = {"temperature": temperatures} if len({*temperatures}) > 1 else {}
        self._passes: dict[int, Callable[..., Sequence[Tensor]]] = {}

    def step(self, batch: Tensor, note: Callable[[Loop, Tensor], object]) -> None:
        """Takes a step.

        Arguments:
            batch: The numbers of the images of each, with shape :math:`(R, B)`.
            note: Is told the figures of each before the weights move.
        """
        step = max(loop.step for loop in self.loops)
        num_images = batch.shape[1]
        x = self._images(batch)
        noise = torch.stack([loop.task.noise(step, num_images) for loop in self.loops])
        scheduled = self._scheduled(step, x)
        inputs = (x, noise, *scheduled.values())
        if num_images not in self._passes:
            self._passes[num_images] = self._pass([*scheduled], inputs)
        with torch.no_grad():
            *gradients, sums = self._passes[num_images](*inputs)
        # Figures of several steps are looked at together, and a graph writes over its own.
        for loop, own in zip(self.loops, sums.clone(), strict=True):
            note(loop, own)
        for part, leader, adam in self._adams:
            adam.step([gradient[part] for gradient in gradients], leader.learning_rate(step))

    def _images(self, batch: Tensor) -> Tensor:
        """The images of a step of all replicas, with shape :math:`(R, B, C, H, W)`."""
        first = self.loops[0]
        images = first.images.take(batch.flatten())
        if not first.images.drawn_anew:
            prepared = first.images.prepared(images, first.step)
            return prepared.view(*batch.shape, *prepared.shape[1:])
        parts = zip(self.loops, torch.split(images, batch.shape[1]), strict=True)
        return torch.stack([loop.images.prepared(part, loop.step) for loop, part in parts])

    def _scheduled(self, step: int, like: Tensor) -> dict[str, Tensor]:
        """What differs by replica or by step, by name, each with shape :math:`(R,)`."""
        found = [loop.task.scheduled(step) for loop in self.loops]
        values = dict(self._constant)
        for name in dict.fromkeys(name for each in found for name in each):
            values[name] = [each[name] if name in each else _NEUTRAL[name] for each in found]
        return {
            name: torch.tensor(row, dtype=like.dtype).to(like.device, non_blocking=True)
            for name, row in values.items()
        }

    def _pass(self, names: Sequence[str], inputs: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
        """Gradients and figures of all replicas, for images of these shapes, noise and what is scheduled."""
        first = self.loops[0]
        mapped = _mapped(first.task, first.passes, names)
        try:
            flat = partial(flattened(mapped, *self._tensors, *inputs), *self._tensors)
        except NotFlat:
            return partial(mapped, *self._tensors)
        if first.capture is None:
            return flat
        # Once as it is, since libraries that were never used cannot be captured.
        with torch.no_grad():
            flat(*inputs)
        return captured(flat, inputs, first.capture) or flat


def _mapped(task: Task, passes: Passes, names: Sequence[str]) -> Flat:
    """Gradients and figures as a function of stacked tensors, images, noise, and what is scheduled."""
    terms_of = terms_by_tensors(task, names)
    num_parameters = len(list(task.model.parameters()))
    # After parameters and buffers come the images.
    position = num_parameters + len(list(task.model.buffers()))

    def loss(parameters: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        terms = terms_of(*parameters, *others)
        return terms.loss, terms.sums

    def one(*arguments: Tensor) -> list[Tensor]:
        parameters, others = arguments[:num_parameters], arguments[num_parameters:]
        gradients, sums = grad(loss, has_aux=True)(parameters, others)
        return [*gradients, passes.figures(sums, gradients, len(arguments[position]))]

    return vmap(one)


def _stacked(tensors: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The tensors of replicas one upon another, as which they go on, each as a slice."""
    found = []
    for same in zip(*tensors, strict=True):
        stacked = torch.stack([tensor.detach() for tensor in same])
        for tensor, part in zip(same, stacked, strict=True):
            tensor.data = part
        found.append(stacked)
    return found
