"""Runs are ranked within a column, and only where they were measured alike."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from igr.data import SOURCES
from igr.errors import UserError
from igr.evaluation import BOUND_KINDS, ComparedRun, Comparison, Estimate, compare, compare_runs
from igr.evaluation.compared_runs import read_runs
from igr.pretrained import save_pretrained
from igr.training.config import TrainConfig
from run_folders import KEYS, STEP, evaluation, write_run
from written_runs import VAES, write_run_of

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes the folder of a run with such figures; ``compare`` never opens a checkpoint."""

    def make(name: str, figures: list[float | None] | None, *, train: Any = (), **settings: Any) -> Path:
        found = None if figures is None else evaluation(figures, **settings)
        return write_run(tmp_path / name, dict(train), found)

    return make


@pytest.fixture
def three(make_run: MakeRun) -> Comparison:
    gumbel: dict[str, Any] = {"latent": "gumbel-softmax"}
    return compare(
        [
            make_run("a", [-20.0, -25.0, -19.0, -20.0]),
            make_run("b", [-21.0, -24.0, -18.0, -22.0]),
            make_run("c", [-19.5, -26.0, -17.5, None], train=gumbel),
        ]
    )


def test_the_best_of_each_column_is_marked_and_no_other(three: Comparison) -> None:
    # The column of the first bound: c is ahead of a by less than two errors of the difference.
    assert three.best == dict(zip(KEYS, [("c", "a"), ("b",), ("c", "b"), ("a",)], strict=True))
    marked = {
        (row[0], title)
        for row in three.rows()
        for title, cell in zip(three.header(), row, strict=True)
        if "*" in cell
    }
    names = [kind.name for kind in BOUND_KINDS]
    assert marked == {(run, name) for name, key in zip(names, KEYS, strict=True) for run in three.best[key]}


def test_a_tie_reaches_two_standard_errors_of_the_difference(make_run: MakeRun) -> None:
    # Both errors are 0.25, so that of the difference is 0.354.
    runs = [make_run("best", [-20.0] * 4), make_run("other", [-20.70, -20.72, -25.0, None])]
    assert compare(runs).best == dict(zip(KEYS[:3], [("best", "other"), ("best",), ("best",)], strict=True))


def test_a_single_run_is_not_the_best_of_anything(make_run: MakeRun) -> None:
    assert "*" not in compare([make_run("a", [-20.0] * 4)]).to_markdown()


def test_notes_say_which_bound_is_tighter(three: Comparison) -> None:
    notes = " ".join(three.notes())
    assert "by the exact q is the tightest" in notes
    assert "the pre-image can lie below the discrete ELBO" in notes
    assert "does not cover the training seed" in notes


@pytest.mark.parametrize(
    "line", [{}, {"epoch": 1}, {"epoch": "1", "loss": 1.0}, {"epoch": 1, "loss": float("nan")}]
)
def test_a_damaged_line_of_metrics_is_named(line: dict[str, Any]) -> None:
    run = ComparedRun("a", TrainConfig(), evaluation([-1.0] * 4), [{"epoch": 0, "loss": None}, line])
    with pytest.raises(UserError, match=r"finite loss on each line of the metrics\.jsonl of a; got"):
        run.curve("loss")


def test_a_figure_that_only_one_run_has_wins_nothing(make_run: MakeRun) -> None:
    runs = [make_run("a", [-1.0, -1.0, -1.0, -1.0]), make_run("b", [-2.0, -2.0, -2.0, None])]
    assert KEYS[-1] not in compare(runs).best


def test_cells_hold_figure_and_standard_error(three: Comparison) -> None:
    assert three.rows()[0][2:] == [
        "-20.00* ±0.25",
        "-25.00 ±0.25",
        "-19.00 ±0.25",
        "-20.00* ±0.25",
    ]
    assert three.rows()[2][-1] == "-"


