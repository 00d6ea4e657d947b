"""Zip archives, read without trusting them: what they say of their entries is no more than a claim."""

import io
import zipfile
from pathlib import Path

_ENCRYPTED = 0x1


def directory(path: Path, most_bytes: int) -> list[zipfile.ZipInfo]:
    """The entries of an archive, by its central directory alone, of at most so many bytes.

    Raises:
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is no zip archive, or not one to be read.
    """
    try:
        with _Limited(path, most_bytes) as file, zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (ValueError, NotImplementedError) as error:
        # Offsets before the file, names that are none, and versions to come.
        raise zipfile.BadZipFile(str(error)) from error


class _Limited(io.FileIO):
    """A file of which no more than so many bytes can be read at once, whatever it claims to need."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            position = self.tell()
            size = self.seek(0, io.SEEK_END) - position
            self.seek(position)
        if size > self._most:
            raise zipfile.BadZipFile(f"a directory of {size:,} bytes")
        return super().read(size) or b""


def problem(entry: zipfile.ZipInfo, largest: int) -> str | None:
    """Why an entry is not one to be read, of at most so many bytes packed or unpacked; ``None`` if it is."""
    if entry.flag_bits & _ENCRYPTED:
        return "which is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "which is neither stored nor deflated"
    for size, what in ((entry.file_size, "unpacked"), (entry.compress_size, "packed")):
        if not 0 < size <= largest:
            return f"which has {size:,} bytes {what}, and not 1 to {largest:,}"
    if entry.header_offset < 0:
        return "which starts before the archive does"
    return None
