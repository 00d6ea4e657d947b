"""Every study of VAEs runs in seconds, says what it found, and goes on where it was."""

import dataclasses
import json
import math

import pytest

from igr import studies
from igr.errors import UserError
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, PRE_IMAGE
from igr.models.latents import LATENTS
from igr.studies import Machine, groups_of, run_study
from igr.studies.grid import TITLES
from igr.studies.jointvae import JointVaeConfig
from igr.studies.vae_grid import VaeConfig
from igr.studies.vae_table import VaeTableConfig
from igr.training.run_folder import RunFolder

NAMES = (
    "vae-table",
    "elbo-curves",
    "jointvae",
    "posterior-proximity",
    "vanishing-gradients",
    "estimators-vae",
)


@pytest.fixture(scope="module")
def smoked(tmp_path_factory):
    """What a study's smoke run gave, run once for all tests of the module."""
    kept = {}

    def outcome(name):
        if name not in kept:
            found = studies.study(name)
            kept[name] = run_study(found, found.smoke, tmp_path_factory.mktemp("studies") / name)
        return kept[name]

    return outcome


@pytest.mark.parametrize("name", NAMES)
def test_a_study_runs_and_writes_its_report(smoked, name):
    outcome = smoked(name)
    page = (outcome.out / "report.md").read_text(encoding="utf-8")
    assert f"`igr study run {name} --smoke --out " in page
    for table in outcome.report.tables:
        assert table.rows
        for ending in ("csv", "tex"):
            assert (outcome.out / "tables" / f"{table.name}.{ending}").is_file()
    for picture in outcome.report.pictures:
        assert (outcome.out / "figures" / f"{picture.name}.png").stat().st_size > 5000
        assert f"figures/{picture.name}.png" in page
    assert "CPU" in page


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_study_repeats_nothing_and_says_the_same(smoked, name):
    outcome = smoked(name)
    before = {path: path.stat().st_mtime_ns for path in outcome.out.glob("runs/*/*/result.json")}
    assert before
    found = studies.study(name)
    again = run_study(found, found.smoke, outcome.out)
    assert again.num_kept == again.num_items == outcome.num_items
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [table.to_csv() for table in again.report.tables] == [
        table.to_csv() for table in outcome.report.tables
    ]


@pytest.mark.parametrize("budget", studies.BUDGETS)
@pytest.mark.parametrize("name", NAMES)
def test_every_budget_can_be_run(name, budget):
    found = studies.study(name)
    config = found.preset(budget)
    config.check()
    groups = groups_of(found, config, Machine(device="cpu"))
    assert len({group.key for group in groups}) == len(groups)
    assert [item.key for item in found.items(config)] == (
        [group.key for group in groups] if found.items(config) else []
    )
    with pytest.raises(UserError, match="expected budget to be"):
        found.preset("tiny")


def test_the_full_table_has_every_latent_network_kl_and_form():
    found = studies.study("vae-table")
    groups = groups_of(found, VaeTableConfig(), Machine())
    # On 3 data sets with 3 networks: 5 latents with both KLs and one with the relaxed KL alone, in 2 forms,
    # and the Gaussian.
    assert len(groups) == 3 * 3 * ((5 * 2 + 1) * 2 + 1)
    # Binary variables are for the estimators.
    assert {group.candidates[0].latent for group in groups} == {*LATENTS, "gaussian"} - {"bernoulli"}
    for group in groups:
        first = group.candidates[0]
        assert first.likelihood == ("normal" if first.data == "fmnist" else "bernoulli")
        assert first.num_categories == (50 if first.latent == "igr-sb-truncated" else 10)
        grid = {"gumbel-softmax": 8, "gaussian": 1}.get(first.latent, 7)
        assert len(group.candidates) == grid * 3
        assert group.seeds == (5328, 5945, 8965, 49, 9337)


def test_the_table_shows_what_stands_in_the_runs(smoked):
    outcome = smoked("vae-table")
    (table,) = outcome.report.tables
    for row in table.to_json():
        key = f"digits-dense-{row['latent']}-{row['trained KL']}"
        folders = [
            RunFolder(path.parent)
            for path in (outcome.out / "runs" / key).glob("*/result.json")
            if f"-t{row['temperature']:g}-" in path.parent.name
        ]
        assert len(folders) == row["seeds"] == 2
        for kind in (IMPORTANCE_WEIGHTED, PRE_IMAGE):
            values = [folder.result()["evaluation"]["bounds"][kind.key] for folder in folders]
            if None in values:
                assert row[kind.name] is None
                continue
            first, second = (value["value"] for value in values)
            assert row[kind.name]["value"] == pytest.approx((first + second) / 2)
            # Of two numbers the standard error of the mean is half their distance.
            assert row[kind.name]["standard_error"] == pytest.approx(abs(first - second) / 2)


def test_the_temperature_is_that_with_the_best_validation_bound(smoked):
    outcome = smoked("vae-table")
    (table,) = outcome.report.tables
    (row,) = [
        one for one in table.to_json() if (one["latent"], one["trained KL"]) == ("gumbel-softmax", "relaxed")
    ]
    bounds = {}
    for path in (outcome.out / "runs" / "digits-dense-gumbel-softmax-relaxed").glob("*s5328/result.json"):
        result = json.loads(path.read_text())
        bound = result["validation_evaluation"]["bounds"][IMPORTANCE_WEIGHTED.key]["value"]
        bounds[result["config"]["temperature"]] = bound
    assert len(bounds) == row["tried"] == 2
    assert row["temperature"] == max(bounds, key=lambda temperature: bounds[temperature])


