"""The Triton kernels of :mod:`igr.kernels.fused`, which imports this module when it runs one.

A program takes a few whole rows. The N numbers of a row lie in four *planes* of Q = ceil(N / 4) columns, the
p-th from column p Q on: one call of Philox gives four words, one for each plane, so no word is thrown away
and every plane is read and written without gaps. The counter is (column in the plane, row, 0) and the key is
the seed, so noise depends on nothing else, and the backward pass forms it again instead of reading it.

Triton takes no lists into loops, hence four names for four planes.
"""

import triton
import triton.language as tl

# Triton reads a global only as a constexpr.
GUMBEL = tl.constexpr(0)
GAUSSIAN = tl.constexpr(1)
LENGTHS = tl.constexpr(2)
LOG_RATIOS = tl.constexpr(3)


# Noise.


@triton.jit
def _log1p(x):
    """log(1 + x) for x in [-1/2, 1], to the last digits: what 1 + x rounds away is in the quotient."""
    y = 1.0 + x
    d = y - 1.0
    return tl.where(d == 0.0, x, tl.log(y) * (x / tl.where(d == 0.0, 1.0, d)))


@triton.jit
def _exponential(word):
    """-log u for u = (word + 1/2) / 2^32, from 2^-33 to 22.9: each tail by the side on which it is exact."""
    u = (word.to(tl.float32) + 0.5) * 2.3283064365386963e-10
    v = ((word ^ 0xFFFFFFFF).to(tl.float32) + 0.5) * 2.3283064365386963e-10
    low = word < 0x80000000
    return tl.where(low, -tl.log(u), -_log1p(-tl.where(low, 0.0, v)))


@triton.jit
def _gumbel(word):
    return -tl.log(_exponential(word))


@triton.jit
def _normals(a, b):
    """Two standard normal variables of two words, by Box and Muller, up to 6.76."""
    radius = tl.sqrt(2.0 * _exponential(a))
    # Two bits are the quadrant, the others an angle of -pi/4 to pi/4, where short polynomials do.
    x = (((b & 0x3FFFFFFF).to(tl.int32) - 0x20000000).to(tl.float32) + 0.5) * 1.4629180792671596e-09
    z = x * x
    sine = x + x * z * ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1)
    cosine = (
        1.0 - 0.5 * z + z * z * ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2)
    )
    turned = (b & 0x40000000) != 0
    sign = tl.where((b & 0x80000000) != 0, -radius, radius)
    return sign * tl.where(turned, -sine, cosine), sign * tl.where(turned, cosine, sine)


@triton.jit
def _noise(seed, row, i, zero, NORMAL: tl.constexpr):
    """The four planes for rows [R, 1] and columns [1, B]; zero is a tile [R, B] of uint32."""
    low = row.to(tl.uint32) + zero
    high = (row >> 32).to(tl.uint32) + zero
    a, b, c, d = tl.philox(seed, i.to(tl.uint32) + zero, low, high, zero)
    if NORMAL:
        a, b = _normals(a, b)
        c, d = _normals(c, d)
        return a, b, c, d
    else:
        return _gumbel(a), _gumbel(b), _gumbel(c), _gumbel(d)


# Four planes at once.


@triton.jit
def _masks(i, N, Q):
    """Which columns of each plane there are: every number belongs to one plane."""
    inside = i < Q
    return inside & (i < N), inside & (i + Q < N), inside & (i + 2 * Q < N), inside & (i + 3 * Q < N)


@triton.jit
def _load(start, stride, i, Q, m0, m1, m2, m3, other):
    a = tl.load(start + i * stride, mask=m0, other=other).to(tl.float32)
    b = tl.load(start + (i + Q) * stride, mask=m1, other=other).to(tl.float32)
    c = tl.load(start + (i + 2 * Q) * stride, mask=m2, other=other).to(tl.float32)
    d = tl.load(start + (i + 3 * Q) * stride, mask=m3, other=other).to(tl.float32)
    return a, b, c, d


@triton.jit
def _store(start, i, Q, m0, m1, m2, m3, a, b, c, d):
    tl.store(start + i, a, mask=m0)
    tl.store(start + i + Q, b, mask=m1)
    tl.store(start + i + 2 * Q, c, mask=m2)
    tl.store(start + i + 3 * Q, d, mask=m3)


