"""`igr explore`: what it says, refuses, and how it ends. The page has tests of its own."""

import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from igr.cli import main
from igr.errors import UserError


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


def test_a_usual_port_that_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Not only if it is taken: systems keep ports for themselves, and Windows then says it is forbidden."""
    pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")
    from igr.explorer import server

    bound = server._bound

    def refusing(port: int) -> socket.socket:
        if port == server.USUAL_PORT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return bound(port)

    monkeypatch.setattr(server, "_bound", refusing)
    with server._listener(None) as found:
        assert found.getsockname()[1] not in (0, server.USUAL_PORT)
    with pytest.raises(UserError, match="Permission denied"):
        server._listener(server.USUAL_PORT)


@dataclass(frozen=True)
class Explorer:
    """A process of ``igr explore`` whose browser stays open."""

    process: subprocess.Popen[str]
    address: str
    port: int
    browser: Path

    def answer(self, path: str = "/", **headers: str) -> tuple[int, str]:
        """The status and text that a request gets; underscores in names of headers are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", path, headers=given)
            answer = connection.getresponse()
            # After an upgrade there is no end to read to.
            return answer.status, "" if answer.status == 101 else answer.read().decode("latin-1")

    def handshake(self, origin: str, **headers: str) -> int:
        """What a page of that origin is told when it would speak with the server."""
        return self.answer(
            "/ws",
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
            Origin=origin,
            **headers,
        )[0]

    def ended(self) -> tuple[str, str]:
        """What the process has printed to its end, which is now if it has not come within ten seconds."""
        try:
            return self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.communicate()


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """With the usual port taken, and an environment that would let another site in."""
    pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")
    from igr.explorer.server import USUAL_PORT

    folder = tmp_path_factory.mktemp("browser")
    opened, browser = folder / "opened", folder / "browser"
    # In the foreground, as browsers without a window are. What it would print is not waited for.
    browser.write_text(
        f'#!/bin/sh\nexec > /dev/null 2>&1\necho "$$ $1" > {opened}.part && mv {opened}.part {opened}\n'
        "exec sleep 300\n"
    )
    browser.chmod(0o755)
    settings = {"BROWSER": f"{browser} %s", "BOKEH_ALLOW_WS_ORIGIN": "evil.example", "OMP_NUM_THREADS": "1"}
    with socket.socket() as other:
        # Taken, unless somebody has it already.
        with contextlib.suppress(OSError):
            other.bind(("127.0.0.1", USUAL_PORT))
            other.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "igr", "explore", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings},
        )
        try:
            line = process.stderr.readline()
            found = re.fullmatch(r"the page is at (http://127\.0\.0\.1:(\d+)/); Ctrl-C ends it\n", line)
            assert found is not None, line
            assert int(found[2]) != USUAL_PORT
            yield Explorer(process, found[1], int(found[2]), opened)
        finally:
            process.kill()
            process.communicate()
            with contextlib.suppress(FileNotFoundError):
                os.kill(int(opened.read_text().split()[0]), signal.SIGKILL)


def test_it_is_there_for_this_machine_alone(explorer: Explorer):
    status, page = explorer.answer()
    assert status == 200
    assert "<title>igr explore</title>" in page
    # Every other address of this machine is one that others may reach.
    with socket.socket() as outside, pytest.raises(OSError, match="refused"):
        outside.connect(("127.0.0.2", explorer.port))


def test_names_that_are_not_of_this_machine_are_refused(explorer: Explorer):
    """Such as another site may give to 127.0.0.1, whose pages would then pass for those of this server."""
    for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.2", "localhost."):
        foreign = f"{host}:{explorer.port}"
        for path in ("/", "/ws", "/favicon.ico"):
            status, text = explorer.answer(path, Host=foreign)
            assert status == 403, (foreign, path)
            assert "open the address that igr explore says" in text
        assert explorer.handshake(f"http://{foreign}", Host=foreign) == 403
        assert explorer.handshake(f"http://{foreign}", Host=foreign, Sec_Fetch_Site="same-origin") == 403
    for foreign in ("127.0.0.1", "localhost", f"127.0.0.1:{explorer.port + 1}"):
        assert explorer.answer("/favicon.ico", Host=foreign)[0] == 403, foreign
    for own in ("127.0.0.1", "localhost", "LocalHost"):
        assert explorer.answer("/favicon.ico", Host=f"{own}:{explorer.port}")[0] == 200, own


def test_only_its_own_page_may_speak_with_it(explorer: Explorer):
    for origin in ("http://evil.example", f"http://localhost:{explorer.port + 1}", "null"):
        assert explorer.handshake(origin) == 403, origin
    for name in ("127.0.0.1", "localhost"):
        assert explorer.handshake(f"http://{name}:{explorer.port}") == 101, name


def test_headers_and_cookies_stay_with_the_browser(explorer: Explorer):
    """Those for other servers of this machine arrive here too: a cookie knows no port."""
    from bokeh.util.token import get_token_payload

    foreign = {"Origin": "http://evil.example", "Cookie": "jupyter=SECRET123", "X_Secret": "SECRET123"}
    status, script = explorer.answer("/autoload.js?bokeh-autoload-element=x", **foreign)
    assert status == 403
    assert "token" not in script
    _, page = explorer.answer(Cookie="jupyter=SECRET123", X_Secret="SECRET123")
    payload = get_token_payload(re.search(r'"token":"([^"]+)"', page)[1])
    assert payload["headers"] == payload["cookies"] == {}


def test_pages_of_other_sites_cannot_have_it_compute(explorer: Explorer):
    """A picture or a frame would each cost a page; a link is opened by who follows it."""
    link = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    for change in ({"Sec_Fetch_Mode": "no-cors"}, {"Sec_Fetch_Dest": "iframe"}, {"Sec_Fetch_Dest": "image"}):
        assert explorer.answer(Sec_Fetch_Site="cross-site", **(link | change))[0] == 403, change
    assert explorer.answer(Sec_Fetch_Site="cross-site")[0] == 403
    assert explorer.answer(Sec_Fetch_Site="cross-site", **link)[0] == 200


def test_ctrl_c_ends_it_while_its_browser_is_open(explorer: Explorer):
    """The last test: nothing answers afterwards."""
    deadline = time.monotonic() + 30
    while not explorer.browser.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    number, address = explorer.browser.read_text().split()
    assert address == explorer.address
    explorer.process.send_signal(signal.SIGINT)
    out, err = explorer.ended()
    assert explorer.process.returncode == 130
    assert json.loads(out) == {"address": explorer.address}
    assert err.splitlines()[-1] == "igr explore: interrupted"
    # It still runs, or all of this would show nothing.
    os.kill(int(number), 0)
