"""An archive of a few images in the layout of CelebA, and the data set of it."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from igr.data import SOURCES
from igr.data.celeba import CELEBA, CelebASource

SIZES = (40, 10, 10)
PER_PIECE = 8


def face(number: int) -> Image.Image:
    """A picture that compresses like a photograph, another one for each number."""
    random = np.random.default_rng(number)
    patches = Image.fromarray(random.integers(0, 256, (11, 9, 3), dtype=np.uint8))
    smooth = np.asarray(patches.resize((178, 218), Image.Resampling.BICUBIC), np.float64)
    grain = random.normal(0, 4, (218, 178, 1))
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    """The image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", **options)
    return buffer.getvalue()


def name_of(number: int) -> str:
    """The name of an image in the archive."""
    return f"img_align_celeba/{number:06d}.jpg"


def celeba_files(count: int) -> dict[str, bytes]:
    """The files of an archive by their names."""
    return {name_of(number): jpeg(face(number)) for number in range(1, count + 1)}


def celeba_archive(path: Path, count: int, files: Mapping[str, bytes] | None = None) -> Path:
    """Writes an archive of images 1 to ``count``, or of these files; always the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("img_align_celeba/"), b"")
        for name, data in (celeba_files(count) if files is None else files).items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


def small_celeba(folder: Path, sizes: tuple[int, int, int] = SIZES) -> CelebASource:
    """CelebA as if it had so many images; their archive lies in a data folder as usual.

    Nothing is prepared; ``source.prepare(folder, workers=1)`` does it in a second, in a process of
    its own.
    """
    celeba_archive(folder / "celeba" / "img_align_celeba.zip", sum(sizes))
    return replace(CELEBA, sizes=sizes, images_per_piece=PER_PIECE)


@contextmanager
def celeba_prepared(folder: Path, sizes: tuple[int, int, int] = SIZES) -> Iterator[CelebASource]:
    """Has the small set stand under ``"celeba"`` among the data sets, prepared in the cache folder."""
    source = small_celeba(folder, sizes)
    source.prepare(folder, workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "celeba", source)
        yield source
