"""The archive ``img_align_celeba.zip``, read without trusting it.

Nothing is ever unpacked to a path. Only entries called exactly ``img_align_celeba/NNNNNN.jpg`` are
read, each number once; what systems add of their own (``__MACOSX/``, ``.DS_Store``, ``._...``,
``Thumbs.db`` and the entry of the folder itself) is passed over, and any other entry refuses the
archive, before a pixel is read. What an entry claims of its size is limited here, and what comes out
of it is by :func:`igr.data.celeba_worker.content_of`.
"""

import re
import stat
import zipfile
from pathlib import Path

from igr.data import zip_archive
from igr.data.celeba_worker import Entry
from igr.errors import UserError, cut

NAME = "img_align_celeba.zip"
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
ADVICE = f"check the path, or get {NAME} again from {PAGE}"
# Of one JPEG file, in bytes; the pixels without any compression are half as many.
LARGEST = 2**18
_FOLDER = "img_align_celeba/"
_IMAGE = re.compile(rf"{_FOLDER}(\d{{6}})\.jpg", re.ASCII)
# Of the directory, for each image; an entry of its own and one of macOS have about 250.
_PER_IMAGE, _AT_LEAST = 2**9, 2**20


def name_of(number: int) -> str:
    """The name of an image in the archive; the first has the number 1."""
    return f"{_FOLDER}{number:06d}.jpg"


def inspect(path: Path, num_images: int) -> list[Entry]:
    """The images of an archive in the order of their numbers, found by its directory alone.

    Raises:
        UserError: It is not the published archive, or not one to be read safely.
    """
    entries = _directory(path, num_images)
    if not any(_IMAGE.fullmatch(entry.orig_filename) for entry in entries):
        got = f"whose first entry is {_shown(entries[0])}" if entries else "without entries"
        raise _refusal(path, num_images, f"a zip archive of something else, {got}")
    found: dict[int, Entry] = {}
    for entry in entries:
        match = _IMAGE.fullmatch(entry.orig_filename)
        number = int(match[1]) if match else 0
        problem = _danger(entry)
        if problem is None and _is_passed_over(entry.orig_filename):
            continue
        if problem is None:
            problem = (
                zip_archive.problem(entry, LARGEST) if 1 <= number <= num_images else "which is none of these"
            )
        if problem is not None:
            raise _refusal(path, num_images, f"one with the entry {_shown(entry)}, {problem}")
        if number in found:
            raise _refusal(path, num_images, f"one that has the entry {_shown(entry)} twice")
        found[number] = Entry(
            entry.orig_filename,
            entry.header_offset,
            entry.compress_size,
            entry.file_size,
            entry.CRC,
            entry.compress_type,
        )
    missing = [number for number in range(1, num_images + 1) if number not in found]
    if missing:
        raise _refusal(
            path, num_images, f"one that lacks {len(missing):,} of them, the first {name_of(missing[0])}"
        )
    size = path.stat().st_size
    if sum(entry.packed for entry in found.values()) > size:
        # The same bytes would be unpacked again and again.
        raise _refusal(path, num_images, "one whose entries overlap")
    return [found[number] for number in range(1, num_images + 1)]


def _directory(path: Path, num_images: int) -> list[zipfile.ZipInfo]:
    if not path.is_file():
        # A pipe or a device could keep a reader waiting for ever.
        got = "a folder" if path.is_dir() else "no file"
        raise UserError(f"expected the archive {NAME} at {path}; got {got}; {ADVICE}")
    try:
        return zip_archive.directory(path, num_images * _PER_IMAGE + _AT_LEAST)
    except OSError as error:
        raise UserError(
            f"expected a file that can be read at {path}; got {error.strerror or error}; "
            "check the path and its permissions"
        ) from error
    except zipfile.BadZipFile as error:
        raise UserError(
            f"expected the zip archive {NAME} at {path}; got a file that is none or is cut short "
            f"({cut(error)}); {ADVICE}"
        ) from error


def _danger(entry: zipfile.ZipInfo) -> str | None:
    """Why an archive with such an entry is not to be trusted, whether the entry would be read or not."""
    name = entry.orig_filename
    steps = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or ".." in steps or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return "whose name leads elsewhere"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a link or a device"
    return None


def _is_passed_over(name: str) -> bool:
    """Whether an entry is one that systems add by themselves."""
    last = name.rpartition("/")[2]
    return (
        name == _FOLDER
        or name.startswith("__MACOSX/")
        or last in (".DS_Store", "Thumbs.db")
        or last.startswith("._")
    )


def _shown(entry: zipfile.ZipInfo) -> str:
    name = entry.orig_filename
    return repr(name if len(name) <= 60 else f"{name[:57]}...")


def _refusal(path: Path, num_images: int, got: str) -> UserError:
    return UserError(
        f"expected an archive of {num_images:,} images, {name_of(1)} to {name_of(num_images)}, at {path}; "
        f"got {got}; {ADVICE}"
    )
