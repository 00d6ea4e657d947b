"""Bars are the discrete law, and dots the frequencies among samples with two standard errors."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer

import igr
from cases import bits, generator
from igr import plot

LAW = igr.InvertibleGaussian(torch.tensor([0.5, -0.3, 0.1]), 1.0, 0.3)
FLOW = igr.InvertibleGaussian(torch.tensor([0.5, -0.3]), 1.0, 0.3, igr.PlanarFlow(3, generator=generator(0)))


def bars(axes: Axes) -> list[float]:
    (found,) = [container for container in axes.containers if isinstance(container, BarContainer)]
    return [patch.get_height() for patch in found.patches]


def dots(axes: Axes) -> list[tuple[list[float], list[float], list[float], list[float]]]:
    """Places, heights and ends of error bars, of each set of dots."""
    found = []
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            line, _, (bars,) = container.lines
            # What is not drawn has no ends.
            segments = np.array([ends for ends in bars.get_segments() if len(ends)])
            x, y = segments[:, 0, 0], None if line is None else line.get_ydata().tolist()
            found.append((x.tolist(), y, segments[:, 0, 1].tolist(), segments[:, 1, 1].tolist()))
    return found


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("law", [LAW, LAW.discrete()])
def test_bars_are_the_exact_law(axes: Axes, law: Any) -> None:
    assert plot.discrete_law(axes, law, title="t") is axes
    np.testing.assert_allclose(bars(axes), LAW.discrete().probs.numpy(), rtol=1e-6)
    assert texts(axes) == ["exact law"]
    assert dots(axes) == []
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("category", "probability", "t")


def test_dots_are_frequencies_with_two_standard_errors(axes: Axes) -> None:
    points = LAW.sample((200,), generator=generator(1))
    plot.discrete_law(axes, LAW, points)
    counts = torch.bincount(points.argmax(-1), minlength=4).double().numpy()
    share = counts / 200
    ((places, heights, low, high),) = dots(axes)
    error = 2 * np.sqrt(share * (1 - share) / 200)
    assert places == [1.0, 2.0, 3.0, 4.0]
    np.testing.assert_allclose(heights, share)
    np.testing.assert_allclose(high, share + error)
    np.testing.assert_allclose(low, np.maximum(share - error, 0.0), atol=1e-12)
    assert texts(axes) == ["exact law", "200 samples, ± 2 s.e."]


@pytest.mark.parametrize("kind", ["categories", "vertices", "array"])
def test_samples_may_be_points_or_categories(axes: Axes, kind: str) -> None:
    chosen = torch.tensor([0, 0, 3, 1])
    samples = {
        "categories": chosen,
        "vertices": torch.eye(4)[chosen],
        "array": chosen.numpy(),
    }[kind]
    plot.discrete_law(axes, LAW, samples)
    assert dots(axes)[0][1] == [0.5, 0.25, 0.0, 0.25]


def test_several_sets_stand_side_by_side_with_their_names(axes: Axes) -> None:
    sets = {"A": torch.tensor([0, 1]), "B": torch.tensor([3, 3, 3])}
    plot.discrete_law(axes, LAW, sets)
    (left, a, *_), (right, b, *_) = dots(axes)
    assert (a, b) == ([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(np.array([left, right]).mean(0), [1, 2, 3, 4])
    assert all(0.2 < y - x < 0.3 for x, y in zip(left, right, strict=True))
    assert texts(axes) == ["exact law", "A: 2 samples, ± 2 s.e.", "B: 3 samples, ± 2 s.e."]
    first, second = (container.lines[0] for container in axes.containers[1:])
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()


def test_an_error_bar_ends_at_zero(axes: Axes) -> None:
    plot.discrete_law(axes, LAW, torch.tensor([0] * 9 + [1]))
    assert min(dots(axes)[0][2]) == 0.0


def test_a_law_that_is_estimated_says_so_and_has_an_error(axes: Axes) -> None:
    plot.discrete_law(axes, FLOW, FLOW.sample((50,), generator=generator(2)))
    assert texts(axes) == ["law estimated from 10,000 draws, ± 2 s.e.", "50 samples, ± 2 s.e."]
    (places, _, low, high), (others, *_) = dots(axes)
    # Side by side.
    assert all(place < other for place, other in zip(places, others, strict=True))
    share = np.array(bars(axes))
    error = 2 * np.sqrt(share * (1 - share) / 10_000)
    np.testing.assert_allclose(np.array(high) - share, error, rtol=1e-4)
    np.testing.assert_allclose(share - np.array(low), error, rtol=1e-4)
    exact = FLOW.discrete("monte_carlo", num_samples=200_000, generator=generator(3)).probs.numpy()
    assert (np.abs(exact - share) < 2.5 * error).all()


def test_an_estimate_draws_nothing_from_the_default_generator(axes: Axes) -> None:
    state = torch.get_rng_state()
    plot.discrete_law(axes, FLOW)
    assert torch.equal(torch.get_rng_state(), state)
    first = bars(axes)
    assert bars(plot.discrete_law(plot.new_figure(4, 3)[1][0], FLOW)) == first


def test_an_estimate_that_is_given_is_told_from_an_exact_law(axes: Axes) -> None:
    plot.discrete_law(axes, LAW.discrete("monte_carlo", num_samples=100, generator=generator(4)))
    assert texts(axes) == ["estimated law, ± 2 s.e."]
    assert len(dots(axes)) == 1


def test_masked_categories_are_marked(axes: Axes) -> None:
    law = igr.GumbelSoftmax(0.5, torch.zeros(4), mask=bits("0110"))
    plot.discrete_law(axes, law, torch.tensor([0, 3, 3]))
    assert bars(axes) == [0.5, 0.0, 0.0, 0.5]
    assert texts(axes) == ["exact law", "3 samples, ± 2 s.e.", "masked"]
    assert axes.lines[-1].get_xydata().tolist() == [[2.0, 0.0], [3.0, 0.0]]
    # No dot lies under the marks, unless a sample is where none may be.
    assert np.isnan(dots(axes)[0][1]).tolist() == [False, True, True, False]
    wrong = plot.discrete_law(plot.new_figure(4, 3)[1][0], law, torch.tensor([0, 1]))
    assert dots(wrong)[0][1][1] == 0.5


def test_many_categories_have_an_outline_and_few_ticks(axes: Axes) -> None:
    law = igr.GumbelSoftmax(0.5, torch.linspace(0.0, 3.0, 200))
    plot.discrete_law(axes, law, law.sample((500,), generator=generator(5)))
    axes.figure.draw_without_rendering()
    assert axes.get_xlim() == (0.5, 200.5)
    assert len(axes.get_xticks()) < 15
    outline = axes.patches[-1]
    np.testing.assert_allclose(outline.get_data().values, law.probs.numpy(), rtol=1e-6)
    assert outline.get_zorder() > max(line.get_zorder() for line in axes.lines)


@pytest.mark.parametrize("count", [30, 31])
def test_bars_stand_apart_up_to_thirty(axes: Axes, count: int) -> None:
    plot.discrete_law(axes, igr.GumbelSoftmax(0.5, torch.zeros(count)))
    apart = count == 30
    widths = [patch.get_width() for patch in axes.containers[0].patches]
    assert widths == pytest.approx([0.8 if apart else 1.0] * count)
    # An outline beside the bars.
    assert len(axes.patches) == count + (not apart)


def test_categories_have_names(axes: Axes) -> None:
    plot.discrete_law(axes, LAW, labels="abcd")
    assert axes.get_xticks().tolist() == [1, 2, 3, 4]
    assert [label.get_text() for label in axes.get_xticklabels()] == list("abcd")


BAD: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "binary": (igr.BinaryConcrete(0.5, torch.tensor(0.0)), None, {}, TypeError, "take as_simplex"),
    "batch": (igr.GumbelSoftmax(0.5, torch.zeros(2, 3)), None, {}, ValueError, r"got batch shape \(2,\)"),
    "labels": (LAW, None, {"labels": "abc"}, ValueError, "expected 4 labels; got 3"),
    "other points": (LAW, torch.eye(3), {}, ValueError, r"shape \(N, 4\).* got \(3, 3\) of torch.float32"),
    "none": (LAW, torch.zeros(0, 4), {}, ValueError, "expected at least one sample"),
    "one-hot ints": (LAW, torch.eye(4).long(), {}, ValueError, r"got \(4, 4\) of torch.int64"),
    "from one": (LAW, torch.tensor([1, 4]), {}, ValueError, "categories from 0 to 3; got 1 to 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(axes: Axes, name: str) -> None:
    law, samples, settings, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        plot.discrete_law(axes, law, samples, **settings)
    assert not axes.containers
