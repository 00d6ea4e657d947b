"""The folder of a trained model, written and read."""

import json
import os
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import igr
from igr import atomic
from igr.errors import UserError, cut, shown, unknown_name
from igr.evaluation import Evaluation, stored_evaluation
from igr.models.dlgmm import DLGMM
from igr.models.sop import SOP
from igr.models.vae import VAE
from igr.pretrained.card import card
from igr.pretrained.trained import Trained, TrainedDLGMM, TrainedSOP, TrainedVAE
from igr.training import checkpoints
from igr.training.build import build_model
from igr.training.checkpoints import TYPES, checksum
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.folders import unwritable
from igr.training.kinds import config_class
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder, read_json
from igr.training.runs import LoadedRun, check_size, parameter_tensors
from igr.training.sop_config import SOPConfig

CONFIG, TENSORS, PRIOR, CARD = "config.json", "model.safetensors", "prior.json", "README.md"
FORMAT = 1
# The keys of config.json; the file of a run has "config" where this one has "settings".
KEYS = ("format", "igr", "torch", "model", "step", "epoch", "settings")
# Of files that come from somewhere, more is no config and no prior.
_MOST_BYTES = {CONFIG: 2**20, PRIOR: 2**26}
# Settings of the machine that a model was trained on.
_LOCAL = {"data_dir": None, "device": "cpu"}

AnyTrained = TrainedVAE | TrainedSOP | TrainedDLGMM


