"""The pictures of the page, and the words and numbers beside them."""

from typing import Any

import numpy as np
import torch
from bokeh.events import ButtonClick
from bokeh.layouts import column
from bokeh.models import (
    Button,
    ColumnDataSource,
    CustomJS,
    FixedTicker,
    LinearColorMapper,
    NumeralTickFormatter,
    PreText,
    Range1d,
    Span,
    TeeHead,
    Whisker,
)
from bokeh.models.ui import UIElement
from bokeh.plotting import figure

from igr.explorer import captions, style
from igr.explorer.scene import STRIP_POINTS, Array, Scene, curve_places
from igr.explorer.settings import TEMPERATURES
from igr.ternary import CORNERS, to_plane

# Of the density over that of the uniform law: white at the first and below, the darkest blue at the last.
DENSITIES = (1 / 32, 32)
BINS = 40
HEIGHT = 235
# The ends of what the pictures of the triangle show: left, right, bottom and top.
_AROUND = (-0.12, 1.12, -0.11, 0.97)
# The heights that the axis of probabilities may have.
_TOPS = (0.25, 0.5, 0.75, 1.0)

_COPY = """
    const done = (label) => {
      button.label = label;
      setTimeout(() => { button.label = "Copy"; }, 1500);
    };
    const by_selection = () => {
      const area = document.createElement("textarea");
      area.value = program.text;
      area.style.position = "fixed";
      document.body.appendChild(area);
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      done(copied ? "Copied" : "Select and copy by hand");
    };
    if (navigator.clipboard) {
      navigator.clipboard.writeText(program.text).then(() => done("Copied"), by_selection);
    } else {
      by_selection();
    }
"""


