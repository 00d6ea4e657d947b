"""What the page is set to: names and plain numbers, checked."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from igr.errors import UserError, shown, unknown_name

LEAST_DELTA, MOST_DELTA = 1e-6, 1e6


class Kind(NamedTuple):
    """What the page says of a law.

    Attributes:
        title: Its name.
        parameter: The name and the symbol of its parameters.
        about: How it makes a point, in a sentence or two.
        least: The fewest categories.
        largest_delta: The largest delta; ``None`` for a law that has none.
    """

    title: str
    parameter: tuple[str, str]
    about: str
    least: int = 2
    largest_delta: float | None = MOST_DELTA


# By the names of the families in igr.fitting.
KINDS = {
    "igr": Kind(
        "IGR-I",
        ("mean", "μ"),
        "Gaussian numbers, one for each category but the last, are divided by the temperature and go "
        "through a softmax in which the last category has the weight δ. The map can be inverted, so density "
        "and KL are exact.",
    ),
    "gumbel-softmax": Kind(
        "Gumbel-Softmax",
        ("logit", "l"),
        "Gumbel noise is added to one logit for each category; the sum is divided by the temperature and "
        "goes through a softmax. Also known as the Concrete distribution. Its KL has no closed form.",
        largest_delta=None,
    ),
    "igr-sb": Kind(
        "IGR-SB, lengths",
        ("mean", "μ"),
        "Gaussian numbers break a stick, one piece for each category but the last. The lengths of the "
        "pieces, between 0 and 1, are divided by the temperature and go through the softmax. The last "
        "category has no piece, and never wins.",
        least=3,
        largest_delta=1.0,
    ),
    "igr-sb-log": Kind(
        "IGR-SB, log-ratios",
        ("mean", "μ"),
        "The same stick, but the logarithm of each piece against what remains of the stick goes through the "
        "softmax. What remains is the piece of the last category, so every category can win.",
    ),
    "igr-planar": Kind(
        "IGR-Planar",
        ("mean", "μ"),
        "The Gaussian numbers are bent by four planar layers, a flow that would be trained in a model, "
        "before they go through the softmax. With more than two categories its discrete law is known from "
        "draws only.",
    ),
}
DEFAULT = "igr"

MOST_CATEGORIES = 10
PARAMETERS = (-5.0, 5.0)
SCALES = (0.1, 3.0)
TEMPERATURES = (0.01, 10.0)
SAMPLES = (100, 5000)
SEEDS = (0, 9999)
STRENGTHS = (0.0, 3.0)

# Of (0.5, 0.3, 0.2), about.
_LOC = (0.32, -0.09)


@dataclass(frozen=True)
class Settings:
    """One state of the page.

    Arguments:
        family: A key of :data:`KINDS`.
        num_categories: K.
        parameters: The K logits, or the K - 1 means.
        scale: The standard deviation of every Gaussian; Gumbel-Softmax has none.
        temperature: The temperature.
        delta: The weight of the last category in the softmax; Gumbel-Softmax has none.
        num_samples: How many points are drawn.
        seed: Of their noise.
        flow_seed: Of the planar layers.
        strength: How far the planar layers are from their start.

    Raises:
        UserError: for anything that the page has no control for.
    """

    family: str = DEFAULT
    num_categories: int = 3
    parameters: tuple[float, ...] = _LOC
    scale: float = 1.0
    temperature: float = 0.5
    delta: float = 1.0
    num_samples: int = 1000
    seed: int = 0
    flow_seed: int = 0
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.family not in tuple(KINDS):
            raise unknown_name("the law", self.family, KINDS)
        _check("the number of categories", self.num_categories, self.kind.least, MOST_CATEGORIES, whole=True)
        if len(self.parameters) != self.num_parameters:
            raise UserError(
                f"expected {self.num_parameters} parameters of {self.kind.title} with {self.num_categories} "
                f"categories; got {len(self.parameters)}; give one for each"
            )
        name, symbol = self.kind.parameter
        for number, value in enumerate(self.parameters, start=1):
            _check(f"the {name} {symbol}{number}", value, *PARAMETERS)
        _check("the scale", self.scale, *SCALES)
        _check("the temperature", self.temperature, *TEMPERATURES)
        _check("delta", self.delta, LEAST_DELTA, self.kind.largest_delta or MOST_DELTA)
        _check("the number of points", self.num_samples, *SAMPLES, whole=True)
        _check("the seed of the noise", self.seed, *SEEDS, whole=True)
        _check("the seed of the flow", self.flow_seed, *SEEDS, whole=True)
        _check("the strength of the flow", self.strength, *STRENGTHS)

    @property
    def kind(self) -> Kind:
        """What the page says of the law."""
        return KINDS[self.family]

    @property
    def num_parameters(self) -> int:
        """How many parameters the law has."""
        return num_parameters(self.family, self.num_categories)

    @property
    def is_exact(self) -> bool:
        """Whether the discrete law is known exactly."""
        return self.family != "igr-planar" or self.num_categories == 2

    @property
    def has_closed_kl(self) -> bool:
        """Whether the KL of the relaxed laws to the uniform prior of the page has a closed form."""
        return self.family in ("igr", "igr-sb") or (self.family == "igr-sb-log" and self.delta == 1.0)


def num_parameters(family: str, num_categories: int) -> int:
    """The parameters of a law: Gumbel-Softmax has one for the last category too."""
    return num_categories - (family != "gumbel-softmax")


def _check(what: str, value: object, low: float, high: float, whole: bool = False) -> None:
    good = isinstance(value, int) if whole else isinstance(value, int | float)
    if not (good and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high):  # type: ignore[arg-type,operator]
        kind = "a whole number" if whole else "a number"
        raise UserError(
            f"expected {what} to be {kind} from {low:g} to {high:g}; got {shown(value)}; move it there"
        )
