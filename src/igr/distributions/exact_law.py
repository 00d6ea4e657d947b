"""The exact discrete law of an IGR, whatever map stands before softmax++, and the IGR-I of a given law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical, Transform

from igr import validation
from igr.distributions.discrete import check_categories, dtype_of, exact_logits
from igr.distributions.pre_image import maps_onto_all, space_of
from igr.distributions.threshold import check_reference_loses, threshold_of
from igr.kernels import gaussian_law_fused
from igr.kernels.gaussian_law import maximum_kl, maximum_log_probs
from igr.kernels.gaussian_law_inverse import loc_for_probs, uniform_loc
from igr.kernels.normal import log_ndtr
from igr.kernels.numbers import column
from igr.kernels.stick_breaking_law import longest_piece_log_probs
from igr.kernels.tracing import is_traced

if TYPE_CHECKING:
    from igr.distributions.invertible_gaussian import InvertibleGaussian


def exact_log_probs(law: InvertibleGaussian, num_nodes: int | None) -> Tensor:
    """Log-probabilities [*B, K] of the largest coordinate, as computed.

    Raises:
        NotImplementedError: No exact law is known with the transform.
    """
    dtype = validation.compute_dtype(law.dtype)
    threshold = column(law.threshold(dtype), dtype)
    loc, scale = law.loc.to(dtype), law.scale.to(dtype)
    space = space_of(law.transform)
    # With two categories the logarithm of the ratio of the two pieces is y itself.
    plain = space == "log" and law.num_categories == 2
    onto = law._transform is None or maps_onto_all(law._transform)
    if law.num_categories == 2 and law.mask is None and (plain or onto):
        return _two_category_log_probs(loc, scale, threshold, None if plain else law._transform)
    if law.transform is None:
        return maximum_log_probs(loc, scale, num_nodes, threshold, law._equal_scales, law.mask)
    if space is None:
        raise NotImplementedError(
            f"discrete: no exact law is known for {type(law).__name__} with the transform "
            f"{type(law.transform).__name__}; use method='monte_carlo'."
        )
    if space == "length":
        check_reference_loses(law.delta)
    return longest_piece_log_probs(loc, scale, num_nodes, threshold, space == "length")


def _two_category_log_probs(
    loc: Tensor, scale: Tensor, threshold: float | Tensor, transform: Transform | None
) -> Tensor:
    r"""Log-probabilities of two categories, of which the first wins where :math:`T(y) > c`.

    That is on one side of the y that is mapped to c, since T is monotone.

    Arguments:
        loc: The mean of y, with shape :math:`(*B, 1)`.
        scale: Its standard deviation, with the same shape.
        threshold: c, a number or a tensor that broadcasts against loc.
        transform: T, a map of vectors of one number onto all of them; ``None`` for the identity.

    Returns:
        Tensor with shape :math:`(*B, 2)`.

    Raises:
        NotImplementedError: T has no inverse.
    """
    if transform is None:
        distance = (loc - threshold) / scale
    else:
        try:
            edge = transform.inv(torch.zeros_like(loc) + threshold)
        except NotImplementedError:
            raise NotImplementedError(
                "discrete: no exact law is known with a transform which has no inverse; use "
                "method='monte_carlo'."
            ) from None
        rises = transform(edge + edge.abs().clamp_min(1.0)) > threshold
        distance = torch.where(rises, loc - edge, edge - loc) / scale
    return log_ndtr(torch.cat([distance, -distance], dim=-1))


def kl_by_nodes(law: InvertibleGaussian, other: OneHotCategorical) -> Tensor | None:
    """The divergence from another law with its gradient, by one pass over the nodes of the quadrature.

    ``None`` where that cannot be, or pays less than the law itself, and for what is no discrete law.
    """
    by_nodes = law.transform is None and law.num_categories > 2 and law.mask is None
    # A law that is kept for other uses has been paid for.
    plain = law._kept_law is not None or is_traced() or not isinstance(other, OneHotCategorical)
    if plain or not by_nodes or gaussian_law_fused.can_run(law.loc, law.scale):
        return None
    check_categories(law, other)
    dtype = validation.compute_dtype(law.dtype)
    log_q, threshold = exact_logits(other), column(law.threshold(dtype), dtype)
    broadcast = validation.broadcast_shapes(law.batch_shape, log_q.shape[:-1])
    alike = broadcast == law.batch_shape and log_q.dtype == dtype
    if not alike or log_q.requires_grad or (isinstance(threshold, Tensor) and threshold.requires_grad):
        return None
    loc, scale = law.loc.to(dtype), law.scale.to(dtype)
    divergence = maximum_kl(loc, scale, log_q, threshold, law._equal_scales)
    return divergence.to(torch.promote_types(law.dtype, dtype_of(other)))


def normals_for_probs(
    owner: str,
    probs: Tensor,
    scale: float | Tensor,
    temperature: float | Tensor,
    delta: float | Tensor,
    checked: bool,
) -> tuple[Tensor, Tensor]:
    """Means and scales of the IGR-I whose discrete law is given, in the dtype of the probabilities.

    Arguments and errors are those of :meth:`igr.InvertibleGaussian.from_probs`, the owner is named in
    errors, and ``checked`` is whether values are looked at.
    """
    if is_traced():
        raise NotImplementedError(
            f"{owner}: it iterates until it has converged, which no tracer can follow; call it before "
            "torch.compile, torch.export or torch.func, and pass its loc in."
        )
    validation.check_float_tensor(owner, "probs", probs)
    for name, value in (("scale", scale), ("temperature", temperature), ("delta", delta)):
        validation.check_number_or_tensor(owner, name, value)
    if probs.dim() == 0 or probs.shape[-1] < 2:
        raise ValueError(
            f"{owner}: expected probs with at least 2 categories in the last dimension; "
            f"got shape {tuple(probs.shape)}."
        )
    if checked:
        validation.check_probabilities(owner, probs, normalized=True)
        validation.check_values(owner, "probs", probs, positive=True)
        validation.check_values(owner, "scale", scale, positive=True)
        validation.check_temperature(owner, "temperature", temperature, torch.float64)
        validation.check_values(owner, "delta", delta, positive=True)
    target = probs.double() / probs.double().sum(-1, keepdim=True)
    if not isinstance(scale, Tensor):
        scale = torch.full((1,), float(scale), dtype=torch.float64, device=probs.device)
    shape = validation.broadcast_batch(owner, loc=target[..., :-1].shape, scale=scale.shape)
    spread = scale.double().broadcast_to(shape)
    target = target.broadcast_to((*spread.shape[:-1], target.shape[-1]))
    loc = loc_for_probs(target, spread) + column(
        threshold_of(temperature, delta, torch.float64), torch.float64
    )
    return loc.to(probs.dtype), scale.to(probs.dtype)


def uniform_means(
    owner: str,
    num_categories: int,
    scale: float,
    temperature: float | Tensor,
    delta: float | Tensor,
    device: torch.device | str | None,
) -> Tensor:
    """The means of the uniform IGR-I, float64 with shape [*, K - 1].

    Arguments and errors are those of :meth:`igr.InvertibleGaussian.uniform`; the owner is named in errors.
    """
    num_categories = validation.whole_number(owner, "num_categories", num_categories, 2)
    for name, value in (("scale", scale), ("temperature", temperature), ("delta", delta)):
        validation.check_number_or_tensor(owner, name, value)
        if not isinstance(value, Tensor):
            validation.check_values(owner, name, value, positive=True)
    means = torch.full(
        (num_categories - 1,), uniform_loc(num_categories, scale), dtype=torch.float64, device=device
    )
    return means + column(threshold_of(temperature, delta, torch.float64), torch.float64)
