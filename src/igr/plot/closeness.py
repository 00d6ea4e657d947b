"""How close points of laws come to the vertices, by temperature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Generator, Tensor

from igr.diagnostics import vertex_distance
from igr.distributions import SimplexRelaxation
from igr.plot.curves import Band, quantile_bands
from igr.plot.style import GREY, legend_below
from igr.validation import real_number, whole_number

# Of the band and the curve in it.
LEVELS = (0.25, 0.5, 0.75)


def distances_by_temperature(
    axes: Axes,
    laws: Mapping[str, SimplexRelaxation],
    temperatures: Iterable[float] | Tensor,
    *,
    num_samples: int = 1000,
    generator: Generator | None = None,
    title: str = "",
) -> Axes:
    """Euclidean distance of points to their nearest vertex by temperature: the median and the middle half.

    All temperatures see the same noise, so curves are smooth. The dotted line is the distance of the centre
    of the simplex, the largest that there is.

    Arguments:
        axes: Where to draw; the legend goes below.
        laws: At most six, by what they are called; of a batch all points count alike.
        temperatures: In ascending order, with shape :math:`(T)`; those of the laws themselves have no part.
        num_samples: Points of each law of a batch.
        generator: The source of randomness; torch's default one if ``None``. One number is drawn from it.
        title: The title.

    Returns:
        The axes.

    Raises:
        TypeError: unless all laws are a SimplexRelaxation and all else numbers.
        ValueError: for no law or more than six, an empty batch, no sample, or temperatures that are not
            positive or not in ascending order.
    """
    owner = "distances_by_temperature"
    given = temperatures.tolist() if isinstance(temperatures, Tensor) else list(temperatures)
    grid = [real_number(owner, "temperatures", temperature) for temperature in given]
    rises = all(low < high for low, high in pairwise(grid))
    if not grid or not rises or not 0.0 < grid[0] <= grid[-1] < math.inf:
        raise ValueError(
            f"{owner}: expected positive temperatures in ascending order; got {grid}; sort them, each once."
        )
    if not 1 <= len(laws) <= 6:
        raise ValueError(f"{owner}: expected one to six laws; got {len(laws)}; draw more on other axes.")
    count = whole_number(owner, "num_samples", num_samples, minimum=1)
    source = torch.device("cpu") if generator is None else generator.device
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=source))
    bands = []
    for label, law in laws.items():
        if not isinstance(law, SimplexRelaxation):
            raise TypeError(
                f"{owner}: expected {label!r} to be a SimplexRelaxation; got {type(law).__name__}; take "
                "as_simplex() of a binary law."
            )
        if law.batch_shape.numel() == 0:
            raise ValueError(
                f"{owner}: expected {label!r} to have a point at least; got an empty batch of shape "
                f"{tuple(law.batch_shape)}; leave it out."
            )
        rows = _quantiles(law, grid, count, Generator(law.device).manual_seed(seed))
        bands.append(Band(label, grid, *zip(*rows, strict=True)))
    quantile_bands(axes, bands, xlabel="temperature", ylabel="Euclidean distance\nto the nearest vertex")
    handles = list(axes.get_legend_handles_labels()[0])
    handles.append(Patch(color=GREY, alpha=0.2, linewidth=0, label="median and middle half"))
    for size in sorted({law.num_categories for law in laws.values()}):
        label = f"centre of the simplex, K = {size}"
        centre = math.sqrt(1.0 - 1.0 / size)
        handles.append(axes.axhline(centre, color=GREY, linestyle=":", linewidth=1, label=label))
    axes.set_xscale("log")
    axes.set_ylim(bottom=0.0)
    axes.set_title(title, fontsize=10)
    legend_below(axes, handles, columns=2)
    return axes


@torch.no_grad()
def _quantiles(
    law: SimplexRelaxation, temperatures: list[float], count: int, source: Generator
) -> list[tuple[float, ...]]:
    """The quantiles at each temperature, over the points of all laws of a batch."""
    noise = law.draw_noise((count,), source)
    found = []
    for temperature in temperatures:
        distance = vertex_distance(law.with_temperature(temperature).rsample_log(noise=noise))
        # Torch's function takes no more than 2^24 numbers.
        found.append(tuple(np.quantile(distance.double().cpu().numpy(), LEVELS).tolist()))
    return found
