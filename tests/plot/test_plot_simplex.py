"""Pictures on a triangle hold points and densities in their place."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

import igr
from cases import generator
from igr import plot, ternary

LAW = igr.InvertibleGaussian(torch.tensor([0.5, -0.3]), 1.0, 0.7)
STICKS = igr.LogisticStickBreakingTransform()


def places(axes: Axes) -> np.ndarray:
    return np.asarray(axes.collections[-1].get_offsets())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_points_lie_at_the_means_of_the_corners(axes: Axes, dtype: torch.dtype) -> None:
    points = torch.rand(20, 3, generator=generator(0), dtype=torch.float64).softmax(-1)
    points = torch.cat([points, torch.eye(3, dtype=torch.float64)]).to(dtype).requires_grad_()
    assert plot.ternary_samples(axes, points, title="t") is axes
    z = points.detach().double().numpy()
    expected = np.stack([z[:, 1] + 0.5 * z[:, 2], z[:, 2] * 3**0.5 / 2], axis=-1)
    np.testing.assert_allclose(places(axes), expected, atol=1e-6)
    assert axes.get_title() == "t"
    assert axes.get_aspect() == 1.0
    assert not axes.axison


def test_each_label_stands_at_its_corner(axes: Axes) -> None:
    plot.ternary_samples(axes, np.eye(3), labels=("a", "b", "c"))
    stand = {text.get_text().strip(): text.get_position() for text in axes.texts}
    assert [stand[name] for name in "abc"] == [tuple(place) for place in places(axes)]
    # The names are outside of the triangle.
    axes.figure.draw_without_rendering()
    outline = axes.patches[0].get_window_extent()
    a, b, c = (text.get_window_extent() for text in axes.texts)
    assert a.x1 <= outline.x0 + 1
    assert b.x0 >= outline.x1 - 1
    assert c.y0 >= outline.y1 - 1


def test_no_point_is_a_frame_alone(axes: Axes) -> None:
    assert plot.ternary_samples(axes, torch.zeros(0, 3)) is axes
    assert len(places(axes)) == 0
    axes.figure.draw_without_rendering()


def test_clouds_on_one_triangle_differ_and_have_one_frame(axes: Axes) -> None:
    plot.ternary_density(axes, LAW)
    for position in (0, 1):
        plot.ternary_samples(axes, LAW.sample((5,)), position=position)
    assert len(axes.patches) == 1
    assert len(axes.texts) == 3
    first, second = axes.collections[-2:]
    assert not np.array_equal(first.get_facecolor(), second.get_facecolor())
    assert not np.array_equal(first.get_paths()[0].vertices, second.get_paths()[0].vertices)


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "one point": (torch.ones(3) / 3, {}, ValueError, r"expected points of shape \(N, 3\); got \(3,\)"),
    "four categories": (torch.ones(2, 4) / 4, {}, ValueError, r"got \(2, 4\)"),
    "whole numbers": (torch.eye(3).long(), {}, TypeError, "floating-point"),
    "logarithms": (torch.full((2, 3), -1.1), {}, ValueError, r"got \[-1.1.*among 2 such points; .*exp"),
    "below zero": (torch.tensor([[-0.01, 0.51, 0.5]]), {}, ValueError, "among 1 such points"),
    "sum above one": (torch.tensor([[0.3, 0.3, 0.43]]), {}, ValueError, "among 1 such points"),
    "sum below one": (torch.tensor([[0.3, 0.3, 0.37]]), {}, ValueError, "among 1 such points"),
    "NaN": (torch.full((1, 3), float("nan")), {}, ValueError, "among 1 such points"),
    "labels": (torch.eye(3), {"labels": "ab"}, ValueError, "expected three labels; got 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_cloud_on_a_triangle_is_refused(axes: Axes, name: str) -> None:
    points, settings, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        plot.ternary_samples(axes, points, **settings)
    assert not axes.collections


def triangles(axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """The centres of the triangles that are drawn, and their values."""
    drawn = axes.collections[0]
    return np.stack([path.vertices[:3].mean(0) for path in drawn.get_paths()]), np.asarray(drawn.get_array())


def test_each_triangle_has_the_log_density_of_its_centre(axes: Axes) -> None:
    assert plot.ternary_density(axes, LAW, title="t", resolution=15) is axes
    centres, values = triangles(axes)
    third = centres[:, 1] / (3**0.5 / 2)
    second = centres[:, 0] - 0.5 * third
    z = torch.as_tensor(np.stack([1 - second - third, second, third], axis=-1))
    np.testing.assert_allclose(values, LAW.log_prob(z.float()).numpy(), rtol=1e-3, atol=1e-3)
    assert len(values) == 15**2
    assert axes.get_title() == "t"
    bar = axes.collections[0].colorbar
    assert bar.ax.get_ylabel() == "log-density (nats), by Lebesgue\nmeasure on the first two weights"


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 5.0])
def test_colours_tell_most_of_the_triangle_apart(axes: Axes, temperature: float) -> None:
    """At every temperature the range of colours is at most 12 nats, and arrows tell of what lies beyond."""
    plot.ternary_density(axes, LAW.with_temperature(temperature), resolution=60)
    drawn = axes.collections[0]
    values = np.asarray(drawn.get_array())
    low, high = drawn.get_clim()
    assert 1.0 < high - low <= 12.0
    assert (values > high).mean() <= 0.005
    # A high density is bright.
    brightness = drawn.to_rgba(np.linspace(low, high, 20))[:, :3].sum(-1)
    assert (np.diff(brightness) > 0).all()
    ends = {"min": (values < low).any(), "max": (values > high).any()}
    extend = drawn.colorbar.extend
    assert ends == {"min": extend in ("min", "both"), "max": extend in ("max", "both")}


def test_what_a_law_does_not_reach_is_left_blank(axes: Axes) -> None:
    law = igr.InvertibleGaussian(torch.tensor([0.5, -0.3]), 0.8, 0.5, STICKS)
    plot.ternary_density(axes, law, resolution=40)
    _, values = triangles(axes)
    assert np.isfinite(values).all()
    reached = ternary.log_density(law, ternary.ternary_grid(40).points) > -torch.inf
    assert 0 < len(values) == int(reached.sum()) < 40**2


def test_a_grid_of_one_cell_is_drawn_too(axes: Axes) -> None:
    plot.ternary_density(axes, LAW, resolution=1)
    axes.figure.draw_without_rendering()
    assert len(triangles(axes)[1]) == 1


def test_a_law_that_reaches_less_than_a_cell_says_so(axes: Axes) -> None:
    law = igr.InvertibleGaussian(torch.tensor([0.5, -0.3]), 0.8, 500.0, STICKS)
    assert plot.ternary_density(axes, law) is axes
    assert not axes.collections
    assert axes.texts[-1].get_text() == "the law reaches less\nthan a cell of the grid"


def test_the_density_of_a_batch_is_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match=r"ternary_density: expected one law.* got batch shape \(2,\)"):
        plot.ternary_density(axes, igr.GumbelSoftmax(0.5, torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="ternary_density: expected three labels; got 1"):
        plot.ternary_density(axes, LAW, labels=["a"])
