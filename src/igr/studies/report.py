"""What a study found, for readers: tables, pictures, and the page that holds both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from igr.tables import Cell, Table

__all__ = ["Cell", "Picture", "Report", "Table"]


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

    def to_markdown(self) -> str:
        """The picture and its caption; who cannot see it is told its name and what it shows."""
        shown = self.caption.partition(". ")[0].removesuffix(".")
        alternative = f"{self.name.replace('-', ' ')}: {shown}"
        return f"![{alternative}](figures/{self.name}.png)\n\n{self.caption}"


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
        parts += [picture.to_markdown() for picture in self.pictures]
        parts += ["## How it was made", "\n".join(f"- {name}: {what}" for name, what in made.items())]
        return "\n\n".join(parts) + "\n"
