"""The runs that studies have in common: data sets, networks and latents, tuned, repeated and evaluated."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from igr.data import SOURCES
from igr.evaluation import Estimate, Evaluation, Row
from igr.evaluation.ranking import best
from igr.studies.study import StudyConfig
from igr.sweeps import EvaluationSettings, Group
from igr.tables import Measured

# The seeds of the paper's experiments.
SEEDS = (5328, 5945, 8965, 49, 9337)

TITLES: Mapping[str, str] = {
    "gumbel-softmax": "GS",
    "bernoulli": "Bernoulli",
    "igr": "IGR-I",
    "igr-planar": "IGR-Planar",
    "igr-sb": "IGR-SB",
    "igr-sb-log": "IGR-SB (log)",
    "igr-sb-truncated": "IGR-SB (truncated)",
    "gaussian": "Gaussian",
    "dlgmm": "Kumaraswamy",
    "dlgmm-truncated": "Kumaraswamy (truncated)",
    "dlgmm-igr": "IGR",
    "dlgmm-igr-truncated": "IGR (truncated)",
}


@dataclass(frozen=True)
class GridConfig(StudyConfig):
    """What is trained, for how long, and how it is repeated."""

    seed: int = 0
    """Fixes the noise of evaluations; training has seeds of its own."""

    data: tuple[str, ...] = ("mnist",)
    """The data sets."""

    networks: tuple[str, ...] = ()
    """The networks."""

    latents: tuple[str, ...] = ()
    """The latents."""

    learning_rates: tuple[float, ...] = (1e-3,)
    """Learning rates of Adam."""

    seeds: tuple[int, ...] = SEEDS
    """Seeds of training."""

    epochs: int = 100
    """Passes over the training images."""

    batch_size: int = 100
    """Images per step."""

    max_images: int | None = None
    """Use only the first so many images of each split; None uses all."""

    eval_every: int = 10
    """Epochs between two validation figures."""

    @abstractmethod
    def names(self) -> Mapping[str, Collection[str]]:
        """The names that settings of several may have, by setting."""

    @abstractmethod
    def numbers(self) -> Sequence[str]:
        """Settings of several numbers above zero."""

    @abstractmethod
    def tuned_axes(self) -> Mapping[str, str]:
        """The settings of which one value is chosen for each row, and what they are called."""

    @abstractmethod
    def groups(self) -> list[Group]:
        """What is trained; it checks what only the configs of the runs can tell."""

    @property
    def run_settings(self) -> dict[str, Any]:
        """What the configs of all runs have in common; each has the first of the seeds."""
        return {
            "max_images": self.max_images,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seeds[0],
            "eval_every": self.eval_every,
            # A process that is killed loses no more than an epoch.
            "checkpoint_every": 1,
            # Event files of hundreds of runs would help nobody.
            "tensorboard": False,
        }

    def tuned_by(self, num_samples: int) -> str:
        """A sentence about what was chosen, and how, by so many samples of each validation image."""
        axes = {**self.tuned_axes(), "learning_rates": "learning rate"}
        several = list(dict.fromkeys(name for axis, name in axes.items() if len(getattr(self, axis)) > 1))
        if not several:
            return "Nothing was tuned: every latent has one temperature, and one learning rate."
        verb = "was" if len(several) == 1 else "were"
        return (
            f"Where a row had several to choose from, its {' and '.join(several)} {verb} chosen by its bound "
            f"on the validation split ({num_samples} samples an image), with the first of "
            f"{len(self.seeds)} seeds; the others were then run with that choice."
        )

    def check(self) -> None:
        super().check()
        for key, known in {"data": SOURCES, **self.names()}.items():
            values = getattr(self, key)
            good = bool(values) and {*values} <= {*known} and len({*values}) == len(values)
            self.require(key, good, f"some of {', '.join(known)}, each once")
        for key in ("learning_rates", *self.numbers()):
            values = getattr(self, key)
            good = bool(values) and min(values) > 0 and len({*values}) == len(values)
            self.require(key, good, "different numbers above 0")
        distinct = len({*self.seeds}) == len(self.seeds)
        good = bool(self.seeds) and min(self.seeds) >= 0 and distinct
        self.require("seeds", good, "different whole numbers of at least 0")
        self.groups()


def evaluations(row: Row) -> list[Evaluation]:
    """What the runs of a row were found to reach, by ascending seed."""
    return [run.measured for run in row.runs]


def ranked(
    rows: Sequence[Row], figure: Callable[[Row], Estimate | None], sign: float = 1.0
) -> list[Measured | None]:
    """A bound of each row, those marked that are the highest as far as seeds can tell.

    Arguments:
        rows: Rows that may be ranked among one another.
        figure: The bound of a row, where it has one.
        sign: What it is shown with, minus one for its negative.
    """
    found = {place: one for place, row in enumerate(rows) if (one := figure(row)) is not None}
    leaders = best(found) if all(row.num_seeds > 1 for row in rows) else ()
    return [
        Measured(sign * found[place].value, found[place].standard_error, place in leaders)
        if place in found
        else None
        for place in range(len(rows))
    ]


@dataclass(frozen=True)
class Tested:
    """How the runs of a study are evaluated: what a grid has besides, where its runs are."""

    num_eval_samples: int = 1000
    """Latent samples per image in the bounds on the test split."""

    validation_samples: int = 100
    """The same on the validation split, by which is chosen."""

    max_eval_images: int | None = None
    """Evaluate on the first so many images only; None: on all."""

    def settings_with(self, seed: int) -> EvaluationSettings:
        """The same for a sweep."""
        return EvaluationSettings(
            num_samples=self.num_eval_samples,
            validation_samples=self.validation_samples,
            max_images=self.max_eval_images,
            seed=seed,
        )
