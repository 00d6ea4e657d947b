"""The training loop: from a config to a run folder, and on from where one stopped."""

import math
import shlex
import time
from collections.abc import Sequence, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from igr.data import Dataset, cut, prepare
from igr.errors import UserError
from igr.models.likelihoods import LIKELIHOODS
from igr.models.vae import VAETerms
from igr.training import checkpoints
from igr.training.adam import Adam
from igr.training.board import Board
from igr.training.build import available_device, build_model, num_parameters, own_parameters
from igr.training.config import TrainConfig
from igr.training.failures import Interrupted, TrainingFailure
from igr.training.randomness import keyed_generator
from igr.training.runs import (
    RunFolder,
    evaluation_images,
    load_data,
    parameter_tensors,
    with_data_at_hand,
)
from igr.training.stopping import Stop, stop_signals
from igr.training.watchers import Watcher

# Images for which validation is computed at once. It is part of what the noise is keyed by.
VALIDATION_BATCH = 500

# Reading a number from a CUDA device waits for all work on it, so there losses are looked at in
# groups of so many steps; on the CPU they are looked at before the weights move.
STEPS_BETWEEN_CHECKS = {"cpu": 1, "cuda": 10}

# Training images of more bytes than this are not brought to the device, nor cut, all at once.
MOST_RESIDENT_BYTES = 2**30

# A gradient of at most this size moves nothing.
VANISHES = 1e-10
VANISHING = "vanishing_gradients"

# Trained weights of these networks stay far below.
PLAUSIBLE_WEIGHT = 1e3


def train(config: TrainConfig, path: str | Path, watcher: Watcher | None = None) -> dict[str, Any]:
    """Trains a new run.

    The noise of an image is a function of the seed, the step and its place in the batch, and the
    order of an epoch one of the seed and the epoch, so a run gives the same numbers whether it was
    interrupted or not.

    Arguments:
        config: What to train.
        path: The folder of the run; it must be empty or not exist.
        watcher: Is told how training goes.

    Returns:
        What ``result.json`` holds in the end.

    Raises:
        UserError: The config or the folder cannot be used.
        TrainingFailure: The loss is not finite, or a checkpoint cannot be written.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
    """
    config = config.resolved()
    # Before the folder is made, so that a data set that cannot be read leaves none behind.
    loop = _Loop(RunFolder(path), config, load_data(config))
    # Before the lock too, which would leave a file in a folder that is no run's.
    loop.folder.check_free()
    with loop.folder.locked():
        loop.folder.begin(config)
        return loop.run(watcher or Watcher())


def resume(
    path: str | Path, watcher: Watcher | None = None, data_dir: str | Path | None = None
) -> dict[str, Any]:
    """Goes on with a run from its latest checkpoint, or from the start where it has none.

    A run that has finished is left as it is. Arguments, result and errors are those of
    :func:`train`; ``data_dir`` is where the files of data sets are now, if not where they were.
    """
    folder = RunFolder(path)
    config = folder.config()
    with folder.locked():
        result = folder.result()
        if "training" in result:
            return result
        loop = _Loop(folder, config, load_data(with_data_at_hand(config, data_dir)))
        loop.restore()
        return loop.run(watcher or Watcher())


