"""`igr train` as a user meets it: what it says, where, and the exit code."""

import io
import json
import os
import re
import signal
import tempfile
from pathlib import Path

import pytest
import torch
from rich.console import Console

import igr
from igr.cli import main
from igr.data import load
from igr.training import checkpoints, loop
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from igr.training.watchers import ProgressBar

TINY = ["--network", "dense", "--num-variables", "3", "--num-categories", "4", "--epochs", "2"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys):
    """Runs a command that has to be refused, and returns the one sentence that it says."""

    def run(*argv: str) -> str:
        assert main(list(argv)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        return err.strip()

    return run


def trained(path: str = "run", *flags: str) -> Path:
    assert main(["train", "--out", path, *TINY, *flags]) == 0
    return Path(path)


def test_a_run_is_trained_into_a_folder_with_a_readable_name(capsys):
    assert main(["train", *TINY]) == 0
    folder = RunFolder("runs/digits-dense-igr-discrete-t0.4-s0")
    assert len(folder.metrics()) == 2
    out, err = capsys.readouterr()
    assert "discrete KL, epoch 2, nats per image" in out
    assert "validation" in out
    first, last = err.splitlines()
    assert first.startswith("training igr with the discrete KL on digits, 2 epochs, in runs/digits")
    assert last.endswith("next: igr evaluate runs/digits-dense-igr-discrete-t0.4-s0")


def test_json_on_standard_output_is_the_result_and_nothing_else(capsys):
    path = trained("run", "--json", "--latent", "gumbel-softmax")
    record = json.loads(capsys.readouterr().out)
    assert record == {"run": "run", **RunFolder(path).result()}
    assert record["config"]["latent"] == "gumbel-softmax"


def test_every_setting_of_the_command_line_reaches_the_run():
    path = trained("run", "--temperature", "0.9", "--scale=fixed", "--batch_size", "70")
    config = RunFolder(path).config()
    assert (config.temperature, config.scale, config.batch_size) == (0.9, "fixed", 70)
    assert (config.network, config.num_categories) == ("dense", 4)


def test_flags_win_over_a_file_and_a_file_over_defaults():
    Path("settings.json").write_text('{"seed": 5, "epochs": 1, "network": "dense"}')
    assert main(["train", "--out", "run", "--config", "settings.json", "--seed", "6"]) == 0
    config = RunFolder("run").config()
    assert (config.seed, config.epochs, config.batch_size) == (6, 1, 100)


def test_the_config_of_a_run_can_be_trained_again():
    path = trained("run", "--seed", "4")
    assert main(["train", "--out", "again", "--config", str(path / "config.json")]) == 0
    assert RunFolder("again").config() == RunFolder(path).config()
    assert RunFolder("again").metrics() == RunFolder(path).metrics()


def test_smoke_is_a_whole_small_run_outside_the_current_folder(capsys, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert main(["train", "--smoke", "--json", "--network", "dense", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert (record["config"]["epochs"], record["config"]["seed"]) == (5, 3)
    assert load_run(record["run"]).epoch == 5
    assert load_run(record["run"]).step == record["evaluation"]["step"]
    assert record["evaluation"]["num_samples"] == 10
    figures = Path(record["run"]) / "figures"
    assert {path.name for path in figures.iterdir()} == {"reconstructions.png", "prior_samples.png"}
    assert f"pictures are in {figures}" in err
    assert threads == [1]
    assert not list(Path().iterdir())


@pytest.mark.parametrize("smoke", [(), ("--smoke",)])
def test_an_estimator_of_two_samples_needs_no_other_flag(smoke):
    path = trained("run", *smoke, "--estimator", "vimco")
    assert RunFolder(path).config().num_samples == 2


def test_a_free_scale_under_the_discrete_kl_is_warned_of_in_one_line(capsys):
    trained("run", "--scale", "free")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "use scale fixed, or kl relaxed" in warnings[0]


def test_a_joint_vae_is_trained_by_flags(capsys):
    path = trained(
        "run",
        *("--latent", "igr-sb-truncated", "--num-categories", "12", "--kl", "relaxed", "--track-gradients"),
        *("--continuous-dim", "3", "--continuous-capacity", "0", "5", "20"),
        *("--discrete-capacity", "0.5", "2", "10", "--capacity-weight", "4"),
    )
    config = RunFolder(path).config()
    assert (config.continuous_capacity, config.discrete_capacity) == ((0.0, 5.0, 20), (0.5, 2.0, 10))
    assert (config.continuous_dim, config.capacity_weight, config.track_gradients) == (3, 4.0, True)
    line = RunFolder(path).metrics()[-1]
    assert {"train_kl_discrete", "train_kl_continuous", "train_num_sticks"} <= line.keys()
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err


def test_the_capacities_of_a_file_are_those_of_flags():
    Path("settings.json").write_text(
        '{"continuous_dim": 3, "continuous_capacity": [0, 5, 20], "discrete_capacity": [0, 5, 20]}'
    )
    assert main(["train", "--out", "run", *TINY, "--config", "settings.json"]) == 0
    flags = ["--continuous-dim", "3", "--continuous-capacity", "0", "5", "20"]
    trained("other", *flags, "--discrete-capacity", "0", "5", "20")
    assert RunFolder("other").config() == RunFolder("run").config()
    assert RunFolder("other").metrics() == RunFolder("run").metrics()


@pytest.mark.parametrize("latent", ["igr-planar", "igr-sb", "gaussian"])
def test_a_latent_is_trained_by_name_under_a_readable_one(latent, capsys):
    flags = [] if latent == "gaussian" else ["--num-variables", "2", "--num-categories", "4"]
    arguments = ["train", "--network", "dense", "--epochs", "1", "--max-images", "50", *flags]
    assert main([*arguments, "--latent", latent]) == 0
    (path,) = Path("runs").iterdir()
    assert path.name.startswith(f"digits-dense-{latent}-")
    assert len(RunFolder(path).metrics()) == 1


BAD = {
    "planar": (
        ["--latent", "igr-planar", "--kl", "discrete"],
        "expected kl relaxed with the latent igr-planar, of which no exact discrete law is known",
    ),
    "option of another latent": (["--flow-layers", "3"], "expected no flow_layers with the latent igr"),
    "capacities alone": (
        ["--continuous-capacity", "0", "5", "20"],
        "expected continuous_capacity and discrete_capacity together",
    ),
    "half a capacity": (["--continuous-capacity", "0", "5"], "--continuous-capacity"),
    "absent prior": (["--prior", "absent.json"], "expected a prior written by igr prior at "),
    "data": (["--data", "mnits"], "got 'mnits'; did you mean mnist?"),
    "network": (["--network", "dence"], "did you mean dense?"),
    "latent": (["--latent", "gumbel"], "did you mean gumbel-softmax?"),
    "kl": (["--kl", "exact"], "expected kl to be one of discrete, relaxed; got 'exact'"),
    "negative temperature": (["--temperature", "-1"], "expected temperature to be a finite number"),
    "zero temperature": (["--temperature", "0"], "above 0; got 0.0"),
    "one category": (["--num-categories", "1"], "expected num_categories to be a whole number of"),
    "word for a number": (
        ["--epochs", "many"],
        "expected --epochs to be a whole number; got 'many'; see igr train --help",
    ),
    "word for a temperature": (
        ["--temperature", "low"],
        "expected --temperature to be a number; got 'low'",
    ),
    "fraction": (["--epochs", "1.5"], "expected --epochs to be a whole number; got '1.5'"),
    "unknown flag": (["--epoks", "3"], "got --epoks; did you mean --epochs?"),
    "strange flag": (["--qqq"], "got --qqq; see igr train --help"),
    "no value": (["--epochs"], "expected a value after --epochs; got none"),
    "stray word": (["fast"], "expected no more arguments; got fast"),
    "scale of gumbel-softmax": (
        ["--latent", "gumbel-softmax", "--scale", "free"],
        "expected no scale with the latent gumbel-softmax",
    ),
    "data folder": (["--data-dir", "x"], "expected no data folder for digits"),
    "absent file": (["--config", "absent.json"], "expected a JSON file at absent.json"),
    "absent run": (["--resume", "absent"], "got absent, which does not exist"),
    "absent device": (["--device", "cuda:99"], "got cuda:99, but torch sees"),
    "resume elsewhere": (["--resume", "a", "--out", "b"], "expected --resume without --out"),
    "resume small": (["--resume", "a", "--smoke"], "expected --resume without --smoke"),
}


@pytest.mark.parametrize(("flags", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_sentence_and_leaves_nothing(refused, flags, message):
    assert message in refused("train", *flags)
    assert not list(Path().iterdir())


def test_unknown_keys_of_a_file_are_named(refused):
    Path("settings.json").write_text('{"latnet": "igr"}')
    assert "got 'latnet'; did you mean latent?" in refused("train", "--config", "settings.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"config": {"seed": 1}, "epochs": 3}', "in settings.json; got config beside epochs"),
        ('{"config": null}', "expected config in settings.json to be settings by name; got null"),
    ],
)
def test_a_config_file_of_a_wrong_form_is_named(refused, text, said):
    Path("settings.json").write_text(text)
    assert said in refused("train", "--config", "settings.json")


@pytest.mark.parametrize(("kl", "name"), [("relaxed", "bound"), ("discrete", "objective")])
def test_what_is_no_bound_is_not_called_one(capsys, kl, name):
    trained("run", "--kl", kl)
    labels = [line.strip("│┃ ").split(" ")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"bound", "objective"} & set(labels) == {name}


@pytest.mark.parametrize(("kl", "name"), [("relaxed", "bound"), ("discrete", "objective")])
def test_the_bar_calls_no_bound_what_is_none(kl, name):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with ProgressBar(console, "starts") as bar:
        bar.begin(0, 10, 1)
        bar.epoch({"epoch": 1, "step": 10, "kl": kl, "train_bound": -20.0, "validation_bound": -21.0})
    assert f"{name} -20.00 (validation -21.00)" in console.file.getvalue()


def test_a_folder_that_is_not_empty_is_refused(refused, capsys):
    path = trained()
    capsys.readouterr()
    message = refused("train", "--out", str(path))
    assert f"go on with igr train --resume {path}" in message


def test_a_folder_that_cannot_be_written_is_refused(refused):
    Path("file").touch()
    message = refused("train", "--out", "file/run")
    assert "expected a folder that can be written for the run; got file/run" in message


def test_a_read_only_folder_is_refused(refused, monkeypatch):
    def refuse(self, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = refused("train", "--out", "run")
    assert "got run (Permission denied); make it writable, or choose another with --out" in message


def test_a_folder_that_another_process_uses_is_refused(refused):
    with RunFolder("run").locked():
        message = refused("train", "--out", "run")
    assert "got run, which another process is using" in message


def interrupted(path: str) -> None:
    step_of_epoch = loop.Loop._step

    def step(self, *arguments):
        step_of_epoch(self, *arguments)
        if self.step == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_step", step)
        assert main(["train", "--out", path, *TINY]) == 130


def test_an_interrupt_says_how_to_go_on_and_that_works(capsys):
    interrupted("run")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == (
        "igr train: stopped at step 20 of 26 with the checkpoint step-00000020.safetensors; "
        "go on with igr train --resume run"
    )
    assert main(["train", "--resume", "run", "--seed", "0"]) == 0
    assert "going on with run from step 20" in capsys.readouterr().err
    path = trained("unbroken")
    assert (path / "metrics.jsonl").read_bytes() == Path("run/metrics.jsonl").read_bytes()


def test_resuming_with_another_version_is_warned_of_in_one_line(capsys, monkeypatch):
    interrupted("run")
    capsys.readouterr()
    monkeypatch.setattr(igr, "__version__", "99.0")
    assert main(["train", "--resume", "run"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "and goes on with igr 99.0" in warnings[0]


def test_resuming_with_other_settings_names_them_with_both_values(refused, capsys):
    interrupted("run")
    capsys.readouterr()
    message = refused("train", "--resume", "run", "--seed", "1", "--temperature", "0.9")
    assert "temperature 0.4 in the run and 0.9 now; seed 0 in the run and 1 now" in message
    Path("other.json").write_text('{"learning_rate": 0.5}')
    message = refused("train", "--resume", "run", "--config", "other.json")
    assert "learning_rate 0.001 in the run and 0.5 now" in message


def test_resuming_a_finished_run_says_so(capsys):
    path = trained()
    before = (path / "result.json").read_bytes()
    capsys.readouterr()
    assert main(["train", "--resume", str(path)]) == 0
    assert "run has finished, there is nothing left to train" in capsys.readouterr().err
    assert (path / "result.json").read_bytes() == before


def test_a_checkpoint_of_a_wrong_shape_is_refused(capsys):
    interrupted("run")
    latest = RunFolder("run").latest_checkpoint()
    assert latest is not None
    names = {"model.encoder.1.weight": torch.zeros(2, 2)}
    state = {**loop.Loop(RunFolder("run"), RunFolder("run").config(), load("digits")).tensors(), **names}
    checkpoints.write(latest.parent, 20, 1, state)
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "expected model.encoder.1.weight with shape (9, 64)" in message
    assert "got shape (2, 2)" in message


def test_numbers_that_are_not_finite_end_with_1_and_the_cause(capsys):
    assert main(["train", "--out", "run", *TINY, "--learning-rate", "1e30"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "the likely cause is a learning rate too high (1e+30)" in message


def test_other_failures_are_one_line_and_a_traceback_only_on_request(capsys, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("a fault of ours\nin many lines")

    monkeypatch.setattr(loop, "train", fail)
    assert main(["train", "--out", "run"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith("ZeroDivisionError: a fault of ours; add --debug for the traceback")
    assert main(["train", "--out", "run", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_early_interrupt_ends_with_130(capsys, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", fail)
    assert main(["train", "--out", "run"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "igr train: interrupted"


def test_help_shows_each_setting_with_meaning_and_default(capsys):
    from dataclasses import fields

    from igr.training.config import TrainConfig

    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(TrainConfig):
        assert re.search(rf"--{field.name.replace('_', '-')}[ ,]", text)
    assert "(default: dense_nonlinear)" in text
    assert "Learning rate of Adam." in text


def test_the_command_itself(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"igr {igr.__version__}\n"
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(name in overview for name in ("train", "evaluate", "compare", "data"))
    assert main([]) == 2
    assert capsys.readouterr().err == overview


def test_an_unknown_command_offers_the_nearest(refused):
    assert "did you mean train?" in refused("trian")
