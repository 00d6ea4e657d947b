"""Runs over seeds and grids side by side: one row for all repetitions of what was chosen."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from igr.errors import UserError
from igr.evaluation.bounds import Estimate
from igr.evaluation.compared_runs import WHAT_WAS_MEASURED, ComparedRun, check_evaluated, to_csv
from igr.evaluation.rows import Row, Section, in_words, section
from igr.evaluation.selection import TRIED, Choice, choose, grouped, tried_of
from igr.tables import Table


@dataclass(frozen=True)
class GroupedComparison:
    """Repetitions and grids of runs, and what may be said about them.

    Attributes:
        runs: All runs, those of settings that were not chosen included.
        sections: The rows, those together that were measured alike.
    """

    runs: tuple[ComparedRun, ...]
    sections: tuple[Section, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all tables, one after the other."""
        return tuple(row for of in self.sections for row in of.rows)

    def tables(self) -> list[Table]:
        """A table for each thing that was measured."""
        if len(self.sections) == 1:
            return [self.sections[0].table("comparison")]
        return [of.table(f"comparison-{i}") for i, of in enumerate(self.sections, start=1)]

    def to_markdown(self) -> str:
        """The tables with their notes."""
        # A star alone would open emphasis in Markdown.
        return "\n\n".join(table.to_markdown() for table in self.tables()).replace("*", "\\*") + "\n"

    def to_latex(self) -> str:
        """The tables with their notes, for LaTeX with the package booktabs."""
        return "\n".join(table.to_latex() for table in self.tables())

    def to_csv(self) -> str:
        """One line for each row: settings, figures and standard errors over seeds, unrounded."""
        return to_csv([_flat(of, i) for of in self.sections for i in range(len(of.rows))])

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {
            "tables": [
                {
                    "name": table.name,
                    "title": table.title,
                    "rows": [_row_json(of, position) for position in range(len(of.rows))],
                    "notes": list(table.notes),
                }
                for of, table in zip(self.sections, self.tables(), strict=True)
            ]
        }


def compare_groups(runs: Sequence[ComparedRun]) -> GroupedComparison:
    """Make one row of all runs that differ only in seed, temperature and learning rate.

    Where several temperatures or learning rates were tried, the one with the highest mean of
    :func:`selection_bound` on the validation split is chosen; the figures are those of its runs.

    Arguments:
        runs: The runs, from :func:`read_runs`. Those that are not chosen need no evaluation but that on
            the validation split.

    Raises:
        UserError: There are none, an evaluation that is needed is missing or was not made like the others
            of its row, or nothing can be chosen because settings that were tried share no seed.
    """
    if not runs:
        raise UserError("expected at least one run; got none; name the runs to compare")
    choices = [choose(group) for group in grouped(runs)]
    check_evaluated([run for choice in choices for run in choice.chosen.runs])
    for choice in choices:
        _check_measured_alike(choice.chosen.runs)
    together: dict[tuple[Any, ...], list[Choice]] = {}
    for choice in choices:
        together.setdefault(_what_was_measured(choice.chosen.runs[0]), []).append(choice)
    differing = [
        field for i, field in enumerate(WHAT_WAS_MEASURED) if len({what[i] for what in together}) > 1
    ]
    sections = [section(_title(of_table[0], differing), of_table) for of_table in together.values()]
    return GroupedComparison(tuple(runs), tuple(sections))


def has_groups(runs: Sequence[ComparedRun]) -> bool:
    """Whether some runs have a row together: repetitions, or a grid that was evaluated to choose from.

    Two runs that differ in their temperature alone, and of which no one has an evaluation on the validation
    split, are just two runs.
    """
    for group in grouped(runs):
        tried = {tried_of(run.config) for run in group}
        if len(group) > len(tried) or any(run.validation is not None for run in group if len(tried) > 1):
            return True
    return False


def _title(choice: Choice, differing: Sequence[str]) -> str:
    run = choice.chosen.runs[0]
    settings = [in_words(field, run.setting(field)) for field in differing if field != "data"]
    return f"{', '.join([run.config.data, *settings])}: bounds on {run.config.quantity}, nats per image"


def _what_was_measured(run: ComparedRun) -> tuple[Any, ...]:
    return tuple(run.setting(field) for field in WHAT_WAS_MEASURED)


def _check_measured_alike(runs: Sequence[ComparedRun]) -> None:
    for field in WHAT_WAS_MEASURED:
        for run in runs[1:]:
            values = runs[0].setting(field), run.setting(field)
            if values[0] != values[1]:
                raise UserError(
                    f"expected repetitions that were evaluated alike; got {field} {values[0]} in "
                    f"{runs[0].name} and {values[1]} in {run.name}; evaluate them anew by igr evaluate with "
                    "the same settings"
                )


def _flat(of: Section, position: int) -> dict[str, Any]:
    row = of.rows[position]
    e = row.runs[0].measured
    record: dict[str, Any] = {"row": row.name, **asdict(row.config)}
    del record["seed"]
    record |= {"seeds": " ".join(map(str, row.seeds)), "num_seeds": row.num_seeds}
    chosen = row.choice.chosen.validation
    record |= {
        "num_candidates": len(row.candidates),
        "selection_bound": None if row.choice.kind is None else row.choice.kind.key,
        "selection_seeds": " ".join(map(str, row.choice.seeds)),
        "selection_value": None if chosen is None else chosen.value,
        "selection_standard_error": None if chosen is None else chosen.standard_error,
    }
    record |= {f"evaluation_{field}": getattr(e, field) for field in ("split", "num_data", "num_samples")}
    figures = {**row.bounds, "discrete_kl": row.discrete_kl}
    for key, figure in figures.items():
        record[key] = None if figure is None else figure.value
        record[f"{key}_standard_error"] = None if figure is None else figure.standard_error
    record["best"] = " ".join(key for key, positions in of.best.items() if position in positions)
    return record


def _row_json(of: Section, position: int) -> dict[str, Any]:
    row = of.rows[position]
    return {
        "label": dict(row.label),
        "config": asdict(row.config),
        "seeds": list(row.seeds),
        "bounds": {key: _estimate_json(figure) for key, figure in row.bounds.items()},
        "discrete_kl": _estimate_json(row.discrete_kl),
        "best": [key for key, positions in of.best.items() if position in positions],
        "runs": [run.name for run in row.runs],
        "selection_bound": None if row.choice.kind is None else row.choice.kind.key,
        "selection_seeds": list(row.choice.seeds),
        "candidates": [
            {
                **{setting: getattr(one, setting) for setting in TRIED},
                "seeds": [run.config.seed for run in one.runs],
                "runs": [run.name for run in one.runs],
                "validation": _estimate_json(one.validation),
            }
            for one in row.candidates
        ],
    }


def _estimate_json(figure: Estimate | None) -> dict[str, Any] | None:
    return None if figure is None else asdict(figure)
