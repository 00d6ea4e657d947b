"""A draw as one kernel forward and one backward, on a GPU, with noise that is never stored.

Plain operations write the noise, the pre-image and the exponents to memory and read them again. Here a
program forms a row's noise from a seed and its place (Philox), keeps the row in registers and writes points
alone; the backward pass forms noise and points again. All arithmetic is float32, whatever the parameters are.

The kernels are in :mod:`igr.kernels.fused_triton`, which needs Triton and is imported when the first one
runs.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Size, Tensor

from igr.kernels.numbers import log_number
from igr.kernels.tracing import is_traced

Kind = Literal["gumbel", "gaussian", "lengths", "log-ratios"]
# Their places are the constants of the kernels.
_KINDS = ("gumbel", "gaussian", "lengths", "log-ratios")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Tests put "cpu" in, for Triton's interpreter.
_DEVICES = {"cuda"}
# A whole row is held by one program.
MOST_NUMBERS = 8192
# Of a draw; below, a few small operations cost no more than a launch, and nothing has to be compiled.
_FEW = 2**14
# Programs below which samples of one parameter are shared among several.
_PROGRAMS = 512
# Numbers of one plane in a program, where a row has no more: two for each thread of four warps, so that what
# a thread holds of four planes stays in its registers.
_TILE = 256


@dataclass(frozen=True, eq=False)
class Draw:
    r"""What is drawn: softmax of (loc + noise) / temperature, or softmax++ of T(loc + scale noise) over it.

    Arguments:
        kind: ``"gumbel"``; or Gaussian noise with T the identity, the lengths of sticks, or their log-ratios.
        loc: Logits or means, with shape :math:`(*B, N)`, where N is K for Gumbel noise and else K - 1.
        scale: Standard deviations, a number or a tensor of the shape of loc; not for Gumbel noise.
        temperature: A number or a tensor that broadcasts against the batch.
        delta: That of softmax++, like the temperature; not for Gumbel noise.
    """

    kind: Kind
    loc: Tensor
    scale: float | Tensor = 1.0
    temperature: float | Tensor = 1.0
    delta: float | Tensor = 1.0


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@cache
def _is_recent(device: torch.device) -> bool:
    """Whether Triton compiles for the device."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def runs_on(device: torch.device) -> bool:
    """Whether there are kernels for a device here."""
    return device.type in _DEVICES and _has_triton() and (device.type != "cuda" or _is_recent(device))


def reason_against(draw: Draw) -> str | None:
    """What a kernel cannot do for this draw, to follow the word "got"; ``None`` if it can."""
    loc = draw.loc
    if is_traced():
        return "code under a tracer"
    if loc.device.type not in _DEVICES:
        return f"parameters on {loc.device}, for which there is none"
    if not _has_triton():
        return "no package triton in this environment"
    if loc.is_cuda and not _is_recent(loc.device):
        return "a GPU of a compute capability below 8.0"
    if loc.shape[-1] > MOST_NUMBERS:
        return f"{loc.shape[-1]} numbers in a row, more than {MOST_NUMBERS}"
    if loc.numel() == 0:
        return "an empty batch"
    for tensor in (loc, draw.scale):
        if isinstance(tensor, Tensor) and tensor.dtype not in _DTYPES:
            return f"parameters of {tensor.dtype}"
        if isinstance(tensor, Tensor) and tensor.device != loc.device:
            return f"parameters on {loc.device} and on {tensor.device}"
    for name, value in (("temperature", draw.temperature), ("delta", draw.delta)):
        if not isinstance(value, Tensor):
            continue
        if value.requires_grad and torch.is_grad_enabled():
            return f"a {name} that needs a gradient"
        if value.device != loc.device and not _is_number(value):
            return f"a {name} on {value.device}"
    return None


