"""Countable support: an IGR-SB cut to the sticks that a batch really needs."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from igr import reprs, validation
from igr.distributions.invertible_gaussian import InvertibleGaussian
from igr.distributions.pre_image import name_of
from igr.kernels import stick_breaking
from igr.kernels.tracing import is_traced
from igr.transforms import LogisticStickBreakingTransform

SMALLEST_BUCKET = 8


@dataclass(frozen=True, eq=False)
class CutSticks:
    r"""An IGR-SB over the first sticks of a longer one.

    Arguments:
        law: An ordinary IGR-SB over the first n sticks and the last category: density, KL and exact
            discrete law are those of n coordinates.
        num_categories: K of the law that was cut.
        needed: The number of sticks that each pilot draw needed, with shape :math:`(S, *B)`; ``None``
            for the whole law.
        num_needed: Their quantile, which was rounded up to n.
        mass_cut: The mass of the sticks that were left out, :math:`\sum_{n < k < K} \pi_k`, on average
            over the pilot draws, with shape :math:`(*B)`; zero for the whole law.
    """

    law: InvertibleGaussian
    num_categories: int
    needed: Tensor | None
    num_needed: int
    mass_cut: Tensor

    def __repr__(self) -> str:
        sizes = [f"num_sticks={self.num_sticks}", f"num_categories={self.num_categories}"]
        batch_shape = f"batch_shape={tuple(self.law.batch_shape)}"
        cut = [f"num_needed={self.num_needed}", reprs.setting("mass_cut", self.mass_cut)]
        return reprs.call(type(self).__name__, [*sizes, batch_shape, *cut])

    @property
    def num_sticks(self) -> int:
        """n, the number of sticks that are kept."""
        return self.law.num_categories - 1

    def same_cut(self, law: InvertibleGaussian) -> InvertibleGaussian:
        """Another law over the same K categories cut to the same sticks, such as a prior for the KL.

        Raises:
            ValueError: for another kind of law or another number of categories.
        """
        _check_sticks("CutSticks.same_cut", law)
        if law.num_categories != self.num_categories:
            raise ValueError(
                f"CutSticks.same_cut: expected a law over {self.num_categories} categories, like the "
                f"one that was cut; got one over {law.num_categories}; give both as many sticks."
            )
        return first_sticks(law, self.num_sticks)

    def pad(self, points: Tensor, value: float = 0.0) -> Tensor:
        """Points over n + 1 categories as points over all K: the sticks, then zeros, then the last category.

        A network that reads them thus meets every category at one place, however many sticks are kept.

        Arguments:
            points: Points of the simplex, with shape :math:`(*, n + 1)`.
            value: What stands for a stick that was cut; minus infinity for logarithms.

        Shapes:
            Result :math:`(*, K)`.

        Raises:
            ValueError: for another number of categories.
        """
        count = self.law.num_categories
        if points.dim() == 0 or points.shape[-1] != count:
            raise ValueError(
                f"CutSticks.pad: expected points with {count} categories in the last dimension; got shape "
                f"{tuple(points.shape)}; give points of the law that is cut."
            )
        missing = self.num_categories - count
        if missing == 0:
            return points
        sticks = torch.nn.functional.pad(points[..., :-1], (0, missing), value=value)
        return torch.cat([sticks, points[..., -1:]], dim=-1)


class StickCount(NamedTuple):
    r"""How many sticks lengths ask for.

    Arguments:
        num_sticks: n, the number that is kept.
        num_needed: The quantile of the numbers needed, which was rounded up to n.
        reached: The share of draws whose sticks reach the threshold at all.
        needed: The number of sticks that each draw needed, with shape :math:`(S, *B)`.
        mass_cut: The mass of the sticks that are left out, :math:`\sum_{n < k < K} \pi_k`, on average over
            the draws, with shape :math:`(*B)`, in float64.
    """

    num_sticks: int
    num_needed: int
    reached: float
    needed: Tensor
    mass_cut: Tensor

    def __repr__(self) -> str:
        return reprs.of_fields(self)


class StickTruncation:
    r"""Cuts an IGR-SB with many sticks to as many as a batch needs, for a support that is countable.

    A pilot draw :math:`y \sim N(\mu, \sigma^2)`, without gradient and apart from every draw of the law
    itself, tells for each draw and variable the smallest number N whose lengths sum to more than the
    threshold, :math:`\sum_{k \le N} \pi_k > \rho`, that is :math:`\log(1 - \rho) > -\sum_{k \le N}
    \mathrm{softplus}(y_k)`. The batch takes the quantile of these numbers, rounded up to one of a few sizes
    (8, 16, 32, ... and the maximum), so that compiled code meets few shapes. Given that number the law is
    an ordinary IGR-SB over the first n sticks. For evaluation there is :meth:`whole`.

    Arguments:
        threshold: :math:`\rho`, the mass that the sticks have to reach, in (0, 1).
        quantile: The share of draws that are to reach it, in (0, 1].
        num_draws: How many pilot draws each variable gets.

    Raises:
        ValueError: for a threshold or quantile outside its range, or no draw.
        TypeError: unless they are numbers.

    References:
        Invertible Gaussian Reparameterization (Potapczynski et al., 2020), section 3.3; there the number is
        taken from the draw that is cut by it.

    Example:
        >>> transform = LogisticStickBreakingTransform()
        >>> law = InvertibleGaussian(torch.zeros(4, 99), 0.5, temperature=0.1, transform=transform)
        >>> cut = StickTruncation(threshold=0.99)(law, generator=torch.Generator().manual_seed(0))
        >>> cut.num_needed, cut.num_sticks, cut.law.num_categories
        (8, 8, 9)
        >>> cut.pad(cut.law.rsample()).shape
        torch.Size([4, 100])
    """

    def __init__(self, threshold: float = 0.99, quantile: float = 0.75, num_draws: int = 1) -> None:
        owner = type(self).__name__
        self.threshold = validation.real_number(owner, "threshold", threshold)
        self.quantile = validation.real_number(owner, "quantile", quantile)
        self.num_draws = validation.whole_number(owner, "num_draws", num_draws, minimum=1)
        if not 0.0 < threshold < 1.0:
            raise ValueError(
                f"StickTruncation: expected threshold in (0, 1); got {threshold!r}; it is the mass that the "
                "sticks have to reach."
            )
        if not 0.0 < quantile <= 1.0:
            raise ValueError(
                f"StickTruncation: expected quantile in (0, 1]; got {quantile!r}; it is the share of draws "
                "that are to reach the threshold."
            )
        self._has_warned = False

    def __call__(
        self,
        law: InvertibleGaussian,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> CutSticks:
        """The law over the sticks that are needed.

        Arguments:
            law: An IGR-SB over K categories, in either space.
            generator: The source of randomness of the pilot draw.
            noise: Base noise of the pilot draw instead, with shape :math:`(S, *B, K - 1)`.

        Raises:
            ValueError: for another kind of law.
            NotImplementedError: under a tracer, which cannot follow a number that depends on a draw.

        Warns:
            RuntimeWarning: once, if not even all sticks reach the threshold in the share of draws that
                ``quantile`` asks for.
        """
        _check_sticks("StickTruncation", law)
        with torch.no_grad():
            if noise is None:
                noise = law.draw_noise((self.num_draws,), generator)
            found = self.count(-torch.cumsum(stick_breaking.softplus(law.pre_image(noise)).double(), dim=-1))
        if found.reached < self.quantile and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"StickTruncation: expected {law.num_categories - 1} sticks to reach the threshold "
                f"{self.threshold:g} in {self.quantile:.0%} of the draws; got it in {found.reached:.0%}; "
                "all are kept, and more categories, a lower threshold or larger means would do.",
                RuntimeWarning,
                stacklevel=2,
            )
        return CutSticks(
            first_sticks(law, found.num_sticks),
            law.num_categories,
            found.needed,
            found.num_needed,
            found.mass_cut.to(law.dtype),
        )

    @torch.no_grad()
    def count(self, log_left: Tensor) -> StickCount:
        r"""How many sticks a batch needs, for sticks of any law.

        Arguments:
            log_left: :math:`\log (1 - \sum_{j \le k} \pi_j)` after each of the K - 1 sticks of pilot draws,
                float64 with shape :math:`(S, *B, K - 1)`.

        Raises:
            NotImplementedError: under a tracer.
        """
        if is_traced():
            raise NotImplementedError(
                "StickTruncation: the number of sticks depends on a draw, which no tracer can follow; cut "
                "the law before torch.compile, torch.export or torch.func, and pass in what is left."
            )
        most = log_left.shape[-1]
        reaches = log_left < math.log1p(-self.threshold)
        needed = most - reaches.sum(-1) + 1
        # The smallest number that suffices for so many draws; more than there are if none does.
        rank = min(needed.numel(), max(1, math.ceil(self.quantile * needed.numel())))
        wanted = int(needed.flatten().kthvalue(rank).values) if needed.numel() else 1
        num_needed = min(wanted, most)
        size = _bucket(num_needed, most)
        left = torch.exp(log_left)
        mass_cut = (left[..., size - 1] - left[..., -1]).mean(0)
        reached = float((needed <= most).double().mean()) if needed.numel() else 1.0
        return StickCount(size, num_needed, reached, needed.clamp_max(most), mass_cut)

    def whole(self, law: InvertibleGaussian) -> CutSticks:
        """The law with all its sticks, in the same form: for evaluation.

        Raises:
            ValueError: for another kind of law.
        """
        _check_sticks("StickTruncation.whole", law)
        most = law.num_categories - 1
        return CutSticks(law, law.num_categories, None, most, torch.zeros_like(law.loc[..., 0].detach()))

    def __repr__(self) -> str:
        return (
            f"StickTruncation(threshold={self.threshold:g}, quantile={self.quantile:g}, "
            f"num_draws={self.num_draws})"
        )


def _bucket(needed: int, most: int) -> int:
    """The smallest of 8, 16, 32, ... that is enough, or all there are."""
    size = SMALLEST_BUCKET
    while size < needed:
        size *= 2
    return min(size, most)


def first_sticks(law: InvertibleGaussian, count: int) -> InvertibleGaussian:
    """The IGR-SB over the first so many sticks of another, and what they leave."""
    # One scale for all makes a law cheaper, and stays one.
    scale = law.scale[..., : 1 if law._equal_scales else count]
    return InvertibleGaussian(
        law.loc[..., :count],
        scale,
        law.temperature,
        law.transform,
        law.delta,
        validate_args=law._validate_args,
    )


def _check_sticks(owner: str, law: object) -> None:
    if not isinstance(law, InvertibleGaussian) or not isinstance(
        law.transform, LogisticStickBreakingTransform
    ):
        transform = getattr(law, "transform", None)
        kind = type(law).__name__ + ("" if transform is None else f" with {name_of(transform)}")
        raise ValueError(
            f"{owner}: expected an InvertibleGaussian with a LogisticStickBreakingTransform; got {kind}; "
            "only sticks can be cut, since each is what the ones before it have left."
        )
