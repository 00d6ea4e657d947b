"""Gumbel-Softmax, also known as the Concrete distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from igr import reprs, validation
from igr.distributions.relaxation import SimplexRelaxation
from igr.kernels import simplex
from igr.kernels.fused import Draw
from igr.kernels.gumbel import gumbel_log_density
from igr.kernels.noise import standard_gumbel
from igr.kernels.numbers import column
from igr.kernels.softmax_mean import mean_of_gumbel_softmax


class GumbelSoftmax(SimplexRelaxation):
    r"""Gumbel-Softmax (Concrete): the softmax of logits and Gumbel noise at a temperature.

    .. math::
        z = \mathrm{softmax}((l + g) / \tau), \quad g_k \sim \mathrm{Gumbel}(0, 1)

    The largest coordinate follows the categorical law of the logits at every temperature. As
    :math:`\tau \to 0` points approach the vertices and their small entries underflow;
    :meth:`rsample_log` and :meth:`rsample_and_log_prob` stay exact there, where the density of
    ``torch.distributions.RelaxedOneHotCategorical`` becomes NaN on its own samples.

    Arguments:
        temperature: :math:`\tau > 0`, a float or a tensor that broadcasts against the batch.
        logits: Unnormalized log-probabilities :math:`l`, with shape :math:`(*, K)`.
        probs: Probabilities instead of logits, with shape :math:`(*, K)`; normalized here. A
            probability of zero becomes the smallest normal number, so that all stays finite.
        validate_args: Whether to check the values of arguments; torch's global default if ``None``.
        mask: True where a category is not available (as for ``Tensor.masked_fill``), a bool tensor with
            shape :math:`(*, K)` that broadcasts against the batch; ``None`` if all are. K is then, in the
            law, the number of available categories.

    Raises:
        ValueError: unless exactly one of logits and probs is given, K is at least 2, shapes broadcast,
            available logits are finite, probabilities not negative, the temperature is positive (and not
            below 1e-31, or 1e-292 in float64) and a mask leaves a category.
        TypeError: unless logits or probs is a floating-point tensor, the temperature a number or a tensor,
            and a mask a tensor of ``torch.bool``.

    References:
        | Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017)
        | The Concrete Distribution (Maddison, Mnih and Teh, 2017), equation 10

    Example:
        >>> law = GumbelSoftmax(0.5, probs=torch.tensor([0.2, 0.3, 0.5]))
        >>> z = law.rsample((4,), generator=torch.Generator().manual_seed(0))
        >>> z.shape, law.log_prob(z).shape
        (torch.Size([4, 3]), torch.Size([4]))
        >>> law.discrete().probs
        tensor([0.2000, 0.3000, 0.5000])
        >>> masked = GumbelSoftmax(0.5, law.logits, mask=torch.tensor([False, False, True]))
        >>> masked.discrete().probs
        tensor([0.4000, 0.6000, 0.0000])
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 (torch reads it from the class)

    def __init__(
        self,
        temperature: float | Tensor,
        logits: Tensor | None = None,
        probs: Tensor | None = None,
        validate_args: bool | None = None,
        mask: Tensor | None = None,
    ) -> None:
        owner = type(self).__name__
        name, parameter = validation.logits_or_probs(owner, logits, probs)
        checked = self._validate_args if validate_args is None else validate_args
        if parameter.dim() == 0 or parameter.shape[-1] < 2:
            raise ValueError(
                f"{owner}: expected {name} with at least 2 categories in the last dimension; "
                f"got shape {tuple(parameter.shape)}."
            )
        validation.check_number_or_tensor(owner, "temperature", temperature)
        shapes = {name: parameter.shape[:-1], "temperature": validation.shape_of(temperature)}
        if mask is not None:
            validation.check_mask(owner, mask, parameter.shape[-1])
            shapes["mask"] = mask.shape[:-1]
        batch_shape = validation.broadcast_batch(owner, **shapes)
        if mask is not None:
            if checked:
                validation.check_available(owner, mask)
            # From here on masked parameters are finite, so that no product with a zero gradient is NaN.
            parameter = parameter.masked_fill(mask, 0.0)
        if checked:
            validation.check_temperature(owner, "temperature", temperature, parameter.dtype)
            if probs is None:
                validation.check_values(owner, "logits", parameter)
            else:
                validation.check_probabilities(owner, parameter)
        if probs is not None:
            exact = parameter.to(validation.compute_dtype(probs.dtype))
            parameter = simplex.log_of_clamped(exact / exact.sum(-1, keepdim=True)).to(probs.dtype)
        self._logits = parameter.expand(batch_shape + parameter.shape[-1:])
        super().__init__(
            batch_shape=batch_shape,
            num_categories=parameter.shape[-1],
            temperature=temperature,
            validate_args=checked,
            mask=mask,
        )

    @property
    def logits(self) -> Tensor:
        """Unnormalized log-probabilities, with shape :math:`(*B, K)`; minus infinity where masked."""
        return self._with_masked(self._logits, -torch.inf)

    @property
    def probs(self) -> Tensor:
        """Probabilities of the discrete law, with shape :math:`(*B, K)`; zero where masked."""
        return self._with_masked(torch.softmax(self.logits, dim=-1), 0.0)

    @property
    def noise_shape(self) -> Size:
        return self._event_shape

    @property
    def dtype(self) -> torch.dtype:
        return self._logits.dtype

    @property
    def device(self) -> torch.device:
        return self._logits.device

    def with_temperature(self, temperature: float | Tensor) -> Self:
        return type(self)(
            temperature, logits=self._logits, validate_args=self._validate_args, mask=self._mask
        )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        return self._expanded(batch_shape, _instance, "_logits")

    def _draw(self, shape: Size, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
        return standard_gumbel(shape, dtype=dtype, device=self.device, generator=generator)

    def _fused_draw(self) -> Draw | str:
        if type(self) is not GumbelSoftmax:
            # Another class may draw in another way.
            return super()._fused_draw()
        if self._mask is not None:
            return "a mask"
        return Draw("gumbel", self._logits, temperature=self._temperature)

    def _noise_of_uniform(self, uniform: Tensor) -> Tensor:
        return -torch.log(-torch.log(uniform))

    def _perturbed(self, noise: Tensor) -> Tensor:
        return self._logits.to(noise.dtype) + noise

    def _scores(self, noise: Tensor) -> Tensor:
        return self._with_masked(self._perturbed(noise), -torch.inf)

    def _sample(self, noise: Tensor) -> Tensor:
        logits = self._logits.to(noise.dtype)
        return simplex.points_of_noise(logits, None, noise, self._temperature, mask=self._mask)

    def _log_sample(self, noise: Tensor) -> Tensor:
        return simplex.log_softmax(self._divide_by_temperature(self._perturbed(noise)), self._mask)

    def _log_sample_and_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        log_z = self._log_sample(noise)
        # l - tau log z equals -g but for a constant, which the density does not see.
        density = gumbel_log_density(-noise, self._with_masked(log_z, 0.0), self._temperature, self._mask)
        return log_z, density

    def _log_density(self, log_z: Tensor) -> Tensor:
        scores = self._logits.to(log_z.dtype) - column(self._temperature, log_z.dtype) * log_z
        return gumbel_log_density(scores, log_z, self._temperature, self._mask)

    def _exact_log_probs(self, num_nodes: int | None) -> Tensor:
        return simplex.log_softmax(self._logits.to(validation.compute_dtype(self.dtype)), self._mask)

    def _mean_by_quadrature(self) -> Tensor:
        logits = self._logits.double()
        if self._mask is not None:
            # In the place of an available one, where it moves no node.
            highest = self.logits.double().amax(-1, keepdim=True).detach()
            logits = torch.where(self._mask, highest, logits)
        temperature = torch.as_tensor(self._temperature, dtype=torch.float64, device=self.device)
        return mean_of_gumbel_softmax(logits, temperature.unsqueeze(-1), self._mask)

    def _forms(self) -> Iterator[list[str]]:
        temperature, available = reprs.setting("temperature", self._temperature), reprs.available(self._mask)
        if reprs.is_small(self._logits):
            with torch.no_grad():
                probs = self.probs.tolist()
            mask = None if self._mask is None else self._mask.expand(self._logits.shape).tolist()
            yield [f"probs={reprs.numbers(probs, mask)}", temperature, available]
        if self._mask is None:
            yield [*reprs.shape(self), reprs.spread("logits", self._logits), temperature]
        yield from super()._forms()
