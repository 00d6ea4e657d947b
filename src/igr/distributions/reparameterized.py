"""What every law of the library is: a distribution that is pure given its noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from igr import reprs
from igr.kernels import fused as fused_draws
from igr.kernels import simplex
from igr.kernels.tracing import is_traced
from igr.validation import check_float_tensor, compute_dtype


class Reparameterized(Distribution, ABC):
    """A distribution whose points are a function of its parameters and of base noise.

    The base of :class:`~igr.SimplexRelaxation` and of :class:`~igr.BinaryRelaxation`. The noise and what is
    computed of it are float32 or float64; results have the :attr:`dtype` of the parameters.

    Arguments:
        batch_shape: The batch shape.
        event_shape: The event shape.
        temperature: A float or a tensor that broadcasts against the batch.
        validate_args: Whether values given to methods are checked; those given to the constructor are its own
            to check.
    """

    has_rsample = True

    def __init__(
        self,
        *,
        batch_shape: Size,
        event_shape: Size,
        temperature: float | Tensor,
        validate_args: bool,
    ) -> None:
        self._temperature = temperature
        # Torch's own check of the arguments is replaced by ours, which names what came.
        super().__init__(batch_shape, event_shape, validate_args=False)
        self._validate_args = validate_args

    # What a law states.

    @property
    @abstractmethod
    def noise_shape(self) -> Size:
        """The shape of the noise of one draw of one variable."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters and of every result."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the parameters."""

    @abstractmethod
    def with_temperature(self, temperature: float | Tensor) -> Self:
        r"""The same distribution at another temperature.

        Arguments:
            temperature: :math:`\tau > 0`, a float or a tensor that broadcasts against the batch :math:`(*B)`.

        Raises:
            TypeError: unless the temperature is a number or a tensor.
            ValueError: for a temperature that is not positive and finite, or does not broadcast.
        """

    @abstractmethod
    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """A view with another batch shape, as for every torch distribution.

        Arguments:
            batch_shape: The new batch shape, to which the batch shape :math:`(*B)` broadcasts.

        Raises:
            RuntimeError: if it does not.
        """

    @abstractmethod
    def vertex(self, noise: Tensor) -> Tensor:
        """The hard point of that noise, a draw of the discrete law, without gradient.

        Shapes:
            Noise as :meth:`draw_noise` gives it, result :math:`(*S, *B)` and the event shape.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """

    @abstractmethod
    def _draw(self, shape: Size, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
        """Base noise of the given full shape."""

    @abstractmethod
    def _sample(self, noise: Tensor) -> Tensor:
        """Points [*, *event] from noise [*] + noise_shape."""

    def _fused_draw(self) -> fused_draws.Draw | str:
        """What one kernel draws, for the laws that have one, or the reason against it, to follow "got"."""
        return f"a {type(self).__name__}, which has no kernel"

    # What follows.

    @property
    def temperature(self) -> float | Tensor:
        """The temperature as it was given; a tensor broadcasts against the batch."""
        return self._temperature

    def draw_noise(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws base noise: the only random step.

        Arguments:
            sample_shape: The shape :math:`(*S)` of independent draws.
            generator: The source of randomness; torch's default one if ``None``.

        Returns:
            Tensor with shape :math:`(*S, *B)` + :attr:`noise_shape`; float32 for half-precision parameters.
        """
        shape = Size(sample_shape) + self._batch_shape + self.noise_shape
        return self._draw(shape, compute_dtype(self.dtype), generator)

    def rsample(
        self,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        fused: bool | None = None,
    ) -> Tensor:
        """Points of the support, differentiable in every parameter.

        On a GPU a large draw is one kernel, where there is one for the law: differentiable once, in the
        parameters alone, with noise of its own, which the generator seeds and which is never stored. The same
        state of the generator then gives the same points, but not those of ``noise=draw_noise(...)``;
        ``fused=False`` gives these.

        Arguments:
            sample_shape: The shape :math:`(*S)` of independent draws; not needed where noise is given.
            generator: The source of randomness where no noise is given.
            noise: Base noise as :meth:`draw_noise` returns it.
            fused: Whether one kernel draws; if ``None``, wherever it can and pays.

        Shapes:
            Result :math:`(*S, *B)` and the event shape.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives, or for
                ``fused=True`` where no kernel can draw.
        """
        draw = self._chosen_draw(sample_shape, noise, fused)
        if draw is not None:
            return fused_draws.sample(draw, sample_shape, generator)[0]
        return self._sample(self._noise(sample_shape, generator, noise)).to(self.dtype)

    def sample(
        self,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """:meth:`rsample` without gradient.

        Arguments and errors are those of :meth:`rsample`.

        Shapes:
            Result :math:`(*S, *B)` and the event shape.
        """
        with torch.no_grad():
            return self.rsample(sample_shape, generator, noise)

    def straight_through(self, noise: Tensor) -> Tensor:
        """The hard point of that noise, exactly, with the gradient of the relaxed one.

        What ``hard=True`` does in :func:`igr.functional.gumbel_softmax`: a draw of the discrete law whose
        gradient is biased.

        Arguments:
            noise: Base noise as :meth:`draw_noise` returns it.

        Shapes:
            Result :math:`(*S, *B)` and the event shape.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.

        References:
            Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), section 2.2

        Example:
            >>> from igr import InvertibleGaussian
            >>> loc = torch.tensor([0.5, -1.0], requires_grad=True)
            >>> law = InvertibleGaussian(loc, 1.0, temperature=0.5)
            >>> law.straight_through(torch.tensor([0.0, 2.0]))
            tensor([0., 1., 0.], grad_fn=<AddBackward0>)
        """
        return simplex.straight_through(self.vertex(noise), self.rsample(noise=noise))

    def entropy(self) -> Tensor:
        """Not to be had: no relaxation has a differential entropy (in nats, :math:`(*B)`) in closed form.

        Raises:
            NotImplementedError: always; the message names the two numbers that one may want instead.
        """
        raise NotImplementedError(
            f"entropy: no closed form is known for {self!r}; that of the discrete law is "
            "discrete().entropy(); estimate the differential one as minus the mean of log-densities of "
            "rsample_and_log_prob."
        )

    @property
    def variance(self) -> Tensor:
        """Not to be had, but for an estimate; it would have the shape of a point.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"variance: no quadrature is known for {self!r}; take the variance of draws, by rsample."
        )

    def _chosen_draw(
        self, sample_shape: Sequence[int], noise: Tensor | None, fused: bool | None
    ) -> fused_draws.Draw | None:
        """What one kernel is to draw; ``None`` for plain operations."""
        if fused is None and (noise is not None or self.device.type != "cuda" or is_traced()):
            return None
        draw = self._fused_draw() if noise is None else "noise that is given"
        return fused_draws.chosen(type(self).__name__, fused, draw, sample_shape)

    def _noise(
        self,
        sample_shape: Sequence[int],
        generator: torch.Generator | None,
        noise: Tensor | None,
    ) -> Tensor:
        if noise is None:
            return self.draw_noise(sample_shape, generator)
        check_float_tensor(type(self).__name__, "noise", noise)
        per_draw = self._batch_shape + self.noise_shape
        drawn = noise.shape[: max(0, noise.dim() - len(per_draw))]
        free = len(sample_shape) == 0
        if noise.shape != drawn + per_draw or not (free or drawn == Size(sample_shape)):
            wanted = ", ".join(str(n) for n in (*(["*S"] if free else sample_shape), *per_draw))
            raise ValueError(
                f"{type(self).__name__}: expected noise of shape ({wanted}), as draw_noise returns it; "
                f"got {tuple(noise.shape)}."
            )
        return noise.to(compute_dtype(self.dtype))

    def _common_dtype(self, value: Tensor) -> torch.dtype:
        return torch.promote_types(compute_dtype(self.dtype), compute_dtype(value.dtype))

    def _expanded(self, batch_shape: Sequence[int], instance: Any, *names: str) -> Any:
        """A copy whose named parameters have the batch shape; the temperature broadcasts as it is."""
        new = self._get_checked_instance(type(self), instance)
        new.__dict__.update(self.__dict__)
        for name in names:
            value: Tensor = getattr(self, name)
            own = value.shape[len(self._batch_shape) :]
            setattr(new, name, value.expand(Size(batch_shape) + own))
        new._batch_shape = Size(batch_shape)
        return new

    def __repr__(self) -> str:
        return reprs.call(type(self).__name__, *self._forms())

    def _forms(self) -> Iterator[list[str]]:
        """What the law says of itself, from the most telling form to the shortest."""
        yield [f"batch_shape={tuple(self._batch_shape)}", reprs.setting("temperature", self._temperature)]
