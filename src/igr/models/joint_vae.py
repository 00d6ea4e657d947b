"""The JointVAE: a Gaussian and a categorical latent, each held to a capacity that rises over training."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from igr.models.latents import CONTINUOUS_KL, DISCRETE_KL, JointLatent
from igr.models.likelihoods import Likelihood
from igr.models.networks import Networks
from igr.models.vae import VAE, VAETerms


@dataclass(frozen=True)
class Capacity:
    """How many nats a part of the latent is asked to carry, rising linearly and then constant.

    Arguments:
        lower: At the start.
        upper: From the last step of the rise on; no less than ``lower``.
        num_steps: Over how many steps it rises.
    """

    lower: float
    upper: float
    num_steps: int

    def at(self, step: int) -> float:
        """The capacity at a step, the first one being zero, in nats."""
        return self.lower + (self.upper - self.lower) * min(1.0, step / self.num_steps)


class JointVAE(VAE):
    r"""A VAE whose two KLs are each held to a capacity.

    .. math::
        \text{loss} = -E_{q(z, c \mid x)} \log p(x \mid z, c)
            + \gamma \, |\mathrm{KL}_c - C_c| + \gamma \, |\mathrm{KL}_d - C_d|

    with the KLs averaged over the batch, as in the paper. The loss bounds nothing; the objective that is
    reported, the log-likelihood less both KLs, is that of a VAE.

    Arguments:
        networks: The encoder and the decoder.
        latent: A joint latent.
        likelihood: The law of an image given what the decoder puts out.
        capacity_weight: :math:`\gamma`.
        kl: ``"relaxed"`` or ``"discrete"``, for the categorical part.
        straight_through: Whether the decoder meets vertices in training.

    References:
        Learning Disentangled Joint Continuous and Discrete Representations (Dupont, 2018), equation 7
    """

    def __init__(
        self,
        networks: Networks,
        latent: JointLatent,
        likelihood: Likelihood,
        capacity_weight: float,
        kl: str = "relaxed",
        straight_through: bool = False,
    ) -> None:
        super().__init__(networks, latent, likelihood, kl, straight_through)
        self.capacity_weight = capacity_weight
        # That over the images of a batch, of which there may be others elsewhere.
        self.batch_mean: Callable[[Tensor], Tensor] = torch.mean

    def forward(
        self,
        x: Tensor,
        noise: Tensor,
        temperature: Tensor | float,
        kl_weight: Tensor | float = 1.0,
        continuous_capacity: Tensor | float = 0.0,
        discrete_capacity: Tensor | float = 0.0,
    ) -> VAETerms:
        r"""The loss and its parts.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            noise: The noise of the latent for the sample shape :math:`(S, B)`.
            temperature: The temperature of the posterior.
            kl_weight: A factor of :math:`\gamma`.
            continuous_capacity: :math:`C_c`, in nats.
            discrete_capacity: :math:`C_d`, in nats.
        """
        terms = super().forward(x, noise, temperature, kl_weight)
        # Outside of training others may have no batch at the same time.
        mean = self.batch_mean if self.training else torch.mean
        gaps = sum(
            (mean(terms.parts[name]) - capacity).abs()
            for name, capacity in ((CONTINUOUS_KL, continuous_capacity), (DISCRETE_KL, discrete_capacity))
        )
        loss = -terms.log_likelihood.mean() + kl_weight * self.capacity_weight * gaps
        return terms._replace(loss=loss)
