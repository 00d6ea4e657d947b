"""Pictures of laws hold what they were given, in its place."""

import pytest
import torch
from matplotlib.axes import Axes

from igr import plot
from igr.fitting import fit


def test_distance_boxes_stand_at_their_temperatures(axes: Axes) -> None:
    temperatures = [0.1, 0.3, 0.6]
    quantiles = [[0.0, 0.1, 0.2, 0.4, 0.7], [0.1, 0.3, 0.5, 0.6, 0.8], [0.5, 0.6, 0.7, 0.75, 0.8]]
    assert plot.distance_boxes(axes, temperatures, quantiles, largest=0.9, title="t") is axes
    edges = []
    for box, temperature, (_, low, _, high, _) in zip(axes.patches, temperatures, quantiles, strict=True):
        extent = box.get_path().get_extents()
        assert (extent.x0 + extent.x1) / 2 == pytest.approx(temperature)
        assert (extent.y0, extent.y1) == pytest.approx((low, high))
        edges += [extent.x0, extent.x1]
    assert edges == sorted(edges)
    heights = {float(y) for line in axes.lines for y in line.get_ydata()}
    assert heights >= {number for row in quantiles for number in row} | {0.9}
    assert axes.get_ylim()[1] > 0.9
    # Ticks are those of an axis of numbers, not one for each box.
    assert axes.get_xticks().tolist() != temperatures


def test_one_box_can_be_drawn_and_the_key_names_its_parts(axes: Axes) -> None:
    plot.box_key(axes)
    said = [text.get_text() for text in axes.texts]
    assert said == ["5% point", "25% point", "median", "75% point", "95% point", "centre of the simplex"]
    heights = [text.get_position()[1] for text in axes.texts]
    assert heights == sorted(heights)


@pytest.mark.parametrize("count", [10, 40])
def test_law_histogram_takes_the_tensors_of_a_fit(axes: Axes, count: int) -> None:
    found = fit(torch.full((count,), 1.0 / count), "gumbel-softmax")
    plot.law_histogram(axes, found.target.probs, found.start_probs, found.probs, title="t")
    assert [bar.get_height() for bar in axes.containers[0].patches] == found.target.probs.tolist()


@pytest.mark.parametrize("count", [10, 30, 31, 170])
def test_law_histogram_draws_all_three_laws_in_their_place(axes: Axes, count: int) -> None:
    target = [1.0 / count] * count
    before, after = ([*target[:-1], share] for share in (0.5, 0.3))
    assert plot.law_histogram(axes, target, before, after, first=5, title="t") is axes
    bars = axes.containers[0].patches
    assert [bar.get_height() for bar in bars] == target
    middles = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert middles == pytest.approx(range(5, 5 + count))
    outlines = [patch for patch in axes.patches if patch not in bars]
    assert outlines[0].get_data().values.tolist() == before
    if count <= 30:
        (dots,) = axes.lines
        assert dots.get_xydata().tolist() == [[5.0 + i, share] for i, share in enumerate(after)]
    else:
        assert outlines[1].get_data().values.tolist() == after
        assert outlines[0].get_linestyle() != outlines[1].get_linestyle()
    assert axes.get_xlim() == (4.5, 4.5 + count)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 0.5
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("category", "probability")
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "target",
        "before the fit",
        "after the fit",
    ]
    assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent())
