"""Pictures of runs and laws. Each function draws on the Axes that it is given and returns it.

Nothing here touches ``matplotlib.pyplot``, so importing it changes no global state and no window
opens; :func:`new_figure` and :func:`save` are enough to get a picture into a file.
"""

from igr.plot.closeness import distances_by_temperature
from igr.plot.curves import Band, component_weights, loss_curves, quantile_bands
from igr.plot.discrete import discrete_law
from igr.plot.dots import DotPanel, dot_figure
from igr.plot.gradients import estimator_biases, estimator_variances, probe_figure
from igr.plot.images import (
    CELL,
    LABELLED,
    completions,
    image_grid,
    labelled_images,
    reconstructions,
    traversals,
)
from igr.plot.laws import BOX_LEVELS, box_key, distance_boxes, labelled_boxes, law_histogram
from igr.plot.of_runs import bounds_of_runs, reconstructions_of_run, traversals_of_run
from igr.plot.runs import (
    SEEDS_BAND,
    Curve,
    bounds_figure,
    bounds_over_epochs,
    comparison_figure,
    grouped_figure,
    validation_bands,
)
from igr.plot.simplex import ternary_density, ternary_samples
from igr.plot.style import GREY, LINES, legend_below_all, new_figure, save

__all__ = [
    "BOX_LEVELS",
    "CELL",
    "GREY",
    "LABELLED",
    "LINES",
    "SEEDS_BAND",
    "Band",
    "Curve",
    "DotPanel",
    "bounds_figure",
    "bounds_of_runs",
    "bounds_over_epochs",
    "box_key",
    "comparison_figure",
    "completions",
    "component_weights",
    "discrete_law",
    "distance_boxes",
    "distances_by_temperature",
    "dot_figure",
    "estimator_biases",
    "estimator_variances",
    "grouped_figure",
    "image_grid",
    "labelled_boxes",
    "labelled_images",
    "law_histogram",
    "legend_below_all",
    "loss_curves",
    "new_figure",
    "probe_figure",
    "quantile_bands",
    "reconstructions",
    "reconstructions_of_run",
    "save",
    "ternary_density",
    "ternary_samples",
    "traversals",
    "traversals_of_run",
    "validation_bands",
]
