"""Images stand where they should, every pixel upright."""

import pytest
import torch
from matplotlib.axes import Axes

from igr import plot
from igr.models.pictures import Completions


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


def test_completions_stand_below_their_originals_and_say_whose_they_are(axes: Axes) -> None:
    originals = torch.zeros(3, 1, 5, 4)
    found = Completions(torch.full_like(originals, 0.5), [torch.ones_like(originals)] * 4)
    plot.completions(axes, originals, {"a": found, "b": found}, num_draws=2, title="t")
    levels = [float(torch.as_tensor(image.get_array()).mean()) for image in axes.images]
    assert levels == [0.0] * 3 + ([0.5] * 3 + [1.0] * 6) * 2
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "original",
        *(f"{name}: {what}" for name in "ab" for what in ("mean of draws", "draw 1", "draw 2")),
    ]
    # Of five rows of pixels three are known, in every row but the first.
    heights = [line.get_ydata()[0] for line in axes.lines]
    assert heights == pytest.approx([plot.CELL * row + 0.6 for row in range(1, 7)])
    axes.clear()
    plot.completions(axes, originals, {"": found}, num_draws=1, title="t")
    assert [label.get_text() for label in axes.get_yticklabels()][1:] == ["mean of draws", "draw 1"]
