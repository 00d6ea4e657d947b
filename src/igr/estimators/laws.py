"""The laws that an estimator takes, all brought to one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)

from igr.distributions import BinaryRelaxation, GumbelSoftmax, SimplexRelaxation
from igr.distributions.parameters import parameters_of, with_parameters
from igr.kernels.numbers import LOWEST_LOGARITHM


class Law(NamedTuple):
    """A law over vertices of the simplex, as a relaxation of it.

    Arguments:
        relaxation: With batch shape :math:`(*B, V)`.
        number: The category whose weight is the number that a point stands for; ``None`` where it stands for
            itself.
        has_temperature: Whether the relaxation has a temperature of its own, or one that means nothing.
    """

    relaxation: SimplexRelaxation
    number: int | None
    has_temperature: bool

    def points(self, points: Tensor) -> Tensor:
        """Points as the user's function takes them."""
        return points if self.number is None else points[..., self.number]

    def log_probs(self) -> Tensor:
        """Normalized log-probabilities of the categories, with shape :math:`(*B, V, K)`.

        Of a category that is never taken it is a number far below all others, without gradient.
        """
        return self.relaxation.discrete().exact_logits.clamp_min(LOWEST_LOGARITHM)


def law_of(owner: str, distribution: Distribution) -> Law:
    """What a user gave as a law.

    Raises:
        TypeError: It is no law that an estimator takes.
        ValueError: It has no dimension for variables.
    """
    law = _law_of(owner, distribution)
    if not law.relaxation.batch_shape:
        raise ValueError(
            f"{owner}: expected a distribution with batch shape (*B, V), V being the number of "
            "variables; got an empty one; add a dimension of size 1 to its parameters."
        )
    return law


def leaves_of(distribution: Distribution) -> dict[str, Tensor]:
    """Copies of the parameters, by name."""
    if isinstance(distribution, Independent):
        return leaves_of(distribution.base_dist)
    if isinstance(distribution, SimplexRelaxation | BinaryRelaxation):
        return parameters_of(distribution)
    return {"logits": distribution.logits.detach().clone()}  # type: ignore[attr-defined]


def with_leaves(owner: str, distribution: Distribution, leaves: Mapping[str, Tensor]) -> Distribution:
    """The distribution with other parameters, whose batch shape may have dimensions in front."""
    if isinstance(distribution, Independent):
        return with_leaves(owner, distribution.base_dist, leaves)
    if isinstance(distribution, SimplexRelaxation | BinaryRelaxation):
        return with_parameters(owner, distribution, leaves, distribution.temperature)
    if isinstance(distribution, RelaxedBernoulli):
        return RelaxedBernoulli(distribution.temperature, logits=leaves["logits"], validate_args=False)
    if isinstance(distribution, RelaxedOneHotCategorical):
        return RelaxedOneHotCategorical(
            distribution.temperature, logits=leaves["logits"], validate_args=False
        )
    if isinstance(distribution, OneHotCategorical):
        # Of a DiscreteLaw too, whose own arguments are others.
        return OneHotCategorical(logits=leaves["logits"], validate_args=False)
    made: Distribution = type(distribution)(logits=leaves["logits"], validate_args=False)  # type: ignore[call-arg]
    return made


def _law_of(owner: str, distribution: Distribution) -> Law:
    if isinstance(distribution, SimplexRelaxation):
        return Law(distribution, number=None, has_temperature=True)
    if isinstance(distribution, BinaryRelaxation):
        return Law(distribution.as_simplex(), number=0, has_temperature=True)
    if isinstance(distribution, Independent) and distribution.reinterpreted_batch_ndims == 1:
        return _law_of(owner, distribution.base_dist)
    if isinstance(distribution, RelaxedOneHotCategorical):
        relaxation = GumbelSoftmax(distribution.temperature, logits=distribution.logits, validate_args=False)
        return Law(relaxation, number=None, has_temperature=True)
    if isinstance(distribution, OneHotCategorical):
        relaxation = GumbelSoftmax(1.0, logits=distribution.logits, validate_args=False)
        return Law(relaxation, number=None, has_temperature=False)
    if isinstance(distribution, Bernoulli | RelaxedBernoulli):
        logits = torch.stack([torch.zeros_like(distribution.logits), distribution.logits], dim=-1)
        is_relaxed = isinstance(distribution, RelaxedBernoulli)
        temperature = distribution.temperature if isinstance(distribution, RelaxedBernoulli) else 1.0
        return Law(GumbelSoftmax(temperature, logits=logits, validate_args=False), 1, is_relaxed)
    raise TypeError(
        f"{owner}: expected a SimplexRelaxation or BinaryRelaxation, or of torch a OneHotCategorical, "
        f"RelaxedOneHotCategorical, Bernoulli or RelaxedBernoulli; got {type(distribution).__name__}."
    )
