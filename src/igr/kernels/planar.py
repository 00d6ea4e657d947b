r"""Planar maps: :math:`f(x) = x + \hat u \tanh(w \cdot x + b)`, their log-determinant and their inverse.

Two numbers say it all: the preactivation :math:`h = w \cdot x + b` of a point, and the slope at the knee
:math:`p = 1 + w \cdot \hat u > 0` of a map, which is how much it stretches along w where h is zero. Then

.. math::
    \log|\det f'(x)| = \log(\tanh^2 h + p \, \mathrm{sech}^2 h), \quad
    w \cdot f(x) + b = h + (p - 1) \tanh h

The second increases with h, and is solved for h to go back. In all functions x, u and w have the shape
:math:`(*, n)`, and b has the shape :math:`(*)`; they broadcast against each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from igr.kernels.stick_breaking import softplus

# The w.u at which p is one: with u = NEUTRAL w / |w|^2 the map is the identity.
NEUTRAL = math.log(math.e - 1.0)
# The |w|^2 below which the constraint divides by this number instead.
FLOOR = 1e-4
_NEWTON_STEPS = 5


def constrained(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    r"""The direction :math:`\hat u` of an invertible map, and its slope at the knee, p.

    .. math::
        \hat u = u + (\mathrm{softplus}(w \cdot u) - 1 - w \cdot u) \frac{w}{|w|^2}, \quad
        p = 1 + w \cdot \hat u = \mathrm{softplus}(w \cdot u)

    As w goes to zero this has no limit: it grows as :math:`0.31 / |w|`. So :math:`|w|^2` is held at ``FLOOR``
    from below where the bracket is negative (:math:`w \cdot u > -0.54`). There p becomes a mean of
    :math:`\mathrm{softplus}(w \cdot u)` and :math:`1 + w \cdot u`, which are both positive. Where the bracket
    is positive, :math:`|w| > 0.54 / |u|`, and nothing has to be held.

    Returns:
        Tensors of the shapes :math:`(*, n)` and :math:`(*)`.
    """
    tiny = torch.finfo(w.dtype).tiny
    inner, norm = torch.linalg.vecdot(w, u), torch.linalg.vecdot(w, w)
    bracket = softplus(-inner) - 1.0  # softplus(x) - x = softplus(-x), without a difference
    away = bracket > 0.0
    divisor = torch.where(away, torch.clamp(norm, min=tiny), torch.clamp(norm, min=FLOOR))
    share = torch.where(away, 1.0, torch.clamp(norm / FLOOR, max=1.0))
    knee = share * softplus(inner) + (1.0 - share) * (1.0 + inner)
    # In float32 the softplus of -88 is not normal any more, and that of -104 is zero.
    return u + (bracket / divisor).unsqueeze(-1) * w, torch.clamp(knee, min=tiny)


def forward(x: Tensor, u: Tensor, w: Tensor, b: Tensor) -> Tensor:
    r""":math:`f(x)`, with shape :math:`(*, n)`."""
    direction, _ = constrained(u, w)
    return x + direction * torch.tanh(_preactivation(x, w, b)).unsqueeze(-1)


def forward_and_log_det(x: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`f(x)` and :math:`\log|\det f'(x)|`, with shapes :math:`(*, n)` and :math:`(*)`."""
    direction, knee = constrained(u, w)
    h = _preactivation(x, w, b)
    tanh = torch.tanh(h)
    return x + direction * tanh.unsqueeze(-1), torch.log(_slope(h, tanh, knee))


def inverse(y: Tensor, u: Tensor, w: Tensor, b: Tensor) -> Tensor:
    r"""The x with :math:`f(x) = y`, with shape :math:`(*, n)`; not finite where y is not."""
    direction, knee = constrained(u, w)
    return y - direction * torch.tanh(solve(_preactivation(y, w, b), knee)).unsqueeze(-1)


