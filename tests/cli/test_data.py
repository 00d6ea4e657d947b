"""`igr data list` shows what there is."""

import json

from igr.cli import main
from igr.data import SOURCES


def test_the_table_names_every_data_set(capsys):
    assert main(["data", "list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(name in text for name in SOURCES)
    assert "1,300" in text
    assert "1,300 train" in text
    assert "images of 1 x 8 x 8" in text


def test_json_for_scripts(capsys):
    assert main(["data", "list", "--json"]) == 0
    (digits,) = [entry for entry in json.loads(capsys.readouterr().out) if entry["name"] == "digits"]
    assert (digits["train"], digits["validation"], digits["test"]) == (1300, 197, 300)
    assert digits["present"] is True


def test_the_rest_is_refused(capsys):
    for argv, message in (
        (["data"], "expected igr data list"),
        (["data", "lsit"], "did you mean list?"),
        (["data", "list", "--jsn"], "did you mean --json?"),
    ):
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
