"""Samples of an evaluation: drawn chunk by chunk from keyed noise, and folded as they come."""

import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass

import torch
from torch import Tensor

from igr.errors import UserError
from igr.training.memory import keep_freed_memory
from igr.training.randomness import keyed_generator

# The noise of so many samples for so many data is one keyed draw. They are part of what a seed
# means: a change of either changes every figure within its sampling error.
SAMPLES_PER_DRAW = 10
DATA_PER_DRAW = 32

# Elements of the largest tensor that a chunk of samples may make, 8 MiB in float32: it fits the
# caches of current CPUs.
ELEMENT_BUDGET = 2**21


@dataclass(frozen=True)
class Samples:
    """The samples of a block of data: how many, of which block, how many at a time."""

    num_samples: int
    seed: int
    block: int
    per_chunk: int
    device: torch.device

    def chunks(self, stream: str, draw: Callable[[torch.Generator], Tensor]) -> Iterator[Tensor]:
        """Noise for all samples, ``per_chunk`` of them at a time, the sample dimension first."""
        if self.device.type == "cpu":
            keep_freed_memory()
        draws_per_chunk = max(1, self.per_chunk // SAMPLES_PER_DRAW)
        samples_per_group = draws_per_chunk * SAMPLES_PER_DRAW
        for first in range(0, self.num_samples, samples_per_group):
            count = min(samples_per_group, self.num_samples - first)
            numbers = range(first // SAMPLES_PER_DRAW, -(-(first + count) // SAMPLES_PER_DRAW))
            drawn = [draw(self._generator(stream, number)) for number in numbers]
            noise = (drawn[0] if len(drawn) == 1 else torch.cat(drawn))[:count]
            yield from torch.split(noise, self.per_chunk)

    def _generator(self, stream: str, number: int) -> torch.Generator:
        # The block stands in the stream and not in the number: whatever is made of both would depend
        # on how many there are of one of them.
        return keyed_generator(self.seed, f"{stream}/{self.block}", number, device=self.device)


class Folded:
    """Numbers of samples, [S, B], folded chunk by chunk into what is wanted of them.

    Arguments:
        x: The data, of which only number and device matter.
    """

    def __init__(self, x: Tensor) -> None:
        self._sum = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        self._log_sum_exp = torch.full_like(self._sum, -math.inf)
        self.count = 0

    def add(self, values: Tensor) -> None:
        """Takes the next samples, float64."""
        self.count += len(values)
        self._sum += values.sum(0)
        self._log_sum_exp = torch.logaddexp(self._log_sum_exp, values.logsumexp(0))

    @property
    def mean(self) -> Tensor:
        """The mean over the samples so far, [B]."""
        return self._sum / self.count

    @property
    def log_mean_exp(self) -> Tensor:
        """The logarithm of the mean of the exponentials, [B]."""
        return self._log_sum_exp - math.log(self.count)


def check_sizes(images: Sized, num_samples: int) -> None:
    """Refuses to evaluate on nothing.

    Raises:
        UserError: ``num_samples`` is below one, or there are no images.
    """
    if num_samples < 1:
        raise UserError(
            f"expected a number of samples of at least 1; got {num_samples}; "
            "give each datum one sample or more"
        )
    if len(images) == 0:
        raise UserError("expected at least one image; got none; choose a split that has data")
