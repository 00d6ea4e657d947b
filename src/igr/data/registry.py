"""The data sets by name. A new one is a module with a :class:`Source` and one line here."""

from pathlib import Path

from igr.data import digits
from igr.data.dataset import Dataset, Source
from igr.errors import unknown_name

SOURCES: dict[str, Source] = {
    "digits": digits.SOURCE,
}


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Reads the data set of that name.

    Arguments:
        name: A key of :data:`SOURCES`.
        data_dir: The folder with the files of the data set, for sets that are read from files.

    Raises:
        UserError: There is no such data set, or it cannot be read.
    """
    if name not in SOURCES:
        raise unknown_name("data", name, SOURCES)
    return SOURCES[name].load(None if data_dir is None else Path(data_dir))
