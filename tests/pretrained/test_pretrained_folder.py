"""Folders of trained models: whole, read back to the same bits, or refused in one sentence."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from igr.errors import UserError
from igr.fitting import fit
from igr.pretrained import Trained, from_pretrained, save_pretrained
from igr.training import checkpoints
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run
from written_runs import CONFIGS, EPOCH, STEP, VAES, vae, write_run_of

NAMES = ["README.md", "config.json", "model.safetensors"]


def outputs(model: Any, x: Tensor) -> list[Tensor]:
    """What a pass through a model gives, whatever model it is."""
    generator = torch.Generator().manual_seed(0)
    shape = (getattr(model, "draws_per_sample", 1), len(x))
    draw = model.latent.draw_noise if hasattr(model, "latent") else model.draw_noise
    noise = draw(shape, generator=generator)
    with torch.no_grad():
        terms = model(x, noise, 0.3)
    return [value for value in terms if isinstance(value, Tensor)]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_that_was_passed_on_gives_the_same_bits(tmp_path, name):
    config = CONFIGS[name]
    model = write_run_of(config, tmp_path / "run")
    assert save_pretrained(tmp_path / "run", tmp_path / "model") == tmp_path / "model"
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == NAMES
    shutil.move(tmp_path / "run", tmp_path / "gone")
    images = torch.randint(0, 256, (4, *config.image_shape), dtype=torch.uint8)
    for folder in ("model", "gone"):
        trained = from_pretrained(tmp_path / folder)
        assert (trained.step, trained.epoch) == (STEP, EPOCH)
        assert trained.config == config
        assert not trained.model.training
        x = trained.prepare(images)
        for found, expected in zip(outputs(trained.model, x), outputs(model, x), strict=True):
            assert torch.equal(found, expected)
            assert found.isfinite().all()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run_of(VAES["igr"], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    return save_pretrained(run, tmp_path / "model")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_sources_are_written_alike(run, model, tmp_path):
    save_pretrained(load_run(run), tmp_path / "of a loaded run")
    save_pretrained(from_pretrained(model), tmp_path / "of a folder")
    save_pretrained(str(run), str(tmp_path / "of a name"))
    for name in ("of a loaded run", "of a folder", "of a name"):
        assert contents(tmp_path / name) == contents(model)


def test_nothing_of_the_machine_is_passed_on(tmp_path):
    config = replace(VAES["igr"], data_dir=str(tmp_path / "secret"))
    write_run_of(config, tmp_path / "run")
    for data in contents(save_pretrained(tmp_path / "run", tmp_path / "model")).values():
        assert b"secret" not in data
        assert str(tmp_path).encode() not in data


@pytest.mark.parametrize("family", ["igr", pytest.param("igr-planar", marks=pytest.mark.slow)])
def test_a_fitted_prior_goes_along(tmp_path, family, monkeypatch):
    options = {"num_iterations": 3, "num_samples": 100} if family == "igr-planar" else {}
    fit([0.2, 0.3, 0.5], family, **options).save(tmp_path / "prior.json")
    write_run_of(vae(latent=family, prior=str(tmp_path / "prior.json")), tmp_path / "run")
    (tmp_path / "prior.json").unlink()
    save_pretrained(tmp_path / "run", tmp_path / "model")
    shutil.move(tmp_path / "run", tmp_path / "gone")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted([*NAMES, "prior.json"])
    # A path of its own, wherever one stands.
    monkeypatch.chdir(tmp_path)
    law = from_pretrained("model").model.latent.discrete_prior()
    expected = torch.tensor([[0.2, 0.3, 0.5]]).expand(2, 3)
    torch.testing.assert_close(law.probs, expected, atol=1e-5 if family == "igr" else 0.2, rtol=0)
    assert save_pretrained(from_pretrained("model"), "again").is_dir()
    assert (tmp_path / "again/prior.json").read_bytes() == (tmp_path / "model/prior.json").read_bytes()
    # Whatever is said of it, it is the file in the folder.
    changed(prior="/etc/passwd")(tmp_path / "model")
    assert torch.equal(from_pretrained("model").model.latent.discrete_prior().probs, law.probs)
    (tmp_path / "model/prior.json").unlink()
    with pytest.raises(UserError, match=r"expected prior.json in model, .* got no such file"):
        from_pretrained("model")


def test_the_newest_whole_checkpoint_of_a_run_is_taken(run, tmp_path):
    first = run / "checkpoints/step-00000004.safetensors"
    expected = load_file(first)
    other = {name: tensor + 1 for name, tensor in expected.items()}
    checkpoints.write(run / "checkpoints", 6, 3, other)
    assert from_pretrained(run).step == 6
    newest = run / "checkpoints/step-00000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(
        UserWarning, match=r"broken file .*the model is that of step-00000004.*, which is whole"
    ):
        trained = from_pretrained(run)
    assert trained.step == 4
    assert torch.equal(trained.model.state_dict()["encoder.1.bias"], expected["model.encoder.1.bias"])
    first.write_bytes(b"")
    with pytest.raises(UserError, match="expected a whole checkpoint"):
        from_pretrained(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="which has none yet"):
        save_pretrained(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_that_training_removes_meanwhile_is_passed_over(run, monkeypatch):
    """As one is found, the next is written and it goes."""
    real, found = checkpoints.newest_whole, []

    def newest_whole(folder: Path, use: str) -> Any:
        newest, damaged = real(folder, use)
        found.append(newest)
        if len(found) == 1:
            tensors = load_file(newest)
            newest.unlink()
            checkpoints.write(folder, 6, 3, tensors)
        return newest, damaged

    monkeypatch.setattr(checkpoints, "newest_whole", newest_whole)
    assert from_pretrained(run).step == 6
    assert len(found) == 2


def test_no_data_set_is_read(run, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("igr.data.load", refuse)
    save_pretrained(run, tmp_path / "model")
    from_pretrained(tmp_path / "model")


def test_a_folder_is_whole_or_not_there(run, tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "model").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("igr.atomic.write_json", fails)
        with pytest.raises(UserError, match=r"\(No space left on device\)"):
            save_pretrained(run, tmp_path / "model")
    assert [*(tmp_path / "model").iterdir()] == []
    assert {path.name for path in tmp_path.iterdir()} == {"run", "model"}
    save_pretrained(run, tmp_path / "model")
    with pytest.raises(UserError, match="which is not empty; choose another, or remove it"):
        save_pretrained(run, tmp_path / "model")


@pytest.mark.parametrize("step", ["README.md", "model.safetensors", "config.json", "removal"])
def test_what_a_killed_export_left_is_refused_and_replaced(run, tmp_path, step, monkeypatch):
    """At each move into a folder that is there; a process that is killed tidies nothing up."""
    out, other = tmp_path / "model", tmp_path / "other"
    write_run_of(vae(latent="gumbel-softmax"), other)
    out.mkdir()
    real = Path.rename

    def killed(path: Path, to: Path) -> Path:
        if path.name == step:
            raise KeyboardInterrupt
        return real(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr("igr.atomic._remove", lambda path: None)
        patch.setattr("igr.atomic.shutil.rmtree", lambda *_, **__: None)
        with contextlib.suppress(KeyboardInterrupt):
            save_pretrained(run, out)
    assert any(path.name.startswith(".unfinished-") for path in out.iterdir())
    if step == "removal":
        # All of it is there.
        assert from_pretrained(out).step == STEP
        with pytest.raises(UserError, match="which is not empty"):
            save_pretrained(other, out)
        return
    with pytest.raises(UserError, match="has not finished; wait for it, or if it was killed run it again"):
        from_pretrained(out)
    save_pretrained(other, out)
    assert sorted(path.name for path in out.iterdir()) == NAMES
    wanted = from_pretrained(other).model.state_dict()
    for name, tensor in from_pretrained(out).model.state_dict().items():
        assert torch.equal(tensor, wanted[name])


def test_parents_are_made_and_links_followed(run, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    monkeypatch.chdir(tmp_path)
    for path in ("link", "a/b/c", "d/"):
        assert from_pretrained(save_pretrained(run, path)).step == STEP
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/config.json").is_file()


def changed(**values: Any) -> Callable[[Path], None]:
    """Changes keys of config.json, ``None`` for one that goes."""

    def change(folder: Path) -> None:
        record = json.loads((folder / "config.json").read_text())
        for key, value in values.items():
            into = record["settings"] if key in record["settings"] else record
            into[key] = value
        record = {key: value for key, value in record.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(record))

    return change


def rewritten(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    """Writes other tensors, as other tools would."""

    def write(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return write


def flipped(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-9] ^= 16
    file.write_bytes(data)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])


def padded(folder: Path) -> None:
    """A file as long as if it had many more parameters."""
    with (folder / "model.safetensors").open("ab") as file:
        file.write(bytes(500_000))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (shutil.rmtree, "which does not exist; name a folder that igr export or igr train wrote"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "which has no config.json"),
    "no tensors": (lambda folder: (folder / "model.safetensors").unlink(), r"\(No such file or directory\)"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "expected a JSON file"),
    "large": (lambda folder: (folder / "config.json").write_bytes(b" " * 2**21), "at most 1,048,576 bytes"),
    "format": (changed(format=7), "expected a trained model of format 1 at .* got format 7"),
    "key": (changed(setings={}), "got 'setings'; did you mean settings?"),
    "model": (
        changed(model="vea"),
        "expected model to be one of dlgmm, sop, vae; got 'vea'; did you mean vae?",
    ),
    "step": (changed(step="four"), "expected a kind of model, its settings, and the step and epoch"),
    "settings": (changed(settings=None), "expected the folder of a run|expected a kind of model"),
    "value": (changed(latent="igrr"), "expected latent to be one of"),
    "prior": (changed(prior="/etc/passwd"), "says that the model has a fitted prior; got no such file"),
    "wider": (
        changed(num_variables=3),
        r"expected encoder.1.weight with shape \(6, 64\) and type F32 .* got",
    ),
    "far wider": (changed(num_variables=10**9), "bytes or more, at .* got 3,"),
    "far deeper": (
        lambda folder: (
            changed(latent="igr-planar", kl="relaxed", scale="free", flow_layers=40_000)(folder),
            padded(folder),
        ),
        "expected flow_layers to be a whole number from 1 to 1000; got 40000",
    ),
    "other latent": (changed(latent="igr-planar", kl="relaxed", scale="free"), "got no latent.flow"),
    "flipped": (flipped, "the numbers of .* are not those that were written"),
    "cut": (cut, "got a broken file .* write the folder anew with igr export"),
    "empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "or more, at .* got 0 bytes"),
    "fewer": (rewritten(lambda tensors: tensors.pop("decoder.0.bias")), "got no decoder.0.bias"),
    "more": (rewritten(lambda tensors: tensors.update(x=torch.ones(2))), "got a x that the model does not"),
    "type": (
        rewritten(lambda tensors: tensors.update({"decoder.0.bias": torch.ones(64, dtype=torch.float64)})),
        "expected decoder.0.bias with shape .* and type F32 .* and type F64; use both files of one folder",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_none_is_refused_in_one_sentence(model, name):
    change, sentence = FAULTS[name]
    change(model)
    with pytest.raises(UserError, match=sentence) as caught:
        from_pretrained(model)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(model):
    with pytest.raises(UserError, match="which is a file and no folder"):
        from_pretrained(model / "README.md")


@pytest.mark.parametrize("call", ["is_file", "iterdir"])
def test_a_folder_that_may_not_be_looked_into_is_refused(model, call, monkeypatch):
    """Listed but not entered, or entered but not listed."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (model / "config.json").unlink()
    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(UserError, match=r"which cannot be looked into \(Permission denied\); check its"):
        from_pretrained(model)


def test_a_folder_is_told_from_a_run(model, tmp_path):
    with pytest.raises(
        UserError, match="which has a trained model alone, as igr export writes it; name the run"
    ):
        save_pretrained(model, tmp_path / "again")
    with pytest.raises(UserError, match="which has a trained model alone"):
        RunFolder(model).config()


def test_tensors_that_others_wrote_are_read(model):
    expected = from_pretrained(model)
    rewritten(lambda tensors: None)(model)
    found = from_pretrained(model)
    assert isinstance(found, Trained)
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)


def test_a_device_that_is_not_there_is_refused(model, run):
    for folder in (model, run):
        with pytest.raises(UserError, match="expected a device of this machine; got cuda:77"):
            from_pretrained(folder, device="cuda:77")
        with pytest.raises(UserError, match="expected device to be cpu, cuda or cuda:N; got 'gpu'"):
            from_pretrained(folder, device="gpu")
