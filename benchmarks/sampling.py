"""One draw, forward and backward: ours beside what torch offers.

    python benchmarks/sampling.py [--device cuda]

The ratios are to ``torch.nn.functional.gumbel_softmax``. A good part of the gap is torch's slow
``exponential_`` on the CPU, so our own Gumbel-Softmax is in the table: IGR against it is the fair comparison
of the laws. What the normal variables of IGR alone take, ``torch.randn``, is there too: no draw takes less.

Then the family at one shape, as ratios to IGR-I; stick-breaking from K = 400 to 3200, which should take
about eight times as long and hold eight times as much for the backward pass; and K = 100,000, where every
point and gradient must be finite, and hold twice what half as many categories do.

On a GPU there is more: draws by one kernel against plain operations; draws of 2^26 numbers against a copy of
as many, with the bandwidth that each reaches; and the exact law of IGR-I against its sampler.
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
HALF, WIDEST = (8, 1, 50_000), (8, 1, 100_000)
# The parameters of IGR-I and the shape of its law where the law is compared to a draw.
LAW = (4096, 20, 10)
# 2^26 numbers: far more than a cache holds.
LARGE = (2**22, 16)
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

    sticks = igr.LogisticStickBreakingTransform()

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
        "igr.InvertibleGaussian, sticks in lengths": lambda: gradient(
            igr.InvertibleGaussian(loc, scale, TEMPERATURE, sticks, validate_args=False).rsample(), loc, scale
        ),
        "torch.randn of as many alone": lambda: torch.randn(loc.shape, device=device),
    }


def draw(
    shape: tuple[int, int, int], transform: Transform | None, device: str
) -> tuple[Callable[[], Tensor], Callable[[Tensor], tuple[Tensor, ...]]]:
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


def megabytes_held(shape: tuple[int, int, int], transform: Transform | None, device: str) -> float:
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


def widest(device: str) -> dict[str, list[Timing]]:
    """Draws of 100,000 categories, forward and backward; ends the process if a number is not finite."""
    tables = {}
    laws = {
        "IGR-I": None,
        "IGR-SB, lengths": igr.LogisticStickBreakingTransform(),
        "IGR-SB, log": igr.LogisticStickBreakingTransform("log"),
    }
    for name, transform in laws.items():
        forward, backward = draw(WIDEST, transform, device)
        points = forward()
        gradients = backward(points)
        if not all(bool(torch.isfinite(t).all()) for t in (points, *gradients)):
            raise SystemExit(f"{name}: expected finite points and gradients of {WIDEST[-1]:,} categories")
        held = [megabytes_held(shape, transform, device) for shape in (HALF, WIDEST)]
        calls = {f"K {shape[-1]:,}": both(shape, transform, device) for shape in (HALF, WIDEST)}
        title = (
            f"{name}, batch {WIDEST[0]}, all finite; held for the backward pass: "
            f"{held[0]:.1f} MiB and {held[1]:.1f} MiB"
        )
        tables[title] = compare(calls, f"K {HALF[-1]:,}", device=device)
        show(title, tables[title])
    return tables


def family(device: str) -> dict[str, Callable[[], object]]:
    """The members at one shape."""
    flow = igr.PlanarTransform(FAMILY[-1], generator=torch.Generator().manual_seed(0)).to(device)
    return {
        "IGR-I": both(FAMILY, None, device),
        "IGR-SB, lengths": both(FAMILY, igr.LogisticStickBreakingTransform(), device),
        "IGR-SB, log": both(FAMILY, igr.LogisticStickBreakingTransform("log"), device),
        "IGR-Planar, one layer": both(FAMILY, flow, device),
    }


def by_kernel(shape: tuple[int, int, int], fused: bool, device: str) -> dict[str, Callable[[], object]]:
    """Forward and backward of every law that one kernel draws, by it or by plain operations."""
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(shape, device=device, generator=generator).requires_grad_()
    loc = logits.detach()[..., 1:].contiguous().requires_grad_()
    scale = torch.rand(loc.shape, device=device, generator=generator).add(0.5).requires_grad_()
    upstream = torch.randn(shape, device=device, generator=generator)

    def of(law: igr.SimplexRelaxation, *parameters: Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(law.rsample(fused=fused), parameters, upstream)

    def sticks(space: str) -> igr.InvertibleGaussian:
        transform = igr.LogisticStickBreakingTransform(space)
        return igr.InvertibleGaussian(loc, scale, TEMPERATURE, transform, validate_args=False)

    way = "one kernel" if fused else "plain"
    gumbel = igr.GumbelSoftmax(TEMPERATURE, logits, validate_args=False)
    gaussian = igr.InvertibleGaussian(loc, scale, TEMPERATURE, validate_args=False)
    return {
        f"Gumbel-Softmax, {way}": of(gumbel, logits),
        f"IGR-I, {way}": of(gaussian, loc, scale),
        f"IGR-SB, lengths, {way}": of(sticks("length"), loc, scale),
        f"IGR-SB, log, {way}": of(sticks("log"), loc, scale),
    }


def bandwidth(device: str) -> dict[str, Callable[[], object]]:
    """Large draws without backward, and a copy that reads and writes as many bytes as each must."""
    logits = torch.randn(LARGE, device=device)
    scale = torch.rand(LARGE, device=device).add_(0.5)
    law = igr.GumbelSoftmax(TEMPERATURE, logits, validate_args=False)
    gaussian = igr.InvertibleGaussian(logits, scale, TEMPERATURE, validate_args=False)
    target = torch.empty_like(logits)
    return {
        "copy": lambda: target.copy_(logits),
        "Gumbel-Softmax, one kernel": lambda: law.sample(),
        "Gumbel-Softmax, plain": lambda: law.rsample(fused=False).detach(),
        "IGR-I, one kernel": lambda: gaussian.sample(),
        "IGR-I, plain": lambda: gaussian.rsample(fused=False).detach(),
    }


def law_and_draw(device: str) -> dict[str, Callable[[], object]]:
    """The exact law of IGR-I and a draw of it, forward and backward."""
    generator = torch.Generator(device).manual_seed(0)
    loc = torch.randn(*LAW[:-1], LAW[-1] - 1, device=device, generator=generator).requires_grad_()
    scale = torch.rand(loc.shape, device=device, generator=generator).add(0.5).requires_grad_()
    upstream = torch.randn(LAW, device=device, generator=generator)

    def made() -> igr.InvertibleGaussian:
        return igr.InvertibleGaussian(loc, scale, TEMPERATURE, validate_args=False)

    return {
        "a draw": lambda: torch.autograd.grad(made().rsample(), (loc, scale), upstream),
        "a draw by plain operations": lambda: torch.autograd.grad(
            made().rsample(fused=False), (loc, scale), upstream
        ),
        "the exact law": lambda: torch.autograd.grad(made().discrete().probs, (loc, scale), upstream),
    }


def on_a_gpu(device: str) -> dict[str, list[Timing]]:
    tables = {}
    for shape in (*SHAPES, LAW, (2**14, 8, 512)):
        pairs = zip(
            by_kernel(shape, False, device).items(), by_kernel(shape, True, device).items(), strict=True
        )
        for plain, ours in pairs:
            title = "{}: batch {}, variables {}, K {}".format(plain[0].removesuffix(", plain"), *shape)
            tables[title] = compare(dict([plain, ours]), plain[0], device=device)
            show(title, tables[title])
    title = "2^26 numbers, forward, as a multiple of one copy"
    tables[title] = compare(bandwidth(device), "copy", device=device)
    show(title, tables[title])
    # A copy reads and writes each byte once, and so does Gumbel-Softmax; IGR-I reads two arrays for one.
    moved = {"copy": 2, "Gumbel-Softmax, one kernel": 2, "IGR-I, one kernel": 3}
    for timing in tables[title]:
        if timing.name in moved:
            speed = moved[timing.name] * 4 * 2**26 / timing.milliseconds / 1e6
            print(f"  {timing.name} moves {speed:.0f} GB/s")
    title = "the exact law of IGR-I at batch {}, variables {}, K {}".format(*LAW)
    tables[title] = compare(law_and_draw(device), "a draw", device=device)
    show(title, tables[title])
    return tables


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
    tables |= widest(device)
    if device.startswith("cuda"):
        tables |= on_a_gpu(device)
    print(f"\nwritten: {save('sampling', device, tables, (__doc__ or '').strip())}")


if __name__ == "__main__":
    main()
