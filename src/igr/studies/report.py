"""What a study found, for readers: tables, pictures, and the page that holds both."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

Cell = str | float | None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: The name of its CSV file, without the ending.
        title: What it shows, with the unit where all figures have the same.
        columns: Headings, each with the format of its numbers (``".3f"``); ``""`` for a column of text.
        rows: One cell for each column. Numbers are given unrounded, ``None`` where there is none.
        notes: Sentences below it.
        in_terminal: Whether it is printed too; one too wide for that stands in the files alone.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    in_terminal: bool = True

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Table: expected {len(self.columns)} cells in each row of {self.name}; got {len(row)}."
                )

    def texts(self) -> list[list[str]]:
        """The rows as they are read: numbers rounded, a dash where there is none."""
        return [
            [_text(cell, form) for cell, form in zip(row, self.columns.values(), strict=True)]
            for row in self.rows
        ]

    def to_markdown(self) -> str:
        """The table below its title, with its notes."""
        rules = ["--:" if form else ":--" for form in self.columns.values()]
        lines = [list(self.columns), rules, *self.texts()]
        body = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        return "\n\n".join([f"## {self.title}", body, *self.notes])

    def to_csv(self) -> str:
        """Headings and rows, unrounded."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return buffer.getvalue()

    def to_json(self) -> list[dict[str, Cell]]:
        """The rows, each with its cells by heading, unrounded."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Picture:
    """A figure with what has to be said about it.

    Attributes:
        name: The name of its PNG file, without the ending.
        caption: Sentences that say what is drawn.
        figure: The figure, of :func:`igr.plot.new_figure`.
    """

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Report:
    """What a study found.

    Attributes:
        tables: The tables.
        pictures: The pictures.
        about: Paragraphs that say what was measured and how, in Markdown.
    """

    tables: Sequence[Table]
    pictures: Sequence[Picture] = ()
    about: str = ""

    def to_markdown(self, title: str, made: Mapping[str, str]) -> str:
        """The page, with figures as they lie beside it.

        Arguments:
            title: The heading.
            made: How it was made, by name.
        """
        parts = [f"# {title}", *filter(None, [self.about.strip()])]
        parts += [table.to_markdown() for table in self.tables]
        if self.pictures:
            parts.append("## Figures")
        for picture in self.pictures:
            parts += [f"![{picture.name}](figures/{picture.name}.png)", picture.caption]
        parts += ["## How it was made", "\n".join(f"- {name}: {what}" for name, what in made.items())]
        return "\n\n".join(parts) + "\n"


def _text(cell: Cell, form: str) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else format(cell, form or "g")
