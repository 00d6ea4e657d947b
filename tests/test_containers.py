"""The two recipes for containers install what the Makefile installs, from files that are there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (ROOT / "containers" / "igr.def").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def section(name: str) -> list[str]:
    """The lines of a section of the definition file, without comments."""
    (found,) = re.findall(rf"^%{name}\n((?:[ \t].*\n|\n)*)", DEFINITION, flags=re.MULTILINE)
    return [line.strip() for line in found.splitlines() if line.strip() and not line.strip().startswith("#")]


def copied_by_docker() -> set[str]:
    sources = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    return {source for line in sources for source in line}


def copied_by_apptainer() -> set[str]:
    pairs = [line.split() for line in section("files")]
    assert all(target == f"/opt/igr/{source}" for source, target in pairs)
    return {source for source, _ in pairs}


def pip_lines(text: str) -> list[str]:
    return re.findall(r"python (-m pip install .*)", text)


@pytest.mark.parametrize("text", [DOCKERFILE, DEFINITION], ids=["Dockerfile", "igr.def"])
def test_pip_is_called_as_in_the_makefile_but_for_what_developers_need(text: str):
    (makefile,) = pip_lines((ROOT / "Makefile").read_text(encoding="utf-8"))
    assert "--constraint constraints.txt" in makefile
    needed = makefile.replace("--editable ", "").replace(",explore,interoperability,docs,dev]", "]")
    assert pip_lines(text) == [needed]


@pytest.mark.parametrize("copied", [copied_by_docker(), copied_by_apptainer()], ids=["Dockerfile", "igr.def"])
def test_all_that_a_wheel_is_made_of_is_copied(copied: set[str]):
    project = PROJECT["project"]
    needed = {"pyproject.toml", "constraints.txt", "src", project["readme"], *project["license-files"]}
    assert copied == needed
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_context_of_docker_holds_what_is_copied_alone():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied_by_docker()


def test_both_start_from_the_python_that_the_pins_are_for_and_run_the_command():
    (image,) = re.findall(r"^FROM (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert f"Bootstrap: docker\nFrom: {image}\n" in DEFINITION
    assert PROJECT["project"]["requires-python"] == f">={image.removeprefix('python:').removesuffix('-slim')}"
    assert 'ENTRYPOINT ["igr"]' in DOCKERFILE
    assert section("runscript") == ['exec igr "$@"']
    assert "igr" in PROJECT["project"]["scripts"]


def test_the_image_does_not_run_as_root():
    user = DOCKERFILE.rindex("\nUSER igr\n")
    assert user > DOCKERFILE.rindex("\nRUN ")
    assert DOCKERFILE.count("\nUSER ") == 1


def test_the_guide_names_the_recipes_and_their_argument():
    guide = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    for name in re.findall(r"containers/[\w.]+", guide):
        assert (ROOT / name).is_file(), name
    assert set(re.findall(r"--build-arg (\w+)=", guide)) == {"PIP_EXTRA_INDEX_URL", "index"}
    assert "\nARG PIP_EXTRA_INDEX_URL\n" in DOCKERFILE
    assert section("arguments") == ["index="]
