"""What the map before softmax++ has to be, and the way through it and back, with the log-determinant."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import ComposeTransform, Transform, constraints
from torch.distributions.transforms import IndependentTransform

from igr import validation
from igr.kernels.tracing import is_traced
from igr.transforms import LogisticStickBreakingTransform
from igr.transforms.joint import JointTransform


def check_droppable(owner: str, mask: Tensor, transform: Transform | None, checked: bool) -> None:
    """ValueError, with the reason, unless the masked coordinates can be left out of the law."""
    if transform is not None:
        raise ValueError(
            f"{owner}: expected no transform beside a mask, since it mixes the coordinates and none can be "
            f"dropped; got {type(transform).__name__}; leave out one of the two."
        )
    if not checked:
        return
    validation.check_available(owner, mask)
    if not is_traced() and bool(mask[..., -1].any()):
        raise ValueError(
            f"{owner}: expected a mask of categories 1 to {mask.shape[-1] - 1} only, since the last carries "
            "the reference that all others are measured against; got a mask that forbids it; give its place "
            "to a category that is always available."
        )


def same_transform(a: Transform | None, b: Transform | None) -> bool:
    """One object, or two that are equal and have no parameters, which a comparison would wait for."""
    return a is b or (isinstance(a, LogisticStickBreakingTransform) and a == b)


def on_vectors(transform: Transform, size: int, owner: str = "InvertibleGaussian") -> Transform:
    """The transform as a map of vectors, or ValueError if it is not a bijection of R^(K-1)."""
    name = type(transform).__name__
    if not isinstance(transform, Transform):
        raise TypeError(f"{owner}: expected transform to be a torch Transform or None; got {name}.")
    if not transform.bijective:
        raise ValueError(f"{owner}: expected a bijective transform; got {name}, which is not.")
    if not _is_all(transform.domain):
        raise ValueError(
            f"{owner}: expected a transform that is defined for all real numbers; got {name}, "
            f"whose domain is {transform.domain}."
        )
    if transform.domain.event_dim == 0 and transform.codomain.event_dim == 0:
        return IndependentTransform(transform, 1)
    dims = transform.domain.event_dim, transform.codomain.event_dim
    if dims != (1, 1) or transform.forward_shape((size,)) != (size,):
        raise ValueError(
            f"{owner}: expected a transform that maps vectors of {size} numbers to vectors of "
            f"{size} numbers; got {name}, with event dimensions {dims}."
        )
    return transform


def maps_onto_all(transform: Transform) -> bool:
    """Whether every vector has a pre-image, as far as the transform says."""
    return all(_is_all(part.codomain) for part in _parts(transform))


def space_of(transform: Transform | None) -> str | None:
    """The space of a broken stick, ``"length"`` or ``"log"``; ``None`` for any other map."""
    return transform.space if isinstance(transform, LogisticStickBreakingTransform) else None


def call_and_log_det(transform: Transform, y: Tensor) -> tuple[Tensor, Tensor]:
    """T(y) [*, n] and the log-determinant of T there [*], in one pass where the transform has one."""
    if isinstance(transform, JointTransform):
        return transform.call_and_log_det(y)
    t = transform(y)
    return t, transform.log_abs_det_jacobian(y, t)


def inverse_and_log_det(transform: Transform, t: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The pre-image of t [*, n], the log-determinant of T there [*], and whether there is one [*].

    The last is ``None`` for a map onto all vectors. Where there is no pre-image that of another vector stands
    in, so that a gradient is a number.
    """
    inside = None
    if not maps_onto_all(transform):
        inside = _has_pre_image(transform, t.detach())
        t = torch.where(inside.unsqueeze(-1), t, _with_pre_image(transform, t.detach()))
    y = transform.inv(t)
    return y, transform.log_abs_det_jacobian(y, t), inside


def _has_pre_image(transform: Transform, t: Tensor) -> Tensor:
    """Whether each vector t [*, n] has a pre-image that is finite, with shape [*]."""
    inside = torch.ones_like(t[..., 0], dtype=torch.bool)
    for part in reversed(_parts(transform)):
        found = part.codomain.check(t)
        inside = inside & (found.all(-1) if part.codomain.event_dim == 0 else found)
        t = part.inv(t)
        inside = inside & torch.isfinite(t).all(-1)
    return inside


def _with_pre_image(transform: Transform, like: Tensor) -> Tensor:
    """A vector of the shape of another one that has a pre-image, to stand in for one that has none."""
    y = torch.zeros_like(like)
    if any(isinstance(part, LogisticStickBreakingTransform) for part in _parts(transform)):
        # Pieces of one length: halves of what is left soon leave nothing.
        pieces_left = torch.arange(like.shape[-1], 0, -1, dtype=like.dtype, device=like.device)
        y = y - torch.log(pieces_left)
    return transform(y)


def _parts(transform: Transform) -> list[Transform]:
    """The transforms that one is composed of, in the order of their use."""
    if isinstance(transform, IndependentTransform):
        return _parts(transform.base_transform)
    if isinstance(transform, ComposeTransform):
        return [part for one in transform.parts for part in _parts(one)]
    return [transform]


def _is_all(constraint: constraints.Constraint) -> bool:
    """Whether a constraint is that of all real numbers or vectors."""
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    return isinstance(constraint, type(constraints.real))


def name_of(transform: Transform | None) -> str:
    """How messages name a transform: by its class, and the space of a broken stick."""
    if isinstance(transform, LogisticStickBreakingTransform):
        return repr(transform)
    if isinstance(transform, IndependentTransform):
        return name_of(transform.base_transform)
    # A map of ours that stands for another one has its name.
    return "none" if transform is None else getattr(transform, "_owner", type(transform).__name__)
