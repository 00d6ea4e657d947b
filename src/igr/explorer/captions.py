"""What stands in words beside the pictures of a scene."""

import numpy as np

from igr.explorer.laws import NUM_DRAWS, Number
from igr.explorer.scene import CURVE_POINTS, LEVELS, NEAR, STRIP_POINTS, Scene


def number(found: Number) -> str:
    """A number of nats, with its standard error where it has one."""
    value = f"{found.value:z.3f}" if found.value < 1e4 else f"{found.value:.4g}"
    if found.error is None:
        return value
    return f"{value} ± {found.error:.3f}" if found.error < 1e4 else f"{value} ± {found.error:.2g}"


def relaxed_kl(scene: Scene) -> str:
    """How the KL of the relaxed laws was had."""
    if scene.settings.has_closed_kl:
        return "exact, in closed form"
    return f"no closed form: a mean over the {scene.settings.num_samples:,} points, ± its standard error"


def discrete_kl(scene: Scene) -> str:
    """How the KL of the discrete laws was had."""
    if scene.settings.is_exact:
        return "exact"
    return f"an estimate from {NUM_DRAWS:,} other draws, ± its standard error"


def prior(scene: Scene) -> str:
    """What the uniform prior is."""
    settings = scene.settings
    count = settings.num_categories
    if settings.family == "igr-sb":
        return (
            f"Of the same family and temperature, with scale 1 and means for which the first {count - 1} "
            f"categories are equally likely. The last one never wins. So its discrete law is uniform over "
            f"{count - 1}."
        )
    if settings.family == "gumbel-softmax":
        start = "Gumbel-Softmax with all logits 0"
    elif settings.family == "igr":
        start = f"IGR-I with scale 1 and all means {scene.prior_mean:.2f}"
    elif settings.family == "igr-sb-log":
        start = "Of the same family, with scale 1, δ = 1 and means found by Newton's method"
    else:
        start = "IGR-I without a flow (beside the same flow the KL would have a closed form)"
    return f"{start}, at the same temperature. All {count} categories are equally likely."


def points(scene: Scene) -> str:
    """What is seen of the points."""
    settings = scene.settings
    start = {
        2: "Bars: how often the weight z₁ of category 1 falls there. Line: its exact density.",
        3: "Each dot is one point z; its colour tells the largest weight.",
    }.get(
        settings.num_categories,
        f"Each dot is one weight of one of the first {STRIP_POINTS} points, in the column of its category. A "
        "triangle cannot show more than three categories.",
    )
    share = scene.share_near
    near = "All" if share == 1.0 else "None" if share == 0.0 else f"{share:.0%}"
    return f"{start} {near} of the {settings.num_samples:,} points lie within {NEAR} of a vertex."


def density(scene: Scene) -> str:
    """What is seen of the density, or of the distances in its place."""
    if scene.settings.num_categories != 3:
        return (
            f"0 is a vertex, a choice; {scene.farthest:.2f}, the dotted line, is the centre of the simplex, "
            "where all weights are equal."
        )
    text = "The density, in multiples of that of points that fall evenly; exact, from log_prob."
    if scene.density is not None and np.isneginf(scene.density).any():
        text += " Grey: no point can fall there."
    if scene.share_on_pixels < 0.5:
        text += " Most of it lies nearer to the edges than a pixel, and is not seen."
    return text


def law(scene: Scene) -> str:
    """What is seen of the discrete law."""
    settings = scene.settings
    bars = "exact" if settings.is_exact else f"an estimate from {NUM_DRAWS:,} other draws"
    text = (
        f"How likely each weight is the largest. Bars: {bars}. Dots: the share among the points, "
        "± 2 standard errors."
    )
    if settings.family == "igr-sb":
        return f"{text} Category {settings.num_categories} never wins."
    if settings.delta == 1.0:
        return f"{text} The temperature has no part in it."
    return f"{text} With δ other than 1 it depends on the temperature."


def distance(scene: Scene) -> str:
    """What is seen of the distances."""
    low, _, high = LEVELS
    count = min(scene.settings.num_samples, CURVE_POINTS)
    return (
        f"Median (line) and {low:.0%} to {high:.0%} (band) of {count:,} points. At your temperature "
        f"{scene.settings.temperature:g} the median is {scene.median_distance:.3f}; 0 is a vertex, the "
        "dotted line the centre."
    )
