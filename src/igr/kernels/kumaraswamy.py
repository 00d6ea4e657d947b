r"""The Kumaraswamy law of a stick's fraction, as a function of a Gumbel variable.

With :math:`u = \exp(-e^{-g})` for a standard Gumbel g, and so uniform, and :math:`w = u^{1/b}`,

.. math:: v = (1 - w)^{1/a}

has the distribution function :math:`1 - (1 - v^a)^b`. Either end underflows long before its logarithm does,
so that everything here is in log space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Terms of the series that are summed one by one; what is left has a closed form that is the better, the
# further out it begins.
_NUM_TERMS = 64
_EULER = 0.57721566490153286061
# Logarithms of w below which log(-log(1 - w)) is log w + w / 2 to the last digit.
_SMALL_W = {torch.float32: -8.0, torch.float64: -17.0}


def log_fractions(a: Tensor, b: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r""":math:`\log v`, :math:`\log (1 - v)` and :math:`\log w`, with the shape that all broadcast to.

    Arguments:
        a: The first concentration, above zero.
        b: The second.
        noise: Standard Gumbel variables.
    """
    info = torch.finfo(noise.dtype)
    log_w = -(torch.exp(-noise) / b).clamp(info.tiny, info.max)
    w = torch.exp(log_w)
    # x = -log v = -log(1 - w) / a, first its logarithm.
    is_small = log_w < _SMALL_W.get(noise.dtype, -8.0)
    away = torch.where(is_small, -1.0, log_w)
    log_x = torch.where(is_small, log_w + 0.5 * w, torch.log(-torch.log(-torch.expm1(away)))) - torch.log(a)
    x = torch.exp(log_x)
    # log(1 - e^-x) = log x + log((1 - e^-x) / x).
    is_zero = x < info.tiny
    safe = torch.where(is_zero, 1.0, x)
    log_rest = log_x + torch.where(is_zero, 0.0, torch.log(-torch.expm1(-safe) / safe))
    # Beyond, one minus v is one, and what stands above is a difference of two large numbers.
    is_far = x > 1.0
    far = torch.log1p(-torch.exp(-torch.where(is_far, x, 1.0)))
    return -x, torch.where(is_far, far, log_rest), log_w


def log_density(a: Tensor, b: Tensor, log_v: Tensor, log_w: Tensor) -> Tensor:
    r"""The log-density of v, :math:`\log ab + (a - 1) \log v + (b - 1) \log w`."""
    return torch.log(a * b) + (a - 1) * log_v + (b - 1) * log_w


def minus_mean_log_rest(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`-E \log (1 - v)`, by its series.

    .. math:: \sum_m \tfrac1m E\, v^m = \sum_{m \geq 1} \tfrac1a B(m / a, b + 1)

    Terms fall like :math:`m^{-b-1}`, so that a sum cut after ten of them, which is usual, lacks half a nat at
    a = 1, b = 1/2. Here what follows the last is its integral, with the expansion of :math:`\Gamma(s) /
    \Gamma(s + c)` in :math:`t = s + (c - 1) / 2` (Fields, 1966): ten digits for a up to one, seven
    at ten, five at twenty.
    """
    dtype = a.dtype
    a, b = a.double(), b.double()
    c = b + 1.0
    log_gamma = torch.lgamma(c)
    s = torch.arange(1, _NUM_TERMS + 1, dtype=a.dtype, device=a.device) / a.unsqueeze(-1)
    logs = torch.lgamma(s) - torch.lgamma(s + c.unsqueeze(-1)) + log_gamma.unsqueeze(-1)
    total = torch.exp(logs).sum(-1) / a
    t = (_NUM_TERMS + 0.5) / a + 0.5 * b
    first = (c - 1.0) * c * (c + 1.0) / 24.0 / (t * t)
    second = c * (c + 1.0) * (c + 2.0) * (c + 3.0) * (c - 1.0) * (5.0 * c - 7.0) / 5760.0 / t**4
    power = torch.exp(log_gamma - b * torch.log(t))
    integral = power * (1.0 / b + first / (b + 2.0) + second / (b + 4.0))
    # Euler and Maclaurin's formula from half a term on: f' / 24 - 7 f''' / 5760 + ..., f being the term.
    step = 1.0 / (t * a)
    slope = -(c + (c + 2.0) * first) * step
    third = -c * (c + 1.0) * (c + 2.0) * step**3
    total = total + integral + power / (t * a) * (slope / 24.0 - 7.0 * third / 5760.0)
    return total.to(dtype)


def kl_from_beta(a: Tensor, b: Tensor, concentration: float) -> Tensor:
    r"""The KL from Kumaraswamy(a, b) to Beta(1, :math:`\alpha`), in nats.

    .. math::
        \frac{a - 1}{a} \Bigl(-\gamma - \psi(b) - \frac1b\Bigr) + \log \frac{ab}{\alpha} - \frac{b - 1}{b}
        - (\alpha - 1)\, E \log (1 - v)

    Arguments:
        a: The first concentration.
        b: The second.
        concentration: :math:`\alpha`; at one the series has no part in it.
    """
    # a E log v: psi(b) + 1 / b is psi(b + 1).
    mean_log_v = -_EULER - torch.digamma(b + 1.0)
    value = (a - 1.0) / a * mean_log_v + torch.log(a * b) - math.log(concentration) - (b - 1.0) / b
    if concentration != 1.0:
        value = value + (concentration - 1.0) * minus_mean_log_rest(a, b)
    return value
