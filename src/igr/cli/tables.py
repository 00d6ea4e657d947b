"""Tables on a terminal: the widest layout that fits."""

from collections.abc import Collection, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from igr import tables

# Columns that a figure with an error takes where both do not fit on one line.
FIGURE_WIDTH = 9
# Columns of a terminal that everything fits.
UNBOUNDED = 10_000


def rendered(table: tables.Table, width: int, names: Sequence[str] | None = None) -> RenderableType:
    """The first layout that fits so many columns, each of them narrower than the one before.

    Arguments:
        table: The table.
        width: The columns of the terminal.
        names: What the columns of text say of each row, in a few lines; ``None`` for their cells.
    """
    texts = dict(zip(table.columns, zip(*table.texts(), strict=True), strict=True))
    figures = {
        heading
        for i, heading in enumerate(table.columns)
        if any(isinstance(row[i], tables.Measured) for row in table.rows)
    }
    labels = {heading: cells for heading, cells in texts.items() if not table.columns[heading]}
    numbers = {heading: cells for heading, cells in texts.items() if heading not in labels}
    alike = {
        heading: cells[0]
        for heading, cells in numbers.items()
        if heading not in figures and len(cells) > 1 and len(set(cells)) == 1
    }
    varying = {heading: cells for heading, cells in numbers.items() if heading not in alike}
    if names is None:
        names = ["\n".join(cells) for cells in zip(*labels.values(), strict=True)]
    parted = {**labels, **varying}
    merged = {"row": names, **varying} if len(labels) > 1 else parted
    said = f"In all rows: {', '.join(f'{heading} {text}' for heading, text in alike.items())}."
    below = [Text(said)] if alike else []
    layouts: list[tuple[Table, list[Text]]] = [
        (columns(texts, figures), []),
        (columns(parted, figures), below),
        (columns(merged, figures), below),
        (columns(parted, figures, FIGURE_WIDTH, gap=1), below),
        (columns(merged, figures, FIGURE_WIDTH, gap=1), below),
    ]
    fitting = (layout for layout in layouts if Console(width=UNBOUNDED).measure(layout[0]).maximum <= width)
    shown, more = next(fitting, layouts[-1])
    return Group(shown, *more)


def columns(
    texts: Mapping[str, Sequence[str]],
    figures: Collection[str],
    longest: int | None = None,
    *,
    gap: int = 2,
) -> Table:
    """A table whose figures are at most so wide, with their errors below them if need be.

    Arguments:
        texts: The cells by heading.
        figures: The headings of figures with errors.
        longest: The width of these; ``None`` for what they need.
        gap: Spaces between two columns.
    """
    has_long_rows = any("\n" in text for cells in texts.values() for text in cells)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, leading=int(has_long_rows))
    for heading, cells in texts.items():
        if heading in figures:
            table.add_column(heading.replace(", ", ",\n"), justify="right", max_width=longest)
        else:
            table.add_column(
                heading.replace(" ", "\n").replace("temperature", "temper-\nature"),
                justify="right" if all(map(_is_number, cells)) else "left",
                overflow="fold",
            )
    for row in zip(*texts.values(), strict=True):
        table.add_row(*(Text(cell, "bold" if "*" in cell else "") for cell in row))
    return table


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text == "-"
    return True
