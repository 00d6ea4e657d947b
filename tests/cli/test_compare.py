"""``igr compare`` through its arguments: what it prints, what it writes, what it refuses."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from matplotlib.image import imread

from igr.cli import main
from igr.evaluation import BOUND_KINDS, evaluate
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.runs import load_run
from run_folders import KEYS, evaluation, write_run

CONFIG = TrainConfig(
    network="dense", num_variables=3, num_categories=4, max_images=40, epochs=2, num_eval_samples=6
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    paths = []
    for latent in ("igr", "gumbel-softmax"):
        for kl in ("relaxed", "discrete"):
            path = folder / f"{latent}-{kl}"
            train(TrainConfig(**{**CONFIG.to_json(), "latent": latent, "kl": kl}), path)
            evaluate(load_run(path))
            paths.append(str(path))
    return paths


@pytest.mark.parametrize("columns", [80, 100])
def test_table_fits_the_terminal(
    runs: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["compare", *runs, "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert max(map(len, captured.out.splitlines())) <= columns
    said = " ".join(captured.out.split())
    assert "never ranked against each other" in said
    for path in runs:
        assert Path(path).name in captured.out
        for figure in load_run(path).folder.result()["evaluation"]["bounds"].values():
            assert figure is None or f"{figure['value']:.2f}" in captured.out


def test_files_hold_every_run(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert main(["compare", *runs, "--out", str(out)]) == 0
    names = [Path(path).name for path in runs]
    table = (out / "comparison.md").read_text()
    with (out / "comparison.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [record["run"] for record in records] == names
    assert all(f"| {name} |" in table for name in names)
    assert imread(out / "bounds.png").std() > 0.05
    assert (out / "runs.csv").read_text() == (out / "comparison.csv").read_text()
    assert r"\toprule" in (out / "comparison.tex").read_text()
    assert capsys.readouterr().err.count(str(out)) == len(list(out.iterdir())) == 5
    assert main(["compare", *runs, "--out", str(out)]) == 0


def test_json(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *runs, "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in printed["runs"]] == [Path(path).name for path in runs]
    assert set(printed["best"]) == {kind.key for kind in BOUND_KINDS}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight rows: two temperatures of each, of which the worse on test is the better on validation."""
    folder = tmp_path_factory.mktemp("sweep")
    for latent in ("igr", "gumbel-softmax"):
        for kl in ("relaxed", "discrete"):
            for network in ("dense", "dense_nonlinear"):
                for temperature in (0.2, 0.5):
                    for seed in range(2):
                        level = -100.0 - 10 * temperature - seed
                        write_run(
                            folder / f"{latent}-{kl}-{network}" / f"t{temperature}-s{seed}",
                            {"latent": latent, "kl": kl, "network": network, "temperature": temperature}
                            | {"seed": seed},
                            evaluation([level, level, level, None]),
                            evaluation([-level - 300.0] * 4, "validation"),
                            curve=[level - 50.0 / epoch for epoch in range(1, 11)],
                        )
    return folder


@pytest.mark.parametrize("columns", [80, 120])
def test_a_grid_has_one_row_for_what_was_chosen(
    sweep: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["compare", str(sweep), "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert max(map(len, captured.out.splitlines())) <= columns
    # Of -105 and -106. No name is torn, and an error stands beside its figure.
    assert captured.out.count("-105.50* ±0.50") == 24
    assert captured.out.count("dense_nonlinear") == 4
    assert "-102" not in captured.out
    assert "In all rows: temperature 0.5, learning rate 0.001, tried 2, seeds 2" in captured.out


def test_files_of_a_grid_hold_rows_and_runs(sweep: Path, tmp_path: Path) -> None:
    assert main(["compare", str(sweep), "--out", str(tmp_path)]) == 0
    rows, runs = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        for name in ("comparison.csv", "runs.csv")
    )
    assert (len(rows), len(runs)) == (8, 32)
    assert {row["temperature"] for row in rows} == {"0.5"}
    assert {float(row["validation_importance_weighted"]) for row in runs} == {-198.0, -197.0, -195.0, -194.0}
    for name in ("comparison.md", "comparison.tex"):
        assert (tmp_path / name).read_text().count("105.50") == 24
    assert imread(tmp_path / "bounds.png").std() > 0.05


def test_json_of_a_grid(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(sweep / "igr-relaxed-dense"), "--out", str(tmp_path), "--json"]) == 0
    ((row,),) = [table["rows"] for table in json.loads(capsys.readouterr().out)["tables"]]
    assert row["bounds"][KEYS[0]]["value"] == -105.5
    assert len(row["candidates"]) == 2


def test_each_run_can_have_a_row_of_its_own(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep / "igr-relaxed-dense"
    assert main(["compare", str(folder), "--each", "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in printed["runs"]] == ["t0.2-s0", "t0.2-s1", "t0.5-s0", "t0.5-s1"]


def test_the_validation_split_can_be_compared(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep / "igr-relaxed-dense"
    assert main(["compare", str(folder), "--split", "validation", "--out", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "-194.50" in said
    assert "300 validation images" in said
    assert "may be a little too high" in said


def test_a_grid_without_validation_is_shown_run_by_run_and_one_without_all_of_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for temperature in (0.2, 0.5):
        write_run(tmp_path / f"t{temperature}", {"temperature": temperature}, evaluation([-1.0] * 4))
    assert (
        main(["compare", str(tmp_path / "t0.2"), str(tmp_path / "t0.5"), "--out", str(tmp_path / "two")]) == 0
    )
    assert "does not cover the training seed" in " ".join(capsys.readouterr().out.split())
    validation = evaluation([-1.0] * 4, "validation")
    write_run(tmp_path / "t0.8", {"temperature": 0.8}, evaluation([-1.0] * 4), validation)
    assert main(["compare", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"igr evaluate {tmp_path / 't0.2'} --split validation" in said
    assert "a row of its own by --each" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_metrics_are_one_sentence_and_leave_nothing(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(runs[0], tmp_path / "damaged")
    (damaged / "metrics.jsonl").write_text('{"step": 1}\n')
    assert main(["compare", str(damaged), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert "on each line of the metrics.jsonl of damaged" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_input_that_cannot_be_used(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(CONFIG, tmp_path / "fresh")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for argv, said in (
        ([], "at least one run folder; got none"),
        ([runs[0], runs[0]], "twice"),
        ([runs[0], str(tmp_path / "fresh")], f"igr evaluate {tmp_path / 'fresh'}"),
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(tmp_path / "empty")], "which has no run; name a folder that igr train wrote"),
        ([runs[0], "--split", "train"], "expected split to be one of test, validation; got 'train'"),
        ([*runs, "--out", str(tmp_path / "file" / "below")], "can be written; got"),
        ([*runs, "--oat", "x"], "did you mean --out?"),
    ):
        assert main(["compare", *argv]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
