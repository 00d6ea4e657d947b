"""Deep latent Gaussian mixture models: VAEs whose latent is a mixture with weights broken off a stick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import linear

from igr import reprs
from igr.distributions import StickTruncation
from igr.models.latents.gaussian import kl_from_standard
from igr.models.likelihoods import LIKELIHOODS, Likelihood
from igr.models.networks import initialized
from igr.models.stick_laws import StickLaw, Sticks

# A component is active where its weight is above this.
ACTIVE = 0.01


class MixturePosterior(NamedTuple):
    """What an encoder says of images.

    Arguments:
        sticks: The law of the weights of k components, with batch shape :math:`(B)`.
        kl_sticks: The KL of all sticks, those that are cut included, with shape :math:`(B)`.
        loc: Means of the components, with shape :math:`(B, k, D)`.
        scale: Their standard deviations.
        prior_loc: Means of the components of the prior, with shape :math:`(k, D)`.
        mass_cut: The mass of the sticks that are left out, with shape :math:`(B)`.
        num_needed: How many sticks the pilot draw asked for, which was rounded up; all where nothing is cut.
    """

    sticks: StickLaw
    kl_sticks: Tensor
    loc: Tensor
    scale: Tensor
    prior_loc: Tensor
    mass_cut: Tensor
    num_needed: int

    @property
    def num_components(self) -> int:
        """k, the number of components that are kept."""
        return self.loc.shape[-2]

    def kl_of_components(self) -> Tensor:
        """The KL from each component to that of the prior, in closed form, in nats: shape :math:`(B, k)`."""
        return kl_from_standard(self.loc - self.prior_loc, self.scale)


class ComponentDraws(NamedTuple):
    r"""Draws of weights and of a point of each of k components, each with shape :math:`(S, B, k)`.

    Arguments:
        log_weights: :math:`\log \pi_k`.
        log_likelihood: :math:`\log p(x \mid z_k)`.
        log_ratio: :math:`\log N(z_k; m_k, I) - \log N(z_k; \mu_k, \sigma_k^2)`.
    """

    log_weights: Tensor
    log_likelihood: Tensor
    log_ratio: Tensor

    def __repr__(self) -> str:
        return reprs.of_fields(self)

    @property
    def log_terms(self) -> Tensor:
        """The logarithms of what each component adds to the likelihood of an image: shape :math:`(S, B, k)`.

        Their softmax is what each has a share of.
        """
        return self.log_weights + self.log_likelihood + self.log_ratio


class DLGMMTerms(NamedTuple):
    r"""What one pass gives, in nats but for numbers and shares, each with shape :math:`(S, B)`.

    Arguments:
        loss: The negative bound, averaged over samples and images, with shape :math:`()`.
        log_likelihood: :math:`\sum_k r_k \log p(x \mid z_k)`; the shares :math:`r_k` are the weights or,
            summed out, the posterior probabilities of the components.
        kl_components: What components cost: :math:`\sum_k \pi_k \mathrm{KL}_k` or, summed out, the
            log-likelihood less the logarithm of the sum.
        kl_sticks: The KL of the sticks.
        active_per_draw: How many shares of a draw are above one per cent.
        num_components: How many components are kept.
        sticks_needed: How many sticks the pilot draw asked for.
        mass_cut: The mass of the sticks that are left out.
    """

    loss: Tensor
    log_likelihood: Tensor
    kl_components: Tensor
    kl_sticks: Tensor
    active_per_draw: Tensor
    num_components: Tensor
    sticks_needed: Tensor
    mass_cut: Tensor


class DLGMM(nn.Module):
    r"""A VAE whose latent is a mixture of Gaussians with weights of its own for each image.

    .. math:: \pi \sim p(\pi), \qquad z \mid \pi \sim \sum_k \pi_k N(m_k, I), \qquad x \sim p(x \mid z)

    with the weights broken off a stick, and means :math:`m_k` of the prior that are fixed and far apart. The
    posterior is of the same form, :math:`q(\pi \mid x)` and Gaussians :math:`q_k(z \mid x) = N(\mu_k(x),
    \sigma_k^2(x))`. What is trained is a lower bound on log p(x), either the evidence lower bound with the
    component as a variable, whose posterior probabilities are the weights (Nalisnick et al., 2016),

    .. math::
        E_{q(\pi \mid x)} \sum_k \pi_k
        \bigl(E_{q_k} \log p(x \mid z_k) - \mathrm{KL}(q_k \| N(m_k, I))\bigr)
        - \mathrm{KL}(q(\pi \mid x) \| p(\pi))

    or the one with the component summed out, by Jensen's inequality no looser and of the same price,

    .. math::
        E_{q(\pi \mid x), q_1, \ldots, q_K} \log \sum_k \pi_k
        \frac{p(x \mid z_k) N(z_k; m_k, I)}{q_k(z_k \mid x)} - \mathrm{KL}(q(\pi \mid x) \| p(\pi))

    With the first a component is asked to explain an image as often as its weight says, so that all learn to
    explain all images; with the second the one that explains it best has the gradient, and components divide
    the images among themselves.

    Each component is decoded, and all KLs are in closed form or by quadrature. With truncation a pilot draw,
    apart from all others and without gradient, tells how many sticks a batch needs. What remains then belongs
    to the last component, neither the encoder's heads nor the decoder meet those between, and a step costs
    that much less. The KL stays that of all sticks, so that those which are cut go back to their prior. In
    evaluation mode nothing is cut, and what remains goes to components that may never have been trained.

    The model is pure but for that number: noise is an argument.

    Arguments:
        trunk: From images to hidden units.
        num_hidden: How many these are.
        decoder: From points of the latent to the parameters of the pixels.
        widest: Numbers of the largest tensor that the decoder makes of a point.
        sticks: The law of the weights.
        prior_loc: The means of the components of the prior, with shape :math:`(K, D)`.
        generator: The source of the initial weights of the encoder's heads.
        likelihood: The law of an image given what the decoder puts out.
        truncation: How many sticks are kept in training; ``None`` for all.
        sums_out: Whether the component is summed out of the bound that is trained.

    References:
        | Approximate Inference for Deep Latent Gaussian Mixtures (Nalisnick, Hertel and Smyth, 2016)
        | Invertible Gaussian Reparameterization (Potapczynski et al., 2020)
    """

    def __init__(
        self,
        trunk: nn.Module,
        num_hidden: int,
        decoder: nn.Module,
        widest: int,
        sticks: Sticks,
        prior_loc: Tensor,
        generator: Generator,
        likelihood: Likelihood | None = None,
        truncation: StickTruncation | None = None,
        sums_out: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.decoder = decoder
        self.widest = widest
        self.sticks = sticks
        self.likelihood = LIKELIHOODS["bernoulli"] if likelihood is None else likelihood
        self.truncation = truncation
        self.sums_out = sums_out
        self.register_buffer("prior_loc", prior_loc)
        self.prior_loc: Tensor
        flat = prior_loc.numel()
        self.stick_head, self.loc_head, self.log_scale_head = (
            _linear(num_hidden, count, generator) for count in (sticks.num_outputs, flat, flat)
        )
        # Sticks begin at their prior, and those that no batch needs stay there.
        nn.init.zeros_(self.stick_head.weight)

    @property
    def num_components(self) -> int:
        """The number K of components, truncated or not."""
        return self.prior_loc.shape[0]

    @property
    def dim(self) -> int:
        """The number D of coordinates of a component."""
        return self.prior_loc.shape[1]

    # Of a draw for an image: the sticks, the pilot, then all components.

    def draw_noise(self, sample_shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """The noise of a pass: the only random step.

        Arguments:
            sample_shape: The shape :math:`(*S)` of samples and of images together, such as :math:`(S, B)`.
            generator: The source of randomness; torch's default one if ``None``.

        Shapes:
            Result :math:`(*S, N)`, N being 2 (K - 1) + K D.
        """
        parts = [self.sticks.draw_noise(sample_shape, generator, self.prior_loc) for _ in range(2)]
        parts.append(self._normal((*sample_shape, self.prior_loc.numel()), generator))
        return torch.cat(parts, dim=-1)

    def encode(
        self, x: Tensor, temperature: Tensor | float = 1.0, pilot: Tensor | None = None
    ) -> MixturePosterior:
        """The posterior of images.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            temperature: Of logit-normal sticks.
            pilot: Noise of the sticks for the pilot draw, with shape :math:`(S, B, K - 1)`; ``None``: no
                component is cut.
        """
        h = self.trunk(x)
        law = self.sticks(self.stick_head(h), temperature)
        kl_sticks = law.kl()
        mass_cut = torch.zeros_like(h[..., 0].detach())
        num_needed = self.num_components - 1
        if pilot is None or self.truncation is None:
            kept: Tensor | None = None
        else:
            with torch.no_grad():
                found = self.truncation.count(law.log_left(pilot).double())
            mass_cut, num_needed = found.mass_cut.to(h.dtype), found.num_needed
            kept = self._kept(found.num_sticks)
            if kept is not None:
                law = law.first(found.num_sticks)
        loc, log_scale = (self._head(head, h, kept) for head in (self.loc_head, self.log_scale_head))
        prior_loc = self.prior_loc if kept is None else self.prior_loc[kept]
        return MixturePosterior(
            law, kl_sticks, prior_loc + loc, log_scale.exp(), prior_loc, mass_cut, num_needed
        )

    def decode(self, z: Tensor) -> Distribution:
        """The law of images given points of the latent, :math:`(*, D)`, with batch shape :math:`(*)`."""
        return self.likelihood.law(self.decoder(z))

    def forward(self, x: Tensor, noise: Tensor, temperature: Tensor | float = 1.0) -> DLGMMTerms:
        """The loss and its parts.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            noise: As :meth:`draw_noise` gives it for :math:`(S, B)`.
            temperature: Of logit-normal sticks.
        """
        pilot = noise[..., self.num_components - 1 : 2 * (self.num_components - 1)]
        posterior = self.encode(x, temperature, pilot if self.training else None)
        drawn = self.draw(x, posterior, noise)
        shares, log_likelihood, kl_components = self._divided(posterior, drawn)
        kl_sticks = posterior.kl_sticks.expand_as(log_likelihood)
        loss = (kl_components + kl_sticks - log_likelihood).mean()
        return DLGMMTerms(
            loss,
            log_likelihood,
            kl_components,
            kl_sticks,
            (shares.detach() > ACTIVE).sum(-1).to(loss.dtype),
            torch.full_like(log_likelihood.detach(), posterior.num_components),
            torch.full_like(log_likelihood.detach(), posterior.num_needed),
            posterior.mass_cut.expand_as(log_likelihood),
        )

    def draw(self, x: Tensor, posterior: MixturePosterior, noise: Tensor) -> ComponentDraws:
        """Draws of the weights and of a point of every component, each decoded.

        Arguments:
            x: Images in the form that the likelihood needs, with shape :math:`(B, C, H, W)`.
            posterior: That of the images.
            noise: As :meth:`draw_noise` gives it for :math:`(S, B)`.
        """
        count = self.num_components - 1
        kept = posterior.num_components
        sticks = noise[..., : kept - 1]
        normal = noise[..., 2 * count :]
        epsilon = normal.reshape(*normal.shape[:-1], self.num_components, self.dim)[..., :kept, :]
        z = torch.addcmul(posterior.loc, posterior.scale, epsilon)
        away = z - posterior.prior_loc
        log_ratio = posterior.scale.log() + 0.5 * (epsilon * epsilon - away * away)
        return ComponentDraws(
            posterior.sticks.log_weights(sticks),
            self.decode(z).log_prob(x.unsqueeze(-4)),
            log_ratio.sum(-1),
        )

    def bound(self, posterior: MixturePosterior, drawn: ComponentDraws) -> Tensor:
        """The bound that is trained, of each draw, in nats.

        Arguments:
            posterior: That of the images.
            drawn: Its draws, as :meth:`draw` gives them.

        Shapes:
            Result :math:`(S, B)`.
        """
        _, log_likelihood, kl_components = self._divided(posterior, drawn)
        return log_likelihood - kl_components - posterior.kl_sticks

    def shares(self, x: Tensor, posterior: MixturePosterior, noise: Tensor) -> Tensor:
        """The posterior probabilities of the components, as the bound has them, with shape :math:`(S, B, k)`.

        Arguments are those of :meth:`draw`; nothing is decoded where the shares are the weights.
        """
        if self.sums_out:
            return self.draw(x, posterior, noise).log_terms.softmax(-1)
        sticks = noise[..., : posterior.num_components - 1]
        return posterior.sticks.log_weights(sticks).exp()

    def draw_points(
        self, posterior: MixturePosterior, num_samples: int, generator: Generator | None = None
    ) -> Tensor:
        """Points of the latent, each of a component that is drawn by the weights: shape :math:`(S, B, D)`.

        Arguments:
            posterior: That of the images, with nothing cut.
            num_samples: The number S of points for each image.
            generator: The source of weights, components and points.
        """
        shape = (num_samples, *posterior.loc.shape[:-2])
        component = self._drawn(posterior.sticks, shape, generator)[..., None, None]
        loc, scale = (
            of.expand(*shape, *of.shape[-2:]).take_along_dim(component, -2).squeeze(-2)
            for of in (posterior.loc, posterior.scale)
        )
        return torch.addcmul(loc, scale, self._normal(tuple(loc.shape), generator))

    def draw_prior(
        self, num_points: int, temperature: Tensor | float = 1.0, generator: Generator | None = None
    ) -> Tensor:
        """Points of the prior, with shape :math:`(N, D)`.

        Arguments:
            num_points: The number N of points.
            temperature: Of logit-normal sticks.
            generator: The source of weights, components and points.
        """
        prior = self.sticks(self.prior_loc.new_zeros(self.sticks.num_outputs), temperature)
        loc = self.prior_loc[self._drawn(prior, (num_points,), generator)]
        return loc + self._normal(tuple(loc.shape), generator)

    def _drawn(self, sticks: StickLaw, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        """Components, each by weights of its own, int64 with that shape."""
        noise = self.sticks.draw_noise(shape, generator, self.prior_loc)
        weights = sticks.log_weights(noise).exp()
        return torch.multinomial(weights.flatten(0, -2), 1, generator=generator).view(shape)

    def _divided(self, posterior: MixturePosterior, drawn: ComponentDraws) -> tuple[Tensor, Tensor, Tensor]:
        """The shares of the components, the log-likelihood by these, and what the components cost."""
        if not self.sums_out:
            shares = drawn.log_weights.exp()
            log_likelihood = (shares * drawn.log_likelihood).sum(-1)
            return shares, log_likelihood, (shares * posterior.kl_of_components()).sum(-1)
        shares = drawn.log_terms.softmax(-1)
        log_likelihood = (shares * drawn.log_likelihood).sum(-1)
        return shares, log_likelihood, log_likelihood - drawn.log_terms.logsumexp(-1)

    @property
    def largest_per_sample(self) -> int:
        """Numbers of the largest tensor that a sample of one image makes."""
        return self.num_components * max(self.dim, self.widest)

    def _normal(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        like = self.prior_loc
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)

    def _kept(self, num_sticks: int) -> Tensor | None:
        """The components of the first sticks and of what remains; ``None`` for all."""
        last = self.num_components - 1
        if num_sticks == last:
            return None
        kept = torch.arange(num_sticks + 1, device=self.prior_loc.device)
        kept[-1] = last
        return kept

    def _head(self, head: nn.Linear, h: Tensor, kept: Tensor | None) -> Tensor:
        """What a head says of the components that are kept, with shape :math:`(B, k, D)`."""
        weight: Tensor = head.weight
        bias: Tensor = head.bias
        if kept is not None:
            weight = weight.view(self.num_components, self.dim, -1)[kept].flatten(0, 1)
            bias = bias.view(self.num_components, self.dim)[kept].flatten()
        return linear(h, weight, bias).view(*h.shape[:-1], -1, self.dim)


def _linear(fan_in: int, fan_out: int, generator: Generator) -> nn.Linear:
    made = nn.Linear(fan_in, fan_out, device="meta")
    initialized(made, generator)
    return made


def separated_means(num_components: int, dim: int, separation: float, generator: Generator) -> Tensor:
    r"""Means on distinct corners of the hypercube :math:`\{-s, s\}^D`, with shape :math:`(K, D)`.

    Arguments:
        num_components: The number K of means.
        dim: The number D of coordinates.
        separation: s.
        generator: The source of the corners.

    Raises:
        ValueError: The hypercube has fewer corners.
    """
    if num_components > 2**dim:
        raise ValueError(
            f"expected at most as many components as a hypercube of {dim} dimensions has corners, {2**dim}; "
            f"got {num_components}; take more dimensions or fewer components"
        )
    if dim <= 16:
        number = torch.randperm(2**dim, generator=generator)[:num_components]
        bits = number.unsqueeze(-1) >> torch.arange(dim) & 1
        return separation * (2.0 * bits - 1.0)
    found: list[Tensor] = []
    while len(found) < num_components:
        corner = torch.randint(2, (dim,), generator=generator)
        if not any(torch.equal(corner, other) for other in found):
            found.append(corner)
    return separation * (2.0 * torch.stack(found) - 1.0)
