"""Omniglot: 1,623 handwritten characters, each drawn by 20 people, brought to 28x28 with ink bright.

The images, 19,280 of 30 alphabets (*background*) and 13,180 of 20 others (*evaluation*), are
numbered in this order, within each set by alphabet, character and drawer. In the ranking of
:func:`igr.data.dataset.ranked`,

- the first 5,065 evaluation images by ``igr omniglot NUMBER`` join all background images for
  training, 24,345 together, and the other 8,115 are the test split, in that order;
- the first 1,345 training images by ``igr omniglot validation NUMBER`` are the validation split, and
  the other 23,000 are trained on, in that order.

105 pixels are 28 times 3.75, so a small pixel is the mean ink of 3.75 by 3.75 large ones. The sums
are of whole numbers, and so the small images are the same, bit for bit, on every machine.

References:
    Human-level concept learning through probabilistic program induction (Lake, Salakhutdinov and
    Tenenbaum, 2015)
"""

import hashlib
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from igr import progress
from igr.data import zip_archive
from igr.data.celeba_worker import Entry, Unusable, content_of
from igr.data.dataset import class_numbers, ranked
from igr.data.download import Archive
from igr.data.idx import IdxContent, inspect, read_idx
from igr.data.published import Part, PublishedSource
from igr.errors import UserError, cut, shown

DRAWERS = 20
LARGE, SMALL = 105, 28
# Of a large pixel's width, in quarters: 105 x 4 = 28 x 15.
_QUARTERS = 4
_PER_SMALL = LARGE * _QUARTERS // SMALL

# Of one PNG file, in bytes; the pixels without any compression are a sixth of it.
LARGEST = 2**16
# Of the directory of an archive, for each drawing; its entry has about 130.
_PER_DRAWING, _AT_LEAST = 2**9, 2**20

# The alphabets of each set in the order of their files, with the number of characters of each.
BACKGROUND = {
    "Alphabet_of_the_Magi": 20,
    "Anglo-Saxon_Futhorc": 29,
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Burmese_(Myanmar)": 34,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23,
    "Tagalog": 17,
    "Tifinagh": 55,
}
EVALUATION = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Sylheti": 28,
    "Syriac_(Serto)": 23,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}


@dataclass(frozen=True)
class DrawingsPart(Part):
    """The drawings of one set: a zip archive of PNG files, or an IDX file in the same order."""

    content: IdxContent
    alphabets: Mapping[str, int]

    @property
    def num_images(self) -> int:
        """How many drawings there are."""
        return DRAWERS * sum(self.alphabets.values())


@dataclass(frozen=True, kw_only=True)
class OmniglotSource(PublishedSource):
    """The two sets of drawings, split anew.

    Arguments:
        train_from_evaluation: How many drawings of the second set are used for training.
    """

    parts: tuple[DrawingsPart, DrawingsPart]
    train_from_evaluation: int

    def _decode(self, files: Mapping[str, Path]) -> tuple[Tensor, Tensor]:
        total = sum(part.num_images for part in self.parts)
        for part in self.parts:
            path = files[part.archive.name]
            if _is_zip(path):
                inspect_zip(path, part.archive)
            else:
                inspect(path, part.content)
        small = np.empty((total, SMALL, SMALL), np.uint8)
        done = 0
        with progress.bar(f"reading {self.name}", total, "images") as show:
            for part in self.parts:
                path = files[part.archive.name]
                read = read_zip(path, part) if _is_zip(path) else read_idx(path, part.content)
                for drawings in read:
                    small[done : done + len(drawings)] = shrunk(drawings)
                    done += len(drawings)
                    show(done)
        order = torch.tensor(self.split_order())
        labels = class_numbers([DRAWERS] * len(self.class_names))
        return torch.from_numpy(small).unsqueeze(1)[order], labels[order]

    def split_order(self) -> list[int]:
        """The numbers of the drawings, of which the splits are consecutive pieces."""
        first, second = (part.num_images for part in self.parts)
        of_evaluation = ranked("omniglot", range(first, first + second))
        joined = [*range(first), *of_evaluation[: self.train_from_evaluation]]
        by_rank = ranked("omniglot validation", joined)
        num_validation = self.sizes[1]
        test = of_evaluation[self.train_from_evaluation :]
        return [*by_rank[num_validation:], *by_rank[:num_validation], *test]


