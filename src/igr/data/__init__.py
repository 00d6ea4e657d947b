"""Images for the experiments: one contract, one registry."""

from igr.data.dataset import Dataset, Source, Split, State, Stopped
from igr.data.pixels import BINARIZATIONS, PreparedImages, cut, prepare
from igr.data.registry import SOURCES, load, source

__all__ = [
    "BINARIZATIONS",
    "SOURCES",
    "Dataset",
    "PreparedImages",
    "Source",
    "Split",
    "State",
    "Stopped",
    "cut",
    "load",
    "prepare",
    "source",
]
