"""Downloads: the published bytes or one sentence, whatever servers, networks and kills do."""

import errno
import gzip
import hashlib
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pooch
import pytest

from igr.data import download
from igr.data.download import PAUSES, Archive, fetch
from igr.errors import UserError

CONTENT = random.Random(0).randbytes(400_000)
OTHER = random.Random(1).randbytes(400_000)
NAME = "letters.gz"
DEADLINE = 60


@dataclass(frozen=True)
class Reply:
    """How one request is answered.

    Arguments:
        status: The HTTP status; 200 becomes 206 or 416 as the request wants.
        content: The file that is served.
        resumable: Whether a Range is minded.
        length: Whether and how the length is announced: ``"exact"``, ``"chunked"`` or ``"unknown"``.
        sent: So many bytes of the body are sent; then comes ``then``.
        then: ``"close"`` the connection, ``"reset"`` it, or ``"wait"`` for :attr:`Server.go_on` and
            send the rest.
        encoding: What Content-Encoding claims; gzip is done to the body where a client allows it.
        answers: Whether there is any answer at all.
        endless: Whether the body is sent again and again.
        announced: What Content-Length says, if not the truth.
        leads_to: Another address, for a status that has one.
    """

    status: int = 200
    content: bytes = CONTENT
    resumable: bool = True
    length: str = "exact"
    sent: int | None = None
    then: str = "close"
    encoding: str = ""
    answers: bool = True
    endless: bool = False
    announced: str = ""
    leads_to: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        server = cast(Server, self.server)
        reply = server.asked_for(self.path, self.headers.get("Range"))
        self.close_connection = True
        sent = 0 if reply.sent is None else reply.sent
        if reply.answers:
            body = self.answer(reply)
            sent = len(body) if reply.sent is None else reply.sent
            self.wfile.write(body[:sent])
            while reply.endless:
                self.wfile.write(body)
        if reply.then == "wait":
            server.go_on.wait(DEADLINE)
            if reply.answers:
                self.wfile.write(body[sent:])
        if reply.then == "reset":
            # Closed without lingering, a connection is reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(self.connection.detach())

    def answer(self, reply: Reply) -> bytes:
        """Sends the header and returns the body."""
        status, body = reply.status, reply.content
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and reply.resumable and status == 200:
            body = body[int(asked[1]) :]
            status = 206 if body else 416
        encoding = reply.encoding
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body, encoding = gzip.compress(body), "gzip"
        self.send_response(status)
        self.send_header("Connection", "close")
        if encoding:
            self.send_header("Content-Encoding", encoding)
        if reply.length == "exact":
            self.send_header("Content-Length", reply.announced or str(len(body)))
        if reply.leads_to:
            self.send_header("Location", reply.leads_to)
        if reply.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        self.end_headers()
        return body


class Server(ThreadingHTTPServer):
    """Serves a file at every path, by a script of replies for each; at its end all goes well.

    Arguments:
        script: The replies still to give, by path.
        requests: Path and Range of every request so far.
        go_on: Ends all waiting.
    """

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: dict[str, list[Reply]] = defaultdict(list)
        self.requests: list[tuple[str, str | None]] = []
        self.go_on = threading.Event()

    def asked_for(self, path: str, extent: str | None) -> Reply:
        self.requests.append((path, extent))
        return self.script[path].pop(0) if self.script[path] else Reply()

    def handle_error(self, *_: object) -> None:
        # A client may go whenever it likes.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            raise

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def archive(self, *paths: str) -> Archive:
        return archive(*map(self.address, paths))


def archive(*addresses: str) -> Archive:
    return Archive(NAME, len(CONTENT), hashlib.md5(CONTENT).hexdigest(), addresses)


def closed_port() -> str:
    """An address where connections are refused."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}/{NAME}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; they take no time."""
    made: list[float] = []
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=made.append))
    return made


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


