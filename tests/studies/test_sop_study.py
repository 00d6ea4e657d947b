"""The study of structured output prediction, whole, on embedded data."""

import csv
import dataclasses
import json

import pytest

from igr import studies
from igr.errors import UserError
from igr.studies import Machine, groups_of, run_study
from igr.studies.sop import SOPStudyConfig
from igr.training.run_folder import RunFolder

STUDY = studies.study("sop")
SMALL = dataclasses.replace(
    STUDY.smoke, networks=("double_linear",), igr_temperatures=(0.5, 1.0), samples=(1,)
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run_study(STUDY, SMALL, tmp_path_factory.mktemp("studies") / "sop")


def test_the_table_says_what_the_runs_have(outcome):
    with (outcome.out / "tables" / "likelihoods.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["units"] for row in rows] == [
        f"{name}{form}" for name in ("GS", "IGR-I", "IGR-Planar") for form in ("", ", straight-through")
    ]
    assert {row["tried"] for row in rows} == {"2"}
    for row in rows:
        latent = {"GS": "gumbel-softmax", "IGR-I": "igr", "IGR-Planar": "igr-planar"}[
            row["units"].split(",")[0]
        ]
        ending = "-st" if "straight" in row["units"] else ""
        folders = (outcome.out / "runs" / f"digits-double_linear-n1-{latent}{ending}").iterdir()
        results = [RunFolder(path).result() for path in folders]
        chosen = [one for one in results if one["config"]["temperature"] == float(row["temperature"])]
        assert len(chosen) == 2
        for heading, count in (("10 samples", "10"), ("20 samples", "20")):
            found = [-one["evaluation"]["by_samples"][count]["value"] for one in chosen]
            assert float(row[heading]) == pytest.approx(sum(found) / 2)
            error = abs(found[0] - found[1]) / 2
            assert float(row[f"{heading} standard error"]) == pytest.approx(error)
        # The candidate with the higher validation bound, of the first seed, is the one that was repeated.
        first = {
            one["config"]["temperature"]: one["validation_evaluation"]["bounds"]["importance_weighted"][
                "value"
            ]
            for one in results
            if one["config"]["seed"] == 5328
        }
        assert max(first, key=lambda temperature: first[temperature]) == float(row["temperature"])


def test_the_page_and_its_pictures(outcome):
    page = (outcome.out / "report.md").read_text(encoding="utf-8")
    for name in ("likelihoods", "completions-digits-double_linear", "curves"):
        assert (outcome.out / "figures" / f"{name}.png").stat().st_size > 5000
        assert f"figures/{name}.png" in page
    assert "IGR-SB is not among the laws" in page
    assert "its temperature was chosen by its bound on the validation split" in page


def test_a_finished_study_repeats_nothing(outcome):
    before = {path: path.stat().st_mtime_ns for path in outcome.out.glob("runs/*/*/result.json")}
    again = run_study(STUDY, SMALL, outcome.out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [one.to_csv() for one in again.report.tables] == [one.to_csv() for one in outcome.report.tables]


@pytest.mark.parametrize("budget", ["full", "small"])
def test_budgets_are_of_the_issue(budget):
    config = STUDY.preset(budget)
    config.check()
    groups = groups_of(STUDY, config, Machine(device="cpu"))
    assert len({group.key for group in groups}) == len(groups)
    assert {candidate.network for group in groups for candidate in group.candidates} == (
        {"double_linear", "nonlinear", "triple_linear"}
        if budget == "full"
        else {"double_linear", "nonlinear"}
    )
    assert {candidate.num_samples for group in groups for candidate in group.candidates} == (
        {1, 5, 50} if budget == "full" else {1}
    )
    assert len(config.seeds) == (5 if budget == "full" else 3)
    if budget == "full":
        assert config.epochs == 100
        assert config.data == ("digits", "mnist", "fmnist", "omniglot")
    else:
        assert config.data == ("mnist",)
    assert json.loads(json.dumps(config.to_json())) == config.to_json()


BAD = {
    "sticks": (
        {"latents": ("igr", "igr-sb")},
        "expected latents to be some of gumbel-softmax, igr, igr-planar",
    ),
    "network": ({"networks": ("dense",)}, "expected networks to be some of"),
    "samples": ({"samples": (0,)}, "expected samples to be different numbers above 0"),
    "temperature": ({"igr_temperatures": (1.0, 1.0)}, "expected igr_temperatures to be different numbers"),
    "units": ({"num_units": 0}, "expected num_units"),
    "data": ({"data": ("nist",)}, "expected data to be some of"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_cannot_be_used_are_refused(name):
    settings, said = BAD[name]
    with pytest.raises(UserError, match=said):
        dataclasses.replace(SOPStudyConfig(), **settings).check()
