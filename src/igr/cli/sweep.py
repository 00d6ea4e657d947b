"""``igr sweep``: many runs in one folder, of all combinations of some settings."""

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

import tyro
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from igr import studies
from igr.cli import sweep_status
from igr.cli.arguments import CommonArguments, Flag, flag_value, parse, run
from igr.cli.terminal import quoted, say
from igr.errors import UserError, unknown_name
from igr.sweeps import (
    EvaluationSettings,
    Group,
    Run,
    SlurmSettings,
    SweepOutcome,
    SweepWatcher,
    expand,
    groups_of,
    read_grid,
    read_slurm_settings,
    run_sweep,
)
from igr.sweeps.grid import takes_lists
from igr.sweeps.group import varying
from igr.training.kinds import DEFAULT, config_class
from igr.training.run_config import RunConfig
from igr.training.watchers import SECONDS_BETWEEN_DRAWS

# Groups that are all named in the name of a folder.
NAMED_GROUPS = 3
METAVARS: dict[Any, str] = {int: "INT ...", float: "FLOAT ...", str: "TEXT ..."}


@dataclass(frozen=True, kw_only=True)
class SweepArguments(CommonArguments):
    """Train and evaluate many models: all combinations of the settings below, each of several values.

    Runs that differ in no more than the seed, the temperatures and the learning rate make one group, in which
    the best on the validation images is chosen. A sweep that was stopped goes on if it is started again, and
    what is finished is not run twice. `igr sweep status FOLDER` tells how each run is.
    """

    out: Path | None = None
    """Folder of the sweep; None: sweeps/ and a name made of the settings."""

    grid: Path | None = None
    """A JSON file of settings by name, each with a value or a list; or a list of these. Flags win over it."""

    study: str | None = None
    """Train the runs of this study, in its folder, instead; see igr study list."""

    budget: str = "full"
    """The settings of that study: full or small."""

    workers: int | None = None
    """Runs that go on at once, each with one thread; without replicas figures do not depend on it. None: one
    on this machine, on a cluster as many as it lets."""

    executor: str = "local"
    """Where runs are: local, in processes of this machine, or slurm, as a job array of a cluster."""

    slurm: Path | None = None
    """A TOML file of what is asked of the cluster for each run: partition, time_limit, gpus, cpus, memory,
    account, qos, constraint, container, setup (lines of shell) and options (of sbatch); flags win over it."""

    partition: str | None = None
    """The partition of the cluster; None: its default one."""

    time_limit: int | None = None
    """Minutes after which a run stops with a checkpoint and goes back into the queue; None: 240."""

    gpus: int | None = None
    """GPUs of a run on the cluster; None: none."""

    cpus: int | None = None
    """CPU cores of a run on the cluster; None: one."""

    memory: str | None = None
    """Memory of a run on the cluster, for instance 8G; None: what the cluster gives."""

    container: str | None = None
    """An Apptainer image in which runs are, see docs/containers.md; None: this Python."""

    retries: int | None = None
    """How often a run is tried again whose process died or had no room; None: 2 on a cluster, else 0."""

    replicas: Flag = False
    """Train runs that differ in seed, temperature, learning rate or KL schedule alone as one stack."""

    tune_first_seed: Flag = False
    """Choose in each group with the first seed, and run only the chosen one with the others."""

    max_eval_images: int | None = None
    """Evaluate on the first so many images only; None: on all."""

    validation_samples: int | None = None
    """Latent samples per image in the evaluation by which is chosen; None: --num-eval-samples."""

    smoke: Flag = False
    """All runs made small, in seconds; flags win over that."""

    model: str | None = None
    """What is trained: vae, sop (structured output prediction), or dlgmm (mixtures), each with settings of
    its own; None: vae."""


def main(argv: list[str]) -> int:
    """Runs ``igr sweep`` and returns the exit code."""
    if argv[:1] == ["status"]:
        return sweep_status.main(argv[1:])
    return run("sweep", _sweep, argv)


def _slurm_settings(arguments: SweepArguments) -> SlurmSettings | None:
    """What is asked of a cluster; ``None`` where runs are on this machine."""
    flags = ("partition", "time_limit", "gpus", "cpus", "memory", "container")
    given = {name: getattr(arguments, name) for name in flags if getattr(arguments, name) is not None}
    if arguments.executor == "slurm":
        settings = SlurmSettings() if arguments.slurm is None else read_slurm_settings(arguments.slurm)
        if arguments.workers is not None:
            given["at_once"] = arguments.workers
        settings = dataclasses.replace(settings, **given)
        settings.check()
        return settings
    if arguments.executor != "local":
        raise UserError(unknown_name("the executor", arguments.executor, ("local", "slurm")))
    for name in (*(["slurm"] if arguments.slurm else []), *given):
        raise UserError(
            f"expected no --{name.replace('_', '-')} without a cluster; got one; add --executor slurm"
        )
    return None


