"""The demo ends with one table of four runs, however often and from wherever it is started."""

import json
from functools import partial
from pathlib import Path

import pytest

from igr.cli import demo
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.run_folder import RunFolder
from igr.training.watchers import Watcher

NAMES = ["gumbel-softmax-relaxed", "gumbel-softmax-discrete", "igr-relaxed", "igr-discrete"]
SMALL = partial(TrainConfig, network="dense", max_images=30, batch_size=10, num_eval_samples=4)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TrainConfig", SMALL)
    monkeypatch.setattr(demo, "EPOCHS", 2)


def test_four_runs_in_one_table_and_again_without_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert demo.main(["--out", str(tmp_path)]) == 0
    first = capsys.readouterr()
    assert all(name in first.out for name in NAMES)
    assert "How to read it" in first.out
    assert str(tmp_path / "comparison" / "bounds.png") in first.err
    assert "igr train --latent igr" in first.err
    assert f"--kl-warmup {demo.KL_WARMUP}" in first.err
    assert first.err.count("training for 2 epochs") == 4

    assert demo.main(["--out", str(tmp_path)]) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("reusing the finished run") == 4
    assert "training for" not in second.err


class Killed(Exception):
    pass


class Killer(Watcher):
    def advance(self, step: int) -> None:
        if step == 4:
            raise Killed


def test_a_killed_demo_goes_on_to_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--out", str(tmp_path / "whole"), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    config = SMALL(latent="gumbel-softmax", kl="relaxed", epochs=2, kl_warmup=demo.KL_WARMUP)
    with pytest.raises(Killed):
        train(config, tmp_path / "killed" / NAMES[0], Killer())
    assert demo.main(["--out", str(tmp_path / "killed"), "--json"]) == 0
    captured = capsys.readouterr()
    assert f"1/4 {config.latent}, {config.kl} KL: going on from step 0" in captured.err
    for record in (whole, resumed := json.loads(captured.out)):
        for run in record["runs"]:
            del run["seconds"]
    assert resumed == whole


def test_another_run_in_the_way_is_refused_and_replaced_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(SMALL(epochs=1), tmp_path / NAMES[0])
    assert demo.main(["--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "--fresh" in captured.err
    assert captured.out == ""
    assert RunFolder(tmp_path / NAMES[0]).config().epochs == 1

    assert demo.main(["--out", str(tmp_path), "--fresh"]) == 0
    assert RunFolder(tmp_path / NAMES[0]).config().epochs == 2


def test_fresh_removes_nothing_but_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = tmp_path / NAMES[0] / "note.txt"
    note.parent.mkdir()
    note.touch()
    assert demo.main(["--out", str(tmp_path), "--fresh"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert note.exists()
