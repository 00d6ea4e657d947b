"""The guide to the fits says what was measured: its table is that of the report, which is made again here."""

import csv
import re

import pytest

from igr import studies
from igr.fitting import fit
from igr.studies.discrete_laws import TARGETS
from igr.studies.run import run_study
from measured import ROOT, Page, agrees, result_of, timed

NAMES = {law.title: name for name, law in TARGETS.items()} | {"uniform mixture": "uniform-mixture"}
MEASURED = (ROOT / "docs" / "fitting.md").read_text(encoding="utf-8").split("## What was measured")[1]
LINES = re.findall(r"^\| (.*) \|$", MEASURED, flags=re.MULTILINE)
ROWS = {NAMES[line.split(" | ")[0]]: line.split(" | ")[1:] for line in LINES[2:]}
EXACT = ("igr", "igr-sb", "gumbel-softmax")
RELAXED = ("gumbel-softmax", "igr", "igr-planar", "igr-sb")
# How far a fit by draws turns with the processor and its threads, as the page says.
ELSEWHERE = 0.01


def holds(shown, value):
    return value < float(shown[2:]) if shown.startswith("< ") else agrees(shown, value)


def tables_in(folder):
    """Total variations by the exact law and by the original's objective, by target and family."""
    for how in ("exact", "relaxed"):
        with (folder / "tables" / f"total-variation-{how}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        yield {row.pop("target"): {family: float(value) for family, value in row.items()} for row in rows}


def test_the_table_has_every_target():
    assert list(ROWS) == list(TARGETS)
    assert {len(row) for row in ROWS.values()} == {len(EXACT) + len(RELAXED)}


@pytest.mark.parametrize("name", TARGETS)
def test_exact_fits_are_as_near_as_the_table_says(name):
    target = TARGETS[name]
    igr, _, gumbel = ROWS[name][: len(EXACT)]
    assert holds(igr, fit(target.law, "igr").total_variation)
    sizes = (20, 40, 100) if target.is_countable else (None,)
    nearest = min(fit(target.law, "gumbel-softmax", num_categories=size).total_variation for size in sizes)
    assert holds(gumbel, nearest)


def test_every_figure_of_the_table_stands_in_the_report():
    exact, relaxed = tables_in(ROOT / "docs" / "results" / "discrete-laws")
    for name, cells in ROWS.items():
        for family, shown in zip(EXACT, cells, strict=False):
            assert holds(shown, exact[name][family]), (name, family)
        for family, shown in zip(RELAXED, cells[len(EXACT) :], strict=True):
            assert holds(shown, relaxed[name][family]), (name, family)


@pytest.mark.slow
def test_the_study_finds_what_the_report_has(tmp_path):
    """With its defaults, in minutes."""
    study = studies.study("discrete-laws")
    run_study(study, study.config(), tmp_path)
    for how, again, then in zip(
        ("exact", "relaxed"),
        tables_in(tmp_path),
        tables_in(ROOT / "docs" / "results" / "discrete-laws"),
        strict=True,
    ):
        assert list(again) == list(then) == list(TARGETS)
        for name, row in then.items():
            assert again[name] == pytest.approx(row, rel=1e-6, abs=1e-9 if how == "exact" else ELSEWHERE)


def test_the_times_have_their_source():
    page = Page("docs/fitting.md")
    lbfgs, newton, lbfgs_of_many, newton_of_many = (
        timed("fitting", title, row)
        for title in ("ten categories", "1,000 laws of Dirichlet(1), K = 10")
        for row in ("LBFGS on the exact law", "igr.fitting.fit, Newton")
    )
    page.says("takes <> of the time of `torch.optim.LBFGS`", newton["ratio"])
    notes = result_of("fitting")["notes"]
    page.says(
        "(<> and <> ms, with <> and <> in total variation), and <> of it for 1,000 random laws of ten "
        "categories at once (<> and <> s)",
        newton["milliseconds"],
        lbfgs["milliseconds"],
        *(
            float(re.search(rf"ten categories, {row}: total variation (\S+);", notes)[1])
            for row in ("igr.fitting.fit, Newton", "LBFGS on the exact law")
        ),
        newton_of_many["ratio"],
        newton_of_many["milliseconds"] / 1000,
        lbfgs_of_many["milliseconds"] / 1000,
    )
    sticks = [
        timed("fitting", law, f"{family}, scale {scale}")["milliseconds"] / 1000
        for law in ("Poisson(50)", "NegativeBinomial(50, 0.6)")
        for family in ("igr-sb", "igr-sb-log")
        for scale in (1, 5)
    ]
    ends = min(sticks[:4]), max(sticks[:4]), min(sticks[4:]), max(sticks[4:])
    page.says("<> to <> s for Poisson(50) and <> to <> s for NegativeBinomial(50, 0.6), the narrow", *ends)
    page.check(settings_too=False)
