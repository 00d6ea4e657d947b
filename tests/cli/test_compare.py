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
    assert capsys.readouterr().err.count(str(out)) == 3
    assert main(["compare", *runs, "--out", str(out)]) == 0


def test_json(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *runs, "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in printed["runs"]] == [Path(path).name for path in runs]
    assert set(printed["best"]) == {kind.key for kind in BOUND_KINDS}


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
    for argv, said in (
        ([], "at least one run folder; got none"),
        ([runs[0], runs[0]], "twice"),
        ([runs[0], str(tmp_path / "fresh")], f"igr evaluate {tmp_path / 'fresh'}"),
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([*runs, "--out", str(tmp_path / "file" / "below")], "can be written; got"),
        ([*runs, "--oat", "x"], "did you mean --out?"),
    ):
        assert main(["compare", *argv]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
