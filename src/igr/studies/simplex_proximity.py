"""How close to the vertices points of a relaxation lie, by temperature."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Generator

from igr import plot
from igr.diagnostics import vertex_distance
from igr.distributions.relaxation import SimplexRelaxation
from igr.fitting import calibrate_temperature, uniform_prior
from igr.studies.report import Picture, Report, Table
from igr.studies.study import Findings, Item, Record, Study, StudyConfig, Work

FAMILIES = ("gumbel-softmax", "igr", "igr-planar", "igr-sb", "igr-sb-log")
LEVELS = (0.05, 0.1, 0.2, 0.25, 0.5, 0.75, 0.9, 0.95)
# Temperatures of the tables, in the study beside its grid.
SHOWN = (0.05, 0.1, 0.25, 0.5, 0.67, 1.0)
# Close to discrete: so large a share of the points lies within this distance of a vertex.
NEAR = 0.2
SHARE = 0.75
MOST_BOXES = 12
YLABEL = "Euclidean distance\nto the nearest vertex"


@dataclass(frozen=True)
class SimplexProximityConfig(StudyConfig):
    """Which laws are looked at, at which temperatures."""

    num_categories: int = 50
    """Categories of every law."""

    num_samples: int = 10_000
    """Points of each law; all its temperatures share their noise."""

    num_temperatures: int = 100
    """Temperatures, equally spaced; those of the tables are added."""

    lowest_temperature: float = 0.05
    """The lowest temperature."""

    highest_temperature: float = 1.0
    """The highest temperature."""

    planar_iterations: int = 1000
    """Steps of the fit that makes the law of igr-planar nearly uniform."""

    def check(self) -> None:
        super().check()
        # In length space the last category never wins, and two would leave one.
        self.require("num_categories", self.num_categories >= 3, "a whole number of at least 3")
        self.require("num_samples", self.num_samples >= 1, "a whole number of at least 1")
        self.require("num_temperatures", self.num_temperatures >= 2, "a whole number of at least 2")
        self.require("lowest_temperature", 0 < self.lowest_temperature < math.inf, "a finite number above 0")
        self.require(
            "highest_temperature",
            self.lowest_temperature < self.highest_temperature < math.inf,
            "a finite number above lowest_temperature",
        )
        self.require("planar_iterations", self.planar_iterations >= 1, "a whole number of at least 1")

    def grid(self) -> list[float]:
        """The equally spaced temperatures."""
        grid: list[float] = np.linspace(
            self.lowest_temperature, self.highest_temperature, self.num_temperatures
        ).tolist()
        return grid

    def temperatures(self) -> list[float]:
        """The grid and those of the tables that lie within it, from the lowest to the highest."""
        within = (one for one in SHOWN if self.lowest_temperature <= one <= self.highest_temperature)
        return sorted({*self.grid(), *within})


def items(config: SimplexProximityConfig) -> list[Item]:
    """One for each family."""
    return [Item(family, partial(_distances, config, family)) for family in FAMILIES]


def _distances(config: SimplexProximityConfig, family: str, work: Work) -> Record:
    temperatures = config.temperatures()
    law = uniform_prior(
        config.num_categories,
        family,
        temperature=1.0,
        seed=config.seed,
        num_iterations=config.planar_iterations if family == "igr-planar" else None,
    )
    quantiles, within = [], []
    with torch.no_grad():
        noise = law.draw_noise((config.num_samples,), work.generator)
        for temperature in temperatures:
            distance = vertex_distance(law.with_temperature(temperature).rsample_log(noise=noise)).numpy()
            quantiles.append(np.quantile(distance.astype(np.float64), LEVELS).tolist())
            within.append(float((distance <= NEAR).mean()))
        near = calibrate_temperature(
            law, NEAR, SHARE, num_samples=config.num_samples, generator=work.generator
        )
        effective = _effective_categories(law, config, work.generator)
    return {
        "temperatures": temperatures,
        "levels": LEVELS,
        "quantiles": quantiles,
        "within": within,
        "near_temperature": near,
        "effective_categories": effective,
    }


def _effective_categories(
    law: SimplexRelaxation, config: SimplexProximityConfig, generator: Generator
) -> float:
    """How many equally likely categories would have the entropy of the discrete law: K if it is uniform."""
    try:
        discrete = law.discrete()
    except NotImplementedError:
        discrete = law.discrete("monte_carlo", num_samples=config.num_samples, generator=generator)
    return discrete.entropy().exp().item()


def report(config: SimplexProximityConfig, findings: Findings) -> Report:
    """Quantiles at some temperatures, the temperature of nearly discrete points, boxes and medians."""
    records = findings.records
    return Report(
        tables=[_near_table(records), *(_quantile_table(family, records[family]) for family in FAMILIES)],
        pictures=[_boxes(config, records), _medians(config, records)],
        about=(
            f"{config.num_samples:,} points of each law on the simplex of {config.num_categories} categories "
            "and their Euclidean distance to the nearest vertex, the one-hot vector that stands for them "
            "where the law is used as a discrete one. It is 0 at a vertex and "
            f"{_centre(config):.3f} at the centre. The discrete laws are uniform, that of igr-planar nearly, "
            "and that of igr-sb over all categories but the last, which never wins in length space. All "
            "temperatures of a law see the same noise. The Gaussians have scale 1, from which only those of "
            "igr-planar are fitted away. "
            "Temperatures of different families are no common measure: each reaches the same closeness at "
            "its own, which is in the first table."
        ),
    )


def _near_table(records: Mapping[str, Record]) -> Table:
    return Table(
        name="near",
        title=f"Temperature at which {SHARE:.0%} of the points lie within {NEAR:g} of a vertex",
        columns={"family": "", "temperature": ".4f", "effective categories": ".1f"},
        rows=[
            (family, records[family]["near_temperature"], records[family]["effective_categories"])
            for family in FAMILIES
        ],
        notes=[
            "Effective categories are exp of the entropy of the discrete law, as many as there are "
            "categories where it is uniform, and one less for igr-sb. No exact law is known of igr-planar: "
            "they are estimated, and a little low."
        ],
    )


def _quantile_table(family: str, record: Record) -> Table:
    temperatures = record["temperatures"]
    # All of them where none is one of the usual ones.
    chosen = [i for i, one in enumerate(temperatures) if one in SHOWN] or range(len(temperatures))
    levels = (0.1, 0.2, 0.25, 0.5, 0.75)
    rows = []
    for i in chosen:
        quantiles = dict(zip(record["levels"], record["quantiles"][i], strict=True))
        spread = quantiles[0.75] - quantiles[0.25]
        rows.append((temperatures[i], *(quantiles[one] for one in levels), spread, record["within"][i]))
    headings = ["median" if one == 0.5 else f"{one:.0%}" for one in levels]
    return Table(
        name=f"distance-{family}",
        title=f"{family}: quantiles of the distance to the nearest vertex",
        columns={
            "temperature": ".2f",
            **dict.fromkeys([*headings, "75% less 25%"], ".4f"),
            f"share within {NEAR:g}": ".1%",
        },
        rows=rows,
    )


def _boxes(config: SimplexProximityConfig, records: Mapping[str, Record]) -> Picture:
    grid = config.grid()
    drawn = [grid[i] for i in _spread(len(grid), MOST_BOXES)]
    figure, panels = plot.new_figure(11, 6, len(FAMILIES) + 1, num_rows=2)
    for position, (axes, family) in enumerate(zip(panels, FAMILIES, strict=False)):
        record = records[family]
        chosen = [record["temperatures"].index(temperature) for temperature in drawn]
        plot.distance_boxes(
            axes,
            [record["temperatures"][i] for i in chosen],
            [[_level(record, level)[i] for level in plot.BOX_LEVELS] for i in chosen],
            largest=_centre(config),
            title=family,
            position=position,
        )
        axes.set_xlabel("temperature")
        axes.set_ylabel(YLABEL if position in (0, 3) else "")
    plot.box_key(panels[-1])
    return Picture(
        name="boxes",
        caption=(
            f"Distance of {config.num_samples:,} points to the nearest vertex by temperature, for "
            f"{config.num_categories} categories: {len(drawn)} of the {len(grid)} temperatures. Boxes hold "
            "the middle half of the points, with a line at the median; whiskers reach from the 5% to the 95% "
            "point. The dotted line is the centre of the simplex."
        ),
        figure=figure,
    )


def _medians(config: SimplexProximityConfig, records: Mapping[str, Record]) -> Picture:
    figure, (axes,) = plot.new_figure(7, 5)
    bands = [
        plot.Band(
            family,
            records[family]["temperatures"],
            *(_level(records[family], level) for level in (0.25, 0.5, 0.75)),
        )
        for family in FAMILIES
    ]
    plot.quantile_bands(axes, bands, xlabel="temperature", ylabel=YLABEL)
    axes.set_ylim(-0.02, 1.02 * _centre(config))
    return Picture(
        name="medians",
        caption=(
            f"Median distance of {config.num_samples:,} points to the nearest vertex by temperature, for "
            f"{config.num_categories} categories. The bands hold the middle half of the points."
        ),
        figure=figure,
    )


def _level(record: Record, level: float) -> list[float]:
    """The quantile of this level at every temperature."""
    column = record["levels"].index(level)
    return [row[column] for row in record["quantiles"]]


def _centre(config: SimplexProximityConfig) -> float:
    """The distance of the centre of the simplex, the largest that there is."""
    return math.sqrt(1 - 1 / config.num_categories)


def _spread(number: int, most: int) -> list[int]:
    """At most so many indices, evenly spread from the first to the last."""
    return sorted({round(i) for i in np.linspace(0, number - 1, min(number, most))})


STUDY = Study(
    name="simplex-proximity",
    summary="distance of points to the nearest vertex of the simplex, by temperature and family",
    config=SimplexProximityConfig,
    smoke=SimplexProximityConfig(
        num_categories=10, num_samples=500, num_temperatures=12, planar_iterations=20
    ),
    items=items,
    report=report,
)
