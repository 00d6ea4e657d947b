"""Data sets that are published as files: found in a folder or downloaded, read once, then cached."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor

from igr.data import cache
from igr.data.cache import Arrays, Stamp
from igr.data.dataset import Dataset, Source, State
from igr.data.download import Archive, fetch
from igr.errors import UserError


@dataclass(frozen=True)
class Part:
    """One file of a data set, under the name it is published by or another.

    Arguments:
        archive: The file as it is published.
        names: File names under which it may lie in a folder, the usual one first.
    """

    archive: Archive
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PublishedSource(Source):
    """A data set of published files; to implement one, give :meth:`_decode`.

    Its arrays are kept in the cache, in the order training, validation, test. With a data folder
    they are taken from there if they were made of the very files in that folder, by their paths,
    sizes and times of change.

    Arguments:
        parts: Its files.
        folders: Where they lie below a data folder; the first is the usual one.
    """

    parts: tuple[Part, ...]
    folders: tuple[str, ...]

    @abstractmethod
    def _decode(self, files: Mapping[str, Path]) -> tuple[Tensor, Tensor]:
        """Images, uint8 with shape [N, C, H, W], and labels, int64 with shape [N], splits in order.

        What can be refused at a glance should be, for every file, before the first is read.

        Arguments:
            files: A path for the archive name of every part.

        Raises:
            UserError: A file is not what it should be.
        """

    @property
    def reads_files(self) -> bool:
        return True

    def state(self, data_dir: Path | None) -> State:
        if data_dir is not None:
            files = self._present(data_dir)
            if not files:
                return State("absent", f"no files in {data_dir / self.folders[0]}")
            try:
                return _state_of(self._found(data_dir))
            except UserError as error:
                return State("broken", str(error))
        if cache.is_there(self.name):
            try:
                arrays = self._arrays()
            except UserError as error:
                return State("broken", str(error))
            places = dict.fromkeys(str(Path(stamp.path).parent) for stamp in arrays.sources)
            kept = cache.path_of(self.name)
            return State("ready", f"{kept}, made of the files in {', '.join(places)}", kept.stat().st_size)
        downloaded = self._present(cache.downloads_of(self.name))
        if len(downloaded) == len(self.parts):
            return _state_of(downloaded)
        size = sum(part.archive.num_bytes for part in self.parts)
        host = urlsplit(self.parts[0].archive.addresses[0]).hostname
        return State("absent", f"to be downloaded from {host}, about {size / 1e6:.0f} MB")

    def load(self, data_dir: Path | None) -> Dataset:
        files = None if data_dir is None else self._found(data_dir)
        kept = self._kept(files)
        if kept is None:
            with cache.locked(self.name):
                # Another process may have been faster.
                kept = self._kept(files) or self._read(self._downloaded() if files is None else files)
        return kept

    def check(self, data_dir: Path | None) -> list[str]:
        kept = cache.path_of(self.name)
        arrays = None
        report = []
        if cache.is_there(self.name):
            arrays = cache.verify(self.name, self.image_shape, sum(self.sizes), len(self.class_names))
            report.append(f"the cache {kept} holds {len(arrays.images):,} images, as they were written")
        files = self._present(cache.downloads_of(self.name)) if data_dir is None else self._found(data_dir)
        if files and len(files) == len(self.parts):
            images, labels = self._decode(files)
            place = _folder_of(files)
            report.append(f"{len(files)} files in {place} hold {len(images):,} images, checksums right")
            if arrays is not None:
                if not (torch.equal(arrays.images, images) and torch.equal(arrays.labels, labels)):
                    raise UserError(
                        f"expected the images of {place} in the cache {kept}; got other ones; remove "
                        "the cache file to have it made anew"
                    )
                report.append("the cache holds the images of these files")
        if not report:
            raise UserError(
                f"expected {self.name} in {kept}; got no such file; read it once with "
                f"igr data prepare {self.name}, with --data-dir if you have its files"
            )
        return report

    def _arrays(self) -> Arrays:
        return cache.read(self.name, self.image_shape, sum(self.sizes), len(self.class_names))

    def _kept(self, files: Mapping[str, Path] | None) -> Dataset | None:
        """What the cache has, if it is of these files; of any files for ``None``."""
        if not cache.is_there(self.name):
            return None
        arrays = self._arrays()
        if files is not None and arrays.sources != self._stamps(files):
            return None
        return self.split(arrays.images, arrays.labels)

    def _read(self, files: Mapping[str, Path]) -> Dataset:
        # Taken before the files are read: one that changes meanwhile does not match its stamp.
        stamps = self._stamps(files)
        images, labels = self._decode(files)
        cache.write(self.name, images, labels, stamps)
        arrays = self._arrays()
        return self.split(arrays.images, arrays.labels)

    def _stamps(self, files: Mapping[str, Path]) -> tuple[Stamp, ...]:
        return tuple(Stamp.of(files[part.archive.name]) for part in self.parts)

    def _present(self, data_dir: Path) -> dict[str, Path]:
        """The files in the first folder that has any of them."""
        for folder in (*(data_dir / name for name in self.folders), data_dir):
            found = {
                part.archive.name: path
                for part in self.parts
                if (path := next(filter(cache.exists, (folder / name for name in part.names)), None))
            }
            if found:
                return found
        return {}

    def _found(self, data_dir: Path) -> dict[str, Path]:
        """All files.

        Raises:
            UserError: One is missing.
        """
        files = self._present(data_dir)
        for part in self.parts:
            if part.archive.name not in files:
                names = " or ".join(part.names)
                folders = [_folder_of(files)] if files else [data_dir / folder for folder in self.folders]
                raise UserError(
                    f"expected {names} of {self.name} in {' or '.join(map(str, folders))}; got no such "
                    f"file; get it from {part.archive.addresses[0]}, or name another folder with --data-dir"
                )
        return files

    def _downloaded(self) -> dict[str, Path]:
        folder = cache.downloads_of(self.name)
        return {part.archive.name: fetch(part.archive, folder, self.name) for part in self.parts}


def _state_of(files: Mapping[str, Path]) -> State:
    return State("ready", str(_folder_of(files)), sum(path.stat().st_size for path in files.values()))


def _folder_of(files: Mapping[str, Path]) -> Path:
    """The folder that all files are in."""
    return next(iter(files.values())).parent
