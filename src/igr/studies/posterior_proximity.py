"""How far posterior samples of trained models are from the vertices, as trained and when calibrated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from igr import plot
from igr.evaluation import calibrate, posterior_samples
from igr.models.latents import GAUSSIAN
from igr.studies.grid import TITLES
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Item, Record, Study, Work
from igr.studies.vae_grid import RunsConfig, vae_groups
from igr.sweeps import Group
from igr.training.runs import load_run


@dataclass(frozen=True)
class PosteriorProximityConfig(RunsConfig):
    """What is trained, for how long, and how its posteriors are sampled."""

    data: tuple[str, ...] = ("mnist",)
    """The data sets."""

    gumbel_temperatures: tuple[float, ...] = (0.67,)
    """The temperature of Gumbel-Softmax in training."""

    igr_temperatures: tuple[float, ...] = (0.15,)
    """The same of IGR-I, IGR-Planar and IGR-SB in log space."""

    stick_temperatures: tuple[float, ...] = (0.15,)
    """The same of IGR-SB in length space."""

    learning_rates: tuple[float, ...] = (1e-3,)
    """The learning rate of Adam."""

    seeds: tuple[int, ...] = (5328,)
    """The seed of training."""

    epochs: int = 100
    """Passes over the training images."""

    max_test_images: int | None = None
    """Sample for the first so many test images only; None: for all."""

    samples_per_image: int = 100
    """Posterior samples of each variable for each test image."""

    distance: float = 0.2
    """The distance to the nearest vertex that the temperature is calibrated to."""

    quantile: float = 0.75
    """The share of samples that lies within it at the calibrated temperature."""

    def check(self) -> None:
        super().check()
        self.require("seeds", len(self.seeds) == 1, "one seed")
        for key in ("gumbel_temperatures", "igr_temperatures", "stick_temperatures", "learning_rates"):
            self.require(key, len(getattr(self, key)) == 1, "one number")
        self.require("latents", GAUSSIAN not in self.latents, "categorical ones")
        good = self.max_test_images is None or self.max_test_images >= 1
        self.require("max_test_images", good, "a whole number of at least 1")
        self.require("samples_per_image", self.samples_per_image >= 1, "a whole number of at least 1")
        self.require("distance", 0 < self.distance < 1, "a number between 0 and 1")
        self.require("quantile", 0 < self.quantile < 1, "a number between 0 and 1")


def groups(config: PosteriorProximityConfig) -> list[Group]:
    """What is trained; no bound is asked for."""
    return vae_groups(config, tested=False)


def items(config: PosteriorProximityConfig) -> list[Item]:
    """One for each model."""
    return [Item(group.key, partial(_measure, config, group.key)) for group in groups(config)]


def _measure(config: PosteriorProximityConfig, key: str, work: Work) -> Record | None:
    chosen = work.runs.chosen(key)
    if not chosen:
        return None
    run = load_run(work.runs.path(chosen[0]), data_dir=chosen[0].config.data_dir)
    found = calibrate(
        run,
        distance=config.distance,
        quantile=config.quantile,
        num_samples=config.samples_per_image,
        max_images=config.max_test_images,
        seed=config.seed,
    )
    samples = posterior_samples(
        run,
        split="test",
        num_samples=config.samples_per_image,
        max_images=config.max_test_images,
        seed=config.seed,
    )
    return {
        "data": run.config.data,
        "network": run.config.network,
        "latent": run.config.latent,
        "kl": run.config.kl,
        "trained_temperature": found.trained_temperature,
        "temperature": found.temperature,
        "trained_share": found.trained_share.value,
        "num_data": found.num_data,
        "trained_quantiles": samples.quantiles(found.trained_temperature, plot.BOX_LEVELS),
        "quantiles": samples.quantiles(found.temperature, plot.BOX_LEVELS),
    }


def report(config: PosteriorProximityConfig, findings: Findings) -> Report:
    """Temperatures and shares, and box plots of the distances."""
    records = list(findings.records.values())
    sets = list(dict.fromkeys((record["data"], record["network"], record["kl"]) for record in records))
    return Report(
        tables=[_table(config, records)],
        pictures=[
            _boxes(config, [one for one in records if (one["data"], one["network"], one["kl"]) == which])
            for which in sets
        ],
        about=_ABOUT.format(
            samples=config.samples_per_image,
            share=100 * config.quantile,
            distance=config.distance,
            epochs=config.epochs,
        ),
    )


_ABOUT = """Each model is trained for {epochs} epochs at one temperature. {samples} samples of every latent
variable are then drawn from the posterior of every test image, and the Euclidean distance of each to the
nearest vertex of the simplex is taken: once at the temperature of training, and once at the highest one at
which {share:g} % of the samples lie within {distance:g}. Only the temperature of the posterior is changed;
nothing is trained anew."""


def _table(config: PosteriorProximityConfig, records: Sequence[Record]) -> Table:
    rows: list[list[Cell]] = [
        [
            record["data"],
            record["network"],
            TITLES[record["latent"]],
            record["kl"],
            record["trained_temperature"],
            record["trained_share"],
            record["trained_quantiles"][2],
            record["temperature"],
            record["quantiles"][2],
        ]
        for record in records
    ]
    within = f"within {config.distance:g}"
    return Table(
        name="posterior-proximity",
        title="Distance of posterior samples to the nearest vertex",
        columns={
            "data": "",
            "network": "",
            "latent": "",
            "trained KL": "",
            "trained at": "g",
            f"share {within}": ".3f",
            "median": ".3g",
            f"calibrated ({config.quantile:g} {within})": ".3g",
            "median there": ".3g",
        },
        rows=rows,
        notes=[
            f"{config.samples_per_image} samples of each variable for each of {records[0]['num_data']:,} "
            f"test images; the largest distance, that of the centre, is {_largest(config):.3f}."
        ]
        if records
        else [],
    )


def _largest(config: PosteriorProximityConfig) -> float:
    """The distance from the centre of the simplex to a vertex."""
    return math.sqrt(1.0 - 1.0 / config.num_categories)


def _boxes(config: PosteriorProximityConfig, records: Sequence[Record]) -> Picture:
    first = records[0]
    figure, panels = plot.new_figure(9.5, 4.2, 3)
    forms = (
        ("trained_temperature", "trained_quantiles", "at the temperature of training"),
        ("temperature", "quantiles", "at the calibrated temperature"),
    )
    for axes, (temperature, quantiles, title) in zip(panels, forms, strict=False):
        plot.labelled_boxes(
            axes,
            [f"{TITLES[record['latent']]}\n{record[temperature]:.3g}" for record in records],
            [record[quantiles] for record in records],
            largest=_largest(config),
            mark=config.distance,
            title=title,
            ylabel="distance to the nearest vertex",
        )
        axes.set_xlabel("latent, and temperature")
    plot.box_key(panels[2])
    name = f"{first['data']}-{first['network']}-{first['kl']}"
    return Picture(
        name=f"distances-{name}",
        caption=(
            f"{first['data']}, {first['network']}, {first['kl']} KL: distances of posterior samples to the "
            f"nearest vertex. The dashed line is at {config.distance:g}."
        ),
        figure=figure,
    )


STUDY = Study(
    name="posterior-proximity",
    summary="distance of posterior samples to the vertices, as trained and at calibrated temperatures",
    config=PosteriorProximityConfig,
    small=PosteriorProximityConfig(epochs=20, eval_every=5, max_test_images=2000),
    smoke=PosteriorProximityConfig(
        data=("digits",),
        networks=("dense",),
        latents=("gumbel-softmax", "igr"),
        num_variables=4,
        num_categories=4,
        epochs=2,
        max_images=100,
        samples_per_image=5,
    ),
    groups=groups,
    items=items,
    report=report,
)
