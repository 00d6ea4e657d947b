"""Runs every benchmark of speed in turn, each in a process of its own, and writes what they found.

    python benchmarks/run_all.py                     # downloads MNIST if it is not in the cache
    python benchmarks/run_all.py --data-dir FOLDER   # reads FOLDER/mnist once
    python benchmarks/run_all.py --device cuda       # those that can be run on a GPU

JSON goes to ``benchmarks/results/``, and a page with all of it to ``docs/benchmarks.md``.
``mnist_bounds.py``, which trains for most of an hour, is run by itself.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import load_mnist, parser

HERE = Path(__file__).parent
# What measures no speed: this file, what the others share, the page, and a long experiment.
OTHERS = {"run_all.py", "harness.py", "page.py", "mnist_bounds.py"}


def main() -> None:
    arguments = parser(__doc__, device=True, data_dir=True).parse_args()
    on_gpu = arguments.device.startswith("cuda")
    # Into the cache, where the benchmarks that need it find it.
    load_mnist(arguments.data_dir)
    for script in scripts(on_gpu):
        print(f"\n=== {script.name}", flush=True)
        subprocess.run(
            [sys.executable, script, *(["--device", arguments.device] if on_gpu else [])], check=True
        )
    subprocess.run([sys.executable, HERE / "page.py"], check=True)


def scripts(on_gpu: bool) -> list[Path]:
    """The benchmarks; on a GPU those that take the flag ``--device``."""
    found = sorted(path for path in HERE.glob("*.py") if path.name not in OTHERS)
    if not on_gpu:
        return found
    return [path for path in found if "--device cuda" in path.read_text(encoding="utf-8")]


if __name__ == "__main__":
    main()
