"""The model that a config describes."""

import math
import re
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from igr.distributions import StickTruncation
from igr.errors import UserError, cut
from igr.estimators import ControlNetwork, Estimator, by_name
from igr.fitting import Fit
from igr.models.dlgmm import DLGMM, separated_means
from igr.models.joint_vae import JointVAE
from igr.models.latents import LATENTS, DiscreteLatent, GaussianLatent, JointLatent, Latent, PlanarLatent
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import MIXTURE_NETWORKS, NETWORKS, Autocast, Networks, Sizes
from igr.models.sop import BINARY_LATENTS, SOP, BinaryLatent, BinaryPlanarLatent, lower_half, sop_layers
from igr.models.sop import NETWORKS as SOP_NETWORKS
from igr.models.stick_laws import MIXTURES
from igr.models.vae import VAE
from igr.training.checks import PATHWISE
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.randomness import keyed_generator
from igr.training.run_config import RunConfig
from igr.training.sop_config import SOPConfig


def build_model(config: RunConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    """A fresh model, with the initial weights of the seed, on the device of the config.

    Arguments:
        config: A resolved config of any kind of model.
        image_shape: Channels, height and width of the images.

    Raises:
        UserError: This machine does not have the device, or the model cannot be built.
    """
    try:
        return _built(config, image_shape)
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:
        # torch has no type of its own for memory that it does not get on the CPU, nor for sizes beyond 2^63.
        if _TOO_LARGE.search(str(error)) is None and not isinstance(error, MemoryError):
            raise
        raise UserError(
            f"expected settings of a model that fits into memory; got {config.run_name}, which does not "
            f"({cut(error)}); make it smaller"
        ) from error


_TOO_LARGE = re.compile("allocate memory|out of memory|[Oo]verflow|too large")


def _built(config: RunConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    if isinstance(config, TrainConfig):
        return build_vae(config, image_shape)
    if isinstance(config, SOPConfig):
        return build_sop(config, image_shape)
    if isinstance(config, DLGMMConfig):
        return build_dlgmm(config, image_shape)
    raise TypeError(f"expected the config of a known kind of model; got {type(config).__name__}")


def build_sop(config: SOPConfig, image_shape: tuple[int, int, int]) -> SOP:
    """A fresh model of structured output prediction, with the initial weights of the seed.

    Arguments:
        config: A resolved config.
        image_shape: Channels, height and width of whole images.

    Raises:
        UserError: This machine does not have the device.
    """
    device = available_device(config.device)
    network = SOP_NETWORKS[config.network]
    make = BINARY_LATENTS[config.latent]
    options = {option: getattr(config, option) for option in make.options}
    latents: list[BinaryLatent] = []
    for index in range(network.num_layers):
        if issubclass(make, BinaryPlanarLatent):
            options["generator"] = keyed_generator(config.seed, "weights of the latent", index)
        latents.append(make(config.num_units, **options))
    likelihood = LIKELIHOODS[config.likelihood]
    half = lower_half(image_shape)
    layers = sop_layers(
        network,
        latents,
        num_known=math.prod(image_shape) - math.prod(half),
        num_outputs=likelihood.parameters_per_pixel * math.prod(half),
        generator=keyed_generator(config.seed, "weights", 0),
    )
    model = SOP(layers, latents, half, likelihood, config.straight_through)
    return model.to(device=device, dtype=config.dtype)


def build_dlgmm(config: DLGMMConfig, image_shape: tuple[int, int, int]) -> DLGMM:
    """A fresh mixture model, with the initial weights and the means of the prior of the seed.

    Arguments:
        config: A resolved config.
        image_shape: Channels, height and width of the images.

    Raises:
        UserError: This machine does not have the device.
    """
    device = available_device(config.device)
    likelihood = LIKELIHOODS[config.likelihood]
    mixture = MIXTURES[config.latent]
    truncation = None
    if mixture.is_truncated:
        truncation = StickTruncation(cast(float, config.stick_threshold), cast(float, config.stick_quantile))
    weights = keyed_generator(config.seed, "weights", 0)
    networks = MIXTURE_NETWORKS[config.network].build(
        config.continuous_dim, (likelihood.parameters_per_pixel, *image_shape), weights
    )
    corners = keyed_generator(config.seed, "means of the prior", 0)
    model = DLGMM(
        *networks,
        mixture.sticks(config.num_components, config.concentration),
        separated_means(config.num_components, config.continuous_dim, config.prior_separation, corners),
        weights,
        likelihood,
        truncation,
        sums_out=config.component == "summed",
    )
    return model.to(device=device, dtype=config.dtype)


def build_vae(config: TrainConfig, image_shape: tuple[int, int, int]) -> VAE:
    """A fresh VAE, with the initial weights of the seed, on the device of the config.

    Arguments:
        config: A resolved config.
        image_shape: Channels, height and width of the images.

    Raises:
        UserError: This machine does not have the device, or the prior of the config cannot be used.
    """
    device = available_device(config.device)
    latent = build_latent(config)
    likelihood = LIKELIHOODS[config.likelihood]
    sizes = Sizes(
        image_shape=image_shape,
        num_outputs=latent.num_outputs,
        num_features=latent.num_features,
        parameters_per_pixel=likelihood.parameters_per_pixel,
    )
    networks = NETWORKS[config.network].build(sizes, keyed_generator(config.seed, "weights", 0))
    if config.autocast:
        networks = Networks(*map(Autocast, networks))
    kl = config.trained_kl
    if isinstance(latent, JointLatent) and config.capacity_weight is not None:
        weight = config.capacity_weight
        model: VAE = JointVAE(networks, latent, likelihood, weight, kl, config.uses_straight_through)
    else:
        model = VAE(networks, latent, likelihood, kl, config.uses_straight_through, build_estimator(config))
    return model.to(device=device, dtype=config.dtype)


def build_estimator(config: TrainConfig) -> Estimator | None:
    """The gradient estimator of a resolved config, with the initial weights of the seed where it has any.

    ``None`` where the gradient goes through the relaxed points, or through the vertices nearest to them.
    """
    if config.estimator in PATHWISE:
        return None
    options: dict[str, Any] = {}
    if config.estimator == "relax":
        options["control"] = ControlNetwork(
            num_inputs=config.num_variables * config.num_categories,
            generator=keyed_generator(config.seed, "weights of the control variate", 0),
        )
    return by_name(config.estimator, **options)


def build_latent(config: TrainConfig) -> Latent:
    """The latent of a resolved config, with the initial weights of the seed where it has any.

    Raises:
        UserError: The file of its prior cannot be read, or is of another law.
    """
    continuous_dim = cast(int, config.continuous_dim)
    if not config.has_categories:
        return GaussianLatent(continuous_dim)
    latent_class = LATENTS[config.latent]
    options = {option: getattr(config, option) for option in latent_class.options}
    if issubclass(latent_class, PlanarLatent):
        options["generator"] = keyed_generator(config.seed, "weights of the latent", 0)
    make = cast(Callable[..., DiscreteLatent], latent_class)
    discrete = make(config.num_variables, config.num_categories, _prior(config), **options)
    return JointLatent(discrete, GaussianLatent(continuous_dim)) if continuous_dim else discrete


def _prior(config: TrainConfig) -> dict[str, Tensor] | None:
    """The parameters of the prior of a variable, from the file that a config names."""
    if config.prior is None:
        return None
    try:
        found = Fit.load(config.prior)
    except (OSError, ValueError) as error:
        raise UserError(
            f"expected a prior written by igr prior at {config.prior}; got "
            f"{getattr(error, 'strerror', None) or cut(error)}; write one with igr prior"
        ) from error
    families = LATENTS[config.latent].prior_families
    if found.family not in families or found.num_categories != config.num_categories:
        raise UserError(
            f"expected a prior of the family {' or '.join(families)} over {config.num_categories} categories "
            f"at {config.prior}; got {found.family} over {found.num_categories}; write one with igr prior "
            f"--family {families[0]} --num-categories {config.num_categories}"
        )
    batched = [name for name, value in found.parameters.items() if value.dim() > _DIMENSIONS.get(name, 1)]
    if batched:
        raise UserError(
            f"expected one law at {config.prior}; got several at once ({batched[0]} has the shape "
            f"{tuple(found.parameters[batched[0]].shape)}); write one with igr prior"
        )
    return found.parameters


# Of the parameters of a planar flow, whose layers come first.
_DIMENSIONS = {"u": 2, "w": 2}


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
    """How many numbers are trained, those of a gradient estimator not counted."""
    return sum(math.prod(model.get_parameter(name).shape) for name in own_parameters(model))


def own_parameters(model: torch.nn.Module) -> list[str]:
    """The names of the parameters of a model but for those of its gradient estimator."""
    return [name for name, _ in model.named_parameters() if not name.startswith("estimator.")]
