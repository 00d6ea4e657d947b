"""Discrete VAEs trained with each gradient estimator."""

import statistics
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

from igr import plot
from igr.estimators import ESTIMATORS, by_name
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED
from igr.models.latents import LATENTS
from igr.studies.grid import TITLES
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Study
from igr.studies.toy import FAMILIES as TOY_FAMILIES
from igr.studies.vae_grid import Forms, VaeConfig, vae_groups
from igr.sweeps import Group
from igr.training.checks import fits
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder

# VIMCO belongs to the first family too; the toy problems have no place for it.
FAMILIES = {
    title: (
        *(name for name in names if name in ESTIMATORS),
        *(["vimco"] if "score_function" in names else []),
    )
    for title, names in TOY_FAMILIES.items()
}


@dataclass(frozen=True)
class EstimatorsConfig(VaeConfig):
    """What is trained, with which estimators, for how long, and how it is tuned, repeated and evaluated."""

    data: tuple[str, ...] = ("mnist",)
    """The data sets."""

    networks: tuple[str, ...] = ("dense_relax",)
    """The networks."""

    latents: tuple[str, ...] = ("gumbel-softmax", "igr", "bernoulli")
    """The latents, those with an exact discrete law."""

    kls: tuple[str, ...] = ("discrete",)
    """The KL that is trained: discrete, the only one of the discrete model."""

    estimators: tuple[str, ...] = tuple(ESTIMATORS)
    """The estimators, by the names of igr.estimators."""

    num_binary: int = 200
    """Variables of the latent bernoulli, which has two categories."""

    num_samples: int = 1
    """Latent samples per image in training; two where an estimator needs as many."""

    def sizes(self, latent: str) -> tuple[int, int]:
        num_variables, num_categories = super().sizes(latent)
        return self.num_binary if latent == "bernoulli" else num_variables, num_categories

    def check(self) -> None:
        good = (
            bool(self.estimators)
            and {*self.estimators} <= {*ESTIMATORS}
            and len({*self.estimators}) == len(self.estimators)
        )
        self.require("estimators", good, f"some of {', '.join(ESTIMATORS)}, each once")
        self.require("num_samples", self.num_samples >= 1, "a whole number of at least 1")
        self.require("kls", self.kls == ("discrete",), "discrete")
        super().check()
        known = [name for name, latent in LATENTS.items() if latent.has_exact_law() and latent.has_fixed_law]
        self.require("latents", {*self.latents} <= {*known}, f"some of {', '.join(known)}")
        groups(self)


def groups(config: EstimatorsConfig) -> list[Group]:
    """One for each data set, latent, and estimator that the latent has."""
    forms: Forms = {f"-{name}": _form(config, name) for name in config.estimators}

    def has(latent: str, ending: str) -> bool:
        return fits(ending.removeprefix("-"), latent, config.sizes(latent)[1])

    return vae_groups(config, forms, has=has)


def _form(config: EstimatorsConfig, name: str) -> dict[str, Any]:
    estimator = by_name(name)
    form = {"estimator": name, "num_samples": max(config.num_samples, estimator.least_samples)}
    # There is nothing to tune where the temperature has no part.
    return form if estimator.uses_temperature else {**form, "temperature": None}


def report(config: EstimatorsConfig, findings: Findings) -> Report:
    """A table for each data set, the same as pictures, and the curves of validation."""
    pictures = [
        _curves(findings, latent, title, names)
        for latent in config.latents
        for title, names in FAMILIES.items()
        if any(
            one.latent == latent and one.estimator in names
            for one in (cast(TrainConfig, run.config) for run in findings.runs.finished)
        )
    ]
    return Report(
        tables=[*findings.runs.comparison().tables(), _cost(config, findings)],
        pictures=[*(_bounds(findings, latent) for latent in config.latents), *pictures],
        about=_ABOUT.format(epochs=config.epochs, tuned=config.tuned, samples=config.num_samples),
    )


