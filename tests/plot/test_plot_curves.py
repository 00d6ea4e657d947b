"""Curves hold what they were given and are told apart."""

import pytest
from matplotlib.axes import Axes

from igr import plot


def test_quantile_bands_are_told_apart_by_more_than_colour(axes: Axes) -> None:
    bands = [
        plot.Band(f"law {i}", [0.0, 1.0, 2.0], [i, i + 0.1, i + 0.2], [i + 0.5] * 3, [i + 1.0] * 3)
        for i in range(6)
    ]
    assert plot.quantile_bands(axes, bands, xlabel="temperature", ylabel="distance") is axes
    medians = [line for line in axes.lines if line.get_marker() != "None"]
    assert [line.get_ydata().tolist() for line in medians] == [list(band.middle) for band in bands]
    assert len(set(plot.LINES)) == 6
    assert len({line.get_color() for line in medians}) == len({line.get_marker() for line in medians}) == 6
    assert len(axes.collections) == 6
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("temperature", "distance")
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [band.label for band in bands]
    assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent())


@pytest.mark.parametrize("log_scale", [True, False])
def test_loss_curves_draw_every_history(axes: Axes, log_scale: bool) -> None:
    histories = {"a": [3.0, 2.0, 0.0], "b": [2.0], "c": [1.0] * 300}
    assert plot.loss_curves(axes, histories, ylabel="KL (nats)", log_scale=log_scale) is axes
    assert [line.get_ydata().tolist() for line in axes.lines] == list(histories.values())
    assert axes.lines[2].get_xdata().tolist() == list(range(300))
    assert axes.get_yscale() == ("log" if log_scale else "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("iteration", "KL (nats)")
    axes.figure.draw_without_rendering()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(histories)


def test_weights_of_components_have_a_logarithmic_axis_and_the_threshold(axes: Axes) -> None:
    weights = {"IGR": [0.9, 0.09, 0.0], "Kumaraswamy": [0.5, 0.3, 0.15, 0.05]}
    assert plot.component_weights(axes, weights, title="digits") is axes
    assert axes.get_yscale() == "log"
    assert axes.get_xlim() == (0.5, 4.5)
    first, second = axes.lines[:2]
    assert first.get_ydata()[:2].tolist() == [0.9, 0.09]
    # A logarithm that there is not is a gap.
    assert first.get_ydata()[2] != first.get_ydata()[2]
    assert second.get_ydata().tolist() == weights["Kumaraswamy"]
    assert list(axes.lines[2].get_ydata()) == [0.01, 0.01]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["IGR", "Kumaraswamy", "active above 1%"]


def test_a_single_model_needs_no_name(axes: Axes) -> None:
    plot.component_weights(axes, {"": [0.9, 0.1]}, title="digits")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["active above 1%"]
