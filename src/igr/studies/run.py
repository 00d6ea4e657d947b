"""Running a study in its folder, so that it may be stopped at any time and gone on with."""

import dataclasses
import os
import platform
import re
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from igr.errors import UserError
from igr.progress import bar
from igr.studies.folder import Done, StudyFolder, versions
from igr.studies.report import Report
from igr.studies.study import Config, Findings, Item, Runs, Study, StudyConfig, Work
from igr.sweeps import Group, SlurmSettings, SweepOutcome, SweepWatcher, run_sweep
from igr.training.failures import Interrupted
from igr.training.folders import held
from igr.training.randomness import keyed_generator
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Outcome:
    """A finished study.

    Attributes:
        report: What it found.
        out: Its folder.
        num_items: How many runs and items it has.
        num_kept: How many of them were there already.
        seconds: The time that they took, those of earlier processes included; of runs that were trained
            side by side the sum.
        warnings: Sentences about what a reader should know.
    """

    report: Report
    out: Path
    num_items: int
    num_kept: int
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """Where a study is run, which is no part of its settings.

    Attributes:
        workers: How many runs are trained at once.
        device: Where they are trained and evaluated.
        data_dir: The folder with the files of data sets; ``None``: as read before, or downloaded.
        replicas: Whether runs that can be are trained as one stacked model.
    """

    workers: int = 1
    device: str = "cpu"
    data_dir: str | None = None
    replicas: bool = False


def default_folder(name: str, budget: str = "full", smoke: bool = False) -> Path:
    """Where a study is run if no other folder is named.

    Arguments:
        name: The name of the study.
        budget: One of :data:`~igr.studies.BUDGETS`.
        smoke: Whether its settings are the smallest.
    """
    ending = "-smoke" if smoke else "" if budget == "full" else f"-{budget}"
    return Path("studies") / f"{name}{ending}"


def groups_of(study: Study[Config], config: Config, machine: Machine) -> list[Group]:
    """The groups of a study, to be trained on a machine.

    Arguments:
        study: The study.
        config: Its settings.
        machine: Where its runs are trained.
    """

    def placed(candidate: RunConfig) -> RunConfig:
        there = dataclasses.replace(candidate, device=machine.device, data_dir=machine.data_dir)
        return there.resolved()

    return [
        dataclasses.replace(group, candidates=tuple(map(placed, group.candidates)))
        for group in study.groups(config)
    ]


def run_study(
    study: Study[Config],
    config: Config,
    out: str | Path,
    *,
    overwrite: bool = False,
    machine: Machine | None = None,
    watcher: SweepWatcher | None = None,
) -> Outcome:
    """Runs a study, or goes on with it, and writes its report.

    The folder holds

    - ``config.json``: the settings, and the versions it was started with;
    - ``runs/``: the sweep of its runs, see :func:`igr.sweeps.run_sweep`;
    - ``records/``: what each item found, written as soon as it is done. An item whose record is there and
      whole is not computed again, and the records do not depend on how often the study was stopped;
    - ``work/``: what items keep for themselves, see :class:`Work`;
    - ``report.md``, ``tables/*.csv``, ``tables/*.tex``, ``figures/*.png``.

    Arguments:
        study: The study.
        config: Its settings.
        out: The folder; it need not exist.
        overwrite: Remove what an earlier study, of whatever settings, left in the folder.
        machine: Where it is run.
        watcher: Is told how the runs go.

    Raises:
        UserError: A setting cannot be used, or the folder is that of something else, in use, or cannot be
            written.
        Interrupted: By Ctrl-C; the text says how to go on.
    """
    config.check()
    machine = machine or Machine()
    items = study.items(config)
    _check_keys(items)
    groups = groups_of(study, config, machine)
    folder = StudyFolder(Path(out))
    command = command_of(study, config, folder.path, machine)
    done: dict[str, Done] = {}
    num_kept = 0
    with held(folder.path, "study"):
        folder.begin(study, config, overwrite)
        swept = _swept(study, config, groups, folder, machine, watcher, command) if groups else None
        runs = Runs(swept)
        try:
            with bar(study.name, len(items), "items") as advance:
                for number, item in enumerate(items, start=1):
                    found = folder.read(item.key)
                    num_kept += found is not None
                    found = found or _computed(item, study.name, config.seed, runs, folder)
                    if found is not None:
                        done[item.key] = found
                    advance(number)
        except (KeyboardInterrupt, Interrupted) as stop:
            raise Interrupted(
                f"stopped after {len(done)} of {len(items)} items; go on with {command}"
            ) from stop
        seconds = sum(one.seconds for one in done.values()) + _seconds_of(runs)
        warnings = _warnings(done.values()) + _warnings_of(runs)
        report = study.report(config, Findings({key: one.record for key, one in done.items()}, runs))
        parts = [f"{len(items)} items"] if items or swept is None else []
        if swept is not None:
            parts = [f"{len(swept.runs)} runs", *parts]
            num_kept += swept.num_kept
        made = {
            "command": f"`{command}`",
            "seed": str(config.seed),
            "versions": _in_words(versions()),
            "machine": describe(machine),
            "time": f"{seconds:.1f} s, the sum over {' and '.join(parts)}",
            "settings": "in [config.json](config.json)",
        }
        if warnings:
            made["note"] = " ".join(warnings)
        folder.write(report, report.to_markdown(f"{study.name}: {study.summary}", made))
    total = len(items) + (0 if swept is None else len(swept.runs))
    return Outcome(report, folder.path, total, num_kept, seconds, warnings)