def solve(k: Tensor, knee: Tensor) -> Tensor:
    r"""The h with :math:`h + (p - 1) \tanh h = k`, for p > 0.

    The derivatives are right to the third order: from the detached solution two steps of Newton's method are
    taken, the first of which has the first derivative, and the second those to the third. These are plain
    operations, which every tracer and forward mode can follow.
    """
    h = torch.sign(k.detach()) * _root(torch.abs(k.detach()), knee.detach())
    for _ in range(2):
        tanh = torch.tanh(h)
        residual = (h - tanh) + knee * tanh - k
        # Its value is rounding, which the derivatives would multiply by as much as 1 / p^2.
        h = h - (residual - residual.detach()) / _slope(h, tanh, knee)
    return h


def _preactivation(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(w, x) + b


def _slope(h: Tensor, tanh: Tensor, knee: Tensor) -> Tensor:
    r""":math:`\tanh^2 h + p \, \mathrm{sech}^2 h`, the derivative of :math:`h + (p - 1) \tanh h`."""
    # sech^2 as a product that is smooth at zero and does not round to zero with 1 - tanh^2.
    return tanh * tanh + knee * (4.0 * torch.sigmoid(2.0 * h) * torch.sigmoid(-2.0 * h))


def _root(k: Tensor, knee: Tensor) -> Tensor:
    r"""The solution for :math:`k \ge 0`, without derivatives.

    For :math:`h \ge 0` the left side is convex if p < 1 and concave if p > 1, so Newton's method goes to the
    solution from one side, and cannot miss it. From starts that are good in every limit it needs five steps.
    """
    convex = knee < 1.0
    lines = _by_lines(k, knee)
    start = torch.where(convex, torch.minimum(lines, _by_cube(k, knee)), _by_tail(k, knee, lines))
    low, high = torch.where(convex, k, lines), torch.where(convex, start, k)
    h, drop = start, 1.0 - knee
    for _ in range(_NEWTON_STEPS):
        tanh = torch.tanh(h)
        residual = _less_tanh(h, tanh) + (knee * tanh - k)
        h = torch.clamp(h - residual / (knee + drop * (tanh * tanh)), low, high)
    return h


def _by_lines(k: Tensor, knee: Tensor) -> Tensor:
    """A bound of the solution, from above if p < 1, from below if p > 1: tanh h is below h and below 1."""
    first, second = k / knee, k + (1.0 - knee)
    return torch.where(knee < 1.0, torch.minimum(first, second), torch.maximum(first, second))


def _by_cube(k: Tensor, knee: Tensor) -> Tensor:
    r"""A bound from above for p < 1, since :math:`h - \tanh h \ge h^3 / 4.2` up to h = 1; infinite beyond."""
    cube = 4.2 * k / torch.clamp(1.0 - knee, min=torch.finfo(k.dtype).tiny)
    return torch.where(cube <= 1.0, cube ** (1.0 / 3.0), math.inf)


def _by_tail(k: Tensor, knee: Tensor, lines: Tensor) -> Tensor:
    r"""A start for p > 1.

    With c = p - 1 and :math:`1 - \tanh h \approx 2 e^{-2h}` the solution is
    :math:`k - c + \tfrac{1}{2} W(4c \, e^{2(c - k)})`, where W is Lambert's function, here to two percent.
    """
    c = knee - 1.0
    log = softplus(torch.log(4.0 * c) + 2.0 * (c - k))
    lambert = log * (1.0 - torch.log1p(log) / (2.0 + log))
    tail = torch.minimum(torch.maximum(lines, k - c + 0.5 * lambert), k)
    return torch.where(k > 0.7 * c, tail, lines)


def _less_tanh(h: Tensor, tanh: Tensor) -> Tensor:
    r""":math:`h - \tanh h` for :math:`h \ge 0`, also where it is but :math:`h^3 / 3`."""
    square = h * h
    # From the fifth convergent of the continued fraction of tanh: no term is negative.
    ratio = (315.0 + 14.0 * square) / (945.0 + square * (420.0 + 15.0 * square))
    return torch.where(h < 0.1, h * square * ratio, h - tanh)
