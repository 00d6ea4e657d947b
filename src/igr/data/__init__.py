"""Images for the experiments: one contract, one registry."""

from igr.data.dataset import Dataset, Source, Split, State
from igr.data.pixels import BINARIZATIONS, cut, prepare
from igr.data.registry import SOURCES, load, source

__all__ = [
    "BINARIZATIONS",
    "SOURCES",
    "Dataset",
    "Source",
    "Split",
    "State",
    "cut",
    "load",
    "prepare",
    "source",
]
