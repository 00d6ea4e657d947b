"""The settings of a run: one flat dataclass for Python, the command line and the run folder."""

import dataclasses
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args, get_type_hints

import torch

from igr.data import BINARIZATIONS, SOURCES
from igr.errors import UserError, unknown_name
from igr.models.latents import LATENTS
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS

KLS = ("relaxed", "discrete")
RELAXED_WARMUP = 5
SCALES = ("fixed", "free")
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
    """The encoder and decoder: dense (one linear layer each) or dense_nonlinear (512, 256 ReLU)."""

    likelihood: str = "bernoulli"
    """The law of a pixel: bernoulli (binary), normal (grey; mean, scale), or normal-elu (the original's)."""

    binarization: str = "fixed"
    """Binary images: fixed (cut at half intensity), or stochastic (drawn anew in each epoch)."""

    latent: str = "igr"
    """The law of the latent: igr or gumbel-softmax."""

    num_variables: int = 20
    """Latent variables."""

    num_categories: int = 10
    """Categories of each latent variable."""

    kl: str = "discrete"
    """The KL that is trained: of the discrete laws (exact), or of the relaxed laws (a bound)."""

    temperature: float | None = None
    """Temperature of the posterior; None: gumbel-softmax 0.67, igr 0.4 (relaxed KL 0.15)."""

    prior_temperature: float | None = None
    """Temperature of the prior in the relaxed KL and ELBO; None: gumbel-softmax 0.5, igr the posterior's."""

    scale: str | None = None
    """Scale of the Gaussians (igr only): fixed at 1, or free; None: fixed (relaxed KL free)."""

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
        defaults = {**LATENTS[self.latent].defaults(self.kl), "kl_warmup": self.default_warmup}
        filled = {key: value for key, value in defaults.items() if getattr(self, key) is None}
        if self.data_dir is not None:
            # A run is gone on with and evaluated from other folders too.
            filled["data_dir"] = os.path.abspath(self.data_dir)
        return dataclasses.replace(self, **filled)  # type: ignore[arg-type]

    @property
    def default_warmup(self) -> int:
        """The ``kl_warmup`` that is taken where none is given.

        With its full weight from the start, the relaxed KL leaves much of the latent unused for good.
        """
        return min(RELAXED_WARMUP, self.epochs // 4) if self.kl == "relaxed" else 0

    def warnings(self) -> list[str]:
        """Sentences about settings that can be used but that most likely disappoint."""
        if self.scale == "free" and self.kl == "discrete":
            return [
                "scale free with kl discrete lets the encoder shrink the noise at no cost, and the "
                "discrete model, which is the one evaluated, then collapses; use scale fixed, or "
                "kl relaxed"
            ]
        return []

    @property
    def run_name(self) -> str:
        """A readable name for the run of a resolved config."""
        return f"{self.data}-{self.network}-{self.latent}-{self.kl}-t{self.temperature:g}-s{self.seed}"

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
            typed[key] = _typed(key, value, get_args(hints[key]) or (hints[key],))
        return dataclasses.replace(cls() if base is None else base, **typed)

    def _check_values(self) -> None:
        choices: dict[str, Collection[str]] = {
            "data": SOURCES,
            "network": NETWORKS,
            "likelihood": LIKELIHOODS,
            "binarization": BINARIZATIONS,
            "latent": LATENTS,
            "kl": KLS,
            "precision": PRECISIONS,
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise unknown_name(key, getattr(self, key), allowed)
        if self.scale is not None and self.scale not in SCALES:
            raise unknown_name("scale", self.scale, SCALES)
        for key, (accept, expected) in _RANGES.items():
            value = getattr(self, key)
            if value is not None and not accept(value):
                raise UserError(f"expected {key} to be {expected}; got {value}; change {key}")
        self._check_applicable()
        self._check_device()

    def _check_applicable(self) -> None:
        own = LATENTS[self.latent].options
        every = frozenset().union(*(latent.options for latent in LATENTS.values()))
        defaults = type(self)()
        for key in sorted(every - own):
            value = getattr(self, key)
            if value != getattr(defaults, key):
                raise UserError(
                    f"expected no {key} with the latent {self.latent}, which has none; "
                    f"got {value}; leave {key} out"
                )
        if self.binarization != "fixed" and not LIKELIHOODS[self.likelihood].binary_images:
            raise UserError(
                f"expected no binarization with the likelihood {self.likelihood}, which is one of grey "
                f"images; got {self.binarization}; leave binarization out, or use the likelihood bernoulli"
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


def _typed(key: str, value: object, allowed: tuple[type, ...]) -> object:
    # Beyond this whole numbers have no float of their own, or none at all.
    if type(value) is int and float in allowed and abs(value) <= 2**53:
        return float(value)
    # Not isinstance: JSON's true is no whole number.
    if type(value) not in allowed:
        expected = " or ".join(_TYPE_NAMES[kind] for kind in allowed)
        raise UserError(f"expected {key} to be {expected}; got {value!r}; change {key}")
    return value
