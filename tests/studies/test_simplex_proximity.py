"""Distances to the vertices: by closed forms where there are some, and from the first to the last file."""

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.special import expit, logit, ndtri, softmax
from scipy.stats import norm

from igr.errors import UserError
from igr.fitting import fit_uniform_prior
from igr.studies import Findings, Outcome, Work, run_study
from igr.studies.simplex_proximity import FAMILIES, LEVELS, NEAR, SHARE, SHOWN, STUDY, SimplexProximityConfig
from igr.training.randomness import keyed_generator

BINARY = SimplexProximityConfig(
    num_categories=2, num_samples=4000, num_temperatures=10, highest_temperature=2.0
)


def record(config: SimplexProximityConfig, family: str) -> dict:
    (item,) = [item for item in STUDY.items(config) if item.key == family]
    return item.compute(Work(keyed_generator(config.seed, family, 0), Path("unused")))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        # That of each test is not yet there.
        patch.setenv("IGR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return run_study(STUDY, STUDY.smoke, tmp_path_factory.mktemp("smoke"))


# Between two categories a point lies within d of a vertex where the larger score leads by temperature times
# logit(1 - d / sqrt(2)), and the lead follows a law that is known.
LEAD = logit(1 - NEAR / math.sqrt(2))
SHARES_WITHIN = {
    "gumbel-softmax": lambda temperature: 2 * expit(-temperature * LEAD),
    "igr": lambda temperature: 2 * norm.sf(temperature * LEAD),
    "igr-sb-log": lambda temperature: 2 * norm.sf(temperature * LEAD),
}


@pytest.mark.parametrize("family", SHARES_WITHIN)
def test_between_two_categories_the_share_near_a_vertex_is_known(family):
    found = record(BINARY, family)
    for temperature, share in zip(found["temperatures"], found["within"], strict=True):
        exact = SHARES_WITHIN[family](temperature)
        error = math.sqrt(exact * (1 - exact) / BINARY.num_samples)
        assert abs(share - exact) <= 5 * error, temperature


def test_of_three_lengths_the_share_near_a_vertex_is_an_integral_over_the_square():
    config = dataclasses.replace(BINARY, num_categories=3, lowest_temperature=0.02, highest_temperature=0.2)
    found = record(config, "igr-sb")
    loc = fit_uniform_prior(3, "igr-sb").parameters["loc"].numpy()
    middles = ndtri((np.arange(400) + 0.5) / 400)
    first, second = expit(loc[0] + middles)[:, None], expit(loc[1] + middles)[None, :]
    lengths = np.stack([first + 0 * second, (1 - first) * second, 0 * first * second], -1)
    for temperature, share in zip(found["temperatures"], found["within"], strict=True):
        z = softmax(lengths / temperature, -1)
        exact = np.mean(np.linalg.norm(np.eye(3)[z.argmax(-1)] - z, axis=-1) <= NEAR)
        error = math.sqrt(exact * (1 - exact) / config.num_samples)
        assert 0 < exact < 1
        assert abs(share - exact) <= 5 * error + 0.005, temperature


@pytest.mark.parametrize(
    ("family", "lead"), [("gumbel-softmax", -logit(SHARE / 2)), ("igr", norm.isf(SHARE / 2))]
)
def test_between_two_categories_the_near_temperature_is_known(family, lead):
    # The share changes by 0.3 or so times the relative change of the temperature.
    tolerance = 5 * math.sqrt(SHARE * (1 - SHARE) / BINARY.num_samples) / 0.2
    found = record(BINARY, family)
    assert found["near_temperature"] == pytest.approx(lead / LEAD, rel=tolerance)


def test_between_two_categories_quantiles_are_those_of_the_normal_law():
    found = record(BINARY, "igr")
    for temperature, quantiles in zip(found["temperatures"], found["quantiles"], strict=True):
        for level, quantile in zip(LEVELS, quantiles, strict=True):
            reached = 2 * norm.sf(-temperature * logit(quantile / math.sqrt(2)))
            error = math.sqrt(level * (1 - level) / BINARY.num_samples)
            assert abs(reached - level) <= 5 * error


@pytest.mark.parametrize("family", FAMILIES)
def test_distances_rise_with_the_temperature_up_to_the_centre(family):
    found = record(STUDY.smoke, family)
    quantiles = np.array(found["quantiles"])
    assert found["temperatures"] == sorted(found["temperatures"])
    assert (np.diff(quantiles, axis=0) > 0).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (np.diff(found["within"]) <= 0).all()
    assert quantiles.min() >= 0
    assert quantiles.max() <= math.sqrt(1 - 1 / STUDY.smoke.num_categories)


def test_laws_are_uniform_as_far_as_they_say():
    for family, (lowest, highest) in {
        "gumbel-softmax": (9.9999, 10.0001),
        "igr": (9.9999, 10.0001),
        "igr-planar": (9.0, 10.0),
        # All but the last, which never wins.
        "igr-sb": (8.9999, 9.0001),
        "igr-sb-log": (9.9999, 10.0001),
    }.items():
        assert lowest < record(STUDY.smoke, family)["effective_categories"] < highest


def test_records_depend_on_the_seed_alone():
    assert record(STUDY.smoke, "igr-planar") == record(STUDY.smoke, "igr-planar")
    other = dataclasses.replace(STUDY.smoke, seed=1)
    assert record(STUDY.smoke, "igr-planar") != record(other, "igr-planar")


def test_every_temperature_of_the_tables_is_computed():
    assert set(SHOWN) < set(SimplexProximityConfig().temperatures())
    assert len(SimplexProximityConfig().grid()) == 100
    narrow = SimplexProximityConfig(lowest_temperature=0.2, highest_temperature=0.6, num_temperatures=3)
    assert narrow.temperatures() == pytest.approx([0.2, 0.25, 0.4, 0.5, 0.6])


def test_tables_hold_the_records(smoke):
    near, *tables = smoke.report.tables
    assert [row[0] for row in near.rows] == list(FAMILIES)
    for family, table in zip(FAMILIES, tables, strict=True):
        assert table.name == f"distance-{family}"
        assert [row["temperature"] for row in table.to_json()] == list(SHOWN)
        for row in table.to_json():
            assert 0 <= row["10%"] <= row["20%"] <= row["25%"] <= row["median"] <= row["75%"]
            assert row["75% less 25%"] == row["75%"] - row["25%"]
    # At temperature 0.67 Gumbel-Softmax is closer to discrete than IGR, and the paper's sticks are farthest.
    medians = {table.name: table.to_json()[4]["median"] for table in tables}
    assert medians["distance-gumbel-softmax"] < medians["distance-igr"] < medians["distance-igr-sb"]


def test_temperatures_that_no_table_has_are_shown_all():
    config = SimplexProximityConfig(
        num_categories=3,
        num_samples=50,
        num_temperatures=3,
        lowest_temperature=2,
        highest_temperature=4,
        planar_iterations=5,
    )
    tables = STUDY.report(config, Findings({family: record(config, family) for family in FAMILIES})).tables
    assert [row[0] for row in tables[1].rows] == [2.0, 3.0, 4.0]


def test_pictures_are_drawn_with_units_and_nothing_overlaps(smoke):
    boxes, medians = smoke.report.pictures
    panels = [axes for axes in boxes.figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == list(FAMILIES)
    assert len({axes.get_ylim() for axes in panels}) == 1
    assert all(axes.get_xlabel() == "temperature" for axes in panels)
    assert "Euclidean distance" in panels[0].get_ylabel()
    for axes in panels:
        edges = sorted(patch.get_path().get_extents().intervalx.tolist() for patch in axes.patches)
        assert all(left[1] < right[0] for left, right in pairwise(edges))
    (axes,) = medians.figure.axes
    assert "Euclidean distance" in axes.get_ylabel()
    for picture in (boxes, medians):
        assert "500 points" in picture.caption
        assert imread(smoke.out / "figures" / f"{picture.name}.png").std() > 0


@pytest.mark.parametrize(
    "bad",
    [
        {"num_categories": 2},
        {"num_samples": 0},
        {"num_temperatures": 1},
        {"lowest_temperature": 0.0},
        {"lowest_temperature": math.nan},
        {"highest_temperature": 0.05},
        {"highest_temperature": math.inf},
        {"planar_iterations": 0},
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, bad):
    (key,) = bad
    with pytest.raises(UserError, match=f"expected {key} to be .*; change {key}"):
        run_study(STUDY, dataclasses.replace(STUDY.smoke, **bad), tmp_path / "new")
    assert not (tmp_path / "new").exists()
