"""The folder of a study: its settings, what items found, and the report."""

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import igr
from igr import atomic, plot
from igr.errors import UserError
from igr.studies.report import Report
from igr.studies.study import Config, Record, Study
from igr.training.folders import LOCK, unwritable

FORMAT = 1
# The folder of its sweep, below that of a study.
RUNS = "runs"


@dataclass(frozen=True)
class Done:
    """What an item found, the seconds that it took, and the versions that it was computed with."""

    record: Record
    seconds: float
    versions: Mapping[str, str]


class StudyFolder:
    """The files of a study.

    Arguments:
        path: The folder; whoever writes has to hold it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config = path / "config.json"
        self._report = path / "report.md"
        self._records = path / "records"
        self.work = path / "work"
        self.runs = path / RUNS
        self._tables = path / "tables"
        self._figures = path / "figures"

    def begin(self, study: Study[Config], config: Config, overwrite: bool) -> None:
        """Makes the folder that of the study: of these settings, with whole files only."""
        record = {"format": FORMAT, "study": study.name, **versions(), "config": config.to_json()}
        stored = self._stored()
        try:
            if stored is not None and overwrite:
                # The config goes last: until then what is left belongs to it.
                self._remove_results()
            elif stored is not None:
                self._check_same(stored, record)
            if stored is None or overwrite:
                atomic.write_json(self._config, record)
            for folder in (self._records, self._tables, self._figures):
                folder.mkdir(exist_ok=True)
            for folder in (self.path, self._records, self._tables, self._figures):
                atomic.remove_unfinished(folder)
        except OSError as error:
            raise unwritable(self.path, "study", error) from error

    def read(self, key: str) -> Done | None:
        """What an item found, unless its file is missing or damaged: then it has to be computed."""
        try:
            stored = json.loads(self._record_path(key).read_text(encoding="utf-8"))
            done = Done(stored["record"], stored["seconds"], stored["versions"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        is_whole = (
            stored.get("key") == key
            and isinstance(done.record, dict)
            and isinstance(done.seconds, float)
            and isinstance(done.versions, dict)
        )
        return done if is_whole else None

    def keep(self, key: str, record: Record, seconds: float) -> Done:
        """Writes what an item found; it is as :meth:`read` will give it."""
        stored = {"key": key, "versions": versions(), "seconds": seconds, "record": record}
        try:
            atomic.write_json(self._record_path(key), stored)
        except OSError as error:
            raise unwritable(self.path, "study", error) from error
        # As it is read when the study goes on, so that its report is of the same values.
        return Done(json.loads(json.dumps(record)), seconds, versions())

    def write(self, report: Report, page: str) -> None:
        """Writes tables and figures, and then the page that refers to them."""
        tables = {self._tables / f"{table.name}.csv": table.to_csv() for table in report.tables}
        tables |= {self._tables / f"{table.name}.tex": table.to_latex() for table in report.tables}
        figures = {self._figures / f"{picture.name}.png": picture for picture in report.pictures}
        if len(figures) < len(report.pictures) or len(tables) < 2 * len(report.tables):
            raise ValueError("run_study: expected tables and pictures with different names; got one twice.")
        try:
            for path, text in tables.items():
                atomic.write_text(path, text)
            for path, picture in figures.items():
                plot.save(picture.figure, path)
            atomic.write_text(self._report, page)
            # Of an earlier version of the study.
            found = {*self._tables.glob("*.csv"), *self._tables.glob("*.tex"), *self._figures.glob("*.png")}
            for stale in found - {*tables, *figures}:
                stale.unlink()
        except OSError as error:
            raise unwritable(self.path, "study", error) from error

    def _record_path(self, key: str) -> Path:
        return self._records / f"{key}.json"

    def _stored(self) -> dict[str, Any] | None:
        """The ``config.json`` of the study that has the folder; ``None`` if it is free."""
        try:
            stored = json.loads(self._config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            entries = [entry for entry in self.path.iterdir() if entry.name != LOCK]
            # A process that was killed at its very start leaves a lock and an unfinished config.
            if all(map(atomic.is_unfinished, entries)):
                return None
            stored = None
        except (OSError, ValueError, RecursionError):
            stored = None
        if (
            not isinstance(stored, dict)
            or "study" not in stored
            or not isinstance(stored.get("config"), dict)
        ):
            raise UserError(
                f"expected an empty folder, or that of a study; got {self.path}, which holds something else; "
                "choose another with --out"
            )
        return stored

    def _check_same(self, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differing = [
            f"{key} {stored.get(key)} there and {wanted[key]} now"
            for key in ("format", "study")
            if stored.get(key) != wanted[key]
        ]
        if not differing:
            before, now = stored["config"], wanted["config"]
            differing = [
                f"{key} {_shown(before, key)} there and {_shown(now, key)} now"
                for key in {**before, **now}
                if _shown(before, key) != _shown(now, key)
            ]
        if differing:
            raise UserError(
                f"expected the settings of the study in {self.path}; got other ones "
                f"({'; '.join(differing)}); choose another folder with --out, or replace what is there with "
                "--overwrite"
            )

    def _remove_results(self) -> None:
        self._report.unlink(missing_ok=True)
        for folder in (self._records, self.work, self.runs, self._tables, self._figures):
            if folder.is_dir():
                shutil.rmtree(folder)


def _shown(config: Mapping[str, Any], key: str) -> str:
    return json.dumps(config[key]) if key in config else "not"


def versions() -> dict[str, str]:
    """The versions that figures may depend on."""
    return {"igr": igr.__version__, "torch": torch.__version__, "python": platform.python_version()}
