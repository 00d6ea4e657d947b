"""The scripts under benchmarks/ still fit the code that they time."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module(name)


def test_there_are_benchmarks() -> None:
    assert "sampling" in SCRIPTS


def test_the_page_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    page = importlib.import_module("page")
    assert (FOLDER.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page.page()


def test_on_a_gpu_only_what_takes_a_device_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    run_all = importlib.import_module("run_all")
    names = {device: {path.stem for path in run_all.scripts(device)} for device in (False, True)}
    assert {"replicas", "sampling", "train_epoch"} <= names[True] < names[False]
    assert {"page", "harness", "run_all"}.isdisjoint(names[False])
    assert "fitting" not in names[True]
