"""Timing in one process and in turn: candidates alternate, and ratios are taken within a block."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from igr.data import Dataset, load
from igr.errors import UserError

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds per call over the blocks, and the ratio to the baseline within each block."""

    name: str
    milliseconds: float  # median over blocks
    milliseconds_low: float
    milliseconds_high: float
    ratio: float  # median over blocks
    ratio_low: float
    ratio_high: float


def compare(
    candidates: dict[str, Callable[[], object]],
    baseline: str,
    *,
    device: str = "cpu",
    blocks: int = 9,
    block_seconds: float = 0.15,
) -> list[Timing]:
    """Times each candidate ``blocks`` times in turn; every block lasts about ``block_seconds``."""
    return summarize(measure(candidates, device=device, blocks=blocks, block_seconds=block_seconds), baseline)


def measure(
    candidates: dict[str, Callable[[], object]],
    *,
    device: str = "cpu",
    blocks: int = 9,
    block_seconds: float = 0.15,
    warmups: int = 3,
) -> dict[str, list[float]]:
    """Seconds per call of each candidate in each block."""
    calls = {}
    for name, candidate in candidates.items():
        for _ in range(warmups):
            candidate()
        calls[name] = max(1, round(block_seconds / _seconds(candidate, warmups, device)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(blocks):
        for name, candidate in candidates.items():
            seconds[name].append(_seconds(candidate, calls[name], device))
    return seconds


def summarize(seconds: dict[str, list[float]], baseline: str) -> list[Timing]:
    """Medians and extremes of the seconds of each block, and of their ratios to the baseline's."""
    timings = []
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(own, seconds[baseline], strict=True)]
        timings.append(
            Timing(
                name,
                1e3 * statistics.median(own),
                1e3 * min(own),
                1e3 * max(own),
                statistics.median(ratios),
                min(ratios),
                max(ratios),
            )
        )
    return timings


def _seconds(candidate: Callable[[], object], calls: int, device: str) -> float:
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        candidate()
    _synchronize(device)
    return (time.perf_counter() - start) / calls


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def device_argument(description: str) -> str:
    """What ``--device`` names; the CPU if it is not given."""
    return str(parser(description, device=True).parse_args().device)


def parser(
    description: str | None, *, device: bool = False, data_dir: bool = False
) -> argparse.ArgumentParser:
    """A parser of the flags that a benchmark has, described by the first line of its docstring."""
    found = argparse.ArgumentParser(description=(description or "").strip().split("\n")[0])
    if device:
        found.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    if data_dir:
        found.add_argument("--data-dir", help="the folder that holds mnist/, if MNIST is not in the cache")
    return found


def load_mnist(data_dir: str | None) -> Dataset:
    """MNIST, in the cache from now on; ends the process with one sentence where it cannot be read."""
    try:
        return load("mnist", data_dir)
    except UserError as error:
        raise SystemExit(str(error)) from None


def machine(device: str) -> dict[str, object]:
    """What the figures were measured on, without anything that tells whose machine it is."""
    return {
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def show(title: str, timings: list[Timing]) -> None:
    """Prints one table."""
    print(f"\n{title}")
    width = max(len(timing.name) for timing in timings)
    for t in timings:
        print(
            f"  {t.name:<{width}}  {t.milliseconds:9.3f} ms   ratio {t.ratio:6.3f}"
            f"   ({t.ratio_low:.3f} to {t.ratio_high:.3f})"
        )


def save(name: str, device: str, tables: dict[str, list[Timing]], notes: str) -> Path:
    """Writes ``results/NAME.json`` (``NAME-cuda.json`` on a GPU) with the machine described."""
    suffix = "-cuda" if device.startswith("cuda") else ""
    content = {
        "benchmark": name,
        "notes": notes,
        "machine": machine(device),
        "tables": {title: [asdict(t) for t in timings] for title, timings in tables.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}{suffix}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
