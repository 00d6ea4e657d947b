"""Readers of files that were made to break them, in a process that may neither grow, hang nor crash."""

import json
import os
import pickle
import resource
import signal
import struct
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

SECONDS = 2.0
# On a busy machine a second of work takes longer; what works on nothing waits, perhaps for ever.
PATIENCE = 10
MOST_BYTES = 500_000_000
# Characters of one sentence, whatever it quotes.
LONGEST = 2_000
_LENGTH = struct.Struct("<Q")


@dataclass
class Findings:
    """What came of many files.

    Arguments:
        counts: How many were read, and how many refused.
        faults: What else happened, by the number of the file.
        slowest: The seconds of the slowest one.
        growth: By how many bytes the process grew, at most.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[int, str] = field(default_factory=dict)
    slowest: float = 0.0
    growth: int = 0


def read_each(
    read: Callable[[bytes], object],
    files: Iterable[tuple[int, bytes]],
    refusals: tuple[type[BaseException], ...],
    *,
    seconds: float = SECONDS,
    most_bytes: int = MOST_BYTES,
) -> Findings:
    """Reads files one by one, each in at most so many seconds and with so much more memory.

    The process is a fork of this one, whose address space is limited to what it has and ``most_bytes`` more:
    what asks for more fails there. Its peak is looked at too, for what is caught as if it were the file's
    fault. What takes too long is killed by a signal that nothing handles, so it is seen within a library too.

    Arguments:
        read: Reads a file.
        files: The files with their numbers.
        refusals: The errors by which one may be refused.
        seconds: The longest that one may take, of the time of a processor; by the clock ten times as much.
        most_bytes: By how much the process may grow.
    """
    found = Findings()
    waiting = iter(files)
    # One that kills the process is passed over by the next.
    while _in_a_fork(read, waiting, refusals, seconds, most_bytes, found):
        pass
    return found


def _in_a_fork(
    read: Callable[[bytes], object],
    files: Iterator[tuple[int, bytes]],
    refusals: tuple[type[BaseException], ...],
    seconds: float,
    most_bytes: int,
    found: Findings,
) -> bool:
    """Has a process read files until it dies or there are no more; returns whether it died."""
    (jobs, give), (source, answer) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(give)
        os.close(source)
        _serve(os.fdopen(jobs, "rb"), answer, read, refusals, seconds, most_bytes)
    os.close(jobs)
    os.close(answer)
    with os.fdopen(give, "wb") as jobs_of_child, os.fdopen(source) as answers:
        for number, data in files:
            jobs_of_child.write(_LENGTH.pack(len(data)) + data)
            jobs_of_child.flush()
            line = answers.readline()
            if not line:
                _, status = os.waitpid(child, 0)
                found.faults[number] = _ending(status, seconds)
                found.counts["killed"] += 1
                return True
            said = json.loads(line)
            found.slowest = max(found.slowest, said["seconds"])
            found.growth = max(found.growth, said["growth"])
            found.counts[said["outcome"]] += 1
            if said["fault"]:
                found.faults[number] = said["fault"]
            elif said["growth"] > most_bytes:
                found.faults[number] = f"the process grew by {said['growth']:,} bytes"
    os.waitpid(child, 0)
    return False


def _ending(status: int, seconds: float) -> str:
    if not os.WIFSIGNALED(status):
        return f"it ended the process with {os.WEXITSTATUS(status)}"
    if os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
        return f"it took more than {seconds} seconds"
    return f"it killed the process ({signal.Signals(os.WTERMSIG(status)).name})"


def _serve(
    jobs: BinaryIO,
    answer: int,
    read: Callable[[bytes], object],
    refusals: tuple[type[BaseException], ...],
    seconds: float,
    most_bytes: int,
) -> None:
    """What the forked process does; it never returns."""
    try:
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + most_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        start = _peak()
        while length := jobs.read(_LENGTH.size):
            said = _read_one(read, jobs.read(_LENGTH.unpack(length)[0]), refusals, seconds)
            said["growth"] = _peak() - start
            os.write(answer, json.dumps(said).encode() + b"\n")
    finally:
        os._exit(0)


def _read_one(
    read: Callable[[bytes], object],
    data: bytes,
    refusals: tuple[type[BaseException], ...],
    seconds: float,
) -> dict[str, Any]:
    outcome, fault = "read", ""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    started = time.process_time()
    try:
        with warnings.catch_warnings(action="ignore"):
            read(data)
    except refusals as error:
        outcome, text = "refused", str(error)
        if not text.isprintable() or len(text) > LONGEST:
            fault = f"a refusal of {len(text):,} characters, or in several lines: {text[:300]!r}"
    except BaseException:
        outcome, fault = "failed", traceback.format_exc(limit=-8)[-3_000:]
    taken = time.process_time() - started
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"seconds": taken, "outcome": outcome, "fault": fault}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickled_trap(path: Path) -> bytes:
    """A pickle that makes this folder when it is loaded."""
    return pickle.dumps(_Trap(path))
