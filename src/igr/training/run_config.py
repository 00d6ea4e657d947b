"""What the settings of every run have, whatever model it trains."""

import dataclasses
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, ClassVar, Self, Union, cast, get_args, get_origin, get_type_hints

import torch

from igr.data import BINARIZATIONS, SOURCES
from igr.errors import UserError, shown, unknown_name

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class RunConfig(ABC):
    """What is trained, on what, and for how long.

    The base of a dataclass for each kind of model: flat, frozen, every field documented. It is the flags of
    ``igr train``, ``config.json`` in the run folder and the argument of :func:`igr.training.loop.train`.
    """

    model: ClassVar[str]
    """The kind of model, by which the class is found; see ``igr.training.kinds``."""

    told: ClassVar[tuple[str, ...]] = ("latent",)
    """Settings that tell what a row of a comparison is of, whether or not others differ in them."""

    decisive: ClassVar[tuple[str, ...]] = ("latent",)
    """Settings of which tables that differ in them always tell, and with them what is their default."""

    quantity: ClassVar[str] = "log p(x)"
    """What is bounded, for sentences and titles."""

    bound_names: ClassVar[Mapping[str, str]] = {}
    """What the kinds of bounds are called, by their keys, where it is not what they are called of a VAE."""

    about_bounds: ClassVar[str | None] = None
    """What they bound, in a sentence or two, where it is not what they bound of a VAE."""

    data: str = "digits"
    """The data set; `igr data list` shows all."""

    data_dir: str | None = None
    """The folder with the files of data sets; None: as read before, or downloaded."""

    max_images: int | None = None
    """Use only the first so many images of each split; None uses all."""

    network: str = ""
    """The network."""

    binarization: str = "fixed"
    """Binary images: fixed (cut at half intensity), or stochastic (drawn anew in each epoch)."""

    latent: str = ""
    """The latent."""

    temperature: float | None = None
    """The temperature."""

    num_samples: int | None = None
    """Latent samples per image in training and validation."""

    num_eval_samples: int = 100
    """Latent samples per image that `igr evaluate` takes if it is not told otherwise."""

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
    """Also write figures and pictures for TensorBoard into the run folder."""

    precision: str = "float32"
    """Floating-point type of weights and arithmetic: float32 or float64."""

    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, ..."""

    # What a kind of model states.

    @property
    @abstractmethod
    def likelihood(self) -> str:
        """The law of a pixel, which decides in what form images come."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images as the network takes them."""

    @abstractmethod
    def resolved(self) -> Self:
        """The same config with every open setting filled in, as the run folder records it.

        Raises:
            UserError: A setting has a value that cannot be used.
        """

    @property
    @abstractmethod
    def run_name(self) -> str:
        """A readable name for the run of a resolved config."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What a resolved config trains, in a few words."""

    @abstractmethod
    def warnings(self) -> list[str]:
        """Sentences about settings of a resolved config that can be used but that most likely disappoint."""

    @property
    @abstractmethod
    def least_parameters(self) -> int:
        """How many numbers the model of a resolved config has at least; no network is narrower than 32."""

    # What may be otherwise.

    @property
    def has_categories(self) -> bool:
        """Whether there is a categorical latent."""
        return True

    @property
    def uses_temperature(self) -> bool:
        """Whether the temperature has a part in training."""
        return True

    @property
    def trained_kl(self) -> str | None:
        """The KL of a resolved config, where one is trained."""
        return None

    # What follows.

    @property
    def posterior_temperature(self) -> float:
        """The temperature of a resolved config; one for a latent that has none and asks for none."""
        return 1.0 if self.temperature is None else self.temperature

    @property
    def samples_per_image(self) -> int:
        """The latent samples per image in training of a resolved config."""
        return cast(int, self.num_samples)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type that ``precision`` names."""
        return PRECISIONS[self.precision]

    def filled(self, defaults: Mapping[str, object]) -> Self:
        """The config with these values where settings are open, and the data folder as an absolute path."""
        found = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        if self.data_dir is not None:
            # A run is gone on with and evaluated from other folders too.
            found["data_dir"] = os.path.abspath(self.data_dir)
        return dataclasses.replace(self, **found)  # type: ignore[arg-type]

    def small(self) -> Self:
        """The config made small, for a check of everything in seconds.

        Five epochs of at most 500 images in batches of at most 50, as few samples per image in training as
        there can be and ten in evaluation, a checkpoint after each epoch; all else as it was.
        """
        return dataclasses.replace(
            self,
            max_images=min(self.max_images or 500, 500),
            epochs=5,
            batch_size=min(self.batch_size, 50),
            num_samples=None,
            num_eval_samples=10,
            eval_every=1,
            checkpoint_every=1,
        )

    @classmethod
    def setting_names(cls) -> list[str]:
        """The names of all settings, in the order in which names and tables have them.

        First what is learned from, then what the class of the kind of model has in its body, then the rest.
        The names of folders of sweeps depend on it.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        own = [name for name in cls.__annotations__ if name in names]
        return list(dict.fromkeys(["data", "data_dir", "max_images", *own, *names]))

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
                f"expected settings by name; got {shown(values)}; write them in braces as a JSON object"
            )
        names, hints = cls.setting_names(), get_type_hints(cls)
        typed: dict[str, Any] = {}
        for key, value in values.items():
            if key not in names:
                raise unknown_name("each key of the config", key, names)
            typed[key] = _typed(key, value, _members(hints[key]))
        return dataclasses.replace(cls() if base is None else base, **typed)


