"""A sweep with replicas finds what one without them finds."""

import dataclasses
import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from igr.sweeps import EvaluationSettings, Group, SweepWatcher, job, record, run_sweep
from igr.sweeps.job import Bundle, Job
from igr.sweeps.ledger import Ledger
from igr.sweeps.run import _Work
from igr.training import memory, replicas
from igr.training.failures import Interrupted
from igr.training.folders import held
from igr.training.memory import Allocated, free_memory
from igr.training.replicas import replicas_at_once
from tiny_runs import TINY as SINGLE

TINY = dataclasses.replace(SINGLE, precision="float64", kl="relaxed").resolved()


def grid(**settings: Any) -> Group:
    candidates = (
        dataclasses.replace(TINY, temperature=temperature, **settings).resolved()
        for temperature in (0.1, 0.5)
    )
    return Group("grid", tuple(candidates), (0, 1, 2), tune_all=True)


# Beside replicas, runs that are none of theirs: of another model, and of one that has to be trained alone.
REMEMBERS = {"latent": "gumbel-softmax", "temperature": 0.5, "kl": "discrete"}
REMEMBERS |= {"estimator": "score_function_moving_average", "scale": None, "prior_temperature": None}
OTHERS = (
    Group("other", (dataclasses.replace(TINY, num_variables=3),), (0, 1)),
    Group("alone", (dataclasses.replace(TINY, **REMEMBERS).resolved(),), (0, 1)),
)


def test_processes_have_equal_parts(tmp_path):
    groups = [
        dataclasses.replace(grid(learning_rate=rate), key=key, seeds=(0, 1, 2, 3, 4, 5))
        for key, rate in (("a", 1e-3), ("b", 2e-3), ("c", 3e-3))
    ]
    sweep = record.begin(tmp_path, groups, EvaluationSettings())
    work = _Work(sweep, SweepWatcher(), 4, True, 0, Ledger(tmp_path), is_elsewhere=False)
    bundles = [work.take() for _ in range(4)]
    assert [len(bundle.jobs) for bundle in bundles] == [9, 9, 9, 9]
    assert bundles[0].share == 0.25
    assert work.take() is None


class Noted(SweepWatcher):
    """How many runs went on at once."""

    def __init__(self) -> None:
        self.going: list[int] = []

    def advance(self, running: Any) -> None:
        self.going.append(len(running))


def found(folder: Path) -> dict[str, Any]:
    """The numbers that a sweep found, but for times."""
    numbers = {}
    for path in folder.rglob("result.json"):
        result = json.loads(path.read_text())
        for part in ("training", "validation_evaluation", "test_evaluation"):
            for key, value in result.get(part, {}).items():
                if isinstance(value, float) and key != "seconds":
                    numbers[f"{path.parent.name}/{part}/{key}"] = value
            for key, bound in result.get(part, {}).get("bounds", {}).items():
                numbers[f"{path.parent.name}/{part}/{key}"] = bound["value"]
    return numbers


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_replicas_give_what_single_runs_give(tmp_path, workers):
    groups = [grid(), *OTHERS]
    watcher = Noted()
    outcome = run_sweep(groups, tmp_path / "stacked", replicas=True, workers=workers, watcher=watcher)
    alone = run_sweep(groups, tmp_path / "alone")
    assert outcome.chosen == alone.chosen
    assert outcome.failures == ()
    numbers = found(tmp_path / "alone")
    assert len(numbers) > 80
    assert found(tmp_path / "stacked") == pytest.approx(numbers, rel=1e-9)
    # Six replicas, all at once or half of them in each of two processes, beside what else goes on there.
    assert max(watcher.going) == 6 if workers == 1 else 4 <= max(watcher.going) <= 6
    again = run_sweep(groups, tmp_path / "stacked", replicas=True)
    assert again.num_kept == len(again.runs) == 10


def test_a_replica_that_breaks_is_a_failure_of_its_run_alone(tmp_path):
    candidates = [dataclasses.replace(TINY, learning_rate=rate) for rate in (1e-3, 1e300)]
    group = Group("grid", tuple(candidates), (0, 1), tune_all=True)
    outcome = run_sweep([group], tmp_path, replicas=True)
    assert outcome.chosen == {"grid": 0}
    assert [failure.run.config.learning_rate for failure in outcome.failures] == [1e300] * 2
    assert all("a learning rate too high (1e+300)" in str(failure) for failure in outcome.failures)


