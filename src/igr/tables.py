"""Tables for readers: Markdown, LaTeX and text, and CSV and JSON with every digit."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A figure with its standard error.

    Attributes:
        value: The figure.
        standard_error: Its standard error, if it has one.
        is_best: Whether it is marked: by a star, or in bold where there is any.
    """

    value: float
    standard_error: float | None = None
    is_best: bool = False


Cell = str | float | Measured | None


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

    Raises:
        ValueError: for a row that has not one cell for each column.
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

    def to_latex(self) -> str:
        r"""The table as a float, with its title as the caption and its notes below.

        It needs the package ``booktabs`` and nothing else. The best figures are in bold.
        """
        alignment = "".join("r" if form else "l" for form in self.columns.values())
        rows = [
            [_latex_cell(cell, form) for cell, form in zip(row, self.columns.values(), strict=True)]
            for row in self.rows
        ]
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(self.title)}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _latex_row(map(escape_latex, self.columns)),
            r"\midrule",
            *map(_latex_row, rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        if self.notes:
            lines += [r"\par\medskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"]
            lines += [rf"{escape_latex(note)}\par" for note in self.notes]
            lines.append(r"\end{minipage}")
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def to_csv(self) -> str:
        """Headings and rows, unrounded; standard errors stand in columns of their own."""
        measured = [any(isinstance(row[i], Measured) for row in self.rows) for i in range(len(self.columns))]
        header: list[str] = []
        for heading, has_errors in zip(self.columns, measured, strict=True):
            header += [heading, f"{heading} standard error"] if has_errors else [heading]
        lines: list[list[str | float | None]] = []
        for row in self.rows:
            line: list[str | float | None] = []
            for cell, has_errors in zip(row, measured, strict=True):
                if isinstance(cell, Measured):
                    line += [cell.value, cell.standard_error]
                else:
                    line += [cell, None] if has_errors else [cell]
            lines.append(line)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
        return buffer.getvalue()

    def to_json(self) -> list[dict[str, object]]:
        """The rows, each with its cells by heading, unrounded."""
        return [
            {heading: _json(cell) for heading, cell in zip(self.columns, row, strict=True)}
            for row in self.rows
        ]


def escape_latex(text: str) -> str:
    r"""A text as plain pdflatex sets it, on one line.

    A character that its usual fonts do not have is given by its code point, ``[U+4E2D]``.
    """
    line = " ".join(text.split())
    # Side by side, two hyphens would be set as a dash.
    pieces = re.split("(?<=-)(?=-)", line)
    return "{}".join("".join(map(_latex_character, piece)) for piece in pieces)


_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    # At the start of a row they would be read as an argument of the line before.
    "[": "{[}",
    "*": "{*}",
    # What the oldest of the fonts has in these places is other characters.
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "±": r"$\pm$",
    "×": r"$\times$",  # noqa: RUF001
    "÷": r"$\div$",
    "·": r"$\cdot$",
    "−": "$-$",  # noqa: RUF001
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
    "²": "$^2$",
    "—": "---",
    "‘": "`",  # noqa: RUF001
    "’": "'",  # noqa: RUF001
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "–": "--",  # noqa: RUF001
}


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    is_plain = character.isascii() and character.isprintable()
    # Letters with accents; the four others have no place in the oldest of the fonts.
    if is_plain or ("À" <= character <= "ÿ" and character not in "ÐðÞþ"):
        return character
    return f"{{[}}U+{ord(character):04X}]"


def _text(cell: Cell, form: str) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Measured):
        # The mark beside the value, so that a narrow table, which breaks at the space, does not part them.
        value = f"{_text(cell.value, form)}{'*' if cell.is_best else ''}"
        return value if cell.standard_error is None else f"{value} ±{_text(cell.standard_error, form)}"
    return cell if isinstance(cell, str) else format(cell, form or "g")


def _latex_cell(cell: Cell, form: str) -> str:
    if cell is None:
        return "--"
    if isinstance(cell, str):
        return escape_latex(cell)
    if isinstance(cell, Measured):
        value = _latex_cell(cell.value, form)
        marked = rf"\textbf{{{value}}}" if cell.is_best else value
        error = cell.standard_error
        return marked if error is None else rf"{marked} $\pm$ {_latex_cell(error, form)}"
    return escape_latex(_text(cell, form)).replace("-", "$-$")


def _latex_row(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _json(cell: Cell) -> object:
    if isinstance(cell, Measured):
        return {"value": cell.value, "standard_error": cell.standard_error}
    return cell
