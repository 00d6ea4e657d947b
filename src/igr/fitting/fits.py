"""The parameters of a relaxation for a given discrete law."""

from __future__ import annotations

import time

import torch
from torch import Generator, Tensor

from igr.errors import shown
from igr.fitting.families import FAMILIES, start_parameters
from igr.fitting.objectives import OBJECTIVES
from igr.fitting.result import Fit
from igr.fitting.solvers import by_adam, by_newton, discrete_law, exact_law, positive, relaxed_mean
from igr.fitting.targets import Target, as_target
from igr.kernels.tracing import is_traced
from igr.validation import check_name, check_number_or_tensor, check_values, real_number, whole_number

__all__ = ["fit"]

# Newton's method forms all of them, in float64: 2 GiB.
_MOST_SLOPES = 2**28
# The settings of the original: of the relaxed objective.
_TEMPERATURES = {"gumbel-softmax": 0.1}
_TEMPERATURE = 0.01
_NUM_SAMPLES = 10_000
_NUM_ITERATIONS = {"relaxed": 200, "gradient": 500}
_LEARNING_RATES = {"relaxed": 0.01, "gradient": 0.1}


def fit(
    target: object,
    family: str = "igr",
    *,
    num_categories: int | None = None,
    scale: float | Tensor | None = None,
    fit_scale: bool | None = None,
    objective: str = "kl",
    method: str | None = None,
    temperature: float | None = None,
    num_samples: int | None = None,
    num_iterations: int | None = None,
    learning_rate: float | None = None,
    tail_mass: float = 1e-6,
    generator: Generator | None = None,
) -> Fit:
    r"""The relaxation of a family whose discrete law, that of temperature zero, is the given one.

    There are four methods; the first that a family has is its default.

    ============== =============================================== ==================================
    method         what it does                                    families
    ============== =============================================== ==================================
    "closed_form"  the logits are the log-probabilities            gumbel-softmax
    "newton"       Newton's method in loc, at fixed scale, on the  igr, igr-sb, igr-sb-log
                   exact law: no sampling and no temperature
    "gradient"     Adam on the objective of the exact law          gumbel-softmax, igr, igr-sb,
                                                                   igr-sb-log
    "relaxed"      Adam on the objective of the mean of relaxed    all; the default of igr-planar, of
                   samples at a temperature, as in the paper       which no exact law is known
    ============== =============================================== ==================================

    At fixed scale the law of IGR-I is the gradient, in loc, of a convex function, and every law of positive
    probabilities is reached. So is it, as far as we have seen, by sticks (scales from 1 to 5, hundreds of
    categories). The mean of relaxed samples is not the discrete law: what minimizes the relaxed objective
    misses it by an amount that depends on the temperature.

    ``"igr-sb"`` breaks sticks in length space, as the paper does, where the last category never wins; so a
    law of K positive probabilities gets K + 1 categories. ``"igr-sb-log"`` reaches all.

    Newton's method needs memory, and for each step time, that grow with the square of the number of
    categories. Samples are counted from 0 on, so shift those that are far away.

    A probability of zero is met to 1e-15, and by sticks to 1e-10, below which their law has no digits.

    The fit runs on the CPU in float64. For eager code only; no gradient is kept.

    Arguments:
        target: The law: probabilities with shape :math:`(*B, K)`, a distribution over integers of torch or
            scipy, or integer samples; see :func:`igr.fitting.as_target`.
        family: ``"gumbel-softmax"``, ``"igr"``, ``"igr-planar"``, ``"igr-sb"`` or ``"igr-sb-log"``.
        num_categories: K of the relaxation: the target is cut to so many, or filled with zeros; ``None`` for
            as many as it needs.
        scale: :math:`\sigma`, of all families but Gumbel-Softmax, a float or a tensor that broadcasts against
            :math:`(*B, K - 1)`; 1 if ``None``. Where scales are fitted it is the start.
        fit_scale: Whether scales are fitted too; ``None`` if the method is ``"relaxed"``, as the original
            does. Newton's method cannot.
        objective: ``"kl"``, :math:`KL(p \| q)` from the target p to the law q; ``"reverse_kl"``,
            :math:`KL(q \| p)`; ``"squared_error"``, :math:`\sum_k (p_k - q_k)^2`; or
            ``"total_variation"``, half of :math:`\sum_k |p_k - q_k|`. Newton's method solves p = q, which
            makes all of them zero, and only its history depends on the choice.
        method: One of the table; ``None`` for the default of the family.
        temperature: Of ``"relaxed"`` alone; ``None`` for the original's, 0.1 for Gumbel-Softmax and 0.01 for
            IGR.
        num_samples: Samples for each iteration of ``"relaxed"``, 10,000 if ``None``.
        num_iterations: Steps of Adam: 200 of ``"relaxed"`` and 500 of ``"gradient"`` if ``None``.
        learning_rate: Of Adam: 0.01 for ``"relaxed"`` and 0.1 for ``"gradient"`` if ``None``.
        tail_mass: How much of a law with an infinite support may be cut off; what was is :attr:`Fit.tail`.
        generator: The source of samples and of the planar flow; torch's default one if ``None``.

    Units:
        KL divergences and their history in nats, times in seconds.

    Raises:
        TypeError: for arguments of the wrong kind.
        ValueError: for a target that is no law, names and numbers outside of their range, and settings that
            the method does not use.
        NotImplementedError: under a tracer, and for sticks with scales so small that their law is not known.

    References:
        Invertible Gaussian Reparameterization (Potapczynski et al., 2020), section 5.1 and figure 1

    Example:
        >>> found = fit(torch.distributions.Poisson(5.0), "igr-sb")
        >>> found.num_categories, bool(found.total_variation < 1e-5)
        (21, True)
        >>> law = found.distribution(temperature=0.1)
        >>> law.discrete().probs[:4]
        tensor([0.0067, 0.0337, 0.0842, 0.1404])
    """
    if is_traced():
        raise NotImplementedError(
            "fit: it iterates until it has converged, which no tracer can follow; call it before "
            "torch.compile, torch.export or torch.func."
        )
    check_name("fit", "family", family, FAMILIES)
    check_name("fit", "objective", objective, OBJECTIVES)
    methods = FAMILIES[family].methods
    method = methods[0] if method is None else method
    if method not in methods:
        raise ValueError(
            f"fit: expected method to be one of {', '.join(methods)} for the family {family}; "
            f"got {shown(method)}; leave it out for {methods[0]}."
        )
    descends = method in _NUM_ITERATIONS
    for name, value, used in (
        ("temperature", temperature, method == "relaxed"),
        ("num_samples", num_samples, method == "relaxed"),
        ("num_iterations", num_iterations, descends),
        ("learning_rate", learning_rate, descends),
        ("scale", scale, family != "gumbel-softmax"),
        ("fit_scale", fit_scale or None, descends and family != "gumbel-softmax"),
    ):
        if value is not None and not used:
            raise ValueError(
                f"fit: expected no {name} for the family {family} and the method {method}, which use none; "
                f"got {shown(value)}; leave it out."
            )
    tau = _positive_number("temperature", temperature, _TEMPERATURES.get(family, _TEMPERATURE))
    draws = _number("num_samples", num_samples, _NUM_SAMPLES)
    steps = _number("num_iterations", num_iterations, _NUM_ITERATIONS.get(method, 1))
    rate = _positive_number("learning_rate", learning_rate, _LEARNING_RATES.get(method, 1.0))
    fits_scale = method == "relaxed" if fit_scale is None else fit_scale
    _check_kind("fit_scale", fits_scale, bool, "True or False")
    if generator is not None:
        _check_kind("generator", generator, Generator, "torch.Generator().manual_seed(0)")
    law = _target_of(family, target, num_categories, tail_mass)
    if method == "newton" and law.probs.numel() * law.num_categories > _MOST_SLOPES:
        raise ValueError(
            f"fit: expected no more than {_MOST_SLOPES:,} slopes (laws times squared number of categories) "
            f"for Newton's method; got {law.probs.numel() * law.num_categories:,}; fit fewer laws at a time, "
            "give a smaller num_categories, or use method='gradient'."
        )
    spread = _scale_of(family, law, 1.0 if scale is None else scale)
    if method != "closed_form":
        _check_within_reach(family, law, objective, method)
    started = time.perf_counter()
    # Nothing that takes part in a gradient can be made in inference mode.
    try:
        with torch.inference_mode(False), torch.no_grad():
            law = Target(law.probs.clone(), law.tail.clone(), law.first, law.description)
            spread = spread.clone()
            if method == "closed_form":
                start = start_parameters(family, law.num_categories, spread, generator)
                parameters = {"logits": torch.log(positive(law.probs))}
                start_probs, history = (
                    discrete_law(family, start, None)[0],
                    law.probs.new_empty(0, *law.batch_shape),
                )
                converged = torch.ones(law.batch_shape, dtype=torch.bool)
            elif method == "newton":
                parameters, start_probs, history, converged = by_newton(family, law, spread, objective)
            else:
                start = start_parameters(family, law.num_categories, spread, generator)
                if method == "relaxed":
                    probs_of = relaxed_mean(family, tau, draws, generator)
                else:
                    probs_of = exact_law(family, fits_scale)
                parameters, history = by_adam(law.probs, start, probs_of, objective, steps, rate, fits_scale)
                start_probs = discrete_law(family, start, generator)[0]
                converged = torch.isfinite(history).all(0)
            probs, num_draws = discrete_law(family, parameters, generator)
    except NotImplementedError as error:
        # Of the law of stick-breaking, with advice for those who ask for the law itself.
        raise NotImplementedError(
            "fit: expected scales at which the exact law of stick-breaking is known; got scales down to "
            f"{float(spread.min()):.3g} with {law.num_categories} categories; give larger ones."
        ) from error
    return Fit(
        family=family,
        method=method,
        objective=objective,
        target=law,
        parameters=parameters,
        start_probs=start_probs,
        probs=probs,
        num_draws=num_draws,
        history=history,
        converged=converged,
        seconds=time.perf_counter() - started,
    )


