"""The model that a config describes."""

import math

import torch

from igr.errors import UserError
from igr.models.latents import LATENTS
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS, Sizes
from igr.models.vae import VAE
from igr.training.config import TrainConfig
from igr.training.randomness import keyed_generator


def build_model(config: TrainConfig, image_shape: tuple[int, int, int]) -> VAE:
    """A fresh model, with the initial weights of the seed, on the device of the config.

    Arguments:
        config: A resolved config.
        image_shape: Channels, height and width of the images.

    Raises:
        UserError: This machine does not have the device.
    """
    device = available_device(config.device)
    latent_class = LATENTS[config.latent]
    latent = latent_class(
        config.num_variables,
        config.num_categories,
        config.prior_temperature,
        **{option: getattr(config, option) for option in latent_class.options},
    )
    likelihood = LIKELIHOODS[config.likelihood]
    sizes = Sizes(
        image_shape=image_shape,
        num_outputs=latent.num_outputs,
        num_features=config.num_variables * config.num_categories,
        parameters_per_pixel=likelihood.parameters_per_pixel,
    )
    networks = NETWORKS[config.network](sizes, keyed_generator(config.seed, "weights", 0))
    model = VAE(networks, latent, likelihood, config.kl)
    return model.to(device=device, dtype=config.dtype)


def available_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UserError: This machine does not have it.
    """
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"expected a device of this machine; got {name}, but torch sees "
            f"{torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def num_parameters(model: torch.nn.Module) -> int:
    """How many numbers are trained."""
    return sum(math.prod(parameter.shape) for parameter in model.parameters())