def ranges(server: Server) -> list[str | None]:
    return [extent for _, extent in server.requests]


def assert_fetched(archive: Archive, folder: Path) -> None:
    path = fetch(archive, folder, "letters")
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]


def refusal(archive: Archive, folder: Path) -> str:
    """The one sentence that says why there is no file."""
    with pytest.raises(UserError) as caught:
        fetch(archive, folder, "letters")
    text = str(caught.value)
    assert "\n" not in text
    assert re.fullmatch(r"expected [^;]+; got .+; [^;]+[^.]", text)
    return text


def test_the_file_is_fetched_with_one_request(server, tmp_path):
    assert_fetched(server.archive("/official", "/mirror"), tmp_path / "new" / "folder")
    assert server.requests == [("/official", None)]


@pytest.mark.parametrize("length", ["chunked", "unknown"])
def test_a_server_need_not_say_how_long_the_file_is(server, tmp_path, length):
    server.script["/official"] = [Reply(length=length)]
    assert_fetched(server.archive("/official"), tmp_path)
    assert len(server.requests) == 1


def test_a_file_that_is_there_is_kept_without_a_request(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    before = (tmp_path / NAME).stat()
    assert_fetched(server.archive("/official"), tmp_path)
    assert (tmp_path / NAME).stat().st_mtime_ns == before.st_mtime_ns
    assert server.requests == []


def test_a_damaged_file_is_replaced(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT[:-1] + b"?")
    assert_fetched(server.archive("/official"), tmp_path)


INTERRUPTIONS = {
    "cut": Reply(sent=100_000),
    "cut in a chunk": Reply(sent=100_000, length="chunked"),
    "cut before the first byte": Reply(sent=0),
    "reset": Reply(sent=100_000, then="reset"),
    "reset before an answer": Reply(answers=False, then="reset"),
    "closed before an answer": Reply(answers=False),
    "no answer in time": Reply(answers=False, then="wait"),
    "nothing more in time": Reply(sent=100_000, then="wait"),
    "nothing but a header in time": Reply(sent=0, then="wait"),
} | {f"status {status}": Reply(status) for status in (408, 429, 500, 502, 503, 504, 522)}


@pytest.mark.parametrize("interruption", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_after_an_interruption_the_same_address_is_asked_again(
    server, tmp_path, pauses, monkeypatch, interruption
):
    if interruption.then == "wait":
        monkeypatch.setattr(download, "TIMEOUT", (DEADLINE, 0.4))
    server.script["/official"] = [interruption]
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)
    assert pauses == [PAUSES[0]]
    assert [path for path, _ in server.requests] == ["/official"] * 2


def test_after_the_last_pause_the_mirror_is_asked(server, tmp_path, pauses):
    server.script["/official"] = [Reply(503)] * 100
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)
    assert pauses == list(PAUSES)
    assert [path for path, _ in server.requests] == ["/official"] * (1 + len(PAUSES)) + ["/mirror"]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 416])
def test_where_the_file_is_not_the_mirror_is_asked_at_once(server, tmp_path, pauses, status):
    server.script["/official"] = [Reply(status)]
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)
    assert server.requests == [("/official", None), ("/mirror", None)]
    assert pauses == []


def test_a_refused_connection_leads_to_the_mirror_at_once(server, tmp_path, pauses):
    assert_fetched(archive(closed_port(), server.address("/mirror")), tmp_path)
    assert pauses == []


def test_a_network_that_was_there_a_moment_ago_is_waited_for(server, tmp_path, pauses, monkeypatch):
    server.script["/official"] = [Reply(sent=100_000)]
    found = socket.getaddrinfo
    lookups = iter([True, False, False, True])

    def sometimes(*arguments: object, **options: object) -> object:
        if not next(lookups):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return found(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", sometimes)
    assert_fetched(server.archive("/official"), tmp_path)
    assert pauses == list(PAUSES)
    assert ranges(server) == [None, "bytes=100000-"]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.script["/official"] = [Reply(sent=100_000), Reply(sent=150_000)]
    assert_fetched(server.archive("/official"), tmp_path)
    assert ranges(server) == [None, "bytes=100000-", "bytes=250000-"]


def test_a_mirror_goes_on_where_the_official_address_stopped(server, tmp_path):
    server.script["/official"] = [Reply(sent=100_000), Reply(404)]
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)
    assert server.requests[-1] == ("/mirror", "bytes=100000-")


