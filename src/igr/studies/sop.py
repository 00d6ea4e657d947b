"""Structured output prediction: the lower half of an image from the upper one, with every relaxation."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from igr import plot
from igr.evaluation import Estimate, Row, images_of_split, temperature_of
from igr.evaluation.bounds import RELAXED_ELBO
from igr.evaluation.selection import over_seeds
from igr.models.pictures import Completions, completions
from igr.models.sop import BINARY_LATENTS, NETWORKS
from igr.studies.grid import TITLES, GridConfig, Tested, evaluations, ranked
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Study
from igr.sweeps import EvaluationSettings, Group, Run
from igr.tables import Measured
from igr.training.randomness import keyed_generator
from igr.training.runs import LoadedSOP, load_run
from igr.training.sop_config import SOPConfig

TEMPERATURES = {"gumbel-softmax": "gumbel_temperatures"}
NUM_PICTURED = 14
DRAWS = 2


@dataclass(frozen=True)
class SOPStudyConfig(Tested, GridConfig):
    """What is trained, for how long, and how it is tuned, repeated and evaluated.

    Of several temperatures and learning rates those with the highest validation bound are taken, with the
    first of the seeds.
    """

    data: tuple[str, ...] = ("digits", "mnist", "fmnist", "omniglot")
    """The data sets, all binary."""

    networks: tuple[str, ...] = ("double_linear", "triple_linear", "nonlinear")
    """The networks."""

    latents: tuple[str, ...] = ("gumbel-softmax", "igr", "igr-planar")
    """The laws of the units."""

    samples: tuple[int, ...] = (1, 5, 50)
    """Samples per image in the bound that is trained."""

    straight_through: bool = True
    """Train each of them with straight-through units as well."""

    num_units: int = 240
    """Binary units of each layer."""

    gumbel_temperatures: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Temperatures of Gumbel-Softmax."""

    igr_temperatures: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    """Temperatures of IGR-I and IGR-Planar, whose noise is less spread out."""

    def names(self) -> Mapping[str, Collection[str]]:
        return {"networks": NETWORKS, "latents": BINARY_LATENTS}

    def numbers(self) -> Sequence[str]:
        return "gumbel_temperatures", "igr_temperatures", "samples"

    def tuned_axes(self) -> Mapping[str, str]:
        return {TEMPERATURES.get(latent, "igr_temperatures"): "temperature" for latent in self.latents}

    def groups(self) -> list[Group]:
        return groups(self)

    @property
    def evaluation(self) -> EvaluationSettings:
        """How the runs are evaluated."""
        return self.settings_with(self.seed)


def groups(config: SOPStudyConfig) -> list[Group]:
    """One for each data set, network, number of samples, law, and form of the units."""
    forms = {"": False, "-st": True} if config.straight_through else {"": False}
    found = []
    for data, network, samples, latent, (ending, through) in itertools.product(
        config.data, config.networks, config.samples, config.latents, forms.items()
    ):
        temperatures = getattr(config, TEMPERATURES.get(latent, "igr_temperatures"))
        candidates = tuple(
            SOPConfig(
                data=data,
                network=network,
                latent=latent,
                temperature=temperature,
                num_samples=samples,
                num_units=config.num_units,
                straight_through=through,
                learning_rate=learning_rate,
                **config.run_settings,
            ).resolved()
            for temperature, learning_rate in itertools.product(temperatures, config.learning_rates)
        )
        key = f"{data}-{network}-n{samples}-{latent}{ending}"
        found.append(Group(key, candidates, config.seeds))
    return found


@dataclass(frozen=True)
class _Block:
    """Rows that are ranked among one another: one data set, network and number of samples in training."""

    data: str
    network: str
    samples: int
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        plural = "" if self.samples == 1 else "s"
        return f"{self.data}, {self.network}, trained by {self.samples} sample{plural}"

    def figures(self, key: str) -> list[Measured | None]:
        """The negative log-likelihood of each row by a number of samples, or of the relaxed model."""
        return ranked(self.rows, lambda row: _figure(row, key), sign=-1.0)