@triton.jit
def _where(m0, m1, m2, m3, a, b, c, d, other):
    return tl.where(m0, a, other), tl.where(m1, b, other), tl.where(m2, c, other), tl.where(m3, d, other)


@triton.jit
def _sum(a, b, c, d):
    """Over the columns, [R, 1]; what is outside of a mask is zero."""
    return tl.sum((a + b) + (c + d), axis=1)[:, None]


@triton.jit
def _sums_up_to(a, b, c, d):
    """Of each column and those before it."""
    ends_a = tl.sum(a, axis=1)[:, None]
    ends_b = ends_a + tl.sum(b, axis=1)[:, None]
    ends_c = ends_b + tl.sum(c, axis=1)[:, None]
    return (
        tl.cumsum(a, axis=1),
        tl.cumsum(b, axis=1) + ends_a,
        tl.cumsum(c, axis=1) + ends_b,
        tl.cumsum(d, axis=1) + ends_c,
    )


@triton.jit
def _sums_from(a, b, c, d):
    """Of each column and those after it; a difference to the total would cancel."""
    from_d = tl.sum(d, axis=1)[:, None]
    from_c = from_d + tl.sum(c, axis=1)[:, None]
    from_b = from_c + tl.sum(b, axis=1)[:, None]
    return (
        tl.cumsum(a, axis=1, reverse=True) + from_b,
        tl.cumsum(b, axis=1, reverse=True) + from_c,
        tl.cumsum(c, axis=1, reverse=True) + from_d,
        tl.cumsum(d, axis=1, reverse=True),
    )


# The laws.


@triton.jit
def _softplus(y):
    return tl.maximum(y, 0.0) + _log1p(tl.exp(-tl.abs(y)))


