"""Run folders with one checkpoint, of models that were never trained."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from igr.training import checkpoints
from igr.training.build import build_model
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import parameter_tensors
from igr.training.sop_config import SOPConfig

STEP, EPOCH = 4, 2


def vae(**settings: Any) -> TrainConfig:
    small = {"network": "dense", "num_variables": 2, "num_categories": 3, "max_images": 50}
    return TrainConfig(**{**small, **settings}).resolved()


CAPACITIES = {"continuous_capacity": (0.0, 5.0, 100), "discrete_capacity": (0.0, 5.0, 100)}
VAES: dict[str, TrainConfig] = {
    "igr": vae(),
    "igr-free": vae(kl="relaxed"),
    "igr-planar": vae(latent="igr-planar"),
    "igr-sb": vae(latent="igr-sb"),
    "igr-sb-log": vae(latent="igr-sb-log"),
    "igr-sb-truncated": vae(latent="igr-sb-truncated", num_categories=12),
    "gumbel-softmax": vae(latent="gumbel-softmax", likelihood="normal"),
    "bernoulli": vae(latent="bernoulli", num_categories=2),
    "gaussian": TrainConfig(latent="gaussian", network="dense", max_images=50).resolved(),
    "joint": vae(continuous_dim=2, network="conv", likelihood="continuous-bernoulli"),
    "jointvae": vae(continuous_dim=2, network="conv_jointvae", **CAPACITIES),
    "relax": vae(estimator="relax"),
    "float64": vae(precision="float64", binarization="stochastic"),
}
SOPS: dict[str, SOPConfig] = {
    latent: SOPConfig(latent=latent, num_units=5, max_images=50).resolved()
    for latent in ("igr", "igr-planar", "gumbel-softmax")
}
DLGMMS: dict[str, DLGMMConfig] = {
    latent: DLGMMConfig(latent=latent, num_components=3, continuous_dim=2, max_images=50).resolved()
    for latent in ("dlgmm", "dlgmm-truncated", "dlgmm-igr", "dlgmm-igr-truncated")
}
CONFIGS: dict[str, RunConfig] = {**VAES, **{f"sop-{name}": config for name, config in SOPS.items()}, **DLGMMS}


def write_run_of(config: RunConfig, path: Path) -> nn.Module:
    """Writes the folder of a run, with parameters that no seed gives, and returns the model."""
    folder = RunFolder(path)
    with folder.locked():
        folder.begin(config)
    model = build_model(folder.config(), config.image_shape)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    checkpoints.write(folder.checkpoints, STEP, EPOCH, parameter_tensors(model))
    return model.eval()
