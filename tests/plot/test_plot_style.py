"""Figures become files, and panels stand in rows."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from igr import plot


def test_saved_figure_is_a_picture(tmp_path: Path) -> None:
    figure, panels = plot.new_figure(4, 3, 2)
    assert len(panels) == 2
    plot.save(figure, tmp_path / "figure.png")
    assert imread(tmp_path / "figure.png").std() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_panels_stand_in_rows() -> None:
    figure, panels = plot.new_figure(6, 4, 5, num_rows=2)
    assert len(panels) == len(figure.axes) == 5
    figure.draw_without_rendering()
    tops = [axes.get_position().y0 > 0.5 for axes in panels]
    assert tops == [True, True, True, False, False]


@pytest.mark.parametrize("height", [2.0, 6.0])
def test_a_legend_below_covers_no_label_in_a_panel_of_any_height(height: float) -> None:
    figure, (axes,) = plot.new_figure(4, height)
    plot.loss_curves(axes, {"one": [3.0, 2.0, 1.0]}, ylabel="loss")
    figure.draw_without_rendering()
    legend, label = axes.get_legend().get_window_extent(), axes.xaxis.label.get_window_extent()
    gap = (label.y0 - legend.y1) / figure.dpi
    assert 0.0 <= gap < 0.15
