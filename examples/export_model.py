"""Exports a trained VAE by torch.export: three .pt2 files that run wherever torch does, without igr.

    python examples/export_model.py                            # trains a small VAE on digits first
    python examples/export_model.py FOLDER --out exported      # a run, or what igr export wrote

Each takes any number of images at once. What is random is an argument: the noise.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from igr.errors import UserError
from igr.models.vae import VAE
from igr.pretrained import AnyTrained, TrainedVAE, from_pretrained
from igr.training.config import TrainConfig
from igr.training.loop import train

# With these the three files have one batch size each, whatever it is.
BATCH = Dim("batch", min=1)


class Encoder(nn.Module):
    """Images [B, C, H, W] to the parameters of their posteriors, by name."""

    def __init__(self, model: VAE, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        discrete, continuous = self.model.latent.parts_of(self.model.encode(images, self.temperature))
        found = {}
        if discrete is not None:
            names = [name for name in ("logits", "loc", "scale") if hasattr(discrete, name)]
            found |= {name: getattr(discrete, name) for name in names}
        if continuous is not None:
            found |= {"gaussian_loc": continuous.loc, "gaussian_scale": continuous.scale}
        return found


class Sampler(nn.Module):
    """Images [B, C, H, W] and noise to points as the decoder takes them, [B, F].

    With V categorical variables they are V times K weights.
    """

    def __init__(self, model: VAE, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        latent = self.model.latent
        return latent.features(latent.points(self.model.encode(images, self.temperature), noise))


class Decoder(nn.Module):
    """Points [B, F] to mean images [B, C, H, W]."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return self.model.likelihood.law(self.model.decoder(points)).mean


def modules(trained: TrainedVAE) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """What is exported, by the name of the file, and an example of what it takes."""
    latent, like = trained.model.latent, next(trained.model.parameters())
    images = like.new_zeros(2, *trained.config.image_shape)
    noise = latent.draw_noise((2,))
    points = like.new_zeros(2, latent.num_features)
    return {
        "encoder": (Encoder(trained.model, trained.temperature), (images,)),
        "sampler": (Sampler(trained.model, trained.temperature), (images, noise)),
        "decoder": (Decoder(trained.model), (points,)),
    }


def export(trained: TrainedVAE, folder: Path) -> dict[str, Path]:
    """Writes the files into a folder, which is made if need be; returns them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, (module, example) in modules(trained).items():
        dynamic_shapes: Any = tuple({0: BATCH} for _ in example)
        program = torch.export.export(module.eval(), example, dynamic_shapes=dynamic_shapes)
        paths[name] = folder / f"{name}.pt2"
        torch.export.save(program, paths[name])
    return paths


def small_run() -> AnyTrained:
    """A small VAE, trained on digits in a few seconds."""
    config = TrainConfig(network="dense", num_variables=4, num_categories=5, epochs=5, tensorboard=False)
    with tempfile.TemporaryDirectory() as folder:
        train(config.resolved(), Path(folder) / "run")
        return from_pretrained(Path(folder) / "run")


def main(argv: list[str] | None = None) -> None:
    """Exports, loads what was written, and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a run, or what igr export wrote")
    parser.add_argument("--out", type=Path, default=Path("exported"), help="where the files go")
    arguments = parser.parse_args(argv)
    try:
        trained = small_run() if arguments.folder is None else from_pretrained(arguments.folder)
    except UserError as error:
        parser.error(str(error))
    if not isinstance(trained, TrainedVAE):
        parser.error(f"expected a VAE; got the model {trained.config.model}; name another folder")

    paths = export(trained, arguments.out)
    encoder, sampler, decoder = (
        torch.export.load(paths[name]).module() for name in ("encoder", "sampler", "decoder")
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(7, *trained.config.image_shape, generator=generator).round().to(trained.config.dtype)
    with torch.no_grad():
        latent = trained.model.latent
        shown = ", ".join(f"{name} {tuple(value.shape)}" for name, value in encoder(images).items())
        print(f"encoder.pt2 gives {shown} for images {tuple(images.shape)}")
        noise = latent.draw_noise((len(images),), generator)
        points = sampler(images, noise)
        print(f"sampler.pt2 gives points {tuple(points.shape)} for noise {tuple(noise.shape)}")
        means = decoder(points)
        print(f"decoder.pt2 gives images {tuple(means.shape)}")
        points = latent.features(latent.points(trained.encode(images), noise))
        distance = (means - Decoder(trained.model)(points)).abs().max()
        print(f"igr's own images differ by at most {distance:.1e}")


if __name__ == "__main__":
    main()
