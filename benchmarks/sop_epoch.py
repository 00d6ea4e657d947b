"""Epochs of structured output prediction on MNIST through `igr` beside bare loops, as one would write them.

    python benchmarks/sop_epoch.py                     # downloads MNIST if it is not in the cache
    python benchmarks/sop_epoch.py --data-dir FOLDER   # reads FOLDER/mnist once
    python benchmarks/sop_epoch.py --device cuda

The network is double_linear, with one sample an image. The bare loops are plain torch with fused Adam on
images that lie in memory as float32; at the end of an epoch they find the bound of the relaxed model on the
same 5,000 images, and they write nothing. `igr` is timed as a whole run of three epochs, of two to three
seconds each: opening the data, validation of the relaxed and of the discrete model, event files and pictures
for TensorBoard, checkpoint and result included.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import load_mnist, machine, measure, parser, save, show, summarize
from igr.data import prepare
from igr.training.loop import train
from igr.training.sop_config import SOPConfig

BATCH, UNITS, HALF = 100, 240, 392
# Of a run that is timed, so that its start and end are a small part of it.
EPOCHS = 3
TEMPERATURE = 1.0


def gaussian(outputs: Tensor) -> Tensor:
    """Relaxed units of IGR-I with scale one, in (-1, 1)."""
    return torch.tanh((outputs + torch.randn_like(outputs)) / (2 * TEMPERATURE))


def concrete(outputs: Tensor) -> Tensor:
    """The same of the binary Concrete law."""
    noise = torch.logit(torch.rand_like(outputs), eps=1e-7)
    return torch.tanh((outputs + noise) / (2 * TEMPERATURE))


def bare_run(images: Tensor, held_out: Tensor, units: Callable[[Tensor], Tensor]) -> Callable[[], float]:
    layers = nn.ModuleList([nn.Linear(HALF, UNITS), nn.Linear(UNITS, UNITS), nn.Linear(UNITS, HALF)])
    layers.to(images.device)
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3, fused=True)

    def loss_of(x: Tensor) -> Tensor:
        known, wanted = x[:, :HALF], x[:, HALF:]
        h = units(layers[1](units(layers[0](2 * known - 1))))
        loss = F.binary_cross_entropy_with_logits(layers[2](h), wanted, reduction="none")
        return loss.sum(-1).mean()

    def epoch(first: int) -> float:
        for step, rows in enumerate(torch.randperm(len(images), device=images.device).split(BATCH), first):
            optimizer.param_groups[0]["lr"] = max(1e-3 / (1 + 1e-3 * step), 1e-4)
            loss = loss_of(images[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return sum(loss_of(x).item() for x in held_out.split(500))

    return lambda: sum(epoch(number * len(images) // BATCH) for number in range(EPOCHS))


LATENTS = {
    "igr": ("bare loop, IGR-I", gaussian),
    "gumbel-softmax": ("bare loop, binary Concrete", concrete),
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

        def run(**settings: object) -> Callable[[], object]:
            config = SOPConfig.from_json({"data": "mnist", "epochs": EPOCHS, "device": device, **settings})
            return lambda: train(config, next(paths))

        candidates: dict[str, Callable[[], object]] = {}
        for latent, (name, units) in LATENTS.items():
            candidates[name] = bare_run(images, held_out, units)
            candidates[f"igr, {latent}"] = run(latent=latent, temperature=TEMPERATURE)
        candidates["igr, igr, straight-through"] = run(temperature=TEMPERATURE, straight_through=True)
        candidates["igr, igr-planar"] = run(latent="igr-planar", temperature=TEMPERATURE)
        seconds = measure(candidates, device=device, warmups=1)
    where = (
        f"{EPOCHS} epochs of {len(images):,} images in batches of {BATCH}, double_linear, one sample an image"
    )
    tables = {}
    for latent, (name, _) in LATENTS.items():
        names = [name, *(key for key in candidates if key.startswith(f"igr, {latent}"))]
        tables[f"{where}: {latent}"] = summarize({key: seconds[key] for key in names}, name)
    print(machine(device))
    for title, timings in tables.items():
        show(title, timings)
    print(f"\nwritten: {save('sop_epoch', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
