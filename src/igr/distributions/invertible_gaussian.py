"""The Invertible Gaussian Reparameterization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

import torch
from torch import Size, Tensor
from torch.distributions import OneHotCategorical, Transform, constraints, kl_divergence

from igr import reprs, validation
from igr.distributions.exact_law import exact_log_probs, kl_by_nodes, normals_for_probs, uniform_means
from igr.distributions.pre_image import (
    call_and_log_det,
    check_droppable,
    inverse_and_log_det,
    name_of,
    on_vectors,
    same_transform,
    space_of,
)
from igr.distributions.relaxation import SimplexRelaxation
from igr.distributions.threshold import delta_beside, log_threshold, threshold_of
from igr.kernels import simplex, stick_breaking
from igr.kernels.fused import Draw, Kind, sample
from igr.kernels.noise import standard_normal
from igr.kernels.normal import log_normal_density
from igr.kernels.numbers import column, log_number, same_number
from igr.kernels.softmax_mean import mean_of_gaussian_softmax


class InvertibleGaussian(SimplexRelaxation):
    r"""Gaussian noise through an invertible map onto the simplex (IGR).

    .. math::
        y = \mu + \sigma \epsilon, \quad t = T(y), \quad
        z_k = \frac{e^{t_k / \tau}}{\sum_{j<K} e^{t_j / \tau} + \delta} \; (k < K), \quad
        z_K = \frac{\delta}{\sum_{j<K} e^{t_j / \tau} + \delta}

    with :math:`\epsilon \sim N(0, I)` in :math:`R^{K-1}`. Without a transform (:math:`T` the identity)
    this is IGR-I. The map from y to z is invertible, so the density is a change of variables and, where
    both sides share the map, the KL divergence is that of the Gaussians.

    The discrete law, that of the largest coordinate at the distribution's own temperature, is the law
    of the largest of :math:`t_1, \dots, t_{K-1}` and the threshold :math:`c = \tau \log\delta`; for
    IGR-I, and for IGR-SB (:class:`~igr.LogisticStickBreakingTransform`), it is computed by quadrature and
    differentiable in loc, scale, delta and temperature. With :math:`\delta = 1` the temperature has no
    part in it. Over two categories it is exact with every transform that maps the line onto itself and has
    an inverse; for any other there are estimates with a standard error.

    As :math:`\tau \to 0` points approach the vertices and small entries underflow to zero;
    :meth:`rsample_log` and :meth:`rsample_and_log_prob` lose nothing there. A point of which no y is the
    pre-image, because T does not map onto it or because its rounding has lost what tells (many stick
    lengths), has log-density minus infinity.

    Arguments:
        loc: :math:`\mu`, with shape :math:`(*, K - 1)`.
        scale: :math:`\sigma > 0`, a float or a tensor that broadcasts against loc. One number for all
            categories of a law (a float, or a last dimension of size 1) makes its discrete law cheaper.
        temperature: :math:`\tau > 0`, a float or a tensor that broadcasts against the batch :math:`(*)`.
        transform: :math:`T`, a torch Transform that is defined and one to one on :math:`R^{K-1}`; ``None``
            for IGR-I.
        delta: :math:`\delta > 0`, a float or a tensor that broadcasts against the batch. A small delta
            virtually removes the last category.
        validate_args: Whether to check the values of arguments; torch's global default if ``None``.
        mask: True where a category is not available (as for ``Tensor.masked_fill``), a bool tensor with
            shape :math:`(*, K)` that broadcasts against the batch; ``None`` if all are. For IGR-I only, and
            never category K, the reference of all others. Masked coordinates are dropped; :attr:`loc` and
            :attr:`scale` there mean nothing.

    Raises:
        ValueError: for values that are not finite (or not positive where they must be), a temperature below
            1e-31 (1e-292 in float64), shapes that do not broadcast, a transform that does not map K - 1
            numbers to K - 1 numbers one to one, or a mask beside a transform or of category K.
        TypeError: unless loc is a floating-point tensor, scale, temperature and delta are numbers or tensors,
            and a mask is a tensor of ``torch.bool``.

    References:
        Invertible Gaussian Reparameterization: Revisiting the Gumbel-Softmax
        (Potapczynski, Loaiza-Ganem and Cunningham, 2020), section 3

    Example:
        >>> law = InvertibleGaussian(torch.tensor([0.5, -1.0]), 1.0, temperature=0.1)
        >>> z = law.rsample((4,), generator=torch.Generator().manual_seed(0))
        >>> z.shape, law.log_prob(z).shape
        (torch.Size([4, 3]), torch.Size([4]))
        >>> law.discrete().probs
        tensor([0.6605, 0.0799, 0.2596])
        >>> mask = torch.tensor([True, False, False])
        >>> InvertibleGaussian(law.loc, 1.0, temperature=0.1, mask=mask).discrete().probs
        tensor([0.0000, 0.1587, 0.8413])
    """

    arg_constraints = {  # noqa: RUF012 (torch reads it from the class)
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
    }

    def __init__(
        self,
        loc: Tensor,
        scale: float | Tensor,
        temperature: float | Tensor,
        transform: Transform | None = None,
        delta: float | Tensor = 1.0,
        validate_args: bool | None = None,
        mask: Tensor | None = None,
    ) -> None:
        owner = type(self).__name__
        checked = self._validate_args if validate_args is None else validate_args
        validation.check_float_tensor(owner, "loc", loc)
        if loc.dim() == 0 or loc.shape[-1] < 1:
            raise ValueError(
                f"{owner}: expected loc with K - 1 >= 1 entries in the last dimension; "
                f"got shape {tuple(loc.shape)}."
            )
        dtype = loc.dtype
        for name, value in (("scale", scale), ("temperature", temperature), ("delta", delta)):
            validation.check_number_or_tensor(owner, name, value)
        if not isinstance(scale, Tensor):
            scale = torch.full((1,), float(scale), dtype=dtype, device=loc.device)
        elif scale.dim() == 0:  # like a number, it sets neither dtype nor device
            scale = scale.to(loc.device, dtype).unsqueeze(-1)
        else:
            dtype = torch.promote_types(dtype, scale.dtype)
        if scale.shape[-1] not in (1, loc.shape[-1]):
            raise ValueError(
                f"{owner}: expected scale with {loc.shape[-1]} entries in the last dimension, like loc, "
                f"or one; got shape {tuple(scale.shape)}."
            )
        shapes = {
            "loc": loc.shape[:-1],
            "scale": scale.shape[:-1],
            "temperature": validation.shape_of(temperature),
            "delta": validation.shape_of(delta),
        }
        if mask is not None:
            validation.check_mask(owner, mask, loc.shape[-1] + 1)
            shapes["mask"] = mask.shape[:-1]
        batch_shape = validation.broadcast_batch(owner, **shapes)
        if mask is not None:
            check_droppable(owner, mask, transform, checked)
            # From here on masked parameters are finite, so that no product with a zero gradient is NaN. One
            # scale for all is that of available categories too.
            loc = loc.masked_fill(mask[..., :-1], 0.0)
            if scale.shape[-1] == loc.shape[-1]:
                scale = scale.masked_fill(mask[..., :-1], 1.0)
        if checked:
            validation.check_values(owner, "loc", loc)
            validation.check_temperature(owner, "temperature", temperature, dtype)
            for name, value in (("scale", scale), ("delta", delta)):
                validation.check_values(owner, name, value, positive=True)
        self._equal_scales = scale.shape[-1] == 1
        self._transform = None if transform is None else on_vectors(transform, loc.shape[-1])
        self.transform = transform
        self.delta = delta
        self.loc = loc.to(dtype).expand(batch_shape + loc.shape[-1:])
        self.scale = scale.to(dtype).expand(batch_shape + loc.shape[-1:])
        super().__init__(
            batch_shape=batch_shape,
            num_categories=loc.shape[-1] + 1,
            temperature=temperature,
            validate_args=checked,
            mask=mask,
        )

    @classmethod
    def from_probs(
        cls,
        probs: Tensor,
        scale: float | Tensor = 1.0,
        *,
        temperature: float | Tensor,
        delta: float | Tensor = 1.0,
        validate_args: bool | None = None,
    ) -> Self:
        r"""The IGR-I at a given scale whose discrete law is ``probs``.

        At fixed scale the map from loc to the discrete law is the gradient of a convex function, and
        Newton's method inverts it, in float64. The result is differentiable once in probs, scale,
        temperature and delta (implicit function theorem). For eager code only.

        Arguments:
            probs: The discrete law, with shape :math:`(*, K)`; every entry positive.
            scale: :math:`\sigma`, a float or a tensor that broadcasts against :math:`(*, K - 1)`.
            temperature: :math:`\tau`; it has a part in the law only where delta is not one.
            delta: :math:`\delta`.
            validate_args: Whether to check the values of arguments.

        Returns:
            The law with batch shape :math:`(*)`, or what the scale makes of it, in the dtype of probs.

        Raises:
            TypeError: unless probs is a floating-point tensor, and scale, temperature and delta are numbers
                or tensors.
            ValueError: for probabilities that are not positive or do not sum to one, a scale, temperature or
                delta that is not positive and finite, or one that does not broadcast.
            NotImplementedError: under a tracer.
            RuntimeError: if Newton's method does not reach the law.

        Example:
            >>> target = torch.tensor([0.1, 0.2, 0.3, 0.4])
            >>> InvertibleGaussian.from_probs(target, temperature=0.1).discrete().probs
            tensor([0.1000, 0.2000, 0.3000, 0.4000])
        """
        owner = f"{cls.__name__}.from_probs"
        checked = cls._validate_args if validate_args is None else validate_args
        loc, scale = normals_for_probs(owner, probs, scale, temperature, delta, checked)
        return cls(loc, scale, temperature, delta=delta, validate_args=validate_args)

    @classmethod
    def uniform(
        cls,
        num_categories: int,
        temperature: float | Tensor,
        scale: float = 1.0,
        delta: float | Tensor = 1.0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        r"""The IGR-I whose discrete law is uniform, in closed form.

        .. math::
            \mu_k = \tau \log\delta - \sigma \Phi^{-1}(K^{-1/(K-1)})

        Arguments:
            num_categories: K, at least 2.
            temperature: :math:`\tau`, a float or a tensor of the shape of the batch.
            scale: :math:`\sigma`, one number for all categories.
            delta: :math:`\delta`, a float or a tensor that broadcasts against the temperature.
            dtype: The dtype of the parameters; torch's default one if ``None``.
            device: The device of the parameters.

        Raises:
            TypeError: unless num_categories is an int, and scale, temperature and delta are numbers or
                tensors.
            ValueError: for fewer than two categories, or numbers that are not positive and finite.

        Example:
            >>> InvertibleGaussian.uniform(4, temperature=0.1).discrete().probs
            tensor([0.2500, 0.2500, 0.2500, 0.2500])
        """
        owner = f"{cls.__name__}.uniform"
        loc = uniform_means(owner, num_categories, scale, temperature, delta, device)
        return cls(loc.to(dtype or torch.get_default_dtype()), scale, temperature, delta=delta)

    @property
    def noise_shape(self) -> Size:
        return self.loc.shape[-1:]

    @property
    def dtype(self) -> torch.dtype:
        return self.loc.dtype

    @property
    def device(self) -> torch.device:
        return self.loc.device

    def with_temperature(self, temperature: float | Tensor) -> Self:
        return self._with(temperature, self.delta)

    def with_point_temperature(self, temperature: float | Tensor) -> Self:
        r"""With relaxed points at another temperature, and the same vertices from the same noise.

        The threshold :math:`c = \tau \log\delta` stays, so delta becomes another one.

        Arguments are those of :meth:`with_temperature`.

        Raises:
            TypeError: unless the temperature is a number or a tensor.
            ValueError: for a temperature that :meth:`with_temperature` does not take, or beside which that
                delta is no number above zero in the floating-point type of the law.
        """
        if not isinstance(self.delta, Tensor) and self.delta == 1.0:
            return self._with(temperature, self.delta)
        threshold = self.threshold(torch.float64)
        delta = delta_beside(type(self).__name__, threshold, temperature, self.dtype)
        return self._with(temperature, delta)

    def _with(self, temperature: float | Tensor, delta: float | Tensor) -> Self:
        scale = self.scale[..., :1] if self._equal_scales else self.scale
        return type(self)(
            self.loc, scale, temperature, self.transform, delta, self._validate_args, self._mask
        )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        return self._expanded(batch_shape, _instance, "loc", "scale")

    def pre_image(self, noise: Tensor) -> Tensor:
        r"""The Gaussian point :math:`y = \mu + \sigma\epsilon`, in float32 for half-precision parameters.

        Masked coordinates mean nothing.

        Shapes:
            Noise as :meth:`draw_noise` gives it, result :math:`(*S, *B, K - 1)`.

        Raises:
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives.
        """
        noise = self._noise((), None, noise)
        return torch.addcmul(self.loc.to(noise.dtype), self.scale.to(noise.dtype), noise)

    def log_ratio_parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        r"""Mean and scale of :math:`\log(z_k / z_K)` for available k < K, which is normal for IGR-I.

        Arguments:
            dtype: The dtype of the result.

        Shapes:
            Both :math:`(*B, K - 1)`.
        """
        log_delta = self._log_delta(dtype)
        mean = self._divide_by_temperature(self.loc.to(dtype)) - column(log_delta, dtype)
        return mean, self._divide_by_temperature(self.scale.to(dtype))

    def is_same_map(self, other: InvertibleGaussian) -> bool:
        """Whether points of both are one function of Gaussians, so that a divergence is that of these."""
        same = same_number(self.temperature, other.temperature) and same_number(self.delta, other.delta)
        return same and same_transform(self.transform, other.transform)

    def rsample_and_kl(
        self,
        prior: InvertibleGaussian,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        fused: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Points, and the KL divergence of the relaxed law from a prior, in closed form and in nats.

        What ``rsample`` and ``kl_divergence(self, prior)`` give; where one kernel draws (see :meth:`rsample`)
        from a law that is the same map of Gaussians as a prior without gradient, it finds both,
        differentiable once.

        Arguments:
            prior: A law with as many categories; see :mod:`igr.distributions.kl` for which there is a closed
                form.
            sample_shape: The shape :math:`S` of independent draws.
            generator: The source of randomness.
            noise: The noise of the points, from :meth:`draw_noise`.
            fused: Whether one kernel must (True), must not, or may (``None``) draw.

        Shapes:
            Points :math:`(*S, *B, K)`, divergences :math:`(*B)`, broadcast with the batch of the prior.

        Raises:
            NotImplementedError: if there is no closed form; the message says why.
            RuntimeError: if the batches of the two do not broadcast.
            TypeError: unless the noise is a floating-point tensor.
            ValueError: if the noise does not have the shape that :meth:`draw_noise` gives, or a kernel must
                draw and cannot.

        Example:
            >>> law = InvertibleGaussian(torch.tensor([0.5, -0.5]), 0.8, temperature=0.3)
            >>> prior = InvertibleGaussian(torch.zeros(2), 1.0, temperature=0.3)
            >>> z, kl = law.rsample_and_kl(prior, (100,))
            >>> z.shape, kl
            (torch.Size([100, 3]), tensor(0.3363))
        """
        draw = self._chosen_draw(sample_shape, noise, fused)
        if draw is not None and self._is_prior_of_a_kernel(prior):
            points, _, divergence = sample(draw, sample_shape, generator, prior=(prior.loc, prior.scale))
            return points, cast(Tensor, divergence)
        divergence = kl_divergence(self, prior)
        return self.rsample(sample_shape, generator, noise, fused=fused), divergence

    def _is_prior_of_a_kernel(self, prior: InvertibleGaussian) -> bool:
        if type(prior) is not InvertibleGaussian:  # another class may have a divergence of its own
            return False
        alike = prior.event_shape == self.event_shape and prior.dtype == self.dtype and prior.mask is None
        if not alike or not self.is_same_map(prior) or prior.device != self.device:
            return False
        trained = torch.is_grad_enabled() and (prior.loc.requires_grad or prior.scale.requires_grad)
        batch = validation.broadcast_shapes(self.batch_shape, prior.batch_shape)
        return batch == self.batch_shape and not trained

    def threshold(self, dtype: torch.dtype) -> float | Tensor:
        r"""The number :math:`c = \tau \log\delta` that the last category is held at beside the others.

        Arguments:
            dtype: The dtype of the result where it is a tensor.

        Returns:
            A float, or where the temperature or delta is a tensor one that broadcasts against :math:`(*B)`.
        """
        return threshold_of(self._temperature, self.delta, dtype)

    def _draw(self, shape: Size, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
        return standard_normal(shape, dtype=dtype, device=self.device, generator=generator)

    def _fused_draw(self) -> Draw | str:
        if type(self) is not InvertibleGaussian:
            # Another class may draw in another way.
            return super()._fused_draw()
        if self._mask is not None:
            return "a mask"
        kind: Kind = "gaussian"
        space = space_of(self.transform)
        if space is not None:
            kind = "lengths" if space == "length" else "log-ratios"
        elif self.transform is not None:
            return f"the transform {name_of(self.transform)}"
        return Draw(kind, self.loc, self.scale, self._temperature, self.delta)

    def _noise_of_uniform(self, uniform: Tensor) -> Tensor:
        return torch.special.ndtri(uniform)

    def _transformed(self, noise: Tensor) -> Tensor:
        y = self.pre_image(noise)
        return y if self._transform is None else self._transform(y)

    def _sample(self, noise: Tensor) -> Tensor:
        if self._transform is None:
            loc, scale = self.loc.to(noise.dtype), self.scale.to(noise.dtype)
            log_delta = self._log_delta(noise.dtype)
            return simplex.points_of_noise(loc, scale, noise, self._temperature, log_delta, self._mask)
        t = self._transformed(noise)
        return simplex.tempered_softmax(t, self._temperature, self._log_delta(t.dtype), self._mask)

    def _log_sample(self, noise: Tensor) -> Tensor:
        x = self._divide_by_temperature(self._transformed(noise))
        return simplex.log_softmax_plus_plus(x, self._log_delta(x.dtype), self._mask)

    def _log_sample_and_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        y = self.pre_image(noise)
        t, slope = (y, None) if self._transform is None else call_and_log_det(self._transform, y)
        x = self._divide_by_temperature(t)
        log_z = simplex.log_softmax_plus_plus(x, self._log_delta(x.dtype), self._mask)
        return log_z, self._density(noise, slope, self._with_masked(log_z, 0.0))

    def _log_density(self, log_z: Tensor) -> Tensor:
        x = simplex.inverse_log_softmax_plus_plus(log_z, self._log_delta(log_z.dtype))
        t = x * column(self._temperature, x.dtype)
        if self._transform is None:
            return self._density(self._noise_of_pre_image(t), None, log_z)
        y, slope, inside = inverse_and_log_det(self._transform, t)
        density = self._density(self._noise_of_pre_image(y), slope, log_z)
        return density if inside is None else torch.where(inside, density, -torch.inf)

    def _noise_of_pre_image(self, y: Tensor) -> Tensor:
        return (y - self.loc.to(y.dtype)) / self.scale.to(y.dtype)

    def _density(self, noise: Tensor, slope: Tensor | None, log_z: Tensor) -> Tensor:
        r""":math:`\log N(y) - \log|T'(y)| + (K - 1) \log\tau - \sum_k \log z_k`, log z zero where masked."""
        dropped = None if self._mask is None else self._mask[..., :-1]
        size = noise.shape[-1] if dropped is None else (~dropped).sum(-1).to(noise.dtype)
        normal = log_normal_density(noise, self.scale.to(noise.dtype), dropped)
        density = normal + size * log_number(self._temperature, noise.dtype) - log_z.sum(-1)
        return density if slope is None else density - slope

    def _scores(self, noise: Tensor) -> Tensor:
        threshold = self.threshold(noise.dtype)
        if space_of(self.transform) == "length":
            # Lengths underflow where all pieces are small; their logarithms tell which is the longest.
            log_lengths = stick_breaking.log_lengths(self.pre_image(noise))
            return simplex.with_reference(log_lengths, log_threshold(threshold, noise))
        scores = simplex.with_reference(self._transformed(noise), threshold)
        return self._with_masked(scores, -torch.inf)

    def _exact_log_probs(self, num_nodes: int | None) -> Tensor:
        return exact_log_probs(self, num_nodes)

    def discrete_kl(self, other: OneHotCategorical) -> Tensor:
        divergence = kl_by_nodes(self, other)
        return super().discrete_kl(other) if divergence is None else divergence

    def _mean_by_quadrature(self) -> Tensor:
        if self.transform is not None:
            return super()._mean_by_quadrature()
        dtype = torch.float64
        mean, scale = self.log_ratio_parameters(dtype)
        if self._mask is not None:
            # In the place of the last category, where they move no node.
            mean, scale = (t.masked_fill(self._mask[..., :-1], 0.0) for t in (mean, scale))
        pad = torch.nn.functional.pad
        return mean_of_gaussian_softmax(pad(mean, (0, 1)), pad(scale, (0, 1)), self._mask)

    def _log_delta(self, dtype: torch.dtype) -> float | Tensor:
        return log_number(self.delta, dtype)

    def _forms(self) -> Iterator[list[str]]:
        temperature, available = reprs.setting("temperature", self._temperature), reprs.available(self._mask)
        delta = "" if same_number(self.delta, 1.0) else reprs.setting("delta", self.delta)
        name = "" if self.transform is None else name_of(self.transform)
        rest = [temperature, delta, name and f"transform={name}", available]
        if reprs.is_small(self.loc):
            mask = None if self._mask is None else self._mask[..., :-1].expand(self.loc.shape).tolist()
            loc = f"loc={reprs.numbers(self.loc.tolist(), mask)}"
            if reprs.is_constant(self.scale):
                yield [loc, reprs.spread("scale", self.scale), *rest]
            else:
                yield [loc, f"scale={reprs.numbers(self.scale.tolist(), mask)}", *rest]
        if self._mask is None:
            ranges = [reprs.spread("loc", self.loc), reprs.spread("scale", self.scale)]
            yield [*reprs.shape(self), *ranges, *rest]
        num_categories, batch_shape = reprs.shape(self)
        yield [num_categories, batch_shape, *rest]
        # The names of some transforms are long.
        yield [num_categories, name, temperature, delta, available, batch_shape]
