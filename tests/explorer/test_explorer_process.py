"""The page served by a process of its own."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")

from igr.errors import UserError
from igr.explorer import process
from igr.explorer.process import serving

ADDRESS = "http://127.0.0.1:1/"
SAYS = f"""echo '{{"address": "{ADDRESS}"}}'"""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has a script of the shell start in the place of Python."""

    def start(script: str) -> None:
        (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "python").chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    return start


def test_a_page_that_does_not_start_says_why():
    """What starts is what the tests of the browser look at."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sentence = f"got igr explore: expected a port that is free; got {port}"
        with pytest.raises(UserError, match=sentence), serving(port):
            pytest.fail("nothing is served")


def test_the_process_ends_with_the_block(started):
    started(f"{SAYS}; exec sleep 60")
    with serving() as found:
        assert found.address == ADDRESS
        assert found.process.poll() is None
    assert found.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_process_ends_with_a_block_that_fails(started, error):
    started(f"{SAYS}; exec sleep 60")
    with pytest.raises(error), serving() as found:
        raise error
    assert found.process.returncode == -signal.SIGTERM


def test_a_process_that_does_not_end_is_killed(started, monkeypatch):
    started(f"trap '' TERM; {SAYS}; while :; do sleep 0.05; done")
    with serving() as found:
        monkeypatch.setattr(process, "PATIENCE", 0.1)
    assert found.process.returncode == -signal.SIGKILL


def test_a_process_that_says_nothing_is_given_up(started, monkeypatch):
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    started("exec sleep 60")
    with (
        pytest.raises(UserError, match=r"expected igr explore to serve its page; got no answer; "),
        serving(),
    ):
        pytest.fail("nothing is served")


def test_what_others_say_before_the_address_is_passed_over(started):
    """Such as what Python runs as it starts."""
    started(f"""echo welcome; echo 5; echo '{{"port": 1}}'; {SAYS}; exec sleep 60""")
    with serving() as found:
        assert found.address == ADDRESS


# As the system does where memory is short: nothing is tidied up.
KILLED = """
import os, signal
from igr.explorer.process import serving

with serving() as found:
    print(found.address, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_no_process_is_left_of_a_program_that_is_killed():
    killed = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL
    port = urlsplit(killed.stdout.strip()).port
    assert port is not None
    give_up = time.monotonic() + 60
    while is_served(port):
        assert time.monotonic() < give_up
        time.sleep(0.1)


def is_served(port: int) -> bool:
    with socket.socket() as seeker:
        return seeker.connect_ex(("127.0.0.1", port)) == 0
