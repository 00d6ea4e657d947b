"""`igr explore`: what it says, refuses, and how it ends. The page has tests of its own."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from igr.cli import main


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explore", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("igr explore: expected ")
    assert err.count("\n") == 1, err
    return err.strip()


@pytest.mark.parametrize("port", ["-1", "65536", "many"])
def test_a_port_that_is_none(capsys: pytest.CaptureFixture[str], port: str):
    assert f"got {port}" in refusal(capsys, "--port", port).replace("'", "")


def test_without_bokeh(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "bokeh"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("igr.explorer.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    said = refusal(capsys, "--no-browser")
    assert said.endswith("expected bokeh for the page; got none; install it with pip install 'igr[explore]'")


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        said = refusal(capsys, "--no-browser", "--port", str(taken))
    assert f"expected a port that is free; got {taken} (" in said
    assert said.endswith("choose another with --port, or leave it out")


def handshake(port: int, origin: str) -> int:
    """What a page of that origin is told when it would speak with the server."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Origin": origin,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/ws", headers=headers)
        return connection.getresponse().status


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process has printed to its end, which is now if it has not come within half a minute."""
    try:
        return process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def test_it_serves_this_machine_alone_until_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The usual port or another; a browser opens; a page of another site is not let in; Ctrl-C ends it."""
    pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")
    from igr.explorer.server import USUAL_PORT

    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with socket.socket() as other:
        # Taken, unless somebody has it already.
        try:
            other.bind(("127.0.0.1", USUAL_PORT))
            other.listen()
        except OSError:
            pass
        process = subprocess.Popen(
            [sys.executable, "-m", "igr", "explore", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            line = process.stderr.readline()
            found = re.fullmatch(r"the page is at (http://127\.0\.0\.1:(\d+)/); Ctrl-C ends it\n", line)
            assert found is not None, line
            address, port = found[1], int(found[2])
            assert port != USUAL_PORT
            with urllib.request.urlopen(address) as answer:
                assert "igr explore" in answer.read().decode()
            assert handshake(port, "http://example.org") == 403
            assert handshake(port, f"http://localhost:{port + 1}") == 403
            assert handshake(port, f"http://localhost:{port}") != 403
            # Every other address of this machine is one that others may reach.
            with socket.socket() as outside, pytest.raises(OSError, match="refused"):
                outside.connect(("127.0.0.2", port))
            deadline = time.monotonic() + 30
            while not opened.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert opened.read_text() == f"{address}\n"
            process.send_signal(signal.SIGINT)
        finally:
            out, err = ended(process)
    assert process.returncode == 130
    assert json.loads(out) == {"address": address}
    assert err.splitlines()[-1] == "igr explore: interrupted"
