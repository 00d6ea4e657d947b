"""The commands with a mixture model."""

import json
from pathlib import Path

import pytest
import torch

from igr.cli import main
from igr.evaluation import evaluate, num_passed
from igr.training.failures import TrainingFailure
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run

TINY = [
    *("--max-images", "40", "--epochs", "2", "--batch-size", "20", "--num-eval-samples", "12"),
    *("--num-components", "12", "--continuous-dim", "5"),
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


def trained(path: str, *flags: str) -> Path:
    assert main(["train", "--model", "dlgmm", "--out", path, *TINY, *flags]) == 0
    return Path(path)


def test_train_evaluate_and_compare(capsys):
    for latent in ("dlgmm", "dlgmm-igr-truncated"):
        trained(latent, "--latent", latent)
        assert main(["evaluate", latent]) == 0
    out, err = capsys.readouterr()
    assert "training a mixture of at most 12 components with dlgmm weights on digits, 2 epochs" in err
    assert "active components" in out
    assert "error of 5 neighbours" in out
    record = RunFolder("dlgmm").result()["evaluation"]
    assert record["bounds"]["importance_weighted"]["value"] > record["bounds"]["relaxed_elbo"]["value"]
    assert record["bounds"]["discrete_elbo"] is None
    components = record["components"]
    for part in ("weights", "shares"):
        assert sum(components[part]) == pytest.approx(1.0, abs=1e-4)
    assert components["num_active"] == sum(weight > 0.01 for weight in components["weights"])
    assert list(components["neighbour_errors"]) == ["3", "5", "10"]
    assert components["num_known"] == 40
    pictures = {path.name for path in (Path("dlgmm") / "figures").iterdir()}
    assert pictures == {"reconstructions.png", "weights.png", "component_samples.png"}
    assert main(["compare", "dlgmm", "dlgmm-igr-truncated"]) == 0
    out, _ = capsys.readouterr()
    said = " ".join(out.split())
    assert "ELBO" in out
    assert "IW" in out
    assert "relaxed" not in said
    assert "exact q" not in said
    assert "trained KL" not in said
    assert "Both bound log p(x) of one and the same model" in said


def test_evaluation_of_a_truncated_model_is_with_all_components():
    trained("run", "--latent", "dlgmm-igr-truncated", "--stick-threshold", "0.5")
    assert main(["evaluate", "run"]) == 0
    folder = RunFolder("run")
    assert len(folder.result()["evaluation"]["components"]["weights"]) == 12
    assert folder.metrics()[-1]["train_num_components"] == 9.0


def test_what_only_a_vae_has_is_refused(capsys):
    trained("run")
    before = Path("run/result.json").read_bytes()
    for flag in ("--legacy-estimate", "--calibrate"):
        assert main(["evaluate", "run", flag]) == 2
        assert f"expected the run of a VAE for {flag}; got run" in capsys.readouterr().err
    assert Path("run/result.json").read_bytes() == before


BAD = {
    "setting of a vae": (["--kl", "relaxed"], "expected a flag of igr train; got --kl"),
    "typo": (["--num-componets", "3"], "did you mean --num-components?"),
    "latent": (["--latent", "igr"], "expected latent to be one of dlgmm, dlgmm-igr"),
    "corners": (["--continuous-dim", "2"], "change num_components or continuous_dim"),
    "temperature": (["--latent", "dlgmm", "--temperature", "0.5"], "expected no temperature"),
    "images": (["--data", "digits", "--network", "conv"], "expected network to be one of dlgmm_conv"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence_and_nothing_is_written(name, capsys):
    flags, said = BAD[name]
    assert main(["train", "--model", "dlgmm", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_file_of_settings_says_which_model_it_is_of(capsys):
    Path("settings.json").write_text(json.dumps({"num_components": 4, "epochs": 1}))
    assert main(["train", "--config", "settings.json"]) == 2
    assert "add --model dlgmm" in capsys.readouterr().err


def test_a_sweep_tunes_and_repeats_and_is_compared(capsys):
    sweep = [
        *("sweep", "--model", "dlgmm", "--out", "sweep", *TINY, "--validation-samples", "5"),
        *("--learning-rate", "1e-3", "1e-4", "--latent", "dlgmm", "dlgmm-igr", "--seed", "0", "1"),
    ]
    assert main(sweep) == 0
    capsys.readouterr()
    assert main(["compare", "sweep"]) == 0
    out, _ = capsys.readouterr()
    assert "digits: bounds on log p(x), nats per image" in out
    assert "highest mean bound on the validation split" in " ".join(out.split())
    # That the weights of one law have no temperature is nothing to be said.
    assert "estimator" not in out
    assert main(sweep) == 0
    assert "already there" in capsys.readouterr().err


def test_figures_that_are_not_finite_are_a_failure_and_nothing_is_written(capsys):
    trained("run", "--component", "summed")
    loaded = load_run("run")
    with torch.no_grad():
        next(loaded.model.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingFailure, match="expected finite bounds"):
        evaluate(loaded, num_samples=2)
    assert "evaluation" not in loaded.folder.result()


def test_the_progress_of_an_evaluation_ends_where_it_says():
    trained("run")
    loaded, done = load_run("run"), []
    evaluate(loaded, num_samples=2, max_images=10, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == num_passed(loaded, 10) == 10 + 40 + 10
