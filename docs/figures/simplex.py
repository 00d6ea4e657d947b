"""Draws the picture of the README: two relaxations of one discrete law, and the law that each stands for.

python docs/figures/simplex.py
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import igr

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#595959"  # Okabe and Ito: safe for the colour-blind
PROBS = torch.tensor([0.5, 0.3, 0.2])
POINTS = 1500
TEMPERATURES = {"Gumbel-Softmax": (1.0, 0.3), "IGR-I": (1.0, 0.3)}


def law(name: str, temperature: float) -> igr.SimplexRelaxation:
    if name == "IGR-I":
        return igr.InvertibleGaussian.from_probs(PROBS, temperature=temperature)
    return igr.GumbelSoftmax(temperature, probs=PROBS)


def ternary(axes: Axes, points: np.ndarray, title: str, color: str) -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    axes.fill(*corners.T, facecolor="none", edgecolor=GREY, linewidth=1)
    axes.scatter(*(points @ corners).T, s=3, color=color, alpha=0.35, linewidths=0)
    for corner, text, across, down in zip(
        corners, ("1", "2", "3"), ("right", "left", "center"), ("top", "top", "bottom"), strict=True
    ):
        axes.text(*corner, f" {text} ", ha=across, va=down, color=GREY)
    axes.set_title(title, fontsize=10, pad=14)
    axes.set_aspect("equal")
    axes.set_axis_off()


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    panels = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.25))
    drawn = {}
    column = 0
    for name, color in (("Gumbel-Softmax", BLUE), ("IGR-I", ORANGE)):
        for temperature in TEMPERATURES[name]:
            relaxation = law(name, temperature)
            points = relaxation.sample((POINTS,), generator=generator)
            ternary(panels[column], points.numpy(), f"{name}\ntemperature {temperature:g}", color)
            column += 1
        drawn[name] = relaxation.discrete("monte_carlo", num_samples=POINTS, generator=generator)
    bars = panels[-1]
    place = np.arange(3)
    exact = law("IGR-I", 0.3).discrete().probs.numpy()
    bars.bar(place, exact, width=0.7, color="#D9D9D9", edgecolor=GREY, label="exact law of IGR-I")
    for shift, marker, color, (name, estimate) in zip(
        (-0.12, 0.12), ("o", "s"), (BLUE, ORANGE), drawn.items(), strict=True
    ):
        error = 2 * estimate.standard_error.numpy()
        bars.errorbar(
            place + shift,
            estimate.probs.numpy(),
            error,
            fmt=marker,
            color=color,
            markersize=4,
            capsize=3,
            label=f"{name}: {POINTS} draws, 2 s.e.",
        )
    bars.set_xticks(place, ["1", "2", "3"])
    bars.set_xlabel("largest coordinate")
    bars.set_ylabel("probability")
    bars.set_ylim(0, 0.85)
    bars.set_title("the discrete law behind them", fontsize=10)
    bars.legend(fontsize=7.5, frameon=False, loc="upper right")
    for side in ("top", "right"):
        bars.spines[side].set_visible(False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=140)


if __name__ == "__main__":
    main()
