"""The training loop: from a config to a run folder, and on from where one stopped."""

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from igr.data import Dataset
from igr.errors import UserError
from igr.training import checkpoints
from igr.training.adam import Adam
from igr.training.board import Board
from igr.training.build import available_device, num_parameters, own_parameters
from igr.training.captured import Capture, captured, cuda_graph
from igr.training.divergence import broken_state, broken_step
from igr.training.failures import Elsewhere, Interrupted, TrainingFailure
from igr.training.images import Images
from igr.training.metrics import Metrics
from igr.training.passes import Passes
from igr.training.processes import ALONE, Lost, Processes, joined
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import check_size, load_data, parameter_tensors, with_data_at_hand
from igr.training.stopping import Stop, stop_signals
from igr.training.tasks import task_of
from igr.training.watchers import Watcher

# Reading a number from a CUDA device waits for all work on it, so there losses are looked at once an
# epoch; on the CPU they are looked at before the weights move.
LOOKS_AT_EACH_STEP = {"cpu": True, "cuda": False}

# What records the work of a step, so that it is launched at once.
CAPTURES: dict[str, Capture | None] = {"cpu": None, "cuda": cuda_graph}

# Steps after which processes ask one another whether one of them has to stop: the question takes as long as
# adding up a small gradient.
STEPS_BETWEEN_QUESTIONS = 5


def train(config: RunConfig, path: str | Path, watcher: Watcher | None = None) -> dict[str, Any]:
    """Trains a new run.

    The noise of an image is a function of the seed, the step and its place in the batch, and the
    order of an epoch one of the seed and the epoch, so a run gives the same numbers whether it was
    interrupted or not. Where several processes were started together, by torchrun, each takes its part of
    every batch, and the first one alone writes and tells the watcher; the numbers are then the same but for
    rounding.

    Arguments:
        config: What to train.
        path: The folder of the run; it must be empty or not exist.
        watcher: Is told how training goes.

    Returns:
        What ``result.json`` holds in the end.

    Raises:
        UserError: The config or the folder cannot be used.
        TrainingFailure: The loss is not finite, a checkpoint cannot be written, or another process of the run
            has ended.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Elsewhere: Training ended before its last epoch, and another process of the run says why.
    """
    with joined() as processes, ExitStack() as stack:
        with processes.agreed():
            config = config.resolved()
            # Before the folder is made, so that a data set that cannot be read leaves none behind.
            loop = Loop(RunFolder(path), config, load_data(config), processes=processes)
            # Before the lock too, which would leave a file in a folder that is no run's.
            loop.folder.check_free()
        with processes.agreed():
            if processes.is_first:
                stack.enter_context(loop.folder.locked())
                loop.folder.begin(config)
        return loop.run(watcher or Watcher())


def resume(
    path: str | Path, watcher: Watcher | None = None, data_dir: str | Path | None = None
) -> dict[str, Any]:
    """Goes on with a run from its latest checkpoint, or from the start where it has none.

    A run that has finished is left as it is, unless its last checkpoint is damaged. Result and errors are
    those of :func:`train`.

    Arguments:
        path: The folder of the run.
        watcher: Is told how training goes.
        data_dir: Where the files of data sets are now, if not where they were.
    """
    folder = RunFolder(path)
    with joined() as processes, ExitStack() as stack:
        with processes.agreed():
            config = folder.config()
            if processes.is_first:
                stack.enter_context(folder.locked())
            is_finished = folder.is_finished
        if processes.any(is_finished):
            return folder.result()
        with processes.agreed():
            latest, _ = checkpoints.newest_whole(folder.checkpoints)
            if latest is not None:
                check_size(config, latest)
            config = with_data_at_hand(config, data_dir)
            loop = Loop(folder, config, load_data(config), processes=processes)
            loop.restore()
        return loop.run(watcher or Watcher())


