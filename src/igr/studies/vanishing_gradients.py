"""How many gradients vanish over training, by latent and temperature."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from igr import plot
from igr.plot import Band
from igr.studies.grid import TITLES
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Study
from igr.studies.vae_grid import RunsConfig, vae_groups
from igr.sweeps import Group, Run
from igr.training.passes import VANISHES, VANISHING
from igr.training.run_folder import RunFolder

_KEY = f"train_{VANISHING}"


@dataclass(frozen=True)
class VanishingGradientsConfig(RunsConfig):
    """What is trained, for how long, and how it is repeated."""

    data: tuple[str, ...] = ("mnist",)
    """The data sets."""

    gumbel_temperatures: tuple[float, ...] = (0.1, 0.3, 0.67, 1.0)
    """Temperatures of Gumbel-Softmax."""

    igr_temperatures: tuple[float, ...] = (0.03, 0.07, 0.15, 0.5)
    """Temperatures of IGR-I, IGR-Planar and IGR-SB in log space."""

    stick_temperatures: tuple[float, ...] = (0.03, 0.07, 0.15, 0.5)
    """Temperatures of IGR-SB in length space."""

    learning_rates: tuple[float, ...] = (1e-3,)
    """The learning rate of Adam."""

    epochs: int = 100
    """Passes over the training images."""

    def check(self) -> None:
        super().check()
        self.require("data", len(self.data) == 1, "one data set")
        self.require("networks", len(self.networks) == 1, "one network")
        self.require("kls", len(self.kls) == 1, "one KL")
        self.require("learning_rates", len(self.learning_rates) == 1, "one number")


def groups(config: VanishingGradientsConfig) -> list[Group]:
    """Every temperature by itself: nothing is chosen."""
    return [
        dataclasses.replace(
            group,
            key=group.key if candidate.temperature is None else f"{group.key}-t{candidate.temperature:g}",
            candidates=(dataclasses.replace(candidate, track_gradients=True),),
        )
        for group in vae_groups(config, tested=False)
        for candidate in group.candidates
    ]


@dataclass(frozen=True)
class _Curve:
    """The share over the epochs, with the mean, lowest and highest of the seeds."""

    latent: str
    temperature: float | None
    num_seeds: int
    band: Band


def report(config: VanishingGradientsConfig, findings: Findings) -> Report:
    """The share over the epochs, one panel for each latent, and a table of its start and end."""
    curves = []
    for group in groups(config):
        runs = findings.runs.chosen(group.key)
        if runs:
            curves.append(_curve(runs, findings))
    return Report(
        tables=[_table(curves)],
        pictures=[_picture(config, curves)] if curves else [],
        about=_ABOUT.format(
            bound=f"{VANISHES:g}", epochs=config.epochs, seeds=len(config.seeds), kl=config.kls[0]
        ),
    )


_ABOUT = """For every step of training the share of all numbers in the gradient of the objective (with the
{kl} KL), with respect to every parameter of encoder, latent and decoder, that are at most {bound} in size;
the mean over the steps of each of {epochs} epochs, over {seeds} seeds. A ReLU that is off, or a pixel that is
never on, has gradients of exactly zero, which count too: what differs between temperatures is the latent's
part."""


def _curve(runs: Sequence[Run], findings: Findings) -> _Curve:
    lines = [RunFolder(findings.runs.path(run)).metrics() for run in runs]
    shares = [[line[_KEY] for line in of_run] for of_run in lines]
    config = runs[0].config
    over_seeds = list(zip(*shares, strict=True))
    band = Band(
        label="no temperature" if config.temperature is None else f"temperature {config.temperature:g}",
        x=[line["epoch"] for line in lines[0]],
        lower=[min(values) for values in over_seeds],
        middle=[sum(values) / len(values) for values in over_seeds],
        upper=[max(values) for values in over_seeds],
    )
    return _Curve(config.latent, config.temperature, len(runs), band)


def _table(curves: Sequence[_Curve]) -> Table:
    rows: list[list[Cell]] = [
        [
            TITLES[curve.latent],
            curve.temperature,
            curve.num_seeds,
            *(100 * curve.band.middle[i] for i in (0, len(curve.band.middle) // 2, -1)),
        ]
        for curve in curves
    ]
    headings = ("first epoch", "middle epoch", "last epoch")
    return Table(
        name="vanishing-gradients",
        title="Share of gradients that vanish, per cent of all parameters",
        columns={"latent": "", "temperature": "g", "seeds": "d", **dict.fromkeys(headings, ".2f")},
        rows=rows,
    )


def _picture(config: VanishingGradientsConfig, curves: Sequence[_Curve]) -> Picture:
    latents = list(dict.fromkeys(curve.latent for curve in curves))
    figure, panels = plot.new_figure(4.0 * len(latents), 4.2, len(latents))
    highest = max(max(curve.band.upper) for curve in curves)
    for latent, axes in zip(latents, panels, strict=True):
        bands = [curve.band for curve in curves if curve.latent == latent]
        plot.quantile_bands(axes, bands, xlabel="epoch", ylabel="share of vanishing gradients", columns=2)
        axes.set_title(TITLES[latent], fontsize=10)
        axes.set_ylim(0.0, 1.05 * highest if highest else 1.0)
    return Picture(
        name="vanishing-gradients",
        caption=(
            f"{config.data[0]}, {config.networks[0]}: the share of gradients of at most {VANISHES:g} over "
            "the epochs, the mean over seeds; the band goes from the lowest to the highest seed."
        ),
        figure=figure,
    )


STUDY = Study(
    name="vanishing-gradients",
    summary="the share of parameter gradients that vanish over training, by latent and temperature",
    config=VanishingGradientsConfig,
    small=VanishingGradientsConfig(
        gumbel_temperatures=(0.1, 0.67),
        igr_temperatures=(0.03, 0.15),
        stick_temperatures=(0.03, 0.15),
        seeds=(5328, 5945, 8965),
        epochs=15,
        eval_every=5,
    ),
    smoke=VanishingGradientsConfig(
        data=("digits",),
        networks=("dense",),
        latents=("gumbel-softmax", "igr"),
        num_variables=4,
        num_categories=4,
        gumbel_temperatures=(0.1, 0.67),
        igr_temperatures=(0.03, 0.15),
        seeds=(5328, 5945),
        epochs=3,
        max_images=100,
        eval_every=1,
    ),
    groups=groups,
    report=report,
)