@triton.jit
def _sigmoid(y):
    e = tl.exp(-tl.abs(y))
    return tl.where(y >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def _sticks(m0, m1, m2, m3, a, b, c, d, LAW: tl.constexpr):
    """Of the pre-image: log lengths, log ratios, or for other laws itself."""
    if LAW == LENGTHS or LAW == LOG_RATIOS:  # noqa: SIM109 (no Triton compares with a tuple)
        sa, sb, sc, sd = _softplus(a), _softplus(b), _softplus(c), _softplus(d)
        sa, sb, sc, sd = _where(m0, m1, m2, m3, sa, sb, sc, sd, 0.0)
        if LAW == LENGTHS:
            ca, cb, cc, cd = _sums_up_to(sa, sb, sc, sd)
            a, b, c, d = a - ca, b - cb, c - cc, d - cd
        else:
            # The sum from a column on counts its own softplus too.
            ca, cb, cc, cd = _sums_from(sa, sb, sc, sd)
            a, b, c, d = (a - sa) + ca, (b - sb) + cb, (c - sc) + cc, (d - sd) + cd
    return a, b, c, d


@triton.jit
def _to_pre_image(m0, m1, m2, m3, ya, yb, yc, yd, a, b, c, d, direct, LAW: tl.constexpr):
    """The gradient by the pre-image y from that by what :func:`_sticks` gives; ``direct`` is of softplus."""
    if LAW == LENGTHS or LAW == LOG_RATIOS:  # noqa: SIM109 (no Triton compares with a tuple)
        if LAW == LENGTHS:
            ca, cb, cc, cd = _sums_from(a, b, c, d)
            ca, cb, cc, cd = direct - ca, direct - cb, direct - cc, direct - cd
        else:
            ca, cb, cc, cd = _sums_up_to(a, b, c, d)
            ca, cb, cc, cd = ca - a, cb - b, cc - c, cd - d
        a += _sigmoid(ya) * ca
        b += _sigmoid(yb) * cb
        c += _sigmoid(yc) * cc
        d += _sigmoid(yd) * cd
    return _where(m0, m1, m2, m3, a, b, c, d, 0.0)


@triton.jit
def _softmax(m0, m1, m2, m3, a, b, c, d, tau, log_delta, LAW: tl.constexpr):
    """Exponents a to d, over tau and less the largest; what the reference has then; and the sum of all.

    Outside of a mask an exponent is minus infinity.
    """
    a, b, c, d = _where(m0, m1, m2, m3, a / tau, b / tau, c / tau, d / tau, float("-inf"))
    most = tl.max(tl.maximum(tl.maximum(a, b), tl.maximum(c, d)), axis=1)[:, None]
    if LAW != GUMBEL:
        most = tl.maximum(most, log_delta)
    a, b, c, d = a - most, b - most, c - most, d - most
    total = _sum(tl.exp(a), tl.exp(b), tl.exp(c), tl.exp(d))
    last = most
    if LAW != GUMBEL:
        last = log_delta - most
        total += tl.exp(last)
    return a, b, c, d, last, total


@triton.jit
def _normal_term(noise, scale):
    return -0.5 * noise * noise - tl.log(scale) - 0.9189385332046727


@triton.jit
def _divergence(mean, scale, prior_mean, prior_scale):
    """Of one normal law from another."""
    ratio = scale / prior_scale
    shift = (mean - prior_mean) / prior_scale
    return 0.5 * (shift * shift + (ratio - 1.0) * (ratio + 1.0)) - tl.log(ratio)


# The kernels. Strides and sizes are no reason to compile again, hence do_not_specialize.


@triton.jit(do_not_specialize=["rows", "N", "Q"])
def fill(out, seed, rows, N, Q, NORMAL: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The noise [rows, N] that the others use."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i = tl.arange(0, BLOCK)[None, :]
    m0, m1, m2, m3 = _masks(i, N, Q)
    live = row < rows
    a, b, c, d = _noise(tl.load(seed), row, i, tl.zeros([ROWS, BLOCK], tl.uint32), NORMAL)
    _store(out + row * N, i, Q, m0 & live, m1 & live, m2 & live, m3 & live, a, b, c, d)


@triton.jit(do_not_specialize=["rows", "P", "N", "Q", "tau_stride", "delta_stride"])
def forward(
    points,
    density,
    divergence,
    loc,
    scale,
    prior_loc,
    prior_scale,
    seed,
    tau,
    log_delta,
    rows,
    P,
    N,
    Q,
    loc_row,
    loc_column,
    scale_row,
    scale_column,
    prior_row,
    tau_stride,
    delta_stride,
    log_gamma,
    LAW: tl.constexpr,
    TAU_OF_ROWS: tl.constexpr,
    DELTA_OF_ROWS: tl.constexpr,
    SCALE_OF_ROWS: tl.constexpr,
    WITH_DENSITY: tl.constexpr,
    WITH_DIVERGENCE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Points [rows, K] of parameters [P, N]: row r has those of r mod P, so rows are samples times P."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    live = row < rows
    p = row % P
    i = tl.arange(0, BLOCK)[None, :]
    m0, m1, m2, m3 = _masks(i, N, Q)
    l0, l1, l2, l3 = m0 & live, m1 & live, m2 & live, m3 & live
    if TAU_OF_ROWS:
        tau = tl.load(tau + p * tau_stride, mask=live, other=1.0)
    if DELTA_OF_ROWS:
        log_delta = tl.load(log_delta + p * delta_stride, mask=live, other=0.0)

    ya, yb, yc, yd = _load(loc + p * loc_row, loc_column, i, Q, l0, l1, l2, l3, 0.0)
    zero = tl.zeros([ROWS, BLOCK], tl.uint32)
    ea, eb, ec, ed = _noise(tl.load(seed), row, i, zero, LAW != GUMBEL)
    if SCALE_OF_ROWS:
        sa, sb, sc, sd = _load(scale + p * scale_row, scale_column, i, Q, l0, l1, l2, l3, 1.0)
    else:
        sa, sb, sc, sd = scale, scale, scale, scale
    if WITH_DIVERGENCE:
        # Of the parameters alone: the first sample's programs have them all.
        qa, qb, qc, qd = _load(prior_loc + p * prior_row, 1, i, Q, l0, l1, l2, l3, 0.0)
        ra, rb, rc, rd = _load(prior_scale + p * prior_row, 1, i, Q, l0, l1, l2, l3, 1.0)
        qa, qb = _divergence(ya, sa, qa, ra), _divergence(yb, sb, qb, rb)
        qc, qd = _divergence(yc, sc, qc, rc), _divergence(yd, sd, qd, rd)
        qa, qb, qc, qd = _where(m0, m1, m2, m3, qa, qb, qc, qd, 0.0)
        tl.store(divergence + row, _sum(qa, qb, qc, qd), mask=row < P)
    ya, yb, yc, yd = ya + sa * ea, yb + sb * eb, yc + sc * ec, yd + sd * ed
    ta, tb, tc, td = _sticks(m0, m1, m2, m3, ya, yb, yc, yd, LAW)
    ra, rb, rc, rd = ta, tb, tc, td
    if LAW == LENGTHS:
        ta, tb, tc, td = tl.exp(ta), tl.exp(tb), tl.exp(tc), tl.exp(td)
    ta, tb, tc, td, last, total = _softmax(m0, m1, m2, m3, ta, tb, tc, td, tau, log_delta, LAW)

    K = N if LAW == GUMBEL else N + 1
    out = points + row * K
    za, zb, zc, zd = tl.exp(ta) / total, tl.exp(tb) / total, tl.exp(tc) / total, tl.exp(td) / total
    _store(out, i, Q, l0, l1, l2, l3, za, zb, zc, zd)
    if LAW != GUMBEL:
        tl.store(out + N, tl.exp(last) / total, mask=live)
    if WITH_DENSITY:
        log_total = tl.log(total)
        if LAW == GUMBEL:
            xa, xb, xc, xd = _where(m0, m1, m2, m3, tl.exp(-ea), tl.exp(-eb), tl.exp(-ec), tl.exp(-ed), 0.0)
            # Minus the noise is the scores less tau log z, but for a constant, which their softmax forgets.
            lse = tl.log(_sum(xa, xb, xc, xd))
            xa, xb, xc, xd = -ea - lse, -eb - lse, -ec - lse, -ed - lse
        else:
            xa, xb, xc, xd = (
                _normal_term(ea, sa),
                _normal_term(eb, sb),
                _normal_term(ec, sc),
                _normal_term(ed, sd),
            )
        if LAW == LENGTHS:
            xa, xb = xa - (ra - _softplus(ya)), xb - (rb - _softplus(yb))
            xc, xd = xc - (rc - _softplus(yc)), xd - (rd - _softplus(yd))
        xa, xb = xa - (ta - log_total), xb - (tb - log_total)
        xc, xd = xc - (tc - log_total), xd - (td - log_total)
        xa, xb, xc, xd = _where(m0, m1, m2, m3, xa, xb, xc, xd, 0.0)
        value = _sum(xa, xb, xc, xd) + (K - 1) * tl.log(tau) + log_gamma
        if LAW != GUMBEL:
            value -= last - log_total
        tl.store(density + row, value, mask=live)


@triton.jit(do_not_specialize=["S", "P", "N", "Q", "per_chunk", "tau_stride", "delta_stride"])
def backward(
    by_loc,
    by_scale,
    of_points,
    of_density,
    of_divergence,
    loc,
    scale,
    prior_loc,
    prior_scale,
    seed,
    tau,
    log_delta,
    S,
    P,
    N,
    Q,
    per_chunk,
    loc_row,
    loc_column,
    scale_row,
    scale_column,
    prior_row,
    tau_stride,
    delta_stride,
    LAW: tl.constexpr,
    TAU_OF_ROWS: tl.constexpr,
    DELTA_OF_ROWS: tl.constexpr,
    SCALE_OF_ROWS: tl.constexpr,
    BY_SCALE: tl.constexpr,
    OF_POINTS: tl.constexpr,
    OF_DENSITY: tl.constexpr,
    OF_DIVERGENCE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients [chunks, P, N]: a program sums over the samples of its chunk, in order."""
    p = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    chunk = tl.program_id(1)
    live = p < P
    i = tl.arange(0, BLOCK)[None, :]
    m0, m1, m2, m3 = _masks(i, N, Q)
    l0, l1, l2, l3 = m0 & live, m1 & live, m2 & live, m3 & live
    if TAU_OF_ROWS:
        tau = tl.load(tau + p * tau_stride, mask=live, other=1.0)
    if DELTA_OF_ROWS:
        log_delta = tl.load(log_delta + p * delta_stride, mask=live, other=0.0)
    la, lb, lc, ld = _load(loc + p * loc_row, loc_column, i, Q, l0, l1, l2, l3, 0.0)
    if SCALE_OF_ROWS:
        sa, sb, sc, sd = _load(scale + p * scale_row, scale_column, i, Q, l0, l1, l2, l3, 1.0)
    else:
        sa, sb, sc, sd = scale, scale, scale, scale
    K = N if LAW == GUMBEL else N + 1
    key = tl.load(seed)
    zero = tl.zeros([ROWS, BLOCK], tl.uint32)
    nothing = tl.zeros([ROWS, BLOCK], tl.float32)
    ga, gb, gc, gd = nothing, nothing, nothing, nothing
    ha, hb, hc, hd = nothing, nothing, nothing, nothing
    weight = tl.zeros([ROWS, 1], tl.float32)
    begin = chunk * per_chunk
    end = tl.minimum(begin + per_chunk, S)
    for s in range(begin, end):
        row = p + P * tl.full([1, 1], 1, tl.int64) * s
        ea, eb, ec, ed = _noise(key, row, i, zero, LAW != GUMBEL)
        ya, yb, yc, yd = la + sa * ea, lb + sb * eb, lc + sc * ec, ld + sd * ed
        ta, tb, tc, td = _sticks(m0, m1, m2, m3, ya, yb, yc, yd, LAW)
        if LAW == LENGTHS:
            ta, tb, tc, td = tl.exp(ta), tl.exp(tb), tl.exp(tc), tl.exp(td)
        xa, xb, xc, xd, last, total = _softmax(m0, m1, m2, m3, ta, tb, tc, td, tau, log_delta, LAW)
        za, zb, zc, zd = tl.exp(xa) / total, tl.exp(xb) / total, tl.exp(xc) / total, tl.exp(xd) / total
        da, db, dc, dd = nothing, nothing, nothing, nothing
        if OF_POINTS:
            start = of_points + row * K
            da, db, dc, dd = _load(start, 1, i, Q, l0, l1, l2, l3, 0.0)
            mean = _sum(da * za, db * zb, dc * zc, dd * zd)
            if LAW != GUMBEL:
                mean += tl.load(start + N, mask=live, other=0.0).to(tl.float32) * (tl.exp(last) / total)
            da, db, dc, dd = za * (da - mean), zb * (db - mean), zc * (dc - mean), zd * (dd - mean)
        if OF_DENSITY:
            h = tl.load(of_density + row, mask=live, other=0.0)
            weight += h
            da, db, dc, dd = _where(
                m0,
                m1,
                m2,
                m3,
                da + h * (K * za - 1.0),
                db + h * (K * zb - 1.0),
                dc + h * (K * zc - 1.0),
                dd + h * (K * zd - 1.0),
                0.0,
            )
        da, db, dc, dd = da / tau, db / tau, dc / tau, dd / tau
        direct = 0.0
        if LAW == LENGTHS:
            da, db, dc, dd = da * ta, db * tb, dc * tc, dd * td
            if OF_DENSITY:
                # The determinant: each log length takes one, and each softplus gives one back.
                direct = h
                da, db, dc, dd = _where(m0, m1, m2, m3, da - h, db - h, dc - h, dd - h, 0.0)
        da, db, dc, dd = _to_pre_image(m0, m1, m2, m3, ya, yb, yc, yd, da, db, dc, dd, direct, LAW)
        ga, gb, gc, gd = ga + da, gb + db, gc + dc, gd + dd
        if BY_SCALE:
            ha, hb, hc, hd = ha + da * ea, hb + db * eb, hc + dc * ec, hd + dd * ed
    if BY_SCALE and OF_DENSITY:
        ha, hb, hc, hd = ha - weight / sa, hb - weight / sb, hc - weight / sc, hd - weight / sd
    if OF_DIVERGENCE:
        h = tl.where(chunk == 0, tl.load(of_divergence + p, mask=live, other=0.0), 0.0)
        qa, qb, qc, qd = _load(prior_loc + p * prior_row, 1, i, Q, l0, l1, l2, l3, 0.0)
        ra, rb, rc, rd = _load(prior_scale + p * prior_row, 1, i, Q, l0, l1, l2, l3, 1.0)
        ga, gb = ga + h * (la - qa) / (ra * ra), gb + h * (lb - qb) / (rb * rb)
        gc, gd = gc + h * (lc - qc) / (rc * rc), gd + h * (ld - qd) / (rd * rd)
        if BY_SCALE:
            ha, hb = ha + h / ra * (sa / ra - ra / sa), hb + h / rb * (sb / rb - rb / sb)
            hc, hd = hc + h / rc * (sc / rc - rc / sc), hd + h / rd * (sd / rd - rd / sd)
    start = (chunk.to(tl.int64) * P + p) * N
    _store(by_loc + start, i, Q, l0, l1, l2, l3, ga, gb, gc, gd)
    if BY_SCALE:
        _store(by_scale + start, i, Q, l0, l1, l2, l3, ha, hb, hc, hd)
