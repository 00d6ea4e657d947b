"""Several evaluated runs side by side: one table, ranked within its columns only."""

import csv
import io
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from igr.errors import UserError
from igr.evaluation.bounds import BOUND_KINDS, BoundKind, Estimate
from igr.evaluation.evaluation import Evaluation, stored_evaluation
from igr.training.config import TrainConfig
from igr.training.runs import RunFolder

# Where two runs differ in one of these, their figures are of different things.
WHAT_WAS_MEASURED = ("data", "likelihood", "binarization", "split", "num_data", "num_samples")
# Nats per image below which a latent is said to have collapsed.
SILENT = 0.1
# Where their configs differ in one of these, a comparison is about more than the law and the KL.
BUDGET = (
    "network",
    "num_variables",
    "num_categories",
    "max_images",
    "num_samples",
    "kl_warmup",
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
    "precision",
)
# Standard errors of a difference within which it says nothing about which run is ahead.
TIE = 2.0


@dataclass(frozen=True)
class ComparedRun:
    """A run as it enters a comparison; ``metrics`` are the lines of ``metrics.jsonl``."""

    name: str
    config: TrainConfig
    evaluation: Evaluation
    metrics: list[dict[str, Any]]

    def setting(self, field: str) -> Any:
        """A field of the evaluation or of the config."""
        source = self.evaluation if hasattr(self.evaluation, field) else self.config
        return getattr(source, field)

    def curve(self, key: str) -> list[tuple[int, float]]:
        """A figure of ``metrics.jsonl`` as pairs of epoch and value, where it was measured.

        Raises:
            UserError: A line does not have it, or has something that is no number.
        """
        for line in self.metrics:
            if type(line.get("epoch")) is not int or not _is_figure(line.get(key, "")):
                raise UserError(
                    f"expected an epoch and a finite {key} on each line of the metrics.jsonl of "
                    f"{self.name}; got {line!r}; restore the file, or leave the run out"
                )
        return [(line["epoch"], line[key]) for line in self.metrics if line[key] is not None]


@dataclass(frozen=True)
class Comparison:
    """Runs, and what may be said about them.

    ``best`` holds, for each key of :data:`igr.evaluation.BOUND_KINDS` that at least two runs have,
    the name of the run with the highest figure, followed by those whose figures are within two
    standard errors of the difference. It is empty where ``obstacle`` says why figures of these runs
    cannot be ranked.
    """

    runs: tuple[ComparedRun, ...]
    obstacle: str | None
    best: dict[str, tuple[str, ...]]

    def header(self) -> list[str]:
        """The titles of the columns."""
        return ["run", "trained KL", *(kind.name for kind in BOUND_KINDS)]

    def rows(self) -> list[list[str]]:
        """One row of text for each run."""
        return [
            [run.name, run.config.kl, *(self._cell(run, kind) for kind in BOUND_KINDS)] for run in self.runs
        ]

    def notes(self) -> list[str]:
        """What a reader of the table has to know, a sentence or two each."""
        notes = []
        if self.obstacle is None:
            e = self.runs[0].evaluation
            stars = (
                "* marks the best of a column and what lies within two standard errors of it; the "
                "error does not cover the training seed. "
            )
            notes.append(
                f"Nats per image, higher is better; mean ± its standard error over {e.num_data} "
                f"{e.split} images of {self.runs[0].config.data}, {e.num_samples} samples each. "
                f"{stars if self.best else ''}Columns are different quantities and are never ranked "
                "against each other."
            )
        else:
            notes.append(f"Nats per image; mean ± its standard error. {self.obstacle}")
        notes.append(
            "The relaxed ELBO bounds log p(x) of the relaxed model; the other three bound that of "
            "the discrete model. In expectation the importance-weighted (IW) bound by the exact q is "
            "the tightest of these; that over the pre-image can lie below the discrete ELBO."
        )
        silent = [run.name for run in self.runs if run.evaluation.discrete_kl.value < SILENT]
        if silent:
            notes.append(
                f"Collapsed: in {', '.join(silent)} the discrete posterior is within {SILENT} nats of "
                "the prior, so the latent says next to nothing about the image."
            )
        differing = [key for key in BUDGET if _differ([run.config for run in self.runs], key)]
        if len({run.evaluation.seed for run in self.runs}) > 1:
            differing.append("the seed of the evaluation")
        if differing:
            notes.append(
                f"The runs also differ in {', '.join(differing)}, so the table shows more than "
                "the law and the KL."
            )
        unfinished = [run for run in self.runs if run.evaluation.epoch < run.config.epochs]
        if unfinished:
            where = ", ".join(
                f"{run.name} (epoch {run.evaluation.epoch} of {run.config.epochs})" for run in unfinished
            )
            notes.append(f"Evaluated before the end of training: {where}.")
        return notes

    def to_markdown(self) -> str:
        """The table with its notes."""
        columns = len(self.header())
        lines = [self.header(), [":--", ":--", *["--:"] * (columns - 2)], *self.rows()]
        table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in x)} |" for x in lines)
        # A star alone would open emphasis in Markdown.
        return "\n\n".join([table, *self.notes()]).replace("*", "\\*") + "\n"

    def to_csv(self) -> str:
        """One line for each run: settings, figures and standard errors, unrounded."""
        records = [self._flat(run) for run in self.runs]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return buffer.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {
            "runs": [
                {"name": run.name, "config": asdict(run.config), **run.evaluation.to_json()}
                for run in self.runs
            ],
            "best": self.best,
            "obstacle": self.obstacle,
        }

    def _cell(self, run: ComparedRun, kind: BoundKind) -> str:
        figure = run.evaluation.bounds[kind.key]
        if figure is None:
            return "-"
        if run.name not in self.best.get(kind.key, ()):
            return str(figure)
        # The mark beside the value, so that a narrow table does not part them.
        value, *error = str(figure).split(" ")
        return " ".join([f"{value}*", *error])

    def _flat(self, run: ComparedRun) -> dict[str, Any]:
        record = {"run": run.name, **asdict(run.config)}
        # Prefixed, because the config has a seed and numbers of samples of its own.
        record |= {
            f"evaluation_{field}": getattr(run.evaluation, field)
            for field in ("split", "num_data", "num_samples", "seed", "step", "epoch")
        }
        for kind in BOUND_KINDS:
            figure = run.evaluation.bounds[kind.key]
            record[kind.key] = None if figure is None else figure.value
            record[f"{kind.key}_standard_error"] = None if figure is None else figure.standard_error
        record["discrete_kl"] = run.evaluation.discrete_kl.value
        return record