def _target_of(family: str, target: object, num_categories: int | None, tail_mass: float) -> Target:
    """The law over the categories of the relaxation, on the CPU."""
    if FAMILIES[family].space != "length":
        found = as_target(target, num_categories=num_categories, tail_mass=tail_mass)
    elif num_categories is None:
        found = as_target(target, tail_mass=tail_mass)
        if bool((found.probs[..., -1] > 0).any()):
            found = found.with_num_categories(found.num_categories + 1)
    else:
        count = whole_number("fit", "num_categories", num_categories)
        if count < 3:
            raise ValueError(
                f"fit: expected num_categories of at least 3 for {family}, since in length space the last "
                f"category never wins; got {count}; take one more, or igr-sb-log."
            )
        found = as_target(target, num_categories=count - 1, tail_mass=tail_mass).with_num_categories(count)
    if found.batch_shape.numel() == 0:
        raise ValueError(
            f"fit: expected at least one law in the batch; got batch shape {tuple(found.batch_shape)}; pass "
            "probabilities of one."
        )
    return Target(found.probs.cpu(), found.tail.cpu(), found.first, found.description)


def _check_within_reach(family: str, law: Target, objective: str, method: str) -> None:
    """ValueError where the objective is infinite for every law of the family, so that it has no slope."""
    exact_lengths = FAMILIES[family].space == "length" and method != "relaxed"
    reached = law.probs[..., :-1] if exact_lengths else law.probs
    # The mean of relaxed samples reaches it nevertheless.
    counted = FAMILIES[family].space == "length" and not exact_lengths
    padded = ", among them the last category of length space, which never wins" if counted else ""
    if objective == "reverse_kl" and bool((reached == 0).any()):
        raise ValueError(
            "fit: expected a target without zeros for the objective reverse_kl, which is infinite wherever "
            f"the law of {family} reaches a category that the target has not; got "
            f"{int((reached == 0).sum())} of them{padded}; choose another objective."
        )


