"""A run is a folder: its config, metrics, checkpoints, figures and result."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock

import igr
from igr import atomic
from igr.data.cache import exists
from igr.errors import UserError, shown
from igr.training import checkpoints
from igr.training.checkpoints import BrokenCheckpoint
from igr.training.config import TrainConfig
from igr.training.failures import TrainingFailure, writing
from igr.training.folders import LOCK, held, unwritable
from igr.training.kinds import DEFAULT, config_class
from igr.training.run_config import RunConfig

FORMAT = 1
# The keys of config.json.
RECORD_KEYS = frozenset({"format", "igr", "torch", "model", "config"})
_RESULT_LOCK = ".result.lock"
# What lies in a folder beside the run itself.
_LOCKS = (LOCK, _RESULT_LOCK)


class RunFolder:
    """The folder of a run.

    - ``config.json``: the resolved config, and the versions it was started with.
    - ``prior.json``: a copy of the file of its prior, if it has one.
    - ``metrics.jsonl``: one line for each epoch, with figures that the config determines.
    - ``timings.jsonl``: one line for each epoch, with the seconds it took.
    - ``checkpoints/``: the latest two, as safetensors.
    - ``figures/``: pictures.
    - ``tensorboard/``: event files.
    - ``result.json``: what training, and later evaluation, found.

    Arguments:
        path: The folder; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self.tensorboard = self.path / "tensorboard"
        self._config = self.path / "config.json"
        self._metrics = self.path / "metrics.jsonl"
        self._timings = self.path / "timings.jsonl"
        self._result = self.path / "result.json"
        self._prior = self.path / "prior.json"
        # Which folder it is that this process holds, whatever becomes of its name.
        self._held: tuple[int, int] | None = None

    def config(self) -> RunConfig:
        """The resolved config of the run.

        Raises:
            UserError: The folder does not exist or holds no run, or one of another version.
        """
        if self.path.is_file():
            raise UserError(
                f"expected the folder of a run; got {self.path}, which is a file and no folder; "
                "name the folder that it is in"
            )
        if not self.path.is_dir():
            raise UserError(
                f"expected the folder of a run; got {self.path}, which does not exist; check the path"
            )
        if not self._config.is_file():
            raise UserError(
                f"expected the folder of a run; got {self.path}, which has no config.json; "
                "name a folder that igr train wrote"
            )
        record = self._record()
        if record.get("format") != FORMAT:
            raise UserError(
                f"expected a config of format {FORMAT} at {self._config}; got format "
                f"{shown(record.get('format'))}; use the version of igr that wrote it"
            )
        if is_exported(record):
            raise UserError(
                f"expected the folder of a run; got {self.path}, which has a trained model alone, as igr "
                "export writes it; name the run, or read the model with igr.pretrained.from_pretrained"
            )
        if not isinstance(record.get("config"), dict):
            raise UserError(
                f"expected settings by name as the config in {self._config}; got "
                f"{shown(record.get('config'))}; restore the file"
            )
        config = config_class(record.get("model", DEFAULT)).from_json(record["config"]).resolved()
        if isinstance(config, TrainConfig) and config.prior is not None:
            # The file that the run was started with may have changed or gone.
            return replace(config, prior=str(self._prior.absolute()))
        return config

    @property
    def is_begun(self) -> bool:
        """Whether the folder, which need not exist, is that of a run."""
        return self._config.is_file()

    def version_warnings(self) -> list[str]:
        """Sentences about versions, other than those the run was started with, that go on with it."""
        record, now = self._record(), _versions()
        differing = [name for name in now if record.get(name) != now[name]]
        if not differing:
            return []
        before, after = (
            " and ".join(f"{name} {versions.get(name)}" for name in differing) for versions in (record, now)
        )
        return [
            f"{self.path} was started with {before} and goes on with {after}, so its figures may "
            "differ from those of an unbroken run"
        ]

    def _record(self) -> dict[str, Any]:
        return read_json(self._config)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, one for each finished epoch, oldest first.

        Each has ``epoch``, ``step`` and figures in nats per image, with the prefixes ``train_`` (the mean
        over the epoch) and ``validation_`` (after it; ``None`` where it was not measured).

        Of a VAE these are ``bound``, ``log_likelihood``, ``kl`` and the parts that the latent reports; beside
        them ``kl`` alone says which KL they use, and with the prefix ``estimator_`` stands what the gradient
        estimator has learned. What is named ``bound`` is the log-likelihood less the KL: for ``kl``
        ``"relaxed"`` a lower bound on log p(x), for ``"discrete"`` the objective of training and no bound.

        Of structured output prediction there are ``bound``, by as many samples as in training, of the model
        that is trained, and in validation ``discrete_bound``, the same of hard units.
        """
        return _read_lines(self._metrics)

    def timings(self) -> list[dict[str, Any]]:
        """The lines of ``timings.jsonl``: ``epoch``, ``step`` and ``seconds``."""
        return _read_lines(self._timings)

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        found = checkpoints.every(self.checkpoints)
        return found[-1] if found else None

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, if there is one."""
        latest = self.latest_checkpoint()
        return None if latest is None else checkpoints.step_of(latest)

    def result(self) -> dict[str, Any]:
        """What ``result.json`` holds; empty before training has finished.

        Raises:
            UserError: The file is no JSON object, or the folder cannot be looked at.
        """
        return read_json(self._result) if exists(self._result) else {}

    @property
    def is_finished(self) -> bool:
        """Whether training has reached its end, and its last checkpoint, if any was kept, is whole.

        Raises:
            UserError: The file of results does not say what it should, or cannot be read.
        """
        training = self.result().get("training")
        latest = self.latest_checkpoint()
        if training is not None and not (
            isinstance(training, dict) and all(type(training.get(key)) is int for key in ("step", "epoch"))
        ):
            raise UserError(
                f"expected what training found, with its step and epoch, in {self._result}; got "
                f"{shown(training)}; restore the file, or remove it to have the end of training made again"
            )
        if training is None or latest is None:
            return training is not None
        with suppress(BrokenCheckpoint):
            return checkpoints.newest_whole(self.checkpoints) == (latest, []) and (
                checkpoints.step_of(latest) >= training["step"]
            )
        return False

    def update_result(self, entries: Mapping[str, Any]) -> None:
        """Sets some keys of ``result.json`` and leaves the others as they are, atomically.

        Training and evaluations may do so at once: each waits for the other, for a moment.

        Raises:
            OSError: The file cannot be written; it is then as it was.
        """
        with FileLock(self.path / _RESULT_LOCK):
            # Of processes that were killed: nobody else writes it now.
            atomic.remove_unfinished(self.path, self._result.name)
            atomic.write_json(self._result, {**self.result(), **entries})

    @contextmanager
    def locked(self) -> Iterator[Self]:
        """Holds the folder, made if need be, against every other process.

        Raises:
            UserError: Another process holds it, or it cannot be written.
        """
        with held(self.path, "run"):
            self._held = _identity(self.path)
            try:
                yield self
            finally:
                self._held = None

    def check_in_place(self) -> None:
        """Checks that the folder, if it is held, is still the one that was taken.

        Raises:
            TrainingFailure: It was moved or removed, and what was written now would be lost, or go into a
                folder that is another's.
        """
        try:
            is_other = self._held is not None and _identity(self.path) != self._held
        except OSError:
            # What is written will tell.
            return
        if is_other:
            raise TrainingFailure(
                f"expected the folder of the run to stay in its place; got {self.path}, which was moved, "
                "removed or replaced meanwhile; move it back, if you have it, and go on with igr train "
                f"--resume {shlex.quote(str(self.path))}"
            )

    def check_writable(self) -> None:
        """Checks, before any work, that what is there of the run can be written.

        Raises:
            UserError: A folder or a file cannot.
        """
        for path in (
            self.path,
            self.checkpoints,
            self.tensorboard,
            self.figures,
            self._metrics,
            self._timings,
        ):
            if path.exists() and not os.access(path, os.W_OK):
                raise UserError(
                    f"expected a run that can be written; got {path}, which is read-only; make it writable, "
                    "or copy the run to where it can be written"
                )

    def check_free(self) -> None:
        """Checks that a new run may have the folder.

        Raises:
            UserError: The folder is not empty.
        """
        entries = list(self.path.iterdir()) if self.path.is_dir() else []
        # A process that was killed at its very start leaves a lock, an unfinished config, and perhaps the
        # copy of a prior. Without the lock a file of that name is the user's.
        locked = any(entry.name == LOCK for entry in entries)
        left = (*_LOCKS, self._prior.name) if locked else _LOCKS
        if any(entry.name not in left and not atomic.is_unfinished(entry) for entry in entries):
            raise UserError(
                f"expected an empty folder for a new run; got {self.path}, which is not empty; go "
                f"on with igr train --resume {shlex.quote(str(self.path))}, or choose another folder "
                "with --out"
            )

    def begin(self, config: RunConfig) -> None:
        """Writes the config of a new run into the folder, which must be locked.

        Raises:
            UserError: The folder is not empty, or cannot be written.
        """
        self.check_free()
        atomic.remove_unfinished(self.path)
        record = {"format": FORMAT, **_versions(), "model": config.model, "config": config.to_json()}
        try:
            if isinstance(config, TrainConfig) and config.prior is not None:
                atomic.write_text(self._prior, Path(config.prior).read_text(encoding="utf-8"))
            # Last, since it makes the folder that of a run.
            atomic.write_json(self._config, record)
        except OSError as error:
            raise unwritable(self.path, "run", error) from error

    def rewind(self, step: int) -> None:
        """Makes the folder as it was at that step: later lines and checkpoints and unfinished files go.

        Raises:
            UserError: A file of lines is broken.
            TrainingFailure: It cannot be written; it is then as it was.
        """
        files = [path for path in (self._metrics, self._timings) if path.exists()]
        # Before anything goes, since one that is broken has to be restored first.
        kept = [[line for line in _read_lines(path) if line["step"] <= step] for path in files]
        for folder in (self.path, self.checkpoints):
            atomic.remove_unfinished(folder)
        for path in checkpoints.every(self.checkpoints):
            if checkpoints.step_of(path) > step:
                path.unlink()
        for path, lines in zip(files, kept, strict=True):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            if text.encode() != path.read_bytes():
                with writing(path, self.path):
                    atomic.write_text(path, text)

    def append(self, metrics: Mapping[str, Any], seconds: float) -> None:
        """Adds the lines of a finished epoch.

        Arguments:
            metrics: Its figures by name, ``epoch`` and ``step`` among them.
            seconds: The time that it took, which stands in a file of its own.

        Raises:
            TrainingFailure: They cannot be written, whole or in part.
        """
        self.check_in_place()
        timing = {"epoch": metrics["epoch"], "step": metrics["step"], "seconds": seconds}
        for path, line in ((self._metrics, metrics), (self._timings, timing)):
            with writing(path, self.path):
                _append_line(path, line)

    def finish(self, entries: Mapping[str, Any]) -> None:
        """:meth:`update_result` at the end of training.

        Raises:
            TrainingFailure: The file cannot be written; it is then as it was.
        """
        self.check_in_place()
        with writing(self._result, self.path):
            self.update_result(entries)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"expected a JSON file at {path}; got {error}; name a file that holds a JSON object"
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"expected a JSON object in {path}; got {type(value).__name__}; write settings by name, in braces"
        )
    return value


def is_exported(record: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a trained model alone, as ``igr export`` writes it."""
    return "settings" in record and "config" not in record


def _versions() -> dict[str, str]:
    return {"igr": igr.__version__, "torch": torch.__version__}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        # A process that was killed while it appended leaves a last line without an end.
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"expected one JSON object on each line of {path}; got {error}; restore the file"
        ) from error
    for line in lines:
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            raise UserError(
                f"expected an object with a step on each line of {path}; got {shown(line)}; restore the file"
            )
    return lines


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder has a name; ``None`` for none."""
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _append_line(path: Path, value: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())
