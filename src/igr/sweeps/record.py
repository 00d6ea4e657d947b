"""``sweep.json``: what a folder's sweep consists of, and what has come of it."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import igr
from igr import atomic
from igr.errors import UserError, cut, shown
from igr.evaluation.bounds import Estimate
from igr.evaluation.compared_runs import SWEEP
from igr.evaluation.records import read_integer
from igr.evaluation.selection import order_of_trial, selection_bound
from igr.sweeps.group import Group, varying
from igr.sweeps.job import EvaluationSettings, evaluation_in
from igr.training.folders import LOCK, unwritable
from igr.training.kinds import DEFAULT, config_class

FORMAT = 1


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder describes it.

    Attributes:
        folder: The folder; the runs are below it, see :attr:`igr.sweeps.Run.path`.
        groups: What it consists of.
        evaluation: How its runs are evaluated.
    """

    folder: Path
    groups: tuple[Group, ...]
    evaluation: EvaluationSettings

    def validation_bounds(self, group: Group) -> dict[int, float]:
        """For each candidate that was run and evaluated, the bound on log p(x) that it is chosen by.

        It is that of the validation split in nats per image, the mean over seeds where all of them are
        run to choose.
        """
        runs: dict[int, list[Estimate | None]] = {}
        for run in group.tuning_runs:
            found = evaluation_in(self.folder / run.path, run.config, "validation", self.evaluation)
            bound = None if found is None else selection_bound(found)[1]
            runs.setdefault(run.candidate, []).append(bound)
        return {
            candidate: sum(bound.value for bound in bounds if bound is not None) / len(bounds)
            for candidate, bounds in runs.items()
            if None not in bounds
        }

    def chosen(self, group: Group) -> int | None:
        """The candidate with the highest validation bound; ``None`` where no candidate has one.

        Of candidates with the same bound it is the one with the lowest temperature, prior temperature and
        learning rate, as for :func:`igr.evaluation.selection.choose`.
        """
        if not group.is_tuned:
            return 0
        bounds = self.validation_bounds(group)
        in_order = sorted(bounds, key=lambda candidate: order_of_trial(group.candidates[candidate]))
        return max(in_order, key=lambda candidate: bounds[candidate], default=None)


def read_sweep(folder: str | Path) -> Sweep:
    """Reads what sweep a folder holds.

    Raises:
        UserError: It holds none, or one of another version.
    """
    folder = Path(folder)
    stored = _stored(folder)
    if stored is None:
        raise UserError(
            f"expected the folder of a sweep; got {folder}, which has no {SWEEP}; name one that igr sweep "
            "wrote"
        )
    return _sweep(folder, stored)


def check_free(folder: Path, groups: Sequence[Group]) -> None:
    """Checks that a sweep of these groups may have the folder.

    Raises:
        UserError: It holds another sweep, or something else.
    """
    stored = _stored(folder)
    if stored is not None:
        _check_same(folder, _sweep(folder, stored).groups, groups)


def begin(folder: Path, groups: Sequence[Group], evaluation: EvaluationSettings) -> Sweep:
    """Makes the folder, which must be locked, that of the sweep.

    Returns:
        The sweep; where it is gone on with and no data folder is named now, with that of before.

    Raises:
        UserError: It holds another sweep, or something else, or cannot be written.
    """
    check_free(folder, groups)
    stored = _stored(folder)
    sweep = Sweep(folder, tuple(groups), evaluation)
    try:
        if stored is None:
            atomic.write_json(folder / SWEEP, _record(sweep))
        else:
            before = _sweep(folder, stored)
            if before.evaluation != evaluation:
                stored = {**stored, "evaluation": dataclasses.asdict(evaluation)}
                atomic.write_json(folder / SWEEP, stored)
            sweep = dataclasses.replace(
                sweep, groups=tuple(map(_with_data_dirs, sweep.groups, before.groups))
            )
        atomic.remove_unfinished(folder)
    except OSError as error:
        raise unwritable(folder, "sweep", error) from error
    return sweep


