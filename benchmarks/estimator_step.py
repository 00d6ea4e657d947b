"""A training step of a discrete VAE with each gradient estimator, beside the pathwise gradient.

    python benchmarks/estimator_step.py [--device cuda]

The networks are dense_relax on MNIST-sized binary images, batch 100, one sample an image (two where an
estimator needs as many), Adam; latents of 20 variables with 10 categories (Gumbel-Softmax and IGR-I) and 200
Bernoulli variables, with the discrete KL in closed form. Ratios are to ``pathwise`` of the same latent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness import Timing, compare, device_argument, save, show
from igr.estimators import ESTIMATORS
from igr.training.adam import Adam
from igr.training.build import build_vae
from igr.training.checks import fits
from igr.training.config import TrainConfig
from igr.training.randomness import keyed_generator

LATENTS = {"gumbel-softmax": (20, 10), "igr": (20, 10), "bernoulli": (200, 2)}
BATCH = 100


def step(config: TrainConfig) -> Callable[[], object]:
    """One step of training, as the loop takes it."""
    model = build_vae(config, (1, 28, 28))
    parameters = list(model.parameters())
    adam = Adam(dict(model.named_parameters()))
    generator = keyed_generator(0, "images", 0)
    x = (torch.rand(BATCH, 1, 28, 28, generator=generator) > 0.5).float().to(config.device)
    noises = keyed_generator(0, "noise", 0, config.device)

    def once() -> object:
        shape = (config.samples_per_image * model.draws_per_sample, BATCH)
        noise = model.latent.draw_noise(shape, noises)
        loss = model(x, noise, config.posterior_temperature).loss
        adam.step(torch.autograd.grad(loss, parameters), config.learning_rate)
        return loss

    return once


def main() -> None:
    device = device_argument(__doc__)
    tables: dict[str, list[Timing]] = {}
    for latent, (num_variables, num_categories) in LATENTS.items():
        steps = {}
        for name in ESTIMATORS:
            if not fits(name, latent, num_categories):
                continue
            steps[name] = step(
                TrainConfig(
                    data="mnist",
                    network="dense_relax",
                    latent=latent,
                    num_variables=num_variables,
                    num_categories=num_categories,
                    estimator=name,
                    device=device,
                ).resolved()
            )
        timings = compare(steps, "pathwise", device=device, blocks=9)
        title = f"{latent}, {num_variables} variables of {num_categories} categories"
        show(title, timings)
        tables[title] = timings
    print(f"\nwritten: {save('estimator_step', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
