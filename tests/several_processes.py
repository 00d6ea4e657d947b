"""Processes that are started together, as torchrun starts them, for tests of runs that they share."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def start(arguments: Sequence[str], count: int) -> list[subprocess.Popen[str]]:
    """So many interpreters with these arguments, who will find one another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def ends(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """The exit code of each, and what it said on standard output and standard error."""
    found = []
    try:
        for process in processes:
            said, complained = process.communicate(timeout=240)
            found.append((process.returncode, said, complained))
    finally:
        for process in processes:
            process.kill()
    return found
