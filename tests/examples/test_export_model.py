"""Programs that torch.export makes of a trained VAE give what the VAE gives, for any number of images."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from example_files import load_example
from igr.models.latents import LATENTS
from igr.pretrained import from_pretrained, save_pretrained
from written_runs import CONFIGS, VAES, write_run_of

example = load_example("export_model")
# Traced code takes the plain form of a kernel, and not the fused one.
ROUNDING = {torch.float32: 2e-6, torch.float64: 1e-14}


def inputs(trained: Any, count: int) -> dict[str, tuple[Tensor, ...]]:
    """For each program so many of what it takes."""
    generator = Generator().manual_seed(count)
    latent, dtype = trained.model.latent, trained.config.dtype
    images = torch.rand(count, *trained.config.image_shape, generator=generator, dtype=dtype)
    noise = latent.draw_noise((count,), generator)
    points = torch.rand(count, latent.num_features, generator=generator, dtype=dtype)
    return {"encoder": (images,), "sampler": (images, noise), "decoder": (points,)}


def test_every_latent_is_among_them():
    assert {config.latent for config in VAES.values()} >= set(LATENTS)


@pytest.mark.parametrize(
    "name", [name if name == "igr" else pytest.param(name, marks=pytest.mark.slow) for name in VAES]
)
# By torch 2.11, of its own.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@torch.no_grad()
def test_programs_give_what_the_model_gives(tmp_path, name):
    write_run_of(VAES[name], tmp_path / "run")
    trained = from_pretrained(tmp_path / "run")
    paths = example.export(trained, tmp_path / "exported")
    own = {name: module for name, (module, _) in example.modules(trained).items()}
    for program, path in paths.items():
        loaded = torch.export.load(path).module()
        for count in (1, 2, 7):
            arguments = inputs(trained, count)[program]
            found, expected = loaded(*arguments), own[program](*arguments)
            torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING[VAES[name].dtype])
            if program == "encoder":
                assert found.keys() & {"logits", "loc", "gaussian_loc"}
                assert all(len(value) == count for value in found.values())
            else:
                assert len(found) == count
                assert found.std() > 0


LOADING = """
import sys, torch
folder = sys.argv[1]
encoder, sampler, decoder = (torch.export.load(f"{folder}/{name}.pt2").module()
                             for name in ("encoder", "sampler", "decoder"))
images, noise = torch.load(f"{folder}/inputs.pt")
print(sorted(encoder(images)))
torch.save(decoder(sampler(images, noise)), f"{folder}/outputs.pt")
print([name for name in sys.modules if name.startswith("igr")])
"""


@pytest.mark.slow
@torch.no_grad()
def test_another_process_needs_torch_alone(tmp_path):
    write_run_of(VAES["igr-planar"], tmp_path / "run")
    trained = from_pretrained(save_pretrained(tmp_path / "run", tmp_path / "model"))
    example.export(trained, tmp_path)
    images, noise = inputs(trained, 5)["sampler"]
    torch.save((images, noise), tmp_path / "inputs.pt")
    program = [sys.executable, "-I", "-c", LOADING, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['loc', 'scale']", "[]"]
    latent = trained.model.latent
    posterior = trained.model.encode(images, trained.temperature)
    expected = trained.decode(latent.points(posterior, noise)).mean
    torch.testing.assert_close(torch.load(tmp_path / "outputs.pt"), expected, rtol=0, atol=2e-6)


def test_the_script_exports_a_folder(tmp_path, capsys):
    write_run_of(VAES["igr"], tmp_path / "run")
    example.main([str(tmp_path / "run"), "--out", str(tmp_path / "exported")])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "encoder.pt2 gives loc (7, 2, 2), scale (7, 2, 2) for images (7, 1, 8, 8)"
    assert float(out[-1].rpartition(" ")[2]) < ROUNDING[VAES["igr"].dtype]
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {
        "encoder.pt2",
        "sampler.pt2",
        "decoder.pt2",
    }


@pytest.mark.slow
def test_the_script_trains_where_no_folder_is_given(tmp_path, capsys):
    example.main(["--out", str(tmp_path / "exported")])
    assert "points (7, 20)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sop-igr", None])
def test_what_is_no_vae_is_refused(tmp_path, name, capsys):
    if name is not None:
        write_run_of(CONFIGS[name], tmp_path / "run")
    with pytest.raises(SystemExit) as caught:
        example.main([str(tmp_path / "run"), "--out", str(tmp_path / "exported")])
    assert caught.value.code == 2
    sentence = "expected a VAE; got the model sop" if name else "which does not exist"
    assert sentence in capsys.readouterr().err
    assert not Path(tmp_path / "exported").exists()
