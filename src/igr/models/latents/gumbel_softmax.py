"""The Gumbel-Softmax as a latent."""

from collections.abc import Mapping

from torch import Tensor

from igr.distributions.discrete import DiscreteLaw
from igr.distributions.gumbel_softmax import GumbelSoftmax
from igr.distributions.relaxation import SimplexRelaxation
from igr.models.latents.discrete import DiscreteLatent


class GumbelSoftmaxLatent(DiscreteLatent):
    """The Gumbel-Softmax, also named Concrete. The outputs are the logits, less those of the prior.

    Arguments:
        num_variables: The number V of variables.
        num_categories: The number K of categories of each.
        prior: ``logits`` of the prior, with shape :math:`(K,)`; ``None`` for the uniform one.
        prior_temperature: The temperature of the relaxed prior; ``None`` takes the posterior's.
        stick_the_landing: Whether the sampled KL has no gradient through the parameters of the posterior's
            density, only through the points (Roeder, Wu and Duvenaud, 2017).
    """

    has_pre_image = False
    prior_families = ("gumbel-softmax",)
    options = frozenset({"prior_temperature", "stick_the_landing"})
    conditional_noise = frozenset({"coupled", "drawn"})

    def __init__(
        self,
        num_variables: int,
        num_categories: int,
        prior: Mapping[str, Tensor] | None = None,
        *,
        prior_temperature: float | None = 0.5,
        stick_the_landing: bool = False,
    ) -> None:
        super().__init__(num_variables, num_categories)
        self.outputs_per_variable = num_categories
        self.prior_temperature = prior_temperature
        self.stick_the_landing = stick_the_landing
        self._given = None if prior is None else prior["logits"].double()

    @classmethod
    def defaults(cls, kl: str) -> dict[str, object]:
        return {"temperature": 0.67, "prior_temperature": 0.5}

    def _prior_logits(self) -> Tensor:
        given = self._given
        if given is None:
            return self._zeros
        return self._constant_law("logits", 0.0, lambda: given.to(self._zeros).expand_as(self._zeros))

    def _posterior(self, outputs: Tensor, temperature: Tensor | float) -> GumbelSoftmax:
        logits = outputs if self._given is None else outputs + self._prior_logits()
        return GumbelSoftmax(temperature, logits=logits, validate_args=False)

    def prior(self, temperature: Tensor | float) -> GumbelSoftmax:
        own = temperature if self.prior_temperature is None else self.prior_temperature
        return self._constant_law(
            "prior", own, lambda: GumbelSoftmax(own, logits=self._prior_logits(), validate_args=False)
        )

    def discrete_prior(self) -> DiscreteLaw:
        return self._uniform_law() if self._given is None else super().discrete_prior()

    def relaxed(
        self, posterior: SimplexRelaxation, noise: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(posterior, GumbelSoftmax):
            raise TypeError(
                f"expected a GumbelSoftmax; got {type(posterior).__name__}; give a posterior of this latent"
            )
        log_z = posterior.rsample_log(noise=noise)
        of_posterior = posterior
        if self.stick_the_landing:
            of_posterior = GumbelSoftmax(temperature, logits=posterior.logits.detach(), validate_args=False)
        log_prior = self.prior(temperature).log_prob_of_log(log_z)
        return log_z.exp(), (of_posterior.log_prob_of_log(log_z) - log_prior).sum(-1)
