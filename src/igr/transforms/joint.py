"""Transforms whose value and log-determinant come of one pass."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Transform


class JointTransform(Transform):
    """A torch Transform that also gives its value together with its log-determinant."""

    def call_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mapped points and the log-determinants, for little more than the price of the points.

        Shapes:
            x and the points :math:`(*, K - 1)`, the log-determinants :math:`(*)`, in nats.
        """
        raise NotImplementedError
