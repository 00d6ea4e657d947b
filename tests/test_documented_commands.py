"""Every command that the guides show is one that there is, with settings that can be used; none is run."""

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from igr import cli, studies
from igr.cli import compare, data, evaluate, export, prior, sweep, sweep_status
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
    # All blocks in order, so that the end of one is not taken for the beginning of another.
    for language, block in re.findall(r"^```([^`\n]*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        if language not in ("", "sh", "bash"):
            continue
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
        (export, "save_pretrained"),
        (sweep_status, "status"),
    ):
        monkeypatch.setattr(owner, name, taken)
    for name, (kind, _) in data.COMMANDS.items():
        monkeypatch.setitem(data.COMMANDS, name, (kind, taken))
    # In place of the whole module, which needs bokeh.
    monkeypatch.setitem(sys.modules, "igr.explorer.server", SimpleNamespace(serve=taken))


def test_commands_are_found():
    assert len(COMMANDS) > 40
    shown = "```\nigr train \\\n  --data mnist  # all\nls\n```\n"
    other = "```python\nigr\n```\nigr is here:\n"
    assert commands_of(shown + other + shown) == ["igr train --data mnist"] * 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken(command, capsys):
    words = shlex.split(command)[1:]
    if words[-1] == "--help" or words == ["study", "list"]:
        assert cli.main(words) == 0
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
        "igr explore --por 5010",
        "igr explore page",
        "igr export runs/NAME --ou mnist-igr",
        "igr export --out mnist-igr",
        "igr nothing",
    ],
)
def test_a_command_that_cannot_be_used_would_be_found(command, capsys):
    with pytest.raises(AssertionError, match="expected"):
        test_a_command_is_taken(command, capsys)
