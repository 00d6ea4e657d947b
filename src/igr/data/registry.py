"""The data sets by name. A new one is a module with a :class:`Source` and its entry here."""

from pathlib import Path

from igr.data.celeba import CELEBA
from igr.data.dataset import Dataset, Source
from igr.data.digits import DIGITS
from igr.data.mnist import FASHION_MNIST, MNIST
from igr.data.omniglot import OMNIGLOT
from igr.errors import unknown_name

SOURCES: dict[str, Source] = {
    source.name: source for source in (DIGITS, MNIST, FASHION_MNIST, OMNIGLOT, CELEBA)
}


def source(name: str) -> Source:
    """What is known of the data set of that name.

    Raises:
        UserError: There is no such data set.
    """
    if name not in SOURCES:
        raise unknown_name("data", name, SOURCES)
    return SOURCES[name]


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Reads the data set of that name.

    Arguments:
        name: A key of :data:`SOURCES`.
        data_dir: The folder with the files of data sets; ``None`` takes what was read before, and
            downloads what was not.

    Raises:
        UserError: There is no such data set, or it cannot be read.
    """
    return source(name).load(None if data_dir is None else Path(data_dir))
