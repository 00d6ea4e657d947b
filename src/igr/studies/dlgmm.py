"""Deep latent Gaussian mixtures: weights by Kumaraswamy and by logit-normal sticks, truncated or not."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from igr import plot
from igr.distributions.sticks import SMALLEST_BUCKET
from igr.evaluation import Components, Estimate, Row
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, RELAXED_ELBO
from igr.evaluation.selection import over_seeds
from igr.models.networks import MIXTURE_NETWORKS
from igr.models.pictures import component_samples
from igr.models.stick_laws import MIXTURES
from igr.studies.grid import TITLES, GridConfig, Tested, evaluations, ranked
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Study
from igr.sweeps import EvaluationSettings, Group, Run
from igr.tables import Measured
from igr.training.dlgmm_config import COMPONENTS, DLGMMConfig
from igr.training.randomness import keyed_generator
from igr.training.runs import LoadedDLGMM, load_run

# Of the components of largest weight, images drawn from each.
SHOWN_COMPONENTS, SHOWN_IMAGES = 8, 14
# The number of neighbours whose error stands in the table.
NEIGHBOURS = "5"


@dataclass(frozen=True)
class DLGMMStudyConfig(Tested, GridConfig):
    """What is trained, for how long, and how it is tuned, repeated and evaluated.

    Of several temperatures and learning rates those with the highest validation bound are taken, with the
    first of the seeds.
    """

    data: tuple[str, ...] = ("mnist", "omniglot")
    """The data sets, all binary."""

    networks: tuple[str, ...] = ("dlgmm_dense", "dlgmm_conv")
    """The networks."""

    latents: tuple[str, ...] = ("dlgmm", "dlgmm-truncated", "dlgmm-igr", "dlgmm-igr-truncated")
    """The laws of the weights."""

    component: tuple[str, ...] = ("averaged", "summed")
    """The component in the bound that is trained: averaged by its weight, or summed out."""

    components: tuple[int, ...] = (3, 5, 15, 20, 50)
    """Components, of truncated laws the most there can be."""

    continuous_dim: int = 50
    """Dimensions of each component."""

    concentration: float = 1.0
    """Of the prior of the sticks."""

    stick_threshold: float = 0.99
    """Sum of weights that the sticks kept have to reach, where they are truncated."""

    stick_quantile: float = 0.75
    """Share of pilot draws that are to reach it."""

    temperatures: tuple[float, ...] = (1.0,)
    """Temperatures of logit-normal weights."""

    learning_rates: tuple[float, ...] = (3e-4,)
    """Learning rates of Adam."""

    epochs: int = 300
    """Passes over the training images."""

    num_eval_samples: int = 100
    """Latent samples per image in the bounds on the test split."""

    def names(self) -> Mapping[str, Collection[str]]:
        return {"networks": MIXTURE_NETWORKS, "latents": MIXTURES, "component": COMPONENTS}

    def numbers(self) -> Sequence[str]:
        return "temperatures", "components"

    def tuned_axes(self) -> Mapping[str, str]:
        return {"temperatures": "temperature"}

    def groups(self) -> list[Group]:
        return groups(self)

    @property
    def evaluation(self) -> EvaluationSettings:
        """How the runs are evaluated."""
        return self.settings_with(self.seed)


def groups(config: DLGMMStudyConfig) -> list[Group]:
    """One for each data set, network, number of components and law."""
    found = []
    for data, network, components, component, latent in itertools.product(
        config.data, config.networks, config.components, config.component, config.latents
    ):
        mixture = MIXTURES[latent]
        if mixture.is_truncated and components - 1 <= SMALLEST_BUCKET and _whole_is_there(config, latent):
            # Nothing would be cut, and the runs would be those of the whole law.
            continue
        temperatures = config.temperatures if "temperature" in mixture.options else (None,)
        candidates = tuple(
            DLGMMConfig(
                data=data,
                network=network,
                latent=latent,
                component=component,
                num_components=components,
                continuous_dim=config.continuous_dim,
                concentration=config.concentration,
                temperature=temperature,
                learning_rate=learning_rate,
                stick_threshold=config.stick_threshold if mixture.is_truncated else None,
                stick_quantile=config.stick_quantile if mixture.is_truncated else None,
                **config.run_settings,
            ).resolved()
            for temperature, learning_rate in itertools.product(temperatures, config.learning_rates)
        )
        key = _key(data, network, components, latent, component)
        found.append(Group(key, candidates, config.seeds))
    return found


def _whole_is_there(config: DLGMMStudyConfig, latent: str) -> bool:
    """Whether the same law is there without truncation."""
    return any(
        other != latent and MIXTURES[other].sticks is MIXTURES[latent].sticks for other in config.latents
    )


def _key(data: str, network: str, components: int, latent: str, component: str) -> str:
    ending = "-summed" if component == "summed" else ""
    return f"{data}-{network}-k{components}-{latent}{ending}"


def _name(row: Row) -> str:
    config = cast(DLGMMConfig, row.config)
    return f"{TITLES[config.latent]}{', summed' if config.component == 'summed' else ''}"


@dataclass(frozen=True)
class _Block:
    """Rows that are ranked among one another: one data set, network and number of components."""

    data: str
    network: str
    components: int
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return f"{self.data}, {self.network}, K = {self.components}"

    def figures(self, key: str) -> list[Measured | None]:
        """A bound of each row."""
        return ranked(self.rows, lambda row: over_seeds([one.bounds[key] for one in evaluations(row)]))


def report(config: DLGMMStudyConfig, findings: Findings) -> Report:
    """A table of bounds and of what components are used for; weights, samples, and curves of validation."""
    comparison = findings.runs.comparison()
    blocks = _blocks(comparison.rows)
    return Report(
        tables=[_table(blocks)],
        pictures=[
            _bounds(blocks),
            *(_weights(block) for block in blocks),
            *(
                picture
                for block in blocks
                for row in block.rows
                for picture in _samples(config, findings, block, row)
            ),
            Picture(
                name="curves",
                caption=(
                    "The bound that is trained, on the validation split with all components: the mean over "
                    "seeds, and one standard error."
                ),
                figure=plot.grouped_figure(comparison),
            ),
        ],
        about=_ABOUT.format(
            dim=config.continuous_dim,
            concentration=f"{config.concentration:g}",
            threshold=f"{config.stick_threshold:g}",
            quantile=f"{config.stick_quantile:.0%}",
            tuned=config.tuned_by(config.validation_samples),
            epochs=config.epochs,
        ),
    )


def _blocks(rows: Sequence[Row]) -> list[_Block]:
    found: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        config = cast(DLGMMConfig, row.config)
        found.setdefault((config.data, config.network, config.num_components), []).append(row)
    return [_Block(*key, tuple(of)) for key, of in found.items()]


def _components(row: Row) -> list[Components]:
    return [cast(Components, one.components) for one in evaluations(row)]


def _mean(values: Sequence[float], scale: float = 1.0) -> Measured:
    """The mean over seeds, with its standard error."""
    found = cast(Estimate, over_seeds([Estimate(scale * value, None) for value in values]))
    return Measured(found.value, found.standard_error)


def _last(row: Row, key: str, scale: float = 1.0) -> Measured:
    """A figure of the last epoch."""
    _, found = row.curve(key)[-1]
    error = found.standard_error
    return Measured(scale * found.value, None if error is None else scale * error)


def _table(blocks: Sequence[_Block]) -> Table:
    kinds = (RELAXED_ELBO.key, IMPORTANCE_WEIGHTED.key)
    names = DLGMMConfig.bound_names
    lines: list[list[Cell]] = []
    for block in blocks:
        columns = [block.figures(key) for key in kinds]
        for place, row in enumerate(block.rows):
            used = _components(row)
            errors = [
                error.value for one in used if (error := one.neighbour_errors.get(NEIGHBOURS)) is not None
            ]
            lines.append(
                [
                    block.data,
                    block.network,
                    block.components,
                    _name(row),
                    row.num_seeds,
                    *(column[place] for column in columns),
                    _mean([one.num_active for one in used]),
                    _mean([one.active_per_image.value for one in used]),
                    _mean([one.shares_per_image.value for one in used]),
                    _last(row, "train_num_components"),
                    _last(row, "train_mass_cut", scale=100.0),
                    _mean(errors, scale=100.0) if errors else None,
                ]
            )
    images = {
        block.data: f"{e.num_data} {e.split} images of {block.data}"
        for block in blocks
        for e in evaluations(block.rows[0])
    }
    stars = any(isinstance(cell, Measured) and cell.is_best for line in lines for cell in line)
    return Table(
        name="mixtures",
        title="Bounds on log p(x), nats per image, and what components are used for",
        columns={
            "data": "",
            "network": "",
            "K": "d",
            "weights": "",
            "seeds": "d",
            **{names[key]: ".2f" for key in kinds},
            "active": ".1f",
            "per image": ".2f",
            "in use": ".2f",
            "kept": ".1f",
            "cut (%)": ".2f",
            "neighbour error (%)": ".2f",
        },
        rows=lines,
        notes=[
            f"Mean ± its standard error over the seeds of training, each evaluated on "
            f"{', '.join(images.values())} with {evaluations(blocks[0].rows[0])[0].num_samples} samples an "
            f"image and all K components. {DLGMMConfig.about_bounds} Higher is better; each law of the "
            "weights has a prior of its own, which is part of the model that is bounded.",
            "Active components have more than one per cent of the weight, in the mean over the images or in "
            "the posterior of an image; in use are those whose posterior probability for an image is above "
            "one per cent. Kept are those that a step of the last epoch decoded on average, and cut is the "
            "weight of those between the sticks that were kept and the last component.",
            f"The neighbour error is the share of images whose class a vote of the {NEIGHBOURS} nearest "
            "training images tells wrong, by the means of the posteriors.",
            *(
                [
                    "Marked by a star are the highest of a column, for one data set, network and K, and what "
                    "lies within two standard errors of the difference."
                ]
                if stars
                else []
            ),
        ],
    )


def _bounds(blocks: Sequence[_Block]) -> Picture:
    panels = []
    for block in blocks:
        columns = {
            DLGMMConfig.bound_names[key]: block.figures(key)
            for key in (RELAXED_ELBO.key, IMPORTANCE_WEIGHTED.key)
        }
        panels.append(
            plot.DotPanel(
                block.title,
                {
                    _name(row): {name: one for name, column in columns.items() if (one := column[place])}
                    for place, row in enumerate(block.rows)
                },
            )
        )
    return Picture(
        name="bounds",
        caption="Bounds on the test images, the mean over seeds and its standard error.",
        figure=plot.dot_figure(panels, axis="nats per image (higher is better)"),
    )


def _weights(block: _Block) -> Picture:
    figure, panels = plot.new_figure(7.5, 6.4, 2, num_rows=2)
    for axes, title in zip(panels, ("weights", "posterior probabilities"), strict=True):
        lines = {}
        for row in block.rows:
            used = _components(row)
            seeds = [one.weights if title == "weights" else one.shares for one in used]
            lines[_name(row)] = [sum(values) / len(values) for values in zip(*seeds, strict=True)]
        # One legend for both.
        plot.component_weights(axes, lines, title=f"{block.title}: {title}", legend=axes is panels[-1])
    return Picture(
        name=f"weights-{block.data}-{block.network}-k{block.components}",
        caption=(
            "Mean weights of the components over the test images and seeds, in the order of the sticks, and "
            "their mean posterior probabilities. Of a model that fits, both are those of the prior, in which "
            "each component has the same share of what the ones before have left."
        ),
        figure=figure,
    )


def _samples(config: DLGMMStudyConfig, findings: Findings, block: _Block, row: Row) -> list[Picture]:
    """Images drawn from components of the model with the first of the seeds."""
    trained = cast(DLGMMConfig, row.config)
    key = _key(block.data, block.network, block.components, trained.latent, trained.component)
    chosen: list[Run] = findings.runs.chosen(key)
    if not chosen:
        return []
    loaded: LoadedDLGMM = load_run(findings.runs.path(chosen[0]), data_dir=chosen[0].config.data_dir)
    # Runs of a row stand by ascending seed.
    place = row.seeds.index(chosen[0].config.seed)
    shares = _components(row)[place].shares
    shown = sorted(range(len(shares)), key=lambda k: -shares[k])[:SHOWN_COMPONENTS]
    device = next(loaded.model.parameters()).device
    generator = keyed_generator(config.seed, "study/samples of components", 0, device=device)
    rows = component_samples(loaded.model, shown, SHOWN_IMAGES, generator)
    figure, (axes,) = plot.new_figure(8.5, 0.6 * len(rows) + 0.5)
    names = [f"{k + 1} ({shares[k]:.0%})" for k in shown]
    plot.traversals(axes, rows, names, title=f"{block.title}: {_name(row)}")
    return [
        Picture(
            name=f"samples-{key}",
            caption=(
                "Mean images of points drawn from the components of the prior, those of the largest "
                "posterior probabilities, whose mean over the images stands beside them; the first seed."
            ),
            figure=figure,
        )
    ]


_ABOUT = """A VAE whose latent is a mixture of K Gaussians of {dim} dimensions, with weights that each image
breaks off a stick of its own (Nalisnick, Hertel and Smyth, 2016). Means of the prior's components lie on
different corners of a hypercube. Fractions of the stick are Kumaraswamy beside the prior Beta(1,
{concentration}), which is that of a Dirichlet process, or logit-normal, as in the IGR with stick-breaking,
beside the Gaussian closest to it. Of truncated laws a step keeps as many sticks as a pilot draw asks for, so
that {quantile} of the draws reach a sum of {threshold}; they are evaluated with all K components. In the
bound that is trained the component of an image is averaged by its weight, as in the paper, or summed out,
which is no looser and costs the same.

{tuned} Every run has {epochs} epochs."""

STUDY = Study(
    name="dlgmm",
    summary="deep latent Gaussian mixtures: weights by Kumaraswamy and by IGR sticks, truncated or not",
    config=DLGMMStudyConfig,
    small=DLGMMStudyConfig(
        networks=("dlgmm_dense",),
        components=(20,),
        seeds=(5328, 5945, 8965),
        learning_rates=(1e-3,),
        epochs=8,
        eval_every=1,
        max_eval_images=2000,
    ),
    smoke=DLGMMStudyConfig(
        data=("digits",),
        networks=("dlgmm_dense", "dlgmm_conv"),
        components=(12,),
        continuous_dim=5,
        seeds=(5328, 5945),
        learning_rates=(1e-3,),
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
