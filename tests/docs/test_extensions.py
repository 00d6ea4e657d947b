"""What is ours of Sphinx: formulas and the help of commands, as pages have them."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("sphinx", reason="the extra docs is not installed")

FOLDER = Path(__file__).parents[2] / "docs" / "extensions"


def extension(name):
    spec = importlib.util.spec_from_file_location(f"docs_extension_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("latex", "spaces"),
    [
        (r"\tau \log \delta", 2),
        (r"(K - 1)\log(x)", 1),
        (r"\hat u \tanh(w)", 1),
        (r"\arg\max y", 2),
        (r"- \log(x)", 0),
        (r"\tau + \delta", 0),
    ],
)
def test_a_function_is_set_apart_from_what_stands_beside_it(latex, spaces):
    mathml = extension("mathml")
    node = mathml.nodes.math(latex, latex)
    assert mathml.as_mathml(node, as_block=False).count("<mspace") == spaces


def test_no_line_of_a_help_is_wider_than_a_page(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    command_help = extension("command_help")
    machine = SimpleNamespace(reporter=None)
    (block,) = command_help.CommandHelp("command-help", ["sweep"], {}, [], 1, 0, "", None, machine).run()
    lines = block.astext().splitlines()
    assert "finished is not run twice" in " ".join(lines)
    assert max(map(len, lines)) <= command_help.COLUMNS
