"""Published archives, downloaded once: by mirrors, again after a failure, and on from where one stopped."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch

from igr import progress
from igr.errors import UserError

# Seconds before an address that broke off or was busy is asked again; then the next one is.
PAUSES = (1.0, 3.0, 9.0)
# Seconds for a connection, and for the next piece of a file.
_TIMEOUT = (10.0, 30.0)
_PIECE = 2**16
_BUSY = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Archive:
    """A file as it is published.

    Arguments:
        name: Its file name.
        num_bytes: About how large it is.
        md5: Its published MD5, in hexadecimal.
        addresses: Where it is published, then mirrors.
    """

    name: str
    num_bytes: int
    md5: str
    addresses: tuple[str, ...]


def fetch(archive: Archive, folder: Path, owner: str) -> Path:
    """The archive in a folder, downloaded if it is not there yet, its MD5 verified.

    The caller holds the folder against other processes.

    Arguments:
        archive: What to fetch.
        folder: Where it is kept, whole or as far as it came.
        owner: The data set it belongs to, for messages.

    Raises:
        UserError: No address gave the file.
    """
    pooch.get_logger().setLevel(logging.ERROR)
    target = folder / archive.name
    reasons = []
    for address in archive.addresses:
        try:
            _from_address(archive, address, folder)
        except _Failure as failure:
            reasons.append(f"{urlsplit(address).hostname}: {failure}")
            continue
        return target
    raise UserError(
        f"expected {archive.name} of {owner} in {folder} or at {' or '.join(archive.addresses)}; got "
        f"no such file and no download ({'; '.join(reasons)}); connect to the network, or put the "
        f"file into a folder {owner} and name the folder above it with --data-dir"
    )


class _Failure(Exception):
    """Why an address did not give the file."""


class _Interruption(_Failure):
    """A failure that may have passed in a moment."""


def _from_address(archive: Archive, address: str, folder: Path) -> None:
    part = folder / f"{archive.name}.part"
    for pause in (*PAUSES, None):
        resumed = part.exists()
        try:
            # pooch keeps a file that is there with the right hash, and moves a new one into its place
            # only when its hash is right.
            pooch.retrieve(
                address, f"md5:{archive.md5}", archive.name, folder, downloader=_Resumable(archive, part)
            )
            return
        except _Interruption:
            if pause is None:
                raise
        except ValueError as error:
            # The part may have been one of another file; it is gone now.
            if pause is None or not resumed:
                raise _Failure("the file there has another MD5") from error
        except OSError as error:
            raise _Failure(f"{folder} cannot be written, {error.strerror or error}") from error
        time.sleep(pause)


class _Resumable:
    """A downloader for pooch that keeps what came of a broken download, and asks for the rest.

    A part may be of another mirror or of a file that has changed since: the MD5 of the whole tells.
    """

    def __init__(self, archive: Archive, part: Path) -> None:
        self._archive = archive
        self._part = part

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        # requests is needed here alone, and only when something is downloaded.
        import requests

        try:
            self._receive(url, requests.get)
        except (requests.ConnectTimeout, requests.exceptions.SSLError) as error:
            raise _Failure(_summary(error)) from error
        except (requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _Interruption(_summary(error)) from error
        except requests.ConnectionError as error:
            # Where something had come, the network is there.
            kind = _Interruption if self._size() else _Failure
            raise kind(_summary(error)) from error
        except requests.RequestException as error:
            raise _Failure(_summary(error)) from error
        self._part.replace(output_file)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _receive(self, url: str, get: Callable[..., Any]) -> None:
        have = self._size()
        # Not compressed on the way, or positions in the file would mean nothing.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:
                # There is nothing after what came: it is whole, or no part of this file.
                return
            if response.status_code in _BUSY:
                raise _Interruption(f"HTTP status {response.status_code}")
            if response.status_code not in (200, 206):
                raise _Failure(f"HTTP status {response.status_code}")
            if response.status_code == 200:
                have = 0
            expected = have + int(response.headers.get("Content-Length", 0)) or self._archive.num_bytes
            with (
                self._part.open("ab" if have else "wb") as file,
                progress.bar(f"downloading {self._archive.name}", expected, "bytes") as done,
            ):
                for piece in response.iter_content(_PIECE):
                    have += file.write(piece)
                    if have > 2 * self._archive.num_bytes:
                        break
                    done(have)
        if have > 2 * self._archive.num_bytes:
            self._part.unlink()
            raise _Failure(f"a file of more than twice the {self._archive.num_bytes:,} bytes expected")
        if have < expected and "Content-Length" in response.headers:
            raise _Interruption(f"the connection ended after {have:,} of {expected:,} bytes")


def _summary(error: Exception) -> str:
    """What failed, without addresses of objects and the chain of causes that requests prints."""
    text = str(error)
    for sign, words in _CAUSES.items():
        if sign in text:
            return words
    return type(error).__name__


_CAUSES = {
    "NameResolutionError": "the host name was not found",
    "Connection refused": "the connection was refused",
    "Network is unreachable": "the network cannot be reached",
    "timed out": "no answer in time",
    "CERTIFICATE": "its certificate could not be verified",
    "ProxyError": "the proxy did not answer",
    "IncompleteRead": "the connection broke off",
    "Connection broken": "the connection broke off",
    "Remote end closed": "the connection broke off",
}