def test_a_later_fetch_goes_on_where_a_failed_one_stopped(server, tmp_path):
    server.script["/official"] = [Reply(sent=50_000)] * (1 + len(PAUSES))
    assert "the connection broke off" in refusal(server.archive("/official"), tmp_path)
    assert not (tmp_path / NAME).exists()
    server.requests.clear()
    assert_fetched(server.archive("/official"), tmp_path)
    assert ranges(server) == [f"bytes={50_000 * (1 + len(PAUSES))}-"]


def test_without_a_network_nothing_is_waited_for_though_some_came_earlier(server, tmp_path, pauses):
    server.script["/official"] = [Reply(sent=100_000), Reply(404)]
    refusal(server.archive("/official"), tmp_path)
    pauses.clear()
    assert "refused" in refusal(archive(closed_port()), tmp_path)
    assert pauses == []


def test_a_server_that_minds_no_range_starts_anew(server, tmp_path):
    server.script["/official"] = [Reply(sent=100_000), Reply(resumable=False)]
    assert_fetched(server.archive("/official"), tmp_path)
    assert ranges(server) == [None, "bytes=100000-"]


def part_of(content: bytes, server: Server, folder: Path) -> None:
    """Leaves in the folder what a broken download of some file leaves there."""
    server.script["/broken"] = [Reply(content=content + b"?", sent=len(content)), Reply(404)]
    refusal(server.archive("/broken"), folder)
    server.requests.clear()


@pytest.mark.parametrize("size", [1, 100_000, 400_000, 600_000, 800_000])
@pytest.mark.parametrize("resumable", [True, False])
def test_a_part_of_another_file_does_no_harm(server, tmp_path, pauses, size, resumable):
    part_of((OTHER * 2)[:size], server, tmp_path)
    pauses.clear()
    server.script["/official"] = [Reply(resumable=resumable)]
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)
    assert ranges(server)[:1] == [f"bytes={size}-"]
    assert {path for path, _ in server.requests} == {"/official"}
    assert pauses == []


def test_a_part_of_another_file_does_no_harm_at_the_last_try(server, tmp_path):
    part_of(OTHER[:100_000], server, tmp_path)
    server.script["/official"] = [Reply(503)] * len(PAUSES)
    assert_fetched(server.archive("/official"), tmp_path)


def test_a_part_that_is_the_whole_file_is_used(server, tmp_path):
    part_of(CONTENT, server, tmp_path)
    assert_fetched(server.archive("/official"), tmp_path)
    assert ranges(server) == ["bytes=400000-"]


@pytest.mark.parametrize("extra", [-100_000, 0, 100_000])
def test_another_file_leads_to_the_mirror_and_is_asked_for_once(server, tmp_path, extra):
    server.script["/official"] = [Reply(content=(OTHER * 2)[: 400_000 + extra])]
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)
    assert server.requests == [("/official", None), ("/mirror", None)]


def test_another_file_from_a_server_that_minds_no_range_is_asked_for_once(server, tmp_path):
    part_of(CONTENT[:100_000], server, tmp_path)
    server.script["/official"] = [Reply(content=OTHER, resumable=False)]
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)
    assert server.requests == [("/official", "bytes=100000-"), ("/mirror", None)]


def test_other_files_everywhere_leave_nothing(server, tmp_path):
    for path in ("/official", "/mirror"):
        server.script[path] = [Reply(content=OTHER)]
    text = refusal(server.archive("/official", "/mirror"), tmp_path)
    assert text.count("another MD5") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", ["exact", "unknown"])
