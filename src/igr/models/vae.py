"""The variational autoencoder with a discrete latent."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.distributions import Distribution

from igr.distributions.relaxation import SimplexRelaxation
from igr.models.latents import Latent
from igr.models.likelihoods import Likelihood
from igr.models.networks import Networks


class VAETerms(NamedTuple):
    """What one pass through a VAE gives, in nats.

    Arguments:
        loss: The negative objective, averaged over samples and data, with shape :math:`()`.
        log_likelihood: :math:`\\log p(x \\mid z)`, with shape :math:`(S, B)`.
        kl: The KL from the posterior to the prior, summed over the variables, with shape
            :math:`(S, B)`.
    """

    loss: Tensor
    log_likelihood: Tensor
    kl: Tensor


class VAE(nn.Module):
    r"""A variational autoencoder whose latent is one relaxation or another.

    The objective is

    .. math:: E_{q(z \mid x)} \log p(x \mid z) - \beta \, \mathrm{KL}

    with the KL of the relaxed laws (then, at :math:`\beta = 1`, it is a lower bound on the
    :math:`\log p(x)` of the relaxed model) or of the discrete ones (then it bounds nothing, since
    z is relaxed and the KL is not, but it is what trains the better discrete model).

    The model is pure: noise, temperature and :math:`\beta` are arguments, nothing branches on the
    value of a tensor, and so replicas can be stacked with ``torch.func``.

    Arguments:
        networks: The encoder and the decoder.
        latent: The law between them.
        likelihood: The law of an image given what the decoder puts out.
        kl: ``"relaxed"`` or ``"discrete"``.
    """

    def __init__(
        self, networks: Networks, latent: Latent, likelihood: Likelihood, kl: str = "discrete"
    ) -> None:
        super().__init__()
        self.encoder = networks.encoder
        self.decoder = networks.decoder
        self.latent = latent
        self.likelihood = likelihood
        self.kl = kl

    def encode(self, x: Tensor, temperature: Tensor | float) -> SimplexRelaxation:
        """The posterior of images.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            temperature: The temperature of the relaxation.

        Returns:
            A relaxation with batch shape :math:`(B, V)` and event shape :math:`(K,)`.
        """
        posterior: SimplexRelaxation = self.latent(self.encoder(x), temperature)
        return posterior

    def decode(self, z: Tensor) -> Distribution:
        """The law of images given points of the simplex, vertices included.

        Arguments:
            z: The points, with shape :math:`(*, V, K)`.

        Returns:
            A distribution with batch shape :math:`(*)` and the shape of an image as event shape.
        """
        return self.likelihood.law(self.decoder(z.flatten(-2)))

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
            noise: The noise of the latent, with shape :math:`(S, B, V, n)`.
            temperature: The temperature of the posterior.
            kl_weight: The weight :math:`\beta` of the KL.
        """
        posterior = self.encode(x, temperature)
        log_z = None
        if self.kl == "relaxed" and not self.latent.has_closed_form_kl:
            log_z = posterior.rsample_log(noise=noise)
            z = log_z.exp()
        else:
            z = posterior.rsample(noise=noise)
        if self.kl == "relaxed":
            kl = self.latent.relaxed_kl(posterior, log_z, temperature)
        else:
            kl = self.latent.discrete_kl(posterior)
        log_likelihood = self.decode(z).log_prob(x)
        kl = kl.expand_as(log_likelihood)
        loss = (kl_weight * kl - log_likelihood).mean()
        return VAETerms(loss, log_likelihood, kl)
