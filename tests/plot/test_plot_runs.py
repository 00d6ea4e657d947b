"""Pictures of runs hold every figure and tell runs apart."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from igr import plot
from igr.evaluation import ComparedRun, GroupedComparison, compare_groups
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, PRE_IMAGE
from igr.training.config import TrainConfig
from run_folders import evaluation

CURVES = [
    plot.Curve("first", 0, [(1, -30.0), (2, -25.0), (3, -22.0)], [(1, -31.0), (3, -23.0)]),
    plot.Curve("second", 1, [(1, -40.0), (2, -35.0), (3, -32.0)], [(1, -41.0), (3, -33.0)]),
]


def test_bounds_over_epochs_draws_every_figure(axes: Axes) -> None:
    assert plot.bounds_over_epochs(axes, CURVES, title="t", quantity="relaxed ELBO") is axes
    drawn = [list(zip(*line.get_data(), strict=True)) for line in axes.lines]
    assert drawn == [points for curve in CURVES for points in (curve.training, curve.validation)]
    assert axes.get_xlabel() == "epoch"
    assert "relaxed ELBO" in axes.get_ylabel()
    assert "nats" in axes.get_ylabel()


def test_curves_differ_in_more_than_colour(axes: Axes) -> None:
    plot.bounds_over_epochs(axes, CURVES, title="t", quantity="q")
    training, validation = axes.lines[::2], axes.lines[1::2]
    assert {line.get_linestyle() for line in training} == {"--"}
    assert {line.get_linestyle() for line in validation} == {"-"}
    assert len({line.get_marker() for line in validation}) == len(CURVES)
    assert len({line.get_color() for line in validation}) == len(CURVES)


def test_a_run_looks_the_same_in_every_panel() -> None:
    _, panels = plot.new_figure(9, 4, 2)
    plot.bounds_over_epochs(panels[0], CURVES, title="t", quantity="q")
    plot.bounds_over_epochs(panels[1], CURVES[1:], title="t", quantity="q")
    (_, other), (alone,) = panels[0].lines[1::2], panels[1].lines[1::2]
    assert alone.get_color() == other.get_color() != panels[0].lines[1].get_color()
    assert alone.get_marker() == other.get_marker() != panels[0].lines[1].get_marker()


@pytest.mark.parametrize("first", [-500.0, 500.0])
def test_the_first_figures_do_not_squeeze_the_others(axes: Axes, first: float) -> None:
    curve = plot.Curve("a", 0, [(1, first), (2, -25.0), (3, -22.0)], [(1, 2 * first), (2, -24.0), (3, -23.0)])
    plot.bounds_over_epochs(axes, [curve], title="t", quantity="q")
    bottom, top = axes.get_ylim()
    assert -26.0 < bottom < -25.0
    assert -22.0 < top < -21.0


def test_the_only_validation_figure_is_in_the_picture(axes: Axes) -> None:
    curve = plot.Curve("a", 0, [(1, -30.0), (2, -25.0), (3, -22.0)], [(3, -40.0)])
    plot.bounds_over_epochs(axes, [curve], title="t", quantity="q")
    assert axes.get_ylim()[0] < -40.0


def test_legend_names_the_runs_and_covers_no_data(axes: Axes) -> None:
    plot.bounds_over_epochs(axes, CURVES, title="t", quantity="q")
    axes.figure.draw_without_rendering()
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "first",
        "second",
        "validation",
        "training",
    ]
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_a_run_without_figures_yet_can_be_drawn(axes: Axes) -> None:
    plot.bounds_over_epochs(axes, [plot.Curve("new", 0, [], [])], title="t", quantity="q")
    assert not axes.lines


def grouped(num_rows: int, num_seeds: int = 3, epochs: int = 20) -> GroupedComparison:
    """Rows with numbers of categories of their own, trained with both KLs."""
    runs = []
    for number in range(num_rows):
        for kl in ("relaxed", "discrete"):
            for seed in range(num_seeds):
                settings = {"num_categories": 3 + number, "kl": kl, "seed": seed, "epochs": epochs}
                config = TrainConfig(**settings).resolved()
                metrics = [
                    {"epoch": epoch, "validation_bound": -300.0 / epoch - number - seed**2}
                    for epoch in range(1, epochs + 1)
                ]
                found = evaluation([-1.0] * 4, epoch=epochs)
                runs.append(ComparedRun(config.run_name, config, found, metrics))
    return compare_groups(runs)


def test_grouped_figure_draws_mean_and_error_over_seeds() -> None:
    figure = plot.grouped_figure(grouped(2))
    assert [axes.get_title() for axes in figure.axes] == [
        "digits, trained with the KL of the discrete laws",
        "digits, trained with the KL of the relaxed laws",
    ]
    for axes in figure.axes:
        assert axes.get_xlabel() == "epoch"
        assert "validation (nats per image)" in axes.get_ylabel()
        for number, (line, band) in enumerate(zip(axes.lines, axes.collections, strict=True)):
            values = np.array([[-300.0 / e - number - s**2 for e in range(1, 21)] for s in range(3)])
            middle, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(3)
            assert line.get_ydata() == pytest.approx(middle)
            heights = band.get_paths()[0].vertices[:, 1]
            assert heights.min() == pytest.approx((middle - error).min())
            assert heights.max() == pytest.approx((middle + error).max())


def test_eight_rows_look_different_and_the_same_in_every_panel() -> None:
    figure = plot.grouped_figure(grouped(8))
    looks = [
        [(line.get_color(), str(line.get_linestyle()), line.get_marker()) for line in axes.lines]
        for axes in figure.axes
    ]
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == len({look[:2] for look in looks[0]}) == 8
    (legend,) = figure.legends
    names = [f"igr, categories {3 + number}" for number in range(8)]
    assert [text.get_text() for text in legend.get_texts()] == [*names, plot.SEEDS_BAND]
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
    assert figure.bbox.containsx(legend.get_window_extent().x0)
    assert figure.bbox.containsx(legend.get_window_extent().x1)


def test_early_figures_do_not_squeeze_the_others() -> None:
    for axes in plot.grouped_figure(grouped(2)).axes:
        bottom, top = axes.get_ylim()
        settled = [y for line in axes.lines for x, y in line.get_xydata() if x > 4]
        assert min(settled) - 10 < bottom < min(settled)
        assert max(settled) < top < max(settled) + 10


@pytest.mark.parametrize("epochs", [0, 1])
def test_rows_of_one_seed_have_no_band_and_may_have_few_figures(epochs: int) -> None:
    comparison = grouped(1, num_seeds=1, epochs=1)
    if epochs == 0:
        comparison.runs[0].metrics.clear()
    figure = plot.grouped_figure(comparison)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["igr"]
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes] == [1, epochs]


def test_a_figure_far_below_the_others_is_an_arrow_with_its_value() -> None:
    runs = []
    for number, (exact, pre_image) in enumerate([(-100.0, -1600.0), (-103.0, -105.0), (-108.0, -109.0)]):
        config = TrainConfig(num_categories=3 + number).resolved()
        found = evaluation([-200.0, -150.0, exact, pre_image])
        runs.append(ComparedRun(config.run_name, config, found, []))
    kinds = (IMPORTANCE_WEIGHTED, PRE_IMAGE)
    (axes,) = plot.bounds_figure(compare_groups(runs), kinds, titles={"igr": "IGR-I"}).axes
    low, high = axes.get_xlim()
    assert -115 < low < -108
    assert -100 < high < -95
    assert [text.get_text() for text in axes.texts] == ["-1600"]
    (arrow,) = [line for line in axes.lines if line.get_marker() == "<"]
    assert low < arrow.get_xdata()[0] < low + 1
    drawn = {float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("o", "s")}
    assert drawn == {-100.0, -103.0, -105.0, -108.0, -109.0}


def test_runs_that_meet_vertices_have_a_panel_of_their_own() -> None:
    runs = []
    for estimator in ("pathwise", "gumbel_straight_through", "reinmax"):
        config = TrainConfig(estimator=estimator).resolved()
        metrics = [{"epoch": 1, "validation_bound": -30.0}, {"epoch": 2, "validation_bound": -29.0}]
        runs.append(ComparedRun(config.run_name, config, evaluation([-1.0] * 4, epoch=2), metrics))
    figure = plot.grouped_figure(compare_groups(runs))
    assert [(axes.get_title(), len(axes.lines)) for axes in figure.axes] == [
        ("digits, trained with the KL of the discrete laws", 1),
        ("digits, trained with vertices, KL of the discrete laws", 2),
    ]
    assert "no bound" in figure.axes[0].get_ylabel()
    assert figure.axes[1].get_ylabel().startswith("discrete ELBO")


def test_words_that_all_rows_have_in_common_are_said_once() -> None:
    runs = []
    for settings in (
        {"estimator": "reinmax"},
        {"estimator": "rebar"},
        {"estimator": "vimco", "num_samples": 2},
    ):
        config = TrainConfig(**settings).resolved()
        runs.append(ComparedRun(config.run_name, config, evaluation([-1.0] * 4), []))
    (axes,) = plot.bounds_figure(compare_groups(runs), (IMPORTANCE_WEIGHTED,), titles={"igr": "IGR-I"}).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "estimator reinmax, samples 1",
        "estimator rebar, samples 1",
        "estimator vimco, samples 2",
    ]
    assert axes.get_title() == "digits, IGR-I, discrete KL"
    (axes,) = plot.bounds_figure(compare_groups(runs[:1]), (IMPORTANCE_WEIGHTED,), titles={}).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["igr, discrete KL"]
