"""softmax++ as a torch transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Transform, constraints

from igr import reprs
from igr.kernels import simplex
from igr.kernels.numbers import column, log_number, same_number
from igr.validation import check_temperature, check_values


class SoftmaxPlusPlusTransform(Transform):
    r"""softmax++: a bijection from :math:`R^{K-1}` to the interior of the simplex with K categories.

    .. math::
        z_k = \frac{e^{t_k / \tau}}{\sum_{j<K} e^{t_j / \tau} + \delta} \; (k < K), \quad
        z_K = \frac{\delta}{\sum_{j<K} e^{t_j / \tau} + \delta}

    The log-determinant, :math:`\sum_{k \le K} \log z_k - (K - 1) \log\tau`, is with respect to Lebesgue
    measure on the first K - 1 coordinates. Small entries underflow at low temperature;
    :class:`igr.InvertibleGaussian` works in log space instead and loses nothing.

    Arguments:
        temperature: :math:`\tau > 0`, a float or a tensor that broadcasts against the batch.
        delta: :math:`\delta > 0`, a float or a tensor that broadcasts against the batch.
        cache_size: As for every torch Transform.

    Shapes:
        Domain :math:`(*, K - 1)`, codomain :math:`(*, K)`.

    Raises:
        ValueError: unless temperature and delta are positive and finite.

    References:
        Invertible Gaussian Reparameterization (Potapczynski et al., 2020), section 3.1

    Example:
        >>> transform = SoftmaxPlusPlusTransform(temperature=0.5)
        >>> z = transform(torch.tensor([0.0, 1.0]))
        >>> z
        tensor([0.1065, 0.7870, 0.1065])
        >>> transform.inv(z)
        tensor([0., 1.])
    """

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    def __init__(
        self,
        temperature: float | Tensor = 1.0,
        delta: float | Tensor = 1.0,
        cache_size: int = 0,
    ) -> None:
        dtype = temperature.dtype if isinstance(temperature, Tensor) else torch.float32
        check_temperature(type(self).__name__, "temperature", temperature, dtype)
        check_values(type(self).__name__, "delta", delta, positive=True)
        super().__init__(cache_size=cache_size)
        self.temperature = temperature
        self.delta = delta

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SoftmaxPlusPlusTransform):
            return False
        same_temperature = same_number(self.temperature, other.temperature)
        return same_temperature and same_number(self.delta, other.delta)

    def __hash__(self) -> int:
        numbers = (self.temperature, self.delta)
        return hash(tuple(id(n) if isinstance(n, Tensor) else n for n in numbers))

    def __repr__(self) -> str:
        settings = [reprs.setting("temperature", self.temperature), reprs.setting("delta", self.delta)]
        return reprs.call(type(self).__name__, settings)

    def with_cache(self, cache_size: int = 1) -> SoftmaxPlusPlusTransform:
        """The same transform, with or without the cache of its last point that torch's transforms have."""
        if self._cache_size == cache_size:
            return self
        return SoftmaxPlusPlusTransform(self.temperature, self.delta, cache_size=cache_size)

    def forward_shape(self, shape: Any) -> Size:
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Size:
        """The shape :math:`(*, K - 1)` for one of points, :math:`(*, K)`.

        Raises:
            ValueError: for fewer than two categories.
        """
        if shape[-1] < 2:
            raise ValueError(f"SoftmaxPlusPlusTransform: expected at least 2 categories; got {shape[-1]}.")
        return Size((*shape[:-1], shape[-1] - 1))

    def _log_softmax(self, t: Tensor) -> Tensor:
        log_delta = log_number(self.delta, t.dtype)
        return simplex.log_softmax_plus_plus(t / column(self.temperature, t.dtype), log_delta)

    def _call(self, x: Tensor) -> Tensor:
        return torch.exp(self._log_softmax(x))

    def _inverse(self, y: Tensor) -> Tensor:
        x = simplex.inverse_log_softmax_plus_plus(simplex.log_of_clamped(y), log_number(self.delta, y.dtype))
        return x * column(self.temperature, y.dtype)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The log-determinant from x alone, which has lost nothing where y has underflowed.

        Arguments:
            x: Points, with shape :math:`(*, K - 1)`.
            y: Their images, with shape :math:`(*, K)`, which nothing is read of.

        Returns:
            Tensor with shape :math:`(*)`, in nats.
        """
        return self._log_softmax(x).sum(-1) - x.shape[-1] * log_number(self.temperature, x.dtype)
