"""Every command that the guides show is one that there is, with settings that can be used; none is run."""

import re
import shlex
from pathlib import Path

import pytest

from igr import cli, studies
from igr.cli import compare, data, evaluate, prior, sweep, sweep_status
from igr.training import loop

ROOT = Path(__file__).parents[1]
# What a build of the documentation leaves is not to be looked at.
BUILT = {"_build", "auto_tutorials"}
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if not BUILT & {*page.parts}),
]


def commands_of(text: str) -> list[str]:
    """The commands in blocks without a language, as they would be typed."""
    found = []
    for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        lines = block.replace("\\\n", " ").splitlines()
        # Other lines may be quoted over several.
        own = [shlex.split(line, comments=True) for line in lines if line.startswith("igr ")]
        found += map(shlex.join, own)
    return found


COMMANDS = [
    pytest.param(command, id=f"{page.relative_to(ROOT)}: {command}")
    for page in PAGES
    for command in dict.fromkeys(commands_of(page.read_text(encoding="utf-8")))
    if "..." not in command
]


# Those that are stopped before they begin their work.
STOPPED = ("train", "sweep", "study", "prior", "evaluate", "compare", "data")


class Taken(BaseException):
    """A command has been understood, and would begin its work."""


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch, tmp_path):
    def taken(*arguments, **settings):
        raise Taken

    (tmp_path / "FOLDER").mkdir()
    monkeypatch.chdir(tmp_path)
    for owner, name in (
        (loop, "train"),
        (sweep, "run_sweep"),
        (studies, "run_study"),
        (studies, "sweep_study"),
        (prior, "fit_uniform_prior"),
        (evaluate, "load_run"),
        (compare, "read_runs"),
        (sweep_status, "status"),
    ):
        monkeypatch.setattr(owner, name, taken)
    for name, (kind, _) in data.COMMANDS.items():
        monkeypatch.setitem(data.COMMANDS, name, (kind, taken))


def test_commands_are_found():
    assert len(COMMANDS) > 40
    assert commands_of("```\nigr train \\\n  --data mnist  # all\nls\n```\n```python\nigr\n```\n") == [
        "igr train --data mnist"
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken(command, capsys):
    words = shlex.split(command)[1:]
    if words[-1] == "--help" or words == ["study", "list"]:
        assert cli.main(words) == 0
        return
    if words[0] not in STOPPED:
        code = cli.main([words[0], "--help"])
        assert code == 0, capsys.readouterr().err
        told = capsys.readouterr().out
        assert all(word in told for word in words if word.startswith("--"))
        return
    with pytest.raises(Taken):
        raise AssertionError((cli.main(words), capsys.readouterr().err))


@pytest.mark.parametrize(
    "command",
    [
        "igr train --data mnist --latent igr-planar --kl discrete",
        "igr train --data mnist --latnet igr",
        "igr sweep --model sop --latent igr-sb",
        "igr study run nothing",
        "igr prior --num-categories 10 --family nothing",
        "igr data prepare mnist --foldre here",
        "igr nothing",
    ],
)
def test_a_command_that_cannot_be_used_would_be_found(command, capsys):
    with pytest.raises(AssertionError, match="expected"):
        test_a_command_is_taken(command, capsys)
