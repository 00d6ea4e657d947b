"""The evaluation of a run: the four bounds on one split, and the record of how they were made."""

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from igr.data import PreparedImages
from igr.errors import UserError, cut, unknown_name
from igr.evaluation.bounds import (
    BOUND_KINDS,
    DISCRETE_KL,
    LEGACY_ESTIMATE,
    Estimate,
    estimate,
    per_datum_bounds,
)
from igr.evaluation.dlgmm_bounds import MixtureFigures, dlgmm_bounds, representations
from igr.evaluation.neighbours import neighbour_errors
from igr.evaluation.records import COUNTS, read_estimate, read_integer, read_number
from igr.evaluation.sop_bounds import sop_bounds
from igr.models.dlgmm import ACTIVE, DLGMM
from igr.models.sop import SOP
from igr.training.failures import TrainingFailure
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import LoadedRun, as_vae, evaluation_images

SPLITS = ("validation", "test")
# Training images among which neighbours are looked for, at most.
MOST_KNOWN = 20_000
# Where the evaluation on a split stands in result.json.
RECORDS = {"test": "evaluation", "validation": "validation_evaluation"}


@dataclass(frozen=True)
class Components:
    """What the components of a mixture model are used for.

    Arguments:
        weights: Their mean weights over the images.
        num_active: How many of these are above one per cent.
        active_per_image: How many of the mean weights of a single image are.
        shares: Their mean posterior probabilities over the images.
        shares_per_image: How many of the posterior probabilities of a single image are above one per cent.
        neighbour_errors: By the number of neighbours, the share of images whose class a vote of their nearest
            neighbours among the first training images tells wrong, by the means of the posteriors.
        num_known: How many training images these are.
    """

    weights: list[float]
    num_active: int
    active_per_image: Estimate
    shares: list[float]
    shares_per_image: Estimate
    neighbour_errors: dict[str, Estimate]
    num_known: int


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and what makes it repeatable.

    Arguments:
        split: The split of the data.
        num_data: How many of its images.
        num_samples: Samples of the latents for each of them.
        seed: The seed of the samples.
        step: That of the checkpoint that was evaluated.
        epoch: Likewise.
        seconds: The time that it took.
        bounds: For each key of :data:`igr.evaluation.BOUND_KINDS` an estimate in nats per datum; ``None``
            where the latent has no such bound.
        discrete_kl: The KL from the discrete posterior to the prior, in nats; ``None`` where no exact law is
            known.
        legacy_estimate: The number that the paper's experiments report, which is no bound, where it was asked
            for.
        by_samples: Of models of structured output prediction, the importance-weighted bound by the first so
            many samples.
        components: Of mixture models, how they use their components.
    """

    split: str
    num_data: int
    num_samples: int
    seed: int
    step: int
    epoch: int
    seconds: float
    bounds: dict[str, Estimate | None]
    discrete_kl: Estimate | None
    legacy_estimate: Estimate | None = None
    by_samples: dict[str, Estimate] = field(default_factory=dict)
    components: Components | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in ``result.json`` under the key that :data:`RECORDS` has."""
        return asdict(self)


def stored_evaluation(folder: RunFolder, split: str = "test") -> Evaluation | None:
    """The evaluation of the latest checkpoint of a run; ``None`` where that has none yet.

    Arguments:
        folder: The folder of the run.
        split: The split that it was evaluated on.

    Raises:
        UserError: The record is not one that this version writes, or there is no such split.
    """
    if split not in RECORDS:
        raise unknown_name("split", split, SPLITS)
    record = folder.result().get(RECORDS[split])
    if record is None:
        return None
    try:
        counts = {key: read_integer(record[key]) for key in COUNTS}
        evaluation = Evaluation(
            split=str(record["split"]),
            seconds=read_number(record["seconds"]),
            bounds={kind.key: _optional(record["bounds"][kind.key]) for kind in BOUND_KINDS},
            discrete_kl=_optional(record["discrete_kl"]),
            # What earlier versions never wrote.
            legacy_estimate=_optional(record.get("legacy_estimate")),
            by_samples={
                str(int(count)): read_estimate(found) for count, found in record.get("by_samples", {}).items()
            },
            components=_components(record.get("components")),
            **counts,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"expected an evaluation as this version of igr writes it in {folder.path}; got one "
            f"that does not fit ({cut(error)}); run igr evaluate {shlex.quote(str(folder.path))} "
            f"--split {split}"
        ) from error
    # Until they had keys of their own, all splits shared one.
    if evaluation.split != split:
        return None
    return evaluation if evaluation.step == folder.latest_step() else None


def _optional(record: dict[str, Any] | None) -> Estimate | None:
    return None if record is None else read_estimate(record)


def _components(record: dict[str, Any] | None) -> Components | None:
    if record is None:
        return None
    return Components(
        weights=[read_number(weight) for weight in record["weights"]],
        num_active=read_integer(record["num_active"]),
        active_per_image=read_estimate(record["active_per_image"]),
        shares=[read_number(share) for share in record["shares"]],
        shares_per_image=read_estimate(record["shares_per_image"]),
        neighbour_errors={
            str(int(number)): read_estimate(found) for number, found in record["neighbour_errors"].items()
        },
        num_known=read_integer(record["num_known"]),
    )