class Pictures:
    """The pictures of one tab."""

    def __init__(self) -> None:
        self._words = {
            name: style.text(name)
            for name in (
                "relaxed_kl",
                "discrete_kl",
                "prior",
                "points_title",
                "points_text",
                "density_title",
                "density_text",
                "law_text",
                "distance_text",
            )
        }
        self._points = _source("points", "x", "y", "winner")
        self._triangle = _triangle("triangle")
        winner = LinearColorMapper(palette=style.COLOURS[:3], low=-0.5, high=2.5)
        self._triangle.scatter(
            "x",
            "y",
            source=self._points,
            fill_color={"field": "winner", "transform": winner},
            line_color=None,
            fill_alpha=0.5,
            size=4,
        )
        self._interval = _figure("interval", "weight z₁ of the first category", "density")
        self._first = _source("first_weight", "left", "right", "top")
        self._bars(self._interval, self._first)
        self._curve = _source("first_density", "x", "y")
        self._interval.line("x", "y", source=self._curve, color=style.COLOURS[1], line_width=2)
        self._strips = _figure("strips", "category", "weight z")
        self._strips.xaxis.ticker = FixedTicker()
        self._strips.y_range = Range1d(-0.02, 1.02)
        self._weights = _source("weights", "x", "y")
        self._strips.scatter(
            "x",
            "y",
            source=self._weights,
            fill_color=style.COLOURS[0],
            line_color=None,
            fill_alpha=0.45,
            size=3.5,
        )
        self._density = _triangle("density")
        self._pixels = ColumnDataSource(name="density_pixels", data={"image": [np.zeros((1, 1), np.float32)]})
        low, high = np.log(DENSITIES)
        self._density.image(
            "image",
            source=self._pixels,
            x=0,
            y=0,
            dw=1,
            dh=CORNERS[2][1],
            color_mapper=LinearColorMapper(
                palette=style.PALETTE, low=low, high=high, nan_color="rgba(0, 0, 0, 0)"
            ),
            level="underlay",
        )
        _cover_outside(self._density)
        self._key = style.text("density_key", _key())
        self._spread = _figure("spread", "distance to the nearest vertex", "share of the points")
        self._shares = _source("distance_shares", "left", "right", "top")
        self._bars(self._spread, self._shares)
        self._centre = Span(dimension="height", line_dash="dotted", line_color=style.GREY)
        self._spread.add_layout(self._centre)
        self._law = self._law_figure()
        self._distance = self._distance_figure()
        self._program = PreText(
            name="program", stylesheets=[style.PROGRAM], margin=0, sizing_mode="stretch_width"
        )
        copy = Button(name="copy", label="Copy", width=110, stylesheets=[style.CONTROLS], margin=(0, 0, 6, 0))
        copy.js_on_event(ButtonClick, CustomJS(args={"program": self._program, "button": copy}, code=_COPY))
        self._lines = column(copy, self._program, name="lines", sizing_mode="stretch_width")

    @property
    def roots(self) -> list[UIElement]:
        """Everything that the template has a place for."""
        return [
            *self._words.values(),
            self._triangle,
            self._interval,
            self._strips,
            self._density,
            self._key,
            self._spread,
            self._law,
            self._distance,
            self._lines,
        ]

    def show(self, scene: Scene) -> None:
        """Draws a scene."""
        self._show_words(scene)
        self._show_points(scene)
        self._show_density(scene)
        self._show_law(scene)
        self._show_distance(scene)
        self._program.text = scene.lines

    def _show_words(self, scene: Scene) -> None:
        count = scene.settings.num_categories
        titles = {
            "points_title": {2: "The first weight", 3: "The points"}.get(count, "The weights"),
            "density_title": "Their density" if count == 3 else "How far from a choice",
        }
        words = {name: f'<span class="title">{title}</span>' for name, title in titles.items()}
        for name, title in (("relaxed_kl", "relaxed"), ("discrete_kl", "discrete")):
            words[name] = (
                f'<div class="title">KL to the uniform prior, {title} laws</div>'
                f'<div class="value">{captions.number(getattr(scene, name))} '
                '<span class="unit">nats</span></div>'
                f"<div>{getattr(captions, name)(scene)}</div>"
            )
        words["prior"] = f'<div class="title">The uniform prior</div><div>{captions.prior(scene)}</div>'
        for name in ("points", "density", "law", "distance"):
            words[f"{name}_text"] = getattr(captions, name)(scene)
        for name, content in words.items():
            self._words[name].text = content

    def _show_points(self, scene: Scene) -> None:
        count = scene.settings.num_categories
        self._triangle.visible = count == 3
        self._interval.visible = count == 2
        self._strips.visible = count > 3
        if count == 3:
            x, y = to_plane(torch.from_numpy(scene.points)).T.numpy()
            self._points.data = {"x": x, "y": y, "winner": scene.winners.astype(np.float32)}
        elif count == 2:
            bars = _histogram(scene.points[:, 0], 1.0)
            bars["top"] = bars["top"] * BINS
            self._first.data = bars
            self._curve.data = {"x": curve_places(), "y": scene.density}
            self._interval.y_range.end = 1.15 * max(1.0, float(bars["top"].max()))
        else:
            weights = scene.points[:STRIP_POINTS]
            # Beside one another by the golden ratio, so that a point has its place whatever its weights are.
            across = (np.arange(len(weights)) * 0.618034) % 1.0 - 0.5
            columns = np.arange(1, count + 1) + 0.7 * across[:, None]
            self._weights.data = {"x": columns.ravel(), "y": weights.ravel()}
            _show_categories(self._strips, count)

    def _show_density(self, scene: Scene) -> None:
        is_drawn = scene.settings.num_categories == 3
        self._density.visible = self._key.visible = is_drawn
        self._spread.visible = not is_drawn
        if is_drawn and scene.density is not None:
            # A colour for what is below the range, and none where no point falls.
            shown = np.where(np.isneginf(scene.density), np.nan, scene.density)
            self._pixels.data = {"image": [shown.astype(np.float32)]}
        else:
            bars = _histogram(scene.distances, scene.farthest)
            self._shares.data = bars
            self._centre.location = scene.farthest
            self._spread.x_range.update(start=0, end=1.04 * scene.farthest)
            self._spread.y_range.end = next(top for top in _TOPS if bars["top"].max() <= top)

    def _law_figure(self) -> figure:
        plot = _figure("law", "category", "probability")
        plot.xaxis.ticker = FixedTicker()
        self._categories = _source("discrete_law", "category", "prob", "share", "low", "high", "colour")
        plot.vbar(
            x="category",
            top="prob",
            width=0.7,
            source=self._categories,
            fill_color="colour",
            fill_alpha=0.35,
            line_color="colour",
        )
        whisker = Whisker(
            base="category",
            lower="low",
            upper="high",
            source=self._categories,
            line_color=style.GREY,
            line_width=1.5,
        )
        for head in (whisker.upper_head, whisker.lower_head):
            if isinstance(head, TeeHead):
                head.update(size=8, line_color=style.GREY)
        plot.add_layout(whisker)
        plot.scatter("category", "share", source=self._categories, color=style.GREY, size=7)
        return plot

    def _show_law(self, scene: Scene) -> None:
        count = scene.settings.num_categories
        spread = 2 * scene.frequencies_error
        self._categories.data = {
            "category": np.arange(1, count + 1),
            "prob": scene.probs,
            "share": scene.frequencies,
            "low": np.maximum(0.0, scene.frequencies - spread),
            "high": np.minimum(1.0, scene.frequencies + spread),
            "colour": [style.COLOURS[k % len(style.COLOURS)] for k in range(count)],
        }
        _show_categories(self._law, count)
        highest = max(scene.probs.max(), (scene.frequencies + spread).max())
        self._law.y_range.end = next((top for top in _TOPS if 1.02 * highest <= top), 1.02)

    def _distance_figure(self) -> figure:
        plot = _figure("distance", "temperature τ", "distance to the nearest vertex", x_axis_type="log")
        plot.xaxis.formatter = NumeralTickFormatter(format="0.[00]")
        plot.x_range = Range1d(*TEMPERATURES)
        self._quantiles = _source("distance_quantiles", "temperature", "low", "median", "high")
        plot.varea(
            "temperature", "low", "high", source=self._quantiles, fill_color=style.COLOURS[0], fill_alpha=0.2
        )
        plot.line("temperature", "median", source=self._quantiles, color=style.COLOURS[0], line_width=2)
        self._now = Span(name="now", dimension="height", line_color=style.COLOURS[1], line_width=1.5)
        self._top = Span(dimension="width", line_dash="dotted", line_color=style.GREY)
        plot.add_layout(self._now)
        plot.add_layout(self._top)
        self._median = _source("distance_median", "temperature", "median")
        plot.scatter("temperature", "median", source=self._median, color=style.COLOURS[1], size=9)
        return plot

    def _show_distance(self, scene: Scene) -> None:
        low, median, high = scene.quantiles
        self._quantiles.data = {
            "temperature": scene.temperatures,
            "low": low,
            "median": median,
            "high": high,
        }
        temperature = scene.settings.temperature
        self._median.data = {"temperature": [temperature], "median": [scene.median_distance]}
        self._now.location = temperature
        self._top.location = scene.farthest
        self._distance.y_range.end = 1.05 * scene.farthest

    def _bars(self, plot: figure, source: ColumnDataSource) -> None:
        plot.quad(
            left="left",
            right="right",
            bottom=0,
            top="top",
            source=source,
            fill_color=style.COLOURS[0],
            fill_alpha=0.35,
            line_color=style.COLOURS[0],
        )


