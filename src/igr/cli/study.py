"""``igr study``: which studies there are, and running one, up to its report."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from igr import studies
from igr.cli.arguments import CommonArguments, Flag, parse, run
from igr.cli.sweep import Display
from igr.cli.tables import rendered
from igr.cli.terminal import quoted, say
from igr.errors import UserError, unknown_name
from igr.studies import STUDIES, Machine, Outcome, Study


@dataclass(frozen=True, kw_only=True)
class ListArguments(CommonArguments):
    """The studies, each of which makes one table or figure."""


@dataclass(frozen=True, kw_only=True)
class RunArguments(CommonArguments):
    """Run a study, or go on with one that was stopped, and write its report."""

    out: Path | None = None
    """Folder of the study; None: studies/NAME, or studies/NAME-small, studies/NAME-smoke."""

    budget: str = "full"
    """Which settings to start from: full, or small (two cores, an hour or so); flags win over them."""

    smoke: Flag = False
    """The whole study made small, in seconds; settings that are given win over it."""

    workers: int = 1
    """Runs that are trained at once, each with one thread; without replicas figures do not depend on it."""

    replicas: Flag = False
    """Train runs that differ in seed, temperature, learning rate or KL schedule alone as one stack."""

    device: str = "cpu"
    """Where runs are trained and evaluated: cpu, cuda, cuda:1, ..."""

    data_dir: str | None = None
    """The folder with the files of data sets; None: as read before, or downloaded."""

    overwrite: Flag = False
    """Compute everything anew, and replace what an earlier study left in the folder."""


def main(argv: list[str]) -> int:
    """Runs ``igr study`` and returns the exit code."""
    return run("study", _study, argv)


def _study(argv: list[str]) -> int:
    if not argv:
        raise UserError(f"expected {_USAGE}; got no command after study; write igr study list")
    command, *rest = argv
    if command in ("-h", "--help"):
        print(
            "\n".join(
                [
                    "usage: igr study COMMAND [--flag value ...]",
                    "",
                    *(f"  {usage:10} {kind.__doc__}" for usage, kind in _SHOWN.items()),
                    "",
                    "igr study run NAME --help shows the flags of a study.",
                ]
            )
        )
        return 0
    if command not in COMMANDS:
        raise unknown_name("the command after study", command, COMMANDS)
    return COMMANDS[command](rest)


def _list(argv: list[str]) -> int:
    arguments = parse(ListArguments, argv, "study list")
    found = [studies.study(name) for name in STUDIES]
    if arguments.json:
        records = [
            {"name": study.name, "summary": study.summary, "settings": study.config().to_json()}
            for study in found
        ]
        print(json.dumps(records, indent=2))
        return 0
    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("what it shows", overflow="fold")
    for study in found:
        table.add_row(study.name, study.summary)
    Console().print(table)
    return 0


def _run(argv: list[str]) -> int:
    if argv and argv[0] in ("-h", "--help"):
        print(
            "\n".join(
                [
                    "usage: igr study run NAME [--flag value ...]",
                    "",
                    f"{RunArguments.__doc__} NAME is one of {', '.join(STUDIES)}.",
                    "",
                    "igr study run NAME --help shows the flags of a study.",
                ]
            )
        )
        return 0
    if not argv or argv[0].startswith("-"):
        raise UserError(
            f"expected the name of a study right after igr study run; got {argv[0] if argv else 'none'}; "
            f"name one of {', '.join(STUDIES)}"
        )
    name, *rest = argv
    study = studies.study(name)
    arguments = _parse(study, rest)
    if arguments.smoke:
        # So small a study gains nothing from a second thread, and waits for it where cores are busy.
        torch.set_num_threads(1)
    arguments = _parse(study, rest, study.preset(arguments.budget, arguments.smoke))
    out = arguments.out or studies.default_folder(name, arguments.budget, arguments.smoke)
    machine = Machine(arguments.workers, arguments.device, arguments.data_dir, arguments.replicas)
    with Display() as display:
        outcome = studies.run_study(
            study, arguments.settings, out, overwrite=arguments.overwrite, machine=machine, watcher=display
        )
    for warning in outcome.warnings:
        say(f"warning: {warning}")
    if arguments.json:
        print(json.dumps(_to_json(study, arguments.settings, outcome), indent=2))
    else:
        console = Console()
        console.print(render(outcome, console.width))
    say(_closing(outcome))
    return 0


def _parse(study: Study[Any], argv: list[str], settings: Any = None) -> Any:
    """The arguments, with those of the study among them."""
    flat = tyro.conf.OmitArgPrefixes[study.config]  # type: ignore[name-defined]
    field = dataclasses.field(default_factory=study.config)
    kind: Any = dataclasses.make_dataclass(
        "RunArguments",
        [("settings", flat, field)],
        bases=(RunArguments,),
        namespace={"__doc__": f"{study.name}: {study.summary}."},
        frozen=True,
        kw_only=True,
    )
    default = None if settings is None else kind(settings=settings)
    return parse(kind, argv, f"study run {study.name}", default)


def render(outcome: Outcome, width: int) -> RenderableType:
    """The tables for a terminal of so many columns, each with its notes below."""
    parts: list[RenderableType] = []
    for table in outcome.report.tables:
        if not table.in_terminal:
            continue
        # Not as the title of the table, which is no wider than its columns.
        parts += [Text(table.title, "bold"), rendered(table, width), *map(Text, table.notes), Text()]
    return Group(*parts)


def _to_json(study: Study[Any], settings: Any, outcome: Outcome) -> dict[str, Any]:
    return {
        "study": study.name,
        "out": str(outcome.out),
        "config": settings.to_json(),
        "items": outcome.num_items,
        "kept": outcome.num_kept,
        "seconds": outcome.seconds,
        "tables": {table.name: table.to_json() for table in outcome.report.tables},
        "figures": {
            picture.name: str(outcome.out / "figures" / f"{picture.name}.png")
            for picture in outcome.report.pictures
        },
    }


def _closing(outcome: Outcome) -> str:
    if outcome.num_kept == outcome.num_items:
        work = "all of it was there already (--overwrite computes it anew)"
    else:
        kept = f", {outcome.num_kept} of them already there" if outcome.num_kept else ""
        work = f"{outcome.num_items} pieces of work, {outcome.seconds:.1f} s in sum{kept}"
    figures = f"; figures are in {quoted(outcome.out / 'figures')}" if outcome.report.pictures else ""
    return f"{work}; the report is {quoted(outcome.out / 'report.md')}{figures}"


COMMANDS: dict[str, Callable[[list[str]], int]] = {"list": _list, "run": _run}
_SHOWN: dict[str, type] = {"list": ListArguments, "run NAME": RunArguments}
_USAGE = " or ".join(f"igr study {command}" for command in _SHOWN)
