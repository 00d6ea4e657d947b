"""One-call samplers beside ``torch.nn.functional.gumbel_softmax``, with its argument names."""

from __future__ import annotations

import torch
from torch import Tensor

from igr.kernels import fused as fused_draws
from igr.kernels import simplex, stick_breaking
from igr.kernels.noise import standard_gumbel, standard_normal
from igr.kernels.numbers import column, log_number
from igr.kernels.tracing import is_traced
from igr.validation import (
    broadcast_shapes,
    check_float_tensor,
    check_number_or_tensor,
    check_temperature,
    check_values,
    compute_dtype,
)


def gumbel_softmax(
    logits: Tensor,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    fused: bool | None = None,
) -> Tensor:
    r"""Points from Gumbel-Softmax: ``torch.nn.functional.gumbel_softmax``, made safe and faster.

    Half precision is computed in float32, so that small temperatures do not overflow; a one-hot result is
    exactly one-hot; the noise can be given or drawn from a generator, and its tails are finer than the
    grain of float32 uniforms.

    Arguments:
        logits: Unnormalized log-probabilities, with K categories along ``dim``.
        tau: The temperature, a float or a tensor whose shape broadcasts against that of logits without
            ``dim``.
        hard: Whether to return the nearest vertex, with the gradient of the relaxed point
            (straight-through).
        dim: The dimension of the categories.
        generator: The source of randomness where no noise is given.
        noise: Standard Gumbel variables with the shape of logits.
        fused: Whether one kernel draws, on a GPU with Triton, with noise of its own that is never stored:
            True asks for it, False for plain operations; left out, large draws have it wherever it can be.
            The same generator gives other points by the kernel than by plain operations, of the same law.

    Returns:
        Tensor with the shape and dtype of logits; sums to one along ``dim``.

    Raises:
        TypeError: unless logits is a floating-point tensor, and tau a number or a tensor.
        ValueError: for logits without a dimension, a temperature that is a number and not positive and
            finite, or below 1e-31 (1e-292 in float64; values of tensors are not read), a tensor that does not
            broadcast, noise of another shape, or ``fused=True`` for what no kernel can do.
        IndexError: logits have no dimension ``dim``.

    References:
        Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017)

    Example:
        >>> logits = torch.tensor([0.0, 1.0, 2.0])
        >>> gumbel_softmax(logits, tau=0.5, hard=True, generator=torch.Generator().manual_seed(0))
        tensor([0., 0., 1.])
    """
    _check_rows("gumbel_softmax", "logits", logits)
    dtype = compute_dtype(logits.dtype)
    rows = logits.movedim(dim, -1)
    _check_number("gumbel_softmax", "tau", tau, rows.shape[:-1], divides=dtype)
    if fused or (fused is None and logits.is_cuda and not is_traced()):
        draw = fused_draws.Draw("gumbel", rows, temperature=tau)
        if fused_draws.chosen("gumbel_softmax", fused, _reason(hard, noise) or draw):
            return fused_draws.sample(draw, (), generator)[0].movedim(-1, dim)
    if noise is None:
        noise = standard_gumbel(rows.shape, dtype=dtype, device=logits.device, generator=generator)
    else:
        noise = _given_noise("gumbel_softmax", noise, logits.shape, dim, dtype)
    points = _points(rows.to(dtype), None, noise, tau, hard, reference=None)
    return points.to(logits.dtype).movedim(-1, dim)


