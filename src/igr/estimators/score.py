"""Estimators from the score, the gradient of the log-probability: no gradient of the function is needed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from igr.distributions import GumbelSoftmax, InvertibleGaussian, SimplexRelaxation
from igr.estimators.estimator import Estimator, Function, Surrogate
from igr.estimators.laws import Law
from igr.kernels.tracing import is_traced
from igr.validation import check_name

BASELINES = ("none", "moving_average", "leave_one_out")


def _log_prob(law: Law, hard: Tensor) -> Tensor:
    """log p(d) summed over the variables, [S, *B]."""
    log_probs = law.log_probs()
    # Chosen and not multiplied, since zero times minus infinity is no number.
    return torch.where(hard > 0, log_probs, 0.0).sum((-2, -1))


def _with_score(values: Tensor, advantage: Tensor, log_prob: Tensor) -> Surrogate:
    """The mean of the values as loss, with the gradient of advantage times log-probability added."""
    loss = (values + advantage.detach() * (log_prob - log_prob.detach())).mean(0).to(values.dtype)
    return Surrogate(loss.detach(), loss)


class ScoreFunction(Estimator):
    r"""The score-function estimator (REINFORCE).

    .. math:: g = \frac{1}{S} \sum_s (f(d_s) - b_s) \nabla_\theta \log p_\theta(d_s)

    Unbiased. For every law with an exact discrete law, and for functions without a gradient.

    Cost: one evaluation of the function for each sample; its gradient only for parameters of its own.

    Arguments:
        baseline: b: ``"none"``; ``"moving_average"`` of the function's mean over all earlier calls, the state
            of the module, which changes at each call while it is in training mode (not under ``torch.func``
            or a tracer); or ``"leave_one_out"``, the mean over the other samples of the call, at least two.
        decay: Of the moving average, from 0 up to 1.

    Raises:
        ValueError: for another baseline, or a decay out of its range.

    References:
        | Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning
          (Williams, 1992)
        | Buy 4 REINFORCE Samples, Get a Baseline for Free! (Kool, van Hoof and Welling, 2019)
    """

    unbiased = True

    def __init__(self, baseline: str = "none", decay: float = 0.99) -> None:
        super().__init__()
        check_name(type(self).__name__, "baseline", baseline, BASELINES)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"{type(self).__name__}: expected decay from 0 up to 1; got {decay}.")
        self.baseline = baseline
        self.decay = decay
        if baseline == "moving_average":
            self.register_buffer("total", torch.zeros(()))
            self.register_buffer("weight", torch.zeros(()))
        self.total: Tensor
        self.weight: Tensor

    @property
    def least_samples(self) -> int:  # type: ignore[override]
        """Two where each sample needs another one."""
        return 2 if self.baseline == "leave_one_out" else 1

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        hard = law.relaxation.vertex(noise)
        log_prob = _log_prob(law, hard)
        values = function(hard)
        reward = values.detach()
        return _with_score(values, reward - self._baseline(reward), log_prob)

    def _baseline(self, reward: Tensor) -> float | Tensor:
        if self.baseline == "none":
            return 0.0
        if self.baseline == "leave_one_out":
            return (reward.sum(0) - reward) / (len(reward) - 1)
        # That of earlier calls: a baseline that had seen these samples would not be independent of them.
        earlier = self.total / self.weight.clamp_min(1.0 - self.decay)
        if self.training and not is_traced():
            self.total.lerp_(reward.mean().to(self.total.dtype), 1.0 - self.decay)
            self.weight.lerp_(torch.ones_like(self.weight), 1.0 - self.decay)
        return earlier.to(reward.dtype)

    def extra_repr(self) -> str:
        return self.baseline


class VIMCO(Estimator):
    r"""The score-function estimator of a multi-sample bound, each sample with the others as its baseline.

    .. math:: L = E \log \frac{1}{S} \sum_s e^{f(d_s)}, \quad
        g = \sum_s (\hat L - \hat L_{-s}) \nabla \log p(d_s) + \sum_s \tilde w_s \nabla f(d_s)

    where :math:`\hat L_{-s}` has the mean of the other :math:`f` in the place of :math:`f(d_s)`, and
    :math:`\tilde w = \mathrm{softmax}(f)`. Unbiased for L, which with S = 1 would be the expectation of f;
    the function is a log-weight, :math:`\log p(x, d) - \log q(d \mid x)` in a VAE. For every law with an
    exact discrete law.

    Cost: one evaluation of the function for each sample, at least two, and of its gradient where it depends
    on parameters.

    References:
        Variational Inference for Monte Carlo Objectives (Mnih and Rezende, 2016), equation 10
    """

    unbiased = True
    of_log_weights = True
    least_samples = 2

    def objective(self, values: Tensor) -> Tensor:
        """What the estimate is of, given the values of one draw: the log of the mean of their exponentials.

        Shapes:
            Values :math:`(S, *B)`, result :math:`(*B)`, in nats.
        """
        return torch.logsumexp(values, 0) - math.log(len(values))

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        hard = law.relaxation.vertex(noise)
        log_prob = _log_prob(law, hard)
        values = function(hard)
        count = len(values)
        bound = self.objective(values)
        with torch.no_grad():
            others = (values.sum(0) - values) / (count - 1)
            # The matrix of values with the diagonal replaced: [S, S, *B], reduced over its second dimension.
            own = torch.eye(count, dtype=torch.bool, device=values.device)
            own = own.reshape(count, count, *([1] * (values.dim() - 1)))
            replaced = torch.where(own, others.unsqueeze(0), values.unsqueeze(0))
            advantage = bound - self.objective(replaced.transpose(0, 1))
        loss = (bound + (advantage * (log_prob - log_prob.detach())).sum(0)).to(values.dtype)
        return Surrogate(bound.detach(), loss)


class DisARM(Estimator):
    r"""The antithetic estimator for binary variables (also U2G), over pairs of samples.

    With logits :math:`\phi`, a pair b and b' from :math:`\epsilon` and its mirror image, for variable v

    .. math:: g_v = \tfrac{1}{2} (f(b) - f(b')) (-1)^{b'_v} 1[b_v \neq b'_v]\, \mathrm{sigmoid}(|\phi_v|)

    Unbiased. For laws with two categories: Bernoulli, Gumbel-Softmax and IGR-I, the latter through the exact
    logits of its category.

    Cost: two evaluations of the function for each sample, which is a pair; its gradient only for parameters
    of its own.

    References:
        | DisARM: An Antithetic Gradient Estimator for Binary Latent Variables (Dong, Mnih and Tucker, 2020),
          equation 7
        | Probabilistic Best Subset Selection via Gradient-Based Optimization (Yin et al., 2020)
    """

    unbiased = True
    only_binary = True

    def _estimate(self, function: Function, law: Law, noise: Tensor) -> Surrogate:
        relaxation = law.relaxation
        if relaxation.num_categories != 2:
            raise NotImplementedError(
                f"{type(self).__name__}: it is for binary variables; got {relaxation.num_categories} "
                "categories; use REBAR, or ScoreFunction('leave_one_out')."
            )
        count = len(noise)
        hard = relaxation.vertex(torch.cat([noise, _mirrored(relaxation, noise)]))
        values = function(hard)
        log_probs = law.log_probs()
        logit = log_probs[..., 1] - log_probs[..., 0]  # [*B, V]
        with torch.no_grad():
            one, other = hard[:count, ..., 1], hard[count:, ..., 1]
            first, second = values[:count], values[count:]
            # (-1)^b' where they differ is b - b'.
            half = 0.5 * (first - second).unsqueeze(-1) * (one - other)
            by_logit = half * torch.sigmoid(logit.abs())
        slope = (by_logit.mean(0) * (logit - logit.detach())).sum(-1)
        loss = (values.mean(0) + slope).to(values.dtype)
        return Surrogate(loss.detach(), loss)


def _mirrored(relaxation: SimplexRelaxation, noise: Tensor) -> Tensor:
    """Noise of the same law whose category lies as deep on the other side."""
    if isinstance(relaxation, GumbelSoftmax):
        return noise.flip(-1)  # the difference of the two Gumbel variables, negated
    if isinstance(relaxation, InvertibleGaussian):
        return -noise
    raise NotImplementedError(f"DisARM: expected Gumbel-Softmax, Bernoulli or IGR; got {relaxation!r}.")
