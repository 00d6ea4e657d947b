"""Readers of files that were made to break them, in a process that may neither grow, hang nor run anything."""

import json
import os
import pickle
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 2.0
MOST_BYTES = 500_000_000


@dataclass
class Findings:
    """What came of many inputs.

    Arguments:
        counts: How many were read, and how many refused.
        faults: What happened of anything else, by the number of the input.
        slowest: The seconds of the slowest one.
        growth: By how many bytes of memory the process grew over all of them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[int, str] = field(default_factory=dict)
    slowest: float = 0.0
    growth: int = 0


def read_each(
    read: Callable[[int], object],
    numbers: Iterable[int],
    refusals: tuple[type[BaseException], ...],
    *,
    seconds: float = SECONDS,
    most_bytes: int = MOST_BYTES,
) -> Findings:
    """Reads inputs one by one, each in at most so many seconds and with so much more memory.

    The process is a fork of this one, whose address space is limited to what it has and ``most_bytes`` more: what
    asks for more fails there, and what is caught as if it were the fault of a file shows in its peak. What takes
    too long is killed by a signal that nothing handles, and so is seen even within a library.

    Arguments:
        read: Makes the input of a number and reads it.
        numbers: The inputs.
        refusals: The errors by which an input may be refused.
        seconds: The longest that one may take.
        most_bytes: By how much the process may grow.
    """
    found = Findings()
    waiting = list(numbers)
    while waiting:
        done = _in_a_fork(lambda: read, waiting, refusals, seconds, most_bytes, found)
        # One that killed the process is not tried again.
        waiting = waiting[done:]
    return found


def _in_a_fork(
    reader: Callable[[], Callable[[int], object]],
    numbers: list[int],
    refusals: tuple[type[BaseException], ...],
    seconds: float,
    most_bytes: int,
    found: Findings,
) -> int:
    """Has a process read inputs until it is done or dies; returns how many it has begun."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        with os.fdopen(sink, "w", buffering=1) as stream:
            _serve(stream, reader(), numbers, refusals, seconds, most_bytes)
    os.close(sink)
    begun = 0
    with os.fdopen(source) as stream:
        for line in stream:
            said = json.loads(line)
            if "begun" in said:
                begun += 1
                number = said["begun"]
            elif "growth" in said:
                found.growth = max(found.growth, said["growth"])
            else:
                found.slowest = max(found.slowest, said["seconds"])
                found.counts[said["outcome"]] += 1
                if said["fault"]:
                    found.faults[number] = said["fault"]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        signals = {signal.SIGALRM: f"it took more than {seconds} seconds"}
        killer = os.WTERMSIG(status)
        found.faults[number] = signals.get(killer, f"it killed the process ({signal.Signals(killer).name})")
        found.counts["killed"] += 1
    elif os.WEXITSTATUS(status):
        found.faults[number] = f"it ended the process with {os.WEXITSTATUS(status)}"
    elif found.growth > most_bytes:
        found.faults[-1] = f"the process grew by {found.growth:,} bytes"
    return begun


def _serve(
    stream: Any,
    read: Callable[[int], object],
    numbers: list[int],
    refusals: tuple[type[BaseException], ...],
    seconds: float,
    most_bytes: int,
) -> None:
    """What the forked process does; it never returns."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + most_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = _peak()
    for number in numbers:
        stream.write(json.dumps({"begun": number}) + "\n")
        fault = ""
        outcome = "read"
        signal.setitimer(signal.ITIMER_REAL, seconds)
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read(number)
        except refusals as error:
            outcome = "refused"
            text = str(error)
            if not text.isprintable() or len(text) > 5_000:
                fault = f"a refusal of {len(text):,} characters in several lines or none that print: {text[:300]!r}"
        except BaseException:
            outcome = "failed"
            fault = traceback.format_exc(limit=-6)[-3_000:]
        taken = time.perf_counter() - started
        signal.setitimer(signal.ITIMER_REAL, 0)
        stream.write(json.dumps({"seconds": taken, "outcome": outcome, "fault": fault}) + "\n")
    stream.write(json.dumps({"growth": _peak() - start}) + "\n")
    stream.flush()
    os._exit(0)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled_trap(path: Path) -> bytes:
    """A pickle that makes a folder when it is loaded."""
    return pickle.dumps(Trap(path))