@pytest.mark.parametrize("have", [0, 100_000])
def test_a_server_that_sends_without_end_is_cut_off(server, tmp_path, length, have):
    if have:
        part_of(CONTENT[:have], server, tmp_path)
    # What is announced is as large as what comes.
    server.script["/official"] = [Reply(content=OTHER * 50, length=length, endless=length == "unknown")]
    text = refusal(server.archive("/official"), tmp_path)
    assert "more than twice the 400,000 bytes expected" in text
    assert list(tmp_path.iterdir()) == []
    assert_fetched(server.archive("/official"), tmp_path)


@pytest.mark.parametrize("size", [1, 2**16 - 1, 2**16, 2**16 + 1, 399_999])
@pytest.mark.parametrize("then", ["close", "reset"])
def test_wherever_a_download_is_cut_it_ends_as_the_published_file(server, tmp_path, size, then):
    server.script["/official"] = [Reply(sent=size, then=then)]
    assert_fetched(server.archive("/official"), tmp_path)
    # What is reset may be lost on the way.
    assert then == "reset" or ranges(server) == [None, f"bytes={size}-"]


PAGE = b"<!DOCTYPE html><html><body>Sign in to the network first</body></html>"
LIES = {
    "a web page": Reply(content=PAGE),
    "nothing": Reply(content=b""),
    "too little, announced as all": Reply(content=CONTENT[:1_000]),
    "a length of one byte": Reply(announced="1"),
    "a length of nothing": Reply(announced="0"),
    "a length too large": Reply(announced="400001"),
    "a length below zero": Reply(announced="-5"),
    "a length in words": Reply(announced="many"),
    "two lengths": Reply(announced="400000, 17"),
    "a length of thousands of digits": Reply(content=OTHER, announced="9" * 5_000),
    "a way to no host": Reply(302, leads_to="http://.x/"),
    "a way to a host of a long name": Reply(302, leads_to=f"http://{'x' * 80}.y/"),
    "a way to a file": Reply(302, leads_to="file:///etc/passwd"),
    "a way to itself": Reply(302, leads_to="/official"),
    "a way to nowhere": Reply(302),
}


@pytest.mark.parametrize("have", [0, 100_000])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_server_that_lies_gives_the_published_file_or_none(server, tmp_path, lie, have):
    if have:
        part_of(CONTENT[:have], server, tmp_path)
    server.script["/official"] = [lie] * 100
    said = ""
    try:
        assert_fetched(server.archive("/official"), tmp_path)
    except UserError as error:
        said = str(error)
    assert (tmp_path / NAME).exists() == (not said)
    assert not said or "no such file and no download" in said
    # Sooner or later another address is asked.
    assert len(server.requests) < 60
    assert_fetched(server.archive("/official", "/mirror"), tmp_path)


def test_the_bytes_are_kept_as_they_are_published(server, tmp_path):
    """Some servers declare a .gz file a compressed form of the file in it."""
    content = gzip.compress(CONTENT)
    server.script["/official"] = [Reply(content=content, encoding="gzip")]
    published = Archive(NAME, len(content), hashlib.md5(content).hexdigest(), (server.address("/official"),))
    assert fetch(published, tmp_path, "letters").read_bytes() == content


def test_without_a_network_one_sentence_says_what_to_do(tmp_path):
    addresses = closed_port(), closed_port()
    text = refusal(archive(*addresses), tmp_path / "cache")
    for told in (NAME, str(tmp_path / "cache"), *addresses, "--data-dir", "letters", "refused"):
        assert told in text
    assert not any((tmp_path / "cache").iterdir())