def save_pretrained(source: str | Path | LoadedRun[Any, Any] | Trained[Any, Any], folder: str | Path) -> Path:
    """Writes the folder of a trained model, which :func:`from_pretrained` reads.

    It has ``config.json`` (the kind of the model, its settings, versions), ``model.safetensors`` (its
    parameters), ``prior.json`` where the model has a fitted prior, and ``README.md``, a card with the figures
    of the evaluation where the source is a run that has one. It is whole or not there; one that is there and
    empty is filled, and is no model before the last file, ``config.json``, is in it; what a process that was
    killed has left of one is replaced.

    Arguments:
        source: The folder of a run, of which the newest whole checkpoint is taken; a loaded run; or what
            :func:`from_pretrained` gave.
        folder: Where to; it must be empty or not exist.

    Returns:
        The folder.

    Raises:
        UserError: The source cannot be read, the folder is not empty, or it cannot be written.
    """
    path = Path(os.path.realpath(folder))
    check_free(path)
    evaluation: Evaluation | None = None
    if isinstance(source, str | Path):
        run = RunFolder(source)
        source = _of_run(run, "cpu")
        evaluation = _evaluation(run, source.step)
    elif isinstance(source, LoadedRun):
        evaluation = _evaluation(source.folder, source.step)
    config, model = source.config, source.model
    prior = _prior_of(config)
    record = {
        "format": FORMAT,
        "igr": igr.__version__,
        "torch": torch.__version__,
        "model": config.model,
        "step": source.step,
        "epoch": source.epoch,
        "settings": {**config.to_json(), **_LOCAL, **({} if prior is None else {"prior": PRIOR})},
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    checksums = {name: checksum(tensor) for name, tensor in tensors.items()}
    # One key, since safetensors writes several in any order.
    metadata = {"igr": json.dumps({"crc32": checksums})}
    text = card(config, source.epoch, evaluation)

    def fill(unfinished: Path) -> None:
        atomic.write(unfinished / TENSORS, lambda file: file.write_bytes(save(tensors, metadata)))
        if prior is not None:
            atomic.write_text(unfinished / PRIOR, prior)
        atomic.write_text(unfinished / CARD, text)
        atomic.write_json(unfinished / CONFIG, record)

    try:
        atomic.write_folder(path, fill, CONFIG)
    except OSError as error:
        raise unwritable(path, "model", error) from error
    return Path(folder)


def from_pretrained(folder: str | Path, device: str | torch.device = "cpu") -> AnyTrained:
    """Reads a trained model from a folder that :func:`save_pretrained` wrote, or from that of a run.

    Nothing in the folder is executed, no data set is needed, and the outputs of the model are those of the
    run, bit for bit. Of a run the newest whole checkpoint is read, with a warning where a newer one is
    broken.

    Arguments:
        folder: The folder.
        device: Where the model goes.

    Returns:
        The model in evaluation mode, with what is needed to use it.

    Raises:
        UserError: The folder holds no trained model, one that is broken, or one of another version.
    """
    path = Path(folder)
    _check_folder(path)
    _check_bytes(path / CONFIG)
    record = read_json(path / CONFIG)
    if "config" in record and "settings" not in record:
        return _of_run(RunFolder(path), device)
    config, step, epoch = _read_config(path, record, device)
    tensors = path / TENSORS
    # Before memory is asked for.
    _check_size(tensors, config)
    model = build_model(config, config.image_shape)
    model.load_state_dict(_read_tensors(tensors, model.state_dict()))
    return _trained(config, model, step, epoch)


def check_free(folder: Path) -> None:
    """Checks that the folder of a model can be written there.

    Raises:
        UserError: There is something else.
    """
    try:
        if folder.is_dir():
            # What a killed process left unfinished is removed, and a live one is told of.
            left = {*atomic.amid_moves(folder, CONFIG)}
            others = (
                entry for entry in folder.iterdir() if not (atomic.is_unfinished(entry) or entry in left)
            )
            taken = None if next(others, None) is None else "is not empty"
        else:
            taken = "is no folder" if folder.exists() else None
    except OSError as error:
        raise unwritable(folder, "model", error) from error
    if taken is not None:
        raise UserError(
            f"expected an empty or new folder for the model; got {folder}, which {taken}; choose another, or "
            "remove it"
        )


def _check_folder(path: Path) -> None:
    try:
        wrong, advice = _what_is_wrong(path)
    except OSError as error:
        wrong, advice = f"cannot be looked into ({error.strerror or error})", "check its permissions"
    if wrong:
        raise UserError(f"expected the folder of a trained model; got {path}, which {wrong}; {advice}")


def _what_is_wrong(path: Path) -> tuple[str, str]:
    """Why a path is not the folder of a model, and what to do; empty where it may be one."""
    another = "name a folder that igr export or igr train wrote"
    if not path.is_dir():
        return "is a file and no folder" if path.is_file() else "does not exist", another
    if (path / CONFIG).is_file():
        return "", ""
    if any(map(atomic.is_unfinished, path.iterdir())):
        again = "wait for it, or if it was killed run it again with the same --out"
        return "igr export has not finished", again
    return f"has no {CONFIG}", another


def _check_bytes(path: Path) -> None:
    most, size = _MOST_BYTES[path.name], path.stat().st_size
    if size > most:
        raise UserError(
            f"expected a file of at most {most:,} bytes at {path}; got one of {size:,}; restore the file"
        )


def _of_run(folder: RunFolder, device: str | torch.device) -> AnyTrained:
    config = replace(folder.config(), device=str(device)).resolved()
    while True:
        newest, damaged = checkpoints.newest_whole(folder.checkpoints, "the model is that of")
        if newest is None:
            raise UserError(
                f"expected a run with a checkpoint; got {folder.path}, which has none yet; "
                f"train it first with igr train --resume {shlex.quote(str(folder.path))}"
            )
        check_size(config, newest)
        model = build_model(config, config.image_shape)
        try:
            found = checkpoints.read(newest, parameter_tensors(model))
            break
        except FileNotFoundError:
            # Training went on, wrote later checkpoints and removed this one.
            continue
    for sentence in damaged:
        warnings.warn(sentence, stacklevel=3)
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in found.tensors.items()})
    return _trained(config, model, found.step, found.epoch)


def _trained(config: RunConfig, model: nn.Module, step: int, epoch: int) -> AnyTrained:
    model.eval()
    if isinstance(config, TrainConfig) and isinstance(model, VAE):
        return TrainedVAE(config, model, step, epoch)
    if isinstance(config, SOPConfig) and isinstance(model, SOP):
        return TrainedSOP(config, model, step, epoch)
    if isinstance(config, DLGMMConfig) and isinstance(model, DLGMM):
        return TrainedDLGMM(config, model, step, epoch)
    raise TypeError(f"expected the config of a known kind of model; got {type(config).__name__}")


def _evaluation(folder: RunFolder, step: int) -> Evaluation | None:
    """The evaluation on the test split, where it is of this checkpoint."""
    found = stored_evaluation(folder)
    return found if found is not None and found.step == step else None


def _prior_of(config: RunConfig) -> str | None:
    """The text of the file of a fitted prior."""
    if not isinstance(config, TrainConfig) or config.prior is None:
        return None
    try:
        return Path(config.prior).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"expected the prior of the model at {config.prior}; got an error ({cut(error)}); restore the "
            "file"
        ) from error


