"""What a study is: settings, independent pieces of work, and a report made of their records."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Generator

from igr.errors import UserError
from igr.studies.report import Report

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
        """Raises the error of a setting unless its value is good."""
        if not good:
            given = getattr(self, key)
            got = " ".join(map(str, given)) or "none" if isinstance(given, tuple) else given
            raise UserError(f"expected {key} to be {expected}; got {got}; change {key}")

    def to_json(self) -> Record:
        """The settings as JSON gives them back: tuples have become lists."""
        values: Record = json.loads(json.dumps(dataclasses.asdict(self)))
        return values


@dataclass(frozen=True)
class Work:
    """What an item may use.

    Attributes:
        generator: The only source of randomness that an item should have. It depends on the seed and the
            key of the item alone, never on what was done before.
        folder: A folder of the item's own, not yet made, for what long work keeps while it goes on. After an
            interrupt the item is computed again and finds there what it left.
    """

    generator: Generator
    folder: Path


@dataclass(frozen=True)
class Item:
    """A piece of work that needs no other one.

    Attributes:
        key: Its name, unique within the study, of small letters, digits and ``. _ -``; also that of its file.
        compute: Finds the record.
    """

    key: str
    compute: Callable[[Work], Record]


Config = TypeVar("Config", bound=StudyConfig)


@dataclass(frozen=True)
class Study(Generic[Config]):
    """One table or figure: ``STUDY`` of a module in :mod:`igr.studies`.

    Attributes:
        name: The name of the study, as in ``igr study run NAME``.
        summary: What it shows, in one line.
        config: The class of its settings; their defaults are the full study.
        smoke: Settings with which everything runs in seconds.
        items: The work. It only lists it, since a study that goes on lists it again.
        report: Tables and pictures, of the records by the keys of their items.
    """

    name: str
    summary: str
    config: type[Config]
    smoke: Config
    items: Callable[[Config], Sequence[Item]]
    report: Callable[[Config, Mapping[str, Record]], Report]