def invertible_gaussian(
    loc: Tensor,
    scale: float | Tensor,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    delta: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    fused: bool | None = None,
) -> Tensor:
    r"""Points from IGR-I: the softmax++ of Gaussian variables, for K categories from K - 1 of them.

    Arguments:
        loc: Means :math:`\mu`, with K - 1 entries along ``dim``.
        scale: Standard deviations :math:`\sigma > 0`, a float or a tensor that broadcasts against loc.
        tau: The temperature, a float or a tensor whose shape broadcasts against that of loc without
            ``dim``.
        hard: Whether to return the nearest vertex, with the gradient of the relaxed point
            (straight-through).
        dim: The dimension of the categories.
        delta: :math:`\delta > 0` of softmax++, a float or a tensor like tau.
        generator: The source of randomness where no noise is given.
        noise: Standard normal variables with the shape of loc.
        fused: Whether one kernel draws, on a GPU with Triton, with noise of its own that is never stored:
            True asks for it, False for plain operations; left out, large draws have it wherever it can be.
            The same generator gives other points by the kernel than by plain operations, of the same law.

    Returns:
        Tensor with the dtype of loc and its shape, but K entries along ``dim``; sums to one along it.

    Raises:
        TypeError: unless loc is a floating-point tensor, and scale, tau and delta are numbers or tensors.
        ValueError: for loc without a dimension, a temperature, scale or delta that is a number and not
            positive and finite, a temperature below 1e-31 (1e-292 in float64; values of tensors are not
            read), a tensor that does not broadcast, noise of another shape, or ``fused=True`` for what no
            kernel can do.
        IndexError: loc has no dimension ``dim``.

    References:
        Invertible Gaussian Reparameterization (Potapczynski et al., 2020), section 3

    Example:
        >>> loc = torch.tensor([0.0, 1.0])
        >>> invertible_gaussian(loc, 1.0, tau=0.1, hard=True, generator=torch.Generator().manual_seed(0))
        tensor([1., 0., 0.])
    """
    _check_rows("invertible_gaussian", "loc", loc)
    dtype = compute_dtype(loc.dtype)
    rows = loc.movedim(dim, -1)
    _check_number("invertible_gaussian", "tau", tau, rows.shape[:-1], divides=dtype)
    _check_number("invertible_gaussian", "delta", delta, rows.shape[:-1])
    _check_number("invertible_gaussian", "scale", scale, loc.shape)
    if isinstance(scale, Tensor):
        scale = scale.to(loc.device, dtype) if scale.dim() == 0 else scale
        scale = scale.expand(loc.shape).movedim(dim, -1)
    if fused or (fused is None and loc.is_cuda and not is_traced()):
        draw = fused_draws.Draw("gaussian", rows, scale, tau, delta)
        if fused_draws.chosen("invertible_gaussian", fused, _reason(hard, noise) or draw):
            return fused_draws.sample(draw, (), generator)[0].movedim(-1, dim)
    if noise is None:
        noise = standard_normal(rows.shape, dtype=dtype, device=loc.device, generator=generator)
    else:
        noise = _given_noise("invertible_gaussian", noise, loc.shape, dim, dtype)
    log_delta = log_number(delta, dtype)
    if isinstance(scale, Tensor):
        scale = scale.to(dtype)
    points = _points(rows.to(dtype), scale, noise, tau, hard, reference=log_delta)
    return points.to(loc.dtype).movedim(-1, dim)


