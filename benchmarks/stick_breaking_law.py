"""The exact discrete law of IGR-SB beside that of IGR-I, and the laws of a whole test set.

    python benchmarks/stick_breaking_law.py [--device cuda]

Parameters are such as networks give (float32, |loc| up to 2, scale 0.5 to 1.5). First, once, 200,000 laws of
ten categories, which is the MNIST test set with 20 variables, with the most memory that the process has held
so far; then a batch of 2,000 laws of ten categories and one of 50 laws of fifty, forward and with the
backward pass, as ratios to the law of IGR-I.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Transform

import igr
from harness import Timing, compare, device_argument, save, show

SHAPES = [(100, 20, 10), (10, 5, 50)]
WHOLE = (10_000, 20, 10)
TRANSFORMS: dict[str, Transform | None] = {
    "IGR-I": None,
    "IGR-SB, log": igr.LogisticStickBreakingTransform("log"),
    "IGR-SB, lengths": igr.LogisticStickBreakingTransform(),
}


def parameters(shape: tuple[int, int, int], device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    size = (*shape[:-1], shape[-1] - 1)
    loc = torch.rand(size, device=device, generator=generator).mul(4.0).sub(2.0)
    return loc, torch.rand(size, device=device, generator=generator).add(0.5)


def law_of(loc: Tensor, scale: Tensor, transform: Transform | None) -> igr.InvertibleGaussian:
    return igr.InvertibleGaussian(loc, scale, 0.3, transform, validate_args=False)


def candidates(shape: tuple[int, int, int], device: str, backward: bool) -> dict[str, Callable[[], object]]:
    loc, scale = (t.requires_grad_(backward) for t in parameters(shape, device))

    def call(transform: Transform | None) -> object:
        probs = law_of(loc, scale, transform).discrete().log_probs.exp()
        return torch.autograd.grad(probs.square().sum(), (loc, scale)) if backward else probs

    return {name: lambda t=transform: call(t) for name, transform in TRANSFORMS.items()}


def main() -> None:
    device = device_argument(__doc__)
    tables: dict[str, list[Timing]] = {}
    loc, scale = parameters(WHOLE, device)
    for name, transform in TRANSFORMS.items():
        start = time.perf_counter()
        law_of(loc, scale, transform).discrete().probs.sum().item()
        seconds = time.perf_counter() - start
        # Linux counts it in KiB.
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        title = f"200,000 laws of K 10, once; {most:.2f} GiB at most so far: {name}"
        tables[title] = [Timing(name, 1e3 * seconds, 1e3 * seconds, 1e3 * seconds, 1.0, 1.0, 1.0)]
        print(f"\n{title}\n  {seconds:.1f} s")
    for shape in SHAPES:
        for backward in (False, True):
            timings = compare(candidates(shape, device, backward), "IGR-I", device=device, blocks=9)
            title = "batch {}, variables {}, K {}".format(*shape) + (", and backward" if backward else "")
            show(title, timings)
            tables[title] = timings
    print(f"\nwritten: {save('stick_breaking_law', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
