"""Bounds on the log-likelihood of VAEs: every latent at its best, on every data set."""

from dataclasses import dataclass

from igr import plot
from igr.evaluation import GroupedComparison
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, PRE_IMAGE
from igr.studies.grid import TITLES
from igr.studies.report import Picture, Report
from igr.studies.study import Findings, Study
from igr.studies.vae_grid import RELAXED, STRAIGHT_THROUGH, VaeConfig, vae_groups
from igr.sweeps import Group


@dataclass(frozen=True)
class VaeTableConfig(VaeConfig):
    """What is trained, for how long, and how it is tuned, repeated and evaluated."""

    networks: tuple[str, ...] = ("dense", "dense_nonlinear", "conv")
    """The networks."""

    latents: tuple[str, ...] = (
        "gumbel-softmax",
        "igr",
        "igr-planar",
        "igr-sb",
        "igr-sb-log",
        "igr-sb-truncated",
        "gaussian",
    )
    """The latents."""

    kls: tuple[str, ...] = ("relaxed", "discrete")
    """The KLs that are trained, of those that a latent has: relaxed, discrete."""

    straight_through: bool = True
    """Train each of them with straight-through samples as well."""


def groups(config: VaeTableConfig) -> list[Group]:
    """What is trained."""
    return vae_groups(config, STRAIGHT_THROUGH if config.straight_through else RELAXED)


def report(config: VaeTableConfig, findings: Findings) -> Report:
    """A table for each data set, the same as a picture, and the curves of validation."""
    comparison = findings.runs.comparison()
    return Report(
        tables=comparison.tables(),
        pictures=[_bounds(comparison), curves(comparison)],
        about=_ABOUT.format(epochs=config.epochs, tuned=config.tuned),
    )


_ABOUT = """Each row is one latent with one KL in training. With the relaxed KL the objective bounds log p(x)
of the relaxed model, whose latent lies inside the simplex; with the discrete KL, which is what practitioners
train, it bounds nothing, but the discrete model, whose latent is one-hot and which is what one wants in the
end, is better for it. Where a row says straight-through, the decoder has met vertices in training; with the
relaxed KL the objective then bounds log p(x) of the discrete model. A latent without an exact discrete law
(IGR-Planar) has no discrete KL, and of the bounds on log p(x) of its discrete model only the one over the
pre-image.

{tuned} Every run has {epochs} epochs."""


def _bounds(comparison: GroupedComparison) -> Picture:
    """The bounds on log p(x) of the discrete model as points with their errors."""
    figure = plot.bounds_figure(comparison, (IMPORTANCE_WEIGHTED, PRE_IMAGE), titles=TITLES)
    return Picture(
        name="bounds",
        caption=(
            "Importance-weighted bounds on log p(x) of the discrete model (of its own model for a Gaussian "
            "latent), with the standard errors of the table. Two bounds of one row are of the same model; "
            "rows are compared by points of one kind only. An arrow at the edge stands for a figure beyond "
            "it."
        ),
        figure=figure,
    )


def curves(comparison: GroupedComparison) -> Picture:
    """The objective on the validation split over the epochs."""
    return Picture(
        name="curves",
        caption=(
            "What is trained, on the validation split: the mean over seeds of the chosen temperature and "
            "learning rate, and one standard error. With the relaxed KL it is a bound, with the discrete one "
            "it is none."
        ),
        figure=plot.grouped_figure(comparison),
    )


STUDY = Study(
    name="vae-table",
    summary="bounds on log p(x) of VAEs: every latent at its best temperature, by data set and KL",
    config=VaeTableConfig,
    small=VaeTableConfig(
        networks=("dense_nonlinear",),
        latents=("gumbel-softmax", "igr", "igr-planar", "igr-sb"),
        straight_through=False,
        gumbel_temperatures=(0.67, 1.0),
        igr_temperatures=(0.15, 0.4),
        stick_temperatures=(0.05, 0.15),
        learning_rates=(1e-3,),
        seeds=(5328, 5945, 8965),
        epochs=4,
        eval_every=1,
        num_eval_samples=100,
        validation_samples=50,
        max_eval_images=2000,
    ),
    smoke=VaeTableConfig(
        data=("digits",),
        networks=("dense",),
        latents=("gumbel-softmax", "igr", "igr-planar", "igr-sb"),
        num_variables=4,
        num_categories=4,
        straight_through=False,
        gumbel_temperatures=(0.67, 1.0),
        igr_temperatures=(0.4,),
        stick_temperatures=(0.15,),
        learning_rates=(1e-3,),
        seeds=(5328, 5945),
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
