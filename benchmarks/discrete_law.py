"""The exact discrete law of IGR-I, forward and backward, beside one call of ``gumbel_softmax``.

    python benchmarks/discrete_law.py [--device cuda]

Parameters are those of trained models (|loc| up to 3, scale 0.5 to 1.5); beside the times stands the largest
error of a probability, against a float64 law with 512 nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import igr
from harness import Timing, compare, device_argument, save, show

SHAPES = [(100, 20, 10), (100, 20, 50), (100, 1, 200)]


def candidates(shape: tuple[int, int, int], device: str) -> tuple[dict[str, Callable[[], object]], str]:
    """Forward and backward at (batch, variables, K), and a line on the accuracy."""
    generator = torch.Generator(device).manual_seed(0)

    def uniform(low: float, high: float, *size: int) -> Tensor:
        unit = torch.rand(size, device=device, generator=generator)
        return (low + (high - low) * unit).requires_grad_()

    batch, variables, categories = shape
    logits = uniform(-3, 3, *shape)
    loc = uniform(-3, 3, batch, variables, categories - 1)
    scale = uniform(0.5, 1.5, batch, variables, categories - 1)
    upstream = torch.randn(shape, device=device, generator=generator)

    def own_scale() -> igr.InvertibleGaussian:
        return igr.InvertibleGaussian(loc, scale, 0.5, validate_args=False)

    def one_scale() -> igr.InvertibleGaussian:
        return igr.InvertibleGaussian(loc, 1.0, 0.5, validate_args=False)

    def error(law: igr.InvertibleGaussian) -> float:
        exact = igr.InvertibleGaussian(law.loc.double(), law.scale.double(), 0.5)
        difference = law.discrete().log_probs.exp() - exact.discrete(num_nodes=512).probs
        return difference.abs().max().item()

    uniform_law = igr.DiscreteLaw(torch.full((categories,), 1.0 / categories, device=device).log())
    note = f"largest error: a scale each {error(own_scale()):.1e}, one scale {error(one_scale()):.1e}"
    return {
        "torch.nn.functional.gumbel_softmax": lambda: torch.autograd.grad(
            torch.nn.functional.gumbel_softmax(logits, 0.5), logits, upstream
        ),
        "exact law, a scale each": lambda: torch.autograd.grad(
            own_scale().discrete().log_probs, (loc, scale), upstream
        ),
        "exact law, one scale": lambda: torch.autograd.grad(one_scale().discrete().log_probs, loc, upstream),
        "its divergence from the uniform law, a scale each": lambda: torch.autograd.grad(
            own_scale().discrete_kl(uniform_law).sum(), (loc, scale)
        ),
        "its divergence from the uniform law, one scale": lambda: torch.autograd.grad(
            one_scale().discrete_kl(uniform_law).sum(), loc
        ),
    }, note


def main() -> None:
    device = device_argument(__doc__.splitlines()[0])
    tables: dict[str, list[Timing]] = {}
    for shape in SHAPES:
        calls, note = candidates(shape, device)
        timings = compare(calls, "torch.nn.functional.gumbel_softmax", device=device)
        title = "batch {}, variables {}, K {}; {}".format(*shape, note)
        show(title, timings)
        tables[title] = timings
    print(f"\nwritten: {save('discrete_law', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
