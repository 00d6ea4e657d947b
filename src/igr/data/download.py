"""Published archives, downloaded once: by mirrors, again after a failure, and on from where one stopped."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pooch

from igr import progress
from igr.data.cache import VARIABLE
from igr.errors import UserError

if TYPE_CHECKING:
    from requests import Response

# Seconds before an address that broke off or was busy is asked again; then the next one is.
PAUSES = (1.0, 3.0, 9.0)
# Seconds for a connection, and for whatever comes next of an answer.
TIMEOUT = (10.0, 30.0)
_PIECE = 2**16


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
        UserError: No address gave the file, or the folder cannot be written.
    """
    pooch.get_logger().setLevel(logging.ERROR)
    target = folder / archive.name
    reasons = []
    for address in archive.addresses:
        try:
            _from_address(archive, address, folder)
            return target
        except _Failure as failure:
            reasons.append(f"{urlsplit(address).hostname}: {failure}")
        except OSError as error:
            # The one error that pooch words itself is that of permissions.
            raise UserError(
                f"expected a folder that can be written, for {archive.name}; got {folder} "
                f"({error.strerror or 'Permission denied'}); make room there, or name another cache "
                f"folder with {VARIABLE}"
            ) from error
    found = "one with another MD5" if target.exists() else "no such file"
    raise UserError(
        f"expected {archive.name} of {owner} in {folder} or at {' or '.join(archive.addresses)}; got "
        f"{found} and no download ({', '.join(reasons)}); connect to the network, or put the "
        f"file into a folder {owner} and name the folder above it with --data-dir"
    )


class _Failure(Exception):
    """Why an address did not give the file."""


class _Interruption(_Failure):
    """A failure that may have passed in a moment."""


def _from_address(archive: Archive, address: str, folder: Path) -> None:
    downloader = _Resumable(archive, folder / f"{archive.name}.part")
    pauses = iter(PAUSES)
    while True:
        try:
            # pooch keeps a file that is there with the right hash, and moves a new one into its place
            # only when its hash is right.
            pooch.retrieve(address, f"md5:{archive.md5}", archive.name, folder, downloader=downloader)
            return
        except _Interruption:
            pause = next(pauses, None)
            if pause is None:
                raise
            time.sleep(pause)
        except ValueError as error:
            # The part may have been one of another file; pooch has removed it.
            if not downloader.resumed:
                raise _Failure("the file there has another MD5") from error


class _Resumable:
    """A downloader for pooch that keeps what came of a broken download, and asks for the rest.

    A part may be of another mirror or of a file that has changed since: the MD5 of the whole tells.
    """

    def __init__(self, archive: Archive, part: Path) -> None:
        self._archive = archive
        self._part = part
        self._answered = False
        self.resumed = False  # whether the last answer was added to a part

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        # Where the process is killed, the empty file that pooch has made would stay for ever.
        Path(output_file).unlink()
        have = self._part.stat().st_size if self._part.exists() else 0
        with self._ask(url, have) as response:
            self._receive(response, have)
        self._part.replace(output_file)

    def _ask(self, url: str, have: int) -> "Response":
        # Needed only when something is downloaded.
        import requests
        from urllib3.exceptions import MaxRetryError

        # Not compressed on the way, or positions in the file would mean nothing.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except OSError as error:
            # requests never tries twice: MaxRetryError only says that there was no connection.
            broken = isinstance(error, requests.ConnectionError | requests.Timeout) and not isinstance(
                error.args[0], MaxRetryError
            )
            reason = _reason(error, "the connection broke off" if broken else "no usable answer")
            # Where there was an answer a moment ago, there is a network.
            raise (_Interruption if broken or self._answered else _Failure)(reason) from error
        self._answered = True
        return response

    def _receive(self, response: "Response", have: int) -> None:
        from urllib3.exceptions import HTTPError

        status = response.status_code
        if status == 200:
            have = 0
        self.resumed = have > 0
        if status == 416 and self.resumed:
            # There is nothing after what came: it is whole, or no part of this file.
            return
        if status >= 500 or status in (408, 429):
            raise _Interruption(f"HTTP status {status}")
        if status not in (200, 206):
            raise _Failure(f"HTTP status {status}")
        length = response.headers.get("Content-Length", "")
        # A number of thousands of digits is refused by Python, with an error that would be taken for another.
        says = length.isdecimal() and len(length) < 20
        expected = have + int(length) if says else self._archive.num_bytes
        most = 2 * self._archive.num_bytes
        try:
            with (
                self._part.open("ab" if have else "wb") as file,
                progress.bar(f"downloading {self._archive.name}", expected, "bytes") as done,
            ):
                done(have)
                # Not iter_content: that drops the last bytes before a break, and unpacks a .gz file
                # that a server declares a compressed form of what is in it.
                for piece in response.raw.stream(_PIECE, decode_content=False):
                    have += file.write(piece)
                    done(have)
                    if have > most:
                        break
        except HTTPError as error:
            raise _Interruption(_reason(error, "the connection broke off")) from error
        if have > most:
            self._part.unlink()
            raise _Failure(f"a file of more than twice the {self._archive.num_bytes:,} bytes expected")


def _reason(error: Exception, otherwise: str) -> str:
    """What failed, without addresses of objects and the chain of causes that requests prints."""
    text = str(error)
    return next((words for sign, words in _REASONS.items() if sign in text), otherwise)


# The first that fits: a proxy may be what refuses.
_REASONS = {
    "ProxyError": "the proxy gave no connection",
    "NameResolutionError": "the host name was not found",
    "Connection refused": "the connection was refused",
    "Network is unreachable": "the network cannot be reached",
    "No route to host": "the network cannot be reached",
    "timed out": "no answer in time",
    "CERTIFICATE": "its certificate could not be verified",
    "CA certificate": "there are no certificates to verify its own with",
    "SSL": "no secure connection could be made",
}
