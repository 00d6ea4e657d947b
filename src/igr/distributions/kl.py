r"""Kullback-Leibler divergences: closed forms, and refusals that say why there is none.

For IGR-I :math:`\log(z_k / z_K) \sim N(\mu_k / \tau - \log\delta, (\sigma_k / \tau)^2)`, so the divergence of
two of them is that of these Gaussians, also across temperatures and deltas. Where two IGR share a transform,
temperature and delta, both are one and the same map of Gaussians, and the divergence is theirs.
Coordinates that are masked on both sides have no part in it.

Across temperatures a divergence may be as large as 1e37, and its derivative in the temperature of p then
beyond float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical, register_kl

from igr.distributions.binary import BinaryInvertibleGaussian
from igr.distributions.binary_relaxation import BinaryRelaxation
from igr.distributions.discrete import DiscreteLaw, check_categories, dtype_of, exact_logits
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.pre_image import name_of, same_transform
from igr.distributions.relaxation import SimplexRelaxation
from igr.kernels.numbers import column, log_number, same_number
from igr.kernels.tracing import is_traced
from igr.validation import compute_dtype


class _GaussianKL(torch.autograd.Function):
    """:func:`_plain_gaussian_kl` where only p is differentiated, with a third of the arrays in between."""

    @staticmethod
    def forward(ctx: Any, mean_p: Tensor, scale_p: Tensor, mean_q: Tensor, scale_q: Tensor) -> Tensor:
        ratio = scale_p / scale_q
        shift = (mean_p - mean_q).div_(scale_q)
        terms = torch.log(ratio).mul_(-2.0).addcmul_(ratio - 1.0, ratio + 1.0).addcmul_(shift, shift)
        ctx.save_for_backward(mean_p, scale_p, mean_q, scale_q, ratio, shift)
        return terms.sum(-1).mul_(0.5)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        mean_p, scale_p, mean_q, scale_q, ratio, shift = ctx.saved_tensors
        by_mean, by_scale, *_ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # to be differentiated again
            inputs = [t for t, needed in ((mean_p, by_mean), (scale_p, by_scale)) if needed]
            value = _plain_gaussian_kl(mean_p, scale_p, mean_q, scale_q)
            found = iter(torch.autograd.grad(value, inputs, grad, create_graph=True))
            return next(found) if by_mean else None, next(found) if by_scale else None, None, None
        weight = grad.unsqueeze(-1) / scale_q
        return (
            weight * shift if by_mean else None,
            weight * (ratio - ratio.reciprocal()) if by_scale else None,
            None,
            None,
        )


def _gaussian_kl(mean_p: Tensor, scale_p: Tensor, mean_q: Tensor, scale_q: Tensor) -> Tensor:
    """The divergence of independent Gaussians, summed over the last dimension."""
    alike = mean_p.shape == scale_p.shape and not (mean_q.requires_grad or scale_q.requires_grad)
    if is_traced() or not alike or mean_q.dim() > mean_p.dim():
        return _plain_gaussian_kl(mean_p, scale_p, mean_q, scale_q)
    return _GaussianKL.apply(mean_p, scale_p, mean_q, scale_q)


def _plain_gaussian_kl(mean_p: Tensor, scale_p: Tensor, mean_q: Tensor, scale_q: Tensor) -> Tensor:
    ratio = scale_p / scale_q
    shift = (mean_p - mean_q) / scale_q
    # (r - 1)(r + 1) for r^2 - 1, which would lose what is left where both scales are nearly equal.
    return 0.5 * (shift * shift + (ratio - 1.0) * (ratio + 1.0) - 2.0 * torch.log(ratio)).sum(-1)


@register_kl(InvertibleGaussian, InvertibleGaussian)
def _kl_invertible_gaussian(p: InvertibleGaussian, q: InvertibleGaussian) -> Tensor:
    check_categories(p, q)
    result_dtype = torch.promote_types(p.dtype, q.dtype)
    dtype = compute_dtype(result_dtype)
    if not same_transform(p.transform, q.transform):
        raise NotImplementedError(
            f"KL({p!r} || {q!r}) has no closed form: the transforms are two objects "
            f"({name_of(p.transform)} and {name_of(q.transform)}), so the laws are two different maps of "
            "Gaussians; give both the same transform object, or estimate the divergence "
            "by rsample_log and log_prob_of_log."
        )
    _check_masks(p, q)
    if p.is_same_map(q):
        parameters = tuple(t.to(dtype) for t in (p.loc, p.scale, q.loc, q.scale))
        return _gaussian_kl(*_available(parameters, p.mask)).to(result_dtype)
    if p.transform is not None:
        raise NotImplementedError(
            f"KL({p!r} || {q!r}) has no closed form: with a transform both sides need one temperature and "
            "delta, as equal Python numbers or as the same tensor object; otherwise estimate the "
            "divergence by rsample_log and log_prob_of_log."
        )
    parameters = (*_in_units_of(q, p, dtype), q.loc.to(dtype), q.scale.to(dtype))
    return _gaussian_kl(*_available(parameters, p.mask)).to(result_dtype)


def _in_units_of(q: InvertibleGaussian, p: InvertibleGaussian, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    r"""Mean and scale of :math:`\tau_q (\log(z_k / z_K) + \log\delta_q)` under p, which are its own under q.

    Those of the log-ratios themselves would do, but the slopes in them can overflow where those in loc, scale
    and temperature do not.
    """
    temperature = column(q.temperature, dtype)
    ratio = temperature / column(p.temperature, dtype)
    shift = temperature * (
        column(log_number(q.delta, dtype), dtype) - column(log_number(p.delta, dtype), dtype)
    )
    return p.loc.to(dtype) * ratio + shift, p.scale.to(dtype) * ratio


def _available(parameters: tuple[Tensor, ...], mask: Tensor | None) -> tuple[Tensor, ...]:
    """Means and scales, in turn, with standard normals where masked, which do not differ on both sides."""
    if mask is None:
        return parameters
    return tuple(
        t.masked_fill(mask[..., :-1], value) for t, value in zip(parameters, (0.0, 1.0) * 2, strict=True)
    )


def _check_masks(p: InvertibleGaussian, q: InvertibleGaussian) -> None:
    a, b = p.mask, q.mask
    if a is b:
        return
    start = f"KL({p!r} || {q!r}) has no closed form: "
    if a is None or b is None:
        raise NotImplementedError(
            f"{start}only one side is masked, so the laws stand on different faces of the simplex, without a "
            "density with respect to each other; give both the same mask."
        )
    # Elsewhere values cannot be read, or a device would wait.
    readable = not is_traced() and a.device.type == b.device.type == "cpu"
    if not (readable and torch.equal(a, b)):
        raise NotImplementedError(
            f"{start}the masks are not known to be equal, and laws on different faces of the simplex have no "
            "density with respect to each other; give both the same mask, as one tensor object where its "
            "values cannot be read (under a tracer or on a device)."
        )


@register_kl(BinaryInvertibleGaussian, BinaryInvertibleGaussian)
def _kl_binary_invertible_gaussian(p: BinaryInvertibleGaussian, q: BinaryInvertibleGaussian) -> Tensor:
    if p.transform is not None and p.transform is q.transform and same_number(p.temperature, q.temperature):
        # One and the same map on both sides, so that the divergence is that of the Gaussians.
        p, q = (type(law)(law.loc, law.scale, 1.0, validate_args=False) for law in (p, q))
    return _kl_invertible_gaussian(p.as_simplex(), q.as_simplex())


@register_kl(BinaryRelaxation, BinaryRelaxation)
def _kl_binary_relaxations(p: BinaryRelaxation, q: BinaryRelaxation) -> Tensor:
    raise NotImplementedError(
        f"KL({p!r} || {q!r}) has no closed form; estimate it as the mean of p.log_prob_of_logit(x) - "
        "q.log_prob_of_logit(x) over x = p.rsample_logit(), or take the divergence of the discrete laws, "
        "kl_divergence(p.discrete(), q.discrete()), which is another quantity."
    )


@register_kl(BinaryRelaxation, SimplexRelaxation)
@register_kl(SimplexRelaxation, BinaryRelaxation)
@register_kl(BinaryRelaxation, Distribution)
@register_kl(Distribution, BinaryRelaxation)
def _kl_binary_with_another_law(p: Distribution, q: Distribution) -> Tensor:
    relaxation, other = (p, q) if isinstance(p, BinaryRelaxation) else (q, p)
    advice = (
        "take the discrete law on both sides, by discrete(), and of a Bernoulli one over two categories"
        if isinstance(other, Bernoulli | OneHotCategorical)
        else "take as_simplex() of it beside another law on the simplex"
        if isinstance(other, SimplexRelaxation)
        else "estimate it as the mean of p.log_prob(z) - q.log_prob(z) over draws z of p"
    )
    raise NotImplementedError(
        f"KL({type(p).__name__} || {type(q).__name__}) has no closed form: {type(relaxation).__name__} is a "
        f"law of a number between zero and one and {type(other).__name__} is none of its family; {advice}."
    )


@register_kl(SimplexRelaxation, SimplexRelaxation)
def _kl_relaxations(p: SimplexRelaxation, q: SimplexRelaxation) -> Tensor:
    raise NotImplementedError(
        f"KL({p!r} || {q!r}) has no closed form; estimate it as the mean of p.log_prob_of_log(x) - "
        "q.log_prob_of_log(x) over x = p.rsample_log(), or take the divergence of the discrete laws, "
        "kl_divergence(p.discrete(), q.discrete()), which is another quantity."
    )


@register_kl(SimplexRelaxation, Distribution)
@register_kl(Distribution, SimplexRelaxation)
def _kl_with_another_law(p: Distribution, q: Distribution) -> Tensor:
    relaxation, other = (p, q) if isinstance(p, SimplexRelaxation) else (q, p)
    advice = (
        "take the discrete law of the other side too, by its discrete()"
        if isinstance(other, OneHotCategorical)
        else "estimate it as the mean of p.log_prob(z) - q.log_prob(z) over draws z of p"
    )
    raise NotImplementedError(
        f"KL({type(p).__name__} || {type(q).__name__}) has no closed form: {type(relaxation).__name__} is a "
        f"law on the simplex and {type(other).__name__} is none of its family; {advice}."
    )


@register_kl(DiscreteLaw, DiscreteLaw)
@register_kl(DiscreteLaw, OneHotCategorical)
@register_kl(OneHotCategorical, DiscreteLaw)
def _kl_discrete(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    check_categories(p, q)
    p_logits, q_logits = exact_logits(p), exact_logits(q)
    # A category that p never takes adds nothing; the mask keeps its gradient free of 0 times infinity.
    taken = p_logits != -torch.inf
    log_p = torch.where(taken, p_logits, 0.0)
    log_q = torch.where(taken, q_logits, 0.0)
    divergence = torch.where(taken, torch.exp(log_p) * (log_p - log_q), 0.0).sum(-1)
    return divergence.to(torch.promote_types(dtype_of(p), dtype_of(q)))
