"""What is refused of the config of a VAE, each with one sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from igr.errors import UserError, shown
from igr.estimators import ESTIMATORS, Estimator, by_name
from igr.models.latents import GAUSSIAN, LATENTS
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS
from igr.training.run_config import (
    FINITE_POSITIVE,
    MOST_LAYERS,
    Range,
    at_least,
    between,
    check_choices,
    check_device,
    check_ranges,
)

if TYPE_CHECKING:
    from igr.training.config import TrainConfig

KLS = ("relaxed", "discrete")
# Estimators whose gradient goes through relaxed points; all others are of the discrete model, with its KL.
PATHWISE = ("pathwise", "gumbel_straight_through")
SCALES = ("fixed", "free")


def check(config: TrainConfig) -> None:
    """Refuses a config that cannot be trained.

    Raises:
        UserError: The first setting that cannot be used.
    """
    check_choices(
        config,
        {
            "network": NETWORKS,
            "likelihood": LIKELIHOODS,
            "latent": (*LATENTS, GAUSSIAN),
            "kl": KLS,
            "scale": SCALES,
            "estimator": ESTIMATORS,
        },
    )
    check_ranges(config, _RANGES)
    _check_applicable(config)
    _check_estimator(config)
    _check_capacities(config)
    check_device(config)
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
    if config.autocast and config.precision != "float32":
        raise UserError(
            f"expected precision float32 with autocast; got {config.precision}; leave one of them out"
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
                f"least 1; got {lower:g} {upper:g} {shown(steps)}; change {key}"
            )


def fits(estimator: str, latent: str, num_categories: int) -> bool:
    """Whether a latent with so many categories has what an estimator needs to know of it."""
    needs = by_name(estimator)
    return _knows_noise(latent, needs) and (num_categories == 2 or not needs.only_binary)


def _knows_noise(latent: str, estimator: Estimator) -> bool:
    return (
        estimator.conditional_noise is None
        or estimator.conditional_noise in LATENTS[latent].conditional_noise
    )


_RANGES: dict[str, Range] = {
    "num_variables": at_least(1),
    "num_categories": at_least(2),
    "prior_temperature": FINITE_POSITIVE,
    "kl_warmup": at_least(0),
    "continuous_dim": at_least(0),
    "capacity_weight": FINITE_POSITIVE,
    "flow_layers": between(1, MOST_LAYERS),
    "stick_threshold": (lambda value: 0 < value < 1, "a number between 0 and 1"),
    "stick_quantile": (lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
}
