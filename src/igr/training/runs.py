"""Reading a run: its data, and its model as of its latest checkpoint."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from igr import data
from igr.data import Dataset, PreparedImages
from igr.errors import UserError, shown
from igr.models.dlgmm import DLGMM
from igr.models.networks import resized
from igr.models.sop import SOP
from igr.models.vae import VAE
from igr.training import checkpoints
from igr.training.build import build_model
from igr.training.checkpoints import Checkpoint
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.randomness import keyed_generator
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.sop_config import SOPConfig

Config = TypeVar("Config", bound=RunConfig)
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class LoadedRun(Generic[Config, Model]):
    """A run that can be evaluated: its model, in evaluation mode, as of one checkpoint.

    Arguments:
        folder: The folder of the run.
        config: Its config.
        dataset: The data that it was trained on.
        model: The model.
        step: That of the checkpoint.
        epoch: Likewise.
    """

    folder: RunFolder
    config: Config
    dataset: Dataset
    model: Model
    step: int
    epoch: int


LoadedVAE = LoadedRun[TrainConfig, VAE]
LoadedSOP = LoadedRun[SOPConfig, SOP]
LoadedDLGMM = LoadedRun[DLGMMConfig, DLGMM]


def as_vae(run: LoadedRun[Any, Any], what: str) -> LoadedVAE:
    """The run, which has to be that of a VAE.

    Arguments:
        run: A run.
        what: What it is needed for.

    Raises:
        UserError: It is that of another model.
    """
    if not isinstance(run.model, VAE):
        raise UserError(
            f"expected the run of a VAE for {what}; got {run.folder.path}, which is of the model "
            f"{run.config.model}; name another run"
        )
    return run


def load_run(
    path: str | Path, device: str | None = None, data_dir: str | Path | None = None
) -> LoadedRun[Any, Any]:
    """Reads a run as of its latest checkpoint.

    Arguments:
        path: The folder of the run.
        device: Where the model goes; ``None`` takes the device it was trained on.
        data_dir: The folder with the files of data sets, if it is not that of the config.

    Raises:
        UserError: There is no run, no checkpoint yet, or one that is broken or of another model.
    """
    folder = RunFolder(path)
    config = folder.config()
    if device is not None:
        config = replace(config, device=device).resolved()
    # Before the seconds that data and model may take.
    check_size(config, _existing_checkpoint(folder))
    dataset = load_data(with_data_at_hand(config, data_dir))
    model = build_model(config, dataset.image_shape)
    checkpoint = _read_latest(folder, parameter_tensors(model))
    model.load_state_dict(
        {name.removeprefix("model."): tensor for name, tensor in checkpoint.tensors.items()}
    )
    return LoadedRun(folder, config, dataset, model.eval(), checkpoint.step, checkpoint.epoch)


def check_size(config: RunConfig, checkpoint: Path) -> None:
    """Refuses a config with a model much larger than a checkpoint, before the memory for it is asked for.

    Arguments:
        config: A resolved config.
        checkpoint: The checkpoint; one that training has removed meanwhile is passed over.

    Raises:
        UserError: The checkpoint is broken, or cannot be of that model.
    """
    try:
        # A broken one is told as such.
        checkpoints.read(checkpoint, {})
        size = checkpoint.stat().st_size
    except FileNotFoundError:
        return
    # Without the moments of Adam, which an evaluation does not need.
    least = 4 * config.least_parameters
    if size < least:
        raise UserError(
            f"expected a checkpoint of the model that the config describes, of {shown(least)} bytes or more, "
            f"at {checkpoint}; got {size:,} bytes; restore the config.json that the run was started with"
        )


def _read_latest(folder: RunFolder, like: Mapping[str, torch.Tensor]) -> Checkpoint:
    while True:
        path = _existing_checkpoint(folder)
        try:
            return checkpoints.read(path, like)
        except FileNotFoundError:
            # Training went on, wrote later checkpoints and removed this one.
            continue


def _existing_checkpoint(folder: RunFolder) -> Path:
    latest = folder.latest_checkpoint()
    if latest is None:
        raise UserError(
            f"expected a run with a checkpoint; got {folder.path}, which has none yet; "
            f"train it first with igr train --resume {shlex.quote(str(folder.path))}"
        )
    return latest


def with_data_at_hand(config: RunConfig, data_dir: str | Path | None) -> RunConfig:
    """The config of an earlier command, with the data folder that there is now.

    The images are verified, so it does not matter where they are: in the folder that is given now,
    in that of the config, or, where its files are gone, in the cache.
    """
    if data_dir is not None:
        return replace(config, data_dir=str(data_dir))
    if config.data_dir is None:
        return config
    source = data.source(config.data)
    gone = not source.state(Path(config.data_dir)).present
    return replace(config, data_dir=None) if gone and source.state(None).present else config


def load_data(config: RunConfig) -> Dataset:
    """The data set that a config names, cut to its ``max_images``, in the size that its network takes."""
    dataset = data.load(config.data, config.data_dir).limited(config.max_images)
    _, height, _ = config.image_shape
    return replace(
        dataset,
        **{
            split: replace(found, images=resized(found.images, height))
            for split in ("train", "validation", "test")
            if (found := getattr(dataset, split)).images.shape[1:] != config.image_shape
        },
    )


def evaluation_images(config: RunConfig, dataset: Dataset, split: str) -> PreparedImages:
    """The images of a split in the form that the likelihood needs, as every evaluation sees them.

    Where pixels are drawn, they are drawn once: neither the seed of the run nor its device matters,
    so that figures of several runs are of the same images.
    """
    generator = (
        keyed_generator(0, f"binarization/{split}", 0) if config.binarization == "stochastic" else None
    )
    images = getattr(dataset, split).images
    return PreparedImages(images, config.likelihood, config.dtype, generator)


def parameter_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and other state of a model under their names in a checkpoint, not copied."""
    return {f"model.{name}": tensor for name, tensor in model.state_dict(keep_vars=True).items()}
