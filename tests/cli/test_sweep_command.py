"""`igr sweep` as a user meets it: what it runs, what it says, and the exit code."""

import io
import json
import os
import re
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from igr.cli import main
from igr.cli import sweep as command
from igr.evaluation.evaluation import stored_evaluation
from igr.sweeps import job, read_sweep
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder

TINY = [
    *("--network", "dense", "--num-variables", "2", "--num-categories", "3", "--max-images", "50"),
    *("--epochs", "1", "--num-eval-samples", "3", "--no-tensorboard"),
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_combination_is_run_into_a_folder_with_a_readable_name(capsys):
    flags = ["--latent", "igr", "gumbel-softmax", "--temperature", "0.2", "1", "--seed", "0", "1"]
    assert main(["sweep", *TINY, *flags]) == 0
    out, err = capsys.readouterr()
    folder = Path("sweeps/digits-igr-gumbel-softmax")
    sweep = read_sweep(folder)
    assert [group.key for group in sweep.groups] == ["igr", "gumbel-softmax"]
    runs = [run for group in sweep.groups for run in group.tuning_runs]
    assert len(runs) == 8
    for run in runs:
        assert RunFolder(folder / run.path).config() == run.config
        assert stored_evaluation(RunFolder(folder / run.path)) is not None
    *lines, last = err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"[{number}/8] {run.path}" for number, run in enumerate(runs, 1)
    ]
    assert last == f"8 runs in {folder}; next: igr compare {folder}"
    for group in sweep.groups:
        chosen = sweep.chosen(group)
        assert chosen is not None
        row = rf"{group.key} +temperature {group.candidates[chosen].temperature} +2 "
        assert re.search(row + rf"+{sweep.validation_bounds(group)[chosen]:.2f}", out)


def test_only_the_chosen_one_is_repeated_if_that_is_asked_for(capsys):
    flags = ["--temperature", "0.2", "1", "--seed", "0", "1", "2", "--tune-first-seed", "--json"]
    assert main(["sweep", *TINY, *flags, "--out", "out"]) == 0
    record = json.loads(capsys.readouterr().out)
    (group,) = record["groups"]
    assert (record["sweep"], record["kept"], group["key"], group["seeds"]) == ("out", 0, "igr", [0, 1, 2])
    best = max(group["validation_bounds"], key=group["validation_bounds"].get)
    assert f"t{group['chosen']['temperature']:g}-s0" in best
    assert [run["seed"] for run in record["runs"] if run["chosen"]] == [0, 1, 2]
    assert len(record["runs"]) == 4
    assert all(Path(run["path"], "result.json").exists() for run in record["runs"])
    assert main(["sweep", *TINY, *flags[:-1], "--out", "out"]) == 0
    assert capsys.readouterr().err == "4 runs in out, 4 of them already there; next: igr compare out\n"


def test_flags_win_over_a_grid_and_settings_of_the_evaluation_reach_it():
    grid = [{"latent": "igr", "scale": "free", "seed": [5, 6]}, {"latent": "gumbel-softmax", "seed": [5, 6]}]
    Path("grid.json").write_text(json.dumps(grid))
    flags = ["--seed", "7", "--temperature", "1", "2", "--max-eval-images", "9", "--validation-samples=2"]
    assert main(["sweep", *TINY, "--grid", "grid.json", *flags, "--out=out"]) == 0
    sweep = read_sweep(Path("out"))
    assert [(group.key, group.seeds) for group in sweep.groups] == [("igr", (7,)), ("gumbel-softmax", (7,))]
    assert sweep.groups[0].candidates[0].scale == "free"
    folder = RunFolder(Path("out") / sweep.groups[0].run(0, 7).path)
    for split, samples in (("validation", 2), ("test", 3)):
        found = stored_evaluation(folder, split)
        assert found is not None
        assert (found.num_data, found.num_samples) == (9, samples)


def test_smoke_makes_every_run_small_and_flags_win_over_it():
    small = ["--smoke", "--network", "dense", "--num-variables", "2", "--max-images", "60"]
    assert main(["sweep", *small, "--no-tensorboard", "--seed", "1", "2"]) == 0
    sweep = read_sweep(Path("sweeps/digits-igr-smoke"))
    (config,) = sweep.groups[0].candidates
    assert (config.epochs, config.batch_size, config.num_eval_samples, config.max_images) == (5, 50, 10, 60)


def test_a_switch_is_one_value_and_a_grid_may_have_both(capsys):
    Path("grid.json").write_text('{"tensorboard": [true, false]}')
    assert main(["sweep", *TINY, "--grid", "grid.json", "--out", "one"]) == 0
    assert [config.tensorboard for config in read_sweep(Path("one")).groups[0].candidates] == [False]


def test_many_groups_are_counted_in_the_name_of_the_folder():
    from igr.sweeps import expand, groups_of

    groups = groups_of(expand({"num_variables": [1, 2, 3, 4]}))
    assert command.default_folder(groups) == Path("sweeps/digits-4-groups")
    groups = groups_of(expand({"data": ["digits", "mnist"]}))
    assert command.default_folder(groups, smoke=True) == Path("sweeps/digits-mnist-smoke")