@pytest.mark.parametrize(
    ("settings", "train", "said"),
    [
        ({"num_samples": 7}, {}, "num_samples: 100, 7"),
        ({"num_data": 20}, {}, "num_data: 300, 20"),
        ({}, {"data": "faces"}, "data: digits, faces"),
        ({}, {"binarization": "stochastic"}, "binarization: fixed, stochastic"),
        ({}, {"likelihood": "normal"}, "likelihood: bernoulli, normal"),
    ],
)
def test_runs_measured_differently_are_not_ranked(
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    train: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setitem(SOURCES, "faces", SOURCES["digits"])
    figures = [-20.0, -25.0, -19.0, -20.0]
    found = compare([make_run("a", figures), make_run("b", figures, train=train, **settings)])
    assert not found.best
    assert found.obstacle is not None
    assert said in found.obstacle
    assert not any("*" in cell for row in found.rows() for cell in row)
    assert found.obstacle in " ".join(found.notes())


def test_splits_are_not_ranked_against_each_other() -> None:
    runs = [
        ComparedRun(x, TrainConfig().resolved(), evaluation([-1.0] * 4, x), [])
        for x in ("test", "validation")
    ]
    found = compare_runs(runs)
    assert not found.best
    assert "split: test, validation" in str(found.obstacle)


def test_the_evaluation_of_the_split_that_is_asked_for_is_compared(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", {}, evaluation([-1.0] * 4), evaluation([-2.0] * 4, "validation"))
    assert "-1.00" in compare([path]).to_markdown()
    found = compare([path], "validation")
    assert "300 validation images" in found.to_markdown()
    assert "-2.00" in found.to_markdown()
    other = write_run(tmp_path / "b", {}, evaluation([-1.0] * 4))
    with pytest.raises(UserError, match=f"run igr evaluate {other} --split validation$"):
        compare([path, other], "validation")


def test_many_runs_that_were_not_evaluated_are_counted(make_run: MakeRun) -> None:
    runs = [make_run(f"r{i}", None) for i in range(6)]
    with pytest.raises(UserError) as caught:
        compare(runs)
    assert "got 6 of 6 that still have to be" in str(caught.value)
    assert str(caught.value).endswith(f"igr evaluate {runs[2]}, and so on for the other 3")


def test_latex_has_the_figures_with_the_best_in_bold(three: Comparison) -> None:
    lines = three.to_latex().splitlines()
    row = next(line for line in lines if line.startswith("a & "))
    assert row == (
        r"a & discrete & \textbf{$-$20.00} $\pm$ 0.25 & $-$25.00 $\pm$ 0.25 & $-$19.00 $\pm$ 0.25 & "
        r"\textbf{$-$20.00} $\pm$ 0.25 \\"
    )
    assert any("Bold marks the best" in line for line in lines)


def test_any_setting_that_differs_is_named(make_run: MakeRun) -> None:
    figures = [-20.0] * 4
    notes = " ".join(
        compare([make_run("a", figures), make_run("b", figures, train={"max_images": 9})]).notes()
    )
    assert "differ in max_images," in notes
    unimportant = {"eval_every": 5, "tensorboard": False, "num_eval_samples": 3}
    notes = " ".join(compare([make_run("c", figures), make_run("d", figures, train=unimportant)]).notes())
    assert "differ in" not in notes


def test_notes_name_what_else_differs(make_run: MakeRun) -> None:
    figures = [-20.0, -25.0, -19.0, -20.0]
    run = make_run("a", figures)
    other = make_run("b", figures, train={"epochs": 50, "network": "dense"})
    notes = " ".join(compare([run, other]).notes())
    assert "differ in network, epochs" in notes
    assert "b (epoch 10 of 50)" in notes
    train = {"kl_warmup": 3, "num_samples": 2, "seed": 1, "precision": "float64"}
    further = make_run("d", figures, train=train, seed=7)
    notes = " ".join(compare([run, further]).notes())
    assert "differ in num_samples, kl_warmup, seed, precision, the seed of the evaluation," in notes
    same = " ".join(compare([run, make_run("c", figures, train={"kl": "relaxed"})]).notes())
    assert "differ in" not in same
    warmed = make_run("e", figures, train={"kl": "relaxed", "kl_warmup": 7})
    assert "differ in kl_warmup," in " ".join(compare([run, warmed]).notes())
    assert "before the end" not in same


def test_a_latent_that_says_nothing_is_named(make_run: MakeRun) -> None:
    figures = [-20.0, -25.0, -19.0, -20.0]
    silent = make_run("b", figures, discrete_kl=Estimate(0.01, 0.001))
    assert "Collapsed: in b the" in " ".join(compare([make_run("a", figures), silent]).notes())


def test_markdown_is_one_table_with_every_run(three: Comparison) -> None:
    table, *notes = three.to_markdown().split("\n\n")
    lines = table.splitlines()
    assert [line.count("|") for line in lines] == [len(three.header()) + 1] * 5
    assert notes
    assert table.count("\\*") == table.count("*") == sum(map(len, three.best.values()))


def test_csv_gives_the_figures_back(three: Comparison) -> None:
    records = list(csv.DictReader(io.StringIO(three.to_csv())))
    for run, record in zip(three.runs, records, strict=True):
        assert record["run"] == run.name
        assert record["latent"] == run.config.latent
        assert record["evaluation_num_samples"] == "100"
        for key in KEYS:
            figure = run.evaluation.bounds[key]
            assert record[key] == ("" if figure is None else str(figure.value))


def test_equal_folder_names_are_told_apart(make_run: MakeRun) -> None:
    figures = [-20.0, -25.0, -19.0, -20.0]
    found = compare([make_run("x/igr", figures), make_run("y/igr", figures)])
    assert [run.name for run in found.runs] == ["x/igr", "y/igr"]


def test_runs_that_were_not_evaluated_are_named_with_the_command(make_run: MakeRun) -> None:
    figures = [-20.0, -25.0, -19.0, -20.0]
    good = make_run("good", figures)
    fresh, stale = make_run("fresh", None), make_run("stale", figures, step=STEP - 1)
    with pytest.raises(UserError) as caught:
        compare([good, fresh, stale])
    assert str(caught.value).endswith(f"run igr evaluate {fresh} && igr evaluate {stale}")
    assert "2 of 3" in str(caught.value)


def test_a_run_given_twice_is_refused(make_run: MakeRun) -> None:
    run = make_run("a", [-20.0, -25.0, -19.0, -20.0])
    with pytest.raises(UserError, match="twice"):
        compare([run, run.parent / "." / "a"])


def test_no_run_is_refused() -> None:
    with pytest.raises(UserError, match="at least one run folder; got none"):
        compare([])


def test_exported_models_among_runs_are_passed_over(make_run: MakeRun, tmp_path: Path) -> None:
    a, b = (make_run(f"runs/{name}", [-20.0, -25.0, -19.0, -20.0]) for name in ("a", "b"))
    write_run_of(VAES["igr"], tmp_path / "trained")
    for name in ("runs/exported", "runs/a/export", "shared/model"):
        save_pretrained(tmp_path / "trained", tmp_path / name)
    for path, runs in ((tmp_path / "runs", [a, b]), (a, [a])):
        assert [run.path for run in read_runs([path])] == runs
    with pytest.raises(UserError, match="which has a trained model alone, as igr export writes it; name the"):
        read_runs([tmp_path / "runs/exported"])
    with pytest.raises(UserError, match="which has no run; name a folder that"):
        read_runs([tmp_path / "shared"])
