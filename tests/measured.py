"""Pages with measured numbers: each is compared with the file it comes from, and none is left without one."""

import csv
import json
import re
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).parents[1]

_TO_TEN = re.findall(r"\w+", "zero one two three four five six seven eight nine ten")
_WORDS = {word: str(value) for value, word in enumerate(_TO_TEN)} | {"thirteen": "13", "seventeen": "17"}
_NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?"
_SHOWN = rf"({_NUMBER}|(?i:{'|'.join(reversed(_WORDS))}))"

_UNIT = r" ?(?:%|±)| (?:nats?|m?s|seconds?|min|minutes|times|times as|per cent|[MG]i?B)\b"


def agrees(shown, value):
    """Whether a value, rounded to the digits that are shown, is what is shown."""
    written = Decimal(_WORDS.get(shown.lower(), shown).replace(",", ""))
    unit = Decimal(1).scaleb(int(written.as_tuple().exponent))
    return abs(written - Decimal(float(value))) <= unit / 2 * Decimal("1.000001")


class Page:
    """A page as text in one line, without code, and which of its numbers have been accounted for.

    Of a tutorial it is what stands between the code.
    """

    def __init__(self, name):
        self.name = name
        self._faults = []
        text = (ROOT / name).read_text(encoding="utf-8")
        if name.endswith(".py"):
            text = "\n".join(re.findall(r"^# (.*)$", text, flags=re.MULTILINE))
        text = re.sub(r"^ *```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"\]\([^)]*\)", "]", text)  # where a link leads
        self.text = " ".join(re.sub(r"[\[\]*]", "", text).split())
        self._is_told = [False] * len(self.text)
        for code in re.finditer(r"`[^`]*`|\$[^$]*\$", self.text):
            self._tell(*code.span())

    def _find(self, pattern):
        """Where it stands, but not inside a word or a number."""
        return list(re.finditer(rf"(?<![\w.]){pattern}(?:(?<!\w)|(?!\w|[.,]\d))", self.text))

    def _tell(self, start, end):
        self._is_told[start:end] = [True] * (end - start)

    def says(self, template, *values):
        """The page has this text once, with each value, rounded as the page rounds it, in place of a <>."""
        pattern = _SHOWN.join(re.escape(part) for part in template.split("<>"))
        found = self._find(pattern)
        if len(found) != 1:
            self._faults.append(f"{len(found)} times: {template}, with {values}")
            return
        for shown, value in zip(found[0].groups(), values, strict=True):
            if not agrees(shown, value):
                self._faults.append(f"{shown} and not {float(value):.6g} in: {found[0][0]}")
        self._tell(*found[0].span())

    def sets(self, *patterns):
        """Numbers in these expressions are settings, sizes or names, and none was measured."""
        for pattern in patterns:
            found = self._find(pattern)
            if not found:
                self._faults.append(f"no longer there: {pattern}")
            for match in found:
                self._tell(*match.span())

    def check(self, *, settings_too=True):
        """Fails where page and sources differ, or where no source was named for a number.

        With ``settings_too=False``, for pages that are full of settings, only for numbers that stand beside a
        unit or an error.
        """
        number = _NUMBER if settings_too else f"{_NUMBER}(?={_UNIT})"
        untold = [
            f"no source: {self.text[max(0, match.start() - 40) : match.end() + 40]}"
            for match in re.finditer(rf"(?<![\w.-]){number}(?!\w)", self.text)
            if not all(self._is_told[match.start() : match.end()])
        ]
        faults = [*self._faults, *untold]
        assert not faults, "\n".join([self.name, *faults])


def rows_of(study, table, **where):
    """Rows of a table of a report, from the file that holds all of its digits."""
    path = ROOT / "docs" / "results" / study / "tables" / f"{table}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if all(row[name] == value for name, value in where.items())]
    assert kept, (study, table, where)
    return kept


def row_of(study, table, **where):
    """The one such row."""
    (row,) = rows_of(study, table, **where)
    return row


def with_error(row, column):
    """A figure and its standard error."""
    return float(row[column]), float(row[f"{column} standard error"])


def config_of(study):
    """The settings of a report."""
    return json.loads((ROOT / "docs" / "results" / study / "config.json").read_text())["config"]


def result_of(name):
    """What a script under benchmarks/ wrote."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def timed(script, table, row):
    """A candidate of a benchmark, by the title of its table or by what only that title begins with."""
    tables = result_of(script)["tables"]
    titles = [table] if table in tables else [title for title in tables if title.startswith(table)]
    (found,) = (each for title in titles for each in tables[title] if each["name"] == row)
    return found
