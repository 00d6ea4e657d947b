"""A training step of a mixture model with 50 components, all of them decoded or as many as a batch needs.

    python benchmarks/mixture_step.py [--device cuda]

The network is dlgmm_dense on MNIST-sized binary images, batch 100, one sample an image, components of 50
dimensions, Adam; the model is fresh, so that its sticks are those of the prior. Truncation takes 75 % of the
draws to a sum of 0.99 (eight sticks and the last component) or of 0.9999 (sixteen). Ratios are to all 50
components with weights of the same law, and models with fewer show what a component costs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness import Timing, compare, device_argument, machine, save, show
from igr.training.adam import Adam
from igr.training.build import build_dlgmm
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.randomness import keyed_generator

BATCH = 100
WEIGHTS = {"Kumaraswamy": "dlgmm", "IGR": "dlgmm-igr"}


def step(config: DLGMMConfig) -> tuple[int, Callable[[], object]]:
    """How many components a step keeps, and one step of training, as the loop takes it."""
    model = build_dlgmm(config, (1, 28, 28))
    parameters = list(model.parameters())
    adam = Adam(dict(model.named_parameters()))
    generator = keyed_generator(0, "images", 0)
    x = (torch.rand(BATCH, 1, 28, 28, generator=generator) > 0.5).float().to(config.device)
    noises = keyed_generator(0, "noise", 0, config.device)

    def once() -> object:
        noise = model.draw_noise((config.samples_per_image, BATCH), noises)
        loss = model(x, noise, config.posterior_temperature).loss
        # The rate is so small that sticks stay where they are.
        adam.step(torch.autograd.grad(loss, parameters), 1e-9)
        return loss

    kept = model(x, model.draw_noise((1, BATCH), noises)).num_components
    return int(kept[0, 0]), once


def main() -> None:
    device = device_argument(__doc__)
    tables: dict[str, list[Timing]] = {}
    for law, latent in WEIGHTS.items():
        configs = {"all 50 components": DLGMMConfig(data="mnist", latent=latent, num_components=50)}
        for threshold in (0.99, 0.9999):
            configs[f"50 truncated at {threshold:g}"] = DLGMMConfig(
                data="mnist", latent=f"{latent}-truncated", num_components=50, stick_threshold=threshold
            )
        configs["all 50, summed out"] = DLGMMConfig(
            data="mnist", latent=latent, num_components=50, component="summed"
        )
        for fewer in (20, 10, 5):
            configs[f"all of {fewer} components"] = DLGMMConfig(
                data="mnist", latent=latent, num_components=fewer
            )
        steps = {}
        for name, config in configs.items():
            kept, once = step(DLGMMConfig.from_json({"device": device}, config).resolved())
            steps[f"{name}, {kept} kept" if "truncated" in name else name] = once
        tables[f"a step, weights {law}"] = compare(steps, "all 50 components", device=device)
    print(machine(device))
    for title, timings in tables.items():
        show(title, timings)
    print(f"\nwritten: {save('mixture_step', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
