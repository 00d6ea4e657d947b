"""``igr data``: which data sets there are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from igr.cli.arguments import CommonArguments, parse, run
from igr.data import SOURCES
from igr.errors import UserError, unknown_name


@dataclass(frozen=True)
class ListArguments(CommonArguments):
    """The data sets, where they come from and whether they are there."""

    data_dir: Path | None = None
    """The folder with the files of data sets that are read from files."""


def main(argv: list[str]) -> int:
    """Runs ``igr data`` and returns the exit code."""
    return run("data", _data, argv)


def _data(argv: list[str]) -> int:
    if not argv:
        raise UserError("expected igr data list; got no command after data; write igr data list")
    if argv[0] in ("-h", "--help"):
        parse(ListArguments, ["--help"], "data list")
    if argv[0] != "list":
        raise unknown_name("the command after data", argv[0], ["list"])
    arguments = parse(ListArguments, argv[1:], "data list")
    records: list[dict[str, Any]] = [
        {
            "name": name,
            "origin": source.origin,
            "train": source.sizes[0],
            "validation": source.sizes[1],
            "test": source.sizes[2],
            "image_shape": list(source.image_shape),
            "present": source.state(arguments.data_dir).present,
        }
        for name, source in SOURCES.items()
    ]
    if arguments.json:
        print(json.dumps(records, indent=2))
        return 0
    table = Table()
    for column in ("name", "origin"):
        table.add_column(column)
    for column in ("train", "validation", "test"):
        table.add_column(column, justify="right")
    for column in ("image shape", "present"):
        table.add_column(column)
    for record in records:
        table.add_row(
            record["name"],
            record["origin"],
            *(f"{record[split]:,}" for split in ("train", "validation", "test")),
            " x ".join(map(str, record["image_shape"])),
            "yes" if record["present"] else "no",
        )
    Console().print(table)
    return 0
