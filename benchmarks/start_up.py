"""Whole processes: ``import igr`` beside ``import torch``, and ``igr train --smoke``.

python benchmarks/start_up.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import save, show, summarize

BLOCKS = 11


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        smoke_runs = (str(Path(folder) / f"run-{i}") for i in range(100))
        processes = {
            "import torch": lambda: seconds("-c", "import torch"),
            "import torch, igr": lambda: seconds("-c", "import torch, igr"),
            "igr train --smoke": lambda: seconds("-m", "igr", "train", "--smoke", "--out", next(smoke_runs)),
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
