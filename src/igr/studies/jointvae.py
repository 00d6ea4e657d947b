"""JointVAEs: a Gaussian and a categorical latent with capacities, their bounds and their traversals."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from igr import plot
from igr.models.latents import CONTINUOUS_KL, DISCRETE_KL, GAUSSIAN
from igr.studies.grid import TITLES
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Study
from igr.studies.vae_grid import VaeConfig, vae_groups
from igr.sweeps import Group, Run
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run


class JointSettings(NamedTuple):
    """What the paper's experiments take for a data set."""

    continuous_dim: int
    capacity_weight: float
    continuous_capacity: tuple[float, float, int]
    discrete_capacity: tuple[float, float, int]


_USUAL = JointSettings(10, 30.0, (0.0, 5.0, 25_000), (0.0, 5.0, 25_000))
_BY_DATA: Mapping[str, JointSettings] = {
    "celeba": JointSettings(32, 100.0, (0.0, 50.0, 100_000), (0.0, 10.0, 100_000))
}


@dataclass(frozen=True)
class JointVaeConfig(VaeConfig):
    """What is trained, for how long, and how it is tuned, repeated and evaluated.

    The size of the Gaussian latent, the capacities and their weight are those of the paper for each data set.
    """

    data: tuple[str, ...] = ("mnist", "fmnist")
    """The data sets; celeba has to be prepared first, see igr data prepare."""

    networks: tuple[str, ...] = ("conv_jointvae",)
    """The networks."""

    num_variables: int = 1
    """Categorical variables."""

    epochs: int = 50
    """Passes over the training images."""

    batch_size: int = 64
    """Images per step."""

    num_eval_samples: int = 100
    """Latent samples per image in the bounds on the test split."""

    capacity_steps: int | None = None
    """Steps over which the capacities rise; None: 25,000 (celeba 100,000)."""

    def check(self) -> None:
        super().check()
        self.require("latents", GAUSSIAN not in self.latents, "categorical ones")
        good = self.capacity_steps is None or self.capacity_steps >= 1
        self.require("capacity_steps", good, "a whole number of at least 1")


def groups(config: JointVaeConfig) -> list[Group]:
    """The groups of a VAE, each with a Gaussian latent and capacities besides."""
    return [
        dataclasses.replace(
            group, candidates=tuple(_joint(config, cast(TrainConfig, one)) for one in group.candidates)
        )
        for group in vae_groups(config)
    ]


def _joint(config: JointVaeConfig, candidate: TrainConfig) -> TrainConfig:
    settings = _BY_DATA.get(candidate.data, _USUAL)
    c_low, c_high, c_steps = settings.continuous_capacity
    d_low, d_high, d_steps = settings.discrete_capacity
    return dataclasses.replace(
        candidate,
        continuous_dim=config.continuous_dim or settings.continuous_dim,
        capacity_weight=settings.capacity_weight,
        continuous_capacity=(c_low, c_high, config.capacity_steps or c_steps),
        discrete_capacity=(d_low, d_high, config.capacity_steps or d_steps),
        # The capacities rise instead.
        kl_warmup=0,
    )


def report(config: JointVaeConfig, findings: Findings) -> Report:
    """The bounds, how much each part of the latent carries, and traversals and reconstructions."""
    comparison = findings.runs.comparison()
    chosen = [runs for group in groups(config) if (runs := findings.runs.chosen(group.key))]
    pictures = []
    for runs in chosen:
        pictures += _pictures(findings, runs[0])
    return Report(
        tables=[*comparison.tables(), _table(findings, chosen)],
        pictures=pictures,
        about=_ABOUT.format(epochs=config.epochs, tuned=config.tuned),
    )


_ABOUT = """A Gaussian latent beside a categorical one, each held to a capacity: the loss is minus the
log-likelihood plus a weight times the distance of each KL from its capacity, which rises during training. It
is no bound; the bounds are those of the model that results, over both parts of the latent. Every run has
{epochs} epochs. {tuned}"""


def _table(findings: Findings, chosen: Sequence[Sequence[Run]]) -> Table:
    rows: list[list[Cell]] = []
    for runs in chosen:
        config = cast(TrainConfig, runs[0].config)
        lines = [RunFolder(findings.runs.path(run)).metrics()[-1] for run in runs]
        step = lines[0]["step"]
        row: list[Cell] = [config.data, config.network, TITLES[config.latent], config.trained_kl, len(runs)]
        for name, key in (("continuous_capacity", CONTINUOUS_KL), ("discrete_capacity", DISCRETE_KL)):
            values = [line[f"validation_{key}"] for line in lines]
            row += [config.capacities[name].at(step), sum(values) / len(values)]
        rows.append(row)
    return Table(
        name="capacities",
        title="What each part of the latent carries in the end, nats per image",
        columns={
            "data": "",
            "network": "",
            "latent": "",
            "trained KL": "",
            "seeds": "d",
            "capacity, Gaussian": ".2f",
            "KL, Gaussian": ".2f",
            "capacity, categorical": ".2f",
            "KL, categorical": ".2f",
        },
        rows=rows,
        notes=[
            "KLs on the validation split, the mean over seeds; that of the categorical part is the KL that "
            "was trained, which for relaxed laws may exceed log K."
        ],
    )


def _pictures(findings: Findings, run: Run) -> list[Picture]:
    """Traversals and reconstructions of one run."""
    loaded = load_run(findings.runs.path(run), data_dir=run.config.data_dir)
    config = loaded.config
    num_rows = config.continuous_dim + config.num_variables
    name = f"{config.data}-{config.network}-{config.latent}-{config.kl}"
    title = f"{config.data}, {TITLES[config.latent]}, {config.kl} KL"
    width, height = 0.42 * config.num_categories + 1.2, 0.42 * num_rows + 0.4
    figure, (axes,) = plot.new_figure(max(width, 4.0), height)
    plot.traversals_of_run(axes, loaded, title=title)
    second, (below,) = plot.new_figure(9, 1.8)
    plot.reconstructions_of_run(below, loaded, title=f"{title}: test images and their reconstructions")
    return [
        Picture(
            name=f"traversals-{name}",
            caption=(
                f"{title}, seed {config.seed}: mean images along each latent variable, the others held at "
                "those of the first test image: a Gaussian coordinate from the 5 % to the 95 % point of its "
                "prior, the categorical variable through its categories."
            ),
            figure=figure,
        ),
        Picture(
            name=f"reconstructions-{name}",
            caption=(
                f"{title}, seed {config.seed}: from the most probable category and the mean of the Gaussian."
            ),
            figure=second,
        ),
    ]


STUDY = Study(
    name="jointvae",
    summary="JointVAEs with capacities: bounds, what each part of the latent carries, traversals",
    config=JointVaeConfig,
    small=JointVaeConfig(
        data=("mnist",),
        gumbel_temperatures=(0.67,),
        igr_temperatures=(0.15,),
        stick_temperatures=(0.15,),
        learning_rates=(1e-3,),
        seeds=(5328, 5945),
        epochs=8,
        eval_every=2,
        max_eval_images=1000,
        validation_samples=20,
        capacity_steps=5000,
    ),
    smoke=JointVaeConfig(
        data=("digits",),
        latents=("gumbel-softmax", "igr"),
        num_categories=4,
        gumbel_temperatures=(0.67,),
        igr_temperatures=(0.15,),
        learning_rates=(1e-3,),
        seeds=(5328,),
        epochs=1,
        max_images=40,
        batch_size=20,
        num_eval_samples=2,
        capacity_steps=2,
    ),
    groups=groups,
    evaluation=lambda config: config.evaluation,
    report=report,
)
