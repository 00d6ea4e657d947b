"""Running a study in its folder, so that it may be stopped at any time and gone on with."""

import dataclasses
import json
import platform
import re
import shlex
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import igr
from igr import atomic, plot
from igr.errors import UserError
from igr.progress import bar
from igr.studies.report import Report
from igr.studies.study import Config, Item, Record, Study, StudyConfig, Work
from igr.training.failures import Interrupted
from igr.training.folders import LOCK, held, unwritable
from igr.training.randomness import keyed_generator

FORMAT = 1
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Outcome:
    """A finished study.

    Attributes:
        report: What it found.
        out: Its folder.
        num_items: How many items it has.
        num_kept: How many of them were there already.
        seconds: The time that the items took, those of earlier processes included.
        warnings: Sentences about what a reader should know.
    """

    report: Report
    out: Path
    num_items: int
    num_kept: int
    seconds: float
    warnings: tuple[str, ...]


def default_folder(name: str, smoke: bool = False) -> Path:
    """Where a study is run if no other folder is named."""
    return Path("studies") / (f"{name}-smoke" if smoke else name)


def run_study(study: Study[Config], config: Config, out: str | Path, *, overwrite: bool = False) -> Outcome:
    """Runs a study, or goes on with it, and writes its report.

    The folder holds

    - ``config.json``: the settings, and the versions it was started with;
    - ``records/``: what each item found, written as soon as it is done. An item whose record is there and
      whole is not computed again, and the records do not depend on how often the study was stopped;
    - ``work/``: what items keep for themselves, see :class:`Work`;
    - ``report.md``, ``tables/*.csv``, ``figures/*.png``.

    Arguments:
        study: The study.
        config: Its settings.
        out: The folder; it need not exist.
        overwrite: Remove what an earlier study, of whatever settings, left in the folder.

    Raises:
        UserError: A setting cannot be used, or the folder is that of something else, in use, or cannot be
            written.
        Interrupted: By Ctrl-C; the text says how to go on.
    """
    config.check()
    items = study.items(config)
    _check_keys(items)
    folder = _Folder(Path(out))
    command = command_of(study, config, folder.path)
    done: dict[str, _Done] = {}
    num_kept = 0
    with held(folder.path, "study"):
        try:
            folder.begin(study, config, overwrite)
            with bar(study.name, len(items), "items") as advance:
                for item in items:
                    found = folder.read(item.key)
                    num_kept += found is not None
                    done[item.key] = found or folder.compute(item, study.name, config.seed)
                    advance(len(done))
            seconds = sum(one.seconds for one in done.values())
            warnings = _warnings(done.values())
            report = study.report(config, {key: one.record for key, one in done.items()})
            made = {
                "command": f"`{command}`",
                "seed": str(config.seed),
                "versions": _in_words(_versions()),
                "time": f"{seconds:.1f} s, of {len(items)} items",
                "settings": "in [config.json](config.json)",
            }
            if warnings:
                made["note"] = " ".join(warnings)
            folder.write(report, report.to_markdown(f"{study.name}: {study.summary}", made))
        except (KeyboardInterrupt, Interrupted) as stop:
            raise Interrupted(
                f"stopped after {len(done)} of {len(items)} items; go on with {command}"
            ) from stop
    return Outcome(report, folder.path, len(items), num_kept, seconds, warnings)


def command_of(study: Study[Config], config: Config, out: Path) -> str:
    """The command that runs a study with these settings in that folder."""
    whole, smoke = ([*_flags(config, base)] for base in (study.config(), study.smoke))
    is_smoke = len(smoke) < len(whole)
    words = ["igr", "study", "run", study.name, *(["--smoke", *smoke] if is_smoke else whole)]
    if out != default_folder(study.name, is_smoke):
        words += ["--out", str(out)]
    return shlex.join(words)


def _flags(config: StudyConfig, base: StudyConfig) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == getattr(base, field.name):
            continue
        name = field.name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name}"
            yield from map(str, value if isinstance(value, tuple) else (value,))


@dataclass(frozen=True)
class _Done:
    record: Record
    seconds: float
    versions: Mapping[str, str]


class _Folder:
    """The files of a study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config = path / "config.json"
        self._report = path / "report.md"
        self._records = path / "records"
        self._work = path / "work"
        self._tables = path / "tables"
        self._figures = path / "figures"

    def begin(self, study: Study[Config], config: Config, overwrite: bool) -> None:
        """Makes the folder that of the study: of these settings, with whole files only."""
        record = {"format": FORMAT, "study": study.name, **_versions(), "config": config.to_json()}
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

    def read(self, key: str) -> _Done | None:
        """What an item found, unless its file is missing or damaged: then it has to be computed."""
        try:
            stored = json.loads(self._record_path(key).read_text(encoding="utf-8"))
            done = _Done(stored["record"], stored["seconds"], stored["versions"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        is_whole = (
            stored.get("key") == key
            and isinstance(done.record, dict)
            and isinstance(done.seconds, float)
            and isinstance(done.versions, dict)
        )
        return done if is_whole else None

    def compute(self, item: Item, study: str, seed: int) -> _Done:
        """Has an item do its work and writes what it found."""
        work = Work(keyed_generator(seed, f"{study}/{item.key}", 0), self._work / item.key)
        start = time.perf_counter()
        record = item.compute(work)
        seconds = time.perf_counter() - start
        stored = {"key": item.key, "versions": _versions(), "seconds": seconds, "record": record}
        atomic.write_json(self._record_path(item.key), stored)
        # As it is read when the study goes on, so that its report is of the same values.
        return _Done(json.loads(json.dumps(record)), seconds, _versions())

    def write(self, report: Report, page: str) -> None:
        """Writes tables and figures, and then the page that refers to them."""
        tables = {self._tables / f"{table.name}.csv": table for table in report.tables}
        figures = {self._figures / f"{picture.name}.png": picture for picture in report.pictures}
        for path, table in tables.items():
            atomic.write_text(path, table.to_csv())
        for path, picture in figures.items():
            plot.save(picture.figure, path)
        atomic.write_text(self._report, page)
        # Of an earlier version of the study.
        for stale in {*self._tables.glob("*.csv"), *self._figures.glob("*.png")} - {*tables, *figures}:
            stale.unlink()

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
        for folder in (self._records, self._work, self._tables, self._figures):
            if folder.is_dir():
                shutil.rmtree(folder)


def _shown(config: Mapping[str, Any], key: str) -> str:
    return json.dumps(config[key]) if key in config else "not"


def _check_keys(items: Sequence[Item]) -> None:
    keys = [item.key for item in items]
    if len(set(keys)) < len(keys) or not all(map(_KEY.fullmatch, keys)):
        raise ValueError(
            "run_study: expected different keys of small letters, digits and . _ - for the items; "
            f"got {keys}."
        )


def _versions() -> dict[str, str]:
    return {"igr": igr.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _in_words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _warnings(done: Collection[_Done]) -> tuple[str, ...]:
    others = {_in_words(one.versions) for one in done} - {_in_words(_versions())}
    if not others:
        return ()
    return (
        f"some items were computed by {' and by '.join(sorted(others))}, and not by "
        f"{_in_words(_versions())}; compute all anew with --overwrite if that may matter",
    )
