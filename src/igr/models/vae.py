"""The variational autoencoder."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from igr import reprs
from igr.estimators import Estimator
from igr.models.latents import DiscreteLatent, Latent, LatentSample
from igr.models.likelihoods import Likelihood
from igr.models.networks import Networks, decoded_categories


class VAETerms(NamedTuple):
    """What one pass through a VAE gives, in nats.

    Arguments:
        loss: The negative objective, averaged over samples and data, with shape :math:`()`; with an estimator
            that has parameters of its own, and what these are trained on.
        log_likelihood: :math:`\\log p(x \\mid z)`, with shape :math:`(S, B)`.
        kl: The KL from the posterior to the prior, summed over the variables, with shape
            :math:`(S, B)`.
        parts: What else the latent reports of each datum, by name, each with shape :math:`(S, B)`.
    """

    loss: Tensor
    log_likelihood: Tensor
    kl: Tensor
    parts: dict[str, Tensor]

    def __repr__(self) -> str:
        return reprs.of_fields(self)


class VAE(nn.Module):
    r"""A variational autoencoder with one latent or another.

    The objective is

    .. math:: E_{q(z \mid x)} \log p(x \mid z) - \beta \, \mathrm{KL}

    with, for a categorical latent, the KL of the relaxed laws (then, at :math:`\beta = 1`, it is a lower
    bound on the :math:`\log p(x)` of the relaxed model) or of the discrete ones (then it bounds nothing,
    since z is relaxed and the KL is not, but it is what trains the better discrete model).

    The model is pure: noise, temperature and :math:`\beta` are arguments, nothing branches on the
    value of a tensor, and so replicas can be stacked with ``torch.func``. Exceptions are a truncated latent,
    whose number of sticks depends on a draw, and an estimator's moving average, which changes in training.

    Arguments:
        networks: The encoder and the decoder.
        latent: What is between them.
        likelihood: The law of an image given what the decoder puts out.
        kl: ``"relaxed"`` or ``"discrete"``.
        straight_through: Whether the decoder meets the vertices nearest to the relaxed points in training.
        estimator: The estimator of the gradient that the encoder has through a categorical latent; with it
            the objective is that of the discrete model, whose points are vertices, and with the discrete KL
            a lower bound on its :math:`\log p(x)`. ``None`` for the gradient through the relaxed points.
    """

    def __init__(
        self,
        networks: Networks,
        latent: Latent,
        likelihood: Likelihood,
        kl: str = "discrete",
        straight_through: bool = False,
        estimator: Estimator | None = None,
    ) -> None:
        super().__init__()
        self.encoder = networks.encoder
        self.decoder = networks.decoder
        self.latent = latent
        self.likelihood = likelihood
        self.kl = kl
        self.straight_through = straight_through
        self.estimator = estimator

    def encode(self, x: Tensor, temperature: Tensor | float) -> Any:
        """The posterior of images, as the latent makes it.

        Of a categorical latent it is a relaxation with batch shape :math:`(B, V)` and event shape
        :math:`(K,)`.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            temperature: The temperature of the relaxation.
        """
        return self.latent(self.encoder(x), temperature)

    def decode(self, points: Any) -> Distribution:
        """The law of images given points of the latent.

        Arguments:
            points: As the latent makes them; of a categorical one points of the simplex, with shape
                :math:`(*, V, K)`, or vertices by their categories, int64 with shape :math:`(*, V)`, which
                cost less.

        Returns:
            A distribution with batch shape :math:`(*)` and the shape of an image as event shape.
        """
        latent = self.latent
        if isinstance(latent, DiscreteLatent) and latent.has_one_hot_features and points.dtype == torch.int64:
            return self.likelihood.law(decoded_categories(self.decoder, points, latent.num_categories))
        return self.likelihood.law(self.decoder(latent.features(points)))

    @property
    def draws_per_sample(self) -> int:
        """How many draws of the noise a sample takes in training."""
        return 1 if self.estimator is None else self.estimator.draws_per_sample

    def forward(
        self,
        x: Tensor,
        noise: Tensor,
        temperature: Tensor | float,
        kl_weight: Tensor | float = 1.0,
    ) -> VAETerms:
        r"""The loss and its parts.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            noise: The noise of the latent for the sample shape :math:`(S, B)`; in training with an estimator
                for :math:`(D S, B)`, D being ``draws_per_sample``.
            temperature: The temperature of the posterior.
            kl_weight: The weight :math:`\beta` of the KL.
        """
        if self.estimator is not None:
            return self._estimated(self.estimator, x, noise, temperature, kl_weight)
        log_likelihood, drawn = self.pass_through(x, noise, temperature)
        kl = drawn.kl.expand_as(log_likelihood)
        loss = (kl_weight * kl - log_likelihood).mean()
        parts = {name: part.expand_as(kl) for name, part in drawn.parts.items()}
        return VAETerms(loss, log_likelihood, kl, parts)

    def _estimated(
        self,
        estimator: Estimator,
        x: Tensor,
        noise: Tensor,
        temperature: Tensor | float,
        kl_weight: Tensor | float,
    ) -> VAETerms:
        """The terms of the discrete model, with the gradient of the estimator.

        In evaluation mode there is none, and the terms are those of the vertices.
        """
        latent = self.latent
        if not isinstance(latent, DiscreteLatent):
            raise TypeError(
                f"expected a categorical latent beside an estimator; got {type(latent).__name__}; leave the "
                "estimator out"
            )
        posterior = self.encode(x, temperature).keeping_exact_law()
        kl = latent.discrete_kl(posterior)
        if not self.training:
            log_likelihood = self.decode(posterior.vertex(noise)).log_prob(x)
            loss = (kl_weight * kl - log_likelihood).mean()
            return VAETerms(loss, log_likelihood, kl.expand_as(log_likelihood), {})
        count = len(noise) // estimator.draws_per_sample
        if estimator.draws_per_sample > 1:
            noise = noise.reshape(estimator.draws_per_sample, count, *noise.shape[1:])
        if estimator.of_log_weights:
            # The KL is in the weights. What is reported is not the bound of all samples, which is trained,
            # but what all others report.
            log_likelihoods = []

            def log_weight(points: Tensor) -> Tensor:
                log_likelihood = self.decode(points).log_prob(x)
                log_likelihoods.append(log_likelihood.detach())
                return log_likelihood + kl_weight * latent.log_ratio(posterior, points)

            found = estimator(log_weight, posterior, count, noise=noise)
            loss, (value,) = -found.loss.mean(), log_likelihoods
        else:
            found = estimator(lambda points: self.decode(points).log_prob(x), posterior, count, noise=noise)
            loss, value = (kl_weight * kl - found.loss).mean(), found.value
        if found.control_loss is not None:
            # Its gradient reaches the estimator's own parameters alone, and that of the rest does not.
            loss = loss + found.control_loss
        shape = (count, *kl.shape)
        return VAETerms(loss, value.expand(shape), kl.expand(shape), {})

    def pass_through(
        self, x: Tensor, noise: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, LatentSample]:
        r"""The log-likelihoods :math:`\log p(x \mid z)`, and the points z with what the latent says of them.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            noise: The noise of the latent for the sample shape :math:`(S, B)`.
            temperature: The temperature of the posterior.

        Returns:
            Log-likelihoods in nats, with shape :math:`(S, B)`, and the draw of the latent.
        """
        posterior = self.encode(x, temperature)
        drawn = self.latent.sample(posterior, noise, temperature, self.kl, self.straight_through)
        return self.decode(drawn.points).log_prob(x), drawn
