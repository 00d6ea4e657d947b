"""A table says the same in every form, and its LaTeX holds nothing that LaTeX would read as its own."""

import csv
import io
import json
import re

import pytest

from igr.tables import Measured, Table, escape_latex


@pytest.fixture
def table() -> Table:
    columns = {"law | name": "", "n_k": "d", "ELBO": ".2f"}
    rows = [
        ["a_b & c", 3, Measured(-20.004, 0.256, is_best=True)],
        ["[x]", 40, Measured(-1.5)],
        [None, 5, None],
    ]
    return Table("t", "50 % of #1", columns, rows, ["Mean ± error – of {all}."])  # noqa: RUF001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a & b", r"a \& b"),
        ("50 %", r"50 \%"),
        ("$5 #1", r"\$5 \#1"),
        ("num_categories", r"num\_categories"),
        ("{x}", r"\{x\}"),
        ("~/runs", r"\textasciitilde{}/runs"),
        ("2^63", r"2\textasciicircum{}63"),
        ("a\\b", r"a\textbackslash{}b"),
        ("\\{", r"\textbackslash{}\{"),
        ("1 ± 2", r"1 $\pm$ 2"),
        ("3–5", "3--5"),  # noqa: RUF001
        ("--out a---b", "-{}-out a-{}-{}-b"),
        ("q(d | x) < 1 > 0", "q(d $|$ x) $<$ 1 $>$ 0"),
        ("28 × 28", r"28 $\times$ 28"),  # noqa: RUF001
        ("−1 ≤ 2", r"$-$1 $\le$ 2"),  # noqa: RUF001
        ('"a"', "''a''"),
        ("* [x]", "{*} {[}x]"),
        ("Größe", "Größe"),
        ("τ", "{[}U+03C4]"),
        ("a\n\nb\tc", "a b c"),
        ("a\x00b", "a{[}U+0000]b"),
    ],
)
def test_what_latex_would_read_as_its_own_is_escaped(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


def test_any_character_gives_latex_of_plain_letters_and_closed_groups() -> None:
    for code in [*range(0x250), *range(0x2000, 0x2300), 0x1F600]:
        escaped = escape_latex(f"x{chr(code)}x")
        assert all(" " <= c <= "~" or "À" <= c <= "ÿ" for c in escaped), escaped
        # What is left once escapes, math and groups are taken out is only what may stand alone.
        bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}|\\dots\{\}|\{[\[*]\}|\$[^$]+\$", "", escaped)
        assert not set(bare) & set('\\&%$#_{}~^<>|"*'), escaped


def test_latex_is_a_whole_table(table: Table) -> None:
    assert table.to_latex().splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{50 \% of \#1}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"law $|$ name & n\_k & ELBO \\",
        r"\midrule",
        r"a\_b \& c & 3 & \textbf{$-$20.00} $\pm$ 0.26 \\",
        r"{[}x] & 40 & $-$1.50 \\",
        r"-- & 5 & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}",
        r"\footnotesize",
        r"Mean $\pm$ error -- of \{all\}.\par",
        r"\end{minipage}",
        r"\end{table}",
    ]


def test_latex_without_notes_has_nothing_below() -> None:
    lines = Table("t", "t", {"a": ".0e"}, [[1e-7]]).to_latex().splitlines()
    assert lines[-2:] == [r"\end{tabular}", r"\end{table}"]
    assert r"1e$-$07 \\" in lines


def test_texts_and_markdown_mark_the_best(table: Table) -> None:
    assert table.texts() == [["a_b & c", "3", "-20.00* ±0.26"], ["[x]", "40", "-1.50"], ["-", "5", "-"]]
    assert "| a_b & c | 3 | -20.00* ±0.26 |\n" in table.to_markdown()
    assert table.to_markdown().startswith(
        "## 50 % of #1\n\n| law / name | n_k | ELBO |\n| :-- | --: | --: |\n"
    )


def test_csv_and_json_keep_every_digit(table: Table) -> None:
    lines = list(csv.reader(io.StringIO(table.to_csv())))
    assert lines == [
        ["law | name", "n_k", "ELBO", "ELBO standard error"],
        ["a_b & c", "3", "-20.004", "0.256"],
        ["[x]", "40", "-1.5", ""],
        ["", "5", "", ""],
    ]
    first, *_, last = json.loads(json.dumps(table.to_json()))
    assert first == {"law | name": "a_b & c", "n_k": 3, "ELBO": {"value": -20.004, "standard_error": 0.256}}
    assert last == {"law | name": None, "n_k": 5, "ELBO": None}
