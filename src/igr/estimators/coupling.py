r"""A draw of the noise seen in two ways: as free noise, and as noise given the category that it gave.

A control variate c of the numbers s, the largest of which marks the category, is coupled to the
score-function estimator by :math:`\tilde s`: numbers drawn from the law of s given the category. Here
:math:`\tilde s` has the *value* of s (the noise of the conditional law is whatever makes it so), and only its
gradient differs. So

.. math::
    g = (f(d) - c(s)) \nabla \log p(d) + (J_s - J_{\tilde s})^T \nabla_s c(s)

takes one evaluation of the control variate instead of two, and the two products with a Jacobian are written
out: no pass of automatic differentiation goes through the law.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from igr.distributions import GumbelSoftmax, InvertibleGaussian, SimplexRelaxation
from igr.kernels import simplex
from igr.kernels.gaussian_conditional import gaussian_conditional, push_back
from igr.kernels.numbers import LOWEST_LOGARITHM, column


class Coupling(ABC):
    """One draw for each sample of a law, and the gradients that follow from it.

    Attributes:
        parameters: What the gradients are of, each with shape :math:`(*B, V, n)`.
        hard: The vertices, with shape :math:`(S, *B, V, K)`, without gradient.
        scores: The numbers the largest of which marks the category, likewise.
    """

    parameters: tuple[Tensor, ...]
    hard: Tensor
    scores: Tensor

    @abstractmethod
    def gradients(self, advantage: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        r"""The estimate of each sample, for each parameter, with shape :math:`(S, *B, V, n)`.

        Arguments:
            advantage: What is multiplied by :math:`\nabla \log p(d)`, with shape :math:`(S, *B)`.
            cotangent: :math:`\nabla_s c`, with shape :math:`(S, *B, V, K)`.

        Both are differentiable.
        """


class _Gumbel(Coupling):
    r"""Of Gumbel-Softmax, with logits l and :math:`s = l + g`.

    Given that k won, :math:`s_k = -\log e_k + \log Z` and :math:`s_j = -\log(e_j e^{-l_j} + e_k / Z)` with
    free exponential variables e, Z being the sum of :math:`e^l`. At fixed e, with :math:`\pi = e^l / Z`,

    .. math:: (J_s - J_{\tilde s})\, dl = e^{s_j - s_k} (dl_j - \pi^T dl)
    """

    def __init__(self, law: GumbelSoftmax, noise: Tensor) -> None:
        # Finite where they are masked, and where a category is never taken.
        lowest = max(LOWEST_LOGARITHM, torch.finfo(law.dtype).min)
        self.parameters = (law._logits.clamp_min(lowest),)
        with torch.no_grad():
            scores = law._scores(noise).clamp_min(LOWEST_LOGARITHM)
            self.hard = simplex.nearest_vertex(scores)
            self.scores = scores
            self._probs = law.probs.to(noise.dtype)
            self._ratio = torch.exp(scores - scores.amax(-1, keepdim=True))

    def gradients(self, advantage: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        pulled = self._ratio * cotangent
        by_score = advantage[..., None, None] * (self.hard - self._probs)
        return (by_score + pulled - self._probs * pulled.sum(-1, keepdim=True),)


class _Gaussian(Coupling):
    """Of IGR-I: the pre-image and the threshold; see :mod:`igr.kernels.gaussian_conditional`."""

    def __init__(self, law: InvertibleGaussian, noise: Tensor) -> None:
        dtype = noise.dtype
        with torch.no_grad():
            self.scores = law._scores(noise)
            self.hard = simplex.nearest_vertex(self.scores)
            self._winner = self.hard[..., :-1].bool()
            self._noise = noise
            loc, scale = (t.to(dtype).expand(noise.shape) for t in (law.loc, law.scale))
            edge = self.scores[..., -1:]
            self._conditional = gaussian_conditional(loc, scale, noise, self._winner, edge)
        # Everything depends on loc - c alone; the difference is zero, and carries the gradient of c.
        threshold = column(law.threshold(dtype), dtype)
        loc = law.loc
        if isinstance(threshold, Tensor):
            loc = loc - (threshold - threshold.detach())
        self.parameters = (loc, law.scale)

    def gradients(self, advantage: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        factor = advantage[..., None, None]
        by_loc, by_scale = push_back(self._conditional, self._noise, self._winner, cotangent[..., :-1])
        return (
            factor * self._conditional.score_by_loc + by_loc,
            factor * self._conditional.score_by_scale + by_scale,
        )


def coupled(owner: str, law: SimplexRelaxation, noise: Tensor) -> Coupling:
    """The coupling of a draw.

    Raises:
        NotImplementedError: The conditional law of the noise is not known.
    """
    if isinstance(law, GumbelSoftmax):
        return _Gumbel(law, noise)
    if isinstance(law, InvertibleGaussian) and law.transform is None and law.mask is None:
        return _Gaussian(law, noise)
    raise NotImplementedError(
        f"{owner}: the law of the noise given the category is known for Gumbel-Softmax, Bernoulli and IGR-I "
        f"without a mask; got {law!r}; use ScoreFunction."
    )
