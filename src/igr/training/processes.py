"""The processes of one run: those that torchrun has started, each with a part of every batch.

All of them hold the same weights and take the same steps. What a batch gives is added up over them, so that a
run of several processes takes the steps that a single one would take, but for the rounding of sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from igr.errors import UserError
from igr.training.failures import Elsewhere

# What torchrun sets, and who else starts processes for torch.distributed.
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# Where none answers for so long, the others go on no more. The first one may be writing or drawing.
_PATIENCE = timedelta(minutes=30)


class Lost(RuntimeError):
    """A process of the run has ended or does not answer."""


class Processes:
    """A process among those of a run; alone, all that it does with others is nothing.

    Arguments:
        rank: The number of this one, from zero; the first one writes and speaks for all.
        count: How many there are.
        has_device: Whether there is a CUDA device for it, if its machine has any.
    """

    def __init__(self, rank: int = 0, count: int = 1, has_device: bool = True) -> None:
        self.rank = rank
        self.count = count
        self.has_device = has_device

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    @property
    def is_first(self) -> bool:
        """Whether it is this one that writes."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """Which of so many images are those of this process.

        Parts are all but equal. Where there are fewer images than processes, each has all of them.
        """
        if size < self.count:
            return slice(0, size)
        ends = [size * number // self.count for number in (self.rank, self.rank + 1)]
        return slice(*ends)

    def share(self, size: int) -> float:
        """The weight that a mean over the images of this process has in the mean over all of so many."""
        part = self.part(size)
        return 1.0 / self.count if size < self.count else (part.stop - part.start) / size

    def add(self, tensor: Tensor) -> None:
        """Replaces a tensor by its sum over the processes, the same bits in each.

        Raises:
            Lost: Another one does not take part.
        """
        if self.is_alone:
            return
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise Lost(
                f"expected an answer of all {self.count} processes of the run; got none of one, which has "
                "ended; see what it has said"
            ) from error

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the images of all, with shape :math:`()`; its gradient is that of this one's part."""
        own = values.mean()
        sum_ = values.detach().double().sum()
        sums = torch.stack([sum_, torch.full_like(sum_, values.numel())])
        self.add(sums)
        return own + ((sums[0] / sums[1]).to(own.dtype) - own.detach())

    def any(self, condition: bool) -> bool:
        """Whether something holds in one of them; all have to ask."""
        if self.is_alone:
            return condition
        return bool(self._flags(condition).any())

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Work that may fail in some of them: then all end, and the first of those where it did says why.

        Raises:
            Elsewhere: It failed in another one.
        """
        failure: Exception | None = None
        try:
            yield
        except Lost:
            raise
        except Exception as error:
            failure = error
        if self.is_alone:
            if failure is not None:
                raise failure
            return
        flags = self._flags(failure is not None).tolist()
        if 1.0 not in flags:
            return
        if flags.index(1.0) == self.rank and failure is not None:
            raise failure
        raise Elsewhere("another process of the run says why") from failure

    def _flags(self, condition: bool) -> Tensor:
        """Whether something holds in each, as ones and zeros on the CPU."""
        flags = torch.zeros(self.count)
        flags[self.rank] = float(condition)
        self.add(flags)
        return flags


ALONE = Processes()


def are_several(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as one of several, by torchrun for instance."""
    return all(name in environment for name in _NEEDED) and environment["WORLD_SIZE"] != "1"


@contextmanager
def joined() -> Iterator[Processes]:
    """Joins the processes that were started together with this one, as long as the context lasts.

    Raises:
        UserError: They do not find one another.
    """
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size(), _has_device())
        return
    if not are_several():
        yield ALONE
        return
    backend = "gloo"
    if _has_device() and dist.is_nccl_available():
        torch.cuda.set_device(_place())
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        found = ", ".join(f"{name}={os.environ[name]}" for name in _NEEDED)
        raise UserError(
            f"expected {os.environ['WORLD_SIZE']} processes that find one another; got {found} and: "
            f"{str(error).partition(chr(10))[0]}; start them with torchrun"
        ) from error
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), _has_device())
    except Exception as error:
        # The end of one that a device still waits for cannot be waited for.
        if not any(isinstance(one, Lost) for one in (error, error.__cause__)):
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _place() -> int:
    """The number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("RANK", "0"))


def _has_device() -> bool:
    return _place() < torch.cuda.device_count()
