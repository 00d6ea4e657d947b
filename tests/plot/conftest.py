"""What tests of pictures share."""

import pytest
from matplotlib.axes import Axes

from igr import plot


@pytest.fixture
def axes() -> Axes:
    return plot.new_figure(6, 4)[1][0]
