"""Bernoulli variables as a latent."""

from collections.abc import Mapping

import torch
from torch import Tensor

from igr.distributions.gumbel_softmax import GumbelSoftmax
from igr.models.latents.gumbel_softmax import GumbelSoftmaxLatent


class BernoulliLatent(GumbelSoftmaxLatent):
    """Binary variables: Gumbel-Softmax over two categories, from one logit each.

    The encoder gives one number for each variable, its logit less that of the prior, and the decoder takes
    one, the weight of the second category. Points are those of the simplex all the same, with shape
    :math:`(*, V, 2)`. Arguments are those of :class:`GumbelSoftmaxLatent`.

    Raises:
        ValueError: for another number of categories than two.
    """

    fixed_categories = 2
    has_one_hot_features = False

    def __init__(
        self,
        num_variables: int,
        num_categories: int = 2,
        prior: Mapping[str, Tensor] | None = None,
        *,
        prior_temperature: float | None = 0.5,
        stick_the_landing: bool = False,
    ) -> None:
        if num_categories != 2:
            raise ValueError(
                f"{type(self).__name__}: expected num_categories of 2; got {num_categories}; for more there "
                "is GumbelSoftmaxLatent."
            )
        super().__init__(
            num_variables,
            num_categories,
            prior,
            prior_temperature=prior_temperature,
            stick_the_landing=stick_the_landing,
        )
        self.outputs_per_variable = 1

    @property
    def num_features(self) -> int:  # type: ignore[override]
        """One number for each variable."""
        return self.num_variables

    def features(self, points: Tensor) -> Tensor:
        return points[..., 1] if points.is_floating_point() else points.to(self._zeros)

    def _posterior(self, outputs: Tensor, temperature: Tensor | float) -> GumbelSoftmax:
        return super()._posterior(torch.cat([torch.zeros_like(outputs), outputs], dim=-1), temperature)