def _sweep(argv: list[str]) -> int:
    kind = config_class(flag_value(argv, "--model", "sweep") or DEFAULT)
    arguments = parse(_arguments_with_settings(kind), argv, "sweep")
    slurm = _slurm_settings(arguments)
    if arguments.study is not None:
        return _sweep_study(arguments, argv, slurm)
    configs = expand(
        {} if arguments.grid is None else read_grid(arguments.grid),
        kind(),
        flags=_given(arguments.settings, argv),
        small=arguments.smoke,
    )
    groups = groups_of(configs, tune_all=not arguments.tune_first_seed)
    for warning in dict.fromkeys(warning for config in configs for warning in config.warnings()):
        say(f"warning: {warning}")
    out = arguments.out or default_folder(groups, arguments.smoke)
    with Display() as display:
        outcome = run_sweep(
            groups,
            out,
            workers=_workers(arguments),
            replicas=arguments.replicas,
            slurm=slurm,
            retries=arguments.retries,
            evaluation=EvaluationSettings(
                validation_samples=arguments.validation_samples, max_images=arguments.max_eval_images
            ),
            watcher=display,
            command=shlex.join(["igr", "sweep", *argv]),
        )
    return report(outcome, arguments.json, arguments.debug)


def _workers(arguments: SweepArguments) -> int:
    """Runs that go on at once on this machine."""
    return 1 if arguments.workers is None else arguments.workers


def _sweep_study(arguments: Any, argv: list[str], slurm: SlurmSettings | None) -> int:
    """Trains the runs of a study."""
    # Of the settings only those that say where.
    given = _given(arguments.settings, argv)
    place = {key: given.pop(key)[0] for key in ("device", "data_dir") if key in given}
    own = ("model", "grid", "tune_first_seed", "max_eval_images", "validation_samples")
    foreign = [*given, *(name for name in own if getattr(arguments, name))]
    if foreign:
        raise UserError(
            f"expected no --{foreign[0].replace('_', '-')} beside --study, which has its own settings; got "
            "one; leave it out, or give it to igr study run"
        )
    study = studies.study(arguments.study)
    config = study.preset(arguments.budget, arguments.smoke)
    out = arguments.out or studies.default_folder(study.name, arguments.budget, arguments.smoke)
    with Display() as display:
        outcome = studies.sweep_study(
            study,
            config,
            out,
            machine=studies.Machine(_workers(arguments), replicas=arguments.replicas, **place),
            slurm=slurm,
            retries=arguments.retries,
            watcher=display,
            command=shlex.join(["igr", "sweep", *argv]),
        )
    return report(outcome, arguments.json, arguments.debug)


def default_folder(groups: Sequence[Group], smoke: bool = False) -> Path:
    """Where a sweep is run if no other folder is named."""
    configs = [config for group in groups for config in group.candidates]
    data = {config.data for config in configs}
    kinds = {config.model for config in configs} - {DEFAULT}
    keys = [group.key for group in groups] if len(groups) <= NAMED_GROUPS else [f"{len(groups)}-groups"]
    # Where there are several, the groups are named after them.
    names = [*kinds, *(data if len(data) == 1 else ()), *keys, *(["smoke"] if smoke else ())]
    return Path("sweeps") / "-".join(names)


def report(outcome: SweepOutcome, as_json: bool, debug: bool) -> int:
    """Prints what has come of a sweep, and returns the exit code."""
    for warning in outcome.warnings:
        say(f"warning: {warning}")
    if as_json:
        print(json.dumps(outcome.to_json(), indent=2))
    elif any(group.is_tuned for group in outcome.sweep.groups):
        Console().print(_table(outcome))
    for failure in outcome.failures:
        if debug and failure.traceback is not None:
            say(failure.traceback)
        say(f"igr sweep: {failure}")
    kept = f", {outcome.num_kept} of them already there" if outcome.num_kept else ""
    failed = f", {len(outcome.failures)} failed" if outcome.failures else ""
    folder = quoted(outcome.sweep.folder)
    say(f"{len(outcome.runs)} runs in {folder}{kept}{failed}; next: igr compare {folder}")
    return 1 if outcome.failures else 0


