"""A bar says what is done and how far it is, where there is a terminal, and leaves nothing behind."""

import io
import re
import sys

import pytest

from igr.progress import bar


class Terminal(io.StringIO):
    """Standard error as a terminal that remembers all that was written to it."""

    def isatty(self) -> bool:
        return True


def to_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by the test itself: after the fixtures pytest sets standard error anew."""
    for variable in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_counts_are_shown_with_their_unit(monkeypatch):
    terminal = to_terminal(monkeypatch)
    with bar("reading", 200, "images") as done:
        done(150)
    assert re.search(r"reading .* 150/200 images", plain(terminal.getvalue()))


def test_bytes_are_shown_as_such(monkeypatch):
    terminal = to_terminal(monkeypatch)
    with bar("downloading file.gz", 2_000_000, "bytes") as done:
        done(500_000)
    assert re.search(r"downloading file.gz .* 0.5/2.0 MB", plain(terminal.getvalue()))


def test_the_bar_goes_at_the_end_whatever_ends_it(monkeypatch):
    terminal = to_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), bar("reading", 2, "images"):
        raise KeyboardInterrupt
    # The last thing that is written erases the line, and shows the cursor again.
    assert terminal.getvalue().rstrip().endswith("\x1b[2K")
    assert "\x1b[?25h" in terminal.getvalue()


def test_nothing_is_written_where_there_is_no_terminal(capsys):
    with bar("reading", 2, "images") as done:
        done(1)
    assert capsys.readouterr() == ("", "")
