"""An epoch of MNIST through `igr` beside bare loops, as one would write them by hand, of the same networks.

    python benchmarks/train_epoch.py                     # downloads MNIST if it is not in the cache
    python benchmarks/train_epoch.py --data-dir FOLDER   # reads FOLDER/mnist once
    python benchmarks/train_epoch.py --device cuda

The bare loops are plain torch with fused Adam on images that lie in memory as float32; at the end of the
epoch they validate on the same 5,000 images, and they write nothing. `igr` is timed as a whole run of one
epoch: opening the data, validation, event files for TensorBoard, checkpoint and result included.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import load_mnist, machine, measure, parser, save, show, summarize
from igr.data import prepare
from igr.training.config import TrainConfig
from igr.training.loop import train

BATCH, V, K = 100, 20, 10
# The mean of the uniform law of IGR-I with ten categories.
UNIFORM_LOC = -0.7531


def networks(num_outputs: int) -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, num_outputs)
    )
    decoder = nn.Sequential(
        nn.Linear(V * K, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 784)
    )
    return encoder, decoder


def igr_terms(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Points of IGR-I at temperature 0.15, and the KL of the Gaussians."""
    offset, log_scale = outputs.view(-1, V, 2 * (K - 1)).chunk(2, dim=-1)
    scale = log_scale.exp()
    y = offset + UNIFORM_LOC + scale * torch.randn_like(offset)
    z = torch.softmax(F.pad(y / 0.15, (0, 1)), dim=-1)
    return z, (0.5 * (offset**2 + scale**2 - 1) - log_scale).sum((-2, -1))


def gumbel_terms(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Points of Gumbel-Softmax at temperature 0.67, and the KL of the discrete laws."""
    log_q = outputs.view(-1, V, K).log_softmax(-1)
    kl = (log_q.exp() * (log_q + math.log(K))).sum((-2, -1))
    return F.gumbel_softmax(log_q, tau=0.67), kl


def bare_epoch(
    images: Tensor, held_out: Tensor, num_outputs: int, terms: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> Callable[[], float]:
    encoder, decoder = (network.to(images.device) for network in networks(num_outputs))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)

    def loss_of(x: Tensor) -> Tensor:
        z, kl = terms(encoder(x))
        logits = decoder(z.flatten(1))
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return (reconstruction + kl).mean()

    def epoch() -> float:
        for rows in torch.randperm(len(images), device=images.device).split(BATCH):
            loss = loss_of(images[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return sum(loss_of(x).item() for x in held_out.split(500))

    return epoch


BARE_IGR, BARE_GUMBEL = "bare loop, IGR-I, relaxed KL", "bare loop, gumbel_softmax, discrete KL"
RELAXED, DISCRETE = "igr, IGR-I, relaxed KL (closed form)", "igr, IGR-I, discrete KL (exact law)"
FIXED = "igr, IGR-I with scale 1, relaxed KL (closed form)"
GUMBEL = "igr, Gumbel-Softmax, discrete KL"
CONFIGS = {
    RELAXED: TrainConfig(latent="igr", kl="relaxed"),
    FIXED: TrainConfig(latent="igr", kl="relaxed", scale="fixed"),
    DISCRETE: TrainConfig(latent="igr", kl="discrete"),
    GUMBEL: TrainConfig(latent="gumbel-softmax", kl="discrete"),
}


def main() -> None:
    arguments = parser(__doc__, device=True, data_dir=True).parse_args()
    device = arguments.device
    dataset = load_mnist(arguments.data_dir)
    images, held_out = (
        prepare(split.images, "bernoulli").flatten(1).to(device)
        for split in (dataset.train, dataset.validation)
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = (Path(folder) / str(number) for number in itertools.count())

        def run(config: TrainConfig) -> Callable[[], object]:
            settings = {**config.to_json(), "data": "mnist", "epochs": 1, "device": device}
            return lambda: train(TrainConfig.from_json(settings), next(paths))

        candidates = {
            BARE_IGR: bare_epoch(images, held_out, V * 2 * (K - 1), igr_terms),
            BARE_GUMBEL: bare_epoch(images, held_out, V * K, gumbel_terms),
            **{name: run(config) for name, config in CONFIGS.items()},
        }
        seconds = measure(candidates, device=device, warmups=1)
    where = (
        f"one epoch of {len(images):,} images in batches of {BATCH}, dense_nonlinear, {V} variables, K = {K}"
    )
    pairs = {
        f"{where}: against the bare loop": (BARE_IGR, RELAXED),
        f"{where}: against the bare loop with gumbel_softmax": (BARE_GUMBEL, GUMBEL),
        f"{where}: exact law against closed form": (RELAXED, FIXED, DISCRETE),
        f"{where}: exact law against the bare loop with the closed form": (BARE_IGR, DISCRETE),
    }
    tables = {
        title: summarize({name: seconds[name] for name in names}, names[0]) for title, names in pairs.items()
    }
    print(machine(device))
    for title, timings in tables.items():
        show(title, timings)
    print(f"\nwritten: {save('train_epoch', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
