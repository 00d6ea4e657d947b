"""The runs that the studies of VAEs have in common: data sets, networks and latents, tuned and repeated."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from igr.models.latents import GAUSSIAN, LATENTS
from igr.models.networks import NETWORKS
from igr.studies.grid import GridConfig, Tested
from igr.sweeps import EvaluationSettings, Group
from igr.training.checks import KLS
from igr.training.config import CONTINUOUS_DIM, TrainConfig

# The law of a pixel of each data set, as in the paper; the others are binary images.
LIKELIHOODS = {"fmnist": "normal", "celeba": "normal"}
# What the settings of temperatures are called, by latent; the others have those of IGR.
TEMPERATURES = {
    "gumbel-softmax": "gumbel_temperatures",
    "igr-sb": "stick_temperatures",
    "igr-sb-truncated": "stick_temperatures",
    "bernoulli": "gumbel_temperatures",
}


@dataclass(frozen=True)
class RunsConfig(GridConfig):
    """What VAEs are trained, for how long, and how it is repeated."""

    data: tuple[str, ...] = ("mnist", "fmnist", "omniglot")
    """The data sets."""

    networks: tuple[str, ...] = ("dense_nonlinear",)
    """The networks."""

    latents: tuple[str, ...] = ("gumbel-softmax", "igr", "igr-planar", "igr-sb")
    """The latents."""

    kls: tuple[str, ...] = ("relaxed",)
    """The KLs that are trained, of those that a latent has: relaxed, discrete."""

    num_variables: int = 20
    """Variables."""

    num_categories: int = 10
    """Categories of each variable."""

    most_categories: int = 50
    """The same of igr-sb-truncated, which takes as many as a batch needs."""

    continuous_dim: int | None = None
    """Dimensions of a Gaussian latent; None: 10 (of a JointVAE of celeba 32)."""

    gumbel_temperatures: tuple[float, ...] = (0.1, 0.3, 0.5, 0.67, 0.85, 1.0, 1.11, 1.25)
    """Temperatures of Gumbel-Softmax."""

    igr_temperatures: tuple[float, ...] = (0.03, 0.07, 0.1, 0.15, 0.25, 0.5, 0.67)
    """Temperatures of IGR-I, IGR-Planar and IGR-SB in log space."""

    stick_temperatures: tuple[float, ...] = (0.03, 0.07, 0.1, 0.15, 0.25, 0.5, 0.67)
    """Temperatures of IGR-SB in length space, truncated or not, which comes less close to a vertex."""

    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    """Learning rates of Adam."""

    epochs: int = 300
    """Passes over the training images."""

    def sizes(self, latent: str) -> tuple[int, int]:
        """How many variables a categorical latent has, and how many categories each."""
        counts = {"igr-sb-truncated": self.most_categories, "bernoulli": 2}
        return self.num_variables, counts.get(latent, self.num_categories)

    def names(self) -> Mapping[str, Collection[str]]:
        return {"networks": NETWORKS, "latents": (*LATENTS, GAUSSIAN), "kls": KLS}

    def numbers(self) -> Sequence[str]:
        return "gumbel_temperatures", "igr_temperatures", "stick_temperatures"

    def tuned_axes(self) -> Mapping[str, str]:
        latents = [latent for latent in self.latents if latent != GAUSSIAN]
        return {TEMPERATURES.get(latent, "igr_temperatures"): "temperature" for latent in latents}

    def groups(self) -> list[Group]:
        return vae_groups(self)


@dataclass(frozen=True)
class VaeConfig(Tested, RunsConfig):
    """What is trained, for how long, and how it is tuned, repeated and evaluated.

    Of several temperatures and learning rates those with the highest validation bound are taken, with the
    first of the seeds.
    """

    @property
    def tuned(self) -> str:
        """A sentence about what was chosen, and how."""
        return self.tuned_by(self.validation_samples)

    @property
    def evaluation(self) -> EvaluationSettings:
        """How the runs are evaluated."""
        return self.settings_with(self.seed)


# How the runs of a study are trained: settings by the endings of the names of their groups. A temperature
# among them is the only one, and None that of the latent.
Forms = Mapping[str, Mapping[str, Any]]
RELAXED: Forms = {"": {}}
STRAIGHT_THROUGH: Forms = {"": {}, "-st": {"straight_through": True}}


def vae_groups(
    config: RunsConfig,
    forms: Forms = RELAXED,
    tested: bool = True,
    has: Callable[[str, str], bool] = lambda latent, ending: True,
) -> list[Group]:
    """One group for each data set, network, latent, KL that there is, and form.

    Arguments:
        config: The settings.
        forms: The forms in which each categorical latent is trained.
        tested: Whether the runs are evaluated on the test split.
        has: Whether a latent has the form with that ending.
    """
    groups = []
    for data, network, latent in itertools.product(config.data, config.networks, config.latents):
        if latent == GAUSSIAN:
            dim = config.continuous_dim or CONTINUOUS_DIM
            shared: dict[str, Any] = {"latent": latent, "continuous_dim": dim}
            candidates = tuple(_candidates(config, data, network, shared, (None,)))
            groups.append(Group(f"{data}-{network}-{latent}", candidates, config.seeds, tested=tested))
            continue
        num_variables, num_categories = config.sizes(latent)
        temperatures = getattr(config, TEMPERATURES.get(latent, "igr_temperatures"))
        for kl, (ending, form) in itertools.product(config.kls, forms.items()):
            if kl not in LATENTS[latent].kls or not has(latent, ending):
                continue
            shared = {
                "latent": latent,
                "num_variables": num_variables,
                "num_categories": num_categories,
                "kl": kl,
                **{key: value for key, value in form.items() if key != "temperature"},
            }
            tried = (form["temperature"],) if "temperature" in form else temperatures
            candidates = tuple(_candidates(config, data, network, shared, tried))
            key = f"{data}-{network}-{latent}-{kl}{ending}"
            groups.append(Group(key, candidates, config.seeds, tested=tested))
    return groups


def _candidates(
    config: RunsConfig,
    data: str,
    network: str,
    shared: Mapping[str, Any],
    temperatures: Sequence[float | None],
) -> Iterator[TrainConfig]:
    for temperature, learning_rate in itertools.product(temperatures, config.learning_rates):
        yield TrainConfig(
            **shared,
            data=data,
            network=network,
            likelihood=LIKELIHOODS.get(data, "bernoulli"),
            temperature=temperature,
            learning_rate=learning_rate,
            **config.run_settings,
        ).resolved()
