"""Runs that differ in temperature and seed: trained one after the other, and as replicas.

    python benchmarks/replicas.py
    python benchmarks/replicas.py --device cuda        # on MNIST; --data-dir FOLDER reads FOLDER/mnist once

35 runs, seven temperatures and five seeds each, of the network dense_nonlinear in batches of 100. One after
the other 5 of them are timed, since they are all alike; all have the same number of epochs, and everything a
run does is counted: opening, validation, checkpoint and result. On the CPU the data are the embedded digits.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import load_mnist, machine, measure, parser, save, show, summarize
from igr.training.config import TrainConfig
from igr.training.loop import train
from igr.training.replicas import train_replicas

TEMPERATURES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.67)
SEEDS = range(5)
ALONE = 5
EPOCHS = {"digits": 10, "mnist": 2}


def main() -> None:
    arguments = parser(__doc__, device=True, data_dir=True).parse_args()
    device = arguments.device
    data = "mnist" if device.startswith("cuda") else "digits"
    if data == "mnist":
        load_mnist(arguments.data_dir)
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()
        for latent in ("igr", "gumbel-softmax"):
            configs = [
                TrainConfig(
                    data=data,
                    epochs=EPOCHS[data],
                    latent=latent,
                    kl="relaxed",
                    temperature=temperature,
                    seed=seed,
                    device=device,
                    tensorboard=False,
                )
                for temperature in TEMPERATURES
                for seed in SEEDS
            ]

            def alone(configs: list[TrainConfig] = configs) -> None:
                for config in configs[:ALONE]:
                    train(config, Path(folder) / str(next(numbers)))

            def stacked(size: int, configs: list[TrainConfig] = configs) -> Callable[[], object]:
                return lambda: train_replicas(
                    [(config, Path(folder) / str(next(numbers))) for config in configs[:size]]
                )

            candidates = {"one after the other": alone}
            sizes = {f"{size} replicas": size for size in (ALONE, len(configs))}
            candidates |= {name: stacked(size) for name, size in sizes.items()}
            seconds = measure(candidates, device=device, blocks=5, block_seconds=0.0, warmups=1)
            each = {
                name: [value / sizes.get(name, ALONE) for value in values] for name, values in seconds.items()
            }
            title = f"a run of {EPOCHS[data]} epochs of {data}, {latent}, relaxed KL"
            tables[title] = summarize(each, "one after the other")
    print(machine(device))
    for title, timings in tables.items():
        show(title, timings)
    print(f"\nwritten: {save('replicas', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
