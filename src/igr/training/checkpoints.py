"""Checkpoints: one safetensors file for each, with everything that training needs to go on."""

import json
import re
import shlex
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from igr import atomic
from igr.errors import UserError, cut, shown
from igr.training.failures import writing

FORMAT = 1
KEPT = 2
_NAME = re.compile(r"step-(\d{8,})\.safetensors")


class BrokenCheckpoint(UserError):
    """A file is no whole checkpoint: it was damaged after it was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: where training stood, and tensors by name."""

    path: Path
    step: int
    epoch: int
    tensors: dict[str, Tensor]


def write(folder: Path, step: int, epoch: int, tensors: Mapping[str, Tensor]) -> Path:
    """Writes a checkpoint and removes all but the latest two.

    Arguments:
        folder: Where checkpoints of the run are.
        step: Steps done.
        epoch: Epochs finished.
        tensors: The state, by name; a prefix up to the first dot says what each belongs to.

    Raises:
        TrainingFailure: The file cannot be written; earlier checkpoints are intact.
    """
    path = path_of(folder, step)
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Damage that leaves the header as it is would be read as other numbers.
    checksums = {name: checksum(tensor) for name, tensor in contents.items()}
    record = {"format": FORMAT, "step": step, "epoch": epoch, "crc32": checksums}
    metadata = {"igr": json.dumps(record)}
    with writing(path, folder.parent):
        folder.mkdir(exist_ok=True)
        atomic.write(path, lambda unfinished: unfinished.write_bytes(save(contents, metadata)))
    for old in every(folder)[:-KEPT]:
        old.unlink()
    return path