def sweep_study(
    study: Study[Config],
    config: Config,
    out: str | Path,
    *,
    machine: Machine | None = None,
    slurm: SlurmSettings | None = None,
    retries: int | None = None,
    watcher: SweepWatcher | None = None,
    command: str | None = None,
) -> SweepOutcome:
    """Trains the runs of a study in its folder, or goes on with them, and leaves the rest for later.

    Errors are those of :func:`run_study`.

    Arguments:
        study: The study.
        config: Its settings.
        out: The folder of the study.
        machine: Where to work; the defaults of :class:`Machine` if ``None``.
        slurm: The cluster that trains, as for :func:`igr.sweeps.run_sweep`; this machine if ``None``.
        retries: How often a run that fails is tried again, as there.
        watcher: Is told how the runs go.
        command: What an interrupt names to go on.

    Raises:
        UserError: The study has no runs.
    """
    config.check()
    machine = machine or Machine()
    groups = groups_of(study, config, machine)
    if not groups:
        raise UserError(
            f"expected a study that trains models; got {study.name}, which trains none; use igr study run "
            f"{study.name}"
        )
    folder = StudyFolder(Path(out))
    with held(folder.path, "study"):
        folder.begin(study, config, overwrite=False)
        return _swept(study, config, groups, folder, machine, watcher, command, slurm, retries)


def _computed(item: Item, study: str, seed: int, runs: Runs, folder: StudyFolder) -> Done | None:
    """Has an item do its work and keeps what it found, if anything."""
    work = Work(keyed_generator(seed, f"{study}/{item.key}", 0), folder.work / item.key, runs)
    start = time.perf_counter()
    record = item.compute(work)
    return None if record is None else folder.keep(item.key, record, time.perf_counter() - start)


def _swept(
    study: Study[Config],
    config: Config,
    groups: Sequence[Group],
    folder: StudyFolder,
    machine: Machine,
    watcher: SweepWatcher | None,
    command: str | None,
    slurm: SlurmSettings | None = None,
    retries: int | None = None,
) -> SweepOutcome:
    return run_sweep(
        groups,
        folder.runs,
        workers=machine.workers,
        replicas=machine.replicas,
        slurm=slurm,
        retries=retries,
        evaluation=study.evaluation(config),
        watcher=watcher,
        command=command,
    )


def describe(machine: Machine) -> str:
    """The device in words, and how many runs went on at once there."""
    if machine.device.startswith("cuda"):
        name = torch.cuda.get_device_name(torch.device(machine.device))
    else:
        name = f"CPU ({platform.machine()}, {os.cpu_count()} logical cores)"
    if machine.replicas:
        return (
            f"{name}, {machine.workers} {'stack' if machine.workers == 1 else 'stacks'} of replicas at a time"
        )
    return f"{name}, {machine.workers} {'run' if machine.workers == 1 else 'runs'} at a time"


def _seconds_of(runs: Runs) -> float:
    """The time that training and evaluations took."""
    if runs.outcome is None:
        return 0.0
    seconds = 0.0
    for run in runs.finished:
        result = RunFolder(runs.path(run)).result()
        parts = (result.get(key, {}) for key in ("training", "evaluation", "validation_evaluation"))
        seconds += sum(part.get("seconds", 0.0) for part in parts)
    return seconds


def _warnings_of(runs: Runs) -> tuple[str, ...]:
    """What is to be said of runs that failed, and by the sweep."""
    if runs.outcome is None:
        return ()
    failed = tuple(f"A run failed and is left out: {failure}." for failure in runs.outcome.failures)
    return (*runs.outcome.warnings, *failed)


def command_of(study: Study[Config], config: Config, out: Path, machine: Machine | None = None) -> str:
    """The command that runs a study with these settings in that folder."""
    presets = {("full", False): study.config(), ("small", False): study.small, ("full", True): study.smoke}
    flags = {preset: [*_flags(config, base)] for preset, base in presets.items() if base is not None}
    # The one from which the fewest settings differ.
    budget, smoke = min(flags, key=lambda preset: len(flags[preset]))
    words = ["igr", "study", "run", study.name]
    words += ["--budget", budget] if budget != "full" else []
    words += ["--smoke"] if smoke else []
    words += flags[budget, smoke]
    for name, value in dataclasses.asdict(machine or Machine()).items():
        if value != getattr(Machine(), name):
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    if out != default_folder(study.name, budget, smoke):
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


def _check_keys(items: Sequence[Item]) -> None:
    keys = [item.key for item in items]
    if len(set(keys)) < len(keys) or not all(map(_KEY.fullmatch, keys)):
        raise ValueError(
            "run_study: expected different keys of small letters, digits and . _ - for the items; "
            f"got {keys}."
        )


def _in_words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _warnings(done: Collection[Done]) -> tuple[str, ...]:
    others = {_in_words(one.versions) for one in done} - {_in_words(versions())}
    if not others:
        return ()
    return (
        f"some items were computed by {' and by '.join(sorted(others))}, and not by "
        f"{_in_words(versions())}; compute all anew with --overwrite if that may matter",
    )