def _source(name: str, *columns: str) -> ColumnDataSource:
    return ColumnDataSource(name=name, data={column: [] for column in columns})


def _figure(name: str, x: str, y: str, **more: Any) -> figure:
    """Axes without tools, which a page of sliders has no use for."""
    plot = figure(
        name=name,
        height=HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_axis_label=x,
        y_axis_label=y,
        x_range=Range1d(0, 1),
        y_range=Range1d(0, 1),
        min_border_right=12,
        **more,
    )
    plot.axis.axis_label_standoff = 4
    plot.grid.grid_line_color = style.LINE
    plot.outline_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = plot.axis.major_label_text_font_size = "12px"
    plot.axis.minor_tick_line_color = None
    return plot


def _triangle(name: str) -> figure:
    """The simplex with three categories, without axes."""
    left, right, bottom, top = _AROUND
    plot = figure(
        name=name,
        aspect_ratio=(right - left) / (top - bottom),
        sizing_mode="scale_width",
        toolbar_location=None,
        tools="",
        x_range=Range1d(left, right),
        y_range=Range1d(bottom, top),
        min_border=0,
    )
    plot.axis.visible = False
    plot.grid.visible = False
    plot.outline_line_color = None
    x, y = zip(*CORNERS, strict=True)
    plot.patch(x, y, fill_color="#DADADA" if name == "density" else "#FFFFFF", line_color=None, level="image")
    plot.patch(x, y, fill_color=None, line_color=style.GREY, line_width=1.5)
    plot.text(
        x,
        [y[0] - 0.02, y[1] - 0.02, y[2] + 0.02],
        ["category 1", "category 2", "category 3"],
        text_align=["left", "right", "center"],
        text_baseline=["top", "top", "bottom"],
        text_font_size="12px",
        text_color=style.GREY,
    )
    return plot


def _cover_outside(plot: figure) -> None:
    """Hides the halves of pixels that the outline of the triangle cuts."""
    left, right, bottom, top = _AROUND
    first, second, third = CORNERS
    around = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    x, y = zip(*around, first, third, second, first, strict=True)
    plot.patch(x, y, fill_color="#FFFFFF", line_color=None, level="underlay")


def _key() -> str:
    """What the colours of the density stand for."""
    stops = ", ".join(style.PALETTE[:: len(style.PALETTE) // 8])
    ticks = "".join(f"<span>{tick}</span>" for tick in ("1/32 and less", "1", f"{DENSITIES[1]} and more"))
    return (
        f'<div class="bar" style="background: linear-gradient(to right, {stops})"></div>'
        f'<div class="ticks">{ticks}</div>'
    )


def _histogram(values: Array, end: float) -> dict[str, Array]:
    """Shares of the values in bins of equal width from zero."""
    counts, edges = np.histogram(np.minimum(values, end), bins=BINS, range=(0.0, end))
    return {"left": edges[:-1], "right": edges[1:], "top": counts / len(values)}


def _show_categories(plot: figure, count: int) -> None:
    plot.x_range.update(start=0.4, end=count + 0.6)
    plot.xaxis.ticker.ticks = list(range(1, count + 1))
