"""Jobs in processes of their own, several at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import torch

from igr.sweeps.job import SECONDS_BETWEEN_LOOKS, Bundle, Ending, attempt
from igr.training.stopping import stop_signals

# The seconds after which a signal that came to the sweep is seen, and passed on.
_PATIENCE = 0.2


class Queue(Protocol):
    """Where jobs come from, and where their endings go."""

    def take(self) -> Bundle | None:
        """The next jobs, to be done together; ``None`` where none can be done now."""

    def end(self, bundle: Bundle, endings: Sequence[Ending]) -> None:
        """Jobs have ended, after which there may be others."""

    def advance(self, bundle: Bundle, share: float) -> None:
        """So much of the training of these jobs is done."""


def work_here(queue: Queue, should_stop: Callable[[], bool]) -> None:
    """Does the jobs of a queue in this process, one after another, until it has none or has to stop."""
    threads = torch.get_num_threads()
    # As everywhere in a sweep: with several threads sums are rounded differently.
    torch.set_num_threads(1)
    try:
        while not should_stop() and (bundle := queue.take()) is not None:
            endings = attempt(bundle, should_stop, partial(queue.advance, bundle))
            queue.end(bundle, endings)
            if any(ending.interrupted for ending in endings):
                return
    finally:
        torch.set_num_threads(threads)


def work_in_processes(queue: Queue, count: int, should_stop: Callable[[], bool]) -> None:
    """Does the jobs of a queue in so many processes, until it has none or has to stop.

    A process that ends by itself takes no other job with it.
    """
    with _Crew(queue) as crew:
        stopping = False
        while True:
            while not stopping and len(crew.busy) < count and (bundle := queue.take()) is not None:
                crew.give(bundle)
            if not crew.busy:
                return
            stopping |= crew.listen() or should_stop()
            if stopping:
                crew.stop()


class _Crew:
    """Processes, some of which have a job."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._idle: list[_Worker] = []
        self.busy: dict[Connection, tuple[_Worker, Bundle]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the processes: those without a job end by themselves, others would take their time."""
        for worker in self._idle:
            worker.close(kill=False)
        for worker, _ in self.busy.values():
            worker.close(kill=True)

    def give(self, bundle: Bundle) -> None:
        """Gives jobs to a process that has none."""
        worker = self._idle.pop() if self._idle else _Worker()
        self.busy[worker.connection] = worker, bundle
        # Where it has ended in the meantime, that is seen when its answer is read.
        with suppress(OSError):
            worker.connection.send(bundle)

    def stop(self) -> None:
        """Asks all processes that have a job to stop it."""
        for worker, _ in self.busy.values():
            worker.stop()

    def listen(self) -> bool:
        """Hears what processes have to say, for a moment; whether one was interrupted."""
        interrupted = False
        heard = wait([*self.busy], _PATIENCE)
        for worker, bundle in [self.busy[connection] for connection in self.busy if connection in heard]:
            try:
                said = worker.connection.recv()
            except (EOFError, OSError):
                said = [worker.close(kill=False)] * len(bundle.jobs)
            if not isinstance(said, list):
                self._queue.advance(bundle, said)
                continue
            del self.busy[worker.connection]
            if not worker.connection.closed:
                self._idle.append(worker)
            interrupted |= any(ending.interrupted for ending in said)
            self._queue.end(bundle, said)
        return interrupted


class _Worker:
    """A process that does one bundle of jobs at a time."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self._told_to_stop = False
        # A fresh interpreter, and not multiprocessing's: that would run the user's script again. Ctrl-C
        # comes to all processes at once, and only the sweep itself is to act on it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(_search_path())},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def stop(self) -> None:
        """Asks it to stop."""
        if not self._told_to_stop:
            self._told_to_stop = True
            with suppress(OSError):
                self.connection.send(None)

    def close(self, kill: bool) -> Ending:
        """Ends the process, and tells what became of a job that it did not answer."""
        self.connection.close()
        if kill:
            self._process.kill()
        code = self._process.wait()
        if self._told_to_stop or code == -signal.SIGTERM:
            return Ending(interrupted=True)
        how = f"the signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        return Ending(
            failure=f"expected the process of the run to end with a result; got an end by {how}, as where "
            "memory runs out; run fewer at once with --workers",
            may_pass=True,
        )


_PROGRAM = "from igr.sweeps.workers import main; main()"


def _search_path() -> list[str]:
    """Where this process finds its modules, so that others find the same ones."""
    return [str(Path(entry or ".").absolute()) for entry in sys.path]


def main() -> None:
    """What a process of a sweep does: jobs from the connection it was given, until that is closed."""
    connection, sweep = Connection(int(sys.argv[1])), int(sys.argv[2])
    torch.set_num_threads(1)
    while True:
        try:
            bundle = connection.recv()
        except (EOFError, OSError):
            return
        if bundle is None:
            return
        endings = _attempt(bundle, connection, sweep)
        try:
            connection.send(endings)
        except OSError:
            return


def _attempt(bundle: Bundle, connection: Connection, sweep: int) -> list[Ending]:
    with stop_signals() as stop:
        look = _Look(connection, sweep)

        def should_stop() -> bool:
            return stop.requested or look()

        def advance(share: float) -> None:
            with suppress(OSError):
                connection.send(share)

        return attempt(bundle, should_stop, advance)


class _Look:
    """Whether the sweep has asked its process to stop, or is gone; not looked up at every call."""

    def __init__(self, connection: Connection, sweep: int) -> None:
        self._connection = connection
        self._sweep = sweep
        self._next = 0.0
        self._found = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._found and now >= self._next:
            self._next = now + SECONDS_BETWEEN_LOOKS
            # Whatever there is to read is the request to stop, or the end of the connection.
            self._found = os.getppid() != self._sweep or self._connection.poll()
        return self._found
