"""The commands with a model of structured output prediction."""

import json
from pathlib import Path

import pytest
import torch

from igr.cli import main
from igr.training.run_folder import RunFolder

TINY = [
    "--max-images",
    "40",
    "--epochs",
    "2",
    "--batch-size",
    "20",
    "--num-units",
    "6",
    "--num-eval-samples",
    "12",
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


def trained(path: str, *flags: str) -> Path:
    assert main(["train", "--model", "sop", "--out", path, *TINY, *flags]) == 0
    return Path(path)


def test_train_evaluate_and_compare(capsys):
    for latent in ("igr", "gumbel-softmax"):
        trained(latent, "--latent", latent)
        assert main(["evaluate", latent]) == 0
    out, err = capsys.readouterr()
    assert "training structured output prediction with igr on digits, 2 epochs" in err
    assert "bound of the discrete model" in out
    assert "-log p, 12 samples" in out
    assert "lower is better" in " ".join(out.split())
    record = RunFolder("igr").result()["evaluation"]
    assert list(record["by_samples"]) == ["1", "10", "12"]
    assert record["by_samples"]["12"] == record["bounds"]["importance_weighted"]
    assert (Path("igr") / "figures" / "completions.png").is_file()
    assert main(["compare", "igr", "gumbel-softmax"]) == 0
    out, _ = capsys.readouterr()
    assert "log p(lower half | upper half)" in out
    assert "trained KL" not in out
    assert "pre-image" not in out
    assert "exact q" not in out
    assert "all samples" in out


def test_the_config_of_a_run_says_which_model_it_is_of(capsys):
    trained("run", "--seed", "4")
    assert json.loads(Path("run/config.json").read_text())["model"] == "sop"
    assert main(["train", "--config", "run/config.json", "--out", "again"]) == 0
    assert RunFolder("again").metrics() == RunFolder("run").metrics()
    Path("settings.json").write_text(
        json.dumps({"model": "sop", "num_units": 5, "epochs": 1, "max_images": 20})
    )
    assert main(["train", "--config", "settings.json", "--out", "third", "--seed", "2"]) == 0
    config = RunFolder("third").config()
    assert (config.num_units, config.seed) == (5, 2)
    assert main(["train", "--resume", "third"]) == 0
    Path("inner.json").write_text(json.dumps({"config": {"model": "sop", "epochs": 1, "max_images": 20}}))
    assert main(["train", "--config", "inner.json", "--out", "fourth"]) == 0
    assert RunFolder("fourth").config().model == "sop"


CONTRADICTIONS = {
    "resume and model": ["--resume", "run", "--model", "vae"],
    "resume and file": ["--resume", "run", "--config", "vae.json"],
    "file and model": ["--config", "vae.json", "--model", "sop"],
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_two_kinds_of_models_at_once_are_refused(name, capsys):
    trained("run")
    Path("vae.json").write_text('{"model": "vae", "epochs": 1}')
    before = (Path("run") / "config.json").read_bytes()
    capsys.readouterr()
    assert main(["train", *CONTRADICTIONS[name]]) == 2
    assert "expected one kind of model; got" in capsys.readouterr().err
    assert (Path("run") / "config.json").read_bytes() == before
    assert not Path("runs").exists()


def test_a_file_of_settings_of_the_other_kind_says_so(capsys):
    Path("settings.json").write_text('{"num_units": 5}')
    assert main(["train", "--config", "settings.json"]) == 2
    assert "add --model sop" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_is_one_of_a_vae(capsys):
    assert main(["train", "--out", "old", "--max-images", "40", "--epochs", "1", "--network", "dense"]) == 0
    record = json.loads(Path("old/config.json").read_text())
    del record["model"]
    Path("old/config.json").write_text(json.dumps(record))
    assert main(["evaluate", "old", "--num-eval-samples", "2"]) == 0
    assert main(["train", "--config", "old/config.json", "--out", "again"]) == 0
    capsys.readouterr()
    assert main(["train", "--config", "old/config.json", "--model", "sop"]) == 2
    assert "expected one kind of model" in capsys.readouterr().err


def test_sweeps_of_two_kinds_do_not_share_a_folder(capsys):
    flags = ["--latent", "igr", "gumbel-softmax", *TINY[:6], "--num-eval-samples", "2"]
    assert main(["sweep", "--model", "sop", *flags, "--num-units", "4"]) == 0
    assert main(["sweep", *flags, "--network", "dense"]) == 0
    assert {path.name for path in Path("sweeps").iterdir()} == {
        "sop-digits-igr-gumbel-softmax",
        "digits-igr-gumbel-softmax",
    }
    capsys.readouterr()
    for ours, theirs in (("sop", "digits-igr-gumbel-softmax"), ("vae", "sop-digits-igr-gumbel-softmax")):
        assert main(["sweep", "--model", ours, *flags, "--out", f"sweeps/{theirs}"]) == 2
        assert "expected the sweep in" in capsys.readouterr().err


BAD = {
    "model": (["train", "--model", "spo"], "expected model to be one of dlgmm, sop, vae; got 'spo'"),
    "no model": (["train", "--model"], "expected a value after --model; got none"),
    "help for a model": (["train", "--model", "--help"], "expected a value after --model; got none"),
    "no run": (["train", "--resume", "nothere", "--num-units", "5"], "got nothere, which does not exist"),
    "model beside a study": (
        ["sweep", "--study", "sop", "--model", "vae"],
        "expected no --model beside --study",
    ),
    "setting of the other": (
        ["train", "--model", "sop", "--kl", "relaxed"],
        "expected a flag of igr train; got --kl",
    ),
    "setting of this one": (["train", "--num-units", "3"], "expected a flag of igr train; got --num-units"),
    "sticks": (["train", "--model", "sop", "--latent", "igr-sb"], "the one stick always wins"),
    "grid": (["sweep", "--grid", "/dev/null"], "expected a grid in a JSON file"),
    "sweep": (["sweep", "--model", "spo"], "expected model to be one of dlgmm, sop, vae; got 'spo'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence_and_nothing_is_written(name, capsys):
    argv, said = BAD[name]
    assert main(argv) == 2
    assert said in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_what_only_a_vae_has_is_refused(capsys):
    trained("run")
    before = Path("run/result.json").read_bytes()
    for flag in ("--legacy-estimate", "--calibrate"):
        assert main(["evaluate", "run", flag]) == 2
        assert f"expected the run of a VAE for {flag}; got run" in capsys.readouterr().err
    assert Path("run/result.json").read_bytes() == before


def test_runs_of_two_models_are_not_compared(capsys):
    trained("sop")
    assert main(["train", "--out", "vae", "--max-images", "40", "--epochs", "1", "--network", "dense"]) == 0
    for run in ("sop", "vae"):
        assert main(["evaluate", run, "--num-eval-samples", "2"]) == 0
    assert main(["compare", "sop", "vae"]) == 2
    assert "expected runs of one kind of model; got sop (sop) and vae (vae)" in capsys.readouterr().err


def test_smoke_is_a_whole_run(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert main(["train", "--model", "sop", "--smoke", "--json", "--num-units", "6"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["evaluation"]["num_samples"] == 10
    assert record["training"]["validation_discrete_bound"] < 0


def test_a_sweep_tunes_and_repeats_and_is_compared(capsys):
    sweep = [
        *("sweep", "--model", "sop", "--out", "sweep", *TINY, "--validation-samples", "5"),
        *("--temperature", "0.5", "1.0", "--latent", "igr", "gumbel-softmax", "--seed", "0", "1"),
    ]
    assert main(sweep) == 0
    capsys.readouterr()
    assert main(["compare", "sweep"]) == 0
    out, _ = capsys.readouterr()
    assert "digits: bounds on log p(lower half | upper half), nats per image" in out
    assert "highest mean bound on the validation split" in " ".join(out.split())
    # It goes on to nothing.
    assert main(sweep) == 0
    assert "8 of them already there" in capsys.readouterr().err
