"""``igr evaluate``: bounds on the log-likelihood of a trained run, and pictures of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from igr import plot
from igr.cli.arguments import CommonArguments, Flag, parse, run
from igr.cli.terminal import quoted, say
from igr.errors import UserError, remedy
from igr.evaluation import (
    BOUND_KINDS,
    CalibratedTemperature,
    Components,
    Estimate,
    Evaluation,
    calibrate,
    evaluate,
    images_of_split,
    num_passed,
    temperature_of,
)
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, RELAXED_ELBO
from igr.evaluation.temperature import RECORD
from igr.models.dlgmm import ACTIVE, DLGMM
from igr.models.pictures import (
    NUM_COMPLETIONS,
    NUM_RECONSTRUCTIONS,
    PRIOR_COLUMNS,
    PRIOR_ROWS,
    completions,
    component_samples,
    prior_samples,
)
from igr.models.sop import SOP
from igr.models.vae import VAE
from igr.progress import bar
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.randomness import keyed_generator
from igr.training.run_config import RunConfig
from igr.training.runs import LoadedDLGMM, LoadedRun, LoadedSOP, LoadedVAE, as_vae, load_run

_OF_HARD_UNITS = "upper bound, of hard units (-1 or 1)"
# Components that are shown, those of the largest shares.
SHOWN_COMPONENTS = 8
# As many as a calibration takes at most, as a rule.
_PASSES = 12


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(CommonArguments):
    """Bounds on the log-likelihood of a trained run, and pictures of it."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The folder of the run; its latest checkpoint is evaluated."""

    num_eval_samples: int | None = None
    """Latent samples per image; None: as many as the config of the run says."""

    split: str = "test"
    """The images to evaluate on: test or validation."""

    max_images: int | None = None
    """Evaluate on the first so many of them only; None: on all."""

    legacy_estimate: Flag = False
    """Also give the number that the paper's experiments report, which is no bound."""

    seed: int = 0
    """Fixes the latent samples."""

    calibrate: Flag = False
    """Also find the temperature at which 75 % of the posterior samples lie within 0.2 of a vertex."""

    device: str | None = None
    """Where to evaluate: cpu, cuda, cuda:1, ...; None: where the run was trained."""

    data_dir: Path | None = None
    """The folder with the files of data sets; None: that of the run."""


def main(argv: list[str]) -> int:
    """Runs ``igr evaluate`` and returns the exit code."""
    return run("evaluate", _evaluate, argv)


def _evaluate(argv: list[str]) -> int:
    arguments = parse(EvaluateArguments, argv, "evaluate")
    loaded = load_run(arguments.run, arguments.device, arguments.data_dir)
    for flag, given in (
        ("--calibrate", arguments.calibrate),
        ("--legacy-estimate", arguments.legacy_estimate),
    ):
        if given and not isinstance(loaded.model, VAE):
            raise UserError(
                f"expected the run of a VAE for {flag}; got {arguments.run}, which is of the model "
                f"{loaded.config.model}; leave {flag} out"
            )
    loaded.folder.check_writable()
    # First, since it is the quicker of the two to fail.
    calibrated = (
        _calibrate(loaded, arguments.split, arguments.max_images, arguments.seed)
        if arguments.calibrate
        else None
    )
    evaluation = evaluate_and_draw(
        loaded,
        split=arguments.split,
        num_samples=arguments.num_eval_samples,
        max_images=arguments.max_images,
        seed=arguments.seed,
        legacy=arguments.legacy_estimate,
    )
    if arguments.json:
        more = {} if calibrated is None else {RECORD: calibrated.to_json()}
        print(json.dumps({"run": str(arguments.run), **evaluation.to_json(), **more}, indent=2))
    else:
        Console().print(_table(loaded, evaluation))
        if calibrated is not None:
            Console(highlight=False).print(str(calibrated))
    say(
        f"evaluated in {evaluation.seconds:.1f} s; pictures are in {loaded.folder.figures}; "
        f"next: igr compare {quoted(arguments.run)} OTHER_RUN ..."
    )
    return 0


def evaluate_and_draw(
    loaded: LoadedRun[Any, Any],
    *,
    split: str = "test",
    num_samples: int | None = None,
    max_images: int | None = None,
    seed: int = 0,
    legacy: bool = False,
) -> Evaluation:
    """Evaluates a run into its ``result.json`` and draws its pictures into ``figures/``.

    Raises:
        UserError: A setting cannot be used, or the folder of the run cannot be written.
    """
    total = len(images_of_split(loaded, split))
    with _writing(loaded):
        passed = num_passed(loaded, min(total, max_images or total))
        with bar("evaluating", passed, "images") as progress:
            evaluation = evaluate(
                loaded,
                split=split,
                num_samples=num_samples,
                max_images=max_images,
                seed=seed,
                legacy=legacy,
                progress=progress,
            )
        _draw(loaded, evaluation)
    return evaluation


