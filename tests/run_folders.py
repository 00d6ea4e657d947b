"""Folders of runs written by hand: what a comparison reads, without a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from igr.evaluation import BOUND_KINDS, Estimate, Evaluation
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder

STEP = 130
EPOCHS = 10
KEYS = [kind.key for kind in BOUND_KINDS]


def evaluation(figures: Sequence[float | None], split: str = "test", **settings: Any) -> Evaluation:
    """An evaluation with these bounds, in the order of ``BOUND_KINDS``, and errors of 0.25."""
    record: dict[str, Any] = {
        "split": split,
        "num_data": 300,
        "num_samples": 100,
        "seed": 0,
        "step": STEP,
        "epoch": EPOCHS,
        "seconds": 1.0,
        "bounds": {
            key: None if value is None else Estimate(value, 0.25)
            for key, value in zip(KEYS, figures, strict=True)
        },
        "discrete_kl": Estimate(3.0, 0.1),
    }
    return Evaluation(**{**record, **settings})


def write_run(
    path: Path,
    settings: Mapping[str, Any],
    test: Evaluation | None = None,
    validation: Evaluation | None = None,
    curve: Sequence[float | None] = (),
) -> Path:
    """The folder of a run with such settings, figures and validation bounds over its epochs."""
    folder = RunFolder(path)
    with folder.locked():
        folder.begin(TrainConfig(**{"epochs": EPOCHS, **settings}).resolved())
    folder.checkpoints.mkdir()
    (folder.checkpoints / f"step-{STEP:08d}.safetensors").touch()
    for key, found in (("evaluation", test), ("validation_evaluation", validation)):
        if found is not None:
            folder.update_result({key: found.to_json()})
    for epoch, bound in enumerate(curve, start=1):
        line = {"epoch": epoch, "step": 13 * epoch, "train_bound": bound, "validation_bound": bound}
        folder.append(line, seconds=1.0)
    return path
