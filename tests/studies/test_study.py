"""A study may be stopped at any time and gone on with, and says what it found in files that are whole."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from matplotlib.image import imread

from disks import files_of_at_most
from igr import plot
from igr.errors import UserError
from igr.studies import (
    STUDIES,
    Findings,
    Item,
    Picture,
    Record,
    Report,
    Study,
    StudyConfig,
    Table,
    Work,
    default_folder,
    run_study,
    study,
)
from igr.studies.run import command_of
from igr.training.failures import Interrupted


@dataclass(frozen=True)
class ToyConfig(StudyConfig):
    """Sums of normal numbers."""

    count: int = 5
    """How many sums."""

    signs: tuple[int, ...] = (1, -1)
    """What they are multiplied by."""

    halved: bool = False
    """Half of them."""

    def check(self) -> None:
        super().check()
        self.require("count", self.count > 0, "a whole number of at least 1")


def toy(hook: Callable[[str], None] = lambda key: None) -> Study[ToyConfig]:
    """A study whose items call the hook before they find anything."""

    def compute(key: str, config: ToyConfig, work: Work) -> Record:
        hook(key)
        total = torch.randn(1000, generator=work.generator).sum().item()
        return {"sums": tuple(sign * total for sign in config.signs)}

    def items(config: ToyConfig) -> list[Item]:
        keys = [f"sum-{number}" for number in range(config.count)]
        return [Item(key, partial(compute, key, config)) for key in keys]

    def report(config: ToyConfig, findings: Findings) -> Report:
        records = findings.records
        # Lists, as JSON gives them back, also where they were found a moment ago.
        assert all(isinstance(record["sums"], list) for record in records.values())
        rows = [(key, record["sums"][0], None) for key, record in records.items()]
        table = Table("sums", "The sums", {"key": "", "sum | all": ".2f", "no": ".1f"}, rows, ["A note."])
        figure, (axes,) = plot.new_figure(3, 2)
        axes.plot([record["sums"][0] for record in records.values()])
        return Report([table], [Picture("lines", "What is drawn.", figure)], about="About sums.")

    return Study("toy", "sums of numbers", ToyConfig, ToyConfig(count=2), report, items)


def stop_at(key: str, how: BaseException) -> Callable[[str], None]:
    def hook(now: str) -> None:
        if now == key:
            raise how

    return hook


def contents(folder: Path) -> dict[str, object]:
    """All that a study found: everything in its folder but the times."""
    found: dict[str, object] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".csv", ".png")
    }
    for path in folder.glob("records/*"):
        found[path.name] = {**json.loads(path.read_text()), "seconds": None}
    found["config"] = json.loads((folder / "config.json").read_text())
    return found


def kill_in_the_third_item(folder: str) -> None:
    """What the process of a test below does."""

    def hook(key: str) -> None:
        if key == "sum-2":
            os.kill(os.getpid(), signal.SIGKILL)

    run_study(toy(hook), ToyConfig(), folder)


def test_a_killed_study_goes_on_to_what_an_unbroken_one_finds(tmp_path):
    here = Path(__file__).parent
    body = f"import sys; sys.path.append({str(here.parent)!r}); import test_study\n"
    body += f"test_study.kill_in_the_third_item({str(tmp_path / 'killed')!r})"
    done = subprocess.run([sys.executable, "-c", body], cwd=here, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert sorted(path.name for path in (tmp_path / "killed" / "records").iterdir()) == [
        "sum-0.json",
        "sum-1.json",
    ]
    computed: list[str] = []
    outcome = run_study(toy(computed.append), ToyConfig(), tmp_path / "killed")
    assert computed == ["sum-2", "sum-3", "sum-4"]
    assert (outcome.num_items, outcome.num_kept) == (5, 2)
    run_study(toy(), ToyConfig(), tmp_path / "unbroken")
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")


@pytest.mark.parametrize("how", [KeyboardInterrupt(), Interrupted("training stopped")])
def test_an_interrupt_says_how_to_go_on(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted) as stop:
        run_study(toy(stop_at("sum-3", how)), ToyConfig(seed=7), "a folder")
    go_on = "go on with igr study run toy --seed 7 --out 'a folder'"
    assert str(stop.value) == f"stopped after 3 of 5 items; {go_on}"
    assert not Path("a folder/report.md").exists()
    assert run_study(toy(), ToyConfig(seed=7), "a folder").num_kept == 3


def test_a_failure_keeps_what_was_found(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_study(toy(stop_at("sum-1", ZeroDivisionError())), ToyConfig(), tmp_path / "out")
    assert run_study(toy(), ToyConfig(), tmp_path / "out").num_kept == 1


@pytest.mark.parametrize("key", [None, "sum-2"], ids=["config", "record"])
def test_a_full_disk_is_a_sentence_and_what_was_found_is_kept(tmp_path, key):
    out = tmp_path / "out"
    said = r"expected a folder .* for the study; got .*out \(File too large\); make room there, or choose"
    with ExitStack() as stack:

        def fill(now: str | None) -> None:
            if now == key:
                stack.enter_context(files_of_at_most(50))

        fill(None)
        with pytest.raises(UserError, match=said):
            run_study(toy(fill), ToyConfig(), out)
    assert not list(out.rglob(".unfinished*"))
    assert run_study(toy(), ToyConfig(), out).num_kept == (2 if key else 0)
    # What it is written into last is full: tables, figures and the page.
    for file in ("tables/sums.csv", "figures/lines.png", "report.md"):
        before = contents(out)
        size = (out / file).stat().st_size
        with pytest.raises(UserError, match=said), files_of_at_most(size - 1):
            run_study(toy(), ToyConfig(), out)
        assert contents(out) == before
        assert not list(out.rglob(".unfinished*"))


def test_a_finished_study_computes_nothing_and_finds_the_same(tmp_path):
    first = run_study(toy(), ToyConfig(), tmp_path)
    page, found = (tmp_path / "report.md").read_bytes(), contents(tmp_path)
    again = run_study(toy(stop_at("sum-0", AssertionError())), ToyConfig(), tmp_path)
    assert (first.num_kept, again.num_kept) == (0, 5)
    assert first.seconds == again.seconds
    assert (tmp_path / "report.md").read_bytes() == page
    assert contents(tmp_path) == found


def test_items_depend_on_seed_and_key_alone(tmp_path):
    def sums(config: ToyConfig, folder: str) -> dict[str, float]:
        run_study(toy(), config, tmp_path / folder)
        paths = (tmp_path / folder / "records").iterdir()
        return {path.stem: json.loads(path.read_text())["record"]["sums"][0] for path in paths}

    few, many, other = (
        sums(ToyConfig(count=count, seed=seed), name)
        for count, seed, name in ((2, 0, "few"), (4, 0, "many"), (4, 1, "other"))
    )
    assert few.items() <= many.items()
    assert len({*many.values(), *other.values()}) == 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"key": "sum-1"',
        "[]",
        "null",
        '{"key": "sum-1", "record": []}',
        '{"key": "sum-0", "seconds": 1.0, "versions": {}, "record": {"sums": [1]}}',
        '{"key": "sum-1", "seconds": 1.0, "versions": {}, "record": [1]}',
        '{"key": "sum-1", "seconds": "long", "versions": {}, "record": {"sums": [1]}}',
        "\udcff",
    ],
)
def test_a_damaged_record_is_computed_again(tmp_path, text):
    run_study(toy(), ToyConfig(), tmp_path)
    found = contents(tmp_path)
    (tmp_path / "records" / "sum-1.json").write_bytes(text.encode(errors="surrogateescape"))
    computed: list[str] = []
    run_study(toy(computed.append), ToyConfig(), tmp_path)
    assert computed == ["sum-1"]
    assert contents(tmp_path) == found


def test_what_killed_processes_left_unfinished_goes(tmp_path):
    run_study(toy(), ToyConfig(), tmp_path)
    expected = sorted(tmp_path.rglob("*"))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in ("config.json", "records/sum-1.json", "figures/lines.png", "tables/sums.csv"):
        path = tmp_path / name
        path.with_name(f".unfinished-{ended.pid}-{path.name}").write_text("half")
    run_study(toy(), ToyConfig(), tmp_path)
    assert sorted(tmp_path.rglob("*")) == expected


def test_an_item_finds_what_it_left_when_it_was_interrupted(tmp_path):
    seen: list[bool] = []

    def compute(work: Work) -> Record:
        seen.append(work.folder.exists())
        if not seen[-1]:
            work.folder.mkdir(parents=True)
            raise KeyboardInterrupt
        return {"sums": [1.0]}

    long = dataclasses.replace(toy(), items=lambda config: [Item("long", compute)])
    with pytest.raises(Interrupted):
        run_study(long, ToyConfig(), tmp_path)
    run_study(long, ToyConfig(), tmp_path)
    assert seen == [False, True]
    with pytest.raises(Interrupted):
        run_study(long, ToyConfig(), tmp_path, overwrite=True)
    assert seen == [False, True, False]


def test_other_settings_are_refused_and_nothing_changes(tmp_path):
    run_study(toy(), ToyConfig(), tmp_path)
    found = contents(tmp_path)
    with pytest.raises(UserError) as refusal:
        run_study(toy(), ToyConfig(seed=1, signs=(1,)), tmp_path)
    said = str(refusal.value)
    assert "seed 0 there and 1 now; signs [1, -1] there and [1] now" in said
    assert "count" not in said
    assert said.endswith("choose another folder with --out, or replace what is there with --overwrite")
    other = dataclasses.replace(toy(), name="other")
    with pytest.raises(UserError, match="study toy there and other now"):
        run_study(other, ToyConfig(), tmp_path)
    assert contents(tmp_path) == found


def test_settings_of_an_earlier_version_of_the_study_are_other_settings(tmp_path):
    run_study(toy(), ToyConfig(), tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    del stored["config"]["count"]
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="count not there and 5 now"):
        run_study(toy(), ToyConfig(), tmp_path)


def test_overwriting_leaves_nothing_of_the_earlier_study(tmp_path):
    run_study(toy(), ToyConfig(), tmp_path / "one")
    (tmp_path / "one" / "mine.txt").write_text("not of the study")
    run_study(toy(), ToyConfig(count=2, seed=3), tmp_path / "one", overwrite=True)
    run_study(toy(), ToyConfig(count=2, seed=3), tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (tmp_path / "one" / "mine.txt").read_text() == "not of the study"
    # Also with the same settings.
    assert run_study(toy(), ToyConfig(count=2, seed=3), tmp_path / "one", overwrite=True).num_kept == 0


@pytest.mark.parametrize("text", [None, "{", "[]", '{"config": {}}', '{"study": "toy"}'])
def test_a_folder_of_something_else_is_left_alone(tmp_path, text):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "mine").write_text("mine")
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="which holds something else; choose another with --out"):
            run_study(toy(), ToyConfig(), tmp_path, overwrite=overwrite)
    assert (tmp_path / "records" / "mine").read_text() == "mine"


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder that can be written for the study"):
        run_study(toy(), ToyConfig(), tmp_path / "file")
    (tmp_path / "busy").mkdir()
    with (
        FileLock(tmp_path / "busy" / ".lock"),
        pytest.raises(UserError, match="expected a study folder that is free"),
    ):
        run_study(toy(), ToyConfig(), tmp_path / "busy")


def test_a_bad_setting_leaves_no_folder(tmp_path):
    for config, said in (
        (ToyConfig(count=0), "expected count to be a whole number of at least 1; got 0; change count"),
        (ToyConfig(seed=-1), "expected seed to be a whole number from 0 to 2**63 - 1; got -1; change seed"),
    ):
        with pytest.raises(UserError) as refusal:
            run_study(toy(), config, tmp_path / "new")
        assert str(refusal.value) == said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("keys", [["a", "a"], ["A"], ["../a"], [".a"], [""]])
def test_keys_have_to_be_different_names_of_files(tmp_path, keys):
    bad = dataclasses.replace(toy(), items=lambda config: [Item(key, lambda work: {}) for key in keys])
    with pytest.raises(ValueError, match="expected different keys"):
        run_study(bad, ToyConfig(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_report_has_every_table_and_figure_and_how_it_was_made(tmp_path):
    outcome = run_study(toy(), ToyConfig(seed=4), tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text()
    rows = outcome.report.tables[0].rows
    assert page.startswith(
        "# toy: sums of numbers\n\nAbout sums.\n\n## The sums\n\n| key | sum / all | no |\n"
    )
    assert f"| sum-3 | {rows[3][1]:.2f} | - |" in page
    assert "\n\nA note.\n\n" in page
    assert "![lines: What is drawn](figures/lines.png)\n\nWhat is drawn.\n" in page
    assert f"- command: `igr study run toy --seed 4 --out {tmp_path / 'out'}`\n- seed: 4\n" in page
    assert f"torch {torch.__version__}" in page
    assert " s, the sum over 5 items\n" in page
    with (tmp_path / "out" / "tables" / "sums.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["key", "sum | all", "no"]
    assert [(key, float(value), empty) for key, value, empty in lines] == [(*row[:2], "") for row in rows]
    assert imread(tmp_path / "out" / "figures" / "lines.png").std() > 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["config"] == {"seed": 4, "count": 5, "signs": [1, -1], "halved": False}
    assert (config["study"], config["torch"]) == ("toy", torch.__version__)


def test_files_of_an_earlier_report_go(tmp_path):
    run_study(toy(), ToyConfig(), tmp_path)
    (tmp_path / "tables" / "old.csv").write_text("")
    (tmp_path / "figures" / "old.png").write_text("")
    run_study(toy(), ToyConfig(), tmp_path)
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"sums.csv", "sums.tex"}
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["lines.png"]


def test_records_of_other_versions_are_kept_and_reported(tmp_path):
    assert run_study(toy(), ToyConfig(), tmp_path).warnings == ()
    path = tmp_path / "records" / "sum-1.json"
    stored = json.loads(path.read_text())
    stored["versions"] = {"igr": "0.0.1", "torch": "2.0", "python": "3.11.0"}
    path.write_text(json.dumps(stored))
    outcome = run_study(toy(), ToyConfig(), tmp_path)
    assert outcome.num_kept == 5
    (warning,) = outcome.warnings
    assert warning.startswith(
        "some items were computed by igr 0.0.1, torch 2.0, python 3.11.0, and not by igr "
    )
    assert f"- note: {warning}" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (ToyConfig(), []),
        (ToyConfig(count=3), ["--count", "3"]),
        (
            ToyConfig(seed=2, signs=(1, 2, -3), halved=True),
            ["--seed", "2", "--signs", "1", "2", "-3", "--halved"],
        ),
    ],
)
def test_the_command_is_the_one_that_makes_the_config(config, flags):
    expected = " ".join(["igr study run toy", *flags])
    assert command_of(toy(), config, default_folder("toy")) == expected
    assert command_of(toy(), config, Path("out")) == f"{expected} --out out"


def test_the_command_of_a_small_study_is_short():
    small = dataclasses.replace(toy(), smoke=ToyConfig(count=2, halved=True))
    config = ToyConfig(count=2, halved=True, seed=1)
    expected = "igr study run toy --smoke --seed 1"
    assert command_of(small, config, default_folder("toy", smoke=True)) == expected
    assert command_of(small, config, default_folder("toy")) == f"{expected} --out studies/toy"


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match="expected 2 cells in each row of t; got 1"):
        Table("t", "title", {"a": "", "b": ""}, [["only one"]])


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_what_the_registry_says(name):
    found = study(name)
    assert found.name == name
    assert "\n" not in found.summary
    for config in (found.config(), found.smoke):
        config.check()
        assert json.loads(json.dumps(config.to_json())) == config.to_json()
        assert found.items(config) or found.groups(config)


def test_an_unknown_study_is_one_sentence():
    with pytest.raises(UserError, match=r"did you mean simplex-proximity\?"):
        study("simplex-proximty")


def test_an_item_that_finds_nothing_is_left_out_and_tried_again(tmp_path):
    found: list[Record | None] = [None, {"sums": [2.0]}]
    study = Study(
        "lazy",
        "a number",
        ToyConfig,
        ToyConfig(),
        lambda config, findings: Report(
            [Table("n", "n", {"n": "d"}, [[len(findings.records)]])], [], about="n"
        ),
        lambda config: [Item("one", lambda work: found.pop(0))],
    )
    assert run_study(study, ToyConfig(), tmp_path).report.tables[0].rows == [[0]]
    assert not [*(tmp_path / "records").iterdir()]
    again = run_study(study, ToyConfig(), tmp_path)
    assert again.report.tables[0].rows == [[1]]
    assert again.num_kept == 0
    assert run_study(study, ToyConfig(), tmp_path).num_kept == 1
