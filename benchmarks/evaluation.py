"""Bounds with 1,000 samples of each image, beside the products of matrices that they cannot do without.

    python benchmarks/evaluation.py [--device cuda]

The model is the default one for MNIST (``dense_nonlinear``, 20 variables with 10 categories), with its
first weights, which cost what any others cost; the images are random. The baseline is the decoder's linear
layers alone, on as many rows, in chunks of the same size: of a latent of IGR three times (relaxed points,
vertices of the exact law, vertices of the pre-image), of Gumbel-Softmax twice. That includes the product of
one-hot vectors with the first layer, which the evaluation looks up instead.

The peak is that of the resident set of a process which evaluates 320 images and does nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from harness import Timing, compare, parser, save, show
from igr.evaluation.bounds import per_datum_bounds
from igr.evaluation.samples import DATA_PER_DRAW, ELEMENT_BUDGET
from igr.models.vae import VAE
from igr.training.build import build_vae
from igr.training.config import TrainConfig

SHAPE = (1, 28, 28)
SAMPLES = 1000
PASSES = {"igr": 3, "gumbel-softmax": 2}


def model_of(latent: str, device: str) -> tuple[VAE, float]:
    config = TrainConfig(data="mnist", latent=latent, device=device).resolved()
    return build_vae(config, SHAPE).to(device).eval(), config.posterior_temperature


def images(count: int, device: str) -> torch.Tensor:
    drawn = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))
    return (drawn < 0.2).float().to(device)


def products(model: VAE, passes: int, device: str) -> Callable[[], None]:
    """The linear layers of the decoder on as many rows as an evaluation of 32 images has, in its chunks."""
    layers = [layer for layer in model.decoder if isinstance(layer, torch.nn.Linear)]
    per_chunk = ELEMENT_BUDGET // (784 * DATA_PER_DRAW)
    chunks = [per_chunk] * (SAMPLES // per_chunk) + [SAMPLES % per_chunk] * (SAMPLES % per_chunk > 0)
    inputs = {
        size: [torch.rand(size * DATA_PER_DRAW, layer.in_features, device=device) for layer in layers]
        for size in set(chunks)
    }

    @torch.no_grad()
    def run() -> None:
        for _ in range(passes):
            for size in chunks:
                for layer, rows in zip(layers, inputs[size], strict=True):
                    layer(rows)

    return run


def peak() -> float:
    """MiB of the largest resident set of this process so far, without that of the process which began it."""
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def evaluate_and_tell() -> None:
    """In a process of its own: the peak before and after an evaluation."""
    model, temperature = model_of("igr", "cpu")
    before = peak()
    per_datum_bounds(model, images(320, "cpu"), temperature, num_samples=SAMPLES)
    print(before, peak())


def peaks() -> tuple[float, float]:
    found = subprocess.run(
        [sys.executable, "-c", "import evaluation; evaluation.evaluate_and_tell()"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    before, after = map(float, found.stdout.split())
    return before, after


def main() -> None:
    device = parser(__doc__, device=True).parse_args().device
    tables: dict[str, list[Timing]] = {}
    x = images(DATA_PER_DRAW, device)
    for latent, passes in PASSES.items():
        model, temperature = model_of(latent, device)

        def bounds(model: VAE = model, temperature: float = temperature) -> object:
            return per_datum_bounds(model, x, temperature, num_samples=SAMPLES)

        baseline = "its products of matrices alone"
        timings = compare(
            {baseline: products(model, passes, device), "every bound": bounds}, baseline, device=device
        )
        title = f"{DATA_PER_DRAW} images with {SAMPLES} samples each, {latent}"
        show(title, timings)
        tables[title] = timings
    notes = (__doc__ or "").strip()
    if device == "cpu" and Path("/proc/self/status").is_file():
        before, after = peaks()
        line = (
            f"Peak memory of an evaluation of 320 images: {after:.0f} MiB, of which {before:.0f} before it."
        )
        print(f"\n{line}")
        notes = f"{notes}\n\n{line}"
    print(f"\nwritten: {save('evaluation', device, tables, notes)}")


if __name__ == "__main__":
    main()