BAD = {
    "unknown flag": (["--temprature", "1"], "got --temprature; did you mean --temperature?"),
    "word for a number": (
        ["--temperature", "1", "low"],
        "expected temperature to be a number or null; got 'low'",
    ),
    "a fraction": (
        ["--epochs", "1", "1.5"],
        "expected epochs to be a whole number; got '1.5'; change epochs",
    ),
    "no value": (["--temperature"], "expected a value after --temperature; got none; see igr sweep --help"),
    "a value twice": (["--seed", "1", "1"], "expected different values of seed; got 1 twice"),
    "unknown name": (["--latent", "igr", "gumbel"], "latent gumbel, which a list of grids can leave out: "),
    "no workers": (["--workers", "0"], "expected workers to be a whole number of at least 1; got 0"),
    "no images": (["--max-eval-images", "0"], "expected max_images of the evaluation to be"),
    "absent grid": (["--grid", "absent.json"], "expected a grid in a JSON file at absent.json; got "),
    "combination": (
        ["--latent", "igr", "gumbel-softmax", "--scale", "free"],
        "in the combination latent gumbel-softmax, scale free, which a list of grids can leave out: "
        "expected no scale",
    ),
    "data folder": (["--data-dir", "x"], "expected no data folder for digits"),
    "absent device": (["--device", "cuda:99"], "got cuda:99, but torch sees"),
    "stray word": (["fast"], "got fast"),
}


@pytest.mark.parametrize(("flags", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_sentence(capsys, flags, message):
    assert main(["sweep", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert message in err
    assert not [*Path().rglob("config.json")]


def test_failures_are_told_at_the_end_and_end_with_1(capsys):
    assert main(["sweep", *TINY, "--learning-rate", "0.001", "1e30", "--out", "out", "--debug"]) == 1
    out, err = capsys.readouterr()
    failed, last = err.splitlines()[-2:]
    name = "igr/digits-dense-igr-discrete-t0.4-s0-lr1e+30"
    assert failed.startswith(f"igr sweep: {name}: expected finite ")
    assert last == "2 runs in out, 1 failed; next: igr compare out"
    assert f"] {name} failed" in err
    assert "Traceback" in err
    assert "learning_rate 0.001" in out
    assert main(["sweep", *TINY, "--learning-rate", "1e30", "2e30", "--out", "none"]) == 1
    out, err = capsys.readouterr()
    assert "none, all failed" in out
    assert "Traceback" not in err


def test_an_interrupt_says_how_to_go_on_and_that_works(capsys, monkeypatch):
    def evaluate(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **options)

    real = job.evaluate
    argv = ["sweep", *TINY, "--seed", "0", "1", "--out", "a folder"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "evaluate", evaluate)
        assert main(argv) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"igr sweep: stopped after 0 of 2 runs; go on with igr {' '.join(argv[:-1])} 'a folder'"
    )
    assert main(argv) == 0


def test_a_terminal_has_a_bar_with_what_is_going_on(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    terminal = Console(file=written, width=100, force_terminal=True)
    monkeypatch.setattr(command, "Console", lambda **options: terminal)
    with command.Display() as display:
        display.begin(1, 4)
        display.advance({Path("igr/name"): 0.25})
        display._bar.refresh()
        assert "1/4" in written.getvalue()
        assert "name 25%" in written.getvalue()


def test_help_shows_each_setting_with_meaning_and_default(capsys):
    assert main(["sweep", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in fields(TrainConfig):
        assert re.search(rf"--{field.name.replace('_', '-')}[ ,]", text)
    assert "(default: dense_nonlinear)" in text
    assert "--learning-rate FLOAT ... Learning rate of Adam. (default: 0.001)" in text
    assert "--grid PATH A JSON file of settings by name" in text


def test_the_runs_of_a_study_are_trained_in_its_folder_and_its_report_left_for_later(capsys):
    assert main(["sweep", "--study", "elbo-curves", "--smoke", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    folder = Path("studies/elbo-curves-smoke")
    assert found["sweep"] == str(folder / "runs")
    assert len(found["runs"]) == 4
    assert not (folder / "report.md").exists()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/result.json")}
    assert main(["study", "run", "elbo-curves", "--smoke", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (folder / "report.md").is_file()


def test_what_cannot_be_swept_of_a_study_is_one_sentence(capsys):
    for argv, message in (
        (["--study", "vae-tabel"], "did you mean vae-table?"),
        (["--study", "discrete-laws"], "expected a study that trains models; got discrete-laws"),
        (["--study", "vae-table", "--budget", "tiny"], "expected budget to be"),
        (["--study", "vae-table", "--temperature", "0.3"], "expected no --temperature beside --study"),
        (["--study", "vae-table", "--tune-first-seed"], "expected no --tune-first-seed beside --study"),
    ):
        assert main(["sweep", *argv]) == 2
        assert message in capsys.readouterr().err
    assert not Path("studies").exists()


def test_repetitions_with_a_prior_from_a_file_are_one_row(capsys):
    assert main(["prior", "--num-categories", "3", "--out", "p.json"]) == 0
    flags = ["--latent", "igr", "--prior", "p.json", "--seed", "0", "1", "--out", "out"]
    assert main(["sweep", *TINY, *flags]) == 0
    capsys.readouterr()
    assert main(["compare", "out", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    (row,) = table["rows"]
    assert row["seeds"] == [0, 1]


def test_what_failed_in_a_sweep_is_left_out_of_its_comparison(capsys):
    flags = ["--learning-rate", "1e-3", "1e30", "--seed", "0", "1", "--out", "out"]
    assert main(["sweep", *TINY, *flags]) == 1
    capsys.readouterr()
    assert main(["compare", "out", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "left out: 2 of the runs, which failed or have not finished, the first of them out/igr/" in err
    (table,) = json.loads(out)["tables"]
    (row,) = table["rows"]
    assert row["config"]["learning_rate"] == 1e-3
    assert row["seeds"] == [0, 1]