def compare(paths: Sequence[Path]) -> Comparison:
    """Read evaluated runs and find the best of each column.

    Raises:
        UserError: A folder is no run, is given twice, or its latest checkpoint was not evaluated.
    """
    if not paths:
        raise UserError("expected at least one run folder; got none; name the runs to compare")
    resolved = [path.resolve() for path in paths]
    for position, path in enumerate(resolved):
        if path in resolved[:position]:
            raise UserError(f"expected every run once; got {paths[position]} twice; name it only once")
    folders = [RunFolder(path) for path in paths]
    configs = [folder.config() for folder in folders]
    evaluations = [stored_evaluation(folder) for folder in folders]
    missing = [folder for folder, found in zip(folders, evaluations, strict=True) if found is None]
    if missing:
        commands = " && ".join(f"igr evaluate {shlex.quote(str(folder.path))}" for folder in missing)
        raise UserError(
            f"expected runs whose latest checkpoint was evaluated; got {len(missing)} of "
            f"{len(folders)} that still have to be; run {commands}"
        )
    runs = tuple(
        ComparedRun(name, config, evaluation, folder.metrics())
        for name, config, evaluation, folder in zip(
            _names(resolved), configs, evaluations, folders, strict=True
        )
        if evaluation is not None
    )
    differing = [field for field in WHAT_WAS_MEASURED if len({run.setting(field) for run in runs}) > 1]
    if differing:
        values = "; ".join(
            f"{field}: {', '.join(dict.fromkeys(str(run.setting(field)) for run in runs))}"
            for field in differing
        )
        obstacle = f"Not ranked, because these runs were not measured alike ({values})."
        return Comparison(runs, obstacle, {})
    return Comparison(runs, None, _best(runs))


def _best(runs: Sequence[ComparedRun]) -> dict[str, tuple[str, ...]]:
    best = {}
    for kind in BOUND_KINDS:
        figures = {
            run.name: figure for run in runs if (figure := run.evaluation.bounds[kind.key]) is not None
        }
        if len(figures) > 1:
            ranked = sorted(figures, key=lambda name: figures[name].value, reverse=True)
            first, *others = ranked
            tied = [name for name in others if _tied(figures[first], figures[name])]
            best[kind.key] = (first, *tied)
    return best


def _tied(a: Estimate, b: Estimate) -> bool:
    if a.standard_error is None or b.standard_error is None:
        return True
    return abs(a.value - b.value) <= TIE * math.hypot(a.standard_error, b.standard_error)


def _differ(configs: Sequence[TrainConfig], key: str) -> bool:
    """Whether a setting tells configs apart by more than that each has the default of its KL."""
    if key == "kl_warmup" and all(config.kl_warmup == config.default_warmup for config in configs):
        return False
    return len({getattr(config, key) for config in configs}) > 1


def _is_figure(value: object) -> bool:
    """Whether it is what a figure of ``metrics.jsonl`` may be: finite, or ``None``."""
    return value is None or (isinstance(value, float | int) and math.isfinite(value))


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]
