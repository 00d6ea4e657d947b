"""The study of mixture models, whole, on embedded data."""

import csv
import dataclasses
import itertools
import json

import pytest

from igr import studies
from igr.errors import UserError
from igr.models.stick_laws import MIXTURES
from igr.studies import Machine, groups_of, run_study
from igr.studies.dlgmm import DLGMMStudyConfig
from igr.studies.grid import TITLES
from igr.training.run_folder import RunFolder

STUDY = studies.study("dlgmm")
SMALL = dataclasses.replace(STUDY.smoke, networks=("dlgmm_dense",), components=(12,))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run_study(STUDY, SMALL, tmp_path_factory.mktemp("studies") / "dlgmm")


def test_the_table_says_what_the_runs_have(outcome):
    with (outcome.out / "tables" / "mixtures.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cases = list(itertools.product(["", ", summed"], MIXTURES.items()))
    assert [row["weights"] for row in rows] == [f"{TITLES[latent]}{how}" for how, (latent, _) in cases]
    for row, (how, (latent, mixture)) in zip(rows, cases, strict=True):
        name = f"digits-dlgmm_dense-k12-{latent}{how.replace(', ', '-')}"
        paths = list((outcome.out / "runs" / name).iterdir())
        records = [RunFolder(path).result()["evaluation"] for path in paths]
        last = [RunFolder(path).metrics()[-1] for path in paths]
        assert len(records) == 2
        for heading, figures in {
            "ELBO": [one["bounds"]["relaxed_elbo"]["value"] for one in records],
            "IW bound": [one["bounds"]["importance_weighted"]["value"] for one in records],
            "active": [one["components"]["num_active"] for one in records],
            "per image": [one["components"]["active_per_image"]["value"] for one in records],
            "in use": [one["components"]["shares_per_image"]["value"] for one in records],
            "kept": [line["train_num_components"] for line in last],
            "cut (%)": [100 * line["train_mass_cut"] for line in last],
            "neighbour error (%)": [
                100 * one["components"]["neighbour_errors"]["5"]["value"] for one in records
            ],
        }.items():
            assert float(row[heading]) == pytest.approx(sum(figures) / 2), heading
            error = abs(figures[0] - figures[1]) / 2
            assert float(row[f"{heading} standard error"]) == pytest.approx(error, abs=1e-9)
        assert float(row["kept"]) == (9.0 if mixture.is_truncated else 12.0)


def test_the_page_and_its_pictures(outcome):
    page = (outcome.out / "report.md").read_text(encoding="utf-8")
    names = ["bounds", "weights-digits-dlgmm_dense-k12", "curves"]
    for name in [*names, *(f"samples-digits-dlgmm_dense-k12-{latent}" for latent in MIXTURES)]:
        assert (outcome.out / "figures" / f"{name}.png").stat().st_size > 5000
        assert f"figures/{name}.png" in page
    assert "each law of the weights has a prior of its own" in page


def test_pictures_have_the_numbers_of_the_model_that_is_shown(tmp_path, monkeypatch):
    shown: dict[str, list[str]] = {}

    def traversals(axes, rows, labels, *, title):
        shown[title] = labels
        return axes

    monkeypatch.setattr("igr.studies.dlgmm.plot.traversals", traversals)
    # The seeds of the full budget are not in order either; and of four images there are no five neighbours.
    config = dataclasses.replace(
        SMALL, latents=("dlgmm",), component=("summed",), seeds=(5328, 49), max_images=4
    )
    run_study(STUDY, config, tmp_path / "study")
    (first,) = (tmp_path / "study" / "runs").glob("*/*s5328")
    shares = RunFolder(first).result()["evaluation"]["components"]["shares"]
    order = sorted(range(12), key=lambda k: -shares[k])[:8]
    assert shown == {
        "digits, dlgmm_dense, K = 12: Kumaraswamy, summed": [f"{k + 1} ({shares[k]:.0%})" for k in order]
    }


def test_a_law_that_would_be_cut_nowhere_is_not_trained_twice():
    config = dataclasses.replace(SMALL, components=(5, 12), component=("averaged",))
    keys = [group.key for group in groups_of(STUDY, config, Machine(device="cpu"))]
    assert [key for key in keys if "-k5-" in key] == [
        "digits-dlgmm_dense-k5-dlgmm",
        "digits-dlgmm_dense-k5-dlgmm-igr",
    ]
    assert len([key for key in keys if "-k12-" in key]) == 4


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
    candidates = [candidate for group in groups for candidate in group.candidates]
    assert {one.latent for one in candidates} == {*MIXTURES}
    assert {one.continuous_dim for one in candidates} == {50}
    assert config.data == ("mnist", "omniglot")
    assert len(config.seeds) == (5 if budget == "full" else 3)
    if budget == "full":
        assert (config.epochs, config.learning_rates) == (300, (3e-4,))
        assert {one.num_components for one in candidates} == {3, 5, 15, 20, 50}
        assert {one.network for one in candidates} == {"dlgmm_dense", "dlgmm_conv"}
    assert json.loads(json.dumps(config.to_json())) == config.to_json()


BAD = {
    "latent": ({"latents": ("igr",)}, "expected latents to be some of dlgmm, dlgmm-truncated"),
    "network": ({"networks": ("dense",)}, "expected networks to be some of dlgmm_dense, dlgmm_conv"),
    "components": ({"components": (0,)}, "expected components to be different numbers above 0"),
    "one component": ({"components": (1,)}, "expected num_components to be a whole number of at least 2"),
    "threshold": ({"stick_threshold": 2.0}, "expected stick_threshold"),
    "corners": ({"continuous_dim": 2}, "corners for their means"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_cannot_be_used_are_refused(name):
    settings, said = BAD[name]
    with pytest.raises(UserError, match=said):
        dataclasses.replace(DLGMMStudyConfig(), **settings).check()
