"""The settings of a run: one flat dataclass for Python, the command line and the run folder."""

import dataclasses
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Self, Union, cast, get_args, get_origin, get_type_hints

import torch

from igr.data import BINARIZATIONS, SOURCES
from igr.errors import UserError, unknown_name
from igr.estimators import ESTIMATORS, by_name
from igr.models.joint_vae import Capacity
from igr.models.latents import GAUSSIAN, LATENTS
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS

KLS = ("relaxed", "discrete")
# Estimators whose gradient goes through relaxed points; all others are of the discrete model, with its KL.
PATHWISE = ("pathwise", "gumbel_straight_through")
RELAXED_WARMUP = 5
SCALES = ("fixed", "free")
CAPACITY_WEIGHT = 30.0
CONTINUOUS_DIM = 10
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class TrainConfig:
    """What is trained, on what, and for how long."""

    data: str = "digits"
    """The data set; `igr data list` shows all."""

    data_dir: str | None = None
    """The folder with the files of data sets; None: as read before, or downloaded."""

    max_images: int | None = None
    """Use only the first so many images of each split; None uses all."""

    network: str = "dense_nonlinear"
    """The encoder and decoder: dense, dense_nonlinear, dense_relax, conv, or conv_jointvae (resizes)."""

    likelihood: str = "bernoulli"
    """The law of a pixel: bernoulli (binary); grey: normal, normal-elu (original's), continuous-bernoulli."""

    binarization: str = "fixed"
    """Binary images: fixed (cut at half intensity), or stochastic (drawn anew in each epoch)."""

    latent: str = "igr"
    """The latent: igr, igr-planar, igr-sb, igr-sb-log, igr-sb-truncated, gumbel-softmax, or gaussian."""

    num_variables: int = 20
    """Categorical latent variables."""

    num_categories: int = 10
    """Categories of each of them (bernoulli: 2); igr-sb-truncated: the most there can be, 50 in the paper."""

    continuous_dim: int | None = None
    """Dimensions of a Gaussian latent, beside the categorical one if there is one; None: 0 (gaussian 10)."""

    kl: str | None = None
    """The KL that is trained: of the discrete laws (exact), or relaxed (a bound); None: discrete if known."""

    temperature: float | None = None
    """Temperature; None: gumbel-softmax 0.67, others 0.4 (relaxed KL 0.15; lengths, discrete KL 0.05)."""

    prior: str | None = None
    """The prior of a variable, a file written by igr prior for the family of the latent; None: uniform."""

    prior_temperature: float | None = None
    """Temperature of the prior in the relaxed KL and ELBO; None: gumbel-softmax 0.5, igr the posterior's."""

    scale: str | None = None
    """Scale of the Gaussians (igr): fixed at the prior's, or free; None: fixed (relaxed KL free)."""

    flow_layers: int | None = None
    """Planar layers (igr-planar); None: 4."""

    stick_threshold: float | None = None
    """Sum of lengths that the sticks kept have to reach (igr-sb-truncated); None: 0.9."""

    stick_quantile: float | None = None
    """Share of pilot draws that are to reach it (igr-sb-truncated); None: 0.75."""

    straight_through: bool = False
    """In training the decoder meets the nearest vertex, with the gradient of the relaxed point."""

    estimator: str = "pathwise"
    """Gradient of the encoder: pathwise (relaxed points), reinmax, rebar, relax, ...; see the docs."""

    stick_the_landing: bool = False
    """No gradient through the parameters of the density in a sampled KL (gumbel-softmax, igr-planar)."""

    continuous_capacity: tuple[float, float, int] | None = None
    """JointVAE: nats that the Gaussian latent is held to, from A to B over N steps; None: no capacities."""

    discrete_capacity: tuple[float, float, int] | None = None
    """JointVAE: the same for the categorical latent."""

    capacity_weight: float | None = None
    """JointVAE: weight of the distances of both KLs from their capacities; None: 30."""

    num_samples: int = 1
    """Latent samples per image in training and validation."""

    num_eval_samples: int = 100
    """Latent samples per image that `igr evaluate` takes if it is not told otherwise."""

    kl_warmup: int | None = None
    """Epochs in which the weight of the KL rises to 1; None: relaxed 5 (at most a quarter), discrete 0."""

    epochs: int = 100
    """Passes over the training images."""

    batch_size: int = 100
    """Images per step; the last batch of an epoch may be smaller."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    seed: int = 0
    """Fixes initial weights, order of the data and noise."""

    eval_every: int = 1
    """Epochs between two validation bounds; the last epoch always has one."""

    checkpoint_every: int = 10
    """Epochs between two checkpoints; the last epoch always has one."""

    track_gradients: bool = False
    """Also record the share of gradients of parameters that are at most 1e-10, for each epoch."""

    tensorboard: bool = True
    """Also write figures, reconstructions and prior samples for TensorBoard into the run folder."""

    precision: str = "float32"
    """Floating-point type of weights and arithmetic: float32 or float64."""

    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, ..."""

    def resolved(self) -> Self:
        """The same config with every open setting filled in, as the run folder records it.

        What stays ``None`` does not apply to the latent, except ``prior_temperature`` of IGR, which
        then follows the posterior's.

        Raises:
            UserError: A setting has a value that cannot be used.
        """
        self._check_values()
        kl = self.kl or (LATENTS[self.latent].kls[0] if self.has_categories else "relaxed")
        known = dataclasses.replace(self, kl=kl)
        defaults: dict[str, object] = {
            "kl_warmup": known.default_warmup,
            "continuous_dim": 0 if self.has_categories else CONTINUOUS_DIM,
        }
        if self.has_categories:
            defaults |= LATENTS[self.latent].defaults(kl)
        if self.is_joint_vae:
            defaults["capacity_weight"] = CAPACITY_WEIGHT
        filled = {key: value for key, value in defaults.items() if getattr(known, key) is None}
        filled["num_categories"] = self._effective_categories
        for key in ("data_dir", "prior"):
            path = getattr(self, key)
            if path is not None:
                # A run is gone on with and evaluated from other folders too.
                filled[key] = os.path.abspath(path)
        return dataclasses.replace(known, **filled)  # type: ignore[arg-type]

    @property
    def has_categories(self) -> bool:
        """Whether there is a categorical latent."""
        return self.latent != GAUSSIAN

    @property
    def _effective_categories(self) -> int:
        """The number of categories, which a latent may have the last word on."""
        own = LATENTS[self.latent].fixed_categories if self.has_categories else None
        return self.num_categories if own is None else own

    @property
    def uses_straight_through(self) -> bool:
        """Whether the decoder meets the vertices nearest to relaxed points, with the gradient of these."""
        return self.straight_through or self.estimator == "gumbel_straight_through"

    @property
    def meets_vertices(self) -> bool:
        """Whether the decoder meets vertices in training, as it does in the discrete model."""
        return self.uses_straight_through or self.estimator not in PATHWISE

    @property
    def is_joint_vae(self) -> bool:
        """Whether the KLs are held to capacities."""
        return self.continuous_capacity is not None

    @property
    def capacities(self) -> dict[str, Capacity]:
        """The capacities of a JointVAE, by the names of the arguments of its model; else empty."""
        names = ("continuous_capacity", "discrete_capacity") if self.is_joint_vae else ()
        return {name: Capacity(*getattr(self, name)) for name in names}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images as the network takes them."""
        return NETWORKS[self.network].image_shape(SOURCES[self.data].image_shape)

    @property
    def posterior_temperature(self) -> float:
        """The temperature of a resolved config; one for a latent that has none and asks for none."""
        return 1.0 if self.temperature is None else self.temperature

    @property
    def trained_kl(self) -> str:
        """The KL of a resolved config."""
        return cast(str, self.kl)

    @property
    def default_warmup(self) -> int:
        """The ``kl_warmup`` that is taken where none is given.

        With its full weight from the start, the relaxed KL of a categorical latent leaves much of it unused
        for good. A JointVAE has its capacities instead.
        """
        warms = self.kl == "relaxed" and self.has_categories and not self.is_joint_vae
        return min(RELAXED_WARMUP, self.epochs // 4) if warms else 0

    def warnings(self) -> list[str]:
        """Sentences about settings of a resolved config that can be used but that most likely disappoint."""
        found = []
        if self.scale == "free" and self.kl == "discrete" and self.estimator in PATHWISE:
            found.append(
                "scale free with kl discrete lets the encoder shrink the noise at no cost, and the "
                "discrete model, which is the one evaluated, then collapses; use scale fixed, or "
                "kl relaxed"
            )
        if (
            self.has_categories
            and self.temperature != LATENTS[self.latent].defaults(self.trained_kl)["temperature"]
            and not by_name(self.estimator).uses_temperature
        ):
            found.append(
                f"the temperature has no part in training with the estimator {self.estimator}; it is that of "
                "the relaxed model that igr evaluate reports beside the discrete one"
            )
        most = self.num_variables * math.log(self.num_categories)
        if self.kl == "discrete" and self.discrete_capacity is not None and self.discrete_capacity[1] > most:
            found.append(
                f"discrete_capacity rises to {self.discrete_capacity[1]:g} nats, but the KL of the discrete "
                f"laws can be no more than {most:.3g} (variables times log of categories), so that this "
                "distance never closes; lower it, or use kl relaxed"
            )
        return found

    @property
    def run_name(self) -> str:
        """A readable name for the run of a resolved config."""
        parts = [self.data, self.network, self.latent]
        if self.has_categories:
            parts += [f"gaussian{self.continuous_dim}"] if self.continuous_dim else []
            parts += ["st"] if self.straight_through else []
            parts += [] if self.estimator == "pathwise" else [self.estimator]
            parts += [str(self.kl), f"t{self.temperature:g}"]
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type that ``precision`` names."""
        return PRECISIONS[self.precision]

    def to_json(self) -> dict[str, Any]:
        """A mapping of JSON values that :meth:`from_json` takes back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], base: Self | None = None) -> Self:
        """The config with these settings.

        Arguments:
            values: Settings by name, as they come from JSON.
            base: Where the other settings come from; ``None`` takes the defaults.

        Raises:
            UserError: A name is unknown, or a value has the wrong type.
        """
        if not isinstance(values, Mapping):
            raise UserError(
                f"expected settings by name; got {values!r}; write them in braces as a JSON object"
            )
        hints = get_type_hints(cls)
        typed: dict[str, Any] = {}
        for key, value in values.items():
            if key not in hints:
                raise unknown_name("each key of the config", key, hints)
            typed[key] = _typed(key, value, _members(hints[key]))
        return dataclasses.replace(cls() if base is None else base, **typed)

    def _check_values(self) -> None:
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
            value = getattr(self, key)
            if value not in allowed and not (value is None and key in ("kl", "scale")):
                raise unknown_name(key, value, allowed)
        for key, (accept, expected) in _RANGES.items():
            value = getattr(self, key)
            if value is not None and not accept(value):
                raise UserError(f"expected {key} to be {expected}; got {value}; change {key}")
        self._check_applicable()
        self._check_estimator()
        self._check_capacities()
        self._check_device()
        # Refuses images that the network does not take.
        _ = self.image_shape

    def _check_applicable(self) -> None:
        own = LATENTS[self.latent].options if self.has_categories else frozenset()
        every = frozenset().union(*(latent.options for latent in LATENTS.values()))
        foreign = set(every - own)
        if not self.has_categories:
            foreign |= {
                "num_variables",
                "num_categories",
                "temperature",
                "prior",
                "straight_through",
                "estimator",
            }
        defaults = type(self)()
        for key in sorted(foreign):
            value = getattr(self, key)
            if value != getattr(defaults, key):
                raise UserError(
                    f"expected no {key} with the latent {self.latent}, which has none; "
                    f"got {value}; leave {key} out"
                )
        kls = LATENTS[self.latent].kls if self.has_categories else ("relaxed",)
        if self.kl is not None and self.kl not in kls:
            raise UserError(
                f"expected kl {' or '.join(kls)} with the latent {self.latent}, of which no exact discrete "
                f"law is known; got {self.kl}; leave kl out"
            )
        least = LATENTS[self.latent].least_categories if self.has_categories else 0
        if self.num_categories < least:
            raise UserError(
                f"expected num_categories of at least {least} with the latent {self.latent}; "
                f"got {self.num_categories}; change num_categories"
            )
        count = self._effective_categories
        if self.num_categories not in (count, defaults.num_categories):
            raise UserError(
                f"expected num_categories of {count} with the latent {self.latent}; got "
                f"{self.num_categories}; leave num_categories out"
            )
        if not self.has_categories and self.continuous_dim == 0:
            raise UserError(
                "expected continuous_dim of at least 1 with the latent gaussian; got 0; change continuous_dim"
            )
        if self.stick_the_landing and (self.kl or kls[0]) == "discrete":
            raise UserError(
                "expected no stick_the_landing with kl discrete, which is not sampled; got true; "
                "use kl relaxed"
            )
        if self.binarization != "fixed" and not LIKELIHOODS[self.likelihood].binary_images:
            raise UserError(
                f"expected no binarization with the likelihood {self.likelihood}, which is one of grey "
                f"images; got {self.binarization}; leave binarization out, or use the likelihood bernoulli"
            )

    def _check_estimator(self) -> None:
        name = self.estimator
        if name == "pathwise":
            return
        if self.straight_through:
            raise UserError(
                f"expected no straight_through beside the estimator {name}; got true; leave one of them out"
            )
        if name in PATHWISE:
            return
        latent = LATENTS[self.latent]
        if self.continuous_dim:
            raise UserError(
                f"expected the estimator {' or '.join(PATHWISE)} beside a Gaussian latent; got {name}; leave "
                "estimator or continuous_dim out"
            )
        if "discrete" not in latent.kls or self.kl == "relaxed":
            raise UserError(
                f"expected kl discrete, and a latent that has it, with the estimator {name}, which trains "
                f"the discrete model; got {self.kl or 'no kl'} with {self.latent}; change kl or latent"
            )
        if not latent.has_fixed_law:
            raise UserError(
                f"expected another latent with the estimator {name}, which needs one law for each image; got "
                f"{self.latent}, which draws its number of sticks; use igr-sb"
            )
        if not knows_noise(self.latent, name):
            raise UserError(
                f"expected a latent whose noise given the category is known with the estimator {name}; got "
                f"{self.latent}; use gumbel-softmax, or an estimator for every latent, such as reinmax"
            )
        if name == "disarm" and self._effective_categories != 2:
            raise UserError(
                f"expected num_categories of 2 with the estimator disarm, which is for binary variables; got "
                f"{self.num_categories}; change num_categories, or use rebar"
            )
        least = by_name(name).least_samples
        if self.num_samples < least:
            raise UserError(
                f"expected num_samples of at least {least} with the estimator {name}; got "
                f"{self.num_samples}; change num_samples"
            )

    def _check_capacities(self) -> None:
        given = [
            key for key in ("continuous_capacity", "discrete_capacity") if getattr(self, key) is not None
        ]
        if not given:
            if self.capacity_weight is not None:
                raise UserError(
                    "expected capacities beside capacity_weight; got none; give continuous_capacity and "
                    "discrete_capacity, each as LOWER UPPER STEPS, or leave capacity_weight out"
                )
            return
        if len(given) == 1 or not self.has_categories or not self.continuous_dim:
            raise UserError(
                "expected continuous_capacity and discrete_capacity together, with a categorical latent and "
                f"a continuous_dim of at least 1; got {' and '.join(given)} with the latent {self.latent} "
                f"and continuous_dim {self.continuous_dim or 0}; give what is missing, or leave them out"
            )
        for key in given:
            lower, upper, steps = getattr(self, key)
            if not (0 <= lower <= upper < math.inf and steps >= 1):
                raise UserError(
                    f"expected {key} to rise from LOWER to UPPER nats, both at least 0, over STEPS of at "
                    f"least 1; got {lower:g} {upper:g} {steps}; change {key}"
                )

    def _check_device(self) -> None:
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise UserError(
                f"expected device to be cpu, cuda or cuda:N; got {self.device!r}; change device"
            ) from error
        if device.type not in ("cpu", "cuda"):
            raise unknown_name("device", self.device, ("cpu", "cuda"))


def knows_noise(latent: str, estimator: str) -> bool:
    """Whether what an estimator needs to know of the noise given the category is known of a latent."""
    known = LATENTS[latent]
    needs = {
        "rebar": known.knows_conditional_noise,
        "relax": known.knows_conditional_noise,
        "rao_blackwell_straight_through": known.draws_conditional_noise,
    }
    return needs.get(estimator, True)


def smoke(config: TrainConfig) -> TrainConfig:
    """The config made small, for a check of everything in seconds.

    Five epochs of at most 500 images in batches of at most 50, one sample per image in training and
    ten in evaluation, a checkpoint after each epoch; all else as it was.
    """
    return dataclasses.replace(
        config,
        max_images=min(config.max_images or 500, 500),
        epochs=5,
        batch_size=min(config.batch_size, 50),
        num_samples=1,
        num_eval_samples=10,
        eval_every=1,
        checkpoint_every=1,
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

_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _typed(key: str, value: object, allowed: tuple[Any, ...]) -> object:
    # Beyond this whole numbers have no float of their own, or none at all.
    if type(value) is int and float in allowed and abs(value) <= 2**53:
        return float(value)
    for kind in allowed:
        if get_origin(kind) is tuple and isinstance(value, list | tuple):
            members = get_args(kind)
            if len(value) != len(members):
                raise UserError(
                    f"expected {key} to be {len(members)} numbers; got {len(value)}, {value!r}; change {key}"
                )
            return tuple(_typed(key, part, (member,)) for part, member in zip(value, members, strict=True))
    # Not isinstance: JSON's true is no whole number.
    if type(value) not in allowed:
        expected = " or ".join(_TYPE_NAMES.get(kind, "a list of numbers") for kind in allowed)
        raise UserError(f"expected {key} to be {expected}; got {value!r}; change {key}")
    return value