def test_a_signal_stops_all_and_they_go_on(tmp_path, monkeypatch):
    group = grid()
    note = replicas.Loop.note

    def stop(self: Any, sums: torch.Tensor) -> None:
        note(self, sums)
        if self.step == 3 and self.config.seed == 1 and self.config.temperature == 0.5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(replicas.Loop, "note", stop)
        with pytest.raises(Interrupted, match="stopped after 0 of 6 runs"):
            run_sweep([group], tmp_path / "a", replicas=True)
    run_sweep([group], tmp_path / "a", replicas=True)
    run_sweep([group], tmp_path / "b", replicas=True)
    assert found(tmp_path / "a") == found(tmp_path / "b")


def test_a_folder_in_use_takes_no_other_run_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "SECONDS_TO_WAIT", 0.0)
    group = grid()
    busy = group.tuning_runs[2]
    with ExitStack() as stack:

        class Holding(SweepWatcher):
            def begin(self, num_done: int, num_runs: int) -> None:
                stack.enter_context(held(tmp_path / busy.path, "run"))

        outcome = run_sweep([group], tmp_path, replicas=True, watcher=Holding())
    assert [failure.run for failure in outcome.failures] == [busy]
    assert "which another process is using" in str(outcome.failures[0])
    assert len(outcome.runs) == 6


def test_stacks_are_as_large_as_memory_allows(tmp_path, monkeypatch):
    """Without changing what is found."""
    sizes = []
    train = job.train_replicas

    def counted(runs: Any, watcher: Any) -> Any:
        sizes.append(len(runs))
        return train(runs, watcher)

    monkeypatch.setattr(job, "train_replicas", counted)
    # Other tests take memory too.
    monkeypatch.setattr(replicas, "free_memory", lambda device: 2**30)
    needed = 0.5 * 2**30 / replicas_at_once(TINY)
    monkeypatch.setattr(replicas, "free_memory", lambda device: int(4.5 * 2 * needed))
    assert replicas_at_once(TINY) == 4
    shares: list[float] = []
    runs = grid().tuning_runs
    bundle = Bundle(tuple(Job(run, tmp_path / run.name, (), EvaluationSettings()) for run in runs))
    endings = job.attempt(bundle, lambda: False, shares.append)
    assert sizes == [3, 3]
    assert [ending.failure for ending in endings] == [None] * 6
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


def test_what_a_replica_takes_grows_with_the_model_and_the_batch(monkeypatch):
    monkeypatch.setattr(replicas, "free_memory", lambda device: 2**33)
    first = replicas_at_once(TINY)
    assert 10 < first < 1e6
    assert replicas_at_once(TINY, 0.5) == pytest.approx(first / 2, rel=0.1)
    larger = dataclasses.replace(TINY, max_images=None, batch_size=500)
    assert replicas_at_once(larger) < first / 2
    assert replicas_at_once(dataclasses.replace(TINY, network="dense_nonlinear")) < first / 2
    assert replicas_at_once(TINY, 1e-12) == 1


def test_bytes_are_counted_but_not_those_of_views():
    x = torch.zeros(10, 10)
    with Allocated() as step:
        (x.t() + 1).sum()
    assert step.num_bytes == 404


def test_free_memory_is_that_of_the_narrowest_group(tmp_path, monkeypatch):
    """With what was read from files counted as free, and without a limit that of the machine."""
    whole = free_memory(torch.device("cpu"))
    assert 2**20 < whole < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    inner = tmp_path / "slice" / "job"
    inner.mkdir(parents=True)
    for group, limit, taken, cached in (
        (tmp_path, "max", 9_000_000, 0),
        (tmp_path / "slice", "3000000", 1_000_000, 250_000),
        (inner, "5000000", 1_000_000, 0),
    ):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{taken}\n")
        (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 7\n")
    own = tmp_path / "own"
    own.write_text("0::/slice/job\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUP", own)
    assert free_memory(torch.device("cpu")) == 2_250_000
    (tmp_path / "slice" / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) == 4_000_000
    own.write_text("")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert free_memory(torch.device("cpu")) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
