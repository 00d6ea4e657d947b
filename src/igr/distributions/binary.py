"""Binary Concrete and the IGR over two categories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Transform, constraints

from igr import reprs, validation
from igr.distributions.binary_relaxation import BinaryRelaxation
from igr.distributions.gumbel_softmax import GumbelSoftmax
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.pre_image import call_and_log_det, maps_onto_all, name_of, on_vectors
from igr.kernels import binary
from igr.kernels.noise import standard_logistic, standard_normal
from igr.kernels.normal import log_normal_density
from igr.kernels.tracing import is_traced
from igr.transforms import LogisticStickBreakingTransform


class BinaryConcrete(BinaryRelaxation):
    r"""The binary Concrete law, Gumbel-Softmax over two categories: a sigmoid of a logit and logistic noise.

    .. math::
        z = \mathrm{sigmoid}((l + \epsilon) / \tau), \quad \epsilon \sim \mathrm{Logistic}(0, 1)

    z is more than a half with probability :math:`\mathrm{sigmoid}(l)`, at every temperature. As
    :math:`\tau \to 0` z rounds to zero or one, where the density of ``torch.distributions.RelaxedBernoulli``
    is that of a number held 1e-7 away; :meth:`rsample_and_log_prob` stays exact.

    Arguments:
        temperature: :math:`\tau > 0`, a float or a tensor that broadcasts against the batch.
        logits: :math:`l`, the log-odds of a one, with shape :math:`(*)`.
        probs: The probability of a one instead, with shape :math:`(*)`. Zero and one become the smallest
            normal number and one less half a grain, so that all stays finite.
        validate_args: Whether to check the values of arguments; torch's global default if ``None``.

    Raises:
        ValueError: unless exactly one of logits and probs is given, shapes broadcast, logits are finite,
            probabilities between zero and one and the temperature is positive (and not below 1e-31, or
            1e-292 in float64).
        TypeError: unless logits or probs is a floating-point tensor, and the temperature a number or a
            tensor.

    References:
        The Concrete Distribution (Maddison, Mnih and Teh, 2017), appendix B

    Example:
        >>> law = BinaryConcrete(0.5, probs=torch.tensor([0.2, 0.7]))
        >>> z = law.rsample((4,), generator=torch.Generator().manual_seed(0))
        >>> z.shape, law.log_prob(z).shape
        (torch.Size([4, 2]), torch.Size([4, 2]))
        >>> law.discrete().probs[..., 0]
        tensor([0.2000, 0.7000])
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012 (torch reads it from the class)

    def __init__(
        self,
        temperature: float | Tensor,
        logits: Tensor | None = None,
        probs: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        owner = type(self).__name__
        name, parameter = validation.logits_or_probs(owner, logits, probs)
        checked = self._validate_args if validate_args is None else validate_args
        validation.check_number_or_tensor(owner, "temperature", temperature)
        batch_shape = validation.broadcast_batch(
            owner, **{name: parameter.shape}, temperature=validation.shape_of(temperature)
        )
        if checked:
            validation.check_temperature(owner, "temperature", temperature, parameter.dtype)
            validation.check_values(owner, name, parameter)
            if (
                probs is not None
                and not is_traced()
                and not bool(constraints.unit_interval.check(probs).all())
            ):
                bad = probs[~constraints.unit_interval.check(probs)].flatten()[0].item()
                raise ValueError(f"{owner}: expected probs between 0 and 1; got {bad!r}.")
        if probs is not None:
            parameter = binary.logit_of(probs.to(validation.compute_dtype(probs.dtype))).to(probs.dtype)
        self.logits = _as(parameter, batch_shape, parameter.dtype)
        super().__init__(batch_shape=batch_shape, temperature=temperature, validate_args=checked)

    @property
    def probs(self) -> Tensor:
        """The probability that z is more than a half, with shape :math:`(*B)`."""
        return torch.sigmoid(self.logits)

    @property
    def dtype(self) -> torch.dtype:
        return self.logits.dtype

    @property
    def device(self) -> torch.device:
        return self.logits.device

    def with_temperature(self, temperature: float | Tensor) -> Self:
        return type(self)(temperature, logits=self.logits, validate_args=self._validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        return self._expanded(batch_shape, _instance, "logits")

    def as_simplex(self) -> GumbelSoftmax:
        logits = torch.stack([self.logits, torch.zeros_like(self.logits)], dim=-1)
        return GumbelSoftmax(self._temperature, logits=logits, validate_args=False)

    def _forms(self) -> Iterator[list[str]]:
        temperature = reprs.setting("temperature", self._temperature)
        if reprs.is_small(self.logits):
            with torch.no_grad():
                yield [f"probs={reprs.numbers(self.probs.tolist())}", temperature]
        batch_shape = f"batch_shape={tuple(self._batch_shape)}"
        yield [batch_shape, reprs.spread("logits", self.logits), temperature]
        yield from super()._forms()

    def _draw(self, shape: Size, dtype: torch.dtype, generator: Generator | None) -> Tensor:
        return standard_logistic(shape, dtype=dtype, device=self.device, generator=generator)

    def _scores(self, noise: Tensor) -> Tensor:
        return self.logits.to(noise.dtype) + noise

    def _scores_and_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self._scores(noise), -binary.spread(noise)

    def _density_of_scores(self, scores: Tensor) -> Tensor:
        return -binary.spread(scores - self.logits.to(scores.dtype))


class BinaryInvertibleGaussian(BinaryRelaxation):
    r"""The IGR over two categories: a sigmoid of a Gaussian, or of an invertible map of one.

    .. math::
        z = \mathrm{sigmoid}(T(y) / \tau), \quad y = \mu + \sigma \epsilon, \quad \epsilon \sim N(0, 1)

    Without a transform z is logit-normal, z is more than a half with probability
    :math:`\Phi(\mu / \sigma)` at every temperature, and KL divergences are in closed form, also across
    temperatures. With one z is more than a half where :math:`T(y) > 0`, and that law is exact too. The
    :math:`\delta` of :class:`~igr.InvertibleGaussian` would be a shift of :math:`T(y)`, so there is none.

    There is no binary IGR-SB: with two categories there is one stick, whose length, between zero and one, is
    always the larger of it and the zero that it is measured against, so that z is more than a half whatever
    the parameters are; and in log space breaking the stick changes nothing and leaves this law.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*)`.
        scale: :math:`\sigma > 0`, a float or a tensor that broadcasts against loc.
        temperature: :math:`\tau > 0`, a float or a tensor that broadcasts against the batch.
        transform: :math:`T`, a torch Transform that maps the real line onto itself one to one, of numbers or
            of vectors of one number (such as a :class:`~igr.PlanarFlow` with ``num_categories=2``: the planar
            form); ``None`` for the identity.
        validate_args: Whether to check the values of arguments; torch's global default if ``None``.

    Raises:
        ValueError: for values that are not finite (or not positive where they must be), a temperature below
            1e-31 (1e-292 in float64), shapes that do not broadcast, or a transform that is no such map,
            stick-breaking among them.
        TypeError: unless loc is a floating-point tensor, and scale and temperature are numbers or tensors.

    References:
        Invertible Gaussian Reparameterization: Revisiting the Gumbel-Softmax
        (Potapczynski, Loaiza-Ganem and Cunningham, 2020), section 3

    Example:
        >>> law = BinaryInvertibleGaussian(torch.tensor([0.5, -1.0]), 1.0, temperature=0.1)
        >>> z = law.rsample((4,), generator=torch.Generator().manual_seed(0))
        >>> z.shape, law.log_prob(z).shape
        (torch.Size([4, 2]), torch.Size([4, 2]))
        >>> law.discrete().probs[..., 0]
        tensor([0.6915, 0.1587])
    """

    arg_constraints = {  # noqa: RUF012 (torch reads it from the class)
        "loc": constraints.real,
        "scale": constraints.positive,
    }

    def __init__(
        self,
        loc: Tensor,
        scale: float | Tensor,
        temperature: float | Tensor,
        transform: Transform | None = None,
        validate_args: bool | None = None,
    ) -> None:
        owner = type(self).__name__
        checked = self._validate_args if validate_args is None else validate_args
        validation.check_float_tensor(owner, "loc", loc)
        for name, value in (("scale", scale), ("temperature", temperature)):
            validation.check_number_or_tensor(owner, name, value)
        batch_shape = validation.broadcast_batch(
            owner,
            loc=loc.shape,
            scale=validation.shape_of(scale),
            temperature=validation.shape_of(temperature),
        )
        if checked:
            validation.check_values(owner, "loc", loc)
            validation.check_values(owner, "scale", scale, positive=True)
            validation.check_temperature(owner, "temperature", temperature, loc.dtype)
        dtype = loc.dtype
        if not isinstance(scale, Tensor):
            scale = loc.new_full((), float(scale))
        elif scale.dim() == 0:  # like a number, it sets neither dtype nor device
            scale = scale.to(loc.device, dtype)
        else:
            dtype = torch.promote_types(dtype, scale.dtype)
        self._transform = None if transform is None else _onto_itself(owner, transform, batch_shape)
        self.transform = transform
        self.loc = _as(loc, batch_shape, dtype)
        self.scale = _as(scale, batch_shape, dtype)
        super().__init__(batch_shape=batch_shape, temperature=temperature, validate_args=checked)

    @property
    def dtype(self) -> torch.dtype:
        return self.loc.dtype

    @property
    def device(self) -> torch.device:
        return self.loc.device

    def with_temperature(self, temperature: float | Tensor) -> Self:
        return type(self)(self.loc, self.scale, temperature, self.transform, self._validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        return self._expanded(batch_shape, _instance, "loc", "scale")

    def as_simplex(self) -> InvertibleGaussian:
        return InvertibleGaussian(
            self.loc.unsqueeze(-1),
            self.scale.unsqueeze(-1),
            self._temperature,
            self._transform,
            validate_args=False,
        )

    def pre_image(self, noise: Tensor) -> Tensor:
        r"""The Gaussian point :math:`y = \mu + \sigma\epsilon`, in float32 for half-precision parameters.

        Shapes:
            Noise as :meth:`draw_noise` gives it, result :math:`(*S, *B)`.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        return self._pre_image(self._noise((), None, noise))

    def _pre_image(self, noise: Tensor) -> Tensor:
        return torch.addcmul(self.loc.to(noise.dtype), self.scale.to(noise.dtype), noise)

    def _draw(self, shape: Size, dtype: torch.dtype, generator: Generator | None) -> Tensor:
        return standard_normal(shape, dtype=dtype, device=self.device, generator=generator)

    def _scores(self, noise: Tensor) -> Tensor:
        y = self._pre_image(noise)
        return y if self._transform is None else self._transform(y.unsqueeze(-1)).squeeze(-1)

    def _scores_and_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        y = self._pre_image(noise)
        normal = log_normal_density(noise.unsqueeze(-1), self.scale.to(noise.dtype).unsqueeze(-1))
        if self._transform is None:
            return y, normal
        t, slope = call_and_log_det(self._transform, y.unsqueeze(-1))
        return t.squeeze(-1), normal - slope

    def _density_of_scores(self, scores: Tensor) -> Tensor:
        t = scores.unsqueeze(-1)
        loc, scale = (p.to(scores.dtype).unsqueeze(-1) for p in (self.loc, self.scale))
        if self._transform is None:
            return log_normal_density((t - loc) / scale, scale)
        y = self._transform.inv(t)
        slope = self._transform.log_abs_det_jacobian(y, t)
        return log_normal_density((y - loc) / scale, scale) - slope

    def _forms(self) -> Iterator[list[str]]:
        transform = "" if self.transform is None else f"transform={name_of(self.transform)}"
        rest = [reprs.setting("temperature", self._temperature), transform]
        batch_shape = f"batch_shape={tuple(self._batch_shape)}"
        if reprs.is_small(self.loc):
            loc = f"loc={reprs.numbers(self.loc.tolist())}"
            constant = reprs.is_constant(self.scale)
            spread = reprs.spread("scale", self.scale) if constant else reprs.setting("scale", self.scale)
            yield [loc, spread, *rest]
        yield [batch_shape, reprs.spread("loc", self.loc), reprs.spread("scale", self.scale), *rest]
        yield [batch_shape, *rest]


class _OnVectors(Transform):
    """A transform of numbers as one of vectors of one number, whatever the shape of its parameters."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, base: Transform) -> None:
        super().__init__()
        self.base = base

    @property
    def _owner(self) -> str:
        return name_of(self.base)

    def _call(self, x: Tensor) -> Tensor:
        return self.base(x.squeeze(-1)).unsqueeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base.inv(y.squeeze(-1)).unsqueeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.base.log_abs_det_jacobian(x.squeeze(-1), y.squeeze(-1))


def _as(value: Tensor, shape: Size, dtype: torch.dtype) -> Tensor:
    """Of that shape and dtype; where it is already, it costs no node of a graph."""
    value = value if value.dtype == dtype else value.to(dtype)
    return value if value.shape == shape else value.expand(shape)


def _onto_itself(owner: str, transform: Transform, batch_shape: Size) -> Transform:
    """The transform as a map of vectors of one number, or ValueError if it is not onto the real line."""
    if isinstance(transform, LogisticStickBreakingTransform):
        raise ValueError(
            f"{owner}: expected another transform, or none; got {transform!r}; of two categories the one "
            "stick always wins in length space, and log space leaves the law as it is without a transform."
        )
    # Refuses what is no bijection of vectors of one number.
    if not maps_onto_all(on_vectors(transform, 1, owner)):
        raise ValueError(
            f"{owner}: expected a transform of the real line onto itself; got {name_of(transform)}, which "
            "reaches a part of it."
        )
    made = _OnVectors(transform) if transform.domain.event_dim == 0 else transform
    if isinstance(made, _OnVectors) and transform.forward_shape(batch_shape) != batch_shape:
        raise ValueError(
            f"{owner}: expected a transform whose parameters broadcast against the batch shape "
            f"{tuple(batch_shape)}; got one that makes it {tuple(transform.forward_shape(batch_shape))}; "
            "expand loc."
        )
    return made