def every(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    steps = {path: step_of(path) for path in folder.glob("step-*") if _NAME.fullmatch(path.name)}
    return sorted(steps, key=lambda path: steps[path])


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is written."""
    return folder / f"step-{step:08d}.safetensors"


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


def read(path: Path, like: Mapping[str, Tensor]) -> Checkpoint:
    """Reads the tensors that ``like`` names.

    Nothing in a file is executed, and nothing is read before names, shapes and types agree.

    Arguments:
        path: The checkpoint.
        like: Tensors with the names, shapes, types and devices that are expected. Others may be in
            the file, unless they have a prefix (up to the first dot) that is in ``like``.

    Raises:
        BrokenCheckpoint: The file is no whole checkpoint.
        UserError: It is one of another model, or of another version.
        FileNotFoundError: There is no such file.
    """
    with _opened(path) as file:
        # What is of another model or version is no damage, and is said first.
        _progress(path, file.metadata() or {})
        _check_names(path, set(file.keys()), set(like))
        for name, tensor in like.items():
            _check_layout(path, name, file.get_slice(name), tensor)
        step, epoch, tensors = _verify(path, file, like)
        placed = {name: tensor.to(like[name].device) for name, tensor in tensors.items()}
        return Checkpoint(path, step, epoch, placed)


def newest_whole(folder: Path, use: str = "training goes on from") -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from.

    Arguments:
        folder: Where checkpoints of the run are.
        use: What is done with the one that is found, for the sentences.

    Returns:
        The newest that is whole, or ``None`` where there is none at all, and a sentence on each newer one.

    Raises:
        BrokenCheckpoint: There are some, and none is whole.
        UserError: One is of another version.
    """
    broken: list[BrokenCheckpoint] = []
    for path in reversed(every(folder)):
        try:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    # One at a time: a file may be larger than the memory.
                    _verify(path, file, [name])
        except BrokenCheckpoint as error:
            # With its traceback it would hold what was read.
            broken.append(error.with_traceback(None))
            continue
        except FileNotFoundError:
            # Training goes on meanwhile, and has removed it.
            continue
        found = f"{use} {path.name}"
        return path, [f"{str(error).rpartition('; ')[0]}; {found}, which is whole" for error in broken]
    if broken:
        raise broken[0]
    return None, []


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A checkpoint to be read, whose errors are those of :func:`read`."""
    try:
        # safetensors takes whatever it cannot open for a file that is not there.
        path.open("rb").close()
    except (FileNotFoundError, IsADirectoryError) as error:
        # A file that is gone is not broken; a link that leads nowhere is.
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        raise _broken(path, error.strerror or cut(error)) from error
    except OSError as error:
        # It may be whole, so nothing is to be made in its place.
        raise UserError(
            f"expected a checkpoint that can be read at {path}; got an error ({error.strerror or error}); "
            "check its permissions and the disk"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        if isinstance(error, FileNotFoundError) and not path.exists():
            raise
        raise _broken(path, cut(error)) from error


def _verify(path: Path, file: Any, names: Iterable[str]) -> tuple[int, int, dict[str, Tensor]]:
    """Step, epoch and these tensors of a file, which are what was written."""
    step, epoch, checksums = _progress(path, file.metadata() or {})
    if checksums is not None and checksums.keys() != set(file.keys()):
        raise _broken(path, "its header names other tensors than were written")
    tensors = {}
    for name in names:
        if (kind := file.get_slice(name).get_dtype()) not in TYPES.values():
            raise _broken(path, f"{name} has the type {kind}, which is never written")
        tensors[name] = file.get_tensor(name)
        if checksums is not None and checksum(tensors[name]) != checksums[name]:
            raise _broken(path, f"the numbers of {name} are not those that were written")
    return step, epoch, tensors


def checksum(tensor: Tensor) -> int:
    """That of the numbers of a contiguous tensor on the CPU."""
    return zlib.crc32(tensor.numpy().reshape(-1).view("uint8").data)


def _progress(path: Path, metadata: Mapping[str, str]) -> tuple[int, int, dict[str, Any] | None]:
    """The step, the epoch and the checksums, which older versions did not write, in the header of a file."""
    try:
        record = json.loads(metadata["igr"])
        found, step, epoch = (record[key] for key in ("format", "step", "epoch"))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _broken(path, "its header states no step") from error
    if found != FORMAT:
        raise UserError(
            f"expected a checkpoint of format {FORMAT} at {path}; got format {shown(found)}; "
            "use the version of igr that wrote it"
        )
    if type(step) is not int or step != step_of(path) or type(epoch) is not int:
        raise _broken(path, f"its header states step {shown(step)} and epoch {shown(epoch)}")
    checksums = record.get("crc32")
    if not isinstance(checksums, dict | None):
        raise _broken(path, f"its header states the checksums {shown(checksums)}")
    return step, epoch, checksums


def _check_names(path: Path, found: set[str], expected: set[str]) -> None:
    prefixes = {name.partition(".")[0] for name in expected}
    relevant = {name for name in found if name.partition(".")[0] in prefixes}
    if relevant != expected:
        missing, foreign = sorted(expected - relevant), sorted(relevant - expected)
        got = f"no {missing[0]}" if missing else f"a {cut(foreign[0], 80)} that the model does not have"
        raise UserError(
            f"expected the tensors of this run's model in {path}; got {got}; "
            "use the checkpoint with the config it was trained with"
        )


# The types that are ever written, by their names in a header.
TYPES = {torch.float32: "F32", torch.float64: "F64"}


def _check_layout(path: Path, name: str, found, expected: Tensor) -> None:  # type: ignore[no-untyped-def]
    got_shape, got_type = tuple(found.get_shape()), found.get_dtype()
    if (got_shape, got_type) != (tuple(expected.shape), TYPES[expected.dtype]):
        raise UserError(
            f"expected {name} with shape {tuple(expected.shape)} and type "
            f"{TYPES[expected.dtype]} in {path}; got shape {shown(got_shape)} and type {got_type}; "
            "use the checkpoint with the config it was trained with"
        )


def _broken(path: Path, what: str) -> BrokenCheckpoint:
    older = [other for other in every(path.parent) if step_of(other) < step_of(path)]
    run = shlex.quote(str(path.parent.parent))
    advice = (
        f"igr train --resume {run} goes on from {older[-1].name}"
        if older
        else f"there is no older one: remove it, and igr train --resume {run} trains from the start"
    )
    return BrokenCheckpoint(f"expected a whole checkpoint at {path}; got a broken file ({what}); {advice}")