def shrunk(drawings: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drawings with ink 0 and paper 255, [N, 105, 105], as small ones with ink 255, [N, 28, 28]."""
    quarters = np.arange(LARGE * _QUARTERS)
    weights = np.zeros((SMALL, LARGE))
    np.add.at(weights, (quarters // _PER_SMALL, quarters // _QUARTERS), 1.0)
    # Sums of whole numbers, which are exact in any order.
    sums = (weights @ (255.0 - drawings) @ weights.T).astype(np.int64)
    area = _PER_SMALL**2
    return ((sums + area // 2) // area).astype(np.uint8)


def inspect_zip(path: Path, archive: Archive) -> None:
    """Refuses a file that is not the published archive, byte for byte.

    Raises:
        UserError: It is another file, or cannot be read.
    """
    advice = f"get it again from {archive.addresses[0]}"
    try:
        if not path.is_file():
            # A pipe or a device could keep a reader waiting for ever.
            raise UserError(f"expected a file at {path}; got none; check the path")
        size = path.stat().st_size
        if size > 2 * archive.num_bytes:
            raise UserError(
                f"expected the published {archive.name} of about {archive.num_bytes:,} bytes at {path}; got "
                f"{size:,} bytes; {advice}"
            )
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise UserError(
            f"expected a file that can be read at {path}; got {error.strerror or error}; "
            "check the path and its permissions"
        ) from error
    if md5 != archive.md5:
        raise UserError(
            f"expected the published {archive.name} with MD5 {archive.md5} at {path}; got a file with MD5 "
            f"{md5}; {advice}"
        )


def read_zip(path: Path, part: DrawingsPart) -> Iterator[NDArray[np.uint8]]:
    """The drawings of a published archive, alphabet by alphabet, each [N, 105, 105].

    Raises:
        UserError: It is not the published archive.
    """
    inspect_zip(path, part.archive)
    advice = f"get it again from {part.archive.addresses[0]}"
    most_bytes = _PER_DRAWING * part.num_images + _AT_LEAST
    try:
        by_alphabet: dict[str, list[zipfile.ZipInfo]] = {alphabet: [] for alphabet in part.alphabets}
        for entry in zip_archive.directory(path, most_bytes):
            if entry.filename.endswith(".png"):
                by_alphabet.get(entry.filename.split("/")[-3:][0], []).append(entry)
        with path.open("rb") as archive:
            for alphabet, characters in part.alphabets.items():
                found = sorted(by_alphabet[alphabet], key=lambda entry: entry.filename)
                if len(found) != characters * DRAWERS:
                    raise UserError(
                        f"expected {characters * DRAWERS} drawings of {alphabet} in {path}; got "
                        f"{len(found)}; {advice}"
                    )
                yield np.stack([_drawing(archive, entry, advice) for entry in found])
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"expected a whole zip archive at {path}; got {cut(error)}; {advice}") from error


def _is_zip(path: Path) -> bool:
    return path.suffix == ".zip"


def _drawing(archive: BinaryIO, entry: zipfile.ZipInfo, advice: str) -> NDArray[np.uint8]:
    got = zip_archive.problem(entry, LARGEST)
    if got is None:
        described = (
            entry.header_offset,
            entry.compress_size,
            entry.file_size,
            entry.CRC,
            entry.compress_type,
        )
        try:
            return _pixels(content_of(archive, Entry(entry.orig_filename, *described)), entry.filename)
        except Unusable as error:
            got = str(error.args[1])
    raise UserError(
        f"expected a PNG image of {LARGE} x {LARGE} pixels as {shown(entry.filename)}; got {got}; {advice}"
    )


def _pixels(png: bytes, name: str) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Reads the header alone.
            with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
                if image.size == (LARGE, LARGE):
                    return np.asarray(image.convert("L"))
                got = f"{image.width} x {image.height} pixels"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        got = "far too many pixels"
    except _NO_PNG as error:
        got = f"a broken one ({cut(error)})"
    raise Unusable(name, got)


# What Pillow has for a PNG file whose checksums are right and whose content is not.
_NO_PNG = (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error)


def _part(
    name: str, num_bytes: int, md5: str, alphabets: Mapping[str, int], crc32: int, sha256: str
) -> DrawingsPart:
    addresses = (
        f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{name}.zip",
        f"https://github.com/brendenlake/omniglot/raw/master/python/{name}.zip",
    )
    archive = Archive(f"{name}.zip", num_bytes, md5, addresses)
    content = IdxContent((DRAWERS * sum(alphabets.values()), LARGE, LARGE), crc32, sha256)
    names = (f"{name}-idx3-ubyte.gz", f"{name}-idx3-ubyte", f"{name}.zip")
    return DrawingsPart(archive, names, content, alphabets)


OMNIGLOT = OmniglotSource(
    name="omniglot",
    origin="handwritten characters of 50 alphabets (Lake et al.)",
    sizes=(23_000, 1_345, 8_115),
    image_shape=(1, SMALL, SMALL),
    class_names=tuple(
        f"{alphabet.replace('_', ' ')} {number}"
        for alphabets in (BACKGROUND, EVALUATION)
        for alphabet, characters in alphabets.items()
        for number in range(1, characters + 1)
    ),
    folders=("omniglot",),
    train_from_evaluation=5_065,
    parts=(
        _part(
            "images_background",
            9_464_212,
            "68d2efa1b9178cc56df9314c21c6e718",
            BACKGROUND,
            0x677AA692,
            "fdfe90d167ea70e979b04a7cdecd982f160bc16110f72bae83a60ef60e339f6b",
        ),
        _part(
            "images_evaluation",
            6_462_886,
            "6b91aef0f799c5bb55b94e3f2daec811",
            EVALUATION,
            0x56BBE176,
            "8087647f8faaf7885d500a46bd420a472910c80b324c48b137251466e004976a",
        ),
    ),
)