class _Loop:
    """A model, its optimizer and where they stand.

    Everything that a further step depends on is in ``tensors()`` and ``step``.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig, dataset: Dataset) -> None:
        self.folder = folder
        self.config = config
        self.device = available_device(config.device)
        self.train_images = dataset.train.images
        self.drawn_anew = config.binarization == "stochastic"
        # What is larger stays where it is, on the disk as a rule, and comes batch by batch.
        fits = self.train_images.nbytes <= MOST_RESIDENT_BYTES
        self.cut_once = fits and LIKELIHOODS[config.likelihood].binary_images and not self.drawn_anew
        if fits:
            self.train_images = self.train_images.to(self.device)
        if self.cut_once:
            self.train_images = cut(self.train_images)
        self.validation_images = evaluation_images(config, dataset, "validation")
        self.steps_per_epoch = math.ceil(len(self.train_images) / config.batch_size)
        self.num_steps = self.steps_per_epoch * config.epochs
        self.model = build_model(config, dataset.image_shape)
        self.parameters = list(self.model.parameters())
        # Those of a gradient estimator, which come last, are no part of the model.
        self.num_own = len(own_parameters(self.model))
        self.adam = Adam(dict(self.model.named_parameters()), config.learning_rate)
        self.capacities = config.capacities
        self.step = 0
        self.figures = ("log_likelihood", "kl", *self.model.latent.part_names)
        self.train_figures = (*self.figures, *([VANISHING] if config.track_gradients else []))
        # These, summed over the samples and images of the epoch so far.
        self.sums = torch.zeros(len(self.train_figures), dtype=torch.float64, device=self.device)
        # The same of single steps, by their number, that were not looked at yet.
        self.recent: dict[int, Tensor] = {}

    def tensors(self) -> dict[str, Tensor]:
        """The state as a checkpoint holds it, not copied."""
        adam = {f"adam.{name}": tensor for name, tensor in self.adam.tensors().items()}
        return {**parameter_tensors(self.model), **adam, "epoch.sums": self.sums}

    def restore(self) -> None:
        """Takes the state of the latest checkpoint, and makes the folder fit it."""
        latest = self.folder.latest_checkpoint()
        if latest is not None:
            state = self.tensors()
            checkpoint = checkpoints.read(latest, state)
            with torch.no_grad():
                for name, tensor in state.items():
                    tensor.copy_(checkpoint.tensors[name])
            self.step = checkpoint.step
        self.folder.rewind(self.step)
        epochs, lines = self.step // self.steps_per_epoch, len(self.folder.metrics())
        if self.step > self.num_steps or lines != epochs:
            raise UserError(
                f"expected metrics.jsonl to have a line for each epoch up to the checkpoint at step "
                f"{self.step} of {self.num_steps}; got {lines} lines for {epochs} epochs in "
                f"{self.folder.path}; restore the file, or start a new run"
            )

    def run(self, watcher: Watcher) -> dict[str, Any]:
        """Trains to the last epoch and writes the result."""
        board = Board(self.folder.tensorboard, self.step) if self.config.tensorboard else None
        with stop_signals() as stop, watcher, board or nullcontext():
            watcher.begin(self.step, self.num_steps, self.config.epochs)
            while self.step < self.num_steps:
                self._epoch(watcher, stop, board)
        return self._finish()

    def _epoch(self, watcher: Watcher, stop: Stop, board: Board | None) -> None:
        """Takes the steps that are left of an epoch, and closes it."""
        started = time.perf_counter()
        epoch, first = divmod(self.step, self.steps_per_epoch)
        order = torch.randperm(
            len(self.train_images), generator=keyed_generator(self.config.seed, "order", epoch)
        ).to(self.train_images.device)
        batches = torch.split(order, self.config.batch_size)
        for batch in batches[first:]:
            self._step(self._prepared(self.train_images.index_select(0, batch).to(self.device)))
            watcher.advance(self.step)
            if stop.requested and self.step % self.steps_per_epoch:
                self._interrupt()
        metrics = self._close_epoch(epoch + 1)
        seconds = round(time.perf_counter() - started, 6)
        self.folder.append(metrics, seconds)
        watcher.epoch(metrics)
        if board is not None:
            self._show(board, metrics, seconds)
        last = self.step == self.num_steps
        if stop.requested and not last:
            self._interrupt()
        if last or (epoch + 1) % self.config.checkpoint_every == 0:
            self._checkpoint()

    def _prepared(self, images: Tensor) -> Tensor:
        """Training images of a step in the form that the likelihood needs."""
        if self.cut_once:
            return images.to(self.config.dtype)
        generator = None
        if self.drawn_anew:
            generator = keyed_generator(self.config.seed, "binarization", self.step, self.device)
        return prepare(images, self.config.likelihood, self.config.dtype, generator)

    def _step(self, x: Tensor) -> None:
        generator = keyed_generator(self.config.seed, "noise", self.step, self.device)
        # Drawn for a whole batch also where the last one is smaller, so that the noise of an image
        # depends on its place and not on how many follow it.
        shape = (self.config.samples_per_image * self.model.draws_per_sample, self.config.batch_size)
        noise = self.model.latent.draw_noise(shape, generator)
        if len(x) < self.config.batch_size:
            noise = noise[:, : len(x)]
        capacities = {name: capacity.at(self.step) for name, capacity in self.capacities.items()}
        terms = self.model(x, noise, self.config.posterior_temperature, self._kl_weight(), **capacities)
        gradients = torch.autograd.grad(terms.loss, self.parameters)
        sums = _sums(terms)
        if self.config.track_gradients:
            # As often as there are terms in the other sums, so that all are divided alike.
            share = vanishing_share(gradients[: self.num_own]) * terms.log_likelihood.numel()
            sums = torch.cat([sums, share.unsqueeze(0)])
        self.recent[self.step + 1] = sums
        if len(self.recent) == STEPS_BETWEEN_CHECKS[self.device.type]:
            self._settle()
        self.adam.step(gradients)
        self.step += 1

    def _kl_weight(self) -> float:
        warmup = cast(int, self.config.kl_warmup) * self.steps_per_epoch
        return min(1.0, self.step / warmup) if warmup else 1.0

    def _settle(self) -> None:
        """Adds the recent steps to the sums of the epoch; fails if one was not finite."""
        recent, self.recent = self.recent, {}
        for step, sums in recent.items():
            if not all(map(math.isfinite, sums.tolist())):
                raise self._not_finite(step, sums)
            self.sums += sums

    def _close_epoch(self, epoch: int) -> dict[str, Any]:
        """The line of an epoch for ``metrics.jsonl``; its sums start anew."""
        self._settle()
        due = epoch % self.config.eval_every == 0 or epoch == self.config.epochs
        metrics = {
            "epoch": epoch,
            "step": self.step,
            "kl": self.config.kl,
            **_means("train", self.train_figures, self.sums, self._count(self.train_images)),
            **_means("validation", self.figures, *(self._validate() if due else (None, 0))),
            **{f"estimator_{name}": value for name, value in self._learned().items()},
        }
        self.sums.zero_()
        return metrics

    @torch.no_grad()
    def _validate(self) -> tuple[Tensor, int]:
        """The figures on the validation images, with the same noise at every epoch: sums and their number."""
        sums = torch.zeros(len(self.figures), dtype=torch.float64, device=self.device)
        # A truncated latent keeps all its sticks here.
        self.model.eval()
        for block, first in enumerate(range(0, len(self.validation_images), VALIDATION_BATCH)):
            x = self.validation_images[first : first + VALIDATION_BATCH].to(self.device)
            generator = keyed_generator(self.config.seed, "validation", block, self.device)
            noise = self.model.latent.draw_noise((self.config.samples_per_image, len(x)), generator)
            sums += _sums(self.model(x, noise, self.config.posterior_temperature))
        self.model.train()
        return sums, self._count(self.validation_images)

    def _learned(self) -> dict[str, float]:
        """Single numbers that the gradient estimator has learned."""
        estimator = self.model.estimator
        return {} if estimator is None else estimator.learned()

    def _count(self, images: Sized) -> int:
        """How many terms a sum over the samples of images has."""
        return len(images) * self.config.samples_per_image

    def _show(self, board: Board, metrics: dict[str, Any], seconds: float) -> None:
        board.figures(metrics, seconds)
        if metrics["validation_bound"] is not None:
            temperature = self.config.posterior_temperature
            board.pictures(self.model, self.validation_images, temperature, self.step)
        board.flush()

    def _checkpoint(self) -> Path:
        self._settle()
        state = self.tensors()
        broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
        if broken:
            raise self._failure(self.step, f"{broken[0]} is not finite", "the learning rate")
        epoch = self.step // self.steps_per_epoch
        return checkpoints.write(self.folder.checkpoints, self.step, epoch, state)

    def _interrupt(self) -> None:
        path = self._checkpoint()
        raise Interrupted(
            f"stopped at step {self.step} of {self.num_steps} with the checkpoint {path.name}; "
            f"go on with igr train --resume {shlex.quote(str(self.folder.path))}"
        )

    def _not_finite(self, step: int, sums: Tensor) -> TrainingFailure:
        if not all(parameter.isfinite().all() for parameter in self.parameters):
            return self._failure(step, "the weights are not finite", "the learning rate")
        # The other figures are parts of these.
        pairs = zip(("log-likelihood", "KL"), sums.tolist(), strict=False)
        terms = [f"the {name} is {value}" for name, value in pairs if not math.isfinite(value)]
        largest = max(parameter.abs().max().item() for parameter in self.parameters)
        cause = "the learning rate" if largest > PLAUSIBLE_WEIGHT else "the temperature"
        return self._failure(step, " and ".join(terms), cause)

    def _failure(self, step: int, what: str, cause: str) -> TrainingFailure:
        latest = self.folder.latest_checkpoint()
        intact = "none was written yet" if latest is None else str(latest)
        advice = {
            "the learning rate": f"a learning rate too high ({self.config.learning_rate:g})",
            "the temperature": f"a temperature too low ({self.config.posterior_temperature:g}) for "
            f"{self.config.precision}",
        }
        return TrainingFailure(
            f"expected finite numbers; got a step ({step}, epoch "
            f"{(step - 1) // self.steps_per_epoch + 1}) where {what}; last good checkpoint: "
            f"{intact}; the likely cause is {advice[cause]}"
        )

    def _finish(self) -> dict[str, Any]:
        timings = self.folder.timings()
        self.folder.update_result(
            {
                "config": self.config.to_json(),
                "training": {
                    **self.folder.metrics()[-1],
                    "num_parameters": num_parameters(self.model),
                    "num_train_images": len(self.train_images),
                    "seconds": round(sum(line["seconds"] for line in timings), 3),
                },
            }
        )
        return self.folder.result()


@torch.no_grad()
def _sums(terms: VAETerms) -> Tensor:
    """Log-likelihood, KL and what else the latent reports, summed over samples and images."""
    values = (terms.log_likelihood, terms.kl, *terms.parts.values())
    return torch.stack([value.sum() for value in values]).double()


@torch.no_grad()
def vanishing_share(gradients: Sequence[Tensor]) -> Tensor:
    """The share of the numbers in gradients that are at most 1e-10 in size, float64."""
    count = sum(gradient.numel() for gradient in gradients)
    vanishing = torch.stack([(gradient.abs() <= VANISHES).sum() for gradient in gradients]).sum()
    return vanishing.double() / count


def _means(prefix: str, names: Sequence[str], sums: Tensor | None, count: int) -> dict[str, float | None]:
    """Means for an image under their names in ``metrics.jsonl``, in nats but for counts and shares."""
    if sums is None:
        return {f"{prefix}_{name}": None for name in ("bound", *names)}
    means = (sums / count).tolist()
    named = {f"{prefix}_{name}": mean for name, mean in zip(names, means, strict=True)}
    return {f"{prefix}_bound": means[0] - means[1], **named}