def test_calibrated_posteriors_lie_where_they_are_said_to(smoked):
    outcome = smoked("posterior-proximity")
    for path in (outcome.out / "records").glob("*.json"):
        record = json.loads(path.read_text())["record"]
        # At the calibrated temperature the 75 % point is the distance itself.
        assert record["quantiles"][3] == pytest.approx(0.2, abs=1e-3)
        assert record["trained_quantiles"] == sorted(record["trained_quantiles"])


def test_the_capacities_are_those_of_the_paper_unless_told_otherwise():
    found = studies.study("jointvae")
    (mnist, *_), (celeba, *_) = (
        groups_of(found, JointVaeConfig(data=(data,)), Machine()) for data in ("mnist", "celeba")
    )
    assert mnist.candidates[0].continuous_capacity == mnist.candidates[0].discrete_capacity == (0, 5, 25_000)
    assert (mnist.candidates[0].capacity_weight, mnist.candidates[0].continuous_dim) == (30, 10)
    assert celeba.candidates[0].continuous_capacity == (0, 50, 100_000)
    assert celeba.candidates[0].discrete_capacity == (0, 10, 100_000)
    assert (celeba.candidates[0].capacity_weight, celeba.candidates[0].continuous_dim) == (100, 32)
    shorter = groups_of(found, JointVaeConfig(capacity_steps=100), Machine())
    assert shorter[0].candidates[0].continuous_capacity == (0, 5, 100)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_run_that_fails_is_left_out_and_named(tmp_path):
    found = studies.study("elbo-curves")
    # At this learning rate the weights of float32 overflow.
    config = dataclasses.replace(found.smoke, learning_rates=(1e-3, 1e30), seeds=(1,), latents=("igr",))
    outcome = run_study(found, config, tmp_path / "study")
    (row,) = outcome.report.tables[0].to_json()
    assert row["learning rate"] == 1e-3
    (warning,) = outcome.warnings
    assert "lr1e+30" in warning
    assert "left out" in warning


WRONG = [
    ("data", ("emnist",), "some of digits, mnist"),
    ("latents", (), "some of igr, "),
    ("kls", ("relaxed", "relaxed"), "each once"),
    ("igr_temperatures", (0.1, -1.0), "different numbers above 0"),
    ("seeds", (1, 1), "different whole numbers"),
    ("num_categories", 1, "num_categories to be a whole number of at least 2"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_settings_that_cannot_be_used_are_refused(tmp_path, key, value, message):
    config = dataclasses.replace(VaeConfig(data=("digits",)), **{key: value})
    with pytest.raises(UserError, match=message):
        run_study(studies.study("elbo-curves"), config, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_every_latent_has_a_title():
    assert {*LATENTS} <= {*TITLES}


def test_the_shares_of_vanishing_gradients_are_shares(smoked):
    outcome = smoked("vanishing-gradients")
    for path in outcome.out.glob("runs/*/*/metrics.jsonl"):
        for line in path.read_text().splitlines():
            share = json.loads(line)["train_vanishing_gradients"]
            assert 0 <= share < 1
            assert math.isfinite(share)


def test_the_report_says_what_was_tuned_and_nothing_else():
    found = studies.study("vae-table")
    assert "its temperature was chosen" in found.preset("small").tuned
    assert "its temperature and learning rate were chosen" in found.preset("full").tuned
    assert "Nothing was tuned" in studies.study("jointvae").preset("small").tuned


def test_what_no_report_needs_is_not_evaluated(smoked):
    for name in ("vanishing-gradients", "posterior-proximity"):
        for path in smoked(name).out.glob("runs/*/*/result.json"):
            assert not {"evaluation", "validation_evaluation"} & json.loads(path.read_text()).keys()


def test_two_kls_of_a_jointvae_have_two_rows_and_pictures_each(tmp_path):
    found = studies.study("jointvae")
    config = dataclasses.replace(found.smoke, latents=("igr",), kls=("relaxed", "discrete"))
    outcome = run_study(found, config, tmp_path / "study")
    names = [picture.name for picture in outcome.report.pictures]
    assert len(set(names)) == 4
    (table,) = [table for table in outcome.report.tables if table.name == "capacities"]
    assert [row["trained KL"] for row in table.to_json()] == ["relaxed", "discrete"]


def test_a_gaussian_latent_has_its_row(tmp_path):
    found = studies.study("elbo-curves")
    config = dataclasses.replace(found.smoke, latents=("gaussian", "igr"), seeds=(1,))
    outcome = run_study(found, config, tmp_path / "study")
    (table,) = outcome.report.tables
    assert [row["latent"] for row in table.to_json()] == ["gaussian", "igr"]
    assert any("A Gaussian latent is not relaxed" in note for note in table.notes)


def test_a_budget_beside_smoke_is_refused():
    with pytest.raises(UserError, match="expected --smoke or --budget small; got both"):
        studies.study("vae-table").preset("small", smoke=True)