def report(config: SOPStudyConfig, findings: Findings) -> Report:
    """A table of negative log-likelihoods, the same as a picture, completions, and curves of validation."""
    comparison = findings.runs.comparison()
    blocks = _blocks(comparison.rows)
    counts = _counts(comparison.rows)
    return Report(
        tables=[_table(config, blocks, counts)],
        pictures=[
            _likelihoods(blocks, counts),
            *(
                picture
                for which in itertools.product(config.data, config.networks)
                for picture in _completions(config, findings, *which)
            ),
            Picture(
                name="curves",
                caption=(
                    "What is trained, on the validation split: the mean over seeds of the chosen "
                    "temperature, and one standard error. Bounds by different numbers of samples, and of "
                    "relaxed and of discrete models, are different quantities and have panels of their own."
                ),
                figure=plot.grouped_figure(comparison),
            ),
        ],
        about=_ABOUT.format(
            units=config.num_units, tuned=config.tuned_by(config.validation_samples), epochs=config.epochs
        ),
    )


def _blocks(rows: Sequence[Row]) -> list[_Block]:
    found: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        config = cast(SOPConfig, row.config)
        found.setdefault((config.data, config.network, config.samples_per_image), []).append(row)
    return [_Block(*key, tuple(of)) for key, of in found.items()]


def _counts(rows: Sequence[Row]) -> list[str]:
    """Numbers of samples of the evaluation: the most that there are, and the power of ten below."""
    counts = sorted(map(int, evaluations(rows[0])[0].by_samples))
    return [str(count) for count in counts[-2:]]


def _figure(row: Row, key: str) -> Estimate | None:
    found = [
        one.bounds[key] if key == RELAXED_ELBO.key else one.by_samples.get(key) for one in evaluations(row)
    ]
    return over_seeds(found)


def _name(row: Row) -> str:
    config = cast(SOPConfig, row.config)
    return f"{TITLES[config.latent]}{', straight-through' if config.straight_through else ''}"


def _heading(key: str) -> str:
    return "relaxed, 1 sample" if key == RELAXED_ELBO.key else f"{int(key):,} samples"


def _table(config: SOPStudyConfig, blocks: Sequence[_Block], counts: Sequence[str]) -> Table:
    keys = [*counts, RELAXED_ELBO.key]
    lines: list[list[Cell]] = []
    for block in blocks:
        columns = [block.figures(key) for key in keys]
        for place, row in enumerate(block.rows):
            trained = cast(SOPConfig, row.config)
            lines.append(
                [
                    block.data,
                    block.network,
                    block.samples,
                    _name(row),
                    trained.temperature,
                    len(row.candidates),
                    row.num_seeds,
                    *(column[place] for column in columns),
                ]
            )
    images = {
        block.data: f"{e.num_data} {e.split} images of {block.data}"
        for block in blocks
        for e in evaluations(block.rows[0])
    }
    stars = any(isinstance(cell, Measured) and cell.is_best for line in lines for cell in line)
    return Table(
        name="likelihoods",
        title="Negative log-likelihood of the lower half given the upper one, nats per image",
        columns={
            "data": "",
            "network": "",
            "trained by": "d",
            "units": "",
            "temperature": "g",
            "tried": "d",
            "seeds": "d",
            **{_heading(key): ".2f" for key in keys},
        },
        rows=lines,
        notes=[
            "Lower is better; mean ± its standard error over the seeds of training, each evaluated on "
            f"{', '.join(images.values())}. By {' and '.join(map(_heading, counts))} "
            "it is that of the discrete model, whose units are -1 or 1: in expectation an upper bound on "
            "-log p(lower half | upper half), tighter with more samples. The last column is the same of the "
            "relaxed model by a single sample, another quantity.",
            *(
                [
                    "Marked by a star are the lowest of a column, for one data set, network and number of "
                    "samples in training, and what lies within two standard errors of the difference."
                ]
                if stars
                else []
            ),
        ],
    )