def _cost(config: EstimatorsConfig, findings: Findings) -> Table:
    """What an epoch takes with each estimator, and what those learned that learn something."""
    seconds: dict[tuple[str, str], float] = {}
    rows: list[list[Cell]] = []
    for group in groups(config):
        runs = findings.runs.chosen(group.key)
        if not runs:
            continue
        folders = [RunFolder(findings.runs.path(run)) for run in runs]
        trained = cast(TrainConfig, runs[0].config)
        latent, estimator = trained.latent, trained.estimator
        times = [line["seconds"] for folder in folders for line in folder.timings()]
        seconds[latent, estimator] = statistics.median(times)
        ends = [folder.metrics()[-1] for folder in folders]
        learned = [
            statistics.fmean(end[key] for end in ends) if key in ends[0] else None
            for key in ("estimator_temperature", "estimator_coefficient", "estimator_baseline")
        ]
        rows.append([TITLES[latent], estimator, trained.samples_per_image, *learned])
    for row, (latent, _), own in zip(rows, list(seconds), list(seconds.values()), strict=True):
        plain = seconds.get((latent, "pathwise"))
        row[3:3] = [own, own / plain if plain else None]
    return Table(
        name="cost",
        title="Seconds for an epoch of training, and what was learned beside the model",
        columns={
            "latent": "",
            "estimator": "",
            "samples": "d",
            "seconds": ".3g",
            "over pathwise": ".2f",
            "temperature": ".3f",
            "coefficient": ".3f",
            "constant": ".3f",
        },
        rows=rows,
        notes=[
            "Seconds are the median over epochs and seeds, each with its validation, while as many runs as "
            "the study had workers shared the machine. Temperature, coefficient and constant are of the "
            "control variate at the end, means over the seeds."
        ],
    )


def _bounds(findings: Findings, latent: str) -> Picture:
    """The bounds of one latent."""
    comparison = findings.runs.comparison(lambda config: config.latent == latent)
    return Picture(
        name=f"bounds-{latent}",
        caption=(
            f"{TITLES[latent]}: importance-weighted bounds on log p(x) of the discrete model, with the "
            "standard errors of the table. An arrow at the edge stands for a figure beyond it."
        ),
        figure=plot.bounds_figure(comparison, (IMPORTANCE_WEIGHTED,), titles=TITLES),
    )


def _curves(findings: Findings, latent: str, title: str, names: Collection[str]) -> Picture:
    """Validation over the epochs, of one latent and of a few estimators, so that they are told apart."""
    comparison = findings.runs.comparison(
        lambda config: config.latent == latent and config.estimator in names
    )
    return Picture(
        name=f"curves-{latent}-{title.split()[-1]}",
        caption=(
            f"{TITLES[latent]}, estimators {title}, on the validation split: the ELBO of the discrete model "
            "(with pathwise the training objective, which is no bound), the mean over the seeds and one "
            "standard error."
        ),
        figure=plot.grouped_figure(comparison),
    )


_ABOUT = """All rows train the discrete KL, in closed form from the exact law; they differ in how the gradient
of the log-likelihood reaches the encoder. The decoder meets vertices, so the objective is a lower bound on
log p(x) of the discrete model, except in the rows pathwise, whose decoder meets relaxed points. Of vimco the
objective is the tighter bound of two samples. Each step takes {samples} sample an image, where an estimator
needs two (vimco, leave one out) two, and disarm a pair. REBAR and RELAX learn their temperature, coefficient
and constant (the last table), RELAX a network of 50 units too, with the learning rate of the rest.

{tuned} Every run has {epochs} epochs."""

STUDY = Study(
    name="estimators-vae",
    summary="discrete VAEs trained with each gradient estimator: bounds on log p(x)",
    config=EstimatorsConfig,
    small=EstimatorsConfig(
        gumbel_temperatures=(0.67,),
        igr_temperatures=(0.4,),
        learning_rates=(1e-3,),
        seeds=(5328, 5945, 8965),
        epochs=5,
        eval_every=1,
        num_eval_samples=100,
        validation_samples=50,
        max_eval_images=2000,
    ),
    smoke=EstimatorsConfig(
        data=("digits",),
        num_variables=4,
        num_categories=3,
        num_binary=8,
        gumbel_temperatures=(0.67,),
        igr_temperatures=(0.4,),
        learning_rates=(1e-3,),
        seeds=(5328,),
        epochs=2,
        max_images=100,
        eval_every=1,
        num_eval_samples=5,
        validation_samples=5,
    ),
    groups=groups,
    evaluation=lambda config: config.evaluation,
    report=report,
)
