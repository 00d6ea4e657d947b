"""The evaluation of a run: the four bounds on one split, and the record of how they were made."""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import Tensor

from igr.errors import UserError, unknown_name
from igr.evaluation.bounds import BOUND_KINDS, DISCRETE_KL, Estimate, estimate, per_datum_bounds
from igr.evaluation.records import COUNTS, read_estimate, read_integer, read_number
from igr.training.runs import LoadedRun, RunFolder, evaluation_images

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and what makes it repeatable.

    ``bounds`` holds, for each key of :data:`igr.evaluation.BOUND_KINDS`, an estimate in nats per
    datum, or ``None`` for the pre-image where the law has none; ``discrete_kl`` is the KL from the
    discrete posterior to the prior. ``step`` and ``epoch`` are those of the checkpoint that was
    evaluated.
    """

    split: str
    num_data: int
    num_samples: int
    seed: int
    step: int
    epoch: int
    seconds: float
    bounds: dict[str, Estimate | None]
    discrete_kl: Estimate

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in ``result.json`` under ``evaluation``."""
        return asdict(self)


def stored_evaluation(folder: RunFolder) -> Evaluation | None:
    """The evaluation of the latest checkpoint of a run; ``None`` where that has none yet.

    Raises:
        UserError: The record is not one that this version writes.
    """
    record = folder.result().get("evaluation")
    if record is None:
        return None
    try:
        counts = {key: read_integer(record[key]) for key in COUNTS}
        evaluation = Evaluation(
            split=str(record["split"]),
            seconds=read_number(record["seconds"]),
            bounds={
                kind.key: None if (found := record["bounds"][kind.key]) is None else read_estimate(found)
                for kind in BOUND_KINDS
            },
            discrete_kl=read_estimate(record["discrete_kl"]),
            **counts,
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"expected an evaluation as this version of igr writes it in {folder.path}; got one "
            f"that does not fit ({error}); run igr evaluate {shlex.quote(str(folder.path))}"
        ) from error
    return evaluation if evaluation.step == folder.latest_step() else None


def images_of_split(run: LoadedRun, split: str) -> Tensor:
    """The images of a split in the form that the run's likelihood needs.

    Raises:
        UserError: There is no such split.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    return evaluation_images(run.config, run.dataset, split)


def temperature_of(run: LoadedRun) -> float:
    """The temperature of the posterior, which the config of a run always has."""
    return cast(float, run.config.temperature)


def evaluate(
    run: LoadedRun,
    *,
    split: str = "test",
    num_samples: int | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Evaluate a run and write the figures into its ``result.json`` under ``evaluation``.

    Arguments:
        run: The run, from :func:`igr.training.runs.load_run`.
        split: The split to evaluate on.
        num_samples: Samples for each datum; ``None`` takes ``num_eval_samples`` of the config.
        seed: Fixes the noise, so that runs are compared with the same numbers.
        progress: Called with the number of data done.

    Raises:
        UserError: The split is unknown, the number of samples below one or the seed below zero.
    """
    if seed < 0:
        raise UserError(f"expected seed to be a whole number of at least 0; got {seed}; change seed")
    started = time.perf_counter()
    images = images_of_split(run, split)
    num_samples = run.config.num_eval_samples if num_samples is None else num_samples
    per_datum = per_datum_bounds(
        run.model,
        images,
        temperature_of(run),
        num_samples=num_samples,
        seed=seed,
        progress=progress,
    )
    figures = {key: estimate(values) for key, values in per_datum.items()}
    evaluation = Evaluation(
        split=split,
        num_data=len(images),
        num_samples=num_samples,
        seed=seed,
        step=run.step,
        epoch=run.epoch,
        seconds=round(time.perf_counter() - started, 3),
        bounds={kind.key: figures.get(kind.key) for kind in BOUND_KINDS},
        discrete_kl=figures[DISCRETE_KL],
    )
    run.folder.update_result({"evaluation": evaluation.to_json()})
    return evaluation