def _calibrate(
    loaded: LoadedRun[Any, Any], split: str, max_images: int | None, seed: int
) -> CalibratedTemperature:
    with _writing(loaded), bar("calibrating", _PASSES, "passes") as progress:
        return calibrate(
            loaded,
            split=split,
            max_images=max_images,
            seed=seed,
            progress=lambda done: progress(min(done, _PASSES)),
        )


@contextmanager
def _writing(loaded: LoadedRun[Any, Any]) -> Iterator[None]:
    """Says of a folder that does not take the figures that it cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"expected a run folder that can be written; got {loaded.folder.path} "
            f"({error.strerror or error}); {remedy(error)}, since the figures go there"
        ) from error


def _draw(loaded: LoadedRun[Any, Any], evaluation: Evaluation) -> None:
    split, seed = evaluation.split, evaluation.seed
    loaded.folder.figures.mkdir(exist_ok=True)
    if isinstance(loaded.model, SOP):
        _draw_completions(loaded, split, seed)
    elif isinstance(loaded.model, DLGMM):
        if evaluation.components is not None:
            _draw_mixture(loaded, split, seed, evaluation.components)
    else:
        _draw_vae(as_vae(loaded, "reconstructions"), split, seed)


def _draw_completions(loaded: LoadedSOP, split: str, seed: int) -> None:
    originals = images_of_split(loaded, split)[:NUM_RECONSTRUCTIONS]
    device = next(loaded.model.parameters()).device
    generator = keyed_generator(seed, "evaluation/completions", 0, device=device)
    found = completions(loaded.model, originals, temperature_of(loaded), generator)
    figure, (axes,) = plot.new_figure(9, 4.3)
    title = f"{loaded.config.data} ({split}), lower halves predicted: {_model(loaded)}, epoch {loaded.epoch}"
    plot.completions(axes, originals, {"": found}, num_draws=NUM_COMPLETIONS, title=title)
    plot.save(figure, loaded.folder.figures / "completions.png")


def _draw_mixture(loaded: LoadedDLGMM, split: str, seed: int, components: Components) -> None:
    config, folder = loaded.config, loaded.folder.figures
    origin = f"{_model(loaded)}, epoch {loaded.epoch}"
    figure, (axes,) = plot.new_figure(9, 1.8)
    title = f"{config.data} ({split}) and reconstructions from the component of largest share: {origin}"
    plot.reconstructions_of_run(axes, loaded, split=split, title=title)
    plot.save(figure, folder / "reconstructions.png")

    weights, shares = components.weights, components.shares
    figure, (axes,) = plot.new_figure(7.5, 3.4)
    both = {"weights": weights, "posterior probabilities": shares}
    plot.component_weights(axes, both, title=f"{config.data} ({split}): {origin}")
    plot.save(figure, folder / "weights.png")

    device = next(loaded.model.parameters()).device
    generator = keyed_generator(seed, "evaluation/samples of components", 0, device=device)
    shown = sorted(range(len(shares)), key=lambda k: -shares[k])[:SHOWN_COMPONENTS]
    rows = component_samples(loaded.model, shown, PRIOR_COLUMNS, generator)
    figure, (axes,) = plot.new_figure(9, 0.6 * len(rows) + 0.6)
    title = f"{config.data}: mean images of points drawn from components of the prior: {origin}"
    names = [f"{k + 1} ({shares[k]:.0%})" for k in shown]
    plot.traversals(axes, rows, names, title=title)
    plot.save(figure, folder / "component_samples.png")


def _draw_vae(loaded: LoadedVAE, split: str, seed: int) -> None:
    config = loaded.config
    folder = loaded.folder.figures
    origin = f"{_model(loaded)}, epoch {loaded.epoch}"

    figure, (axes,) = plot.new_figure(9, 1.8)
    points = "one-hot latents" if config.has_categories else "the means of the latent"
    title = f"{config.data} ({split}) and reconstructions from {points}: {origin}"
    plot.reconstructions_of_run(axes, loaded, split=split, title=title)
    plot.save(figure, folder / "reconstructions.png")

    device = next(loaded.model.parameters()).device
    generator = keyed_generator(seed, "evaluation/prior samples", 0, device=device)
    drawn = prior_samples(loaded.model, PRIOR_ROWS * PRIOR_COLUMNS, generator)
    figure, (axes,) = plot.new_figure(9, 2.8)
    points = "one-hot latents" if config.has_categories else "latents"
    title = f"{config.data}: mean images of {points} drawn from the prior: {origin}"
    plot.image_grid(axes, torch.split(drawn, PRIOR_COLUMNS), title=title)
    plot.save(figure, folder / "prior_samples.png")


def _model(loaded: LoadedRun[Any, Any]) -> str:
    """What was trained, in a few words."""
    config: RunConfig = loaded.config
    if isinstance(config, DLGMMConfig):
        return f"{config.network}, {config.latent}, K = {config.num_components}, {config.component}"
    if not isinstance(config, TrainConfig):
        ending = ", straight-through" if getattr(config, "straight_through", False) else ""
        return f"{config.network}, {config.latent}{ending}"
    if not config.has_categories:
        return config.latent
    beside = f" and Gaussian of {config.continuous_dim}" if config.continuous_dim else ""
    return f"{config.latent}{beside}, {config.kl} KL"


def _table(loaded: LoadedRun[Any, Any], evaluation: Evaluation) -> Table:
    caption = (
        f"Mean ± its standard error over {evaluation.num_data} {evaluation.split} images of "
        f"{loaded.config.data}, S = {evaluation.num_samples} samples each, seed {evaluation.seed}. "
    )
    if isinstance(loaded.model, SOP):
        caption += "Of the lower half given the upper one; lower is better. "
    elif isinstance(loaded.model, DLGMM):
        caption += "Both bounds are of one and the same model, with all of its components. "
    elif loaded.config.has_categories:
        caption += "Figures of the relaxed and of the discrete model are different quantities. "
    else:
        caption += "A Gaussian latent is not relaxed: both bounds are of one and the same model. "
    if evaluation.discrete_kl is not None:
        caption += (
            f"The KL from q(d | x) to the prior is {evaluation.discrete_kl} nats: what the categorical "
            "latent says of an image."
        )
    title = f"{_model(loaded)}, epoch {evaluation.epoch}"
    table = Table(title=title, caption=caption, caption_justify="left")
    table.add_column("figure")
    table.add_column("nats per image", justify="right", no_wrap=True)
    table.add_column("what it is")
    if evaluation.by_samples:
        for count, figure in evaluation.by_samples.items():
            negative = Estimate(-figure.value, figure.standard_error)
            plural = "" if count == "1" else "s"
            table.add_row(f"-log p, {count} sample{plural}", str(negative), _OF_HARD_UNITS)
        relaxed = evaluation.bounds[RELAXED_ELBO.key]
        if relaxed is not None:
            negative = Estimate(-relaxed.value, relaxed.standard_error)
            table.add_row("-log p, relaxed", str(negative), "upper bound, of relaxed units, by 1 sample")
        return table
    if evaluation.components is not None:
        _add_mixture(table, loaded.config, evaluation, evaluation.components)
        return table
    for kind in BOUND_KINDS:
        bound = evaluation.bounds[kind.key]
        table.add_row(kind.name, "-" if bound is None else str(bound), kind.meaning)
    if evaluation.legacy_estimate is not None:
        meaning = (
            "no bound, it can exceed log p(x): log of the mean of p(x | z), less the KL, as in the paper"
        )
        table.add_row("legacy estimate", str(evaluation.legacy_estimate), meaning)
    return table


def _add_mixture(table: Table, config: DLGMMConfig, evaluation: Evaluation, components: Components) -> None:
    names = config.bound_names
    for kind, meaning in (
        (
            RELAXED_ELBO,
            f"lower bound on log p(x), as trained but for truncation: component {config.component}",
        ),
        (IMPORTANCE_WEIGHTED, "the same, in expectation a tighter bound"),
    ):
        table.add_row(names[kind.key], str(evaluation.bounds[kind.key]), meaning)
    table.add_section()
    share = f"weights above {ACTIVE:.0%}"
    table.add_row(
        "active components",
        str(components.num_active),
        f"of {len(components.weights)}, with {share} in the mean over the images; no nats",
    )
    table.add_row("the same per image", str(components.active_per_image), f"with {share} in its posterior")
    table.add_row(
        "components in use",
        str(components.shares_per_image),
        f"per image, with posterior probabilities above {ACTIVE:.0%}",
    )
    for number, error in components.neighbour_errors.items():
        spread = "" if error.standard_error is None else f" ±{100 * error.standard_error:.2f}"
        table.add_row(
            f"error of {number} neighbours",
            f"{100 * error.value:.2f}{spread} %",
            f"classes told by neighbours among {components.num_known:,} training images",
        )
