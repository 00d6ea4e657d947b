"""Temperatures over time, for training that starts smooth and ends near the vertices."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, SupportsIndex

from igr.errors import shown
from igr.validation import check_values, real_number, whole_number

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "LinearSchedule",
    "TemperatureSchedule",
]


class TemperatureSchedule(ABC):
    r"""A temperature for every step of training.

    :meth:`at` gives the temperature of any step and changes nothing; :attr:`value` is that of the current
    step, and :meth:`step` goes on to the next one, as the schedulers of learning rates in torch do. A value
    is computed from the number of the step in closed form, never from the value before it, so a run that
    was killed goes on with the same numbers to the last bit:

    .. code-block:: python

        for batch in batches:
            law = igr.GumbelSoftmax(schedule.value, logits=encoder(batch))
            ...
            schedule.step()
        state = schedule.state_dict()  # plain numbers and text, to be kept with the model's

    Values are Python floats, each of which ``torch.compile`` takes for a constant; give a compiled function
    ``torch.tensor(schedule.value)`` instead, or it is compiled again at every step.

    To implement one:
        1. Call ``super().__init__()`` and give :attr:`settings`, all that two equal schedules share: plain
           numbers, text, or None.
        2. Implement ``_at``, a function of the step and the settings alone.
    """

    def __init__(self) -> None:
        self._step = 0

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments that it was made with, by name."""

    @abstractmethod
    def _at(self, step: int) -> float:
        """The temperature of a step, which is at least 0."""

    def at(self, step: SupportsIndex) -> float:
        """The temperature of any step, whatever the current one is.

        Arguments:
            step: The number of the step, an int of at least 0.

        Raises:
            TypeError: unless the step is an int.
            ValueError: for a step below 0.
        """
        return self._at(whole_number(type(self).__name__, "step", step, minimum=0))

    def __call__(self, step: SupportsIndex) -> float:
        """:meth:`at`."""
        return self.at(step)

    @property
    def current_step(self) -> int:
        """How often :meth:`step` has been called, in this run and the one that it goes on from."""
        return self._step

    @property
    def value(self) -> float:
        """The temperature of the current step."""
        return self._at(self._step)

    def step(self) -> None:
        """Goes on to the next step."""
        self._step += 1

    def state_dict(self) -> dict[str, Any]:
        """The current step, with the class and the settings that it belongs to: ready for JSON."""
        return {"schedule": type(self).__name__, "settings": self.settings, "step": self._step}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on from the step of a state, if it is one of an equal schedule; otherwise changes nothing.

        Arguments:
            state_dict: What :meth:`state_dict` returned, before or after a way through JSON.

        Raises:
            TypeError: unless the state is a mapping, and its step an int.
            ValueError: for the state of another class or of other settings, a step below 0, or a mapping
                that is no state of a schedule.
        """
        owner = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{owner}: expected state_dict to be a dict; got {type(state_dict).__name__}; pass what "
                "state_dict() returned."
            )
        keys = {"schedule", "settings", "step"}
        if set(state_dict) != keys or not isinstance(state_dict["settings"], Mapping):
            raise ValueError(
                f"{owner}: expected a dict with the keys schedule, settings and step; got "
                f"{shown(state_dict)}; pass what state_dict() returned."
            )
        if (state_dict["schedule"], state_dict["settings"]) != (type(self).__name__, self.settings):
            raise ValueError(
                f"{owner}: expected the state of {self!r}; got that of "
                f"{_call(state_dict['schedule'], state_dict['settings'])}; build the schedule as it was in "
                "the run that goes on."
            )
        self._step = whole_number(owner, "step", state_dict["step"], minimum=0)

    def __repr__(self) -> str:
        return _call(type(self).__name__, self.settings)


class ConstantSchedule(TemperatureSchedule):
    """The same temperature at every step, for code that takes a schedule.

    Arguments:
        temperature: The temperature.

    Raises:
        TypeError: unless the temperature is a number.
        ValueError: unless it is positive and finite.

    Example:
        >>> schedule = ConstantSchedule(0.5)
        >>> schedule.at(0), schedule.at(1000)
        (0.5, 0.5)
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = _positive(type(self).__name__, "temperature", temperature)

    @property
    def settings(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def _at(self, step: int) -> float:
        return self.temperature


class _Annealing(TemperatureSchedule):
    """From one temperature to another over some steps, then held; both ends are exact."""

    def __init__(self, start: float, end: float, num_steps: int) -> None:
        super().__init__()
        owner = type(self).__name__
        self.start = _positive(owner, "start", start)
        self.end = _positive(owner, "end", end)
        self.num_steps = whole_number(owner, "num_steps", num_steps, minimum=1)

    @property
    def settings(self) -> dict[str, Any]:
        return {"start": self.start, "end": self.end, "num_steps": self.num_steps}

    @abstractmethod
    def _between(self, fraction: float) -> float:
        """The temperature after a fraction of the steps, between 0 and 1 and neither."""

    def _at(self, step: int) -> float:
        if step == 0:
            return self.start
        if step >= self.num_steps:
            return self.end
        # Rounding could lead past the ends by a unit in the last place.
        low, high = sorted((self.start, self.end))
        return min(max(self._between(step / self.num_steps), low), high)


class ExponentialSchedule(_Annealing):
    r"""The same factor at every step: :math:`\tau_t = \tau_0 \, (\tau_T / \tau_0)^{t / T}`, then held.

    The annealing of Jang et al., :math:`\max(\tau_T, e^{-r t})` with a rate r, is the one from 1 that takes
    :math:`T = -\log(\tau_T) / r` steps: ``ExponentialSchedule(1.0, end, math.ceil(-math.log(end) / rate))``.

    Arguments:
        start: :math:`\tau_0`, the temperature of step 0.
        end: :math:`\tau_T`, that of step ``num_steps`` and of all later ones; above or below start.
        num_steps: T, the number of steps from start to end.

    Raises:
        TypeError: unless start and end are numbers and num_steps is an int.
        ValueError: unless start and end are positive and finite and num_steps is at least 1.

    References:
        Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), section 4

    Example:
        >>> schedule = ExponentialSchedule(1.0, 0.01, num_steps=2)
        >>> for _ in range(4):
        ...     print(f"{schedule.value:.2f}")
        ...     schedule.step()
        1.00
        0.10
        0.01
        0.01
        >>> schedule.state_dict()["step"]
        4
    """

    def _between(self, fraction: float) -> float:
        # Of the logarithms, since the ratio of two numbers may be none.
        return math.exp((1.0 - fraction) * math.log(self.start) + fraction * math.log(self.end))


class LinearSchedule(_Annealing):
    r"""The same difference at every step: :math:`\tau_t = \tau_0 + (\tau_T - \tau_0) \, t / T`, then held.

    Arguments:
        start: :math:`\tau_0`, the temperature of step 0.
        end: :math:`\tau_T`, that of step ``num_steps`` and of all later ones; above or below start.
        num_steps: T, the number of steps from start to end.

    Raises:
        TypeError: unless start and end are numbers and num_steps is an int.
        ValueError: unless start and end are positive and finite and num_steps is at least 1.

    Example:
        >>> schedule = LinearSchedule(1.0, 0.5, num_steps=4)
        >>> [schedule.at(step) for step in range(6)]
        [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """

    def _between(self, fraction: float) -> float:
        return (1.0 - fraction) * self.start + fraction * self.end


class CosineSchedule(_Annealing):
    r"""Slow at both ends: :math:`\tau_t = \tau_T + (\tau_0 - \tau_T) \cos^2 \frac{\pi t}{2 T}`, then held.

    Arguments:
        start: :math:`\tau_0`, the temperature of step 0.
        end: :math:`\tau_T`, that of step ``num_steps`` and of all later ones; above or below start.
        num_steps: T, the number of steps from start to end.

    Raises:
        TypeError: unless start and end are numbers and num_steps is an int.
        ValueError: unless start and end are positive and finite and num_steps is at least 1.

    References:
        SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov and Hutter, 2017), equation 5, for
        learning rates

    Example:
        >>> schedule = CosineSchedule(1.0, 0.2, num_steps=4)
        >>> [round(schedule.at(step), 3) for step in range(6)]
        [1.0, 0.883, 0.6, 0.317, 0.2, 0.2]
    """

    def _between(self, fraction: float) -> float:
        weight = math.cos(0.5 * math.pi * fraction) ** 2
        return weight * self.start + (1.0 - weight) * self.end


def _positive(owner: str, name: str, value: object) -> float:
    number = real_number(owner, name, value)
    check_values(owner, name, number, positive=True)
    return number


def _call(name: object, settings: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"
