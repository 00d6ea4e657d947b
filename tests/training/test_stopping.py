"""A signal is a request to the innermost who can heed it, and reaches all around it."""

import os
import signal

from igr.training.stopping import stop_signals


def test_a_request_within_reaches_the_outer_one_once_the_inner_has_ended():
    usual = signal.getsignal(signal.SIGTERM)
    with stop_signals() as outer:
        with stop_signals() as first:
            assert not first.requested
        assert not outer.requested
        with stop_signals() as second:
            os.kill(os.getpid(), signal.SIGTERM)
            assert second.requested
            assert not outer.requested
        assert outer.requested
        assert not first.requested
    assert signal.getsignal(signal.SIGTERM) == usual
    with stop_signals() as later:
        assert not later.requested
