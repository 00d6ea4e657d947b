"""The Triton kernels of :mod:`igr.kernels.gaussian_law_fused`, which imports this module when it runs one.

A program takes a few laws with all of their variables and walks over the nodes: what it holds is a few
numbers for each variable, and nothing of the size of the nodes is ever written. The backward pass walks over
them again.
"""

import triton
import triton.language as tl

from igr.kernels.fused_triton import _log1p

# Triton reads a global only as a constexpr.
_LN_2 = tl.constexpr(0.6931471805599453)
_SQRT_HALF = tl.constexpr(0.7071067811865476)
_SQRT_2 = tl.constexpr(1.4142135623730951)
_LOG_SQRT_2PI = tl.constexpr(0.9189385332046727)
_DENSITY_AT_ZERO = tl.constexpr(0.3989422804014327)


@triton.jit
def _log_cdf_and_hazard(w):
    """log Phi(z) and log(phi(z) / phi(0) / Phi(z)) for w = -z / sqrt(2), to some 1e-7 of the function itself.

    The complementary error function is that of Numerical Recipes (Press et al., 1992, section 6.2):
    t exp(p(t) - w^2) with a polynomial p. Without its last factor neither tail loses anything.
    """
    size = tl.abs(w)
    t = 1.0 / (1.0 + 0.5 * size)
    p = t * 0.17087277 - 0.82215223
    p = t * p + 1.48851587
    p = t * p - 1.13520398
    p = t * p + 0.27886807
    p = t * p - 0.18628806
    p = t * p + 0.09678418
    p = t * p + 0.37409196
    p = t * p + 1.00002368
    p = t * p - 1.26551223
    square = w * w
    scaled = tl.log(t) + p - _LN_2
    lacking = tl.exp(scaled - square)
    # Less is nothing, as beside variables that are masked.
    upper = _log1p(-tl.where((w < 0.0) & (lacking > 1e-15), lacking, 0.0))
    return tl.where(w < 0.0, upper, scaled - square), tl.where(w < 0.0, -square - upper, -scaled)


