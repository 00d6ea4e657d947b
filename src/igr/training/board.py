"""What TensorBoard shows of a run: its figures, and images from its model, over the steps."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from igr.data import PreparedImages
from igr.models.pictures import (
    NUM_RECONSTRUCTIONS,
    PRIOR_COLUMNS,
    PRIOR_ROWS,
    hard_reconstructions,
    prior_samples,
    sheet,
)
from igr.models.vae import VAE
from igr.training.randomness import keyed_generator
from igr.training.watchers import OBJECTIVES


class Board:
    """Writes event files for TensorBoard; a context that closes them.

    Arguments:
        folder: Where the event files go; those of earlier processes stay.
        step: The step from which training goes on; TensorBoard drops what earlier processes
            wrote of later ones.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # A tenth of a second that runs without a board do not pay.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder, purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def figures(self, metrics: Mapping[str, Any], seconds: float) -> None:
        """Adds a line of ``metrics.jsonl`` and the time that its epoch took."""
        names = {"bound": OBJECTIVES[metrics["kl"]], "log_likelihood": "log-likelihood", "kl": "KL"}
        scalars = {}
        for key, value in metrics.items():
            part, _, figure = key.partition("_")
            if part == "estimator":
                scalars[f"estimator/{figure}"] = value
            elif part in ("train", "validation"):
                scalars[f"{names.get(figure, figure.replace('_', ' '))}/{part}"] = value
        scalars["seconds per epoch"] = seconds
        for tag, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(tag, value, metrics["step"])

    def pictures(self, model: VAE, images: PreparedImages, temperature: float, step: int) -> None:
        """Adds reconstructions of images from one-hot latents, below the images, and prior samples.

        Arguments:
            model: The model as it is now.
            images: Those of which the first are shown.
            temperature: The temperature of the posterior.
            step: Where training stands.
        """
        originals = images[:NUM_RECONSTRUCTIONS]
        decoded = hard_reconstructions(model, originals, temperature)
        self._writer.add_image("reconstructions", sheet([originals.cpu(), decoded]), step)
        device = next(model.parameters()).device
        generator = keyed_generator(0, "board/prior samples", 0, device=device)
        drawn = prior_samples(model, PRIOR_ROWS * PRIOR_COLUMNS, generator)
        self._writer.add_image("prior samples", sheet(torch.split(drawn, PRIOR_COLUMNS)), step)

    def flush(self) -> None:
        """Hands what was added to the system."""
        self._writer.flush()
