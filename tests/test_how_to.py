"""The guides to sweeps and to reproduction say what studies and sweeps do."""

import json
import re
from pathlib import Path

from igr import studies
from igr.studies import STUDIES
from igr.sweeps import expand, groups_of

DOCS = Path(__file__).parents[1] / "docs"
REPRODUCE = (DOCS / "how-to-reproduce.md").read_text(encoding="utf-8")
SWEEPS = (DOCS / "how-to-sweeps.md").read_text(encoding="utf-8")
RESULTS = (DOCS / "results" / "README.md").read_text(encoding="utf-8")


def rows(text, title):
    lines = re.findall(r"^\|.*\|$", text.split(f"\n## {title}\n")[1].split("\n## ")[0], flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_runs_and_epochs_of_budgets_are_counted():
    table = rows(REPRODUCE, "Which budget, and how long")
    with_runs = {name for name in STUDIES if studies.study(name).groups(studies.study(name).config())}
    assert {row[0].strip("`") for row in table} == with_runs
    for name, *counts, _ in table:
        found = studies.study(name.strip("`"))
        expected = []
        for budget in ("full", "small"):
            config = found.preset(budget)
            expected += [sum(group.num_runs for group in found.groups(config)), config.epochs]
        assert [int(count) for count in counts] == expected, name


def test_times_are_those_of_the_page_of_results():
    taken = dict(re.findall(r"^\| \[([\w-]+)\].*\| ([\d.]+ min) \|$", RESULTS, flags=re.MULTILINE))
    assert taken.keys() == STUDIES.keys()
    for row in rows(REPRODUCE, "Which budget, and how long"):
        assert row[-1] == taken[row[0].strip("`")]
    told = " ".join(REPRODUCE.split())
    assert f"took {taken['toy']} in the small budget" in told
    assert f"took {taken['discrete-laws']} and {taken['simplex-proximity']}." in told


def test_the_comparison_of_two_tables_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", REPRODUCE, flags=re.DOTALL)
    found = {}
    exec(example, found)
    committed = DOCS / "results" / "vae-table" / "tables" / "comparison-1.csv"
    found["compare"](committed, committed)
    lines = capsys.readouterr().out.splitlines()
    # All rows that have the bound, and nothing between them.
    assert len(lines) == 6
    assert all(line.endswith("    0.00,   0.0 errors") for line in lines)


def test_the_grid_of_the_guide_is_one():
    (grid,) = re.findall(r"```json\n(.*?)```", SWEEPS, flags=re.DOTALL)
    configs = expand(json.loads(grid))
    assert len(configs) == 12
    assert {(config.latent, config.temperature) for config in configs} == {
        ("igr", 0.15),
        ("igr", 0.4),
        ("gumbel-softmax", 0.67),
        ("gumbel-softmax", 1.0),
    }


def test_as_many_runs_choose_and_repeat_as_it_says():
    axes = {
        "latent": "igr",
        "temperature": [0.07, 0.15, 0.4, 1.0],
        "learning_rate": [3e-4, 1e-3],
        "seed": [0, 1, 2],
    }
    assert (
        "--temperature 0.07 0.15 0.4 1.0 --learning-rate 3e-4 1e-3 --seed 0 1 2 --tune-first-seed" in SWEEPS
    )
    configs = expand(axes)
    (group,) = groups_of(configs, tune_all=False)
    assert (len(group.tuning_runs), group.num_runs, len(configs)) == (8, 10, 24)
    assert "eight runs choose and two more repeat, in place of 24" in SWEEPS


def test_every_file_that_they_link_exists():
    for text in (REPRODUCE, SWEEPS):
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
            assert (DOCS / link).exists(), link
    for script in re.findall(r"`python ([\w/.]+)`", REPRODUCE):
        assert (DOCS.parent / script).exists(), script
