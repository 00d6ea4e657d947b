"""Curves of the ELBO over training: the mean over seeds, with its standard error."""

from igr.studies.report import Report
from igr.studies.study import Findings, Study
from igr.studies.vae_grid import VaeConfig, vae_groups
from igr.studies.vae_table import curves


def report(config: VaeConfig, findings: Findings) -> Report:
    """The curves, and the bounds that they lead to."""
    comparison = findings.runs.comparison()
    return Report(
        tables=comparison.tables(),
        pictures=[curves(comparison)],
        about=_ABOUT.format(epochs=config.epochs, tuned=config.tuned),
    )


_ABOUT = """The ELBO of the relaxed model over {epochs} epochs, on images of the validation split, which no
gradient has seen; the test split is left for the table. {tuned}"""

STUDY = Study(
    name="elbo-curves",
    summary="the ELBO of VAEs over training, mean and standard error over seeds",
    config=VaeConfig,
    small=VaeConfig(
        data=("mnist",),
        gumbel_temperatures=(0.67, 1.0),
        igr_temperatures=(0.15, 0.25),
        stick_temperatures=(0.05, 0.15),
        learning_rates=(1e-3,),
        seeds=(5328, 5945, 8965),
        epochs=20,
        eval_every=1,
        num_eval_samples=100,
        validation_samples=50,
        max_eval_images=2000,
    ),
    smoke=VaeConfig(
        data=("digits",),
        networks=("dense",),
        latents=("gumbel-softmax", "igr"),
        num_variables=4,
        num_categories=4,
        gumbel_temperatures=(0.67,),
        igr_temperatures=(0.15,),
        learning_rates=(1e-3,),
        seeds=(5328, 5945),
        epochs=3,
        max_images=100,
        eval_every=1,
        num_eval_samples=5,
        validation_samples=5,
    ),
    groups=vae_groups,
    evaluation=lambda config: config.evaluation,
    report=report,
)
