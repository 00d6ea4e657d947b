"""Whole processes beside ``import torch``: ``import igr``, ``igr train --smoke``, MNIST to the first step.

    python benchmarks/start_up.py                     # downloads MNIST if it is not in the cache
    python benchmarks/start_up.py --data-dir FOLDER   # reads FOLDER/mnist once

To the first step: ``igr train --data mnist`` with MNIST in the cache, ended when its first step is done.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import load_mnist, parser, save, show, summarize

BLOCKS = 11

# `igr train` whose watcher ends the process after one step.
FIRST_STEP = """
import os, sys
from igr.cli import train
from igr.training.watchers import Watcher

class OneStep(Watcher):
    def advance(self, step):
        os._exit(0)

train.watcher = lambda line: OneStep()
sys.exit(train.main(["--data", "mnist", "--out", sys.argv[1]]) or 1)
"""


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    load_mnist(parser(__doc__, data_dir=True).parse_args().data_dir)
    with tempfile.TemporaryDirectory() as folder:
        runs = (str(Path(folder) / f"run-{number}") for number in itertools.count())
        processes = {
            "import torch": lambda: seconds("-c", "import torch"),
            "import torch, igr": lambda: seconds("-c", "import torch, igr"),
            "igr train --smoke": lambda: seconds("-m", "igr", "train", "--smoke", "--out", next(runs)),
            "igr train --data mnist, to the first step": lambda: seconds("-c", FIRST_STEP, next(runs)),
        }
        for process in processes.values():
            process()
        found: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(BLOCKS):
            for name, process in processes.items():
                found[name].append(process())
    timings = summarize(found, "import torch")
    show("whole processes", timings)
    print(f"\nwritten: {save('start_up', 'cpu', {'whole processes': timings}, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
