"""Pictures of estimators hold the figures of the probe, each beside its name."""

import itertools

import pytest
import torch
from matplotlib.axes import Axes

from igr import plot
from igr.estimators import Probe, ProbedEstimator


def row(name: str, unbiased: bool, bias: float, variance: float) -> ProbedEstimator:
    nothing = torch.zeros(1)
    return ProbedEstimator(name, unbiased, 1.0, bias, 0.02, variance, 1e-3, nothing, nothing)


PROBE = Probe(
    "a law",
    2,
    100,
    "exact enumeration",
    (row("first", True, 0.01, 4.0), row("second", False, 0.3, 0.5), row("third", False, 0.2, 0.0)),
)


@pytest.mark.parametrize("draw", [plot.estimator_biases, plot.estimator_variances])
def test_estimators_stand_beside_their_names(axes: Axes, draw) -> None:
    assert draw(axes, PROBE) is axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "third"]
    low, high = axes.get_ylim()
    assert low > high  # the first on top
    assert axes.get_xlabel()


def test_biases_and_what_sampling_would_give(axes: Axes) -> None:
    plot.estimator_biases(axes, PROBE)
    drawn = [line.get_xdata() for line in axes.lines]
    assert [list(x) for x in drawn[::2]] == [[0.0, 0.02]] * 3
    assert [float(x[0]) for x in drawn[1::2]] == [0.01, 0.3, 0.2]


def test_variances_are_logarithmic_and_none_is_left_out(axes: Axes) -> None:
    plot.estimator_variances(axes, PROBE)
    assert axes.get_xscale() == "log"
    assert [float(line.get_xdata()[0]) for line in axes.lines] == [4.0, 0.5]


@pytest.mark.parametrize(("smallest", "largest"), [(0.45, 4.3), (0.01, 0.9), (1e-3, 4.0), (2e-7, 30.0)])
def test_numbers_of_variances_stand_apart(smallest: float, largest: float) -> None:
    rows = (row("first", True, 0.1, smallest), row("second", False, 0.1, largest))
    figure, panels = plot.new_figure(5.5, 3, 2)
    for axes in panels:
        plot.estimator_variances(axes, Probe("a law", 2, 100, "exact enumeration", rows))
    figure.draw_without_rendering()
    low, high = panels[0].get_xlim()
    ticks = [*panels[0].xaxis.get_major_ticks(), *panels[0].xaxis.get_minor_ticks()]
    labels = [tick.label1 for tick in ticks if tick.label1.get_text() and low <= tick.get_loc() <= high]
    assert len(labels) >= 2
    extents = sorted((label.get_window_extent() for label in labels), key=lambda extent: extent.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(extents))


def test_a_claim_is_told_by_more_than_colour() -> None:
    figure = plot.probe_figure(PROBE)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["says that it is unbiased", "says that it is biased"]
    assert len({line.get_marker() for line in figure.legends[0].get_lines()}) == 2
