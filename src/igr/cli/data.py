"""``igr data``: which data sets there are, whether they are right, and what they look like."""

import json
import os
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from igr.cli.arguments import CommonArguments, parse, run
from igr.cli.terminal import quoted, say
from igr.data import BINARIZATIONS, SOURCES, Stopped, prepare, source
from igr.errors import UserError, unknown_name, unwritable_file
from igr.training.failures import Interrupted
from igr.training.randomness import keyed_generator

SPLITS = ("train", "validation", "test")
COLUMNS = 10
# Characters of a label that an image is wide.
LABEL_WIDTH = 22
# A figure of more images would be too large to look at.
MOST_SHOWN = 1000


@dataclass(frozen=True, kw_only=True)
class DataArguments(CommonArguments):
    """What every command of ``igr data`` takes."""

    data_dir: Path | None = None
    """The folder with the files of data sets; None: the cache."""


@dataclass(frozen=True, kw_only=True)
class ListArguments(DataArguments):
    """The data sets: sizes, where they come from, and whether they are there."""


@dataclass(frozen=True, kw_only=True)
class CheckArguments(DataArguments):
    """Read again whatever is there of data sets, and verify it; nothing is downloaded or written."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = ()
    """The data sets; none: all that are there."""


@dataclass(frozen=True, kw_only=True)
class PrepareArguments(DataArguments):
    """Read data sets from their files, or download them without --data-dir, verify and cache them."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME [NAME ...]")]
    """The data sets."""

    archive: Path | None = None
    """The archive that you got, for celeba: img_align_celeba.zip."""

    workers: int | None = None
    """How many processes read the archive; None: one for each core."""


