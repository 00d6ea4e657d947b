"""``igr compare``: evaluated runs, repetitions and grids in tables and one figure."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console, Group, RenderableType
from rich.text import Text

from igr import atomic, plot
from igr.cli.arguments import CommonArguments, Flag, parse, run
from igr.cli.tables import FIGURE_WIDTH, columns, rendered
from igr.cli.terminal import quoted, say
from igr.errors import UserError, remedy
from igr.evaluation import (
    BOUND_KINDS,
    Comparison,
    GroupedComparison,
    compare_groups,
    compare_runs,
    failed_runs,
    has_groups,
    read_runs,
    runs_to_csv,
    words,
)

# Columns of a terminal from which on a figure and its error stand on one line.
WIDE = 96


@dataclass(frozen=True, kw_only=True)
class CompareArguments(CommonArguments):
    """Evaluated runs in tables and one figure.

    Runs that differ in their seed alone have one row, with the mean and its standard error over seeds. Of
    those that differ in temperature or learning rate too the best are chosen by the validation split.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, each evaluated by igr evaluate, or folders with runs below them."""

    split: str = "test"
    """The split whose figures are compared: test or validation."""

    each: Flag = False
    """Give every run a row of its own."""

    out: Path = Path("runs/comparison")
    """The folder for comparison.md, .csv and .tex, runs.csv and bounds.png; they are written anew."""


def main(argv: list[str]) -> int:
    """Runs ``igr compare`` and returns the exit code."""
    return run("compare", _compare, argv)


def _compare(argv: list[str]) -> int:
    arguments = parse(CompareArguments, argv, "compare")
    failed = failed_runs(arguments.runs)
    if failed:
        say(
            f"left out: {len(failed)} of the runs, which failed or have not finished, the first of them "
            f"{quoted(failed[0])}"
        )
    runs = read_runs(arguments.runs, arguments.split)
    comparison = compare_groups(runs) if has_groups(runs) and not arguments.each else compare_runs(runs)
    written = write(comparison, arguments.out)
    if arguments.json:
        print(json.dumps(comparison.to_json(), indent=2))
    else:
        console = Console()
        console.print(render(comparison, console.width))
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


def write(comparison: Comparison | GroupedComparison, out: Path) -> list[Path]:
    """Writes the tables as Markdown, CSV and LaTeX, and the figure, and returns where they are.

    Raises:
        UserError: The folder cannot be written, or the metrics of a run are damaged.
    """
    # Drawn first, so that a run that cannot be drawn leaves no half of the files.
    if isinstance(comparison, Comparison):
        drawn = plot.comparison_figure(comparison.runs)
    else:
        drawn = plot.grouped_figure(comparison)
    texts = {
        out / "comparison.md": comparison.to_markdown(),
        out / "comparison.csv": comparison.to_csv(),
        out / "comparison.tex": comparison.to_latex(),
        out / "runs.csv": runs_to_csv(comparison.runs),
    }
    figure = out / "bounds.png"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            atomic.write_text(path, text)
        plot.save(drawn, figure)
    except OSError as error:
        raise UserError(
            f"expected a folder that can be written; got {out} ({error.strerror or error}); "
            f"{remedy(error)}, or choose another with --out"
        ) from error
    return [*texts, figure]


def render(comparison: Comparison | GroupedComparison, width: int) -> RenderableType:
    """The tables for a terminal of so many columns, each with its notes below."""
    if isinstance(comparison, Comparison):
        return _render_runs(comparison, width)
    parts: list[RenderableType] = []
    for section, table in zip(comparison.sections, comparison.tables(), strict=True):
        # Not as the title of the table, which is no wider than its columns.
        names = ["\n".join(words(row.label)) for row in section.rows]
        parts += [Text(table.title, "bold"), rendered(table, width, names)]
        parts += [*map(Text, table.notes), Text()]
    return Group(*parts[:-1])


def _render_runs(comparison: Comparison, width: int) -> RenderableType:
    texts = zip(*comparison.rows(), strict=True)
    # Where figures and errors do not fit side by side, names of runs stay whole instead.
    table = columns(
        dict(zip(comparison.header(), texts, strict=True)),
        figures={kind.name for kind in BOUND_KINDS},
        longest=None if width >= WIDE else FIGURE_WIDTH,
    )
    return Group(table, *(Text(note) for note in comparison.notes()))
