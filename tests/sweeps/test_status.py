"""How the runs of a sweep are, seen from outside, and runs that are tried again."""

import dataclasses
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from igr.cli import main
from igr.errors import UserError
from igr.sweeps import Group, run_sweep, status, workers
from igr.sweeps.job import Ending
from igr.training import loop
from igr.training.failures import Interrupted
from igr.training.run_folder import RunFolder
from tiny_runs import TINY

GROUPS = [Group("igr", (TINY, dataclasses.replace(TINY, temperature=0.9)), (0, 1))]


def fail_first(monkeypatch: pytest.MonkeyPatch, times: int, ending: Ending) -> list[str]:
    """Has the run at 0.9 with seed 0 end like this, so many times; the names of runs that are begun."""
    usual = workers.attempt
    begun: list[str] = []

    def attempt(bundle, should_stop, advance) -> Sequence[Ending]:
        (job,) = bundle.jobs
        begun.append(job.run.name)
        config = job.run.config
        if (config.temperature, config.seed) == (0.9, 0) and begun.count(job.run.name) <= times:
            return [ending]
        return usual(bundle, should_stop, advance)

    monkeypatch.setattr(workers, "attempt", attempt)
    return begun


def test_states_are_those_of_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    fail_first(monkeypatch, 1, Ending(failure="it broke"))
    outcome = run_sweep(GROUPS, folder)
    assert [failure.message for failure in outcome.failures] == ["it broke"]
    found = {one.run.name: one for one in status(folder)}
    failed = next(one for one in found.values() if one.run.config.temperature == 0.9)
    assert (failed.state, failed.failure, failed.epoch, failed.bound) == ("failed", "it broke", 0, None)
    others = [one for one in found.values() if one is not failed]
    # The other one is chosen, and has both seeds.
    assert [one.run.config.seed for one in others] == [0, 1]
    assert [one.state for one in others] == ["finished", "finished"]
    last = RunFolder(folder / others[0].run.path).metrics()[-1]
    assert (others[0].epoch, others[0].num_epochs, others[0].bound) == (2, 2, last["validation_bound"])
    with RunFolder(folder / failed.run.path).locked():
        assert {one.state for one in status(folder)} == {"running", "finished"}
    assert main(["sweep", "status", str(folder)]) == 0
    said = capsys.readouterr()
    assert "1 failed" in said.err
    assert f"{failed.run.path}: it broke" in said.err
    assert "failed" in said.out
    assert main(["sweep", "status", "--json", str(folder)]) == 0
    records = json.loads(capsys.readouterr().out)
    assert {record["run"]: record["state"] for record in records} == {
        str(one.run.path): one.state for one in found.values()
    }
    # Gone on with, it is forgotten.
    run_sweep(GROUPS, folder)
    assert {(one.state, one.failure) for one in status(folder)} == {("finished", None)}


def test_what_was_interrupted_is_stopped_and_what_was_not_begun_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = loop.Loop._step

    def step(self: loop.Loop, *arguments: object) -> None:
        usual(self, *arguments)  # type: ignore[arg-type]
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop.Loop, "_step", step)
    with pytest.raises(Interrupted):
        run_sweep(GROUPS, tmp_path / "sweep")
    assert [(one.state, one.epoch) for one in status(tmp_path / "sweep")] == [("stopped", 1), ("waiting", 0)]


@pytest.mark.parametrize(
    ("ending", "retries", "fails"),
    [
        (Ending(failure="its process ended", may_pass=True), 2, False),
        (Ending(failure="its process ended", may_pass=True), 1, True),
        (Ending(failure="its process ended", may_pass=True), None, True),
        (Ending(failure="the loss is nan"), 5, True),
        (Ending(failure="the node was wanted", may_pass=True, was_taken_away=True), 0, False),
    ],
    ids=["passes", "too-often", "not-asked", "would-fail-again", "taken-away"],
)
def test_a_failure_that_may_pass_is_tried_again_so_often(
    ending: Ending, retries: int | None, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = fail_first(monkeypatch, 2, ending)
    group = Group("igr", (dataclasses.replace(TINY, temperature=0.9),), (0,))
    outcome = run_sweep([group], tmp_path / "sweep", retries=retries)
    assert bool(outcome.failures) == fails
    tries = 1 + min(2, retries or 0) if ending.may_pass and not ending.was_taken_away else 1
    assert len(begun) == (3 if ending.was_taken_away else tries)


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the folder of a sweep"):
        status(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--retries", "-1"], "expected retries to be a whole number of at least 0; got -1"),
        (["--executor", "slrum"], "expected the executor to be one of local, slurm; got 'slrum'"),
        (["--gpus", "1"], "expected no --gpus without a cluster; got one; add --executor slurm"),
        (["--slurm", "a.toml"], "expected no --slurm without a cluster; got one; add --executor slurm"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "--smoke", "--out", str(tmp_path / "sweep"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
