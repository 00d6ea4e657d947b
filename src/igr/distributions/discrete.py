"""The law of the largest coordinate of a relaxation, as a distribution over one-hot vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical
from torch.nn.functional import one_hot

from igr import reprs
from igr.kernels.tracing import can_be_read, is_traced
from igr.validation import compute_dtype


class DiscreteLaw(OneHotCategorical):
    r"""A law over the K vertices of the simplex, exact or estimated.

    Everything that ``torch.distributions.OneHotCategorical`` does, with what it was computed from kept.

    Arguments:
        log_probs: :math:`\log P(k)` as computed, with shape :math:`(*B, K)`; minus infinity is allowed.
        standard_error: Of each probability, for an estimate; ``None`` for an exact law.
        dtype: The dtype of results; that of log_probs if ``None``.

    A category of probability zero adds nothing to :meth:`entropy` and to a divergence, and no gradient;
    that of torch's own entropy is NaN there once it is scaled by more than one.

    :attr:`log_probs` are the numbers as computed, whose exponentials sum to one but for the error of
    the computation; :attr:`logits` and :attr:`probs` are normalized.

    Example:
        >>> law = DiscreteLaw(torch.tensor([0.25, 0.75]).log())
        >>> law.probs
        tensor([0.2500, 0.7500])
    """

    def __init__(
        self,
        log_probs: Tensor,
        standard_error: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dtype = log_probs.dtype if dtype is None else dtype
        # Half precision cannot hold a law that sums to one, so divergences are taken from these.
        self._exact_logits = torch.log_softmax(log_probs.to(compute_dtype(log_probs.dtype)), dim=-1)
        self.log_probs = log_probs.to(dtype)
        self.standard_error = None if standard_error is None else standard_error.to(dtype)
        # Made when it is asked for, but a tracer must not meet a law that changes.
        self._inner: Categorical | None = None
        if is_traced():
            self._inner = self._made_categorical()
        # Not through OneHotCategorical's own __init__, whose inner Categorical always checks: the numbers
        # come from a computation, the check refuses the minus infinity of a category that was never
        # drawn, and it waits for the device.
        Distribution.__init__(self, log_probs.shape[:-1], log_probs.shape[-1:], validate_args=False)

    @classmethod
    def from_counts(cls, counts: Tensor, total: int, dtype: torch.dtype) -> Self:
        """The shares of the categories among draws, with their standard errors.

        Arguments:
            counts: How often each category came up, with shape :math:`(*B, K)`.
            total: The number of draws of each law.
            dtype: The dtype of results.
        """
        share = counts / total
        standard_error = torch.sqrt(share * (1.0 - share) / total)
        return cls(torch.log(share), standard_error, dtype)

    @property
    def _categorical(self) -> Categorical:
        """What OneHotCategorical asks; made when it is asked, since a divergence never does."""
        if self._inner is None:
            self._inner = self._made_categorical()
        return self._inner

    @_categorical.setter
    def _categorical(self, inner: Categorical) -> None:
        self._inner = inner

    def _made_categorical(self) -> Categorical:
        return Categorical(logits=self._exact_logits.to(self.log_probs.dtype), validate_args=False)

    @property
    def exact_logits(self) -> Tensor:
        """Normalized log-probabilities in the precision of the computation, at least float32.

        With shape :math:`(*B, K)`.
        """
        return self._exact_logits

    @property
    def num_categories(self) -> int:
        """K, the number of categories."""
        return self._event_shape[0]

    def entropy(self) -> Tensor:
        r""":math:`-\sum_k P(k) \log P(k)`, in nats, with shape :math:`(*B)`."""
        log_p = torch.where(self._exact_logits == -torch.inf, 0.0, self._exact_logits)
        return -(torch.exp(log_p) * log_p).sum(-1).to(self.log_probs.dtype)

    def __repr__(self) -> str:
        how = "exact"
        error = self.standard_error
        if error is not None:
            how = "estimated"
            if can_be_read(error) and error.numel() > 0:
                how += f", standard_error<={error.max().item():.2g}"
        name = type(self).__name__
        whole = [*reprs.shape(self), how]
        if not reprs.is_small(self._exact_logits):
            return reprs.call(name, whole)
        probs = torch.exp(self._exact_logits.detach()).tolist()
        return reprs.call(name, [f"probs={reprs.numbers(probs)}", how], whole)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws one-hot vectors.

        Arguments:
            sample_shape: The shape :math:`S` of independent draws.
            generator: The source of randomness; torch's default one if ``None``.

        Shapes:
            Result :math:`(*S, *B, K)`, in the dtype of the law.
        """
        shape = Size(sample_shape)
        with torch.no_grad():
            # In the precision of the computation: in half precision torch draws what cannot be.
            probs = torch.exp(self._exact_logits).reshape(-1, self.num_categories)
            drawn = torch.multinomial(probs, shape.numel(), replacement=True, generator=generator)
            index = drawn.T.reshape(shape + self._batch_shape)
            return one_hot(index, self.num_categories).to(self.log_probs.dtype)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """A view with another batch shape, to which the batch shape broadcasts, as for every distribution."""
        new = self._get_checked_instance(DiscreteLaw, _instance)
        shape = Size(batch_shape) + self._event_shape
        error = self.standard_error
        new.log_probs = self.log_probs.expand(shape)
        new._exact_logits = self._exact_logits.expand(shape)
        new.standard_error = None if error is None else error.expand(shape)
        super().expand(Size(batch_shape), _instance=new)
        return new


def exact_logits(law: OneHotCategorical) -> Tensor:
    """Normalized log-probabilities of a discrete law, at least in float32."""
    if isinstance(law, DiscreteLaw):
        return law.exact_logits
    return torch.log_softmax(law.logits.to(compute_dtype(law.logits.dtype)), dim=-1)


def dtype_of(law: OneHotCategorical) -> torch.dtype:
    """The dtype of the results of a discrete law."""
    tensor: Tensor = law.log_probs if isinstance(law, DiscreteLaw) else law.logits
    return tensor.dtype


def check_categories(p: Distribution, q: Distribution) -> None:
    """ValueError unless both laws are over the same number of categories."""
    if p.event_shape != q.event_shape:
        raise ValueError(
            "kl_divergence: expected laws over the same number of categories; "
            f"got {p.event_shape[0]} and {q.event_shape[0]}; K categories take K logits, or K - 1 means of "
            "Gaussians."
        )