def chosen(owner: str, fused: bool | None, draw: Draw | str, sample_shape: Sequence[int] = ()) -> Draw | None:
    """The draw if a kernel is to make it, ``None`` for plain operations.

    Arguments:
        owner: Who asks, for the error.
        fused: Whether a kernel must (True), must not, or may (``None``) make it.
        draw: What is drawn, or the reason against a kernel.
        sample_shape: The shape of independent draws.

    Raises:
        ValueError: if a kernel must and cannot.
    """
    if fused is not None and not fused:
        return None
    reason = draw if isinstance(draw, str) else reason_against(draw)
    if reason is None and math.prod(sample_shape) == 0:
        reason = "no sample"
    if reason is None and isinstance(draw, Draw):
        many = draw.loc.numel() * math.prod(sample_shape) >= _FEW
        return draw if fused or many else None
    if fused:
        raise ValueError(
            f"{owner}: expected a draw that one kernel can make, as fused=True asks for; got {reason}; "
            "leave fused out to have one wherever it can be."
        )
    return None


def new_seed(device: torch.device, generator: torch.Generator | None) -> Tensor:
    """A seed [1] on the device, where the kernels read it: nothing waits for its value."""
    return torch.randint(2**62, (1,), device=device, generator=generator)


def sample(
    draw: Draw,
    sample_shape: Sequence[int] = (),
    generator: torch.Generator | None = None,
    *,
    seed: Tensor | None = None,
    with_log_density: bool = False,
    prior: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    r"""Points, differentiable once in loc and scale, for a draw against which there is no reason.

    Arguments:
        draw: What is drawn.
        sample_shape: The shape :math:`S` of independent draws.
        generator: The source of the seed.
        seed: What :func:`new_seed` gives, instead of a generator.
        with_log_density: Whether to give the log-density of the points, from their pre-image.
        prior: Means and standard deviations of a Gaussian prior of the pre-image, without gradient, with
            shapes that broadcast against that of loc: for the KL divergence from it; not for Gumbel noise.

    Returns:
        Points :math:`(*S, *B, K)`; log-densities :math:`(*S, *B)` and divergences :math:`(*B)`, or ``None``.
        All in the dtype of loc.
    """
    loc = draw.loc
    batch = loc.shape[:-1]
    rows = _rows(loc)
    scale: float | Tensor = draw.scale if draw.kind != "gumbel" else 1.0
    if isinstance(scale, Tensor):
        scale = _rows(scale.expand(loc.shape))
    places = None
    if prior is not None:
        if draw.kind == "gumbel":
            raise ValueError(
                "sample: expected Gaussian noise beside a prior; got Gumbel noise; give no prior."
            )
        if any(t.requires_grad for t in prior) and torch.is_grad_enabled():
            raise ValueError(
                "sample: expected a prior without gradient; got one with requires_grad; detach it, or use "
                "plain operations."
            )
        # Of one shape, so that one stride tells where the rows of both are.
        places = tuple(_prior_rows(t, loc) for t in torch.broadcast_tensors(*prior))
    settings = _Settings(
        kind=draw.kind,
        samples=math.prod(sample_shape),
        temperature=_of_rows(draw.temperature, batch, loc.device),
        log_delta=0.0 if draw.kind == "gumbel" else _of_rows(_log(draw.delta), batch, loc.device),
        scale=None if isinstance(scale, Tensor) else float(scale),
        prior=places,
        with_log_density=with_log_density,
    )
    seed = new_seed(loc.device, generator) if seed is None else seed
    of_rows = scale if isinstance(scale, Tensor) else None
    points, density, divergence = _Sample.apply(rows, of_rows, seed, settings)
    shape = Size(sample_shape) + batch
    return (
        points.view(*shape, points.shape[-1]),
        None if density is None else density.view(shape).to(loc.dtype),
        None if divergence is None else divergence.view(batch).to(loc.dtype),
    )


def sample_and_density(
    draw: Draw, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Points and log-densities of :func:`sample`."""
    points, density, _ = sample(draw, sample_shape, generator, with_log_density=True)
    return points, cast(Tensor, density)


def noise(kind: Kind, seed: Tensor, rows: int, numbers: int) -> Tensor:
    """The noise [rows, N], in float32, that a draw of the seed has; rows are samples times the batch."""
    from igr.kernels import fused_triton

    out = torch.empty(rows, numbers, device=seed.device)
    grid, tile = _tiles(rows, numbers)
    with _on(seed.device):
        fused_triton.fill[(grid,)](
            out, seed, rows, numbers, _quarter(numbers), NORMAL=kind != "gumbel", **tile
        )
    return out


@dataclass(frozen=True, eq=False)
class _Settings:
    """What has no gradient."""

    kind: Kind
    samples: int
    temperature: float | Tensor  # [P]
    log_delta: float | Tensor  # [P]
    scale: float | None  # None for a tensor, which is an argument of its own
    prior: tuple[Tensor, ...] | None
    with_log_density: bool

    def arguments(self, loc: Tensor, scale: Tensor | None, seed: Tensor) -> dict[str, Any]:
        """What both kernels take."""
        of_rows = isinstance(self.temperature, Tensor), isinstance(self.log_delta, Tensor)
        prior_loc, prior_scale = self.prior or (None, None)
        return {
            "loc": loc,
            "scale": self.scale if scale is None else scale,
            "prior_loc": prior_loc,
            "prior_scale": prior_scale,
            "seed": seed,
            "tau": self.temperature,
            "log_delta": self.log_delta,
            "P": loc.shape[0],
            "N": loc.shape[1],
            "Q": _quarter(loc.shape[1]),
            "loc_row": loc.stride(0),
            "loc_column": loc.stride(1),
            "scale_row": 0 if scale is None else scale.stride(0),
            "scale_column": 0 if scale is None else scale.stride(1),
            "prior_row": 0 if prior_loc is None else prior_loc.stride(0),
            "tau_stride": self.temperature.stride(0) if isinstance(self.temperature, Tensor) else 0,
            "delta_stride": self.log_delta.stride(0) if isinstance(self.log_delta, Tensor) else 0,
            "LAW": _KINDS.index(self.kind),
            "TAU_OF_ROWS": of_rows[0],
            "DELTA_OF_ROWS": of_rows[1],
            "SCALE_OF_ROWS": scale is not None,
        }


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loc: Tensor, scale: Tensor | None, seed: Tensor, settings: _Settings
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        from igr.kernels import fused_triton

        count, numbers = loc.shape
        rows = settings.samples * count
        categories = numbers + (settings.kind != "gumbel")
        points = _new(loc, (rows, categories), loc.dtype)
        density = _new(loc, (rows,)) if settings.with_log_density else None
        divergence = None if settings.prior is None else _new(loc, (count,))
        grid, tile = _tiles(rows, numbers)
        with _on(loc.device):
            fused_triton.forward[(grid,)](
                points=points,
                density=density,
                divergence=divergence,
                rows=rows,
                log_gamma=math.lgamma(categories) if settings.kind == "gumbel" else 0.0,
                WITH_DENSITY=density is not None,
                WITH_DIVERGENCE=divergence is not None,
                **settings.arguments(loc, scale, seed),
                **tile,
            )
        ctx.save_for_backward(loc, scale, seed)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return points, density, divergence

    @staticmethod
    def backward(
        ctx: Any, of_points: Tensor | None, of_density: Tensor | None, of_divergence: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        loc, scale, seed = ctx.saved_tensors
        by_loc, by_scale = ctx.needs_input_grad[:2]
        grads = tuple(None if g is None else g.contiguous() for g in (of_points, of_density, of_divergence))
        if all(g is None for g in grads):
            return None, None, None, None
        found = list(_gradients(loc, scale, seed, ctx.settings, by_scale, *grads))
        if torch.is_grad_enabled():
            found = [g if g is None else _Once.apply(g, loc, scale) for g in found]
        return found[0] if by_loc else None, found[1], None, None


class _Once(torch.autograd.Function):
    """A gradient, which says so where it is to be differentiated again."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, loc: Tensor, scale: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        raise RuntimeError(
            "expected a fused draw to be differentiated once; got a second derivative; draw with fused=False "
            "or give the noise."
        )


def _gradients(
    loc: Tensor,
    scale: Tensor | None,
    seed: Tensor,
    settings: _Settings,
    by_scale: bool,
    of_points: Tensor | None,
    of_density: Tensor | None,
    of_divergence: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    from igr.kernels import fused_triton

    count, numbers = loc.shape
    grid, tile = _tiles(count, numbers)
    chunks = min(settings.samples, -(-_PROGRAMS // grid))
    per_chunk = -(-settings.samples // chunks)
    chunks = -(-settings.samples // per_chunk)
    # Parts that are yet to be added stay float32.
    shape = (chunks, count, numbers)
    of_loc = _new(loc, shape, loc.dtype if chunks == 1 else torch.float32)
    of_scale = None
    if by_scale and scale is not None:
        of_scale = _new(loc, shape, scale.dtype if chunks == 1 else torch.float32)
    with _on(loc.device):
        fused_triton.backward[(grid, chunks)](
            by_loc=of_loc,
            by_scale=of_scale,
            of_points=of_points,
            of_density=of_density,
            of_divergence=of_divergence,
            S=settings.samples,
            per_chunk=per_chunk,
            BY_SCALE=of_scale is not None,
            OF_POINTS=of_points is not None,
            OF_DENSITY=of_density is not None,
            OF_DIVERGENCE=of_divergence is not None,
            **settings.arguments(loc, scale, seed),
            **tile,
        )
    if chunks == 1:
        return of_loc[0], None if of_scale is None else of_scale[0]
    total = None if of_scale is None or scale is None else of_scale.sum(0).to(scale.dtype)
    return of_loc.sum(0).to(loc.dtype), total


def _new(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory that a kernel fills."""
    return torch.empty(shape, dtype=dtype, device=like.device)


def _tiles(rows: int, numbers: int) -> tuple[int, dict[str, int]]:
    """How many programs there are, and what each takes, of rows in four planes."""
    return tiles(rows, _quarter(numbers), _TILE, 16)


def tiles(rows: int, columns: int, tile: int, most_warps: int) -> tuple[int, dict[str, int]]:
    """How many programs there are, and what each takes: whole rows, ``tile`` numbers where they are short."""
    # A scan or reduction over one column is a case that compilers seldom meet.
    block = max(2, 1 << (columns - 1).bit_length())
    per_program = max(1, tile // block)
    return -(-rows // per_program), {
        "ROWS": per_program,
        "BLOCK": block,
        "num_warps": min(max(4, block * per_program // 64), most_warps),
        # What is the default of most versions; the others warn where nothing is said.
        "enable_fp_fusion": True,
    }


def _quarter(numbers: int) -> int:
    return -(-numbers // 4)


def _rows(x: Tensor) -> Tensor:
    """x [*B, N] as [P, N], copied only where rows or columns have gaps that two strides cannot tell."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) in (0, 1) else rows.contiguous()


def _prior_rows(x: Tensor, loc: Tensor) -> Tensor:
    """A prior as [P, N] in float32, with one row of memory where all rows are alike."""
    x = x.detach().to(loc.device, torch.float32)
    if x.dim() <= 1:
        return x.expand(loc.shape[-1]).contiguous().expand(loc.shape[:-1].numel(), -1)
    return x.expand(loc.shape).contiguous().view(-1, loc.shape[-1])


def _log(value: float | Tensor) -> float | Tensor:
    return log_number(value, torch.float32)


def _is_number(value: Tensor) -> bool:
    """A tensor without dimensions that can be read without waiting; torch lets it meet any device."""
    return value.dim() == 0 and value.device.type == "cpu"


def _of_rows(value: float | Tensor, batch: Size, device: torch.device) -> float | Tensor:
    """A setting as a number or [P]."""
    if not isinstance(value, Tensor):
        return float(value)
    if _is_number(value):
        return float(value)
    return value.detach().to(device, torch.float32).expand(batch).reshape(-1)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