def fails(error: OSError) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("getaddrinfo", socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "host name"),
        ("socket", OSError(errno.ENETUNREACH, "Network is unreachable"), "network cannot be reached"),
        ("socket", TimeoutError("timed out"), "no answer in time"),
        ("socket", OSError(errno.EHOSTUNREACH, "No route to host"), "network cannot be reached"),
    ],
)
def test_what_is_wrong_with_the_network_is_said(tmp_path, pauses, monkeypatch, name, error, words):
    address = closed_port()
    monkeypatch.setattr(socket, name, fails(error))
    assert words in refusal(archive(address), tmp_path)
    assert pauses == []


def test_a_proxy_that_does_not_answer_is_named(tmp_path, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", closed_port())
    assert "127.0.0.1: the proxy gave no connection" in refusal(archive(closed_port()), tmp_path)


def test_what_speaks_no_tls_is_asked_once(server, tmp_path, pauses):
    address = server.address("/official").replace("http:", "https:")
    assert "127.0.0.1: no secure connection" in refusal(archive(address), tmp_path)
    assert pauses == []


def test_missing_certificates_are_not_taken_for_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    address = closed_port().replace("http:", "https:")
    assert "127.0.0.1: there are no certificates" in refusal(archive(address), tmp_path / "cache")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(404), "HTTP status 404"),
        (Reply(503), "HTTP status 503"),
        (Reply(sent=100), "the connection broke off"),
        (Reply(answers=False), "the connection broke off"),
        (Reply(answers=False, then="reset"), "the connection broke off"),
    ],
)
def test_what_is_wrong_with_a_server_is_said(server, tmp_path, reply, words):
    server.script["/official"] = [reply] * 100
    assert f"127.0.0.1: {words}" in refusal(server.archive("/official"), tmp_path)


def test_a_damaged_file_is_not_called_absent(tmp_path):
    (tmp_path / NAME).write_bytes(OTHER)
    text = refusal(archive(closed_port()), tmp_path)
    assert "no such file" not in text
    assert "another MD5" in text


def test_a_folder_that_cannot_be_made_is_not_taken_for_a_missing_network(server, tmp_path):
    (tmp_path / "file").touch()
    text = refusal(server.archive("/official", "/mirror"), tmp_path / "file" / "folder")
    assert str(tmp_path / "file") in text
    assert "IGR_CACHE_DIR" in text
    assert "network" not in text


def test_a_folder_that_may_not_be_written_is_not_taken_for_a_missing_network(server, tmp_path, monkeypatch):
    # Permissions do not bind every user.
    monkeypatch.setattr(
        "tempfile.NamedTemporaryFile", fails(PermissionError(errno.EACCES, "Permission denied"))
    )
    text = refusal(server.archive("/official", "/mirror"), tmp_path)
    assert f"{tmp_path} (Permission denied)" in text
    assert "network" not in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_taken_for_a_missing_network(server, tmp_path):
    part_of(CONTENT[:100_000], server, tmp_path)
    (part,) = tmp_path.iterdir()
    part.unlink()
    part.symlink_to("/dev/full")
    text = refusal(server.archive("/official", "/mirror"), tmp_path)
    assert "(No space left on device)" in text
    assert "network" not in text
    assert [path for path, _ in server.requests] == ["/official"]


FETCH = """
import sys
from pathlib import Path
from igr.data.download import Archive, fetch
name, size, md5, address, folder = sys.argv[1:]
fetch(Archive(name, int(size), md5, (address,)), Path(folder), "letters")
"""

