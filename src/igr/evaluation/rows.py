"""Rows of a comparison over seeds, and what may be said about those that were measured alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from igr.evaluation.bounds import BOUND_KINDS, BoundKind, Estimate
from igr.evaluation.compared_runs import (
    SILENT,
    ComparedRun,
    about_bounds,
    about_silent,
    differing_settings,
    name_of_bound,
)
from igr.evaluation.ranking import best
from igr.evaluation.selection import TRIED, Candidate, Choice, over_seeds
from igr.tables import Cell, Measured, Table
from igr.training.config import TrainConfig
from igr.training.run_config import RunConfig

# Headings of settings that are not called as they are in a config.
HEADINGS = {
    "kl": "trained KL",
    "num_variables": "variables",
    "num_categories": "categories",
    "num_samples": "samples",
    "straight_through": "straight-through",
}


@dataclass(frozen=True)
class Row:
    """The repetitions of one setting, chosen from what was tried.

    Attributes:
        label: What tells it from the other rows of its table, by heading.
        choice: What was tried, what was chosen and by which bound.
        bounds: For each key of :data:`igr.evaluation.BOUND_KINDS` the mean over the seeds of the chosen
            candidate and its standard error over these, which is ``None`` for one seed; ``None`` where
            the latent has no such bound.
        discrete_kl: The same of the KL from the discrete posterior to the prior.
    """

    label: Mapping[str, Any]
    choice: Choice
    bounds: Mapping[str, Estimate | None]
    discrete_kl: Estimate | None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All that was tried, each with its validation figure."""
        return self.choice.candidates

    @property
    def runs(self) -> tuple[ComparedRun, ...]:
        """The runs of the chosen candidate, by ascending seed."""
        return self.choice.chosen.runs

    @property
    def config(self) -> RunConfig:
        """The config of the chosen candidate, with the first of its seeds."""
        return self.runs[0].config

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that the figures are means over."""
        return tuple(run.config.seed for run in self.runs)

    @property
    def num_seeds(self) -> int:
        """How many seeds the figures are means over."""
        return len(self.runs)

    @property
    def name(self) -> str:
        """The label in one line."""
        return ", ".join(words(self.label))

    def curve(self, key: str) -> list[tuple[int, Estimate]]:
        """A figure of ``metrics.jsonl`` as pairs of epoch and mean over the seeds, where all have it.

        Raises:
            UserError: A line of a run does not have it, or has something that is no number.
        """
        curves = [dict(run.curve(key)) for run in self.runs]
        epochs = sorted(set.intersection(*map(set, curves)))
        found = ((epoch, over_seeds([Estimate(curve[epoch], None) for curve in curves])) for epoch in epochs)
        return [(epoch, mean) for epoch, mean in found if mean is not None]


@dataclass(frozen=True)
class Section:
    """Rows that were measured alike, and what may be said about them.

    Attributes:
        title: What was measured.
        rows: The rows.
        best: For each key of :data:`igr.evaluation.BOUND_KINDS` in which at least two rows can be ranked,
            the position of the best row, followed by those of the rows within two standard errors of the
            difference.
    """

    title: str
    rows: tuple[Row, ...]
    best: Mapping[str, tuple[int, ...]]

    @property
    def is_over_images(self) -> bool:
        """Whether standard errors are those over images, for want of a row with more than one seed."""
        return _all_single(self.rows)

    def figure(self, position: int, kind: BoundKind) -> Measured | None:
        """A figure of a row with the standard error that it is ranked by; ``None`` where it has none.

        Arguments:
            position: The place of the row, counted from zero.
            kind: The kind of the figure.
        """
        found = _shown(self.rows, self.rows[position], kind)
        if found is None:
            return None
        return Measured(found.value, found.standard_error, position in self.best.get(kind.key, ()))

    def table(self, name: str) -> Table:
        """The rows as a table with its notes."""
        columns: dict[str, str] = dict.fromkeys(self.rows[0].label, "")
        shown = ["temperature", "learning_rate"]
        if any(len({one.prior_temperature for one in row.candidates}) > 1 for row in self.rows):
            shown.insert(1, "prior_temperature")
        columns |= {setting.replace("_", " "): "g" for setting in shown}
        is_tuned = any(len(row.candidates) > 1 for row in self.rows)
        columns |= {"tried": "d", "seeds": "d"} if is_tuned else {"seeds": "d"}
        kinds, has_kl = self._kinds()
        columns |= {name_of_bound(kind, self.rows[0].config): ".2f" for kind in kinds}
        columns |= {"discrete KL": ".2f"} if has_kl else {}
        lines = []
        for position, row in enumerate(self.rows):
            line: list[Cell] = [None if value is None else _text(value) for value in row.label.values()]
            line += [getattr(row.config, setting) for setting in shown]
            line += [len(row.candidates), row.num_seeds] if is_tuned else [row.num_seeds]
            line += [self.figure(position, kind) for kind in kinds]
            line += [None if row.discrete_kl is None else row.discrete_kl.value] if has_kl else []
            lines.append(line)
        return Table(name, self.title, columns, lines, self._notes())

    def _kinds(self) -> tuple[list[BoundKind], bool]:
        """The bounds that have a column, and whether the KL of the discrete latent has one."""
        if any(row.config.trained_kl is not None for row in self.rows):
            return list(BOUND_KINDS), True
        return [
            kind for kind in BOUND_KINDS if any(row.bounds[kind.key] is not None for row in self.rows)
        ], False

    def _notes(self) -> list[str]:
        """What a reader of the table has to know, a sentence or two each."""
        notes = [
            self._about_figures(),
            about_bounds([row.config for row in self.rows])
            + (" The discrete KL is that from q(d | x) to the prior." if self._kinds()[1] else ""),
        ]
        kinds = dict.fromkeys(
            name_of_bound(row.choice.kind, row.config) for row in self.rows if row.choice.kind is not None
        )
        if kinds:
            if self.rows[0].runs[0].measured.split == "validation":
                caution = "the table is of the same images, so its figures may be a little too high"
            else:
                caution = "the images that the table is of had no part in the choice"
            notes.append(
                "Where several temperatures or learning rates were tried, the row is of those with the "
                f"highest mean bound on the validation split ({'; where a law has none, '.join(kinds)}) over "
                f"the seeds that all of them have in common; {caution}."
            )
        if self.best and any(len(row.candidates) == 1 for row in self.rows):
            notes.append(
                "Of a row with one setting nothing was tuned, so that its rank is one of that setting and "
                "not of the latent at its best."
            )
        trained = [row.config for row in self.rows if isinstance(row.config, TrainConfig)]
        idle = [config.estimator for config in trained if not config.uses_temperature]
        if idle and len(idle) < len(trained):
            names = ", ".join(dict.fromkeys(idle))
            notes.append(
                f"In rows with the estimator {names} the temperature had no part in training; it is that of "
                "the relaxed ELBO alone."
            )
        silent = [row for row in self.rows if row.discrete_kl is not None and row.discrete_kl.value < SILENT]
        if silent:
            notes.append(about_silent([row.name for row in silent], [row.config for row in silent]))
        runs = [run for row in self.rows for run in row.runs]
        if len({run.measured.seed for run in runs}) > 1:
            notes.append("The seed of the evaluation is not the same for all runs.")
        unfinished = [run for run in runs if run.measured.epoch < run.config.epochs]
        if unfinished:
            where = ", ".join(
                f"{run.name} (epoch {run.measured.epoch} of {run.config.epochs})" for run in unfinished
            )
            notes.append(f"Evaluated before the end of training: {where}.")
        return notes

    def _about_figures(self) -> str:
        e = self.rows[0].runs[0].measured
        images = f"{e.num_data} {e.split} images of {self.rows[0].config.data}"
        if self.is_over_images:
            what = f"mean ± its standard error over {images}, {e.num_samples} samples each"
            caution = "; the error does not cover the training seed, of which each row has only one"
        else:
            counts = sorted({row.num_seeds for row in self.rows if row.num_seeds > 1})
            seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else counts[0]
            what = (
                f"mean ± its standard error over {seeds} seeds of training, each evaluated on {images} with "
                f"{e.num_samples} samples each"
            )
            caution = ""
        marks = (
            "Marked are the best of a column (by a star, in LaTeX in bold) and what lies within two "
            f"standard errors of the difference{caution}. "
            if self.best
            else ""
        )
        if not self.is_over_images and any(row.num_seeds == 1 for row in self.rows):
            marks += "Rows of one seed have no standard error and are not ranked. "
        return (
            f"Nats per image, higher is better; {what}. {marks}Columns are different quantities and are "
            "never ranked against each other."
        )


def labels(
    configs: Sequence[RunConfig], always: Sequence[str], ignored: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """What tells rows apart, by heading.

    Arguments:
        configs: The config of each row.
        always: Settings that every label has.
        ignored: Settings that no label has, beside what is tried, seeds, and what changes no figure.
    """
    more = differing_settings(configs, {"seed", *TRIED, *always, *ignored})
    return [
        {HEADINGS.get(field, field): getattr(config, field) for field in (*always, *more)}
        for config in configs
    ]


def section(title: str, choices: Sequence[Choice]) -> Section:
    """The rows of what was chosen, once their runs are known to have been measured alike."""
    configs = [choice.chosen.runs[0].config for choice in choices]
    label_of = labels(configs, configs[0].told)
    rows = []
    for choice, label in zip(choices, label_of, strict=True):
        evaluations = [run.measured for run in choice.chosen.runs]
        bounds = {kind.key: over_seeds([e.bounds[kind.key] for e in evaluations]) for kind in BOUND_KINDS}
        rows.append(Row(label, choice, bounds, over_seeds([e.discrete_kl for e in evaluations])))
    ranked = {}
    for kind in BOUND_KINDS:
        figures = {
            i: found
            for i, row in enumerate(rows)
            if (found := _shown(rows, row, kind)) is not None and (row.num_seeds > 1 or _all_single(rows))
        }
        if positions := best(figures):
            ranked[kind.key] = positions
    return Section(title, tuple(rows), ranked)


def _all_single(rows: Sequence[Row]) -> bool:
    return all(row.num_seeds == 1 for row in rows)


def _shown(rows: Sequence[Row], row: Row, kind: BoundKind) -> Estimate | None:
    """The figure of a row, with the error over images where no row has more than one seed."""
    return row.runs[0].measured.bounds[kind.key] if _all_single(rows) else row.bounds[kind.key]


def words(label: Mapping[str, Any]) -> list[str]:
    """The parts of a label as they stand in a line; what is switched off goes without saying."""
    return [in_words(heading, value) for heading, value in label.items() if value is not False]


def in_words(heading: str, value: Any) -> str:
    """A setting as it stands in a line.

    Arguments:
        heading: Its heading in a table.
        value: Its value; ``None`` where it has none.
    """
    if value is True:
        return heading
    if heading in ("latent", "data"):
        return _text(value)
    if heading == "trained KL":
        return f"{value} KL"
    return f"{heading} {'-' if value is None else _text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
