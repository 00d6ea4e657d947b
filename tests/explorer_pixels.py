"""Looks for the numbers of a scene in the pixels of the pictures of ``igr explore``."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.spatial import KDTree

from explorer_page import Pixels
from igr.explorer import style
from igr.explorer.pictures import BINS, DENSITIES
from igr.explorer.scene import STRIP_POINTS, Scene, curve_places
from igr.ternary import to_plane

BLUE, ORANGE, GREEN = (tuple(bytes.fromhex(colour[1:])) for colour in style.COLOURS[:3])
GREY = tuple(bytes.fromhex(style.GREY[1:]))


class Frame(NamedTuple):
    """Where the axes are drawn, in pixels, and the ends of what they show."""

    left: float
    right: float
    bottom: float
    top: float
    x: tuple[float, float]
    y: tuple[float, float]

    def columns(self, x: Any) -> Any:
        """The columns of numbers on the horizontal axis."""
        return self.left + (np.asarray(x) - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)

    def rows(self, y: Any) -> Any:
        """The rows of numbers on the vertical axis."""
        return self.bottom - (np.asarray(y) - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)


def frame(picture: Pixels, x: tuple[float, float], y: tuple[float, float]) -> Frame:
    """The frame between the two black lines of the axes, whose ends the page tells."""
    black = picture.max(-1) < 60
    column, row = black.sum(0).argmax(), black.sum(1).argmax()
    rows, columns = np.flatnonzero(black[:, column]), np.flatnonzero(black[row])
    # Half of the picture at least, or these are no axes.
    assert np.ptp(rows) > len(black) / 2
    assert np.ptp(columns) > len(black[0]) / 2
    # Ticks reach beyond the corner.
    return Frame(column, columns[-1], row, rows[0], x, y)


def triangle(picture: Pixels) -> Frame:
    """The triangle whose outline is drawn, with the coordinates of the plane."""
    row = near(picture, GREY, 60).sum(1).argmax()
    columns = np.flatnonzero(near(picture, GREY, 60)[row])
    width = np.ptp(columns)
    assert width > len(picture[0]) / 2
    return Frame(columns[0], columns[-1], row, row - width, (0.0, 1.0), (0.0, 1.0))


def near(picture: Pixels, colour: tuple[int, ...], distance: float) -> NDArray[np.bool_]:
    """Which pixels have nearly this colour."""
    return np.abs(picture - np.array(colour)).max(-1) <= distance


def coloured(picture: Pixels) -> NDArray[np.bool_]:
    """Which pixels are neither white nor grey, nor of the lines of the grid."""
    return np.ptp(picture, axis=-1) > 20


def inked(picture: Pixels) -> NDArray[np.bool_]:
    """Which pixels are darker than the lines of the grid."""
    return picture.min(-1) < 215


def around(mask: NDArray[np.bool_], columns: Any, rows: Any, reach: int = 1) -> NDArray[np.bool_]:
    """For each place, whether one of the pixels around it is in the mask."""
    column, row = np.rint(columns).astype(int), np.rint(rows).astype(int)
    steps = range(-reach, reach + 1)
    return np.any([mask[row + down, column + right] for down in steps for right in steps], axis=0)


def check(pictures: Mapping[str, Pixels], ranges: Mapping[str, Any], scene: Scene) -> None:
    """All pictures show this scene, where their axes say."""
    count = scene.settings.num_categories
    frames = {name: frame(pictures[name], *ends) for name, ends in ranges.items()}
    if count == 3:
        corners = triangle(pictures["density"])
        _check_points(pictures["triangle"], corners, scene)
        _check_density(pictures["density"], corners, scene)
    else:
        if count == 2:
            _check_first_weight(pictures["interval"], frames["interval"], scene)
        else:
            _check_weights(pictures["strips"], frames["strips"], scene)
        _check_spread(pictures["spread"], frames["spread"], scene)
    _check_law(pictures["law"], frames["law"], scene)
    _check_distance(pictures["distance"], frames["distance"], scene)


def _check_dots(drawn: NDArray[np.bool_], columns: Any, rows: Any, radius: float) -> None:
    """A dot at each place, and no colour elsewhere."""
    assert around(drawn, columns, rows).all()
    lit = np.argwhere(drawn)
    distances, _ = KDTree(np.column_stack([rows, columns])).query(lit)
    assert distances.max() < radius + 2


def _check_points(picture: Pixels, corners: Frame, scene: Scene) -> None:
    places = to_plane(torch.from_numpy(scene.points)).numpy()
    columns, rows = corners.columns(places[:, 0]), corners.rows(places[:, 1])
    _check_dots(coloured(picture), columns, rows, 2)
    # Of those that others do not cover: the channel that is strongest, from blue, orange and green.
    tree, strongest = KDTree(np.column_stack([rows, columns])), np.array([2, 0, 1])
    alone = [
        (scene.winners[others] == scene.winners[own]).all()
        for own, others in enumerate(tree.query_ball_point(tree.data, 6))
    ]
    inside = np.rint(np.column_stack([rows, columns])).astype(int)[alone]
    assert len(inside) > len(places) / 2
    found = picture[inside[:, 0], inside[:, 1]].argmax(-1)
    # The outline lies below the dots, and takes from their colours.
    assert (found == strongest[scene.winners[alone]]).mean() > 0.97


def _check_density(picture: Pixels, corners: Frame, scene: Scene) -> None:
    """The colours of the palette, between those of the neighbours."""
    assert scene.density is not None
    count = len(scene.density)
    palette = np.array([tuple(bytes.fromhex(colour[1:7])) for colour in style.PALETTE])
    share = (scene.density + np.log(DENSITIES[1])) / (2 * np.log(DENSITIES[1]))
    finite = np.isfinite(scene.density)
    row, column = np.nonzero(minimum_filter(finite, 3, mode="constant"))
    assert len(row) > 100
    levels = np.clip(np.where(finite, share, 0) * len(palette), 0, len(palette) - 1)
    darkest, brightest = (
        palette[found(levels, 3)[row, column].astype(int)] for found in (maximum_filter, minimum_filter)
    )
    across = np.rint(corners.columns((column + 0.5) / count)).astype(int)
    up = np.rint(corners.rows((row + 0.5) / count * np.sqrt(3) / 2)).astype(int)
    seen = picture[up, across]
    fits = ((seen >= darkest - 8) & (seen <= brightest + 8)).all(-1)
    assert fits.mean() > 0.98
    # Beyond the outline nothing.
    lit = np.argwhere(coloured(picture))
    y = (corners.bottom - lit[:, 0]) / (corners.right - corners.left)
    x = (lit[:, 1] - corners.left) / (corners.right - corners.left)
    z = np.column_stack([1 - x - y / np.sqrt(3), x - y / np.sqrt(3), 2 * y / np.sqrt(3)])
    assert z.min() > -0.003


def _check_bars(
    drawn: NDArray[np.bool_], axes: Frame, middles: Any, tops: Any, covered: NDArray[np.bool_] | None = None
) -> None:
    """From the axis to each top, and nothing above it."""
    bottom = round(axes.bottom)
    for middle, top in zip(np.rint(axes.columns(middles)).astype(int), axes.rows(tops), strict=True):
        column = drawn[:bottom, middle]
        # The lines of low bars are what is seen of them.
        if bottom - top > 4:
            assert column[round(top) + 2 :].mean() > 0.9
        if covered is not None:
            column = column & ~covered[:bottom, middle]
        assert not column[: max(0, round(top) - 2)].any()


def _check_law(picture: Pixels, axes: Frame, scene: Scene) -> None:
    count = scene.settings.num_categories
    categories = np.arange(1, count + 1)
    assert axes.x == (0.4, count + 0.6)
    assert axes.y[1] >= max(scene.probs.max(), scene.frequencies.max())
    # Beside the dots and their whiskers.
    _check_bars(inked(picture), axes, categories - 0.27, scene.probs)
    columns, rows = axes.columns(categories), axes.rows(scene.frequencies)
    # Of one at zero the upper half is seen.
    assert not around(picture.max(-1) > 150, columns, np.minimum(rows, axes.bottom - 2)).any()
    high = np.rint(axes.rows(scene.frequencies + 2 * scene.frequencies_error)).astype(int)
    inside = high > axes.top
    assert around(near(picture, GREY, 80), columns[inside], high[inside]).all()
    for category in np.flatnonzero(axes.bottom - axes.rows(scene.probs) > 4):
        colour = bytes.fromhex(style.COLOURS[category % len(style.COLOURS)][1:])
        left, right = np.rint(axes.columns(category + 1 + np.array([-0.4, 0.4]))).astype(int)
        # Its outline.
        assert near(picture[:, left:right], tuple(colour), 60)[: round(axes.bottom) - 1].any()


def _check_first_weight(picture: Pixels, axes: Frame, scene: Scene) -> None:
    assert scene.density is not None
    columns, rows = axes.columns(curve_places()), axes.rows(scene.density)
    # What rises above the frame is cut off by it, and the axis is drawn above all.
    inside = (rows > axes.top + 1) & (rows < axes.bottom - 2)
    assert inside.sum() > 20
    assert around(near(picture, ORANGE, 60), columns[inside], rows[inside]).all()
    shares = np.histogram(scene.points[:, 0], bins=BINS, range=(0.0, 1.0))[0] / len(scene.points)
    assert axes.y[1] > BINS * shares.max()
    middles = (np.arange(BINS) + 0.5) / BINS
    # But for the curve, which may be above the bars.
    covered = picture[..., 0] - picture[..., 2] > 0
    _check_bars(inked(picture), axes, middles, BINS * shares, covered)


def _check_spread(picture: Pixels, axes: Frame, scene: Scene) -> None:
    shares = np.histogram(
        np.minimum(scene.distances, scene.farthest), bins=BINS, range=(0.0, scene.farthest)
    )[0]
    tops = shares / len(scene.distances)
    assert axes.y[1] >= tops.max()
    middles = (np.arange(BINS) + 0.5) / BINS * scene.farthest
    _check_bars(inked(picture), axes, middles, tops)
    dots = (inked(picture) & ~coloured(picture))[: round(axes.bottom) - 8, round(axes.left) + 2 :]
    assert abs(dots.sum(0).argmax() + round(axes.left) + 2 - axes.columns(scene.farthest)) <= 1


def _check_weights(picture: Pixels, axes: Frame, scene: Scene) -> None:
    weights = scene.points[:STRIP_POINTS]
    count = scene.settings.num_categories
    assert axes.x == (0.4, count + 0.6)
    drawn = coloured(picture)
    lit = np.argwhere(drawn)
    for category in range(count):
        middle = axes.columns(category + 1)
        width = axes.columns(category + 1.35) - middle
        own = lit[np.abs(lit[:, 1] - middle) <= width + 2]
        assert len(own) > 0
        rows = axes.rows(weights[:, category])
        # A dot has its height, and its place beside the others.
        distances = np.abs(own[:, :1] - rows).min(0)
        assert distances.max() <= 1
        assert np.abs(own[:, 0] - rows[:, None]).min(0).max() <= 4
    between = np.rint(axes.columns(np.arange(1.5, count))).astype(int)
    assert not drawn[:, between].any()


def _check_distance(picture: Pixels, axes: Frame, scene: Scene) -> None:
    low, median, high = (axes.rows(quantile) for quantile in scene.quantiles)
    logs = np.log(axes.x)
    axes = axes._replace(x=(logs[0], logs[1]))
    columns = axes.columns(np.log(scene.temperatures))
    now = axes.columns(np.log(scene.settings.temperature))
    line = near(picture, ORANGE, 60).sum(0)
    assert abs(line.argmax() - now) <= 1
    assert line.max() > 0.9 * (axes.bottom - axes.top)
    # Beside the line, and between the axes.
    seen = (np.abs(columns - now) > 8) & (columns > axes.left + 2) & (columns < axes.right - 2)
    seen &= median < axes.bottom - 2
    assert seen.sum() > 5
    assert around(near(picture, BLUE, 60), columns[seen], median[seen]).all()
    wide = seen & (median - high > 8)
    assert wide.any()
    assert around(coloured(picture), columns[wide], (median + high)[wide] / 2, 0).all()
    assert not around(coloured(picture), columns[wide], high[wide] - 4, 0).any()
    wide = seen & (low - median > 8)
    assert around(coloured(picture), columns[wide], (median + low)[wide] / 2, 0).all()
    dot = near(picture, ORANGE, 60)
    row = min(round(axes.rows(scene.median_distance)), round(axes.bottom) - 2)
    # Its radius, where the line is narrow.
    assert dot[row, [round(now) - 3, round(now) + 3]].all()
    assert not dot[row - 8, round(now) - 3]
