"""One piece of a stick as an operator on functions: its integrals, on the mesh of one law."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from igr.kernels.chebyshev import chebyshev_moments
from igr.kernels.stick_breaking import softplus

# Beyond so many standard deviations lies less than 1e-11 of a normal law, which a hundred pieces may add up.
REACH = 7.0
# Below -20 a logit takes nothing from the stick (2e-9 of it), and 20 above an interval it takes all.
FLAT = 20.0


class Piece:
    """The integrals of one piece against the Chebyshev polynomials on the interval of the function before it.

    Arguments:
        mu: Its mean, [*, 1].
        sigma: Its scale, [*, 1].
        low: The lower end of that interval, [*, 1].
        high: The upper end.
        count: The number of polynomials.
        slopes: Whether the slopes of all integrals in the mean come with them, in a first dimension of two.
    """

    def __init__(
        self, mu: Tensor, sigma: Tensor, low: Tensor, high: Tensor, count: int, slopes: bool
    ) -> None:
        self.mu, self.sigma, self.count, self.slopes = mu, sigma, count, slopes
        self.middle = 0.5 * (low + high)
        self.half = (0.5 * (high - low)).clamp_min(1e-3)
        self.bottom = mu.detach() - REACH * sigma.detach()
        self.top = mu.detach() + REACH * sigma.detach()

    def stays(self, x: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
        """:math:`(S T_m)(x)` for x [*, N]: shape [*, N, count]."""
        first = torch.minimum(self.bottom.clamp_min(-FLAT), x)
        length = torch.maximum(torch.minimum(x, self.top), first) - first
        y = first.unsqueeze(-1) + length.unsqueeze(-1) * nodes
        mass = self._density(y) * (length.unsqueeze(-1) * weights)
        # What lies below the first node leaves the stick as it is.
        below = self._below(first)
        x = x.unsqueeze(-1)
        return self._moments(x - softplus(y), mass) + self._moments(x, below.unsqueeze(-1))

    def leads_above(self, x: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
        """:math:`(C T_m)(x)` for x [*, 1]: shape [*, 1, count]."""
        first = torch.maximum(x, self.bottom)
        last = torch.maximum(torch.minimum(self.top, x.clamp_min(0.0) + FLAT), first)
        y = first + (last - first) * nodes
        mass = self._density(y) * ((last - first) * weights)
        # What lies above the last node takes all that is left.
        above = self._above(last)
        y, mass = torch.cat([y, last], -1), torch.cat([mass, above], -1)
        return self._moments(-softplus(-y).unsqueeze(-2), mass.unsqueeze(-2))

    def leads_at(self, x: Tensor) -> Tensor:
        """Minus the slope of :math:`C T_m` at x [*, N]: shape [*, N, count]."""
        return self._moments(-softplus(-x).unsqueeze(-1), self._density(x).unsqueeze(-1))

    def _density(self, y: Tensor) -> Tensor:
        mu, sigma = (t if y.dim() == t.dim() else t.unsqueeze(-1) for t in (self.mu, self.sigma))
        z = (y - mu) / sigma
        density = torch.exp(-0.5 * z * z) / (sigma * math.sqrt(2.0 * math.pi))
        return torch.stack([density, density * z / sigma]) if self.slopes else density

    def _below(self, y: Tensor) -> Tensor:
        """The mass below y."""
        mass = torch.special.ndtr((y - self.mu) / self.sigma)
        return torch.stack([mass, -self._density(y)[0]]) if self.slopes else mass

    def _above(self, y: Tensor) -> Tensor:
        """The mass above y."""
        mass = torch.special.ndtr((self.mu - y) / self.sigma)
        return torch.stack([mass, self._density(y)[0]]) if self.slopes else mass

    def _moments(self, x: Tensor, weights: Tensor) -> Tensor:
        middle, half = self.middle.unsqueeze(-1), self.half.unsqueeze(-1)
        return chebyshev_moments((x - middle) / half, weights, self.count)
