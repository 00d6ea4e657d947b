"""Errors: one sentence, whatever it quotes."""

import pytest

from igr.errors import cut, shown, unknown_name

LONG = {
    "a long text": "x" * 10**6,
    "lines": "a\nb\r\n\tc",
    "commands for a terminal": "\x1b[2J\x1b]0;title\x07",
    "halves of characters": "\ud800" * 1_000,
    "nothing": "\0" * 1_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_what_is_quoted_is_short_and_prints(text):
    for said, most in ((cut(text), 240), (cut(text, 80), 80), (shown([text]), 80)):
        assert len(said) <= most
        assert said.isprintable()
    said = str(unknown_name("data", text, ["mnist", "digits"]))
    assert said.isprintable()
    assert len(said) < 200


def test_what_is_short_is_left_as_it_is():
    assert cut("an error at /some/path (line 3)") == "an error at /some/path (line 3)"
    assert shown({"a": 1}) == "{'a': 1}"
    assert str(unknown_name("data", "minst", ["mnist", "digits"])).endswith(
        "got 'minst'; did you mean mnist?"
    )
