"""A relaxation with other parameters: for gradients of many draws at once, or in another precision."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from igr.distributions.relaxation import SimplexRelaxation
from igr.distributions.reparameterized import Reparameterized
from igr.validation import compute_dtype

_Law = TypeVar("_Law", bound=Reparameterized)


def parameters_of(law: Reparameterized) -> dict[str, Tensor]:
    """Copies of the parameters in the precision of the computation, which ask for no gradient."""
    dtype = compute_dtype(law.dtype)
    return {name: getattr(law, name).detach().to(dtype, copy=True) for name in law.arg_constraints}


def with_parameters(
    owner: str, law: _Law, parameters: Mapping[str, Tensor], temperature: float | Tensor
) -> _Law:
    """The law with other parameters, of any batch shape that its settings broadcast against.

    Settings are the other arguments of the constructor that the law keeps or every relaxation has; thus not
    the probabilities, which Gumbel-Softmax derives from its logits.
    """
    arguments: dict[str, Any] = {**parameters, "temperature": temperature}
    for name, argument in inspect.signature(type(law)).parameters.items():
        if name in arguments:
            continue
        if name in vars(law) or hasattr(SimplexRelaxation, name):
            arguments[name] = getattr(law, name)
        elif name == "validate_args":
            arguments[name] = False
        elif argument.default is argument.empty:
            raise TypeError(
                f"{owner}: expected a law that keeps the arguments of its constructor as attributes; got "
                f"{type(law).__name__} without {name!r}; set it in the constructor."
            )
    return type(law)(**arguments)
