"""Runs every benchmark in turn, each in a process of its own; JSON goes to ``benchmarks/results/``.

python benchmarks/run_all.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# What is not a benchmark: this file and what the others share.
SHARED = {"run_all.py", "harness.py"}


def main() -> None:
    scripts = sorted(path for path in HERE.glob("*.py") if path.name not in SHARED)
    for script in scripts:
        print(f"\n=== {script.name}", flush=True)
        subprocess.run([sys.executable, str(script)], check=True)


if __name__ == "__main__":
    main()
