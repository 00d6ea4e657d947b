"""What is refused of a config, each with one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import torch

from igr.data import BINARIZATIONS, SOURCES
from igr.errors import UserError, unknown_name
from igr.estimators import ESTIMATORS, Estimator, by_name
from igr.models.latents import GAUSSIAN, LATENTS
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS

if TYPE_CHECKING:
    from igr.training.config import TrainConfig

KLS = ("relaxed", "discrete")
# Estimators whose gradient goes through relaxed points; all others are of the discrete model, with its KL.
PATHWISE = ("pathwise", "gumbel_straight_through")
SCALES = ("fixed", "free")
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def check(config: TrainConfig) -> None:
    """Refuses a config that cannot be trained.

    Raises:
        UserError: The first setting that cannot be used.
    """
    choices: dict[str, Collection[str]] = {
        "data": SOURCES,
        "network": NETWORKS,
        "likelihood": LIKELIHOODS,
        "binarization": BINARIZATIONS,
        "latent": (*LATENTS, GAUSSIAN),
        "kl": KLS,
        "scale": SCALES,
        "estimator": ESTIMATORS,
        "precision": PRECISIONS,
    }
    for key, allowed in choices.items():
        value = getattr(config, key)
        if value not in allowed and not (value is None and key in ("kl", "scale")):
            raise unknown_name(key, value, allowed)
    for key, (accept, expected) in _RANGES.items():
        value = getattr(config, key)
        if value is not None and not accept(value):
            raise UserError(f"expected {key} to be {expected}; got {value}; change {key}")
    _check_applicable(config)
    _check_estimator(config)
    _check_capacities(config)
    _check_device(config)
    # Refuses images that the network does not take.
    _ = config.image_shape


def _check_applicable(config: TrainConfig) -> None:
    own = LATENTS[config.latent].options if config.has_categories else frozenset()
    every = frozenset().union(*(latent.options for latent in LATENTS.values()))
    foreign = set(every - own)
    if not config.has_categories:
        foreign |= {
            "num_variables",
            "num_categories",
            "temperature",
            "prior",
            "straight_through",
            "estimator",
        }
    defaults = type(config)()
    for key in sorted(foreign):
        value = getattr(config, key)
        if value != getattr(defaults, key):
            raise UserError(
                f"expected no {key} with the latent {config.latent}, which has none; "
                f"got {value}; leave {key} out"
            )
    kls = LATENTS[config.latent].kls if config.has_categories else ("relaxed",)
    if config.kl is not None and config.kl not in kls:
        raise UserError(
            f"expected kl {' or '.join(kls)} with the latent {config.latent}, of which no exact discrete "
            f"law is known; got {config.kl}; leave kl out"
        )
    least = LATENTS[config.latent].least_categories if config.has_categories else 0
    if config.num_categories < least:
        raise UserError(
            f"expected num_categories of at least {least} with the latent {config.latent}; "
            f"got {config.num_categories}; change num_categories"
        )
    count = config.effective_categories
    if config.num_categories not in (count, defaults.num_categories):
        raise UserError(
            f"expected num_categories of {count} with the latent {config.latent}; got "
            f"{config.num_categories}; leave num_categories out"
        )
    if not config.has_categories and config.continuous_dim == 0:
        raise UserError(
            "expected continuous_dim of at least 1 with the latent gaussian; got 0; change continuous_dim"
        )
    if config.stick_the_landing and (config.kl or kls[0]) == "discrete":
        raise UserError(
            "expected no stick_the_landing with kl discrete, which is not sampled; got true; use kl relaxed"
        )
    if config.binarization != "fixed" and not LIKELIHOODS[config.likelihood].binary_images:
        raise UserError(
            f"expected no binarization with the likelihood {config.likelihood}, which is one of grey "
            f"images; got {config.binarization}; leave binarization out, or use the likelihood bernoulli"
        )


def _check_estimator(config: TrainConfig) -> None:
    name = config.estimator
    if name == "pathwise":
        return
    if config.straight_through:
        raise UserError(
            f"expected no straight_through beside the estimator {name}; got true; leave one of them out"
        )
    if name in PATHWISE:
        return
    latent = LATENTS[config.latent]
    if config.continuous_dim:
        raise UserError(
            f"expected the estimator {' or '.join(PATHWISE)} beside a Gaussian latent; got {name}; leave "
            "estimator or continuous_dim out"
        )
    if "discrete" not in latent.kls or config.kl == "relaxed":
        raise UserError(
            f"expected kl discrete, and a latent that has it, with the estimator {name}, which trains "
            f"the discrete model; got {config.kl or 'no kl'} with {config.latent}; change kl or latent"
        )
    if not latent.has_fixed_law:
        raise UserError(
            f"expected another latent with the estimator {name}, which needs one law for each image; got "
            f"{config.latent}, which draws its number of sticks; use igr-sb"
        )
    estimator = by_name(name)
    if not _knows_noise(config.latent, estimator):
        raise UserError(
            f"expected a latent whose noise given the category is known with the estimator {name}; got "
            f"{config.latent}; use gumbel-softmax, or an estimator for every latent, such as reinmax"
        )
    if estimator.only_binary and config.effective_categories != 2:
        raise UserError(
            f"expected num_categories of 2 with the estimator {name}, which is for binary variables; got "
            f"{config.num_categories}; change num_categories, or use rebar"
        )
    least = estimator.least_samples
    if config.num_samples is not None and config.num_samples < least:
        raise UserError(
            f"expected num_samples of at least {least} with the estimator {name}; got "
            f"{config.num_samples}; change num_samples, or leave it out"
        )


def _check_capacities(config: TrainConfig) -> None:
    given = [key for key in ("continuous_capacity", "discrete_capacity") if getattr(config, key) is not None]
    if not given:
        if config.capacity_weight is not None:
            raise UserError(
                "expected capacities beside capacity_weight; got none; give continuous_capacity and "
                "discrete_capacity, each as LOWER UPPER STEPS, or leave capacity_weight out"
            )
        return
    if len(given) == 1 or not config.has_categories or not config.continuous_dim:
        raise UserError(
            "expected continuous_capacity and discrete_capacity together, with a categorical latent and "
            f"a continuous_dim of at least 1; got {' and '.join(given)} with the latent {config.latent} "
            f"and continuous_dim {config.continuous_dim or 0}; give what is missing, or leave them out"
        )
    for key in given:
        lower, upper, steps = getattr(config, key)
        if not (0 <= lower <= upper < math.inf and steps >= 1):
            raise UserError(
                f"expected {key} to rise from LOWER to UPPER nats, both at least 0, over STEPS of at "
                f"least 1; got {lower:g} {upper:g} {steps}; change {key}"
            )


def _check_device(config: TrainConfig) -> None:
    try:
        device = torch.device(config.device)
    except RuntimeError as error:
        raise UserError(
            f"expected device to be cpu, cuda or cuda:N; got {config.device!r}; change device"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise unknown_name("device", config.device, ("cpu", "cuda"))


def fits(estimator: str, latent: str, num_categories: int) -> bool:
    """Whether a latent with so many categories has what an estimator needs to know of it."""
    needs = by_name(estimator)
    return _knows_noise(latent, needs) and (num_categories == 2 or not needs.only_binary)


def _knows_noise(latent: str, estimator: Estimator) -> bool:
    return (
        estimator.conditional_noise is None
        or estimator.conditional_noise in LATENTS[latent].conditional_noise
    )


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _at_least(bound: int) -> tuple[Callable[[float], bool], str]:
    return lambda value: value >= bound, f"a whole number of at least {bound}"


_FINITE_POSITIVE = (_positive, "a finite number above 0")

_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "max_images": _at_least(1),
    "num_variables": _at_least(1),
    "num_categories": _at_least(2),
    "temperature": _FINITE_POSITIVE,
    "prior_temperature": _FINITE_POSITIVE,
    "num_samples": _at_least(1),
    "num_eval_samples": _at_least(1),
    "epochs": _at_least(1),
    "batch_size": _at_least(1),
    "learning_rate": _FINITE_POSITIVE,
    "kl_warmup": _at_least(0),
    "continuous_dim": _at_least(0),
    "capacity_weight": _FINITE_POSITIVE,
    "flow_layers": _at_least(1),
    "stick_threshold": (lambda value: 0 < value < 1, "a number between 0 and 1"),
    "stick_quantile": (lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    "seed": _at_least(0),
    "eval_every": _at_least(1),
    "checkpoint_every": _at_least(1),
}
