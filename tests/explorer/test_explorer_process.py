"""The page served by a process of its own."""

import socket

import pytest

pytest.importorskip("bokeh", reason="needs bokeh, of the extra explore")

from igr.errors import UserError
from igr.explorer.process import serving


def test_a_page_that_does_not_start_says_why():
    """What starts is what the tests of the browser look at."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sentence = f"got igr explore: expected a port that is free; got {port}"
        with pytest.raises(UserError, match=sentence), serving(port):
            pytest.fail("nothing is served")