def softmax_plus_plus(x: Tensor, delta: float | Tensor = 1.0, dim: int = -1) -> Tensor:
    r"""softmax++: K weights from K - 1 numbers, :math:`z_k = e^{x_k} / (\sum_j e^{x_j} + \delta)`.

    Arguments:
        x: K - 1 numbers along ``dim``.
        delta: :math:`\delta > 0`, a float or a tensor whose shape broadcasts against that of x without
            ``dim``.
        dim: The dimension of the categories.

    Returns:
        Tensor with K entries along ``dim``, the last of which belongs to :math:`\delta`.

    Raises:
        TypeError: unless x is a floating-point tensor, and delta a number or a tensor.
        ValueError: for x without a dimension, or a delta that is a number and not positive and finite, or a
            tensor that does not broadcast.
        IndexError: x has no dimension ``dim``.

    References:
        Invertible Gaussian Reparameterization (Potapczynski et al., 2020), equation 5

    Example:
        >>> softmax_plus_plus(torch.zeros(3))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    _check_rows("softmax_plus_plus", "x", x)
    dtype = compute_dtype(x.dtype)
    rows = x.to(dtype).movedim(dim, -1)
    _check_number("softmax_plus_plus", "delta", delta, rows.shape[:-1])
    points = simplex.tempered_softmax(rows, 1.0, log_number(delta, dtype))
    return points.to(x.dtype).movedim(-1, dim)


def stick_breaking_lengths(logits: Tensor, dim: int = -1) -> Tensor:
    r"""Lengths of K - 1 sticks from K - 1 logits: :math:`\pi_k = \eta_k \prod_{j<k} (1 - \eta_j)`.

    With :math:`\eta = \mathrm{sigmoid}(y)`; one cumulative product, linear in K. What is left of the stick,
    :math:`\prod_j (1 - \eta_j)`, is not part of the result.

    Arguments:
        logits: :math:`y`, with K - 1 entries along ``dim``.
        dim: The dimension of the sticks.

    Returns:
        Tensor with the shape and dtype of logits, entries in (0, 1) that sum to less than one along ``dim``.

    Raises:
        TypeError: unless logits is a floating-point tensor.
        ValueError: for logits without a dimension.
        IndexError: logits have no dimension ``dim``.

    References:
        Invertible Gaussian Reparameterization (Potapczynski et al., 2020), section 3.3

    Example:
        >>> stick_breaking_lengths(torch.zeros(3))
        tensor([0.5000, 0.2500, 0.1250])
    """
    _check_rows("stick_breaking_lengths", "logits", logits)
    lengths = stick_breaking.lengths(logits.to(compute_dtype(logits.dtype)).movedim(dim, -1))
    return lengths.to(logits.dtype).movedim(-1, dim)


def _check_rows(owner: str, name: str, value: Tensor) -> None:
    """Raises unless there are floating-point numbers with a dimension; which one is torch's to check."""
    check_float_tensor(owner, name, value)
    if value.dim() == 0:
        raise ValueError(
            f"{owner}: expected {name} with a dimension for the categories; got a single number; "
            "stack the numbers of all categories."
        )


def _check_number(
    owner: str,
    name: str,
    value: float | Tensor,
    batch: torch.Size,
    divides: torch.dtype | None = None,
) -> None:
    """A positive number, or a tensor that broadcasts against the batch without enlarging it.

    One that divides is large enough for it. Values of a tensor are not read: a sampler in a training loop
    must not wait for the device.
    """
    check_number_or_tensor(owner, name, value)
    if not isinstance(value, Tensor):
        if divides is None:
            check_values(owner, name, value, positive=True)
        else:
            check_temperature(owner, name, value, divides)
        return
    try:
        fits = broadcast_shapes(value.shape, batch) == batch
    except RuntimeError:
        fits = False
    if not fits:
        advice = "" if name == "scale" else "; a temperature or delta has no dimension for the categories"
        raise ValueError(
            f"{owner}: expected {name} to be a number or a tensor that broadcasts against {tuple(batch)}; "
            f"got shape {tuple(value.shape)}{advice}."
        )


def _given_noise(owner: str, noise: Tensor, shape: torch.Size, dim: int, dtype: torch.dtype) -> Tensor:
    check_float_tensor(owner, "noise", noise)
    if noise.shape != shape:
        raise ValueError(
            f"{owner}: expected noise of shape {tuple(shape)}; got {tuple(noise.shape)}; "
            "draw one number for each entry."
        )
    return noise.to(dtype).movedim(dim, -1)


def _reason(hard: bool, noise: Tensor | None) -> str | None:
    """Against a kernel, which neither is asked for nor knows of."""
    if noise is not None:
        return "noise that is given"
    return "hard=True" if hard else None


def _points(
    loc: Tensor,
    scale: float | Tensor | None,
    noise: Tensor,
    tau: float | Tensor,
    hard: bool,
    reference: float | Tensor | None,
) -> Tensor:
    """The points, or the vertices nearest to them with the gradient of the points."""
    if not hard:
        return simplex.points_of_noise(loc, scale, noise, tau, reference)
    scores = simplex.shifted(loc, scale, noise)
    soft = simplex.tempered_softmax(scores, tau, reference)
    # The scores and not the point, whose entries may tie where they round or underflow.
    full = (
        scores if reference is None else simplex.with_reference(scores / column(tau, scores.dtype), reference)
    )
    return simplex.straight_through(simplex.nearest_vertex(full.detach()), soft)