def _likelihoods(blocks: Sequence[_Block], counts: Sequence[str]) -> Picture:
    panels = []
    for block in blocks:
        columns = {f"by {_heading(count)}": block.figures(count) for count in counts}
        panels.append(
            plot.DotPanel(
                block.title,
                {
                    _name(row): {name: one for name, column in columns.items() if (one := column[place])}
                    for place, row in enumerate(block.rows)
                },
            )
        )
    axis = "-log p(lower | upper), nats per image (lower is better)"
    return Picture(
        name="likelihoods",
        caption=(
            "Negative log-likelihood of the discrete model on the test images, the mean over seeds and its "
            "standard error."
        ),
        figure=plot.dot_figure(panels, axis=axis),
    )


def _completions(config: SOPStudyConfig, findings: Findings, data: str, network: str) -> list[Picture]:
    """Lower halves as the models with the first of the seeds predict them."""
    samples = config.samples[0]
    completed: dict[str, Completions] = {}
    originals = None
    for latent in config.latents:
        chosen: list[Run] = findings.runs.chosen(f"{data}-{network}-n{samples}-{latent}")
        if not chosen:
            continue
        loaded: LoadedSOP = load_run(findings.runs.path(chosen[0]), data_dir=chosen[0].config.data_dir)
        originals = images_of_split(loaded, "test")[:NUM_PICTURED]
        device = next(loaded.model.parameters()).device
        generator = keyed_generator(config.seed, "study/completions", 0, device=device)
        completed[TITLES[latent]] = completions(loaded.model, originals, temperature_of(loaded), generator)
    if originals is None:
        # All have failed.
        return []
    num_rows = 1 + len(completed) * (1 + DRAWS)
    figure, (axes,) = plot.new_figure(8.5, 0.55 * num_rows + 0.4)
    title = f"{data}, {network}: lower halves predicted from upper ones"
    plot.completions(axes, originals, completed, num_draws=DRAWS, title=title)
    plural = "" if samples == 1 else "s"
    return [
        Picture(
            name=f"completions-{data}-{network}",
            caption=(
                "The first test images and, below the line, their lower halves as hard units predict them, "
                f"trained by {samples} sample{plural} with relaxed units and the first seed: the mean over "
                f"100 draws of the units, and {DRAWS} single draws."
            ),
            figure=figure,
        )
    ]


_ABOUT = """The lower half of an image is predicted from the upper one through layers of {units} binary units,
each -1 or 1: `double_linear` has two, `triple_linear` three, with a linear map before each and before the
pixels; `nonlinear` has two, and in each map a layer of {units} tanh units. Pixels are binary. What is trained
is the multi-sample bound of the relaxed model, or straight-through, where units are -1 or 1 and the gradient
is that of the relaxed ones. What is evaluated is the discrete model.

IGR-SB is not among the laws: with two categories there is a single stick, which in length space always wins,
whatever its parameters are, and in log space leaves IGR-I.

{tuned} Every run has {epochs} epochs, with a learning rate at step t of its start over 1 + t / 1000, down to
1e-4."""

STUDY = Study(
    name="sop",
    summary="structured output prediction: the lower half of an image from the upper one, by relaxation",
    config=SOPStudyConfig,
    small=SOPStudyConfig(
        data=("mnist",),
        networks=("double_linear", "nonlinear"),
        samples=(1,),
        seeds=(5328, 5945, 8965),
        epochs=10,
        eval_every=1,
        max_eval_images=2000,
    ),
    smoke=SOPStudyConfig(
        data=("digits",),
        networks=("double_linear", "nonlinear"),
        samples=(1, 5),
        num_units=10,
        gumbel_temperatures=(0.5, 1.0),
        igr_temperatures=(0.5,),
        seeds=(5328, 5945),
        epochs=2,
        max_images=100,
        eval_every=1,
        num_eval_samples=20,
        validation_samples=5,
    ),
    groups=groups,
    evaluation=lambda config: config.evaluation,
    report=report,
)
