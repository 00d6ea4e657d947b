"""Gumbel-Softmax and IGR-I on MNIST, each with both KLs: bounds on the whole test set after 20 epochs.

    python benchmarks/mnist_bounds.py                     # downloads MNIST if it is not in the cache
    python benchmarks/mnist_bounds.py --data-dir FOLDER   # reads FOLDER/mnist once
    python benchmarks/mnist_bounds.py --epochs 1          # a check of the script; writes no results

``dense_nonlinear``, 20 variables with 10 categories, fixed binarization, batches of 100, Adam 1e-3, one
seed, temperatures of the literature and not tuned. The KL of the relaxed laws is warmed up over the first 5
epochs, as is the default; the last two runs show what becomes of it without. About 45 minutes on two
cores. The ``result.json`` of each run goes to ``benchmarks/results/mnist/``; runs that are finished are
used again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from harness import RESULTS, load_mnist, parser
from igr.cli.compare import render
from igr.cli.evaluate import evaluate_and_draw
from igr.cli.terminal import say, watcher
from igr.evaluation import compare, stored_evaluation
from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run

EPOCHS = 20
GUMBEL = {"latent": "gumbel-softmax", "temperature": 0.67}
IGR = {"latent": "igr", "temperature": 0.15, "scale": "free"}
RUNS = {
    "gumbel-softmax-relaxed": {**GUMBEL, "kl": "relaxed"},
    "igr-relaxed": {**IGR, "kl": "relaxed"},
    "gumbel-softmax-discrete": {**GUMBEL, "kl": "discrete"},
    "igr-discrete": {"latent": "igr", "kl": "discrete", "temperature": 0.4, "scale": "fixed"},
    "gumbel-softmax-relaxed-no-warmup": {**GUMBEL, "kl": "relaxed", "kl_warmup": 0},
    "igr-relaxed-no-warmup": {**IGR, "kl": "relaxed", "kl_warmup": 0},
}


def main() -> None:
    flags = parser(__doc__, data_dir=True)
    flags.add_argument("--epochs", type=int, default=EPOCHS)
    flags.add_argument("--out", type=Path, default=Path("runs/mnist-bounds"), help="where the runs go")
    arguments = flags.parse_args()
    # Into the cache, so that no path of this machine stands in a config.
    load_mnist(arguments.data_dir)
    paths = []
    for name, settings in RUNS.items():
        path = arguments.out / (name if arguments.epochs == EPOCHS else f"{name}-{arguments.epochs}")
        config = TrainConfig.from_json({"data": "mnist", "epochs": arguments.epochs, **settings}).resolved()
        train(path, config, f"{name}: training for {config.epochs} epochs")
        if stored_evaluation(RunFolder(path)) is None:
            say(f"{name}: evaluating")
            evaluate_and_draw(load_run(path))
        paths.append(path)
    console = Console()
    console.print(render(compare(paths), console.width))
    if arguments.epochs == EPOCHS:
        folder = RESULTS / "mnist"
        folder.mkdir(exist_ok=True)
        for name, path in zip(RUNS, paths, strict=True):
            shutil.copy(path / "result.json", folder / f"{name}.json")
        say(f"written: {folder}/*.json")


def train(path: Path, config: TrainConfig, line: str) -> None:
    if not (path / "config.json").is_file():
        loop.train(config, path, watcher(line))
    elif RunFolder(path).config() == config:
        loop.resume(path, watcher(line))
    else:
        raise SystemExit(f"expected a run with the settings of this script in {path}; got another; remove it")


if __name__ == "__main__":
    main()