def _read_config(
    path: Path, record: Mapping[str, Any], device: str | torch.device
) -> tuple[RunConfig, int, int]:
    file = path / CONFIG
    for key in record:
        if key not in KEYS:
            raise unknown_name(f"each key of {file}", key, KEYS)
    if record.get("format") != FORMAT:
        raise UserError(
            f"expected a trained model of format {FORMAT} at {path}; got format "
            f"{shown(record.get('format'))}; use the version of igr that wrote it, or name another folder"
        )
    settings, model = record.get("settings"), record.get("model")
    counts = [record.get(name) for name in ("step", "epoch")]
    if not isinstance(settings, dict) or not all(type(count) is int and count >= 0 for count in counts):
        raise UserError(
            f"expected a kind of model, its settings, and the step and epoch of training in {file}; got "
            f"{shown({key: record.get(key) for key in ('step', 'epoch', 'settings')})}; restore the file"
        )
    kind = config_class(model)
    # Nothing of the machine where it was made, and no file but its own.
    own = {key: value for key, value in settings.items() if key not in _LOCAL}
    config = replace(kind.from_json(own), device=str(device))
    if isinstance(config, TrainConfig) and config.prior is not None:
        if not (path / PRIOR).is_file():
            raise UserError(
                f"expected {PRIOR} in {path}, whose {CONFIG} says that the model has a fitted prior; got no "
                "such file; restore the folder"
            )
        _check_bytes(path / PRIOR)
        config = replace(config, prior=str(path / PRIOR))
    return config.resolved(), counts[0], counts[1]  # type: ignore[return-value]


def _check_size(path: Path, config: RunConfig) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(
            f"expected the parameters of the model at {path}; got an error ({error.strerror or error}); "
            "restore the folder"
        ) from error
    least = 4 * config.least_parameters
    if size < least:
        raise UserError(
            f"expected parameters of the model that {CONFIG} describes, of {shown(least)} bytes or more, at "
            f"{path}; got {size:,} bytes; restore the folder"
        )


def _read_tensors(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, which have to be those of the model and what was written."""
    try:
        # safetensors takes whatever it cannot open for a file that is not there.
        path.open("rb").close()
        with safe_open(path, framework="pt") as file:
            checksums = _checksums(path, file.metadata() or {})
            _check_names(path, set(file.keys()), set(like))
            for name, tensor in like.items():
                _check_layout(path, name, file.get_slice(name), tensor)
            found = {}
            for name, tensor in like.items():
                read = file.get_tensor(name)
                if checksums is not None and checksums.get(name) != checksum(read):
                    raise _broken(path, f"the numbers of {name} are not those that were written")
                found[name] = read.to(tensor.device)
            return found
    except (OSError, SafetensorError) as error:
        raise _broken(path, getattr(error, "strerror", None) or cut(error)) from error


def _checksums(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Those in the header, which a file that others wrote does not have."""
    if "igr" not in metadata:
        return None
    try:
        found = json.loads(metadata["igr"])["crc32"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _broken(path, "its header has no checksums") from error
    if not isinstance(found, dict):
        raise _broken(path, f"its header states the checksums {shown(found)}")
    return found


def _check_names(path: Path, found: set[str], expected: set[str]) -> None:
    missing, foreign = sorted(expected - found), sorted(found - expected)
    if missing or foreign:
        got = f"no {missing[0]}" if missing else f"a {cut(foreign[0], 80)} that the model does not have"
        raise UserError(
            f"expected the tensors of the model that {CONFIG} describes in {path}; got {got}; "
            "use both files of one folder"
        )


def _check_layout(path: Path, name: str, found: Any, expected: Tensor) -> None:
    got = tuple(found.get_shape()), found.get_dtype()
    wanted = tuple(expected.shape), TYPES[expected.dtype]
    if got != wanted:
        raise UserError(
            f"expected {name} with shape {wanted[0]} and type {wanted[1]} in {path}; got shape "
            f"{shown(got[0])} and type {got[1]}; use both files of one folder"
        )


def _broken(path: Path, what: str) -> UserError:
    return UserError(
        f"expected the parameters of a model at {path}; got a broken file ({what}); restore it, or write the "
        "folder anew with igr export"
    )
