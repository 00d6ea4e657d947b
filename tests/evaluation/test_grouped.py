"""One row for all repetitions of what was chosen; rows measured alike share a table and are ranked in it."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igr.data import SOURCES
from igr.errors import UserError
from igr.evaluation import ComparedRun, Estimate, compare_groups, has_groups, read_runs
from igr.training.config import TrainConfig
from run_folders import KEYS, evaluation, write_run

GUMBEL = "gumbel-softmax"


def run(
    figures: Sequence[float | None], iw: float | None = None, measured: Any = (), **settings: Any
) -> ComparedRun:
    """A run with these test figures, and with this importance-weighted bound on the validation split."""
    config = TrainConfig(**{"epochs": 10, **settings}).resolved()
    name = f"{config.run_name}-{config.learning_rate}"
    found = None if iw is None else evaluation([-30.0, -35.0, iw, -32.0], "validation")
    return ComparedRun(name, config, evaluation(figures, **dict(measured)), [], found)


def repeated(levels: Sequence[float], **settings: Any) -> list[ComparedRun]:
    """Runs with these levels for all figures, one for each seed."""
    return [run([level] * 4, seed=seed, **settings) for seed, level in enumerate(levels)]


def test_a_row_has_the_mean_and_standard_error_over_seeds() -> None:
    figures = np.random.default_rng(0).normal(-100, 3, (4, 4))
    found = compare_groups([run(row.tolist(), seed=seed) for seed, row in enumerate(figures)])
    (row,) = found.rows
    assert (row.num_seeds, row.seeds) == (4, (0, 1, 2, 3))
    for position, key in enumerate(KEYS):
        figure = row.bounds[key]
        assert figure is not None
        assert figure.value == pytest.approx(figures[:, position].mean())
        assert figure.standard_error == pytest.approx(figures[:, position].std(ddof=1) / 2)
    assert row.discrete_kl == Estimate(3.0, 0.0)


def test_the_choice_is_by_validation_where_test_would_choose_otherwise() -> None:
    runs = [
        run([-10.0] * 4, -50.0, temperature=0.2),
        run([-20.0] * 4, -40.0, temperature=0.5),
        run([-30.0] * 4, None, temperature=0.5, seed=1),
        run([-5.0] * 4, -60.0, temperature=0.9),
    ]
    (row,) = compare_groups(runs).rows
    assert row.config.temperature == 0.5
    assert row.runs == (runs[1], runs[2])
    assert row.bounds[KEYS[0]] == Estimate(-25.0, pytest.approx(5.0))
    validation = {one.temperature: one.validation for one in row.candidates}
    assert validation == {t: Estimate(iw, None) for t, iw in ((0.2, -50.0), (0.5, -40.0), (0.9, -60.0))}


def test_what_was_not_chosen_needs_no_test_evaluation_but_what_was_does() -> None:
    runs = [run([-1.0] * 4, -50.0, temperature=0.2), run([-2.0] * 4, -40.0, temperature=0.5)]
    assert compare_groups([replace(runs[0], evaluation=None), runs[1]]).rows[0].runs == (runs[1],)
    with pytest.raises(
        UserError, match=rf"got 1 of 1 that still have to be; run igr evaluate {runs[1].name}"
    ):
        compare_groups([runs[0], replace(runs[1], evaluation=None)])


def test_figures_that_a_law_lacks_are_dashes_and_win_nothing() -> None:
    planar = [run([-1.0, None, None, -2.0], {"discrete_kl": None}, seed=seed) for seed in range(2)]
    planar = [replace(one, evaluation=replace(one.measured, discrete_kl=None)) for one in planar]
    gumbel = [run([-3.0, -4.0, -5.0, None], seed=seed, latent=GUMBEL) for seed in range(2)]
    found = compare_groups([*planar, *gumbel])
    assert found.rows[0].bounds[KEYS[1]] is None
    assert found.rows[0].discrete_kl is None
    assert found.sections[0].best == {KEYS[0]: (0,)}
    texts = found.tables()[0].texts()
    assert texts[0][-5:] == ["-1.00* ±0.00", "-", "-", "-2.00 ±0.00", "-"]
    assert texts[1][-5:] == ["-3.00 ±0.00", "-4.00 ±0.00", "-5.00 ±0.00", "-", "3.00"]


def test_a_tie_reaches_two_standard_errors_of_the_difference() -> None:
    # Over seeds both errors are 0.5, so that of the difference is 0.707.
    for gap, best in ((1.41, (1, 0)), (1.42, (1,))):
        low, high = (
            repeated([x - 0.5, x + 0.5], latent=latent) for x, latent in ((-20 - gap, "igr"), (-20, GUMBEL))
        )
        assert compare_groups([*low, *high]).sections[0].best == dict.fromkeys(KEYS, best)


def test_only_rows_with_an_error_over_seeds_are_ranked_where_there_are_such() -> None:
    several = repeated([-20.5, -19.5])
    other = repeated([-30.5, -29.5], latent=GUMBEL)
    single = repeated([-10.0], kl="relaxed")
    found = compare_groups([*single, *several, *other])
    assert found.sections[0].best == dict.fromkeys(KEYS, (1,))
    assert found.tables()[0].texts()[0][-5] == "-10.00"
    assert "Rows of one seed have no standard error and are not ranked." in found.tables()[0].notes[0]
    assert not compare_groups([*single, *several]).sections[0].best


def test_rows_of_one_seed_have_errors_over_images_and_it_is_said() -> None:
    runs = [*repeated([-20.0]), *repeated([-20.6], latent=GUMBEL), *repeated([-25.0], kl="relaxed")]
    found = compare_groups(runs)
    assert found.sections[0].best == dict.fromkeys(KEYS, (0, 1))
    table = found.tables()[0]
    assert table.texts()[1][-5] == "-20.60* ±0.25"
    assert "standard error over 300 test images of digits" in table.notes[0]
    assert "does not cover the training seed, of which each row has only one" in table.notes[0]
    assert found.rows[0].bounds[KEYS[0]] == Estimate(-20.0, None)
    assert not has_groups(runs)
    assert has_groups([*runs, *repeated([-20.0, -20.0])[1:]])


def test_notes_say_over_how_many_seeds_and_what_columns_are() -> None:
    runs = [*repeated([-20.0, -21.0]), *repeated([-20.0, -21.0, -22.0], latent=GUMBEL)]
    notes = " ".join(compare_groups(runs).tables()[0].notes)
    assert (
        "standard error over 2 to 3 seeds of training, each evaluated on 300 test images of digits" in notes
    )
    assert "never ranked against each other" in notes
    assert "by the exact q is the tightest" in notes
    assert "validation" not in notes
    tried = compare_groups([run([-1.0] * 4, -2.0), run([-1.0] * 4, -2.0, temperature=0.9)]).tables()[0]
    assert "bound on the validation split (IW bound, exact q)" in " ".join(tried.notes)
    assert "had no part in the choice" in " ".join(tried.notes)
    late = run([-1.0] * 4, measured={"epoch": 4, "seed": 3, "discrete_kl": Estimate(0.01, 0.1)}, seed=1)
    notes = " ".join(compare_groups([run([-1.0] * 4), replace(late, name="late")]).tables()[0].notes)
    assert "late (epoch 4 of 10)" in notes
    assert "seed of the evaluation is not the same" in notes
    silent = {"discrete_kl": Estimate(0.01, 0.1)}
    notes = " ".join(compare_groups([run([-1.0] * 4, measured=silent)]).tables()[0].notes)
    assert "Collapsed: in igr, discrete KL the" in notes
    many = [run([-1.0] * 4, measured=silent, num_variables=count) for count in (1, 2, 3, 4, 5)]
    notes = " ".join(compare_groups(many).tables()[0].notes)
    assert "; igr, discrete KL, variables 3; and 2 more the discrete posterior" in notes
    assert "variables 4" not in notes


def test_a_temperature_without_a_part_in_training_is_said_to_be_none() -> None:
    names = ("pathwise", "reinmax", "rebar", "gumbel_straight_through")
    table = compare_groups([run([-1.0] * 4, estimator=name) for name in names]).tables()[0]
    assert "In rows with the estimator reinmax, rebar the temperature had no part" in " ".join(table.notes)
    assert "no part" not in " ".join(compare_groups([run([-1.0] * 4)]).tables()[0].notes)


def test_what_was_measured_otherwise_has_a_table_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "faces", SOURCES["digits"])
    runs = [
        *repeated([-20.0, -21.0]),
        *repeated([-1.0, -1.1], data="faces"),
        *repeated([-30.0, -31.0], latent=GUMBEL),
        *repeated([-40.0, -41.0], likelihood="normal"),
        *repeated([-2.0, -2.1], binarization="stochastic"),
        *repeated([-3.0, -3.1], epochs=20, measured={"num_samples": 7}),
    ]
    found = compare_groups(runs)
    assert [len(section.rows) for section in found.sections] == [2, 1, 1, 1, 1]
    assert found.sections[0].best == dict.fromkeys(KEYS, (0,))
    assert not any(section.best for section in found.sections[1:])
    titles = [table.title for table in found.tables()]
    assert len(set(titles)) == 5
    assert titles[1].startswith("faces, likelihood bernoulli, binarization fixed, num_samples 100: bounds")
    assert [table.name for table in found.tables()] == [f"comparison-{i}" for i in range(1, 6)]
    assert found.to_markdown().count("## ") == found.to_latex().count(r"\caption{") == 5


def test_repetitions_evaluated_unalike_are_refused() -> None:
    runs = [run([-1.0] * 4), run([-1.0] * 4, measured={"num_samples": 7}, seed=1)]
    with pytest.raises(UserError, match=rf"got num_samples 100 in {runs[0].name} and 7 in {runs[1].name}"):
        compare_groups(runs)


def test_labels_have_latent_kl_and_what_else_differs() -> None:
    runs = [
        run([-1.0] * 4, epochs=30, kl=kl, latent=latent)
        for kl in ("relaxed", "discrete")
        for latent in ("igr", GUMBEL)
    ]
    found = compare_groups(runs)
    # Warm-up and scale differ too, but each is the default of its latent and KL.
    assert [row.name for row in found.rows] == [
        "igr, relaxed KL",
        "gumbel-softmax, relaxed KL",
        "igr, discrete KL",
        "gumbel-softmax, discrete KL",
    ]
    more = compare_groups([*runs, run([-1.0] * 4, epochs=30, kl="relaxed", kl_warmup=2, network="dense")])
    assert more.rows[-1].label == {
        "latent": "igr",
        "trained KL": "relaxed",
        "network": "dense",
        "kl_warmup": 2,
    }
    assert [row.label["kl_warmup"] for row in more.rows] == [5, 5, 0, 0, 2]
    switched = compare_groups([*runs, run([-1.0] * 4, epochs=30, kl="relaxed", straight_through=True)])
    assert switched.rows[0].name == "igr, relaxed KL"
    assert switched.rows[-1].name == "igr, relaxed KL, straight-through"
    assert [row[2] for row in switched.tables()[0].texts()] == ["no"] * 4 + ["yes"]
    assert list(more.tables()[0].columns)[:4] == ["latent", "trained KL", "network", "kl_warmup"]


def test_csv_and_json_give_every_figure_back() -> None:
    runs = [
        *(run([-10.1, -11.2, -12.3, -13.4], -50.5, seed=seed, temperature=0.2) for seed in range(3)),
        *(run([-20.1, -21.2, -22.3, -23.4], -40.5, seed=seed, temperature=0.5) for seed in range(2)),
        *(run([-30.0, -31.0, -32.0, None], seed=seed, latent=GUMBEL) for seed in range(2)),
    ]
    found = compare_groups(runs)
    first, second = csv.DictReader(io.StringIO(found.to_csv()))
    assert (first["temperature"], first["seeds"], first["num_candidates"]) == ("0.5", "0 1", "2")
    assert (first["selection_bound"], first["selection_value"]) == ("importance_weighted", "-40.5")
    assert first["selection_seeds"] == "0 1"
    assert [float(first[key]) for key in KEYS] == [-20.1, -21.2, -22.3, -23.4]
    assert first["best"].split() == KEYS[:3]
    assert (second[KEYS[3]], second["best"], second["selection_bound"]) == ("", "", "")
    ((row, other),) = [table["rows"] for table in json.loads(json.dumps(found.to_json()))["tables"]]
    assert row["bounds"][KEYS[0]] == {"value": -20.1, "standard_error": 0.0}
    assert [one["temperature"] for one in row["candidates"]] == [0.2, 0.5]
    assert [one["validation"]["value"] for one in row["candidates"]] == [-50.5, -40.5]
    assert row["runs"] == [one.name for one in runs[3:5]]
    assert other["bounds"][KEYS[3]] is None


def test_curves_are_means_over_the_seeds_where_all_have_a_figure() -> None:
    curves = [[-9.0, None, -5.0, -4.0], [-11.0, -8.0, -6.0]]
    runs = []
    for one, values in zip(repeated([-1.0, -2.0]), curves, strict=True):
        metrics = [{"epoch": i, "validation_bound": value} for i, value in enumerate(values, start=1)]
        runs.append(replace(one, metrics=metrics))
    (row,) = compare_groups(runs).rows
    (first, mean), (third, later) = row.curve("validation_bound")
    assert (first, third) == (1, 3)
    assert (mean.value, mean.standard_error) == pytest.approx((-10.0, math.sqrt(2) / math.sqrt(2)))
    assert (later.value, later.standard_error) == pytest.approx((-5.5, 0.5))


def test_runs_are_read_from_any_depth_sorted(tmp_path: Path) -> None:
    for name in ("b/deep/2", "b/deep/1", "a"):
        write_run(tmp_path / "sweep" / name, {"seed": len(name)}, evaluation([-1.0] * 4))
    (tmp_path / "sweep" / "config.json").write_text('{"format": 1, "study": "x", "config": {}}')
    single = write_run(tmp_path / "single", {}, None, evaluation([-2.0] * 4, "validation"))
    runs = read_runs([single, tmp_path / "sweep"])
    assert [one.path for one in runs] == [
        single,
        *(tmp_path / "sweep" / name for name in ("a", "b/deep/1", "b/deep/2")),
    ]
    assert len({one.name for one in runs}) == 4
    assert runs[0].evaluation is None
    assert runs[0].validation == evaluation([-2.0] * 4, "validation")
    assert runs[1].evaluation == evaluation([-1.0] * 4)
    (validated,) = read_runs([single], split="validation")
    assert validated.evaluation == validated.validation
    with pytest.raises(UserError, match=f"got {tmp_path / 'sweep' / 'a'} twice"):
        read_runs([tmp_path, tmp_path / "sweep" / "a"])
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        with pytest.raises(UserError, match="expected the folder of a run"):
            read_runs([tmp_path / folder])


def test_a_run_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    run_folder = write_run(tmp_path / "sweep" / "old", {})
    (run_folder / "config.json").write_text('{"format": 99, "config": {}}')
    with pytest.raises(UserError, match="expected a config of format 1"):
        read_runs([tmp_path / "sweep"])


def test_no_run_is_refused() -> None:
    with pytest.raises(UserError, match="at least one run"):
        compare_groups([])