class Display(SweepWatcher):
    """Says what is finished, on standard error, and draws a bar where that is a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            # Without auto_refresh no thread of rich's competes with training for the cores.
            self._bar = Progress(
                MofNCompleteColumn(),
                TextColumn("runs"),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                TextColumn("{task.fields[going]}"),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                expand=True,
                transient=True,
                auto_refresh=False,
            )
            self._task = self._bar.add_task("", total=None, going="")
        self._context: AbstractContextManager[object] = self._bar or nullcontext()
        self._num_done = self._num_done_before = 0
        self._started = time.monotonic()
        self._next_draw = 0.0

    def __enter__(self) -> "Display":
        self._context.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._context.__exit__(*exception)

    def begin(self, num_done: int, num_runs: int) -> None:
        self._num_done = self._num_done_before = num_done
        self._draw(total=num_runs, completed=num_done)

    def advance(self, running: Mapping[Path, float]) -> None:
        # Of runs that are as far as one another, as replicas are, the first stands for all.
        shares: dict[float, list[Path]] = {}
        for path, share in running.items():
            shares.setdefault(share, []).append(path)
        going = ", ".join(
            f"{paths[0].name}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''} {share:.0%}"
            for share, paths in shares.items()
        )
        self._draw(completed=self._num_done + sum(running.values()), going=going)

    def submitted(self, tasks: Sequence[str], folder: Path) -> None:
        array = tasks[0].partition("_")[0]
        say(f"{len(tasks)} tasks submitted as job {array}; look with igr sweep status {quoted(folder)}")

    def retried(self, run: Run, failure: str) -> None:
        say(f"{run.path} is tried again: {failure}")

    def finished(self, run: Run, failure: str | None, num_done: int, num_runs: int) -> None:
        self._num_done = num_done
        self._draw(total=num_runs, completed=num_done)
        say(f"[{num_done}/{num_runs}] {run.path}{' failed' if failure else ''}{self._time_left(num_runs)}")

    def _draw(self, **what: Any) -> None:
        if self._bar is not None:
            now = time.monotonic()
            due = now >= self._next_draw
            if due:
                self._next_draw = now + SECONDS_BETWEEN_DRAWS
            self._bar.update(self._task, refresh=due, **what)

    def _time_left(self, num_runs: int) -> str:
        done_now = self._num_done - self._num_done_before
        if done_now <= 0 or self._num_done == num_runs:
            return ""
        seconds = (time.monotonic() - self._started) / done_now * (num_runs - self._num_done)
        for size, unit in ((3600, "h"), (60, "min")):
            if seconds >= size:
                return f", about {seconds / size:.1f} {unit} left"
        return f", about {seconds:.0f} s left"


def _arguments_with_settings(kind: type[RunConfig]) -> Any:
    """The class of the arguments, with a flag for every setting that takes one value or several."""
    hints = get_type_hints(kind)
    # A subclass, since the help of a flag is what stands below the field there.
    settings: Any = dataclasses.make_dataclass(
        "Settings",
        [(field.name, *_flag(hints[field.name], field.default)) for field in dataclasses.fields(kind)],
        bases=(kind,),
        namespace={"__doc__": "What is trained, on what, and for how long: one value or several of each."},
        frozen=True,
    )
    flat = tyro.conf.OmitArgPrefixes[settings]
    return dataclasses.make_dataclass(
        "SweepArguments",
        [("settings", flat, dataclasses.field(default_factory=settings))],
        bases=(SweepArguments,),
        namespace={"__doc__": SweepArguments.__doc__},
        frozen=True,
        kw_only=True,
    )


def _flag(hint: Any, default: Any) -> tuple[Any, Any]:
    """The type and the default of the flag of a setting."""
    if _is_single(hint):
        return hint, default
    # As texts, since tyro has no words of ours for what is no number among several.
    kind = next(member for member in _members(hint) if member is not NoneType)
    return Annotated[tuple[str, ...], tyro.conf.arg(metavar=METAVARS[kind])], (str(default),)


def _given(settings: Any, argv: Sequence[str]) -> dict[str, Any]:
    """The settings that flags were given for, as an axis of a grid each."""
    flags = {
        token.partition("=")[0].lstrip("-").replace("_", "-") for token in argv if token.startswith("--")
    }
    # Of the class of the config, whose settings have the types of one value.
    kind: type[RunConfig] = type(settings).__mro__[1]
    hints = get_type_hints(kind)
    given = {}
    for key in kind.setting_names():
        hint = hints[key]
        name = key.replace("_", "-")
        if not flags & {name, f"no-{name}"}:
            continue
        value = getattr(settings, key)
        if value == ():
            raise UserError(f"expected a value after --{name}; got none; see igr sweep --help")
        given[key] = value if _is_single(hint) else [_value(text, _members(hint)) for text in value]
    return given


def _is_single(hint: Any) -> bool:
    """Whether a flag of this type has one value: it is switched, or a list by nature."""
    return hint is bool or takes_lists(hint)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def _value(text: str, kinds: Sequence[Any]) -> Any:
    """A value as JSON would have it; what is no number stays a text, and is refused as in a file."""
    if NoneType in kinds and text == "None":
        return None
    for kind in (int, float):
        if kind in kinds:
            with suppress(ValueError):
                return kind(text)
    return text


def _table(outcome: SweepOutcome) -> Table:
    """What was chosen in each group."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("group", "chosen", "of", "validation bound,\nnats per image"):
        table.add_column(title, overflow="fold", justify="left" if title in ("group", "chosen") else "right")
    for group in outcome.sweep.groups:
        number = outcome.chosen[group.key]
        if not group.is_tuned:
            cells = ["-", "1", "-"]
        elif number is None:
            cells = ["none, all failed", str(len(group.candidates)), "-"]
        else:
            tuned = [
                f"{field} {getattr(group.candidates[number], field)}" for field in varying(group.candidates)
            ]
            bound = outcome.sweep.validation_bounds(group)[number]
            cells = [", ".join(tuned), str(len(group.candidates)), f"{bound:.2f}"]
        table.add_row(*map(Text, [group.key, *cells]))
    return table
