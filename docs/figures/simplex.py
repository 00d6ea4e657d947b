"""Draws the picture of the README: two relaxations of one discrete law, and the law that each stands for.

python docs/figures/simplex.py
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

import igr
from igr import plot

PROBS = torch.tensor([0.5, 0.3, 0.2])
POINTS = 1500
TEMPERATURES = (1.0, 0.3)
LAWS = {
    "Gumbel-Softmax": igr.GumbelSoftmax(1.0, probs=PROBS),
    "IGR-I": igr.InvertibleGaussian.from_probs(PROBS, temperature=1.0),
}


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.6, 1))
    panels = iter(left.subplots(1, 4))
    drawn = {}
    for position, (name, law) in enumerate(LAWS.items()):
        for temperature in TEMPERATURES:
            points = law.with_temperature(temperature).sample((POINTS,), generator=generator)
            title = f"{name}\ntemperature {temperature:g}"
            plot.ternary_samples(next(panels), points, title=title, position=position)
        drawn[name] = points
    plot.discrete_law(right.subplots(), LAWS["IGR-I"], drawn, title="the discrete law behind them")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=140)


if __name__ == "__main__":
    main()
