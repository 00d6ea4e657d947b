"""Pictures of gradient estimators: how biased they are, and how large their variance."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from igr.estimators import Probe
from igr.plot.style import COLOURS, MARKERS, new_figure, plain_frame

# What an estimator says of itself, by whether it is unbiased.
_CLAIMS = {True: "says that it is unbiased", False: "says that it is biased"}


def estimator_biases(axes: Axes, probe: Probe) -> Axes:
    """The norm of each bias as a share of that of the gradient, beside what sampling alone would give.

    Arguments:
        axes: Where to draw.
        probe: What :func:`igr.estimators.probe` found.

    Returns:
        The axes.
    """
    _names(axes, probe)
    for place, row in enumerate(probe.rows):
        axes.plot([0.0, row.relative_error], [place, place], color="#C8C8C8", linewidth=7, zorder=1)
        axes.plot(row.relative_bias, place, **_mark(row.unbiased), zorder=2)
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("norm of the bias, as a share of the gradient's\n(grey: one standard error)")
    axes.set_title("bias", fontsize=10)
    return axes


def estimator_variances(axes: Axes, probe: Probe) -> Axes:
    """The variance of an estimate, summed over coordinates; the axis is logarithmic.

    One without any variance is left out.

    Arguments:
        axes: Where to draw.
        probe: What :func:`igr.estimators.probe` found.

    Returns:
        The axes.
    """
    _names(axes, probe)
    axes.set_xscale("log")
    for place, row in enumerate(probe.rows):
        if row.variance > 0:
            axes.plot(row.variance, place, **_mark(row.unbiased))
    samples = f"{probe.num_samples} sample{'s' if probe.num_samples > 1 else ''}"
    axes.set_xlabel(f"variance of one estimate ({samples}),\nsummed over coordinates")
    axes.set_title("variance", fontsize=10)
    return axes


def probe_figure(probe: Probe) -> Figure:
    """Bias and variance side by side.

    Arguments:
        probe: What :func:`igr.estimators.probe` found.

    Returns:
        A figure of two panels with one legend.
    """
    figure, panels = new_figure(9.5, 1.9 + 0.32 * len(probe.rows), 2)
    estimator_biases(panels[0], probe)
    estimator_variances(panels[1], probe)
    panels[1].tick_params(labelleft=False)
    figure.legend(
        handles=[
            Line2D([], [], **_mark(claim), label=text)
            for claim, text in _CLAIMS.items()
            if any(row.unbiased == claim for row in probe.rows)
        ],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    return figure


def _names(axes: Axes, probe: Probe) -> None:
    axes.set_yticks(range(len(probe.rows)), [row.name for row in probe.rows], fontsize=9)
    axes.set_ylim(len(probe.rows) - 0.4, -0.6)
    plain_frame(axes)


def _mark(unbiased: bool) -> dict[str, Any]:
    place = 0 if unbiased else 1
    return {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 6, "linestyle": "none"}
