"""Estimators that pass the gradient of the function on to a differentiable stand-in for the sample."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from igr.distributions import GumbelSoftmax, SimplexRelaxation
from igr.estimators.estimator import Estimator, Function, Surrogate, mean_surrogate
from igr.estimators.laws import Law
from igr.kernels import simplex
from igr.validation import check_temperature, check_values, whole_number


class _Relaxed(Estimator):
    """An estimator with a temperature: that of the law unless one is given."""

    uses_temperature = True

    def __init__(self, temperature: float | None = None) -> None:
        super().__init__()
        if temperature is not None:
            check_temperature(type(self).__name__, "temperature", temperature, torch.float32)
        self.temperature = temperature

    def _relaxation(self, law: Law) -> SimplexRelaxation:
        if self.temperature is not None:
            return law.relaxation.with_point_temperature(self.temperature)
        if not law.has_temperature:
            raise ValueError(
                f"{type(self).__name__}: expected a relaxation, or a temperature; got a distribution without "
                f"one; make it {type(self).__name__}(temperature=...)."
            )
        return law.relaxation

    def extra_repr(self) -> str:
        return "" if self.temperature is None else f"temperature={self.temperature:g}"


class Pathwise(_Relaxed):
    r"""The reparameterization gradient of the relaxation: :math:`\nabla_\theta f(z_\theta(\epsilon))`.

    Unbiased for the expectation of f under the relaxed law, biased for that under the discrete one; the bias
    falls with the temperature and the variance rises. The function meets points inside the simplex.

    Cost: one evaluation of the function and of its gradient for each sample.

    Arguments:
        temperature: Of the relaxation; that of the law if ``None``. The vertices stay those of the law.

    Raises:
        ValueError: for a temperature that is not positive and finite.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014)
        | The Concrete Distribution (Maddison, Mnih and Teh, 2017)
    """

    unbiased = False

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        return mean_surrogate(function(self._relaxation(law).rsample(noise=noise)))


class GumbelStraightThrough(_Relaxed):
    r"""The vertex nearest to the relaxed point, with the gradient of that point.

    .. math:: d = \text{nearest vertex of } z, \quad g = \nabla f(d)^T \frac{\partial z}{\partial \theta}

    Biased. Named after Gumbel-Softmax, for which it was proposed; here for every relaxation.

    Cost: one evaluation of the function and of its gradient for each sample.

    Arguments:
        temperature: Of the relaxation; that of the law if ``None``. The vertices stay those of the law.

    Raises:
        ValueError: for a temperature that is not positive and finite.

    References:
        Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), section 2.2
    """

    unbiased = False

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        return mean_surrogate(function(self._relaxation(law).straight_through(noise)))


class RaoBlackwellStraightThrough(_Relaxed):
    r"""The Gumbel straight-through estimator, averaged over the noise that gives the same vertex.

    .. math:: g = \nabla f(d)^T \frac{1}{M} \sum_m \frac{\partial z(\epsilon_m)}{\partial \theta},
        \quad \epsilon_m \sim p(\epsilon \mid d)

    Its expectation is that of :class:`GumbelStraightThrough` and its variance smaller: biased likewise. For
    Gumbel-Softmax and Bernoulli laws, whose conditional noise can be drawn in closed form.

    Cost: one evaluation of the function and of its gradient for each sample, and M relaxed points.

    Arguments:
        num_conditional: The number M of draws of the noise given the vertex.
        temperature: Of the relaxation; that of the law if ``None``. The vertices stay those of the law.

    Raises:
        TypeError: for a number of draws that is no int.
        ValueError: for fewer than one draw, or a temperature that is not positive and finite.

    References:
        Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient Estimator
        (Paulus, Maddison and Krause, 2021), equation 9
    """

    unbiased = False
    conditional_noise = "drawn"

    def __init__(self, num_conditional: int = 10, temperature: float | None = None) -> None:
        super().__init__(temperature)
        self.num_conditional = whole_number(type(self).__name__, "num_conditional", num_conditional, 1)
        self.draws_per_sample = 1 + self.num_conditional

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        relaxation = self._relaxation(law)
        if not isinstance(relaxation, GumbelSoftmax):
            raise NotImplementedError(
                f"{type(self).__name__}: the noise given the category has no closed form to draw from for "
                f"{type(relaxation).__name__}; use GumbelStraightThrough."
            )
        hard = relaxation.vertex(noise[0])
        with torch.no_grad():
            log_rates = relaxation.logits.to(noise.dtype)
            conditional = _conditional_noise(log_rates, hard.bool(), noise[1:])
        soft = relaxation.rsample(noise=conditional).mean(0)
        return mean_surrogate(function(simplex.straight_through(hard, soft)))


def _conditional_noise(logits: Tensor, winner: Tensor, gumbel: Tensor) -> Tensor:
    """Gumbel noise of which the given category is the winner, from free Gumbel noise.

    The largest perturbed logit is a Gumbel variable around log sum exp, whoever it belongs to; given it, the
    others are Gumbel variables that are truncated at it.
    """
    total = torch.logsumexp(logits, -1, keepdim=True)
    top = torch.where(winner, gumbel, -torch.inf).amax(-1, keepdim=True) + total
    other = -torch.logaddexp(-(logits + gumbel), -top)
    noise = torch.where(winner, top, other) - logits
    # A category that is never taken has no perturbed logit; any finite noise does.
    return torch.where(torch.isfinite(logits), noise, 0.0)


class _OverLaw(Estimator):
    """A vertex of the exact discrete law, with the gradient of a function of its log-probabilities."""

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        relaxation = law.relaxation
        hard = relaxation.vertex(noise)
        soft = self._stand_in(law.log_probs(), hard.to(noise.dtype)).to(relaxation.dtype)
        return mean_surrogate(function(simplex.straight_through(hard, soft)))

    @abstractmethod
    def _stand_in(self, log_probs: Tensor, hard: Tensor) -> Tensor:
        """What carries the gradient, [S, *B, V, K] or what broadcasts to it."""


class StraightThrough(_OverLaw):
    r"""The straight-through estimator: the sample counts as its own probability.

    .. math:: d \sim p_\theta, \quad g = \nabla f(d)^T \frac{\partial p_\theta}{\partial \theta}

    Biased, of the first order: exact where f is linear in each variable. For every law with an exact
    discrete law.

    Cost: one evaluation of the function and of its gradient for each sample.

    References:
        Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation
        (Bengio, Leonard and Courville, 2013)
    """

    unbiased = False

    def _stand_in(self, log_probs: Tensor, hard: Tensor) -> Tensor:
        return torch.exp(log_probs).expand_as(hard)


class ReinMax(_OverLaw):
    r"""The straight-through estimator of the second order (Heun's method).

    With :math:`\theta` the log-probabilities and :math:`\pi = (d + p_{\tau}) / 2`,

    .. math:: g = \nabla f(d)^T \frac{\partial}{\partial \theta}
        \Big(2\, \mathrm{softmax}\big(\theta + [\log \pi - \theta]\big) - \tfrac{1}{2}\, p\Big),

    what stands in brackets being held. Biased, of the second order: at temperature 1 exact where f is
    quadratic in each variable. For every law with an exact discrete law.

    Cost: one evaluation of the function and of its gradient for each sample.

    Arguments:
        temperature: Of the probabilities :math:`p_\tau` in the average.

    Raises:
        ValueError: for a temperature that is not positive and finite.

    References:
        Bridging Discrete and Backpropagation: Straight-Through and Beyond (Liu et al., 2023), algorithm 2
    """

    unbiased = False

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_temperature(type(self).__name__, "temperature", temperature, torch.float32)
        self.temperature = temperature

    def _stand_in(self, log_probs: Tensor, hard: Tensor) -> Tensor:
        with torch.no_grad():
            log_p = simplex.log_softmax(log_probs / self.temperature).expand_as(hard)
            # log of (d + p) / 2, of small probabilities without a look at their exponential
            log_mean = torch.where(hard > 0, torch.log1p(torch.exp(log_p)), log_p) - math.log(2.0)
            held = log_mean - log_probs
        return 2.0 * simplex.softmax(log_probs + held) - 0.5 * torch.exp(log_probs)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"


class GappedStraightThrough(_OverLaw):
    r"""The gapped straight-through estimator: logits moved until the drawn category leads by a gap.

    .. math:: m_k = (\max_j \theta_j - \theta_k) d_k - (\theta_k - \max_j \theta_j + \gamma)_+ (1 - d_k),
        \quad
        g = \nabla f(d)^T \frac{\partial}{\partial \theta} \mathrm{softmax}\Big(\frac{\theta + [m]}{\tau}\Big)

    :math:`\theta` being the log-probabilities and m held. Biased; less random than the Gumbel
    straight-through estimator, whose noise it replaces. For every law with an exact discrete law.

    Cost: one evaluation of the function and of its gradient for each sample.

    Arguments:
        gap: :math:`\gamma`; ``None`` for :math:`-\log(1 - p_d) / p_d`, p_d being the probability of the drawn
            category.
        temperature: :math:`\tau`.

    Raises:
        ValueError: for a gap or a temperature that is not positive and finite.

    References:
        Training Discrete Deep Generative Models via Gapped Straight-Through Estimator
        (Fan, Chi, Rudnicky and Ramadge, 2022), section 4
    """

    unbiased = False

    def __init__(self, gap: float | None = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        check_temperature(type(self).__name__, "temperature", temperature, torch.float32)
        if gap is not None:
            check_values(type(self).__name__, "gap", gap, positive=True)
        self.gap = gap
        self.temperature = temperature

    def _stand_in(self, log_probs: Tensor, hard: Tensor) -> Tensor:
        with torch.no_grad():
            drawn = hard > 0
            lead = log_probs.amax(-1, keepdim=True)
            gap: float | Tensor
            if self.gap is None:
                p = torch.where(drawn, torch.exp(log_probs), 0.0).sum(-1, keepdim=True)
                # Held below one, where the gap is infinite.
                p = p.clamp(torch.finfo(p.dtype).tiny, 1.0 - 1e-5)
                gap = -torch.log1p(-p) / p
            else:
                gap = self.gap
            move = torch.where(drawn, lead - log_probs, -(log_probs - lead + gap).clamp(min=0.0))
        return simplex.softmax((log_probs + move) / self.temperature)

    def extra_repr(self) -> str:
        return f"gap={self.gap}, temperature={self.temperature:g}"
