"""``igr export``: a trained run as a folder to pass on."""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from igr.cli.arguments import CommonArguments, parse, run
from igr.cli.terminal import quoted, say
from igr.pretrained import from_pretrained, save_pretrained
from igr.pretrained.folder import CARD, CONFIG, PRIOR, TENSORS, check_free
from igr.training.build import num_parameters

# In the order in which they are shown.
_CONTENTS = {
    CONFIG: "the kind of the model, its settings, and the versions it was made with",
    TENSORS: "its parameters",
    PRIOR: "its fitted prior",
    CARD: "a card for readers, with the figures of igr evaluate where there are any",
}


@dataclass(frozen=True, kw_only=True)
class ExportArguments(CommonArguments):
    """Write a trained run as a folder to pass on: safetensors, JSON and a card; igr.pretrained reads it."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The folder of the run; its newest whole checkpoint is taken."""

    out: Path
    """The folder to write; it must be empty or not exist."""


def main(argv: list[str]) -> int:
    """Runs ``igr export`` and returns the exit code."""
    return run("export", _export, argv)


def _export(argv: list[str]) -> int:
    arguments = parse(ExportArguments, argv, "export")
    check_free(Path(os.path.realpath(arguments.out)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        save_pretrained(arguments.run, arguments.out)
    trained = from_pretrained(arguments.out)
    for warning in caught:
        say(f"warning: {warning.message}")
    sizes = {name: path.stat().st_size for name in _CONTENTS if (path := arguments.out / name).exists()}
    if arguments.json:
        record = {
            "run": str(arguments.run),
            "path": str(arguments.out),
            "model": trained.config.model,
            "step": trained.step,
            "epoch": trained.epoch,
            "num_parameters": num_parameters(trained.model),
            "bytes": sizes,
        }
        print(json.dumps(record, indent=2))
    else:
        table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("file")
        table.add_column("bytes", justify="right")
        table.add_column("what it is")
        for name, size in sizes.items():
            table.add_row(Text(name), f"{size:,}", Text(_CONTENTS[name]))
        Console().print(table)
    say(
        f"written: {quoted(arguments.out)}, as of epoch {trained.epoch}; in Python: "
        f"igr.pretrained.from_pretrained({str(arguments.out)!r})"
    )
    return 0
