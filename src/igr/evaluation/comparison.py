"""Several evaluated runs side by side: one table, ranked within its columns only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from igr.evaluation.bounds import BOUND_KINDS, BoundKind
from igr.evaluation.compared_runs import (
    SILENT,
    WHAT_WAS_MEASURED,
    ComparedRun,
    about_bounds,
    about_silent,
    check_evaluated,
    differing_settings,
    name_of_bound,
    read_runs,
    runs_to_csv,
)
from igr.evaluation.ranking import best
from igr.tables import Measured, Table

# What a comparison is about; where configs differ in something else, it is about more.
LAW_AND_KL = ("latent", "kl", "temperature", "prior_temperature", "scale")


@dataclass(frozen=True)
class Comparison:
    """Runs, and what may be said about them.

    Arguments:
        runs: The runs.
        obstacle: Why their figures cannot be ranked; ``None`` where they can.
        best: For each key of :data:`igr.evaluation.BOUND_KINDS` that at least two runs have, the name of the
            run with the highest figure, followed by those whose figures are within two standard errors of the
            difference. It is empty where there is an obstacle.
    """

    runs: tuple[ComparedRun, ...]
    obstacle: str | None
    best: dict[str, tuple[str, ...]]

    def header(self) -> list[str]:
        """The titles of the columns."""
        return ["run", *(["trained KL"] if self._has_kl else []), *self._bound_names]

    def rows(self) -> list[list[str]]:
        """One row of text for each run."""
        return [
            [
                run.name,
                *([run.config.trained_kl or "-"] if self._has_kl else []),
                *(self._cell(run, kind) for kind in self._kinds),
            ]
            for run in self.runs
        ]

    def notes(self) -> list[str]:
        """What a reader of the table has to know, a sentence or two each."""
        notes = []
        if self.obstacle is None:
            e = self.runs[0].measured
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
        notes.append(about_bounds([run.config for run in self.runs]))
        silent = [
            run for run in self.runs if (kl := run.measured.discrete_kl) is not None and kl.value < SILENT
        ]
        if silent:
            notes.append(about_silent([run.name for run in silent], [run.config for run in silent]))
        ignored = {*LAW_AND_KL, *WHAT_WAS_MEASURED, *self.runs[0].config.told} - {"num_samples"}
        differing = differing_settings([run.config for run in self.runs], ignored)
        if len({run.measured.seed for run in self.runs}) > 1:
            differing.append("the seed of the evaluation")
        if differing:
            notes.append(
                f"The runs also differ in {', '.join(differing)}, so the table shows more than "
                f"the law{' and the KL' if self._has_kl else ''}."
            )
        unfinished = [run for run in self.runs if run.measured.epoch < run.config.epochs]
        if unfinished:
            where = ", ".join(
                f"{run.name} (epoch {run.measured.epoch} of {run.config.epochs})" for run in unfinished
            )
            notes.append(f"Evaluated before the end of training: {where}.")
        return notes

    def to_markdown(self) -> str:
        """The table with its notes."""
        columns = len(self.header())
        texts = columns - len(self._kinds)
        lines = [self.header(), [*[":--"] * texts, *["--:"] * len(self._kinds)], *self.rows()]
        table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in x)} |" for x in lines)
        # A star alone would open emphasis in Markdown.
        return "\n\n".join([table, *self.notes()]).replace("*", "\\*") + "\n"

    def to_csv(self) -> str:
        """One line for each run: settings, figures and standard errors, unrounded."""
        return runs_to_csv(self.runs)

    def to_latex(self) -> str:
        """The table with its notes, for LaTeX with the package booktabs."""
        columns = {"run": "", **({"trained KL": ""} if self._has_kl else {})}
        columns |= dict.fromkeys(self._bound_names, ".2f")
        rows = [
            [
                run.name,
                *([run.config.trained_kl] if self._has_kl else []),
                *(self._measured(run, kind) for kind in self._kinds),
            ]
            for run in self.runs
        ]
        notes = [note.replace("* marks", "Bold marks") for note in self.notes()]
        title = f"Bounds on {self.runs[0].config.quantity}, nats per image"
        return Table("comparison", title, columns, rows, notes).to_latex()

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {
            "runs": [
                {"name": run.name, "config": asdict(run.config), **run.measured.to_json()}
                for run in self.runs
            ],
            "best": self.best,
            "obstacle": self.obstacle,
        }

    @property
    def _has_kl(self) -> bool:
        return any(run.config.trained_kl is not None for run in self.runs)

    @property
    def _kinds(self) -> list[BoundKind]:
        """The bounds that have a column: of a VAE all."""
        return [
            kind
            for kind in BOUND_KINDS
            if self._has_kl or any(run.measured.bounds[kind.key] is not None for run in self.runs)
        ]

    @property
    def _bound_names(self) -> list[str]:
        return [name_of_bound(kind, self.runs[0].config) for kind in self._kinds]

    def _cell(self, run: ComparedRun, kind: BoundKind) -> str:
        figure = run.measured.bounds[kind.key]
        if figure is None:
            return "-"
        if run.name not in self.best.get(kind.key, ()):
            return str(figure)
        # The mark beside the value, so that a narrow table does not part them.
        value, *error = str(figure).split(" ")
        return " ".join([f"{value}*", *error])

    def _measured(self, run: ComparedRun, kind: BoundKind) -> Measured | None:
        figure = run.measured.bounds[kind.key]
        if figure is None:
            return None
        return Measured(figure.value, figure.standard_error, run.name in self.best.get(kind.key, ()))


def compare(paths: Sequence[Path], split: str = "test") -> Comparison:
    """Read evaluated runs and find the best of each column.

    Arguments:
        paths: Folders of runs, or folders with runs below them.
        split: The split whose evaluation is compared.

    Raises:
        UserError: A folder is no run, is given twice, or its latest checkpoint was not evaluated.
    """
    return compare_runs(read_runs(paths, split))


def compare_runs(runs: Sequence[ComparedRun]) -> Comparison:
    """Find the best of each column among runs, each of which has a row of its own.

    Raises:
        UserError: A run was not evaluated.
    """
    check_evaluated(runs)
    differing = [field for field in WHAT_WAS_MEASURED if len({run.setting(field) for run in runs}) > 1]
    if differing:
        values = "; ".join(
            f"{field}: {', '.join(dict.fromkeys(str(run.setting(field)) for run in runs))}"
            for field in differing
        )
        obstacle = f"Not ranked, because these runs were not measured alike ({values})."
        return Comparison(tuple(runs), obstacle, {})
    ranked = {}
    for kind in BOUND_KINDS:
        figures = {run.name: figure for run in runs if (figure := run.measured.bounds[kind.key]) is not None}
        if names := best(figures):
            ranked[kind.key] = names
    return Comparison(tuple(runs), None, ranked)
