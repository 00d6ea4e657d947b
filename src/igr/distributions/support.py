"""The simplex as the support of the relaxations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import (
    SoftmaxTransform,
    StickBreakingTransform,
    Transform,
    biject_to,
    constraints,
    transform_to,
)


class Simplex(type(constraints.simplex)):  # type: ignore[misc]
    """Torch's simplex with the tolerance that the dtype and the number of categories call for.

    Torch's own, 1e-6 for every dtype, refuses correct float32 points with a thousand categories.
    """

    def check(self, value: Tensor) -> Tensor:
        tolerance = max(1e-6, 4.0 * torch.finfo(value.dtype).eps * value.shape[-1] ** 0.5)
        return torch.all(value >= 0, dim=-1) & ((value.sum(-1) - 1).abs() < tolerance)


@biject_to.register(Simplex)
def _bijection(constraint: Simplex) -> Transform:
    return StickBreakingTransform()


@transform_to.register(Simplex)
def _parametrization(constraint: Simplex) -> Transform:
    return SoftmaxTransform()
