"""Dots stand where their figures are, and series are told apart by more than colour."""

from igr import plot
from igr.tables import Measured


def test_every_figure_is_a_dot_with_its_error() -> None:
    rows = {
        "first": {"few": Measured(3.0, 0.5), "many": Measured(2.0, None)},
        "second": {"few": Measured(4.0, 0.25)},
    }
    figure = plot.dot_figure([plot.DotPanel("one", rows), plot.DotPanel("two", rows)], axis="nats")
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    for axes in figure.axes:
        drawn = {(float(c[0].get_xdata()[0]), round(float(c[0].get_ydata()[0]))) for c in axes.containers}
        assert drawn == {(3.0, 0), (2.0, 0), (4.0, 1)}
        assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
        assert axes.get_xlabel() == "nats"
        # The first row is on top.
        assert axes.get_ylim()[0] > axes.get_ylim()[1]
        spans = [c[2][0].get_segments()[0] for c in axes.containers]
        assert [round(float(span[1][0] - span[0][0]), 6) for span in spans] == [1.0, 0.0, 0.5]
    handles = figure.legends[0].legend_handles
    assert [handle.get_label() for handle in handles] == ["few", "many"]
    assert len({handle.get_marker() for handle in handles}) == 2
