"""The page served by another process, for programs that go on meanwhile."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from igr.errors import UserError, cut

# Seconds until a process that has not said its address is given up, and until one that is to end is killed.
PATIENCE = 60.0


class Served(NamedTuple):
    """A page that answers.

    Attributes:
        address: What a browser opens.
        process: The process that serves it.
    """

    address: str
    process: subprocess.Popen[str]


@contextmanager
def serving(port: int = 0) -> Iterator[Served]:
    """Serves the page of ``igr explore`` by a process of its own, which ends with the block.

    No browser is opened. As any process it has the environment of this one.

    Arguments:
        port: The port; ``0`` for any that is free.

    Raises:
        UserError: The page does not answer, and why.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "igr", "explore", "--no-browser", "--json", "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            address = _address(process)
            if address is None:
                said.seek(0)
                raise UserError(
                    f"expected igr explore to serve its page; got {cut(said.read().strip() or 'no answer')}; "
                    "see what it says when it is started by itself"
                )
            yield Served(address, process)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _address(process: subprocess.Popen[str]) -> str | None:
    """What the process says first; ``None`` if it has ended instead."""
    limit = threading.Timer(PATIENCE, process.kill)
    limit.start()
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        if line:
            return str(json.loads(line)["address"])
        process.wait()
        return None
    finally:
        limit.cancel()