def _scale_of(family: str, law: Target, scale: float | Tensor) -> Tensor:
    """float64, [*B, K - 1]; for logits of the shape of these."""
    check_number_or_tensor("fit", "scale", scale)
    check_values("fit", "scale", scale, positive=True)
    shape = law.probs.shape if family == "gumbel-softmax" else law.probs[..., 1:].shape
    given = torch.as_tensor(scale, dtype=torch.float64).detach().cpu()
    try:
        return given.broadcast_to(shape).clone()
    except RuntimeError:
        raise ValueError(
            f"fit: expected scale to broadcast against {tuple(shape)}, an entry for each mean; "
            f"got shape {tuple(given.shape)}; pass a float for one scale."
        ) from None


def _check_kind(name: str, given: object, kind: type, example: str) -> None:
    if not isinstance(given, kind):
        raise TypeError(
            f"fit: expected {name} to be a {kind.__name__}; got {shown(given)}; pass {example}, or leave it "
            "out."
        )


def _number(name: str, given: int | None, default: int) -> int:
    return default if given is None else whole_number("fit", name, given, minimum=1)


def _positive_number(name: str, given: float | None, default: float) -> float:
    if given is None:
        return default
    number = real_number("fit", name, given)
    check_values("fit", name, number, positive=True)
    return number
