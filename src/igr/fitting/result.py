"""What a fit found, to and from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from igr import atomic
from igr.distributions import SimplexRelaxation
from igr.errors import cut, shown
from igr.fitting.families import FAMILIES, relaxation
from igr.fitting.objectives import OBJECTIVES
from igr.fitting.targets import Target, numbers_of
from igr.validation import check_name, check_probabilities, whole_number

__all__ = ["Fit"]

_FORMAT = 1
_NOT_A_FIT = (KeyError, TypeError, ValueError, OverflowError, RecursionError)


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

        With shape :math:`(*B)`. Of an estimated law, in which a category may never have come up, half a draw
        is added to each.
        """
        return OBJECTIVES["kl"](self.target.probs, self._smoothed()).clamp_min(0.0)

    @property
    def reverse_kl(self) -> Tensor:
        r""":math:`KL(q \| p)`, in nats; infinite where the law reaches a category that the target has not.

        With shape :math:`(*B)`.
        """
        return OBJECTIVES["reverse_kl"](self.target.probs, self._smoothed()).clamp_min(0.0)

    @property
    def total_variation(self) -> Tensor:
        r""":math:`\frac{1}{2} \sum_k |p_k - q_k|` with the whole of the given law, its tail included.

        With shape :math:`(*B)`. Of an estimated law that is too large by about half the sum of the standard
        errors.
        """
        kept = (1.0 - self.tail).unsqueeze(-1) * self.target.probs
        return 0.5 * ((kept - self.probs).abs().sum(-1) + self.tail)

    @property
    def standard_error(self) -> Tensor | None:
        """Of :attr:`probs` where they are an estimate, in their shape; ``None`` where they are exact."""
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
            temperature: Its temperature, a float or a tensor that broadcasts against :math:`(*B)`; it has no
                part in the discrete law.
            dtype: The dtype of its parameters; torch's default one if ``None``.
            device: The device of its parameters; the CPU if ``None``.

        Raises:
            TypeError: unless the temperature is a number or a tensor.
            ValueError: for a temperature that is not positive and finite, or does not broadcast.
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
                f"Fit.from_json: expected a whole fit; got one that does not fit ({cut(error)}); pass what "
                "to_json() returned."
            ) from error

    @classmethod
    def _of_json(cls, values: Any) -> Self:
        if not isinstance(values, Mapping):
            raise TypeError(f"a {type(values).__name__}, no dict")
        if values.get("format") != _FORMAT:
            raise ValueError(f"format {shown(values.get('format'))} instead of {_FORMAT}")
        target = Target.from_json(values["target"])
        draws = values["num_draws"]
        check_name("Fit", "family", values["family"], FAMILIES)
        family = FAMILIES[values["family"]]
        check_name("Fit", "method", values["method"], (*family.methods, "closed_form"))
        check_name("Fit", "objective", values["objective"], OBJECTIVES)
        history = numbers_of(values["history"])
        if not history.numel():
            # A list has no place for the shape of what it does not hold.
            history = history.new_empty(0, *target.batch_shape)
        found = cls(
            family=values["family"],
            method=values["method"],
            objective=values["objective"],
            target=target,
            parameters={name: numbers_of(values["parameters"][name]) for name in family.parameters},
            start_probs=numbers_of(values["start_probs"]),
            probs=numbers_of(values["probs"]),
            num_draws=None if draws is None else whole_number("Fit", "num_draws", draws, minimum=1),
            history=history,
            converged=numbers_of(values["converged"], torch.bool),
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
                f"({cut(error)}); make it anew."
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