class Loop:
    """A model, its optimizer and where they stand.

    Everything that a further step depends on is in ``tensors()`` and ``step``.

    Arguments:
        folder: The folder of the run.
        config: A resolved config.
        dataset: The data set of the config.
        like: Another one with images of the same form, to share them.
        processes: Those that have a part of every batch; the first one alone writes.

    Raises:
        UserError: The device is not there, or the processes are too many for the batches or the devices.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        dataset: Dataset,
        like: Self | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.processes = processes
        _check_processes(processes, config)
        self.folder = folder
        self.config = config
        self.device = available_device(config.device)
        shared = None if like is None else like.images
        self.images: Images = Images(config, dataset, self.device, shared)
        self.steps_per_epoch = -(-len(self.images.train) // config.batch_size)
        self.num_steps = self.steps_per_epoch * config.epochs
        self.task = task_of(config, dataset, self.steps_per_epoch)
        self.model = self.task.model
        self.parameters = list(self.model.parameters())
        self.capture = CAPTURES[self.device.type]
        # Those of a gradient estimator, which come last, are no part of the model.
        num_tracked = len(own_parameters(self.model)) if config.track_gradients else None
        self.passes = Passes(self.task, num_tracked, self.capture, processes)
        # A step of Adam as a graph, where passes are one.
        self._move: Callable[[Tensor], object] | None = None
        self.adam = Adam(dict(self.model.named_parameters()))
        self.step = 0
        self.metrics = Metrics(self.task, self.images)

    def tensors(self) -> dict[str, Tensor]:
        """The state as a checkpoint holds it, not copied."""
        adam = {f"adam.{name}": tensor for name, tensor in self.adam.tensors().items()}
        return {**parameter_tensors(self.model), **adam, "epoch.sums": self.metrics.sums}

    def restore(self) -> None:
        """Takes the state of the latest checkpoint that is whole, and makes the folder fit it."""
        if self.processes.is_first:
            self.folder.check_writable()
        # A newer one that the disk has damaged is made again.
        latest, _ = checkpoints.newest_whole(self.folder.checkpoints)
        if latest is not None:
            state = self.tensors()
            checkpoint = checkpoints.read(latest, state)
            with torch.no_grad():
                for name, tensor in state.items():
                    tensor.copy_(checkpoint.tensors[name])
            self.step = checkpoint.step
        if self.processes.is_first:
            self.folder.rewind(self.step)
        epochs, steps = self.step // self.steps_per_epoch, [line["step"] for line in self.folder.metrics()]
        expected = [(n + 1) * self.steps_per_epoch for n in range(epochs)]
        if self.step > self.num_steps or (steps != expected and self.processes.is_first):
            raise UserError(
                f"expected metrics.jsonl to have a line for each epoch up to the checkpoint at step "
                f"{self.step} of {self.num_steps}; got {len(steps)} lines for {epochs} epochs in "
                f"{self.folder.path}, or others than theirs; restore the file, or start a new run"
            )

    def run(self, watcher: Watcher) -> dict[str, Any]:
        """Trains to the last epoch and writes the result."""
        if self.processes.is_alone:
            return self._run(watcher)
        # Whoever has started the processes ends all where one has died, and a checkpoint comes before that.
        with stop_signals():
            try:
                return self._run(watcher if self.processes.is_first else Watcher())
            except Lost as error:
                raise self._left_alone() from error

    def _run(self, watcher: Watcher) -> dict[str, Any]:
        with self.processes.agreed():
            board = self.board()
        with stop_signals() as stop, watcher, board or nullcontext():
            watcher.begin(self.step, self.num_steps, self.config.epochs)
            while not self.is_done:
                self._epoch(watcher, stop, board)
        return self.finish()

    def _epoch(self, watcher: Watcher, stop: Stop, board: Board | None) -> None:
        """Takes the steps that are left of an epoch, and closes it."""
        started = time.perf_counter()
        batches = self.batches()
        for batch in batches[self.step % self.steps_per_epoch :]:
            self._step(self._part_of(batch), len(batch))
            watcher.advance(self.step)
            if self.step % self.steps_per_epoch and self._has_to_stop(stop):
                raise self.interrupted()
        watcher.epoch(self.close_epoch(time.perf_counter() - started, board))
        if not self.is_done and self.processes.any(stop.requested):
            raise self.interrupted()
        self.checkpoint_if_due()

    def _has_to_stop(self, stop: Stop) -> bool:
        """Whether a signal has come, to any of the processes; they ask one another now and then."""
        if self.processes.is_alone:
            return stop.requested
        return self.step % STEPS_BETWEEN_QUESTIONS == 0 and self.processes.any(stop.requested)

    def _part_of(self, batch: Tensor) -> Tensor:
        """The images of a batch that are this process's, as its pass takes them."""
        part = self.processes.part(len(batch))
        if self.images.drawn_anew:
            # Drawn for all, so that the pixels of an image depend on its place in the batch alone.
            return self.images.prepared(self.images.take(batch), self.step)[part]
        return self.images.prepared(self.images.take(batch[part]), self.step)

    def _step(self, x: Tensor, num_images: int) -> None:
        gradients, sums = self.passes(x, self.step, num_images)
        self.note(sums)
        rate = self.learning_rate(self.step - 1)
        if isinstance(rate, float) or not self.passes.is_captured or num_images < self.config.batch_size:
            self.adam.step(gradients, rate)
            return
        if self._move is None:
            moved = partial(self._moved, gradients)
            self._move = (self.capture and captured(moved, [rate], self.capture)) or moved
        self._move(rate)

    def learning_rate(self, step: int) -> float | Tensor:
        """The learning rate of a step as Adam is to take it."""
        rate = self.task.learning_rate(step)
        # As a tensor also before there is a graph, since that rounds it.
        return rate if self.capture is None else torch.full((), rate, dtype=torch.float32, device=self.device)

    def _moved(self, gradients: Sequence[Tensor], learning_rate: Tensor) -> Sequence[Tensor]:
        """Moves the weights; for a graph, which wants results."""
        self.adam.step(gradients, learning_rate)
        return ()

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken."""
        return self.step == self.num_steps

    def batches(self) -> tuple[Tensor, ...]:
        """The images of each step of the epoch that is under way, or about to begin, by their numbers."""
        return self.images.batches(self.step // self.steps_per_epoch)

    def note(self, sums: Tensor) -> None:
        """Counts a step with these figures, which is to be called before the weights move.

        Raises:
            TrainingFailure: They, or those of a step shortly before, are not finite.
        """
        self.step += 1
        self.metrics.add(self.step, sums)
        if LOOKS_AT_EACH_STEP[self.device.type]:
            self._settle()

    def _settle(self) -> None:
        """Has the recent steps count in the figures of the epoch; fails if one was not finite."""
        broken = self.metrics.settle()
        if broken is None:
            return
        if not self.processes.is_first:
            raise Elsewhere("the first process of the run says what is not finite")
        raise broken_step(self.task, self.folder, *broken)

    def close_epoch(self, seconds: float, board: Board | None) -> dict[str, Any]:
        """Validates, writes what the epoch was like and returns it; its sums start anew.

        Arguments:
            seconds: How long its steps took.
            board: Where figures and pictures go too.
        """
        started = time.perf_counter()
        self._settle()
        metrics = self.metrics.line(self.step // self.steps_per_epoch, self.step, self.processes)
        seconds = round(seconds + time.perf_counter() - started, 6)
        with self.processes.agreed():
            if self.processes.is_first:
                self.folder.append(metrics, seconds)
            if board is not None:
                self._show(board, metrics, seconds)
        # Not before: where that was in vain, another process may write it.
        self.metrics.sums.zero_()
        return metrics

    def checkpoint_if_due(self) -> None:
        """Writes a checkpoint at the end of an epoch, if it is time for one."""
        if self.is_done or (self.step // self.steps_per_epoch) % self.config.checkpoint_every == 0:
            self._checkpoint()

    def board(self) -> Board | None:
        """Where figures and pictures go, if the config asks for it."""
        wanted = self.config.tensorboard and self.processes.is_first
        return Board(self.folder.tensorboard, self.step) if wanted else None

    def _show(self, board: Board, metrics: dict[str, Any], seconds: float) -> None:
        board.figures(metrics, seconds)
        if metrics["validation_bound"] is not None:
            board.pictures(self.task.pictures(self.images.validation), self.step)
        board.flush()

    def _checkpoint(self) -> None:
        with self.processes.agreed():
            self._settle()
            state = self.tensors()
            broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
            if broken:
                raise broken_state(self.task, self.folder, self.step, broken[0])
            if self.processes.is_first:
                epoch = self.step // self.steps_per_epoch
                self.folder.check_in_place()
                checkpoints.write(self.folder.checkpoints, self.step, epoch, state)

    def interrupted(self) -> Exception:
        """Writes a checkpoint; what is to be raised then."""
        self._checkpoint()
        if not self.processes.is_first:
            return Elsewhere("the first process of the run says where it stopped", is_interrupt=True)
        return Interrupted(self._where_it_stopped("stopped"))

    def _where_it_stopped(self, how: str) -> str:
        return (
            f"{how} at step {self.step} of {self.num_steps} with the checkpoint "
            f"{checkpoints.path_of(self.folder.checkpoints, self.step).name}; go on with igr train --resume "
            f"{shlex.quote(str(self.folder.path))}"
        )

    def _left_alone(self) -> Exception:
        """Writes a checkpoint if it can, where another process has ended; what is to be raised then."""
        what = f"expected {self.processes.count} processes to the end of training; got the end of one before"
        with ExitStack() as stack:
            if not self.processes.is_first:
                try:
                    # Free where the first one is gone, since otherwise that has it.
                    stack.enter_context(self.folder.locked())
                except UserError:
                    return Elsewhere(what)
            latest = self.folder.latest_step()
            if self.device.type == "cuda":
                # Its work may still wait for the one that has ended, or have gone on with sums of nothing.
                found = "none" if latest is None else f"that of step {latest}"
                return TrainingFailure(
                    f"{what}; the last checkpoint is {found}; go on with igr train --resume "
                    f"{shlex.quote(str(self.folder.path))}"
                )
            self.processes = ALONE
            if len(self.folder.metrics()) < self.step // self.steps_per_epoch:
                # All steps of an epoch were taken, but nothing was written of it.
                self.close_epoch(0.0, None)
            elif self.step % self.steps_per_epoch == 0:
                self.metrics.sums.zero_()
            if latest != self.step:
                self._checkpoint()
        return TrainingFailure(self._where_it_stopped(f"{what}; stopped"))

    def finish(self) -> dict[str, Any]:
        """Writes the result of a run that is done, and returns it."""
        # If another one ends after the last step, nothing is missing but its word.
        with suppress(Lost) if self.processes.is_first else nullcontext(), self.processes.agreed():
            if self.processes.is_first:
                self._write_result()
        return self.folder.result()

    def _write_result(self) -> None:
        timings = self.folder.timings()
        self.folder.finish(
            {
                "config": self.config.to_json(),
                "training": {
                    **self.folder.metrics()[-1],
                    "num_parameters": num_parameters(self.model),
                    "num_train_images": len(self.images.train),
                    "seconds": round(sum(line["seconds"] for line in timings), 3),
                },
            }
        )


def _check_processes(processes: Processes, config: RunConfig) -> None:
    """Checks that so many processes can have a part each of what a run does."""
    if processes.count > config.batch_size:
        raise UserError(
            f"expected no more processes than images of a batch ({config.batch_size}); got "
            f"{processes.count}; start fewer, or raise --batch-size"
        )
    if processes.count > 1 and config.device == "cuda" and not processes.has_device:
        raise UserError(
            f"expected a CUDA device for each process of a machine; got {torch.cuda.device_count()} of them; "
            "start as many processes as there are devices, or use --device cpu"
        )
    if processes.count > 1 and config.device not in ("cpu", "cuda"):
        raise UserError(
            f"expected the device cpu or cuda for several processes; got {config.device}; each takes a "
            "device of its own"
        )
