"""The parameters of a relaxation for a given discrete law."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Generator, Tensor

from igr import atomic
from igr.distributions import SimplexRelaxation
from igr.fitting.families import FAMILIES, relaxation, start_parameters
from igr.fitting.objectives import OBJECTIVES
from igr.fitting.targets import Target, as_target
from igr.kernels.gaussian_law_inverse import newton_loc_for_probs
from igr.kernels.stick_breaking_law import longest_piece_law_and_jacobian
from igr.kernels.stick_breaking_law_inverse import stick_loc_for_probs
from igr.kernels.tracing import is_traced
from igr.validation import (
    check_number_or_tensor,
    check_probabilities,
    check_values,
    real_number,
    shown,
    whole_number,
)

__all__ = ["Fit", "fit"]

# A category of probability zero gets this much, so that it has parameters.
_SMALLEST = 1e-15
_FORMAT = 1
_NOT_A_FIT = (KeyError, TypeError, ValueError)
# Newton's method forms all of them, in float64: 2 GiB.
_MOST_SLOPES = 2**28
# Draws that tell the law of a family that has no exact one.
_LAW_DRAWS = 100_000
# The settings of the original: of the relaxed objective.
_TEMPERATURES = {"gumbel-softmax": 0.1}
_TEMPERATURE = 0.01
_NUM_SAMPLES = 10_000
_NUM_ITERATIONS = {"relaxed": 200, "gradient": 500}
_LEARNING_RATES = {"relaxed": 0.01, "gradient": 0.1}

Parameters = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Fit:
    r"""What :func:`fit` found. B is the batch shape of the target, T the number of iterations.

    Arguments:
        family: The family, a key of ``FAMILIES``.
        method: How it was fitted, ``"closed_form"`` where nothing had to be.
        objective: What :attr:`history` holds.
        target: The law that was asked for, over the categories of the relaxation.
        parameters: float64 tensors by name: ``logits`` with shape :math:`(*B, K)`, or ``loc`` and ``scale``
            with shape :math:`(*B, K - 1)`; for the planar flow also ``u`` and ``w``,
            :math:`(L, *B, K - 1)`, and ``b``, :math:`(L, *B)`.
        start_probs: The discrete law at the start, float64, :math:`(*B, K)`.
        probs: The discrete law that was reached.
        num_draws: From how many draws :attr:`probs` and :attr:`start_probs` are estimated; ``None`` where
            they are exact.
        history: The objective at every iteration, :math:`(T, *B)`; by Newton's method of the exact law of the
            iterate, and by ``"relaxed"`` of the mean of the samples.
        converged: Whether the law was reached to the precision of the method, :math:`(*B)`; by gradients,
            which have no such criterion, whether every number is finite.
        seconds: The time that the fit took.
    """

    family: str
    method: str
    objective: str
    target: Target
    parameters: dict[str, Tensor]
    start_probs: Tensor
    probs: Tensor
    num_draws: int | None
    history: Tensor
    converged: Tensor
    seconds: float

    @property
    def num_categories(self) -> int:
        """K of the relaxation."""
        return self.target.num_categories

    @property
    def num_iterations(self) -> int:
        """T, the largest number of iterations of a law in the batch."""
        return len(self.history)

    @property
    def tail(self) -> Tensor:
        """The mass of the given law outside of the categories, :math:`(*B)`."""
        return self.target.tail

    @property
    def kl(self) -> Tensor:
        r""":math:`KL(p \| q)` from the target, normalized over the categories, to the law reached, in nats.

        Of an estimated law, in which a category may never have come up, half a draw is added to each.
        """
        return OBJECTIVES["kl"](self.target.probs, self._smoothed()).clamp_min(0.0)

    @property
    def reverse_kl(self) -> Tensor:
        r""":math:`KL(q \| p)`, in nats; infinite where the law reaches a category that the target has not."""
        return OBJECTIVES["reverse_kl"](self.target.probs, self._smoothed()).clamp_min(0.0)

    @property
    def total_variation(self) -> Tensor:
        r""":math:`\frac{1}{2} \sum_k |p_k - q_k|` with the whole of the given law, its tail included.

        Of an estimated law that is too large by about half the sum of the standard errors.
        """
        kept = (1.0 - self.tail).unsqueeze(-1) * self.target.probs
        return 0.5 * ((kept - self.probs).abs().sum(-1) + self.tail)

    @property
    def standard_error(self) -> Tensor | None:
        """Of :attr:`probs` where they are an estimate; ``None`` where they are exact."""
        return (
            None if self.num_draws is None else torch.sqrt(self.probs * (1.0 - self.probs) / self.num_draws)
        )

    def _smoothed(self) -> Tensor:
        if self.num_draws is None:
            return self.probs
        return (self.probs * self.num_draws + 0.5) / (self.num_draws + 0.5 * self.num_categories)

    def distribution(
        self,
        temperature: float | Tensor,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SimplexRelaxation:
        """The relaxation that was fitted.

        Arguments:
            temperature: Its temperature, which has no part in the discrete law.
            dtype: The dtype of its parameters; torch's default one if ``None``.
            device: The device of its parameters; the CPU if ``None``.
        """
        dtype = dtype or torch.get_default_dtype()
        values = {name: value.to(device, dtype) for name, value in self.parameters.items()}
        return relaxation(self.family, values, temperature)

    def to_json(self) -> dict[str, Any]:
        """A mapping of JSON values that :meth:`from_json` takes back, to the last bit."""

        return {
            "format": _FORMAT,
            "family": self.family,
            "method": self.method,
            "objective": self.objective,
            "target": self.target.to_json(),
            "parameters": {name: value.tolist() for name, value in self.parameters.items()},
            "start_probs": self.start_probs.tolist(),
            "probs": self.probs.tolist(),
            "num_draws": self.num_draws,
            "history": self.history.tolist(),
            "converged": self.converged.tolist(),
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The fit that :meth:`to_json` wrote.

        Raises:
            ValueError: for what it did not write.
        """
        try:
            return cls._of_json(values)
        except _NOT_A_FIT as error:
            raise ValueError(
                f"Fit.from_json: expected a whole fit; got one that does not fit ({error}); pass what "
                "to_json() returned."
            ) from error

    @classmethod
    def _of_json(cls, values: Any) -> Self:
        if not isinstance(values, Mapping):
            raise TypeError(f"a {type(values).__name__}, no dict")
        if values.get("format") != _FORMAT:
            raise ValueError(f"format {values.get('format')!r} instead of {_FORMAT}")
        target = Target.from_json(values["target"])
        draws = values["num_draws"]
        _check_name("family", values["family"], FAMILIES)
        family = FAMILIES[values["family"]]
        _check_name("method", values["method"], dict.fromkeys((*family.methods, "closed_form")))
        _check_name("objective", values["objective"], OBJECTIVES)
        history = _numbers(values["history"])
        if not history.numel():
            # A list has no place for the shape of what it does not hold.
            history = history.new_empty(0, *target.batch_shape)
        found = cls(
            family=values["family"],
            method=values["method"],
            objective=values["objective"],
            target=target,
            parameters={name: _numbers(values["parameters"][name]) for name in family.parameters},
            start_probs=_numbers(values["start_probs"]),
            probs=_numbers(values["probs"]),
            num_draws=None if draws is None else whole_number("Fit", "num_draws", draws, minimum=1),
            history=history,
            converged=torch.tensor(values["converged"], dtype=torch.bool),
            seconds=float(values["seconds"]),
        )
        for probs in (found.start_probs, found.probs):
            check_probabilities("Fit", probs, normalized=True)
        law = found.distribution(1.0, torch.float64)
        shapes = {
            (*law.batch_shape, law.num_categories),
            tuple(target.probs.shape),
            tuple(found.probs.shape),
            tuple(found.start_probs.shape),
            (*found.converged.shape, target.num_categories),
            (*found.history.shape[1:], target.num_categories),
        }
        if len(shapes) > 1 or not history.dim():
            raise ValueError(f"its tensors are of {len(shapes)} different shapes")
        return found

    def save(self, path: str | Path) -> None:
        """Writes the fit as JSON, atomically.

        Raises:
            OSError: The file cannot be written.
        """
        atomic.write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The fit that :meth:`save` wrote.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds something else.
        """
        try:
            return cls._of_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except _NOT_A_FIT as error:
            raise ValueError(
                f"Fit.load: expected a file that Fit.save or igr prior wrote; got {path}, which is another "
                f"({error}); make it anew."
            ) from error

    def __repr__(self) -> str:
        def worst(value: Tensor) -> str:
            return f"{value.max().item():.2g}"

        batch = f", batch_shape={tuple(self.target.batch_shape)}" if self.target.batch_shape else ""
        failed = int((~self.converged).sum())
        state = "" if not failed else f", not converged: {failed} of {self.converged.numel()}"
        return (
            f"Fit({self.family} to {self.target.description}, num_categories={self.num_categories}{batch}, "
            f"method={self.method}, kl={worst(self.kl)}, total_variation={worst(self.total_variation)}, "
            f"tail={worst(self.tail)}, num_iterations={self.num_iterations}{state})"
        )


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
    _check_name("family", family, FAMILIES)
    _check_name("objective", objective, OBJECTIVES)
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
                parameters = {"logits": torch.log(_positive(law.probs))}
                start_probs, history = _law(family, start, None)[0], law.probs.new_empty(0, *law.batch_shape)
                converged = torch.ones(law.batch_shape, dtype=torch.bool)
            elif method == "newton":
                parameters, start_probs, history, converged = _by_newton(family, law, spread, objective)
            else:
                start = start_parameters(family, law.num_categories, spread, generator)
                if method == "relaxed":
                    probs_of = _relaxed_mean(family, tau, draws, generator)
                else:
                    probs_of = _exact_law(family, fits_scale)
                parameters, history = _by_adam(law.probs, start, probs_of, objective, steps, rate, fits_scale)
                start_probs = _law(family, start, generator)[0]
                converged = torch.isfinite(history).all(0)
            probs, num_draws = _law(family, parameters, generator)
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


def _by_newton(
    family: str, law: Target, scale: Tensor, objective: str
) -> tuple[Parameters, Tensor, Tensor, Tensor]:
    """Parameters, the law at the start, the history of the objective, and whether each law was reached."""
    count = law.num_categories
    goal, flat_scale = law.probs.reshape(-1, count), scale.reshape(-1, count - 1)
    space = FAMILIES[family].space
    seen: list[tuple[Tensor, Tensor]] = []
    first: list[Tensor] = []

    def observe(index: Tensor, found: Tensor) -> None:
        # Far from the target a probability may underflow, and the divergence must not be infinite for that.
        tiny = torch.finfo(found.dtype).tiny
        reached = torch.softmax(found, -1).clamp_min(tiny) if space is None else _normalized(found, space)
        if not first:
            first.append(reached)
        seen.append((index, OBJECTIVES[objective](goal[index], reached)))

    if space is None:
        loc, converged = newton_loc_for_probs(_positive(goal), flat_scale, observe)
    else:
        loc, converged = stick_loc_for_probs(goal, flat_scale, space == "length", observe)
    history = _history(seen, len(goal))
    return (
        {"loc": loc.view(scale.shape), "scale": scale},
        first[0].view(law.probs.shape),
        history.view(-1, *law.batch_shape),
        converged.view(law.batch_shape),
    )


def _normalized(found: Tensor, space: str) -> Tensor:
    """Probabilities as computed, without noise below zero and what belongs to a category that cannot win."""
    found = found.clamp_min(_SMALLEST)
    if space == "length":
        found = torch.cat([found[:, :-1], torch.zeros_like(found[:, -1:])], -1)
    return found / found.sum(-1, keepdim=True)


def _relaxed_mean(
    family: str, temperature: float, num_samples: int, generator: Generator | None
) -> Callable[[Parameters], Tensor]:
    """The mean of relaxed samples as a function of the parameters."""

    def mean(values: Parameters) -> Tensor:
        # Half the memory to pass over; the error of the mean is far above that of float32.
        law = relaxation(family, {name: value.float() for name, value in values.items()}, temperature)
        return law.rsample((num_samples,), generator).mean(0, dtype=torch.float64)

    return mean


def _exact_law(family: str, fit_scale: bool) -> Callable[[Parameters], Tensor]:
    """The exact law as a function of the parameters."""
    space = FAMILIES[family].space
    if space is None or fit_scale:
        return lambda values: relaxation(family, values, 1.0).discrete().probs
    # All slopes in loc come with the law for three times its price; torch's way back takes twenty.
    return lambda values: _StickLaw.apply(values["loc"], values["scale"], space)


class _StickLaw(torch.autograd.Function):
    """The law of the longest piece, with its slope in loc."""

    @staticmethod
    def forward(ctx: Any, loc: Tensor, scale: Tensor, space: str) -> Tensor:
        n = loc.shape[-1]
        law, jacobian = longest_piece_law_and_jacobian(
            loc.reshape(-1, n), scale.reshape(-1, n), space == "length"
        )
        ctx.save_for_backward(jacobian)
        return _normalized(law, space).view(*loc.shape[:-1], n + 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (jacobian,) = ctx.saved_tensors
        row = grad.reshape(len(jacobian), 1, -1).nan_to_num(0.0, 0.0, 0.0)
        return (row @ jacobian).view(*grad.shape[:-1], -1), None, None


def _history(seen: list[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """[T, N] from the values of some laws at a time; a law that is done keeps its last value."""
    rows: list[list[float]] = [[] for _ in range(count)]
    for index, values in seen:
        for law, value in zip(index.tolist(), values.tolist(), strict=True):
            rows[law].append(value)
    longest = max(map(len, rows))
    return torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows], dtype=torch.float64).mT


def _by_adam(
    probs: Tensor,
    start: Parameters,
    probs_of: Callable[[Parameters], Tensor],
    objective: str,
    num_iterations: int,
    learning_rate: float,
    fit_scale: bool,
) -> tuple[Parameters, Tensor]:
    """The parameters after so many steps, and the objective before each of them, [T, *B]."""
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    if "scale" in leaves:
        # The logarithm, so that every step keeps it positive.
        leaves["scale"] = start["scale"].log().requires_grad_(fit_scale)

    def values() -> Parameters:
        return {name: leaf.exp() if name == "scale" else leaf for name, leaf in leaves.items()}

    optimizer = torch.optim.Adam([leaf for leaf in leaves.values() if leaf.requires_grad], lr=learning_rate)
    history = []
    for _ in range(num_iterations):
        with torch.enable_grad():
            loss = OBJECTIVES[objective](probs, probs_of(values()))
            optimizer.zero_grad()
            # Adam moves every number for itself, so the laws of a batch do not meet in the sum.
            loss.sum().backward()
        history.append(loss.detach())
        for leaf in leaves.values():
            if leaf.grad is not None:
                # A law without a slope stays where it is, and is not converged.
                leaf.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimizer.step()
        _check_step(values(), learning_rate)
    return {name: value.detach().clone() for name, value in values().items()}, torch.stack(history)


def _check_step(values: Parameters, learning_rate: float) -> None:
    """ValueError where a step has left what a law can have."""
    lost = not all(bool(torch.isfinite(value).all()) for value in values.values())
    if lost or ("scale" in values and not bool((values["scale"] > 0).all())):
        raise ValueError(
            "fit: expected steps that keep all parameters finite, and scales positive; got others with "
            f"learning_rate {learning_rate:g}; lower it."
        )


def _law(family: str, parameters: Parameters, generator: Generator | None) -> tuple[Tensor, int | None]:
    """The discrete law, [*B, K], and the number of draws that it is estimated from, if it is."""
    law = relaxation(family, parameters, 1.0)
    if family == "igr-planar":
        estimate = law.discrete("monte_carlo", num_samples=_LAW_DRAWS, generator=generator)
        return estimate.probs, _LAW_DRAWS
    return law.discrete().probs, None


def _positive(probs: Tensor) -> Tensor:
    probs = probs.clamp_min(_SMALLEST)
    return probs / probs.sum(-1, keepdim=True)


def _numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _check_name(key: str, given: object, allowed: Mapping[str, object]) -> None:
    if not isinstance(given, str) or given not in allowed:
        text = given.lower() if isinstance(given, str) else ""
        near = difflib.get_close_matches(text, list(allowed), n=1)
        advice = f"; did you mean {near[0]}?" if near else "; choose one of these."
        raise ValueError(f"fit: expected {key} to be one of {', '.join(allowed)}; got {shown(given)}{advice}")


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
