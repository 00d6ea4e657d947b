"""Fits to the targets of the paper: laws against scipy, figures that stand for what was found."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from matplotlib.image import imread

from igr.errors import UserError
from igr.studies import Outcome, Work, run_study
from igr.studies.discrete_laws import EXACT, RELAXED, STUDY, TARGETS, DiscreteLawsConfig
from igr.training.randomness import keyed_generator

TEN = np.array([10, 1, 5, 1, 10, 10, 1, 6, 1, 1]) / 46
LAWS = {
    "ten-categories": lambda k: TEN[k],
    "binomial": scipy.stats.binom(12, 0.3).pmf,
    "poisson": scipy.stats.poisson(50).pmf,
    # torch counts successes of probability 0.6 until 50 failures; scipy's p is that of what ends it.
    "negative-binomial": scipy.stats.nbinom(50, 0.4).pmf,
    "uniform": lambda k: np.full(len(k), 0.1),
    "geometric": scipy.stats.geom(0.4, loc=-1).pmf,
    "uniform-mixture": lambda k: np.where(k <= 10, 0.9 / 11, 0.1 / 15),
}
LONG = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("poisson", "negative-binomial") else name
    for name in TARGETS
]


def record(config: DiscreteLawsConfig, key: str) -> dict:
    (item,) = [item for item in STUDY.items(config) if item.key == key]
    return item.compute(Work(keyed_generator(config.seed, key, 0), Path("unused")))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_study(STUDY, STUDY.smoke, tmp_path_factory.mktemp("smoke"))


@pytest.mark.parametrize("family", ["igr", "igr-sb", "igr-sb-log"])
@pytest.mark.parametrize("target", LONG)
def test_the_exact_law_is_the_target(target, family):
    found = record(DiscreteLawsConfig(), f"{target}.{family}.exact")
    law = np.asarray(found["law"])
    kept = len(law) - (family == "igr-sb")
    expected = LAWS[target](np.arange(kept))
    whole = 0.5 * (np.abs(expected - law[:kept]).sum() + law[kept:].sum() + 1 - expected.sum())
    assert found["total_variation"] == pytest.approx(whole, abs=1e-9)
    assert whole < 1.1e-6
    assert found["converged"]
    assert found["largest_scale"] <= 5


def test_gumbel_softmax_loses_what_it_cuts():
    found = record(DiscreteLawsConfig(), "poisson.gumbel-softmax.40.exact")
    lost = scipy.stats.poisson(50).sf(39)
    assert found["tail"] == pytest.approx(lost, rel=1e-9)
    assert found["total_variation"] == pytest.approx(lost, rel=1e-9)


def test_every_family_is_fitted_to_every_target():
    keys = {item.key for item in STUDY.items(DiscreteLawsConfig())}
    for target, law in TARGETS.items():
        for how, families in (("exact", EXACT), ("relaxed", RELAXED)):
            for family in families:
                counts = (".20", ".40", ".100") if family == "gumbel-softmax" and law.is_countable else ("",)
                assert {f"{target}.{family}{count}.{how}" for count in counts} <= keys


def test_the_original_objective_comes_closer():
    config = DiscreteLawsConfig(num_samples=500, num_iterations=100)
    for family in ("igr", "igr-planar", "gumbel-softmax"):
        found = record(config, f"ten-categories.{family}.relaxed")
        start = 0.5 * np.abs(np.asarray(found["start"]) - TEN).sum()
        assert found["total_variation"] < 0.4 * start
        assert len(found["history"]) == 100
        assert found["objective"] == ("kl" if family == "gumbel-softmax" else "squared_error")


def test_report(smoke):
    exact, relaxed, fits = smoke.report.tables
    assert [row[0] for row in exact.rows] == ["ten-categories", "geometric"]
    assert list(exact.columns)[1:] == list(EXACT)
    assert list(relaxed.columns)[1:] == list(RELAXED)
    assert len(fits.rows) == smoke.num_items
    assert max(row[column] for row in exact.rows for column in (2, 3, 4)) < 1e-3
    assert "geometric" in (smoke.out / "report.md").read_text()
    for picture in smoke.report.pictures:
        image = imread(smoke.out / "figures" / f"{picture.name}.png")
        assert image.shape[1] > 1000
        assert image[..., :3].std() > 0.02
    assert {picture.name for picture in smoke.report.pictures} == {
        f"{kind}-{name}" for kind in ("laws", "losses") for name in ("ten-categories", "geometric")
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"targets": ("poison",)}, "targets"),
        ({"targets": ()}, "targets"),
        ({"gumbel_categories": ()}, "gumbel_categories"),
        ({"gumbel_categories": (1,)}, "gumbel_categories"),
        ({"scale": 0.0}, "scale"),
        ({"num_samples": 0}, "num_samples"),
        ({"temperature": float("nan")}, "temperature"),
        ({"tail_mass": 1.0}, "tail_mass"),
    ],
)
def test_settings_that_cannot_be_used(change, expected):
    with pytest.raises(UserError, match=f"^expected {expected} to be .*; got "):
        dataclasses.replace(DiscreteLawsConfig(), **change).check()
