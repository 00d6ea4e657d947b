"""The page of results says what stands in the reports."""

import csv
import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from igr.studies import STUDIES
from igr.studies.report import Picture
from measured import agrees

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    match[1]: text
    for text in PAGE.split("\n## ")[1:]
    if (match := re.search(r"\(([\w-]+)\)$", text.splitlines()[0]))
}
STUDIED = sorted(path.parent.name for path in RESULTS.glob("*/report.md"))


def report_of(study):
    return (RESULTS / study / "report.md").read_text(encoding="utf-8")


def tables_of(text):
    """The tables of a page, each as rows of cells, the head first and the alignment second."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    return [
        [[c.strip() for c in row.strip("|").split("|")] for row in block.splitlines()] for block in blocks
    ]


def is_part_of(table, whole):
    """Whether a table is one of which rows and columns were left out, and nothing else was done."""
    head, _, *rows = whole
    if not {*table[0]} <= {*head}:
        return False
    at = [head.index(name) for name in table[0]]
    left = iter([[row[i] for i in at] for row in rows])
    return len(table) > 3 and all(row in left for row in table[2:])


def test_every_report_has_its_section_and_its_line():
    assert sorted(SECTIONS) == STUDIED
    assert {*STUDIED} <= {*STUDIES}
    (glance, *_) = tables_of(PAGE)
    assert sorted(re.search(r"\[([\w-]+)\]", row[0])[1] for row in glance[2:]) == STUDIED


@pytest.mark.parametrize("study", STUDIED)
def test_every_figure_of_a_table_stands_in_the_report(study):
    wholes = tables_of(report_of(study))
    tables = tables_of(SECTIONS[study])
    assert tables
    for table in tables:
        assert len({len(row) for row in table}) == 1
        assert any(is_part_of(table, whole) for whole in wholes), table[0]


@pytest.mark.parametrize("study", STUDIED)
def test_the_command_and_the_seeds_are_those_of_the_report(study):
    (command,) = re.findall(r"^- command: (`.*`)$", report_of(study), flags=re.MULTILINE)
    assert command in SECTIONS[study]
    config = json.loads((RESULTS / study / "config.json").read_text())["config"]
    seeds = config.get("seeds", [config["seed"]])
    (line,) = (row for row in tables_of(PAGE)[0] if row[0].startswith(f"[{study}]"))
    assert line[2] == str(len(seeds))


def test_every_file_and_heading_that_it_links_exists():
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", PAGE):
        assert (RESULTS / link).exists(), link


@pytest.mark.parametrize("study", STUDIED)
def test_tables_of_a_report_are_those_of_its_files_in_fewer_digits(study):
    whole = []
    for path in (RESULTS / study / "tables").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        whole.append(([name for name in rows[0] if not name.endswith(" standard error")], rows))
    for head, _, *lines in tables_of(report_of(study)):
        (found,) = (rows for columns, rows in whole if columns == head and all(map(is_shown, lines, rows)))
        assert len(found) == len(lines)


def is_shown(line, row):
    """Whether a line of a report is a row of a file."""
    columns = [name for name in row if not name.endswith(" standard error")]
    return all(is_rounded(cell, row, name) for name, cell in zip(columns, line, strict=True))


def is_rounded(cell, row, name):
    told = [text for text in (row[name], row.get(f"{name} standard error")) if text]
    shown = [] if cell == "-" else re.split(r"\*? ±|\*$", cell)
    shown = [*filter(None, shown)]
    return len(shown) == len(told) and all(map(is_told, shown, told))


def is_told(shown, text):
    """Whether a cell of a report is what a file has, in fewer digits or in per cent."""
    if shown == text:
        return True
    if re.fullmatch(r"-?\d.*", shown) is None:
        return False
    return agrees(shown[:-1], 100 * float(text)) if shown.endswith("%") else agrees(shown, text)


@pytest.mark.parametrize("study", STUDIED)
def test_pictures_of_a_report_are_told_as_a_study_writes_them(study):
    text = report_of(study)
    pictures = re.findall(r"^!\[.*\]\(figures/(.*)\.png\)\n\n(.*)$", text, flags=re.MULTILINE)
    assert len(pictures) == text.count("![") == len(list((RESULTS / study / "figures").iterdir())) > 0
    for name, caption in pictures:
        assert Picture(name, caption, Figure()).to_markdown() in text


def test_a_table_with_another_figure_is_no_part():
    whole = tables_of(report_of("vanishing-gradients"))[0]
    table = [[row[0], row[-1]] for row in whole]
    assert is_part_of(table, whole)
    assert is_part_of([*table[:2], *table[4:]], whole)
    for changed in ("87.08", "37.03"):
        assert not is_part_of([*table[:2], ["GS", changed], *table[3:]], whole)
    assert not is_part_of([*table[:2], *reversed(table[2:])], whole)
