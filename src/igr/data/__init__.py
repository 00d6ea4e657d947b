"""Images for the experiments: one contract, one registry."""

from igr.data.dataset import Dataset, Source, Split, prepare
from igr.data.registry import SOURCES, load

__all__ = ["SOURCES", "Dataset", "Source", "Split", "load", "prepare"]