@dataclass(frozen=True, kw_only=True)
class ShowArguments(DataArguments):
    """Draw the first images of a split with their labels."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """The data set."""

    split: str = "train"
    """The split: train, validation or test."""

    count: int = 60
    """How many images."""

    binarization: str | None = None
    """Show binary images, fixed or stochastic, as a Bernoulli likelihood sees them; None: as they are."""

    out: Path | None = None
    """The PNG file; None: NAME-SPLIT.png in the current folder."""


def main(argv: list[str]) -> int:
    """Runs ``igr data`` and returns the exit code."""
    return run("data", _data, argv)


def _data(argv: list[str]) -> int:
    if not argv:
        raise UserError(f"expected {_USAGE}; got no command after data; write igr data list")
    command, *rest = argv
    if command in ("-h", "--help"):
        print(
            "\n".join(
                [
                    "usage: igr data COMMAND [--flag value ...]",
                    "",
                    *(f"  {name:8} {kind.__doc__}" for name, (kind, _) in COMMANDS.items()),
                    "",
                    "igr data COMMAND --help shows the flags of a command.",
                ]
            )
        )
        return 0
    if command not in COMMANDS:
        raise unknown_name("the command after data", command, COMMANDS)
    kind, body = COMMANDS[command]
    arguments = parse(kind, rest, f"data {command}")
    if arguments.data_dir is not None and not os.path.isdir(arguments.data_dir):
        raise UserError(f"expected a folder after --data-dir; got {arguments.data_dir}; check the path")
    return body(arguments)


def _list(arguments: ListArguments) -> int:
    records: list[dict[str, Any]] = []
    for name, found in SOURCES.items():
        state = found.state(arguments.data_dir)
        records.append(
            {
                "name": name,
                "origin": found.origin,
                **dict(zip(SPLITS, found.sizes, strict=True)),
                "image_shape": list(found.image_shape),
                "classes": len(found.class_names),
                "present": state.present,
                "where": state.where,
                "bytes": state.num_bytes,
            }
        )
    if arguments.json:
        print(json.dumps(records, indent=2))
        return 0
    table = Table(show_lines=True)
    for column in ("name", "here"):
        table.add_column(column, no_wrap=True)
    table.add_column("what, and from where", overflow="fold")
    for record in records:
        pixels = " x ".join(map(str, record["image_shape"]))
        counts = ", ".join(f"{record[split]:,} {split}" for split in SPLITS)
        size = "" if record["bytes"] is None else f" ({record['bytes'] / 1e6:.1f} MB)"
        lines = (
            record["origin"],
            f"{counts} images of {pixels}, {_classes(record['classes'])}",
            f"{record['where']}{size}",
        )
        table.add_row(record["name"], "yes" if record["present"] else "no", "\n".join(lines))
    Console().print(table)
    return 0


def _classes(count: int) -> str:
    return f"{count:,} classes" if count > 1 else "no classes"


def _check(arguments: CheckArguments) -> int:
    chosen = [source(name) for name in arguments.names]
    records: list[dict[str, Any]] = []
    for found in chosen or SOURCES.values():
        if not chosen and found.state(arguments.data_dir).status == "absent":
            records.append({"name": found.name, "right": None, "found": ["not here"]})
            continue
        try:
            records.append({"name": found.name, "right": True, "found": found.check(arguments.data_dir)})
        except UserError as error:
            records.append({"name": found.name, "right": False, "found": [str(error)]})
    wrong = [record for record in records if record["right"] is False]
    if arguments.json:
        print(json.dumps(records, indent=2))
    elif len(wrong) < len(records):
        table = Table()
        table.add_column("name", no_wrap=True)
        table.add_column("right", no_wrap=True)
        table.add_column("what was found", overflow="fold")
        answers = {None: "-", True: "yes", False: "no"}
        for record in records:
            table.add_row(record["name"], answers[record["right"]], "\n".join(record["found"]))
        Console().print(table)
    for record in wrong:
        say(f"igr data: {record['found'][0]}")
    return 2 if wrong else 0


def _prepare(arguments: PrepareArguments) -> int:
    if not arguments.names:
        raise UserError(
            f"expected names of data sets after igr data prepare; got none; name some of {', '.join(SOURCES)}"
        )
    chosen = [source(name) for name in arguments.names]
    for flag, given in (("--archive", arguments.archive), ("--workers", arguments.workers)):
        # Before the first is read, which may take long.
        for found in chosen if given is not None else ():
            if not found.takes_archive:
                takes = ", ".join(name for name, other in SOURCES.items() if other.takes_archive)
                raise UserError(
                    f"expected no {flag} for {found.name}; got {given}; leave it out, or prepare {takes} in "
                    "a command of its own"
                )
    records = []
    for found in chosen:
        try:
            dataset = found.prepare(arguments.data_dir, arguments.archive, arguments.workers)
        except Stopped as error:
            raise Interrupted(str(error)) from error
        counts = {split: len(getattr(dataset, split)) for split in SPLITS}
        state = found.state(None)
        records.append({"name": found.name, **counts, "where": state.where, "bytes": state.num_bytes})
        sizes = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        say(f"{found.name}: {sizes} images, {state.where}")
    if arguments.json:
        print(json.dumps(records, indent=2))
    return 0


def _show(arguments: ShowArguments) -> int:
    # matplotlib takes as long to import as everything else.
    from igr import plot

    found = source(arguments.name)
    if arguments.split not in SPLITS:
        raise unknown_name("split", arguments.split, SPLITS)
    if not 1 <= arguments.count <= MOST_SHOWN:
        raise UserError(
            f"expected count to be a whole number from 1 to {MOST_SHOWN}; got {arguments.count}; change count"
        )
    split = getattr(found.load(arguments.data_dir), arguments.split)
    shown = split.first(arguments.count)
    if arguments.binarization is None:
        images, form = shown.images.float() / 255, "grey" if found.image_shape[0] == 1 else "in colour"
    elif arguments.binarization in BINARIZATIONS:
        stochastic = arguments.binarization == "stochastic"
        generator = keyed_generator(0, "show", 0) if stochastic else None
        images = prepare(shown.images, "bernoulli", generator=generator)
        form = f"{arguments.binarization} binarization"
    else:
        raise unknown_name("binarization", arguments.binarization, BINARIZATIONS)
    names = [found.class_names[label] for label in shown.labels]
    labels = [_short(name) for name in names]
    rows = -(-len(shown) // COLUMNS)
    figure, (axes,) = plot.new_figure(9, 0.5 + 1.05 * rows)
    title = f"{found.name}, {arguments.split}: the first {len(shown)} of {len(split):,} images, {form}"
    plot.labelled_images(axes, images, labels, columns=COLUMNS, title=title)
    path = arguments.out or Path(f"{found.name}-{arguments.split}.png")
    try:
        plot.save(figure, path)
    except OSError as error:
        raise unwritable_file(path, error) from error
    if arguments.json:
        print(json.dumps({"path": str(path), "labels": names}, indent=2))
    say(f"written: {quoted(path)}")
    return 0


def _short(name: str) -> str:
    """A class name on at most two short lines: what is in brackets goes before the number at the end does."""
    lines = textwrap.wrap(name, LABEL_WIDTH)
    if len(lines) > 2:
        lines = textwrap.wrap(re.sub(r" \([^)]*\)", "", name), LABEL_WIDTH)
    return "\n".join(lines)


COMMANDS: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
    "list": (ListArguments, _list),
    "check": (CheckArguments, _check),
    "prepare": (PrepareArguments, _prepare),
    "show": (ShowArguments, _show),
}
_USAGE = " or ".join(f"igr data {command}" for command in COMMANDS)
