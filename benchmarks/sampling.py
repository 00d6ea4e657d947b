"""One draw, forward and backward: ours beside what torch offers.

    python benchmarks/sampling.py [--device cuda]

The ratios are to ``torch.nn.functional.gumbel_softmax``. A good part of the gap is torch's slow
``exponential_`` on the CPU, so our own Gumbel-Softmax is in the table: IGR against it is the fair comparison
of the laws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import igr
from harness import Timing, compare, device_argument, save, show

SHAPES = [(100, 20, 10), (256, 64, 64), (1024, 1, 1000)]
TEMPERATURE = 0.5


def candidates(shape: tuple[int, int, int], device: str) -> dict[str, Callable[[], object]]:
    """Forward and backward of each sampler at (batch, variables, K)."""
    generator = torch.Generator(device).manual_seed(0)

    def parameter(*size: int) -> Tensor:
        return torch.randn(size, device=device, generator=generator).requires_grad_()

    logits = parameter(*shape)
    loc = parameter(*shape[:-1], shape[-1] - 1)
    scale = torch.rand(loc.shape, device=device, generator=generator).add(0.5).requires_grad_()
    upstream = torch.randn(shape, device=device, generator=generator)

    def gradient(points: Tensor, *parameters: Tensor) -> object:
        return torch.autograd.grad(points, parameters, upstream)

    def relaxed_one_hot() -> object:
        law = torch.distributions.RelaxedOneHotCategorical(
            torch.tensor(TEMPERATURE, device=device), logits=logits
        )
        return gradient(law.rsample(), logits)

    return {
        "torch.nn.functional.gumbel_softmax": lambda: gradient(
            torch.nn.functional.gumbel_softmax(logits, TEMPERATURE), logits
        ),
        "torch RelaxedOneHotCategorical": relaxed_one_hot,
        "igr.functional.gumbel_softmax": lambda: gradient(
            igr.functional.gumbel_softmax(logits, TEMPERATURE), logits
        ),
        "igr.functional.invertible_gaussian": lambda: gradient(
            igr.functional.invertible_gaussian(loc, scale, TEMPERATURE), loc, scale
        ),
    }


def main() -> None:
    device = device_argument(__doc__.splitlines()[0])
    tables: dict[str, list[Timing]] = {}
    for shape in SHAPES:
        timings = compare(candidates(shape, device), "torch.nn.functional.gumbel_softmax", device=device)
        title = "batch {}, variables {}, K {}".format(*shape)
        ours = {t.name: t.milliseconds for t in timings}
        show(title, timings)
        fair = ours["igr.functional.invertible_gaussian"] / ours["igr.functional.gumbel_softmax"]
        print(f"  IGR-I takes {fair:.2f} of the time of our own Gumbel-Softmax")
        tables[title] = timings
    print(f"\nwritten: {save('sampling', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
