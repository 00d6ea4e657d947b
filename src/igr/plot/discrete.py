"""The discrete law behind a relaxation, beside what samples say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Generator, Tensor

from igr.distributions import DiscreteLaw, SimplexRelaxation
from igr.plot.laws import MOST_SEPARATE_BARS
from igr.plot.style import COLOURS, GREY, MARKERS, legend_below, plain_frame

# Draws of the estimate, where no exact law is known.
NUM_DRAWS = 10_000
# Standard errors that an error bar spans on either side.
ERRORS = 2.0
# Between the error bars of one category.
_SHIFT = 0.24


class _Shares(NamedTuple):
    """How often each category came up, among how many samples, and what a legend says of them."""

    frequencies: NDArray[np.float64]
    number: int
    label: str


Samples = Tensor | NDArray[Any]


def discrete_law(
    axes: Axes,
    law: SimplexRelaxation | DiscreteLaw,
    samples: Samples | Mapping[str, Samples] | None = None,
    *,
    title: str = "",
    labels: Sequence[str] | None = None,
) -> Axes:
    """The law of the largest coordinate as bars, and as dots how often samples had each category.

    The bars are the exact law. Where none is known (planar flows) they are the shares among 10,000 draws with
    a fixed seed, and have error bars, of two standard errors, as the dots have. A cross marks what is masked.

    Arguments:
        axes: Where to draw; the legend goes below.
        law: A relaxation, or its discrete law, without batch dimensions.
        samples: Points with shape :math:`(N, K)`, N at least one, each of which counts for its largest
            weight; or the categories themselves, whole numbers from zero with shape :math:`(N)`. Several such
            sets by their names stand side by side.
        title: The title.
        labels: The names of the K categories; ``None`` for 1 to K.

    Returns:
        The axes.

    Raises:
        TypeError: unless law is a SimplexRelaxation or a DiscreteLaw.
        ValueError: for a batch of laws, or samples or labels that do not fit its categories.
    """
    if not isinstance(law, SimplexRelaxation | DiscreteLaw):
        raise TypeError(
            f"discrete_law: expected law to be a SimplexRelaxation or a DiscreteLaw; got "
            f"{type(law).__name__}; take as_simplex() of a binary law."
        )
    if law.batch_shape:
        raise ValueError(
            "discrete_law: expected one law, without batch dimensions; got batch shape "
            f"{tuple(law.batch_shape)}; build it from the parameters of one."
        )
    size = law.num_categories
    if labels is not None and len(labels) != size:
        raise ValueError(
            f"discrete_law: expected {size} labels; got {len(labels)}; give one for each category."
        )
    named = samples if isinstance(samples, Mapping) else {} if samples is None else {"": samples}
    sets = [_frequencies(name, given, size) for name, given in named.items()]
    discrete, said = _discrete(law)
    mask = None if isinstance(law, DiscreteLaw) else law.mask
    masked = np.zeros(size, dtype=bool) if mask is None else mask.cpu().numpy()

    separate = size <= MOST_SEPARATE_BARS
    places = np.arange(1, size + 1)
    # Error bars of one category stand beside each other.
    estimated = discrete.standard_error is not None
    shifts = iter(_SHIFT * (np.arange(estimated + len(sets)) - 0.5 * (estimated + len(sets) - 1)))
    style: dict[str, Any] = {"linewidth": 1.3 if separate else 0.6, "capsize": 3 if separate else 0}
    probs = torch.exp(discrete.exact_logits).detach().double().cpu().numpy()
    handles: list[Any] = [
        axes.bar(places, probs, width=0.8 if separate else 1.0, color="#C8C8C8", label=said)
    ]
    if not separate:
        # What is hidden behind many error bars is still seen by its outline.
        axes.stairs(probs, np.arange(size + 1) + 0.5, color=GREY, linewidth=0.8, zorder=3)
    if discrete.standard_error is not None:
        error = discrete.standard_error.detach().double().cpu().numpy()
        axes.errorbar(places + next(shifts), probs, _bars(probs, error), fmt="none", ecolor=GREY, **style)
    for position, shares in enumerate(sets):
        shown = np.where(masked & (shares.frequencies == 0), np.nan, shares.frequencies)
        dots = axes.errorbar(
            places + next(shifts),
            shown,
            _bars(shown, np.sqrt(shown * (1.0 - shown) / shares.number)),
            fmt=MARKERS[position % len(MARKERS)],
            color=COLOURS[position % len(COLOURS)],
            markersize=5 if separate else 2,
            # Whole where they lie on the axis, too.
            clip_on=False,
            label=shares.label,
            **style,
        )
        handles.append(dots)
    if masked.any():
        style = {"marker": "x", "color": "black", "linestyle": "none", "clip_on": False, "label": "masked"}
        handles += axes.plot(places[masked], np.zeros(masked.sum()), **style)
    axes.set_xlim(0.5, size + 0.5)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("category")
    axes.set_ylabel("probability")
    axes.set_title(title, fontsize=10)
    if labels is None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xticks(places, labels)
    plain_frame(axes)
    # A name makes an entry long.
    legend_below(axes, handles, columns=1 if isinstance(samples, Mapping) else 3)
    return axes


def _bars(probs: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths of error bars downward and upward; none goes below zero."""
    return np.stack([np.minimum(ERRORS * error, probs), ERRORS * error])


def _discrete(law: SimplexRelaxation | DiscreteLaw) -> tuple[DiscreteLaw, str]:
    """The discrete law, and what a legend says of it."""
    if isinstance(law, DiscreteLaw):
        exact = law.standard_error is None
        return law, "exact law" if exact else f"estimated law, ± {ERRORS:g} s.e."
    with torch.no_grad():
        try:
            return law.discrete(), "exact law"
        except NotImplementedError:
            source = Generator(law.device).manual_seed(0)
            estimate = law.discrete("monte_carlo", num_samples=NUM_DRAWS, generator=source)
    return estimate, f"law estimated from {NUM_DRAWS:,} draws, ± {ERRORS:g} s.e."


def _frequencies(name: str, samples: Samples, size: int) -> _Shares:
    """The shares of the categories among samples."""
    given = torch.as_tensor(samples).detach().cpu()
    points = given.is_floating_point()
    if given.shape[1:] != ((size,) if points else ()) or given.dim() == 0 or len(given) == 0:
        raise ValueError(
            f"discrete_law: expected at least one sample, of shape (N, {size}), or whole numbers of "
            f"shape (N,); got {tuple(given.shape)} of {given.dtype}; draw them from one law."
        )
    chosen = given.argmax(-1) if points else given.long()
    if not bool(((chosen >= 0) & (chosen < size)).all()):
        raise ValueError(
            f"discrete_law: expected categories from 0 to {size - 1}; got {int(chosen.min())} to "
            f"{int(chosen.max())}; the first category is 0."
        )
    number = len(chosen)
    frequencies = torch.bincount(chosen, minlength=size).double().numpy() / number
    label = f"{number:,} sample{'s' if number > 1 else ''}, ± {ERRORS:g} s.e."
    return _Shares(frequencies, number, f"{name}: {label}" if name else label)
