"""``igr compare``: several evaluated runs in one table and one figure."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from igr import atomic, plot
from igr.cli.arguments import CommonArguments, parse, run
from igr.errors import UserError
from igr.evaluation import BOUND_KINDS, Comparison, compare

# Columns of a terminal from which on a figure and its error stand on one line.
WIDE = 96
FIGURE_WIDTH = 9


@dataclass(frozen=True, kw_only=True)
class CompareArguments(CommonArguments):
    """Several evaluated runs in one table and one figure."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """The folders of the runs, each evaluated by igr evaluate."""

    out: Path = Path("runs/comparison")
    """The folder for comparison.md, comparison.csv and bounds.png; they are written anew."""


def main(argv: list[str]) -> int:
    """Runs ``igr compare`` and returns the exit code."""
    return run("compare", _compare, argv)


def _compare(argv: list[str]) -> int:
    arguments = parse(CompareArguments, argv, "compare")
    comparison = compare(arguments.runs)
    written = write(comparison, arguments.out)
    if arguments.json:
        print(json.dumps(comparison.to_json(), indent=2))
    else:
        console = Console()
        console.print(render(comparison, console.width))
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


def write(comparison: Comparison, out: Path) -> list[Path]:
    """Writes the table as Markdown and CSV and the figure, and returns where they are.

    Raises:
        UserError: The folder cannot be written, or the metrics of a run are damaged.
    """
    table, values, figure = out / "comparison.md", out / "comparison.csv", out / "bounds.png"
    # Drawn first, so that a run that cannot be drawn leaves no half of the files.
    drawn = plot.comparison_figure(comparison.runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        atomic.write_text(table, comparison.to_markdown())
        atomic.write_text(values, comparison.to_csv())
        plot.save(drawn, figure)
    except OSError as error:
        raise UserError(
            f"expected a folder that can be written; got {out} ({error.strerror or error}); "
            "choose another with --out"
        ) from error
    return [table, values, figure]


def render(comparison: Comparison, width: int) -> RenderableType:
    """The table for a terminal of so many columns, with its notes below."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in comparison.header():
        if title in {kind.name for kind in BOUND_KINDS}:
            # Where figures and errors do not fit side by side, names of runs stay whole instead.
            longest = None if width >= WIDE else FIGURE_WIDTH
            table.add_column(title.replace(", ", ",\n"), justify="right", max_width=longest)
        else:
            table.add_column(title.replace(" ", "\n"), overflow="fold")
    for row in comparison.rows():
        table.add_row(*(Text(cell, "bold" if "*" in cell else "") for cell in row))
    return Group(table, *(Text(note) for note in comparison.notes()))
