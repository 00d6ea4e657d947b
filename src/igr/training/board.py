"""What TensorBoard shows of a run: its figures, and images from its model, over the steps."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from igr.training.watchers import objective_of


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
        names = {"bound": objective_of(metrics), "log_likelihood": "log-likelihood", "kl": "KL"}
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

    def pictures(self, images: Mapping[str, Tensor], step: int) -> None:
        """Adds images by name, each with shape :math:`(3, H, W)`, of the model after so many steps."""
        for tag, image in images.items():
            self._writer.add_image(tag, image, step)

    def flush(self) -> None:
        """Hands what was added to the system."""
        self._writer.flush()
