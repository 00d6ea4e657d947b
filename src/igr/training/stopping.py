"""Signals that ask to stop, as requests that long work looks at when it suits."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether a signal has asked to stop."""

    requested = False


# Those that stand within one another in the main thread, the innermost last.
_standing: list[Stop] = []


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Makes SIGINT and SIGTERM a request; a second one has its usual effect at once.

    Where one stands within another, as training does within a sweep, the inner one has the request, and the
    outer one too once the inner one has ended: a run that was about to finish does so, and no other begins.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers, and only it is interrupted.
        yield stop
        return
    current = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What is ignored stays so: a shell starts its background jobs with SIGINT ignored.
    usual = {number: handler for number, handler in current.items() if handler != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        restore()

    for number in usual:
        signal.signal(number, request)
    _standing.append(stop)
    try:
        yield stop
    finally:
        _standing.pop()
        restore()
        if stop.requested and _standing:
            _standing[-1].requested = True
