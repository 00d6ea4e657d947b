"""The page of troubles: it has every one, with a test that exists, for the versions that are pinned."""

import ast
import re
from pathlib import Path

import pytest

from other_tools import PYRO, TORCH

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "coming-from-gumbel-softmax.md").read_text(encoding="utf-8")
SECTIONS = {text.partition("\n")[0].strip(): text for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}

# By section, what was reported, and where.
ISSUES = {
    "NaN from the noise": [
        "pytorch/pytorch/issues/22442",
        "pytorch/pytorch/issues/101620",
        "pytorch/pytorch/issues/127749",
    ],
    "Temperature to zero": ["pytorch/pytorch/issues/184031", "pyro-ppl/pyro/issues/3304"],
    "log_prob at the boundary": [
        "pytorch/pytorch/issues/18254",
        "tensorflow/probability/issues/705",
        "tensorflow/probability/issues/1738",
    ],
    "No KL": ["pytorch/pytorch/issues/18730"],
    "Which KL belongs in the ELBO": [
        "Schlumberger/joint-vae/issues/1",
        "lucidrains/DALLE-pytorch/issues/40",
    ],
    "No mean or entropy": ["pytorch/pytorch/issues/12895"],
    "A temperature per row": ["pytorch/pytorch/issues/37162"],
    "Half precision": ["pytorch/pytorch/issues/34372", "pytorch/pytorch/issues/110366"],
    "No generator": ["pytorch/pytorch/issues/114107", "pytorch/pytorch/issues/175478"],
    "Straight-through under vmap, compile, clone": [],
    "A schedule that never anneals": ["AntixK/PyTorch-VAE/issues/79"],
    "Masked categories": [],
    "Validation that waits for the device": [
        "pytorch/pytorch/pull/13339",
        "pytorch/pytorch/issues/66800",
    ],
}


def functions_of_troubles() -> set[str]:
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    found.add(node.name)
    return found


def named_in(text: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", text)


@pytest.mark.parametrize("section", ISSUES)
def test_a_trouble_stands_on_the_page_with_a_test(section):
    text = SECTIONS[section]
    for issue in ISSUES[section]:
        number = issue.rpartition("/")[2]
        # The text of the link names the number that it leads to.
        assert re.search(rf"\[[^\]]*#{number}\]\(https://github\.com/{issue}\)", text), issue
    named = named_in(text)
    assert named
    # Names begin as the heading does: two whole words, by which all headings differ.
    start = re.split(r"\W+|_", section.lower())[:2]
    for name in named:
        assert name in functions_of_troubles(), name
        assert name.split("_")[1:3] == start, name


def test_two_words_tell_headings_apart():
    assert len({tuple(re.split(r"\W+|_", section.lower())[:2]) for section in ISSUES}) == len(ISSUES)


def test_the_page_has_no_other_section_and_every_test_is_on_it():
    assert set(SECTIONS) == set(ISSUES)
    assert sorted(named_in(PAGE)) == sorted(functions_of_troubles())


def test_the_overview_leads_to_every_section():
    links = re.findall(r"^\| \[([^\]]+)\]\(#([^)]+)\)", PAGE, flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in ISSUES]
    assert [anchor for _, anchor in links] == anchors
    assert [text.lower() for text, _ in links] == [title.lower() for title in ISSUES]


def test_the_page_speaks_of_the_versions_that_are_pinned():
    """Where a pin moves, somebody has to look again what the other tools do."""
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"torch=={TORCH}" in pinned
    assert f"pyro-ppl=={PYRO}" in pinned
    assert f"torch {TORCH.rpartition('.')[0]} and Pyro {PYRO} do today" in PAGE
