"""The folder of a trained model is one that huggingface_hub reads and writes; nothing goes over a network."""

import hashlib
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, of the extra interoperability")

from huggingface_hub import ModelCard, PyTorchModelHubMixin  # noqa: E402

from example_files import load_example  # noqa: E402
from igr.fitting import fit  # noqa: E402
from igr.models.networks import Networks  # noqa: E402
from igr.models.vae import VAE  # noqa: E402
from igr.pretrained import from_pretrained, save_pretrained  # noqa: E402
from igr.training.build import build_vae  # noqa: E402
from igr.training.config import TrainConfig  # noqa: E402
from written_runs import CONFIGS, VAES, vae, write_run_of  # noqa: E402

example = load_example("share_on_hub")
SHA = "0123456789abcdef0123456789abcdef01234567"


def model_of(name: str, folder: Path) -> Path:
    write_run_of(CONFIGS[name], folder / f"run of {name}")
    return save_pretrained(folder / f"run of {name}", folder / name)


def same(first: Any, second: Any) -> None:
    assert first.config == second.config
    assert (first.step, first.epoch) == (second.step, second.epoch)
    expected = second.model.state_dict()
    found = first.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["igr", "igr-planar", "jointvae", "sop-igr-planar", "dlgmm-igr"])
def test_a_class_of_the_hub_reads_and_writes_the_folder(tmp_path, name):
    folder = model_of(name, tmp_path)
    shared = example.SharedModel.from_pretrained(str(folder))
    same(shared.trained, from_pretrained(folder))
    shared.save_pretrained(tmp_path / "again")
    same(from_pretrained(tmp_path / "again"), shared.trained)
    for file in ("config.json", "model.safetensors"):
        first, second = (json_or_bytes(path / file) for path in (folder, tmp_path / "again"))
        assert first == second
    same(example.SharedModel.from_pretrained(tmp_path / "again", device="cpu").trained, shared.trained)


def json_or_bytes(path: Path) -> Any:
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()


def test_the_card_is_one_of_the_hub(tmp_path):
    card = ModelCard.load(model_of("igr", tmp_path) / "README.md")
    assert card.data.library_name == "igr"
    assert card.data.tags == ["igr", "vae", "discrete-latent-variables"]
    assert card.text.startswith("\n# digits-dense-igr-discrete")


class SharedVAE(VAE, PyTorchModelHubMixin, library_name="igr"):  # type: ignore[misc, call-arg]
    """A VAE that Hugging Face's own mixin builds, reads and writes; keys of config.json are its arguments."""

    def __init__(
        self, model: str, settings: dict[str, Any], step: int, epoch: int, format: int, igr: str, torch: str
    ) -> None:
        config = TrainConfig.from_json(settings).resolved()
        made = build_vae(config, config.image_shape)
        networks = Networks(made.encoder, made.decoder)
        super().__init__(networks, made.latent, made.likelihood, made.kl, made.straight_through)


@pytest.mark.parametrize("name", ["igr", "igr-planar", "gumbel-softmax", "joint"])
def test_the_mixin_of_torch_models_reads_and_writes_it_by_itself(tmp_path, name, capsys):
    folder = model_of(name, tmp_path)
    # Other names would be told, and not passed over.
    shared = SharedVAE.from_pretrained(folder, strict=True)
    trained = from_pretrained(folder)
    x = torch.rand(3, *trained.config.image_shape)
    noise = trained.model.latent.draw_noise((1, 3))
    for found, expected in zip(shared(x, noise, 0.3)[:3], trained.model(x, noise, 0.3)[:3], strict=True):
        assert torch.equal(found, expected)
    shared.save_pretrained(tmp_path / "again")
    same(from_pretrained(tmp_path / "again"), trained)


def in_cache(folder: Path, cache: Path, repo_id: str) -> None:
    """Puts a folder into the cache of huggingface_hub, where files are links to what they hold."""
    root = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = root / "snapshots" / SHA
    for path in (snapshot, root / "blobs", root / "refs"):
        path.mkdir(parents=True)
    (root / "refs/main").write_text(SHA)
    for path in folder.iterdir():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)


def test_a_snapshot_of_the_hub_is_read_where_it_lies(tmp_path):
    fit([0.2, 0.3, 0.5], "igr").save(tmp_path / "prior.json")
    write_run_of(vae(prior=str(tmp_path / "prior.json")), tmp_path / "run")
    folder = save_pretrained(tmp_path / "run", tmp_path / "model")
    in_cache(folder, tmp_path / "hub", "user/name")
    options = {"cache_dir": tmp_path / "hub", "local_files_only": True}
    expected = from_pretrained(folder).model.state_dict()
    for trained in (
        example.download("user/name", **options),
        example.SharedModel.from_pretrained("user/name", **options).trained,
    ):
        found = trained.model.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        law = trained.model.latent.discrete_prior()
        torch.testing.assert_close(law.probs[0], torch.tensor([0.2, 0.3, 0.5]), atol=1e-5, rtol=0)


def test_the_whole_folder_is_uploaded(tmp_path):
    write_run_of(VAES["igr"], tmp_path / "run")
    uploaded = {}

    def upload_folder(*, repo_id: str, folder_path: Path) -> str:
        uploaded[repo_id] = sorted(path.name for path in folder_path.iterdir())
        return f"https://there/{repo_id}"

    api = SimpleNamespace(
        create_repo=lambda repo_id, exist_ok: SimpleNamespace(repo_id=repo_id), upload_folder=upload_folder
    )
    assert example.upload(tmp_path / "run", "user/name", api) == "https://there/user/name"
    assert uploaded == {"user/name": ["README.md", "config.json", "model.safetensors"]}
    # What stands for it here has the methods and arguments of the real one.
    for method, names in (
        ("create_repo", {"repo_id", "exist_ok"}),
        ("upload_folder", {"repo_id", "folder_path"}),
    ):
        assert names <= set(inspect.signature(getattr(hub.HfApi, method)).parameters)


def test_a_mistake_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        example.main(["upload", str(tmp_path / "rnu"), "user/name"])
    assert "expected the folder of a run; got" in capsys.readouterr().err
