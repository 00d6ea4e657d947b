"""The settings of structured output prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from igr.data import SOURCES
from igr.errors import UserError
from igr.models.sop import BINARY_LATENTS, NETWORKS
from igr.training.run_config import (
    FINITE_POSITIVE,
    MOST_LAYERS,
    RunConfig,
    at_least,
    between,
    check_choices,
    check_device,
    check_ranges,
)

# What an open setting of a latent becomes.
_DEFAULTS = {"scale": "fixed", "flow_layers": 2}
SCALES = ("fixed", "free")


@dataclass(frozen=True)
class SOPConfig(RunConfig):
    """What predicts the lower half of an image from the upper one, on what, and for how long."""

    model: ClassVar[str] = "sop"
    likelihood: ClassVar[str] = "bernoulli"
    told: ClassVar[tuple[str, ...]] = ("latent", "straight_through")
    quantity: ClassVar[str] = "log p(lower half | upper half)"
    bound_names: ClassVar[Mapping[str, str]] = {
        "relaxed_elbo": "relaxed, 1 sample",
        "discrete_elbo": "discrete, 1 sample",
        "importance_weighted": "discrete, all samples",
    }
    about_bounds: ClassVar[str | None] = (
        "All bound log p(lower half | upper half): the first that of the relaxed model, whose units lie "
        "between -1 and 1 (a mean over 100 of the samples at most), the others that of the discrete one, by "
        "a mean of logarithms, which is a bound by a single sample, and by the logarithm of a mean over all "
        "samples, whose negative papers call the negative log-likelihood."
    )

    network: str = "double_linear"
    """The layers of units: double_linear, triple_linear, nonlinear (two, each after a layer of tanh)."""

    latent: str = "igr"
    """The law of a unit: igr, igr-planar, or gumbel-softmax. There is no binary igr-sb."""

    temperature: float | None = None
    """Temperature of all layers; None: 1, as in the paper's experiments."""

    num_samples: int | None = None
    """Samples per image in the bound that is trained; None: 1 (the paper has 1, 5 and 50)."""

    num_eval_samples: int = 1000
    """Samples per image that `igr evaluate` takes if it is not told otherwise."""

    num_units: int = 240
    """Binary units of each layer."""

    scale: str | None = None
    """Scale of the Gaussians (igr, igr-planar): fixed at 1, or free; None: fixed."""

    flow_layers: int | None = None
    """Planar layers of each unit (igr-planar), at most 1,000; None: 2."""

    straight_through: bool = False
    """Units are -1 or 1 in training, with the gradient of the relaxed ones."""

    learning_rate_decay: float = 1e-3
    """The learning rate of step t is that of the start over 1 + t times this; 0 keeps it."""

    min_learning_rate: float = 1e-4
    """The learning rate does not fall below this."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of whole images."""
        return SOURCES[self.data].image_shape

    @property
    def least_parameters(self) -> int:
        # Between two layers of units, and from and to at least 32 pixels.
        return self.num_units**2 + 64 * self.num_units + 3 * (self.flow_layers or 0)

    def resolved(self) -> Self:
        self._check()
        options = BINARY_LATENTS[self.latent].options
        own = {name: value for name, value in _DEFAULTS.items() if name in options}
        return self.filled({**own, "temperature": 1.0, "num_samples": 1})

    @property
    def run_name(self) -> str:
        parts = ["sop", self.data, self.network, self.latent]
        parts += ["free"] if self.scale == "free" else []
        parts += ["st"] if self.straight_through else []
        return "-".join([*parts, f"n{self.num_samples}", f"t{self.temperature:g}", f"s{self.seed}"])

    @property
    def described(self) -> str:
        ending = " straight-through" if self.straight_through else ""
        return f"structured output prediction with {self.latent}{ending}"

    def warnings(self) -> list[str]:
        if self.scale == "free" and not self.straight_through:
            return [
                "scale free lets the units lose their noise at no cost, and the discrete model, which is the "
                "one evaluated, then collapses; use scale fixed, or straight_through"
            ]
        return []

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        decayed = self.learning_rate / (1.0 + self.learning_rate_decay * step)
        return max(decayed, min(self.min_learning_rate, self.learning_rate))

    def _check(self) -> None:
        if self.latent.startswith("igr-sb"):
            raise UserError(
                f"expected a law of binary units, {', '.join(BINARY_LATENTS)}; got {self.latent}; with two "
                "categories the one stick always wins, or in log space changes nothing, so use igr"
            )
        check_choices(self, {"network": NETWORKS, "latent": BINARY_LATENTS, "scale": SCALES})
        check_ranges(
            self,
            {
                "num_units": at_least(1),
                "flow_layers": between(1, MOST_LAYERS),
                "learning_rate_decay": (lambda value: 0 <= value < float("inf"), "a number of at least 0"),
                "min_learning_rate": FINITE_POSITIVE,
            },
        )
        for name in _DEFAULTS:
            value = getattr(self, name)
            if value is not None and name not in BINARY_LATENTS[self.latent].options:
                raise UserError(
                    f"expected no {name} with the latent {self.latent}, which has none; got {value}; leave "
                    f"{name} out"
                )
        check_device(self)