LOAD = """
import sys
import numpy as np
import torch
from igr.data.download import Archive
from igr.data.published import Part, PublishedSource

class Letters(PublishedSource):
    def _decode(self, files):
        (path,) = files.values()
        images = torch.from_numpy(np.fromfile(path, np.uint8)).view(-1, 1, 20, 20)
        return images, torch.zeros(len(images), dtype=torch.int64)

name, size, md5, address = sys.argv[1:]
letters = Letters(
    name="letters", origin="", sizes=(800, 100, 100), image_shape=(1, 20, 20), class_names=("a",),
    folders=("letters",), parts=(Part(Archive(name, int(size), md5, (address,)), (name,)),),
)
print("ready", flush=True)
sys.stdout.buffer.write(letters.load(None).train.images.numpy().tobytes())
"""


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a program on an archive in a process of its own."""
    with ExitStack() as processes:

        def launch(program: str, archive: Archive, *arguments: str) -> subprocess.Popen[bytes]:
            described = [archive.name, str(archive.num_bytes), archive.md5, *archive.addresses]
            command = [sys.executable, "-c", program, *described, *arguments]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield launch


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_download_goes_on_in_the_next_process(server, tmp_path, launch):
    server.script["/official"] = [Reply(sent=300_000, then="wait")]
    process = launch(FETCH, server.archive("/official"), str(tmp_path))
    part = tmp_path / f"{NAME}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 200_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / NAME).exists()
    assert_fetched(server.archive("/official"), tmp_path)
    first, second = ranges(server)
    assert first is None
    (start,) = re.fullmatch(r"bytes=(\d+)-", second).groups()
    assert 200_000 < int(start) <= 300_000


def test_two_processes_at_once_ask_for_the_file_once(server, tmp_path, launch, monkeypatch):
    monkeypatch.setenv("IGR_CACHE_DIR", str(tmp_path))
    server.script["/official"] = [Reply(sent=100_000, then="wait")] * 2
    processes = [launch(LOAD, server.archive("/official")) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == b"ready\n", process.communicate()[1].decode()
    wait_until(lambda: bool(server.requests))
    # The other one would have asked by now, if it did not wait.
    time.sleep(0.3)
    server.go_on.set()
    for process in processes:
        images, errors = process.communicate(timeout=DEADLINE)
        assert images == CONTENT[: 800 * 400]
        assert errors == b""
    assert server.requests == [("/official", None)]


def test_without_a_terminal_nothing_is_printed(server, tmp_path, capfd, monkeypatch):
    # Otherwise pooch writes to what was standard error when it was imported.
    for handler in pooch.get_logger().handlers:
        monkeypatch.setattr(handler, "stream", sys.stderr)
    (tmp_path / NAME).write_bytes(OTHER)
    server.script["/official"] = [Reply(sent=100_000)]
    assert_fetched(server.archive("/official"), tmp_path)
    refusal(archive(closed_port()), tmp_path / "other")
    assert capfd.readouterr() == ("", "")


def drawn(output: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token.endswith("A") and token.startswith("\x1b"):
            row -= int(token[2:-1])
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token[0] not in "\x1b\r":
            lines[row] += token
    return lines


def test_a_terminal_shows_a_bar_and_nothing_is_left_of_it(server, tmp_path, monkeypatch):
    for name, value in (("TERM", "xterm"), ("COLUMNS", "80"), ("LINES", "24")):
        monkeypatch.setenv(name, value)
    part_of(CONTENT[:100_000], server, tmp_path)
    server.script["/official"] = [Reply(sent=0), Reply(sent=150_000, then="wait")]
    main, terminal = pty.openpty()
    output = bytearray()

    def read() -> None:
        # Reading fails once the terminal is closed.
        try:
            while piece := os.read(main, 4096):
                output.extend(piece)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    resume = threading.Timer(0.6, server.go_on.set)
    resume.start()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert_fetched(server.archive("/official"), tmp_path)
        monkeypatch.undo()
    reader.join()
    os.close(main)
    resume.join()
    text = output.decode()
    shown = re.sub(r"\x1b\[[\d;]*m", "", text)
    # Name, bytes of all bytes, rate and time left.
    assert re.search(rf"{NAME} \S+ +\d+\.\d/400\.0 kB \d+\.\d [kM]B/s 00:0\d", shown)
    # What came before is not lost from sight.
    assert "100.0/400.0 kB" in shown
    assert not "".join(drawn(shown)).strip()
