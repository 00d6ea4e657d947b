"""The runs that the studies of VAEs have in common: data sets, networks and latents, tuned and repeated."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from igr.data import SOURCES
from igr.models.latents import LATENTS
from igr.models.networks import NETWORKS
from igr.studies.study import StudyConfig
from igr.sweeps import EvaluationSettings, Group
from igr.training.config import KLS, TrainConfig

# The law of a pixel of each data set, as in the paper; the others are binary images.
LIKELIHOODS = {"fmnist": "normal", "celeba": "normal"}
# The seeds of the paper's experiments.
SEEDS = (5328, 5945, 8965, 49, 9337)
# What the settings of temperatures are called, by latent; the others have those of IGR.
TEMPERATURES = {"gumbel-softmax": "gumbel_temperatures", "igr-sb": "stick_temperatures"}

TITLES: Mapping[str, str] = {
    "gumbel-softmax": "GS",
    "igr": "IGR-I",
    "igr-planar": "IGR-Planar",
    "igr-sb": "IGR-SB",
    "igr-sb-log": "IGR-SB (log)",
    "igr-sb-truncated": "IGR-SB (truncated)",
    "gaussian": "Gaussian",
}


@dataclass(frozen=True)
class VaeConfig(StudyConfig):
    """What is trained, for how long, and how it is tuned, repeated and evaluated."""

    data: tuple[str, ...] = ("mnist", "fmnist", "omniglot")
    """The data sets."""

    networks: tuple[str, ...] = ("dense_nonlinear",)
    """The networks."""

    latents: tuple[str, ...] = ("gumbel-softmax", "igr", "igr-planar", "igr-sb")
    """The categorical latents."""

    kls: tuple[str, ...] = ("relaxed",)
    """The KLs that are trained, of those that a latent has: relaxed, discrete."""

    num_variables: int = 20
    """Variables."""

    num_categories: int = 10
    """Categories of each variable."""

    gumbel_temperatures: tuple[float, ...] = (0.1, 0.3, 0.5, 0.67, 0.85, 1.0, 1.11, 1.25)
    """Temperatures of Gumbel-Softmax; with several the one with the highest validation bound is taken."""

    igr_temperatures: tuple[float, ...] = (0.03, 0.07, 0.1, 0.15, 0.25, 0.5, 0.67)
    """Temperatures of IGR-I, IGR-Planar and IGR-SB in log space."""

    stick_temperatures: tuple[float, ...] = (0.03, 0.07, 0.1, 0.15, 0.25, 0.5, 0.67)
    """Temperatures of IGR-SB in length space, which needs lower ones to come as close to a vertex."""

    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    """Learning rates of Adam; chosen together with the temperature."""

    seeds: tuple[int, ...] = SEEDS
    """Seeds of training; temperature and learning rate are chosen with the first."""

    epochs: int = 300
    """Passes over the training images."""

    batch_size: int = 100
    """Images per step."""

    max_images: int | None = None
    """Use only the first so many images of each split; None uses all."""

    eval_every: int = 10
    """Epochs between two validation figures."""

    num_eval_samples: int = 1000
    """Latent samples per image in the bounds on the test split."""

    validation_samples: int = 100
    """The same on the validation split, by which is chosen."""

    max_eval_images: int | None = None
    """Evaluate on the first so many images only; None: on all."""

    def check(self) -> None:
        super().check()
        named: dict[str, Mapping[str, object] | tuple[str, ...]] = {
            "data": SOURCES,
            "networks": NETWORKS,
            "latents": LATENTS,
            "kls": KLS,
        }
        for key, known in named.items():
            values = getattr(self, key)
            good = bool(values) and {*values} <= {*known} and len({*values}) == len(values)
            self.require(key, good, f"some of {', '.join(known)}, each once")
        for key in ("gumbel_temperatures", "igr_temperatures", "stick_temperatures", "learning_rates"):
            values = getattr(self, key)
            good = bool(values) and min(values) > 0 and len({*values}) == len(values)
            self.require(key, good, "different numbers above 0")
        distinct = len({*self.seeds}) == len(self.seeds)
        good = bool(self.seeds) and min(self.seeds) >= 0 and distinct
        self.require("seeds", good, "different whole numbers of at least 0")
        # What is left is checked with the configs of the runs.
        vae_groups(self)

    @property
    def evaluation(self) -> EvaluationSettings:
        """How the runs are evaluated."""
        return EvaluationSettings(
            num_samples=self.num_eval_samples,
            validation_samples=self.validation_samples,
            max_images=self.max_eval_images,
            seed=self.seed,
        )


def vae_groups(config: VaeConfig, straight_through: bool = False) -> list[Group]:
    """One group for each data set, network, latent and KL that there is.

    Arguments:
        config: The settings.
        straight_through: Train each of them with straight-through samples as well.
    """
    groups = []
    forms = (False, True) if straight_through else (False,)
    for data, network, latent, kl, is_hard in itertools.product(
        config.data, config.networks, config.latents, config.kls, forms
    ):
        if kl in LATENTS[latent].kls:
            key = f"{data}-{network}-{latent}-{kl}{'-st' if is_hard else ''}"
            candidates = tuple(_candidates(config, data, network, latent, kl, is_hard))
            groups.append(Group(key, candidates, config.seeds))
    return groups


def _candidates(
    config: VaeConfig, data: str, network: str, latent: str, kl: str, is_hard: bool
) -> Iterator[TrainConfig]:
    temperatures = getattr(config, TEMPERATURES.get(latent, "igr_temperatures"))
    for temperature, learning_rate in itertools.product(temperatures, config.learning_rates):
        yield TrainConfig(
            data=data,
            max_images=config.max_images,
            network=network,
            likelihood=LIKELIHOODS.get(data, "bernoulli"),
            latent=latent,
            num_variables=config.num_variables,
            num_categories=config.num_categories,
            kl=kl,
            temperature=temperature,
            straight_through=is_hard,
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=learning_rate,
            seed=config.seeds[0],
            eval_every=config.eval_every,
            # A process that is killed loses no more than an epoch.
            checkpoint_every=1,
            num_eval_samples=config.num_eval_samples,
            # Event files of hundreds of runs would help nobody.
            tensorboard=False,
        ).resolved()
