"""The families of relaxations that can be fitted, each as a function of named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.distributions import Transform

from igr.distributions import GumbelSoftmax, InvertibleGaussian, SimplexRelaxation
from igr.kernels.gaussian_law_inverse import uniform_loc
from igr.kernels.stick_breaking_law_inverse import stick_loc_for_probs
from igr.transforms import LogisticStickBreakingTransform, PlanarFlow

__all__ = ["FAMILIES", "Family", "relaxation", "start_parameters"]

_NUM_LAYERS = 4


class Family(NamedTuple):
    """What :func:`igr.fitting.fit` knows of a family.

    Attributes:
        title: Its name as it stands in a table.
        parameters: The names of its tensors.
        methods: How it can be fitted, the default first.
        space: Of stick-breaking, ``"length"`` or ``"log"``.
    """

    title: str
    parameters: tuple[str, ...]
    methods: tuple[str, ...]
    space: str | None = None


_NORMAL = ("loc", "scale")
_EXACT = ("newton", "gradient", "relaxed")

FAMILIES = {
    "gumbel-softmax": Family("Gumbel-Softmax", ("logits",), ("closed_form", "gradient", "relaxed")),
    "igr": Family("IGR-I", _NORMAL, _EXACT),
    "igr-planar": Family("IGR-Planar", (*_NORMAL, "u", "w", "b"), ("relaxed",)),
    "igr-sb": Family("IGR-SB (lengths)", _NORMAL, _EXACT, "length"),
    "igr-sb-log": Family("IGR-SB (log lengths)", _NORMAL, _EXACT, "log"),
}


def relaxation(
    family: str, parameters: Mapping[str, Tensor], temperature: float | Tensor
) -> SimplexRelaxation:
    """The relaxation of these parameters."""
    if family == "gumbel-softmax":
        return GumbelSoftmax(temperature, logits=parameters["logits"])
    transform: Transform | None = None
    space = FAMILIES[family].space
    if space is not None:
        transform = LogisticStickBreakingTransform(space)
    elif family == "igr-planar":
        transform = PlanarFlow.from_tensors(*(parameters[name] for name in ("u", "w", "b")))
    return InvertibleGaussian(parameters["loc"], parameters["scale"], temperature, transform)


def start_parameters(
    family: str, num_categories: int, scale: Tensor, generator: Generator | None
) -> dict[str, Tensor]:
    """Parameters whose law is uniform, or as near as the family comes.

    That of IGR-I is so where scales are equal, and nearly so where not. In length space it is uniform over
    all categories but the last. The planar flow is drawn close to the identity, with IGR-I before it.

    Arguments:
        family: The family.
        num_categories: K.
        scale: float64, with shape :math:`(*B, K - 1)`, or :math:`(*B, K)` for logits.
        generator: The source of the planar flow; torch's default one if ``None``.
    """
    if family == "gumbel-softmax":
        return {"logits": torch.zeros_like(scale)}
    space = FAMILIES[family].space
    if space is not None:
        lengths = space == "length"
        goal = torch.full((num_categories,), 1.0 / (num_categories - lengths), dtype=torch.float64)
        if lengths:
            goal[-1] = 0.0
        flat = scale.reshape(-1, num_categories - 1)
        loc, _ = stick_loc_for_probs(goal.expand(len(flat), -1), flat, lengths)
        return {"loc": loc.view(scale.shape), "scale": scale}
    loc = uniform_loc(num_categories, 1.0) * scale
    if family == "igr":
        return {"loc": loc, "scale": scale}
    batch = scale.shape[:-1]
    flow = PlanarFlow(
        num_categories, _NUM_LAYERS, num_variables=batch.numel(), generator=generator, dtype=torch.float64
    )
    tensors = {
        name: torch.stack([getattr(layer, name).detach() for layer in flow.layers])
        for name in ("u", "w", "b")
    }
    shapes = {"u": scale.shape, "w": scale.shape, "b": batch}
    maps = {name: value.reshape(_NUM_LAYERS, *shapes[name]) for name, value in tensors.items()}
    return {"loc": loc, "scale": scale, **maps}
