"""Runs every benchmark of speed in turn, each in a process of its own; JSON goes to ``benchmarks/results/``.

    python benchmarks/run_all.py                     # downloads MNIST if it is not in the cache
    python benchmarks/run_all.py --data-dir FOLDER   # reads FOLDER/mnist once

``mnist_bounds.py``, which trains for most of an hour, is run by itself.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import load_mnist, parser

HERE = Path(__file__).parent
# What measures no speed: this file, what the others share, and a long experiment.
OTHERS = {"run_all.py", "harness.py", "mnist_bounds.py"}


def main() -> None:
    arguments = parser(__doc__, data_dir=True).parse_args()
    # Into the cache, where the benchmarks that need it find it.
    load_mnist(arguments.data_dir)
    for script in sorted(path for path in HERE.glob("*.py") if path.name not in OTHERS):
        print(f"\n=== {script.name}", flush=True)
        subprocess.run([sys.executable, str(script)], check=True)


if __name__ == "__main__":
    main()
