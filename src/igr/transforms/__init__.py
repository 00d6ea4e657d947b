"""Torch transforms: onto the simplex, and bijections before it."""

from igr.transforms.planar import PlanarFlow, PlanarTransform
from igr.transforms.softmax_plus_plus import SoftmaxPlusPlusTransform
from igr.transforms.stick_breaking import LogisticStickBreakingTransform

__all__ = ["LogisticStickBreakingTransform", "PlanarFlow", "PlanarTransform", "SoftmaxPlusPlusTransform"]