def check_choices(config: RunConfig, choices: Mapping[str, Collection[str]]) -> None:
    """Refuses a setting that is none of the names that it may have; an open one is left alone.

    Raises:
        UserError: It names the setting.
    """
    shared: dict[str, Collection[str]] = {
        "data": SOURCES,
        "binarization": BINARIZATIONS,
        "precision": PRECISIONS,
    }
    for key, allowed in {**shared, **choices}.items():
        value = getattr(config, key)
        if value is not None and value not in allowed:
            raise unknown_name(key, value, allowed)


def check_ranges(config: RunConfig, ranges: Mapping[str, "Range"]) -> None:
    """Refuses a number that is out of its range; an open setting is left alone.

    Raises:
        UserError: It names the setting.
    """
    for key, (accept, expected) in {**_SHARED_RANGES, **ranges}.items():
        value = getattr(config, key)
        if value is not None and not accept(value):
            raise UserError(f"expected {key} to be {expected}; got {shown(value)}; change {key}")


def check_device(config: RunConfig) -> None:
    """Refuses a name that is no device of a kind that there is.

    Raises:
        UserError: It says which names there are.
    """
    try:
        device = torch.device(config.device)
    except RuntimeError as error:
        raise UserError(
            f"expected device to be cpu, cuda or cuda:N; got {shown(config.device)}; change device"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise unknown_name("device", config.device, ("cpu", "cuda"))


# Whether a number is good, and what was expected of one that is not.
Range = tuple[Callable[[float], bool], str]


def at_least(bound: int) -> Range:
    """The range of whole numbers from a bound on."""
    return lambda value: value >= bound, f"a whole number of at least {bound}"


def between(least: int, most: int) -> Range:
    """The range of whole numbers between two bounds, which are in it."""
    return lambda value: least <= value <= most, f"a whole number from {least} to {most}"


FINITE_POSITIVE: Range = (lambda value: 0 < value < math.inf, "a finite number above 0")

# Planar layers of a flow. Each is small but slow to build, so the size of a file does not tell whether the
# config beside it asks for hours.
MOST_LAYERS = 1000

_SHARED_RANGES: dict[str, Range] = {
    "max_images": at_least(1),
    "temperature": FINITE_POSITIVE,
    "num_samples": at_least(1),
    "num_eval_samples": at_least(1),
    "epochs": at_least(1),
    "batch_size": at_least(1),
    "learning_rate": FINITE_POSITIVE,
    "seed": at_least(0),
    "eval_every": at_least(1),
    "checkpoint_every": at_least(1),
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
                    f"expected {key} to be {len(members)} numbers; got {len(value)}, {shown(value)}; "
                    f"change {key}"
                )
            return tuple(_typed(key, part, (member,)) for part, member in zip(value, members, strict=True))
    # Not isinstance: JSON's true is no whole number.
    if type(value) not in allowed:
        expected = " or ".join(_TYPE_NAMES.get(kind, "a list of numbers") for kind in allowed)
        raise UserError(f"expected {key} to be {expected}; got {shown(value)}; change {key}")
    return value
