"""What is measured of an epoch: figures summed over its steps, and those of validation after it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from igr.training.images import Images
from igr.training.passes import VANISHING
from igr.training.processes import Processes
from igr.training.task import Task

# Images for which validation is computed at once. It is part of what the noise is keyed by.
VALIDATION_BATCH = 500


class Metrics:
    """The figures of the epoch that is under way, until they are a line of ``metrics.jsonl``.

    Arguments:
        task: What is trained.
        images: On what.
    """

    def __init__(self, task: Task, images: Images) -> None:
        self._task = task
        self._images = images
        self._names = (*task.train_figures, *([VANISHING] if task.config.track_gradients else []))
        # These, summed over the samples and images of the epoch so far.
        self.sums = torch.zeros(len(self._names), dtype=torch.float64, device=task.device)
        # The same of single steps, by their number, that were not looked at yet.
        self._recent: dict[int, Tensor] = {}

    def add(self, step: int, sums: Tensor) -> None:
        """Takes the figures of a step, to be looked at later."""
        self._recent[step] = sums

    def settle(self) -> tuple[int, dict[str, float]] | None:
        """Adds the recent steps to the sums of the epoch, up to one that is not finite.

        Returns:
            The number of that step and its figures by name; ``None`` where all are finite.
        """
        recent, self._recent = self._recent, {}
        if not recent:
            return None
        found = list(recent.values())
        # A device is waited for once.
        figures = [found[0].tolist()] if len(found) == 1 else torch.stack(found).tolist()
        for (step, sums), values in zip(recent.items(), figures, strict=True):
            if not all(map(math.isfinite, values)):
                return step, dict(zip(self._names, values, strict=True))
            self.sums += sums
        return None

    def line(self, epoch: int, step: int, processes: Processes) -> dict[str, Any]:
        """Validates if it is time to, and tells of the epoch as a line for ``metrics.jsonl`` does.

        Arguments:
            epoch: How many epochs have ended, with this one, of which all steps are settled.
            step: How many steps were taken.
            processes: Those that have a part of the validation images.

        Raises:
            Lost: Another process does not take part.
        """
        config = self._task.config
        due = epoch % config.eval_every == 0 or epoch == config.epochs
        return {
            "epoch": epoch,
            "step": step,
            **self._task.heading,
            **self._means("train", self._names, self.sums, len(self._images.train)),
            **self._means(
                "validation",
                self._task.validation_figures,
                self._validate(processes) if due else None,
                len(self._images.validation),
            ),
            **self._task.learned(),
        }

    @torch.no_grad()
    def _validate(self, processes: Processes) -> Tensor:
        """The sums over the validation images, with the same noise at every epoch."""
        images = self._images.validation
        starts = range(0, len(images), VALIDATION_BATCH)
        shape = (len(starts), len(self._task.validation_figures))
        sums = torch.zeros(shape, dtype=torch.float64, device=self._task.device)
        # Some models do there what they do not in training.
        self._task.model.eval()
        for block in range(processes.rank, len(starts), processes.count):
            first = starts[block]
            x = images[first : first + VALIDATION_BATCH].to(self._task.device)
            sums[block] = self._task.validation_sums(x, block)
        self._task.model.train()
        processes.add(sums)
        # One after the other, as if there had been one process.
        return sum(sums, start=torch.zeros_like(sums[0]))

    def _means(
        self, prefix: str, names: Sequence[str], sums: Tensor | None, num_images: int
    ) -> dict[str, Any]:
        """Figures of an image under their names in ``metrics.jsonl``; not measured, they are ``None``."""
        if sums is None:
            means: list[float | None] = [None] * len(names)
        else:
            means = (sums / (num_images * self._task.terms_per_image)).tolist()
        return self._task.means(prefix, names, means)
