"""The exact law of IGR-I as one kernel forward and one backward, on a GPU.

By plain operations every law writes K - 1 by Q numbers several times; here a program walks over the nodes
and keeps a few numbers of each variable. The number of nodes is that of the hardest law, since parameters on
a device cannot be read without waiting. The kernels are in :mod:`igr.kernels.gaussian_law_triton`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from igr.kernels import fused, quadrature

# A whole law is held by one program.
MOST_VARIABLES = 1024
# Numbers in a program, where laws are small.
_TILE = 128
_MOST_WARPS = 8
# Variables below which a few small operations do, and nothing has to be compiled.
_FEW = 2**9


def can_run(loc: Tensor, scale: Tensor) -> bool:
    """Whether the kernels take such laws, outside of tracers."""
    alike = loc.dtype == scale.dtype == torch.float32 and loc.device == scale.device
    fits = 0 < loc.shape[-1] <= MOST_VARIABLES and loc.numel() >= _FEW
    return alike and fits and fused.runs_on(loc.device)


def log_probs_of(loc: Tensor, scale: Tensor, edge: Tensor, num_nodes: int) -> Tensor:
    """log P(k) with shape [P, K], from loc and scale, [P, K-1], and the threshold, [P, 1]."""
    from igr.kernels import gaussian_law_triton

    count, numbers = loc.shape
    log_probs = fused._new(loc, (count, numbers + 1))
    grid, tile = fused.tiles(count, numbers, _TILE, _MOST_WARPS)
    with fused._on(loc.device):
        gaussian_law_triton.forward[(grid,)](
            log_probs=log_probs, **_arguments(loc, scale, edge, num_nodes), **tile
        )
    return log_probs


def gradients(
    loc: Tensor,
    scale: Tensor,
    edge: Tensor,
    num_nodes: int,
    log_probs: Tensor,
    upstream: Tensor,
    with_scale: bool,
) -> tuple[Tensor, Tensor | None]:
    """Gradients in loc and, if wanted, in scale, [P, K-1], from that in log P(k), [P, K]."""
    from igr.kernels import gaussian_law_triton

    by_loc = fused._new(loc, tuple(loc.shape))
    by_scale = fused._new(loc, tuple(loc.shape)) if with_scale else None
    grid, tile = fused.tiles(loc.shape[0], loc.shape[1], _TILE, _MOST_WARPS)
    with fused._on(loc.device):
        gaussian_law_triton.backward[(grid,)](
            log_probs=log_probs,
            upstream=upstream.contiguous(),
            by_loc=by_loc,
            by_scale=by_scale,
            WITH_SCALE=with_scale,
            **_arguments(loc, scale, edge, num_nodes),
            **tile,
        )
    return by_loc, by_scale


def _arguments(loc: Tensor, scale: Tensor, edge: Tensor, num_nodes: int) -> dict[str, object]:
    points, weights = quadrature.clenshaw_curtis(num_nodes, loc.dtype, loc.device)
    return {
        "loc": loc,
        "scale": scale,
        "edge": edge,
        "points": points,
        "log_weights": torch.log(weights),
        "rows": loc.shape[0],
        "N": loc.shape[1],
        "num_nodes": num_nodes,
        "loc_row": loc.stride(0),
        "loc_column": loc.stride(1),
        "scale_row": scale.stride(0),
        "scale_column": scale.stride(1),
        "edge_row": edge.stride(0),
        "BELOW": quadrature.BELOW[loc.dtype],
        "ABOVE": quadrature.ABOVE[loc.dtype],
        "GRADING": quadrature.GRADING,
    }
