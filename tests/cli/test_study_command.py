"""`igr study`: which studies there are, and what one says, writes and refuses."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

from igr import plot
from igr.cli import main
from igr.studies import STUDIES, Findings, Item, Picture, Record, Report, Study, StudyConfig, Table, Work

TINY = ["--smoke", "--num-samples", "20", "--num-temperatures", "3"]


@dataclass(frozen=True)
class WaitConfig(StudyConfig):
    """A study that can be stopped."""

    stop: bool = False
    """Be interrupted at the second item."""

    fail: bool = False
    """Fail at the second item."""

    numbers: tuple[int, ...] = (1, 2)
    """Some numbers."""


def wait_items(config: WaitConfig) -> list[Item]:
    def first(work: Work) -> Record:
        return {"number": torch.randn((), generator=work.generator).item()}

    def second(work: Work) -> Record:
        if config.stop:
            raise KeyboardInterrupt
        if config.fail:
            raise ZeroDivisionError("something broke")
        return {"number": 2.0}

    return [Item("first", first), Item("second", second)]


def wait_report(config: WaitConfig, findings: Findings) -> Report:
    rows = [(key, record["number"]) for key, record in findings.records.items()]
    figure, _ = plot.new_figure(2, 1)
    table = Table("numbers", "Numbers [all]", {"key": "", "number": ".3f"}, rows, ["[A] note."])
    return Report([table], [Picture("empty", "Nothing.", figure)])


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to be in, and a small study among the others."""
    module = ModuleType("wait_study")
    smoke = WaitConfig(numbers=(0,))
    module.STUDY = Study("wait", "numbers", WaitConfig, smoke, wait_report, wait_items)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wait_study", module)
    monkeypatch.setitem(STUDIES, "wait", "wait_study")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


def output(capsys, *argv: object) -> str:
    assert main([*map(str, argv)]) == 0
    return capsys.readouterr().out


def refusal(capsys, *argv: object, code: int = 2) -> str:
    """The one sentence that a command says that does not succeed."""
    assert main([*map(str, argv)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err.strip()


def test_the_list_names_every_study(capsys):
    text = output(capsys, "study", "list")
    assert all(name in text for name in STUDIES)
    records = json.loads(output(capsys, "study", "list", "--json"))
    assert [record["name"] for record in records] == list(STUDIES)
    settings = {record["name"]: record["settings"] for record in records}
    assert settings["simplex-proximity"]["num_categories"] == 50


def test_a_study_runs_from_the_command_to_the_report(capsys):
    assert main(["study", "run", "simplex-proximity", *TINY]) == 0
    out, err = capsys.readouterr()
    assert "gumbel-softmax: quantiles of the distance" in out
    assert "within 0.2 of a vertex" in out
    folder = Path("studies/simplex-proximity-smoke")
    assert err.endswith(f"; the report is {folder / 'report.md'}; figures are in {folder / 'figures'}\n")
    assert err.count("\n") == 1
    assert {path.name for path in (folder / "figures").iterdir()} == {"boxes.png", "medians.png"}
    config = json.loads((folder / "config.json").read_text())["config"]
    # Flags win over what is small.
    assert (config["num_categories"], config["num_samples"], config["num_temperatures"]) == (10, 20, 3)
    assert max(map(len, out.splitlines())) <= 80


def test_json_for_scripts(capsys):
    result = json.loads(output(capsys, "study", "run", "wait", "--json", "--out", "x"))
    assert (result["study"], result["out"], result["items"], result["kept"]) == ("wait", "x", 2, 0)
    assert result["config"] == {"seed": 0, "stop": False, "fail": False, "numbers": [1, 2]}
    first, second = result["tables"]["numbers"]
    assert (first["key"], second) == ("first", {"key": "second", "number": 2.0})
    assert result["figures"] == {"empty": "x/figures/empty.png"}
    assert Path("x/figures/empty.png").is_file()


def test_an_interrupt_leaves_what_was_done_and_the_command_that_goes_on(capsys, monkeypatch):
    said = refusal(capsys, "study", "run", "wait", "--stop", "--out", "a b", code=130)
    assert said == "igr study: stopped after 1 of 2 items; go on with igr study run wait --stop --out 'a b'"
    command = shlex.split(said.partition("go on with igr ")[2])
    assert command == ["study", "run", "wait", "--stop", "--out", "a b"]
    assert "after 1 of 2" in refusal(capsys, *command, code=130)


def test_a_failure_is_one_sentence(capsys):
    said = refusal(capsys, "study", "run", "wait", "--fail", code=1)
    assert said == "igr study: ZeroDivisionError: something broke; add --debug for the traceback"
    assert Path("studies/wait/records/first.json").exists()


def test_the_command_in_the_report_makes_the_same_study(capsys):
    flags = ["--seed", "3", "--numbers", "4", "-5", "6"]
    output(capsys, "study", "run", "wait", *flags)
    line = next(
        line for line in Path("studies/wait/report.md").read_text().splitlines() if "- command" in line
    )
    command = shlex.split(line.split("`")[1])
    assert command == ["igr", "study", "run", "wait", *flags]
    assert main(command[1:]) == 0
    assert "all of it was there already (--overwrite computes it anew)" in capsys.readouterr().err


def test_tables_are_text_and_no_markup(capsys):
    text = output(capsys, "study", "run", "wait")
    assert "Numbers [all]" in text
    assert "[A] note." in text
    assert "2.000" in text


def test_other_settings_need_another_folder_or_overwrite(capsys):
    output(capsys, "study", "run", "wait")
    said = refusal(capsys, "study", "run", "wait", "--seed", "1")
    assert said.startswith(
        "igr study: expected the settings of the study in studies/wait; got other ones (seed 0"
    )
    output(capsys, "study", "run", "wait", "--seed", "1", "--overwrite")
    assert json.loads(Path("studies/wait/config.json").read_text())["config"]["seed"] == 1


def test_what_cannot_be_used_is_one_sentence(capsys):
    for argv, message in (
        ([], "expected igr study list or igr study run NAME; got no command after study"),
        (["lst"], "did you mean list?"),
        (["list", "--jsn"], "did you mean --json?"),
        (["run"], "expected the name of a study right after igr study run; got none; name one of vae-table"),
        (["run", "--smoke", "wait"], "right after igr study run; got --smoke"),
        (["run", "wiat"], "did you mean wait?"),
        (["run", "simplex-proximity", "--num-sample", "3"], "did you mean --num-samples?"),
        (["run", "simplex-proximity", "--num-samples", "few"], "expected --num-samples to be a whole number"),
        (["run", "simplex-proximity", "--num-samples", "0"], "expected num_samples to be a whole number of"),
        (["run", "wait", "--seed", "-1"], "expected seed to be a whole number from 0 to 2**63 - 1; got -1"),
        (["run", "wait", "more"], "expected no more arguments; got more"),
    ):
        assert message in refusal(capsys, "study", *argv)
    assert list(Path().iterdir()) == []


def test_help_shows_the_settings_of_the_study(capsys):
    assert "igr study run NAME --help" in output(capsys, "study", "--help")
    assert ", ".join(STUDIES) in " ".join(output(capsys, "study", "run", "--help").split())
    text = " ".join(output(capsys, "study", "run", "simplex-proximity", "--help").split())
    assert "distance of points to the nearest vertex" in text
    for flag in ("--num-categories INT", "--seed INT", "--out PATH", "--smoke", "--overwrite", "--json"):
        assert flag in text
    assert "Points of each law" in text
    assert "Fixes every random number." in text
    assert "--stop, --no-stop" in output(capsys, "study", "run", "wait", "--help")
