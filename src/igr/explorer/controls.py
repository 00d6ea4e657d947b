"""What can be set on the page."""

from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import Button, CustomJSTickFormatter, Select, Slider, Spinner

from igr.explorer import style
from igr.explorer.settings import (
    DEFAULT,
    KINDS,
    LEAST_DELTA,
    MOST_CATEGORIES,
    MOST_DELTA,
    PARAMETERS,
    SAMPLES,
    SCALES,
    SEEDS,
    STRENGTHS,
    TEMPERATURES,
    Settings,
    num_parameters,
)

STARTS = ("uniform", "peaked", "random")
_MOST_FLOWS = 20
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"


class Controls:
    """The controls of one tab.

    Arguments:
        changed: Called when anything has been moved that is drawn at once.
        kind_changed: Called with the name of another law.
        start_from: Called with one of :data:`STARTS`.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        kind_changed: Callable[[str], None],
        start_from: Callable[[str], None],
    ) -> None:
        self._family = Select(
            name="family",
            title="Law",
            options=[(name, kind.title) for name, kind in KINDS.items()],
            value=DEFAULT,
            **_look(),
        )
        self._about = style.text("about")
        self._temperature = _log_slider("temperature", "Temperature τ", *TEMPERATURES)
        self._count = _slider("num_categories", "Categories K", 2, MOST_CATEGORIES, 1)
        self._parameters = [
            _slider(f"parameter_{number}", "", *PARAMETERS, 0.01) for number in range(1, MOST_CATEGORIES + 1)
        ]
        self._scale = _slider("scale", f"Scale {SIGMA} of the Gaussians", *SCALES, 0.05)
        self._delta = _log_slider("delta", "Weight δ of the last category", LEAST_DELTA, MOST_DELTA)
        self._strength = _slider("strength", "Strength of the flow", *STRENGTHS, 0.05)
        self._flow_seed = _slider("flow_seed", "Which flow (seed)", 0, _MOST_FLOWS, 1)
        self._samples = _slider("num_samples", "Points", *SAMPLES, 100)
        self._seed = Spinner(
            name="seed", title="Seed", low=SEEDS[0], high=SEEDS[1], step=1, width=80, **_look(stretched=False)
        )
        noise = Button(name="noise", label="New noise", align="end", **_look())
        noise.on_click(self._next_noise)

        self._family.on_change("value", lambda attribute, old, new: kind_changed(new))
        # Before what draws, so that sliders and settings fit.
        self._count.on_change("value", lambda attribute, old, new: self._show_parameters())
        for control in (
            self._temperature,
            self._count,
            *self._parameters,
            self._scale,
            self._delta,
            self._strength,
            self._flow_seed,
            self._samples,
            self._seed,
        ):
            control.on_change("value", lambda attribute, old, new: changed())
        starts = []
        for start in STARTS:
            button = Button(name=start, label=start.capitalize(), **_look())
            button.on_click(lambda start=start: start_from(start))
            starts.append(button)
        self.root = column(
            self._family,
            self._about,
            self._temperature,
            self._count,
            style.text("starts", "Start from a discrete law:"),
            row(*starts, sizing_mode="stretch_width", spacing=6),
            *self._parameters,
            self._scale,
            self._delta,
            self._strength,
            self._flow_seed,
            self._samples,
            row(noise, self._seed, sizing_mode="stretch_width", spacing=6),
            name="controls",
            sizing_mode="stretch_width",
        )

    def settings(self) -> Settings:
        """What is set.

        Raises:
            UserError: for what no control can be moved to, as a program may do.
        """
        family, count = self._family.value, _whole(self._count.value)
        gumbel, planar = family == "gumbel-softmax", family == "igr-planar"
        sliders = self._parameters[: num_parameters(family, count)] if isinstance(count, int) else []
        return Settings(
            family=family,
            num_categories=count,
            parameters=tuple(_shortest(slider.value) for slider in sliders),
            scale=1.0 if gumbel else _shortest(self._scale.value),
            temperature=_power(self._temperature.value),
            delta=1.0 if gumbel else _power(self._delta.value),
            num_samples=_whole(self._samples.value),
            seed=_whole(self._seed.value),
            flow_seed=_whole(self._flow_seed.value) if planar else 0,
            strength=_shortest(self._strength.value) if planar else 1.0,
        )

    def show(self, settings: Settings) -> None:
        """Moves every control to these settings."""
        self._family.value = settings.family
        self._count.value = settings.num_categories
        self._temperature.value = _exponent(settings.temperature)
        self._delta.value = _exponent(settings.delta)
        self._scale.value = settings.scale
        self._strength.value = settings.strength
        self._flow_seed.value = settings.flow_seed
        self._samples.value = settings.num_samples
        self._seed.value = settings.seed
        self.show_kind()
        self.show_values(settings.parameters)

    def show_kind(self) -> None:
        """Shows the controls that the chosen law has, and moves into its range what lies outside."""
        kind = KINDS[self._family.value]
        gumbel, planar = kind.largest_delta is None, self._family.value == "igr-planar"
        self._about.text = kind.about
        self._count.start = kind.least
        self._count.value = max(self._count.value, kind.least)
        end = _exponent(kind.largest_delta or MOST_DELTA)
        self._delta.update(visible=not gumbel, end=end, value=min(self._delta.value, end))
        self._scale.visible = not gumbel
        self._strength.visible = self._flow_seed.visible = planar
        self._show_parameters()

    def show_values(self, parameters: tuple[float, ...]) -> None:
        """Moves the sliders of the parameters."""
        for slider, value in zip(self._parameters, parameters, strict=False):
            slider.value = value

    def _show_parameters(self) -> None:
        """As many sliders as the law has parameters."""
        family = self._family.value
        name, symbol = KINDS[family].parameter
        for number, slider in enumerate(self._parameters, start=1):
            slider.title = f"{name.capitalize()} {symbol}{_subscript(number)}"
            slider.visible = number <= num_parameters(family, self._count.value)

    def _next_noise(self) -> None:
        self._seed.value = ((self._seed.value or 0) + 1) % (SEEDS[1] + 1)


def _look(*, stretched: bool = True) -> dict[str, Any]:
    sizing = {"sizing_mode": "stretch_width"} if stretched else {}
    return {"stylesheets": [style.CONTROLS], "margin": (3, 0, 3, 0), **sizing}


def _slider(name: str, title: str, start: float, end: float, step: float, **more: Any) -> Slider:
    value = min(max(0, start), end)
    return Slider(
        name=name,
        title=title,
        start=start,
        end=end,
        step=step,
        value=value,
        bar_color=style.COLOURS[0],
        **more,
        **_look(),
    )


def _log_slider(name: str, title: str, low: float, high: float) -> Slider:
    """A slider of the logarithm to base 10 that shows the number."""
    shown = CustomJSTickFormatter(code="return String(Number(Math.pow(10, tick).toPrecision(3)))")
    return _slider(name, title, _exponent(low), _exponent(high), 0.01, format=shown)


def _exponent(value: float) -> float:
    return float(np.log10(value))


def _power(exponent: float) -> float:
    """Three digits, as they are shown."""
    return float(f"{10.0**exponent:.3g}") if abs(exponent) < 300 else exponent


def _shortest(value: Any) -> Any:
    """Without the rounding of steps; no minus zero."""
    return round(value, 6) + 0.0 if isinstance(value, int | float) else value


def _whole(value: Any) -> Any:
    """Browsers know one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
