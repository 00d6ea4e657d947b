"""One draw, forward and backward: ours beside what torch offers.

    python benchmarks/sampling.py [--device cuda]

The ratios are to ``torch.nn.functional.gumbel_softmax``. A good part of the gap is torch's slow
``exponential_`` on the CPU, so our own Gumbel-Softmax is in the table: IGR against it is the fair comparison
of the laws.

Then the family at one shape, as ratios to IGR-I; and stick-breaking from K = 400 to 3200, which should take
about eight times as long and hold eight times as much for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Transform

import igr
from harness import Timing, compare, device_argument, save, show

SHAPES = [(100, 20, 10), (256, 64, 64), (1024, 1, 1000)]
FAMILY = (100, 20, 50)
FEW, MANY = (16, 20, 400), (16, 20, 3200)
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


def draw(
    shape: tuple[int, int, int], transform: Transform | None, device: str
) -> tuple[Callable[[], Tensor], Callable[[Tensor], object]]:
    """A draw of an IGR with that transform, and its backward pass."""
    generator = torch.Generator(device).manual_seed(0)
    batch, variables, categories = shape
    loc = torch.randn(batch, variables, categories - 1, device=device, generator=generator).requires_grad_()
    scale = torch.rand(loc.shape, device=device, generator=generator).add(0.5).requires_grad_()
    upstream = torch.randn(shape, device=device, generator=generator)

    def forward() -> Tensor:
        law = igr.InvertibleGaussian(loc, scale, TEMPERATURE, transform, validate_args=False)
        return law.rsample()

    return forward, lambda points: torch.autograd.grad(points, (loc, scale), upstream)


def both(shape: tuple[int, int, int], transform: Transform | None, device: str) -> Callable[[], object]:
    forward, backward = draw(shape, transform, device)
    return lambda: backward(forward())


def megabytes_held(shape: tuple[int, int, int], transform: Transform, device: str) -> float:
    """What a draw keeps for its backward pass, each storage once."""
    forward, _ = draw(shape, transform, device)
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(held.values()) / 2**20


def family(device: str) -> dict[str, Callable[[], object]]:
    """The members at one shape."""
    flow = igr.PlanarTransform(FAMILY[-1], generator=torch.Generator().manual_seed(0)).to(device)
    return {
        "IGR-I": both(FAMILY, None, device),
        "IGR-SB, lengths": both(FAMILY, igr.LogisticStickBreakingTransform(), device),
        "IGR-SB, log": both(FAMILY, igr.LogisticStickBreakingTransform("log"), device),
        "IGR-Planar, one layer": both(FAMILY, flow, device),
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
    timings = compare(family(device), "IGR-I", device=device)
    title = "the family at batch {}, variables {}, K {}".format(*FAMILY)
    show(title, timings)
    tables[title] = timings
    for space in ("length", "log"):
        sticks = igr.LogisticStickBreakingTransform(space)
        calls = {f"K {shape[-1]}": both(shape, sticks, device) for shape in (FEW, MANY)}
        timings = compare(calls, f"K {FEW[-1]}", device=device)
        held = [megabytes_held(shape, sticks, device) for shape in (FEW, MANY)]
        title = (
            f"sticks in {space} space, batch 16, variables 20; held for the backward pass: "
            f"{held[0]:.1f} MiB and {held[1]:.1f} MiB"
        )
        show(title, timings)
        tables[title] = timings
    print(f"\nwritten: {save('sampling', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
