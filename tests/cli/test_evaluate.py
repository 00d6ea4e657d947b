"""``igr evaluate`` through its arguments: what it prints, what it writes, what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread

from igr.cli import evaluate, main
from igr.evaluation import BOUND_KINDS
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.run_folder import RunFolder

CONFIG = TrainConfig(
    network="dense", num_variables=3, num_categories=4, max_images=40, epochs=1, num_eval_samples=6
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "igr"
    train(CONFIG, path)
    return path


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def test_prints_each_figure_with_its_error_and_meaning(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["evaluate", str(path)]) == 0
    captured = capsys.readouterr()
    bounds = RunFolder(path).result()["evaluation"]["bounds"]
    for kind in BOUND_KINDS:
        value, error = bounds[kind.key]["value"], bounds[kind.key]["standard_error"]
        line = next(line for line in captured.out.splitlines() if kind.name in line)
        assert f"{value:.2f} ±{error:.2f}" in line
        assert kind.meaning in line
    assert "nats per image" in captured.out
    assert f"igr compare {path}" in captured.err


def test_json_is_the_record_in_the_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--num-eval-samples", "3", "--split", "validation", "--seed", "5", "--json"]
    assert main(["evaluate", str(path), *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"run": str(path), **RunFolder(path).result()["validation_evaluation"]}
    assert (printed["num_samples"], printed["split"], printed["seed"]) == (3, "validation", 5)


def test_the_legacy_estimate_is_shown_on_request_and_not_as_a_bound(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["evaluate", str(path)]) == 0
    assert "legacy" not in capsys.readouterr().out
    assert main(["evaluate", str(path), "--legacy-estimate", "--max-images", "7"]) == 0
    captured = capsys.readouterr()
    record = RunFolder(path).result()["evaluation"]
    line = next(line for line in captured.out.splitlines() if "legacy estimate" in line)
    assert f"{record['legacy_estimate']['value']:.2f} ±" in line
    assert "no bound" in line
    assert record["num_data"] == 7


@pytest.mark.parametrize("settings", [{"latent": "gaussian"}, {"latent": "igr-planar", "continuous_dim": 2}])
def test_latents_without_some_figures_are_evaluated_and_drawn(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = TrainConfig(network="dense", max_images=20, epochs=1, num_eval_samples=2, tensorboard=False)
    train(replace(config, **settings), tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    bounds = RunFolder(tmp_path / "run").result()["evaluation"]["bounds"]
    for kind in BOUND_KINDS:
        line = next(line for line in lines if kind.name in line)
        assert (bounds[kind.key] is None) == (line.split("│")[2].strip() == "-")
    drawn = {file.name for file in (tmp_path / "run" / "figures").iterdir()}
    assert {"reconstructions.png", "prior_samples.png"} <= drawn


def test_draws_two_pictures(path: Path) -> None:
    assert main(["evaluate", str(path), "--json"]) == 0
    drawn = {file.name: imread(file) for file in (path / "figures").iterdir()}
    assert set(drawn) == {"reconstructions.png", "prior_samples.png"}
    assert all(picture.std() > 0.05 for picture in drawn.values())


def test_gumbel_softmax_has_no_pre_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(TrainConfig(**{**CONFIG.to_json(), "latent": "gumbel-softmax"}), tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    bounds = json.loads(capsys.readouterr().out)["bounds"]
    assert bounds["importance_weighted_pre_image"] is None
    assert bounds["importance_weighted"] is not None


def test_calibrate_adds_a_sentence_beneath_the_table(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["evaluate", str(path)]) == 0
    table = capsys.readouterr().out
    assert "calibrated_temperature" not in RunFolder(path).result()
    assert main(["evaluate", str(path), "--calibrate"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(table)
    record = RunFolder(path).result()["calibrated_temperature"]
    sentence = printed.removeprefix(table)
    assert "0.75 of the posterior samples lie within 0.2 of a vertex at" in sentence
    assert f"temperature {record['temperature']:.4g}; at {record['trained_temperature']:.4g}" in sentence


def test_calibrate_adds_its_record_to_the_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--calibrate", "--split", "validation", "--seed", "5", "--json"]
    assert main(["evaluate", str(path), *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    result = RunFolder(path).result()
    record = result["calibrated_temperature"]
    assert printed == {"run": str(path), **result["validation_evaluation"], "calibrated_temperature": record}
    assert (record["split"], record["seed"], record["step"]) == ("validation", 5, printed["step"])


def test_a_temperature_that_cannot_be_found_is_refused(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def beyond(*given: object, **named: object) -> object:
        return calibrate(*given, distance=0.99, **named)

    calibrate = evaluate.calibrate
    monkeypatch.setattr(evaluate, "calibrate", beyond)
    said = "igr evaluate: expected a distance within which a share of 0.75 of the samples lies"
    assert_refused(["evaluate", str(path), "--calibrate"], capsys, said)
    assert "evaluation" not in RunFolder(path).result()


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def no_such_folder(path: Path) -> None:
    shutil.rmtree(path)


def not_a_run(path: Path) -> None:
    (path / "config.json").unlink()


def no_checkpoint(path: Path) -> None:
    shutil.rmtree(path / "checkpoints")


def other_version(path: Path) -> None:
    rewrite(path / "config.json", '"format": 1', '"format": 99')


def unknown_setting(path: Path) -> None:
    rewrite(path / "config.json", '"epochs"', '"epoch"')


def wrong_shape(path: Path) -> None:
    rewrite(path / "config.json", '"num_variables": 3', '"num_variables": 4')


def truncated_checkpoint(path: Path) -> None:
    latest = RunFolder(path).latest_checkpoint()
    latest.write_bytes(latest.read_bytes()[:100])


def broken_result(path: Path) -> None:
    (path / "result.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_such_folder, "does not exist"),
        (not_a_run, "no config.json"),
        (no_checkpoint, "none yet"),
        (other_version, "format 99"),
        (unknown_setting, "epoch"),
        (wrong_shape, "shape"),
        (truncated_checkpoint, "whole checkpoint"),
        (broken_result, "JSON"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_folder_that_cannot_be_evaluated(
    path: Path, capsys: pytest.CaptureFixture[str], damage: object, said: str
) -> None:
    damage(path)
    assert_refused(["evaluate", str(path)], capsys, said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num-eval-samples", "0"], "at least 1; got 0"),
        (["--num-eval-samples", "many"], "whole number; got 'many'"),
        (["--seed", "-1"], "expected seed to be a whole number of at least 0; got -1"),
        (["--split", "train"], "split to be one of test, validation; got 'train'"),
        (["--device", "tpu"], "device"),
        (["--sead", "1"], "did you mean --seed?"),
    ],
)
def test_flags_that_cannot_be_used(
    path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert_refused(["evaluate", str(path), *flags], capsys, said)
    assert "evaluation" not in RunFolder(path).result()


@pytest.mark.parametrize("flags", [[], ["--json"], ["--seed", "3"]])
def test_no_run_is_refused(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    said = "igr evaluate: expected the argument RUN; got none; see igr evaluate --help"
    assert_refused(["evaluate", *flags], capsys, said)


def test_the_next_command_can_be_pasted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spaced = path.rename(path.parent / "my run")
    assert main(["evaluate", str(spaced), "--json"]) == 0
    assert f"igr compare '{spaced}' OTHER_RUN" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("igr.atomic.write", fail)
    assert_refused(["evaluate", str(path)], capsys, "can be written; got")
    assert_refused(["evaluate", str(path), "--calibrate"], capsys, "can be written; got")


def assert_refused(argv: list[str], capsys: pytest.CaptureFixture[str], said: str) -> None:
    """One sentence on standard error, exit code 2, nothing on standard output."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_help_says_what_each_flag_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in ("--num-eval-samples", "--split", "--seed", "--calibrate", "--device", "--json"):
        assert flag in text
    assert "latest checkpoint is evaluated" in text
