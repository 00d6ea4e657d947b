"""What TensorBoard shows of a run: its figures, and images from its model, over the steps."""

import itertools
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from igr.training.failures import TrainingFailure, writing
from igr.training.watchers import objective_of

_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\..*")
_VERSION = "brain.Event:2"
# Of those of this process.
_numbers = itertools.count()


class Board:
    """Writes an event file for TensorBoard; a context that closes it.

    Not by torch's ``SummaryWriter``: what that writes, and fails to write, it does in a thread of its own,
    and it names files by a clock that may be set back.

    Arguments:
        folder: Where the event files go, below the folder of the run; those of earlier processes stay.
        step: The step from which training goes on; TensorBoard drops what earlier processes
            wrote of later ones.

    Raises:
        TrainingFailure: The file cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # A tenth of a second that runs without a board do not pay.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._events = event_pb2
        self._run = folder.parent
        self._path = folder
        with writing(folder, self._run):
            folder.mkdir(exist_ok=True)
            name = f"events.out.tfevents.{_moment(folder):010d}.{socket.gethostname()}.{os.getpid()}"
            self._path = folder / f"{name}.{next(_numbers)}"
            self._file = self._path.open("xb")
        self._writer = RecordWriter(self._file)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(file_version=_VERSION)
        self._write(step=step + 1, session_log=start)
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with writing(self._path, self._run):
                self._file.close()
        except TrainingFailure:
            # What has failed before is what there is to say.
            if error is None:
                raise

    def figures(self, metrics: Mapping[str, Any], seconds: float) -> None:
        """Adds a line of ``metrics.jsonl`` and the time that its epoch took."""
        from torch.utils.tensorboard.summary import scalar

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
                summary = scalar(tag, value)  # type: ignore[no-untyped-call]
                self._write(step=metrics["step"], summary=summary)

    def pictures(self, images: Mapping[str, Tensor], step: int) -> None:
        """Adds images by name, each with shape :math:`(3, H, W)`, of the model after so many steps."""
        from torch.utils.tensorboard.summary import image

        for tag, shown in images.items():
            summary = image(tag, shown, dataformats="CHW")  # type: ignore[no-untyped-call]
            self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Hands what was added to the system."""
        with writing(self._path, self._run):
            self._file.flush()

    def _write(self, **what: Any) -> None:
        event = self._events.Event(wall_time=time.time(), **what)
        with writing(self._path, self._run):
            self._writer.write(event.SerializeToString())


def _moment(folder: Path) -> int:
    """The second that a new event file is named after.

    TensorBoard reads files in the order of their names, so it is later than that of all others, whatever
    the clock says.
    """
    found = [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return max([int(time.time()), *(second + 1 for second in found)])
