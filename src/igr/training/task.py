"""What the training loop asks of a kind of model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Generator, Tensor, nn

from igr import reprs
from igr.data import PreparedImages
from igr.errors import UserError
from igr.training.build import available_device
from igr.training.processes import Processes
from igr.training.randomness import keyed_generator
from igr.training.run_config import RunConfig


class StepTerms(NamedTuple):
    """What one pass over a batch gives.

    Arguments:
        loss: What is minimized, with shape :math:`()`.
        sums: The figures, each summed over the terms that the images have, float64 with shape :math:`(F,)`.
    """

    loss: Tensor
    sums: Tensor

    def __repr__(self) -> str:
        return reprs.of_fields(self)


class Task(ABC):
    """A model, and how a batch of images becomes a loss and figures.

    Everything that a pass depends on beside the weights is its arguments, so that a run that goes on from a
    checkpoint gives the same numbers as one that was never interrupted.

    Arguments:
        config: A resolved config.
        model: The model, on its device.
        steps_per_epoch: Steps that make an epoch.
    """

    names: ClassVar[Mapping[str, str]] = {}
    """What figures are called in sentences, by their names in ``metrics.jsonl``."""

    model: nn.Module

    def __init__(self, config: RunConfig, model: nn.Module, steps_per_epoch: int) -> None:
        self.config = config
        self.model = model
        self.device = available_device(config.device)
        self.steps_per_epoch = steps_per_epoch

    # What a kind of model states.

    @property
    @abstractmethod
    def train_figures(self) -> tuple[str, ...]:
        """The names of the figures of a step."""

    @property
    @abstractmethod
    def validation_figures(self) -> tuple[str, ...]:
        """The names of the figures of validation."""

    @property
    @abstractmethod
    def terms_per_image(self) -> int:
        """How many terms of the sums an image has."""

    @abstractmethod
    def draw_noise(self, num_images: int, generator: Generator) -> Tensor:
        """The noise that training needs for so many images, images being the second dimension."""

    @abstractmethod
    def terms(self, x: Tensor, noise: Tensor, **scheduled: Tensor) -> StepTerms:
        """The loss and the figures of training images.

        A function of its arguments and of the model's tensors alone, of which it changes at most buffers,
        so that it can be flattened, captured and mapped.

        Arguments:
            x: The images of a step.
            noise: As :meth:`noise` gives it for them.
            scheduled: As :meth:`scheduled` gives it, as tensors with shape :math:`()`; also ``temperature``,
                where replicas differ in it.
        """

    @abstractmethod
    def validation_sums(self, x: Tensor, block: int) -> Tensor:
        """The figures of a block of validation images, float64 with shape :math:`(F,)`; no gradient."""

    @abstractmethod
    def pictures(self, images: PreparedImages) -> dict[str, Tensor]:
        """What TensorBoard shows of the model as it is, by name, each with shape :math:`(3, H, W)`."""

    # What all have in common.

    def noise(self, step: int, num_images: int) -> Tensor:
        """The noise of the training images of a step, images being the second dimension."""
        # Drawn for a whole batch also where the last one is smaller, so that the noise of an image
        # depends on its place and not on how many follow it.
        generator = keyed_generator(self.config.seed, "noise", step, self.device)
        noise = self.draw_noise(self.config.batch_size, generator)
        return noise if num_images == self.config.batch_size else noise[:, :num_images]

    @property
    def changing(self) -> Sequence[Tensor]:
        """The buffers of the model that passes change, to what is linear in a mean over the batch."""
        return ()

    def join(self, processes: Processes) -> bool:
        """Has the loss of a part of a batch be what that part adds to the loss of the whole batch.

        Arguments:
            processes: Several, each of which has a part.

        Returns:
            Whether passes ask the other processes.

        Raises:
            UserError: The loss of a batch cannot be had from its parts.
        """
        if getattr(self.config, "stick_threshold", None) is not None:
            raise UserError(
                f"expected one process for {self.config.latent}, whose number of sticks follows from all "
                f"images of a batch; got {processes.count}; start it without torchrun"
            )
        return False

    def settings(self, scheduled: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """What the model takes beside images and noise, with what is scheduled."""
        return {"temperature": self.config.posterior_temperature, **scheduled}

    # What may be otherwise.

    def scheduled(self, step: int) -> dict[str, float]:
        """What else changes from step to step, by the name under which :meth:`terms` takes it."""
        return {}

    @property
    def heading(self) -> dict[str, Any]:
        """What each line of ``metrics.jsonl`` says beside epoch, step and figures."""
        return {}

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.config.learning_rate

    def means(self, prefix: str, names: Sequence[str], means: Sequence[float | None]) -> dict[str, Any]:
        """Means for an image under their names in ``metrics.jsonl``, in nats but for counts and shares."""
        return {f"{prefix}_{name}": mean for name, mean in zip(names, means, strict=True)}

    def learned(self) -> dict[str, float]:
        """Single numbers that are learned beside the model, by their names in ``metrics.jsonl``."""
        return {}