def images_of_split(run: LoadedRun[Any, Any], split: str) -> PreparedImages:
    """The images of a split in the form that the run's likelihood needs.

    Raises:
        UserError: There is no such split.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    return evaluation_images(run.config, run.dataset, split)


def temperature_of(run: LoadedRun[Any, Any]) -> float:
    """The temperature of the posterior."""
    config: RunConfig = run.config
    return config.posterior_temperature


def num_passed(run: LoadedRun[Any, Any], num_images: int) -> int:
    """How many data an evaluation goes through; neighbours are looked for among others.

    Arguments:
        run: The run that is evaluated.
        num_images: How many images of the split are.
    """
    return 2 * num_images + len(_known(run)) if isinstance(run.model, DLGMM) else num_images


def _known(run: LoadedRun[Any, Any]) -> PreparedImages:
    """The training images among which neighbours are looked for."""
    return evaluation_images(run.config, run.dataset, "train").first(MOST_KNOWN)


def evaluate(
    run: LoadedRun[Any, Any],
    *,
    split: str = "test",
    num_samples: int | None = None,
    max_images: int | None = None,
    seed: int = 0,
    legacy: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Evaluate a run and write the figures into its ``result.json``.

    Those of the test split stand under ``evaluation``, those of the validation split under
    ``validation_evaluation``.

    Arguments:
        run: The run, from :func:`igr.training.runs.load_run`.
        split: The split to evaluate on.
        num_samples: Samples for each datum; ``None`` takes ``num_eval_samples`` of the config.
        max_images: Evaluate only the first so many images of the split; ``None`` takes all.
        seed: Fixes the noise, so that runs are compared with the same numbers.
        legacy: Also find what the paper's experiments report, which is no bound.
        progress: Called with the number of data done, of :func:`num_passed`.

    Raises:
        UserError: The split is unknown, a number of samples or images below one or the seed below zero.
        TrainingFailure: A bound is not finite; nothing is written.
    """
    if seed < 0:
        raise UserError(f"expected seed to be a whole number of at least 0; got {seed}; change seed")
    started = time.perf_counter()
    if max_images is not None and max_images < 1:
        raise UserError(
            f"expected a number of images of at least 1; got {max_images}; leave it out to take all"
        )
    images = images_of_split(run, split).first(max_images)
    num_samples = run.config.num_eval_samples if num_samples is None else num_samples
    by_samples: dict[int, Tensor] = {}
    mixture: MixtureFigures | None = None
    if isinstance(run.model, DLGMM) and not legacy:
        mixture = dlgmm_bounds(
            run.model, images, temperature_of(run), num_samples=num_samples, seed=seed, progress=progress
        )
        per_datum = mixture.bounds
    elif isinstance(run.model, SOP) and not legacy:
        per_datum, by_samples = sop_bounds(
            run.model, images, temperature_of(run), num_samples=num_samples, seed=seed, progress=progress
        )
    else:
        per_datum = per_datum_bounds(
            as_vae(run, "the legacy estimate").model,
            images,
            temperature_of(run),
            num_samples=num_samples,
            seed=seed,
            legacy=legacy,
            progress=progress,
        )
    figures = {key: estimate(values) for key, values in per_datum.items()}
    for kind in BOUND_KINDS:
        if kind.key in figures and not math.isfinite(figures[kind.key].value):
            raise TrainingFailure(
                f"expected finite bounds on the {split} split; got {figures[kind.key].value} for the "
                f"{kind.name}; the likely cause is a learning rate too high or a temperature too low"
            )
    evaluation = Evaluation(
        split=split,
        num_data=len(images),
        num_samples=num_samples,
        seed=seed,
        step=run.step,
        epoch=run.epoch,
        seconds=round(time.perf_counter() - started, 3),
        bounds={kind.key: figures.get(kind.key) for kind in BOUND_KINDS},
        discrete_kl=figures.get(DISCRETE_KL),
        legacy_estimate=figures.get(LEGACY_ESTIMATE),
        by_samples={str(count): estimate(values) for count, values in by_samples.items()},
        components=None if mixture is None else _used(run, images, split, mixture, seed, progress),
    )
    run.folder.update_result({RECORDS[split]: evaluation.to_json()})
    return evaluation


def _used(
    run: LoadedRun[Any, Any],
    images: PreparedImages,
    split: str,
    found: MixtureFigures,
    seed: int,
    progress: Callable[[int], object] | None,
) -> Components:
    """What the components are used for."""
    known = _known(run)
    temperature = temperature_of(run)

    def after(done: int) -> Callable[[int], object] | None:
        return None if progress is None else lambda count: progress(done + count)

    errors = neighbour_errors(
        representations(run.model, known, temperature, seed=seed, progress=after(len(images))),
        run.dataset.train.labels[: len(known)],
        representations(run.model, images, temperature, seed=seed, progress=after(len(images) + len(known))),
        getattr(run.dataset, split).labels[: len(images)],
    )
    weights, shares = found.weights.mean(0), found.shares.mean(0)
    return Components(
        weights=[round(weight, 6) for weight in weights.tolist()],
        num_active=int((weights > ACTIVE).sum()),
        active_per_image=estimate((found.weights > ACTIVE).sum(-1).double()),
        shares=[round(share, 6) for share in shares.tolist()],
        shares_per_image=estimate((found.shares > ACTIVE).sum(-1).double()),
        neighbour_errors={str(number): estimate(wrong) for number, wrong in errors.items()},
        num_known=len(known),
    )
