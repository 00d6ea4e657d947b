"""A sweep chooses what it says, touches nothing that is done, and ends the same however it was stopped."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import igr
from igr.errors import UserError
from igr.evaluation import evaluation
from igr.evaluation.evaluation import stored_evaluation
from igr.fitting import fit
from igr.sweeps import (
    EvaluationSettings,
    Group,
    SweepWatcher,
    job,
    read_sweep,
    run_sweep,
    workers,
)
from igr.training import loop
from igr.training.failures import Interrupted
from igr.training.folders import held
from igr.training.run_folder import RunFolder
from tiny_runs import TINY

FAILING = dataclasses.replace(TINY, learning_rate=1e30)


def tuned(*temperatures: float, key: str = "igr", seeds: tuple[int, ...] = (0, 1), **settings: Any) -> Group:
    candidates = (
        dataclasses.replace(TINY, temperature=value, seed=seeds[0], **settings) for value in temperatures
    )
    return Group(key, tuple(candidates), seeds)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """When each file of a folder was written, and which one it is."""
    return {
        path.relative_to(folder).as_posix(): ((stat := path.stat()).st_mtime_ns, stat.st_ino)
        for path in folder.rglob("*")
        # Locking a file opens it for writing.
        if path.is_file() and "lock" not in path.name
    }


def results(folder: Path) -> dict[str, object]:
    """All that a sweep found: everything in its folder but times."""
    found: dict[str, object] = {"sweep": json.loads((folder / "sweep.json").read_text())}
    for path in folder.rglob("metrics.jsonl"):
        found[path.relative_to(folder).as_posix()] = path.read_bytes()
    for path in folder.rglob("result.json"):
        result = json.loads(path.read_text())
        for part in result.values():
            part.pop("seconds", None)
        found[path.relative_to(folder).as_posix()] = result
    for path in folder.rglob("checkpoints"):
        # The one before it may be that of an interrupt.
        latest = max(path.iterdir())
        found[latest.relative_to(folder).as_posix()] = latest.read_bytes()
    return found


def test_the_best_on_the_validation_images_is_repeated_and_tested(tmp_path):
    group = tuned(0.1, 0.5, 2.0)
    alone = Group("alone", (TINY,), (0, 5))
    outcome = run_sweep([group, alone], tmp_path)
    bounds = {}
    for run in group.tuning_runs:
        folder = RunFolder(tmp_path / run.path)
        evaluation = stored_evaluation(folder, "validation")
        assert evaluation is not None
        bounds[run.candidate] = evaluation.bounds["importance_weighted"].value
    best = max(bounds, key=lambda candidate: bounds[candidate])
    assert outcome.chosen == {"igr": best, "alone": 0}
    assert len({*bounds.values()}) == 3
    paths = {path.parent.relative_to(tmp_path) for path in tmp_path.rglob("result.json")}
    assert paths == {run.path for run in outcome.runs}
    tested = {path for path in paths if stored_evaluation(RunFolder(tmp_path / path)) is not None}
    assert tested == {run.path for run in [*group.runs_of(best), *alone.runs_of(0)]}
    # With nothing to choose nothing is evaluated to choose it.
    assert "validation_evaluation" not in RunFolder(tmp_path / alone.run(0, 0).path).result()
    assert (outcome.num_kept, outcome.failures, len(paths)) == (0, (), 6)
    sweep = read_sweep(tmp_path)
    assert (sweep.groups, sweep.chosen(group)) == (outcome.sweep.groups, best)
    assert sweep.validation_bounds(group) == pytest.approx(bounds)


def test_a_group_may_have_all_of_it_run_and_choose_by_the_mean_over_seeds(tmp_path):
    group = dataclasses.replace(tuned(0.1, 2.0), tune_all=True)
    outcome = run_sweep([group], tmp_path)
    assert len(outcome.runs) == 4
    means = []
    for candidate in range(2):
        found = []
        for run in group.runs_of(candidate):
            folder = RunFolder(tmp_path / run.path)
            assert stored_evaluation(folder) is not None
            evaluation = stored_evaluation(folder, "validation")
            assert evaluation is not None
            found.append(evaluation.bounds["importance_weighted"].value)
        means.append(sum(found) / 2)
    assert outcome.sweep.validation_bounds(group) == pytest.approx(dict(enumerate(means)))
    assert outcome.chosen["igr"] == means.index(max(means))


def test_what_is_finished_is_not_touched(tmp_path):
    groups = [tuned(0.1, 2.0)]
    first = run_sweep(groups, tmp_path)
    before = files(tmp_path)
    again = run_sweep(groups, tmp_path)
    assert files(tmp_path) == before
    assert (first.num_kept, again.num_kept) == (0, 3)
    assert (again.runs, again.chosen) == (first.runs, first.chosen)


def test_other_evaluations_are_made_without_training(tmp_path):
    run_sweep([tuned(0.1, 2.0)], tmp_path)
    before = files(tmp_path)
    settings = EvaluationSettings(num_samples=3, validation_samples=2, max_images=20, seed=1)
    outcome = run_sweep([tuned(0.1, 2.0)], tmp_path, evaluation=settings)
    after = files(tmp_path)
    changed = {Path(name).name for name in after if after[name] != before.get(name)}
    assert changed == {"result.json", "sweep.json"}
    for run in outcome.runs:
        for split, samples in (("validation", 2), ("test", 3)):
            found = stored_evaluation(RunFolder(tmp_path / run.path), split)
            if found is not None:
                assert (found.num_samples, found.num_data, found.seed) == (samples, 20, 1)
    assert read_sweep(tmp_path).evaluation == settings
    with pytest.raises(UserError, match="expected max_images of the evaluation to be a whole number of at"):
        run_sweep([tuned(0.1)], tmp_path / "b", evaluation=EvaluationSettings(max_images=0))
    assert not (tmp_path / "b").exists()


class Counter(SweepWatcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, int]] = []
        self.failed: list[bool] = []

    def begin(self, num_done: int, num_runs: int) -> None:
        self.counts.append((num_done, num_runs))

    def finished(self, run: Any, failure: str | None, num_done: int, num_runs: int) -> None:
        self.counts.append((num_done, num_runs))
        self.failed.append(failure is not None)


def test_a_run_that_fails_is_not_chosen_and_ends_no_other(tmp_path):
    candidates = (FAILING, *tuned(0.1).candidates, dataclasses.replace(FAILING, temperature=3.0))
    groups = [
        Group("some", candidates, (0, 1)),
        Group("all", (FAILING, dataclasses.replace(FAILING, temperature=3.0)), (0, 1)),
    ]
    counter = Counter()
    outcome = run_sweep(groups, tmp_path, watcher=counter)
    assert outcome.chosen == {"some": 1, "all": None}
    assert [failure.run.path for failure in outcome.failures] == [
        run.path
        for group, number in ((0, 0), (0, 2), (1, 0), (1, 1))
        for run in groups[group].runs_of(number)[:1]
    ]
    assert all("learning rate too high (1e+30)" in failure.message for failure in outcome.failures)
    assert str(outcome.failures[0]).startswith(f"{groups[0].run(0, 0).path}: expected finite numbers; got ")
    # Of the second group nothing but its two candidates could be run.
    assert counter.counts[-1] == (6, 6)
    assert counter.failed == [True, False, True, True, True, False, False]
    # It is tried again, and ends in the same way.
    assert run_sweep(groups, tmp_path).num_kept == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "expected enough memory for the run; got less; run fewer at once with --workers"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "expected enough memory for the run"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ZeroDivisionError("a fault\nin lines"), "ZeroDivisionError: a fault"),
    ],
)
def test_whatever_a_run_fails_with_is_one_sentence(tmp_path, monkeypatch, error, said):
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(job, "evaluate", fail)
    (failure,) = run_sweep([tuned(0.1, seeds=(0,))], tmp_path).failures
    assert said in str(failure)
    assert "\n" not in str(failure)
    assert type(error).__name__ in (failure.traceback or "")


def test_bounds_that_are_not_finite_are_a_failure(tmp_path, monkeypatch):
    real = evaluation.per_datum_bounds

    def not_finite(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        return {**found, "relaxed_elbo": found["relaxed_elbo"] * float("nan")}

    monkeypatch.setattr(evaluation, "per_datum_bounds", not_finite)
    (failure,) = run_sweep([tuned(0.1, seeds=(0,))], tmp_path).failures
    assert "expected finite bounds on the test split; got nan for the relaxed ELBO" in failure.message


def test_one_thread_computes_whatever_there_was(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(job, "evaluate", lambda *a, **b: seen.append(torch.get_num_threads()) or 1 / 0)
    torch.set_num_threads(2)
    run_sweep([tuned(0.1, seeds=(0,))], tmp_path)
    assert (seen, torch.get_num_threads()) == ([1], 2)


def stop_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    step_of_training = loop.Loop._step

    def step(self: Any, *arguments: Any) -> None:
        step_of_training(self, *arguments)
        if self.step == 1 and self.config.seed == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Loop, "_step", step)


def stop_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **options)

    real = job.evaluate
    monkeypatch.setattr(job, "evaluate", evaluate)


def stop_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(*arguments: Any) -> Any:
        ending = real(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return ending

    real = workers.attempt
    monkeypatch.setattr(workers, "attempt", attempt)


def stop_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    real = workers.attempt
    monkeypatch.setattr(job, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(workers, "attempt", attempt)


@pytest.mark.parametrize(
    ("stop", "num_done", "step"),
    [
        (stop_in_training, 2, None),
        (stop_in_evaluation, 0, 4),
        (stop_between_runs, 1, None),
        (stop_before_training, 0, 1),
    ],
)
def test_a_signal_stops_a_sweep_which_then_goes_on(
    tmp_path, stop: Callable[[pytest.MonkeyPatch], None], num_done, step
):
    group = tuned(0.1, 2.0)
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        with pytest.raises(Interrupted) as interrupt:
            run_sweep([group], tmp_path / "a", command="igr sweep --seed 0 1")
    assert str(interrupt.value) == f"stopped after {num_done} of 3 runs; go on with igr sweep --seed 0 1"
    if step is not None:
        assert RunFolder(tmp_path / "a" / group.tuning_runs[0].path).latest_step() == step
    outcome = run_sweep([group], tmp_path / "a")
    assert outcome.num_kept <= num_done
    run_sweep([group], tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")


def test_a_sweep_without_a_command_names_its_folder(tmp_path, monkeypatch):
    stop_in_evaluation(monkeypatch)
    with pytest.raises(Interrupted, match=f"; go on by running the same sweep in {tmp_path}$"):
        run_sweep([tuned(0.1)], tmp_path)


def leave_what_a_kill_at_the_start_leaves(folder: Path, name: str) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    folder.mkdir(parents=True)
    (folder / f".unfinished-{ended.pid}-{name}").write_text("{")
    (folder / ".lock").touch()


def test_what_was_killed_at_its_very_start_is_begun(tmp_path):
    group = tuned(0.1, seeds=(0,))
    leave_what_a_kill_at_the_start_leaves(tmp_path / "a", "sweep.json")
    run_sweep([group], tmp_path / "a")
    expected = results(tmp_path / "a")
    path = tmp_path / "a" / group.run(0, 0).path
    shutil.rmtree(path)
    leave_what_a_kill_at_the_start_leaves(path, "config.json")
    run_sweep([group], tmp_path / "a")
    assert results(tmp_path / "a") == expected
    assert not [*(tmp_path / "a").glob(".unfinished*")]


def test_a_run_that_was_begun_goes_on(tmp_path):
    group = tuned(0.1, seeds=(0,))
    path = tmp_path / "a" / group.run(0, 0).path
    run_sweep([group], tmp_path / "a")
    (path / "result.json").unlink()
    for checkpoint in sorted((path / "checkpoints").iterdir())[1:]:
        checkpoint.unlink()
    run_sweep([group], tmp_path / "a")
    run_sweep([group], tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")


def refused(groups: list[Group], folder: Path) -> str:
    with pytest.raises(UserError) as refusal:
        run_sweep(groups, folder)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


OTHERS = {
    "seeds": ([tuned(0.1, 2.0, seeds=(0, 2))], "the seeds 0 1 there and 0 2 now in the group igr"),
    "keys": ([tuned(0.1, 2.0, key="other")], "the groups igr there and other now"),
    "count": ([tuned(0.1)], "2 candidates there and 1 now in the group igr"),
    "settings": ([tuned(0.1, 2.0, epochs=3)], "epochs 2 there and 3 now in the group igr"),
    "tuning": (
        [dataclasses.replace(tuned(0.1, 2.0), tune_all=True)],
        "candidates tuned with the first seed there and every seed now in the group igr",
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    run_sweep([tuned(0.1, 2.0)], folder)
    return folder


@pytest.mark.parametrize(("groups", "said"), OTHERS.values(), ids=OTHERS.keys())
def test_the_folder_of_another_sweep_is_refused(finished, groups, said):
    before = files(finished)
    assert refused(groups, finished) == (
        f"expected the sweep in {finished}; got another one ({said}); choose another folder with --out"
    )
    assert files(finished) == before


def changed(path: Path, **values: object) -> str:
    """Changes keys of a file of JSON, and returns what it was."""
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), **values}))
    return before


def test_a_run_folder_of_something_else_is_refused(finished):
    group = tuned(0.1, 2.0)
    path = finished / group.run(0, 0).path
    config = path / "config.json"
    other = {**json.loads(config.read_text())["config"], "epochs": 7}
    for values, said in (
        (
            {"config": other},
            f"the run of this sweep in {path}; got one with other settings (epochs 7 there and",
        ),
        ({"format": 99}, f"a run of this version of igr in {path}; got one that cannot be read"),
        ({"config": {"capacity": 1}}, f"a run of this version of igr in {path}; got one that cannot be read"),
    ):
        before = changed(config, **values)
        assert said in refused([group], finished)
        config.write_text(before)
    config.rename(path / "aside")
    assert f"expected an empty folder, or that of a run, at {path}; got" in refused([group], finished)
    (path / "aside").rename(config)
    assert run_sweep([group], finished).num_kept == 3


def test_a_run_has_its_own_copy_of_a_prior(tmp_path):
    prior = tmp_path / "prior.json"
    fit([0.5, 0.3, 0.2], "igr").save(prior)
    group = tuned(0.1, prior=str(prior))
    (tmp_path / "bad.json").write_text("{}")
    said = refused([tuned(0.1, prior=str(tmp_path / "bad.json"))], tmp_path / "bad")
    assert f"expected a prior written by igr prior at {tmp_path / 'bad.json'}" in said
    assert not [*(tmp_path / "bad").rglob("config.json")]
    run_sweep([group], tmp_path / "a")
    text = prior.read_text()
    prior.write_text(text + "\n")
    assert "prior" in refused([group], tmp_path / "a")
    prior.unlink()
    assert run_sweep([group], tmp_path / "a").num_kept == 2


def test_runs_of_other_versions_are_kept_and_reported(finished, monkeypatch):
    monkeypatch.setattr(igr, "__version__", "99.0")
    outcome = run_sweep([tuned(0.1, 2.0)], finished)
    assert outcome.num_kept == 3
    (warning,) = outcome.warnings
    assert warning.startswith("3 runs, the first of them ")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_folder_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "mine").write_text("mine")
    if text is not None:
        (tmp_path / "sweep.json").write_text(text)
    assert f"got {tmp_path}, which holds something else; choose" in refused([tuned(0.1)], tmp_path)
    with pytest.raises(UserError):
        read_sweep(tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_a_sweep_of_another_version_is_refused(finished):
    path = finished / "sweep.json"
    for values in ({"format": 2}, {"groups": [{"key": "igr"}]}, {"groups": 3}, {"evaluation": {"x": 1}}):
        before = changed(path, **values)
        said = f"expected a sweep of this version of igr in {finished}; got one that does not fit"
        assert said in refused([tuned(0.1, 2.0)], finished)
        path.write_text(before)


@pytest.mark.parametrize("seeds", [[0, "/../x"], [0, 1.5], [0, True], [0, -1], [0, [1]], "01", {}, [None]])
def test_a_sweep_with_seeds_that_are_none_is_refused(finished, seeds):
    """They are part of the names of folders, which have to stay below that of the sweep."""
    path = finished / "sweep.json"
    before = path.read_text()
    record = json.loads(before)
    record["groups"][0]["seeds"] = seeds
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"expected a sweep of this version of igr .* does not fit"):
        read_sweep(finished)
    path.write_text(before)


@pytest.mark.parametrize(
    "settings", [{"seed": None}, {"num_samples": "5"}, {"num_samples": 0}, {"max_images": 1.5}]
)
def test_a_sweep_with_evaluations_that_cannot_be_is_refused(finished, settings):
    path = finished / "sweep.json"
    evaluation = json.loads(path.read_text())["evaluation"]
    before = changed(path, evaluation={**evaluation, **settings})
    with pytest.raises(UserError, match=r"expected a sweep of this version of igr .* does not fit"):
        read_sweep(finished)
    path.write_text(before)


def test_a_sweep_whose_folders_no_system_takes_is_one_sentence(finished):
    path = finished / "sweep.json"
    before = path.read_text()
    record = json.loads(before)
    record["groups"][0]["key"] = "x" * 300
    path.write_text(json.dumps(record))
    sweep = read_sweep(finished)
    with pytest.raises(UserError, match=r"expected a path that can be looked at; got .*File name too long"):
        sweep.chosen(sweep.groups[0])
    path.write_text(before)


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    assert "can be written for the sweep; got" in refused([tuned(0.1)], tmp_path / "file")
    with held(tmp_path / "busy", "sweep"):
        assert "expected a sweep folder that is free" in refused([tuned(0.1)], tmp_path / "busy")
    with pytest.raises(UserError, match=r"which has no sweep\.json; name one that igr sweep wrote"):
        read_sweep(tmp_path / "absent")
    with pytest.raises(UserError, match="expected workers to be a whole number of at least 1; got 0"):
        run_sweep([tuned(0.1)], tmp_path / "new", workers=0)
    with pytest.raises(ValueError, match="expected groups with different keys"):
        run_sweep([tuned(0.1), tuned(2.0)], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_that_another_process_uses_is_a_failure_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "SECONDS_TO_WAIT", 0.2)
    group = tuned(0.1, seeds=(0,))
    run_sweep([group], tmp_path)
    path = tmp_path / group.run(0, 0).path
    (path / "result.json").unlink()
    with RunFolder(path).locked():
        (failure,) = run_sweep([group], tmp_path).failures
    assert "which another process is using" in failure.message


def of_group(folder: Path, key: str) -> dict[str, object]:
    return {name: value for name, value in results(folder).items() if name.startswith(key)}


# The program of a process that is killed when it comes to a run of the group "killed".
KILLED = """
import os, igr.sweeps.workers as workers
real = workers.attempt

def attempt(bundle, *arguments):
    if bundle.jobs[0].run.group == "killed":
        os.kill(os.getpid(), 9)
    return real(bundle, *arguments)

workers.attempt = attempt
workers.main()
"""


def test_processes_find_what_one_finds_and_take_no_other_with_them(tmp_path, monkeypatch):
    groups = [
        tuned(0.1, 2.0),
        Group("failing", (FAILING,), (0,)),
        tuned(0.1, key="killed", seeds=(0,)),
    ]
    monkeypatch.setattr(workers, "_PROGRAM", KILLED)
    outcome = run_sweep(groups, tmp_path / "a", workers=2)
    messages = {failure.run.group: failure.message for failure in outcome.failures}
    assert "learning rate too high" in messages["failing"]
    assert messages["killed"].startswith(
        "expected the process of the run to end with a result; got an end by the signal SIGKILL, as where"
    )
    alone = run_sweep(groups[:1], tmp_path / "b")
    assert outcome.chosen == {**alone.chosen, "failing": None, "killed": None}
    assert of_group(tmp_path / "a", "igr") == of_group(tmp_path / "b", "igr")
