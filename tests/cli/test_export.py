"""``igr export`` as a user meets it."""

import json
from pathlib import Path

import pytest

from igr.cli import main
from igr.pretrained import from_pretrained
from written_runs import CONFIGS, VAES, write_run_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a run in it."""
    write_run_of(VAES["igr"], tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_becomes_a_folder_to_pass_on(folder, capsys):
    assert main(["export", "run", "--out", "shared/model"]) == 0
    out, err = capsys.readouterr()
    assert err == (
        "written: shared/model, as of epoch 2; in Python: igr.pretrained.from_pretrained('shared/model')\n"
    )
    for name in ("config.json", "model.safetensors", "README.md"):
        assert name in out
    assert from_pretrained("shared/model").epoch == 2
    before = (folder / "shared/model/config.json").stat()
    assert main(["export", "run", "--out", "shared/model"]) == 2
    assert "got" in capsys.readouterr().err
    assert (folder / "shared/model/config.json").stat() == before


def test_the_working_folder_is_filled_where_it_is_empty(folder, monkeypatch, capsys):
    (folder / "model").mkdir(mode=0o700)
    monkeypatch.chdir(folder / "model")
    assert main(["export", "../run", "--out", "."]) == 0
    assert "in Python: igr.pretrained.from_pretrained('.')" in capsys.readouterr().err
    assert from_pretrained(".").epoch == 2
    assert (folder / "model").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["sop-igr", "dlgmm", "igr-planar"])
def test_scripts_get_json(folder, name, capsys):
    write_run_of(CONFIGS[name], folder / name)
    assert main(["export", name, "--out", "model", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["run"] == name
    assert record["path"] == "model"
    assert (record["model"], record["step"], record["epoch"]) == (CONFIGS[name].model, 4, 2)
    assert record["bytes"] == {path.name: path.stat().st_size for path in (folder / "model").iterdir()}
    assert record["num_parameters"] > 10


def test_damage_is_told_and_the_checkpoint_before_taken(folder, capsys):
    whole = folder / "run/checkpoints/step-00000004.safetensors"
    (folder / "run/checkpoints/step-00000006.safetensors").write_bytes(whole.read_bytes())
    assert main(["export", "run", "--out", "model"]) == 0
    warning = capsys.readouterr().err.splitlines()[0]
    assert warning.startswith("warning: expected a whole checkpoint at run/checkpoints/step-00000006")
    assert warning.endswith("the model is that of step-00000004.safetensors, which is whole")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["rnu", "--out", "model"], "expected the folder of a run; got rnu, which does not exist"),
        (["run"], "expected the argument --out; got none; see igr export --help"),
        (["--out", "model"], "expected the argument RUN; got none"),
        (["run", "--ot", "model"], "got --ot; did you mean --out?"),
        (["run", "--out", "run"], "which is not empty; choose another, or remove it"),
        (["run", "--out", "run/config.json"], "run/config.json, which is no folder"),
        (["run", "--out", "run/config.json/model"], "expected a folder that can be written for the model"),
        (["run/config.json", "--out", "model"], "which is a file and no folder"),
    ],
)
def test_mistakes_are_said_in_one_line(folder, argv, sentence, capsys):
    assert main(["export", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("igr export: expected ")
    assert sentence in err
    assert {path.name for path in folder.iterdir()} == {"run"}


def test_a_model_is_no_run(folder, capsys):
    assert main(["export", "run", "--out", "model"]) == 0
    for argv in (
        ["export", "model", "--out", "again"],
        ["evaluate", "model"],
        ["train", "--resume", "model"],
    ):
        capsys.readouterr()
        assert main(argv) == 2
        assert (
            "which has a trained model alone, as igr export writes it; name the run"
            in capsys.readouterr().err
        )
