"""Curves of distances are quantiles of what samples at each temperature have."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import igr
from cases import generator
from igr import plot
from igr.diagnostics import vertex_distance

GUMBEL = igr.GumbelSoftmax(0.5, torch.tensor([0.5, 0.0, -0.5]))
IGR = igr.InvertibleGaussian(torch.zeros(5, 9), 1.0, 0.3)
TEMPERATURES = (0.02, 0.2, 1.0, 5.0)


def curve(axes: Axes, label: str) -> Line2D:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def test_curves_are_medians_and_bands_the_middle_half(axes: Axes) -> None:
    laws = {"GS": GUMBEL, "IGR-I": IGR}
    source = generator("curves")
    found = plot.distances_by_temperature(
        axes, laws, TEMPERATURES, num_samples=4000, generator=source, title="t"
    )
    assert found is axes
    for (label, law), band in zip(laws.items(), axes.collections, strict=True):
        edges = band.get_paths()[0].vertices
        for temperature, median in curve(axes, label).get_xydata():
            other = law.with_temperature(temperature).rsample_log((4000,), generator("other noise"))
            expected = vertex_distance(other).flatten().quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
            ends = sorted({y for x, y in edges if x == temperature})
            np.testing.assert_allclose([ends[0], median, ends[-1]], expected, atol=0.02)
    assert curve(axes, "GS").get_xdata().tolist() == list(TEMPERATURES)
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_title()) == ("temperature", "t")
    assert axes.get_ylabel() == "Euclidean distance\nto the nearest vertex"


def test_the_centre_is_dotted_for_each_number_of_categories(axes: Axes) -> None:
    plot.distances_by_temperature(axes, {"GS": GUMBEL, "IGR-I": IGR}, TEMPERATURES, num_samples=10)
    for size in (3, 10):
        line = curve(axes, f"centre of the simplex, K = {size}")
        assert set(line.get_ydata()) == {math.sqrt(1 - 1 / size)}
        assert line.get_linestyle() == ":"
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    centres = ["centre of the simplex, K = 3", "centre of the simplex, K = 10"]
    assert said == ["GS", "IGR-I", "median and middle half", *centres]


def test_all_temperatures_see_the_same_noise(axes: Axes) -> None:
    """The distance of a point rises with temperature; with fresh noise five samples would not tell."""
    temperatures = torch.logspace(-1, 0.5, 40)
    plot.distances_by_temperature(axes, {"": GUMBEL}, temperatures, num_samples=5)
    median = axes.lines[2].get_ydata()
    assert (np.diff(median) > 0).all()


def test_a_generator_decides_and_none_other_is_touched(axes: Axes) -> None:
    state = torch.get_rng_state()
    heights = [
        plot.distances_by_temperature(
            axes, {"GS": GUMBEL}, TEMPERATURES, generator=generator(seed), num_samples=50
        )
        .lines[-2]
        .get_ydata()
        .tolist()
        for seed in (0, 0, 1)
    ]
    assert heights[0] == heights[1] != heights[2]
    assert torch.equal(torch.get_rng_state(), state)


BAD: dict[str, tuple[dict[str, Any], Any, dict[str, Any], type[Exception], str]] = {
    "no law": ({}, TEMPERATURES, {}, ValueError, "one to six laws; got 0"),
    "binary": (
        {"b": igr.BinaryConcrete(0.5, torch.tensor(0.0))},
        (1.0,),
        {},
        TypeError,
        "'b' to be a Simplex",
    ),
    "no temperature": ({"GS": GUMBEL}, [], {}, ValueError, "ascending order; got"),
    "zero": ({"GS": GUMBEL}, [0.0, 1.0], {}, ValueError, "positive temperatures"),
    "twice": ({"GS": GUMBEL}, [0.5, 0.5], {}, ValueError, "ascending order"),
    "infinite": ({"GS": GUMBEL}, [0.5, math.inf], {}, ValueError, "positive temperatures"),
    "text": ({"GS": GUMBEL}, ["a"], {}, TypeError, "temperatures to be a number; got 'a'"),
    "no sample": ({"GS": GUMBEL}, [0.5], {"num_samples": 0}, ValueError, "num_samples of at least 1"),
    "empty": ({"E": igr.GumbelSoftmax(0.5, torch.zeros(0, 3))}, [0.5], {}, ValueError, "'E' .* empty batch"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_has_no_curve_is_refused(axes: Axes, name: str) -> None:
    laws, temperatures, settings, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        plot.distances_by_temperature(axes, laws, temperatures, **settings)
    assert not axes.lines
