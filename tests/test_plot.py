"""Pictures hold what they were given and say what it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.image import imread

from igr import plot
from igr.evaluation import ComparedRun, GroupedComparison, compare_groups
from igr.training.config import TrainConfig
from run_folders import evaluation

CURVES = [
    plot.Curve("first", 0, [(1, -30.0), (2, -25.0), (3, -22.0)], [(1, -31.0), (3, -23.0)]),
    plot.Curve("second", 1, [(1, -40.0), (2, -35.0), (3, -32.0)], [(1, -41.0), (3, -33.0)]),
]


@pytest.fixture
def axes() -> Axes:
    return plot.new_figure(6, 4)[1][0]


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
    names = [f"igr, num_categories {3 + number}" for number in range(8)]
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


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_keeps_every_pixel_upright_and_in_order(axes: Axes, channels: int) -> None:
    images = torch.rand(6, channels, 4, 5, generator=torch.Generator().manual_seed(0))
    assert plot.image_grid(axes, images.split(3), title="t") is axes
    assert len(axes.images) == 6
    for number, drawn in enumerate(axes.images):
        expected = images[number].expand(3, -1, -1).permute(1, 2, 0)
        torch.testing.assert_close(torch.as_tensor(drawn.get_array()), expected)
        left, _, bottom, top = drawn.get_extent()
        assert (round(left), round(top)) == (number % 3, number // 3)
        assert top < bottom
    # The vertical axis points down, as rows of pixels do.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_reconstructions_stand_below_their_originals(axes: Axes) -> None:
    originals, decoded = torch.zeros(3, 1, 4, 4), torch.ones(3, 1, 4, 4)
    assert plot.reconstructions(axes, originals, decoded, title="t") is axes
    levels = [(image.get_extent()[3] > 1, image.get_array().mean()) for image in axes.images]
    assert levels == [(False, 0.0)] * 3 + [(True, 1.0)] * 3
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "decoded"]


def test_saved_figure_is_a_picture(tmp_path: Path) -> None:
    figure, panels = plot.new_figure(4, 3, 2)
    assert len(panels) == 2
    plot.save(figure, tmp_path / "figure.png")
    assert imread(tmp_path / "figure.png").std() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_every_image_stands_below_its_label(axes: Axes) -> None:
    images = torch.linspace(0, 1, 7 * 16).view(7, 1, 4, 4)
    labels = [f"label {number}" for number in range(7)]
    assert plot.labelled_images(axes, images, labels, columns=3, title="seven") is axes
    assert [text.get_text() for text in axes.texts] == labels
    for number, (shown, text) in enumerate(zip(axes.images, axes.texts, strict=True)):
        assert torch.equal(torch.tensor(shown.get_array())[..., 0], images[number, 0])
        left, right, bottom, top = shown.get_extent()
        assert (right - left, bottom - top) == pytest.approx((1, 1))
        x, y = text.get_position()
        # Smaller is higher: above its own image, and below the one above.
        assert left < x < right
        assert 0 < top - y < 0.1
        row, column = divmod(number, 3)
        assert (left, top) == pytest.approx((column * plot.CELL, (row + 1) * plot.LABELLED - 1))
    # Everything lies within the axes, the first row above the others.
    assert axes.get_ylim()[0] > axes.images[-1].get_extent()[2] > axes.images[0].get_extent()[2] > 0


def test_panels_stand_in_rows() -> None:
    figure, panels = plot.new_figure(6, 4, 5, num_rows=2)
    assert len(panels) == len(figure.axes) == 5
    figure.draw_without_rendering()
    tops = [axes.get_position().y0 > 0.5 for axes in panels]
    assert tops == [True, True, True, False, False]


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


@pytest.mark.parametrize("count", [10, 170])
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
    if count == 10:
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
