"""A training epoch on `digits`: the exact discrete KL of IGR-I beside the closed form, and Gumbel-Softmax.

    python benchmarks/train_epoch.py

Whole runs through ``igr.training.loop.train``, validation, checkpoint and files included.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import compare, save, show
from igr.training.config import TrainConfig
from igr.training.loop import train

EPOCHS = 5

CONFIGS = {
    "igr, relaxed KL (closed form)": TrainConfig(latent="igr", kl="relaxed", scale="fixed", epochs=EPOCHS),
    "igr, discrete KL (exact law)": TrainConfig(latent="igr", kl="discrete", scale="fixed", epochs=EPOCHS),
    "gumbel-softmax, relaxed KL (sampled)": TrainConfig(latent="gumbel-softmax", kl="relaxed", epochs=EPOCHS),
    "gumbel-softmax, discrete KL (closed form)": TrainConfig(
        latent="gumbel-softmax", kl="discrete", epochs=EPOCHS
    ),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = (Path(folder) / str(number) for number in itertools.count())

        def run(config: TrainConfig) -> Callable[[], object]:
            return lambda: train(config, next(paths))

        candidates = {name: run(config) for name, config in CONFIGS.items()}
        timings = compare(candidates, "igr, relaxed KL (closed form)", block_seconds=1.0)
    title = f"{EPOCHS} epochs of 1,300 images in batches of 100, dense_nonlinear, 20 variables, K = 10"
    show(title, timings)
    print(f"\nwritten: {save('train_epoch', 'cpu', {title: timings}, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
