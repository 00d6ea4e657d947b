"""What a study is: settings, runs to train, pieces of work, and a report made of what they found."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Generator

from igr.errors import UserError, unknown_name
from igr.evaluation import GroupedComparison, compare_groups, read_runs
from igr.studies.report import Report
from igr.sweeps import EvaluationSettings, Group, Run, SweepOutcome

BUDGETS = ("full", "small")

# What a piece of work found: JSON values by name.
Record = dict[str, Any]


@dataclass(frozen=True)
class StudyConfig:
    """The settings of a study: flags of ``igr study run``, and ``config.json`` of its folder.

    A subclass is a frozen dataclass too. It adds fields of JSON values (and tuples of them), each with a
    default and a docstring under it, which becomes the help of its flag, and extends :meth:`check`.
    """

    seed: int = 0
    """Fixes every random number."""

    def check(self) -> None:
        """Checks the values, before anything is written.

        Raises:
            UserError: A setting has a value that cannot be used.
        """
        self.require("seed", 0 <= self.seed < 2**63, "a whole number from 0 to 2**63 - 1")

    def require(self, key: str, good: bool, expected: str) -> None:
        """Raises the error of a setting unless its value is good.

        Arguments:
            key: The name of the setting.
            good: Whether its value is.
            expected: What it should be, as it follows "expected ... to be".

        Raises:
            UserError: It is not.
        """
        if not good:
            given = getattr(self, key)
            got = " ".join(map(str, given)) or "none" if isinstance(given, tuple) else given
            raise UserError(f"expected {key} to be {expected}; got {got}; change {key}")

    def to_json(self) -> Record:
        """The settings as JSON gives them back: tuples have become lists."""
        values: Record = json.loads(json.dumps(dataclasses.asdict(self)))
        return values


@dataclass(frozen=True)
class Runs:
    """The finished runs of a study, those that failed left out.

    Attributes:
        outcome: What came of its sweep; ``None`` where the study has no runs.
    """

    outcome: SweepOutcome | None = None

    def path(self, run: Run) -> Path:
        """The folder of a run."""
        return self._outcome.sweep.folder / run.path

    def chosen(self, key: str) -> list[Run]:
        """The runs of the chosen candidate of a group, one for each seed; none where all failed."""
        number = self._outcome.chosen[key]
        if number is None:
            return []
        group = next(group for group in self._outcome.sweep.groups if group.key == key)
        return [run for run in group.runs_of(number) if run in self.finished]

    @property
    def finished(self) -> list[Run]:
        """All runs that did not fail."""
        failed = {failure.run for failure in self._outcome.failures}
        return [run for run in self._outcome.runs if run not in failed]

    def comparison(self, keep: Callable[[Any], bool] = lambda config: True) -> GroupedComparison:
        """All of them side by side, one row for each group, or those whose configs are to be kept."""
        return compare_groups(
            [run for run in read_runs([self.path(run) for run in self.finished]) if keep(run.config)]
        )

    @property
    def _outcome(self) -> SweepOutcome:
        if self.outcome is None:
            raise ValueError("Runs: expected a study that has runs; got one without; give it groups.")
        return self.outcome


@dataclass(frozen=True)
class Work:
    """What an item may use.

    Attributes:
        generator: The only source of randomness that an item should have. It depends on the seed and the
            key of the item alone, never on what was done before.
        folder: A folder of the item's own, not yet made, for what long work keeps while it goes on. After an
            interrupt the item is computed again and finds there what it left.
        runs: The runs of the study.
    """

    generator: Generator
    folder: Path
    runs: Runs = field(default_factory=Runs)


@dataclass(frozen=True)
class Findings:
    """What a report is made of.

    Attributes:
        records: What the items found, by their keys.
        runs: The runs.
    """

    records: Mapping[str, Record]
    runs: Runs = field(default_factory=Runs)


@dataclass(frozen=True)
class Item:
    """A piece of work that needs no other one.

    Attributes:
        key: Its name, unique within the study, of small letters, digits and ``. _ -``; also that of its file.
        compute: Finds the record; ``None`` where its run has failed, which is then tried again another time.
    """

    key: str
    compute: Callable[[Work], Record | None]


Config = TypeVar("Config", bound=StudyConfig)


@dataclass(frozen=True)
class Study(Generic[Config]):
    """One table or figure: ``STUDY`` of a module in ``igr.studies``.

    Attributes:
        name: The name of the study, as in ``igr study run NAME``.
        summary: What it shows, in one line.
        config: The class of its settings; their defaults are the full study.
        smoke: Settings with which everything runs in seconds.
        report: Tables and pictures, of what was found.
        items: The work. It only lists it, since a study that goes on lists it again.
        groups: The runs that are trained before it.
        evaluation: How these are evaluated.
        small: Settings for two cores and an hour or so; ``None`` where the full study is as small.
    """

    name: str
    summary: str
    config: type[Config]
    smoke: Config
    report: Callable[[Config, Findings], Report]
    items: Callable[[Config], Sequence[Item]] = lambda config: ()
    groups: Callable[[Config], Sequence[Group]] = lambda config: ()
    evaluation: Callable[[Config], EvaluationSettings] = lambda config: EvaluationSettings()
    small: Config | None = None

    def preset(self, budget: str, smoke: bool = False) -> Config:
        """The settings of a budget.

        Arguments:
            budget: One of :data:`~igr.studies.BUDGETS`.
            smoke: Whether to take the smallest settings that there are, which show that all works; beside the
                budget ``"full"`` only.

        Raises:
            UserError: There is no such budget, or another one beside ``smoke``.
        """
        if budget not in BUDGETS:
            raise unknown_name("budget", budget, BUDGETS)
        if smoke and budget != "full":
            raise UserError(f"expected --smoke or --budget {budget}; got both; leave one of them out")
        if smoke:
            return self.smoke
        return self.small if budget == "small" and self.small is not None else self.config()
