"""The page served by another process, for programs that go on meanwhile."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from igr.errors import UserError, cut

# Seconds until a process that has not said its address is given up, and until one that is to end is killed.
PATIENCE = 60.0

# igr with the arguments of the process, until the other end of its standard input is closed, as it is by
# whatever ends the program that holds it.
_PROGRAM = """
import os, signal, sys, threading

def watch():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=watch, daemon=True).start()
from igr.cli import main
sys.exit(main())
"""


class Served(NamedTuple):
    """A page that answers.

    Arguments:
        address: What a browser opens.
        process: The process that serves it.
    """

    address: str
    process: subprocess.Popen[str]


@contextmanager
def serving(port: int = 0) -> Iterator[Served]:
    """Serves the page of ``igr explore`` by a process of its own.

    It ends with the block, and with the program that has started it, however that ends. No browser is opened.
    As any process it has the environment of this one.

    Arguments:
        port: The port; ``0`` for any that is free.

    Raises:
        UserError: The page does not answer, and why.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "explore", "--no-browser", "--json", "--port", str(port)],
            stdin=subprocess.PIPE,
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
            for pipe in filter(None, (process.stdin, process.stdout)):
                pipe.close()


def _address(process: subprocess.Popen[str]) -> str | None:
    """What the process says; ``None`` if it has ended instead."""
    limit = threading.Timer(PATIENCE, process.kill)
    limit.start()
    try:
        for line in process.stdout or ():
            # Whatever else starts with Python may say something too.
            with suppress(ValueError, TypeError, KeyError):
                return str(json.loads(line)["address"])
        process.wait()
        return None
    finally:
        limit.cancel()