@triton.jit
def _laws(
    loc, scale, edge, rows, N, loc_row, loc_column, scale_row, scale_column, edge_row,
    BELOW, ABOVE, GRADING, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows, columns and what is there; the mesh of each law; slopes, shifts and rates of each variable."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :].to(tl.int64)
    inside = (row < rows) & (column < N)
    mu = tl.load(loc + row * loc_row + column * loc_column, mask=inside, other=0.0)
    sigma = tl.load(scale + row * scale_row + column * scale_column, mask=inside, other=1.0)
    c = tl.load(edge + row * edge_row, mask=row < rows, other=0.0)
    infinity = float("inf")
    start = tl.max(tl.where(inside, mu - BELOW * sigma, -infinity), axis=1)[:, None]
    start = tl.maximum(start, c)
    top = tl.where(inside, mu + ABOVE * sigma, -infinity)
    finest = tl.min(tl.where(inside & (top > start), sigma, infinity), axis=1)[:, None]
    finest = tl.where(finest == infinity, tl.min(tl.where(inside, sigma, infinity), axis=1)[:, None], finest)
    finest = tl.where(row < rows, finest, 1.0)
    length = tl.maximum(tl.max(top, axis=1)[:, None] - start, finest)
    length = tl.where(row < rows, length, 1.0)
    start = tl.where(row < rows, start, 0.0)
    unit = GRADING * finest
    span = tl.log(1.0 + length / unit)
    rate = 1.0 / sigma
    slope = unit * rate * -_SQRT_HALF
    shift = (start - mu) * rate * -_SQRT_HALF - slope
    # What is left out of the weights of the nodes and of the densities.
    log_factor = tl.log(span * unit * rate) - _LOG_SQRT_2PI
    return row, column, inside, mu, c, span, rate, slope, shift, log_factor


# Sizes are no reason to compile again.
@triton.jit(do_not_specialize=["rows", "N", "num_nodes", "edge_row"])
def forward(
    loc, scale, edge, points, log_weights, log_probs, rows, N, num_nodes,
    loc_row, loc_column, scale_row, scale_column, edge_row, BELOW, ABOVE, GRADING,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, column, inside, mu, c, span, rate, slope, shift, log_factor = _laws(
        loc, scale, edge, rows, N, loc_row, loc_column, scale_row, scale_column, edge_row,
        BELOW, ABOVE, GRADING, ROWS, BLOCK,
    )  # fmt: skip
    highest = tl.full([ROWS, BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for q in range(num_nodes):
        stretched = tl.load(points + q) * span
        log_cdf, log_hazard = _log_cdf_and_hazard(tl.exp(stretched) * slope + shift)
        common = tl.sum(tl.where(inside, log_cdf, 0.0), axis=1)[:, None]
        exponent = log_hazard + (common + stretched + tl.load(log_weights + q))
        larger = tl.maximum(highest, exponent)
        total = total * tl.exp(highest - larger) + tl.exp(exponent - larger)
        highest = larger
    start = log_probs + row * (N + 1)
    tl.store(start + column, highest + tl.log(total) + log_factor, mask=inside)
    log_cdf, _ = _log_cdf_and_hazard((c - mu) * rate * -_SQRT_HALF)
    last = tl.sum(tl.where(inside, log_cdf, 0.0), axis=1)[:, None]
    tl.store(start + N, last, mask=row < rows)


@triton.jit(do_not_specialize=["rows", "N", "num_nodes", "edge_row"])
def backward(
    loc, scale, edge, points, log_weights, log_probs, upstream, by_loc, by_scale, rows, N, num_nodes,
    loc_row, loc_column, scale_row, scale_column, edge_row, BELOW, ABOVE, GRADING,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, WITH_SCALE: tl.constexpr,
):  # fmt: skip
    row, column, inside, mu, c, span, rate, slope, shift, log_factor = _laws(
        loc, scale, edge, rows, N, loc_row, loc_column, scale_row, scale_column, edge_row,
        BELOW, ABOVE, GRADING, ROWS, BLOCK,
    )  # fmt: skip
    place = row * (N + 1) + column
    normalizer = tl.load(log_probs + place, mask=inside, other=0.0) - log_factor
    of_each = tl.load(upstream + place, mask=inside, other=0.0)
    of_last = tl.load(upstream + row * (N + 1) + N, mask=row < rows, other=0.0)
    in_loc = tl.zeros([ROWS, BLOCK], tl.float32)
    in_scale = tl.zeros([ROWS, BLOCK], tl.float32)
    for q in range(num_nodes):
        stretched = tl.load(points + q) * span
        w = tl.exp(stretched) * slope + shift
        log_cdf, log_hazard = _log_cdf_and_hazard(w)
        common = tl.sum(tl.where(inside, log_cdf, 0.0), axis=1)[:, None]
        exponent = log_hazard + (common + stretched + tl.load(log_weights + q))
        # No share is above one, but for rounding.
        share = of_each * tl.exp(tl.minimum(exponent - normalizer, 0.0))
        # What moves the other P(k): the sum over all less its own.
        others = tl.sum(tl.where(inside, share, 0.0), axis=1)[:, None] - share
        # A density that is zero makes zero of whatever stands beside it.
        z = tl.where(share == 0.0, 0.0, -_SQRT_2 * w)
        hazard = _DENSITY_AT_ZERO * tl.exp(log_hazard)
        in_loc += share * z - others * hazard
        if WITH_SCALE:
            moved = tl.where(hazard == 0.0, 0.0, others * hazard * (-_SQRT_2 * w))
            in_scale += share * z * z - moved
    at_edge = (c - mu) * rate
    _, log_hazard = _log_cdf_and_hazard(at_edge * -_SQRT_HALF)
    edge_hazard = of_last * _DENSITY_AT_ZERO * tl.exp(log_hazard)
    target = row * N + column
    tl.store(by_loc + target, (in_loc - edge_hazard) * rate, mask=inside)
    if WITH_SCALE:
        moved = tl.where(edge_hazard == 0.0, 0.0, edge_hazard * at_edge)
        tl.store(by_scale + target, (in_scale - of_each - moved) * rate, mask=inside)