def _record(sweep: Sweep) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "igr": igr.__version__,
        "torch": torch.__version__,
        "evaluation": dataclasses.asdict(sweep.evaluation),
        "groups": [
            {
                "key": group.key,
                "model": group.candidates[0].model,
                "candidates": [candidate.to_json() for candidate in group.candidates],
                "seeds": list(group.seeds),
                "tune_all": group.tune_all,
            }
            for group in sweep.groups
        ],
    }


def _stored(folder: Path) -> dict[str, Any] | None:
    """The record in a folder; ``None`` where the folder is free or not there."""
    try:
        stored = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
    except FileNotFoundError:
        entries = [entry for entry in folder.iterdir() if entry.name != LOCK] if folder.is_dir() else []
        # A process that was killed at its very start leaves a lock and an unfinished record.
        if all(map(atomic.is_unfinished, entries)):
            return None
        stored = None
    except NotADirectoryError as error:
        raise unwritable(folder, "sweep", error) from error
    except (OSError, ValueError, RecursionError):
        stored = None
    if not isinstance(stored, dict) or "format" not in stored:
        raise UserError(
            f"expected an empty folder, or that of a sweep; got {folder}, which holds something else; choose "
            "another with --out"
        )
    return stored


def _sweep(folder: Path, stored: dict[str, Any]) -> Sweep:
    try:
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is {stored['format']!r} and not {FORMAT}")
        groups = [
            Group(
                group["key"],
                tuple(
                    config_class(group.get("model", DEFAULT)).from_json(candidate).resolved()
                    for candidate in group["candidates"]
                ),
                tuple(map(read_integer, group["seeds"])),
                _flag(group["tune_all"]),
            )
            for group in stored["groups"]
        ]
        return Sweep(folder, tuple(groups), _evaluation(stored["evaluation"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"expected a sweep of this version of igr in {folder}; got one that does not fit ({cut(error)}); "
            "use the version that wrote it, or choose another folder with --out"
        ) from error


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{shown(value)} is neither true nor false")
    return value


def _evaluation(stored: dict[str, Any]) -> EvaluationSettings:
    counts = {name: None if value is None else read_integer(value) for name, value in stored.items()}
    seed = read_integer(counts.pop("seed"))
    settings = EvaluationSettings(seed=seed, **counts)
    settings.check()
    return settings


def _check_same(folder: Path, before: Sequence[Group], now: Sequence[Group]) -> None:
    difference = _difference(before, now)
    if difference is not None:
        raise UserError(
            f"expected the sweep in {folder}; got another one ({difference}); choose another folder with "
            "--out"
        )


def _difference(before: Sequence[Group], now: Sequence[Group]) -> str | None:
    """The first thing in which groups differ, in words."""
    keys = [", ".join(group.key for group in groups) for groups in (before, now)]
    if keys[0] != keys[1]:
        return f"the groups {keys[0]} there and {keys[1]} now"
    for old, new in zip(before, now, strict=True):
        where = f"there and {{}} now in the group {new.key}"
        if old.seeds != new.seeds:
            seeds = [" ".join(map(str, group.seeds)) for group in (old, new)]
            return f"the seeds {seeds[0]} {where.format(seeds[1])}"
        if len(old.candidates) != len(new.candidates):
            return f"{len(old.candidates)} candidates {where.format(len(new.candidates))}"
        for pair in zip(old.candidates, new.candidates, strict=True):
            if pair[0].model != pair[1].model:
                return f"model {pair[0].model} {where.format(pair[1].model)}"
            for field in varying(pair):
                # The files are verified, so it does not matter where they are.
                if field != "data_dir":
                    first, second = (getattr(config, field) for config in pair)
                    return f"{field} {first} {where.format(second)}"
        if old.tune_all != new.tune_all:
            seeds = ["every seed" if group.tune_all else "the first seed" for group in (old, new)]
            return f"candidates tuned with {seeds[0]} {where.format(seeds[1])}"
    return None


def _with_data_dirs(group: Group, before: Group) -> Group:
    candidates = [
        new if new.data_dir is not None else dataclasses.replace(new, data_dir=old.data_dir)
        for new, old in zip(group.candidates, before.candidates, strict=True)
    ]
    return dataclasses.replace(group, candidates=tuple(candidates))
