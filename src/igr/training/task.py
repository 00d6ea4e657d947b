"""What the training loop asks of a kind of model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from igr.data import PreparedImages
from igr.training.run_config import RunConfig


class StepTerms(NamedTuple):
    """What one pass over a batch gives.

    Arguments:
        loss: What is minimized, with shape :math:`()`.
        sums: The figures, each summed over the terms that the images have, float64 with shape :math:`(F,)`.
    """

    loss: Tensor
    sums: Tensor


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
    def terms(self, x: Tensor, step: int) -> StepTerms:
        """The loss and the figures of the training images of a step."""

    @abstractmethod
    def validation_sums(self, x: Tensor, block: int) -> Tensor:
        """The figures of a block of validation images, float64 with shape :math:`(F,)`; no gradient."""

    @abstractmethod
    def pictures(self, images: PreparedImages) -> dict[str, Tensor]:
        """What TensorBoard shows of the model as it is, by name, each with shape :math:`(3, H, W)`."""

    # What may be otherwise.

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
