"""Several processes with a part of every batch each take the steps of a single one."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from igr import cli
from igr.errors import UserError
from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.dlgmm_config import DLGMMConfig
from igr.training.failures import TrainingFailure
from igr.training.images import Images
from igr.training.processes import ALONE, Lost, Processes, are_several
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder
from igr.training.sop_config import SOPConfig
from igr.training.watchers import Watcher
from several_processes import ends, start

# Two batches and an image that is left over, which each of two processes has; 102 steps, of which
# the last ones are flat where passes can be.
COMMON: dict[str, Any] = {
    "max_images": 101,
    "batch_size": 50,
    "epochs": 34,
    "eval_every": 17,
    "checkpoint_every": 17,
    "precision": "float64",
}
SMALL: dict[str, Any] = {**COMMON, "network": "dense", "num_variables": 3, "num_categories": 4}
# In fewer steps: the costly ones.
BRIEF = {"epochs": 4, "eval_every": 2, "checkpoint_every": 2}
CONFIGS: dict[str, RunConfig] = {
    "igr": TrainConfig(**SMALL),
    "binary-pixels-drawn-anew": TrainConfig(**SMALL | BRIEF, binarization="stochastic", num_samples=3),
    "gradients-tracked": TrainConfig(**SMALL | BRIEF, latent="gumbel-softmax", track_gradients=True),
    "capacities": TrainConfig(
        **SMALL | BRIEF,
        latent="gumbel-softmax",
        continuous_dim=2,
        continuous_capacity=(0.0, 0.5, 10),
        discrete_capacity=(0.0, 0.5, 10),
    ),
    "moving-average": TrainConfig(
        **SMALL | BRIEF, latent="gumbel-softmax", estimator="score_function_moving_average"
    ),
    "relax": TrainConfig(**SMALL | BRIEF, latent="igr", estimator="relax"),
    "sop": SOPConfig(**COMMON | BRIEF, num_units=8, num_samples=3),
    "dlgmm": DLGMMConfig(**COMMON | BRIEF, num_components=3, continuous_dim=2),
}


def main(folder: str) -> None:
    """What each process does: all runs, one after another, in folders that it shares with the others."""
    seen: list[list[int]] = []
    usual = Images.take

    def take(self: Images, batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.tolist())
        return usual(self, batch)

    Images.take = take  # type: ignore[method-assign]
    with loop.joined() as processes:
        for name, config in CONFIGS.items():
            seen.clear()
            loop.train(config, Path(folder, name))
            Path(folder, f"{name}-{processes.rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    program = f"import test_processes; test_processes.main({str(folder)!r})"
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        found = ends(start(["-c", program], 2))
    finally:
        sys.path.pop(0)
    assert [code for code, _, _ in found] == [0, 0], found
    return folder


def tensors(path: Path) -> dict[str, torch.Tensor]:
    latest = RunFolder(path).latest_checkpoint()
    assert latest is not None
    return load_file(latest)


def assert_same_run(path: Path, other: Path) -> None:
    """The same weights, moments and figures, but for rounding in float64."""
    first, second = tensors(path), tensors(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-10, atol=1e-10)
    lines = [RunFolder(folder).metrics() for folder in (path, other)]
    assert len(lines[0]) == len(lines[1])
    for line, expected in zip(*lines, strict=True):
        assert line.keys() == expected.keys()
        for key, value in expected.items():
            assert line[key] == (pytest.approx(value, rel=1e-9, abs=1e-9) if type(value) is float else value)


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_take_the_steps_of_one(name: str, shared: Path, tmp_path: Path) -> None:
    loop.train(CONFIGS[name], tmp_path / "one")
    assert_same_run(shared / name, tmp_path / "one")
    assert (shared / name / "result.json").is_file()
    assert not [path for path in (shared / name).rglob("*") if path.suffix == ".tmp"]


def test_no_datum_is_seen_twice_in_an_epoch(shared: Path) -> None:
    parts = [json.loads((shared / f"igr-{rank}.json").read_text()) for rank in (0, 1)]
    config = CONFIGS["igr"]
    assert [len(part) for part in parts] == [3 * config.epochs] * 2
    for first in range(0, 3 * config.epochs, 3):
        whole = Counter(image for part in parts for batch in part[first : first + 2] for image in batch)
        assert len(whole) == 100
        assert set(whole.values()) == {1}
        # What is left over counts half in each.
        (left,), (again,) = (part[first + 2] for part in parts)
        assert left == again
        assert left not in whole


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_parts_are_all_of_a_batch_and_their_shares_one(size: int, count: int) -> None:
    every = [Processes(rank, count) for rank in range(count)]
    assert sum(processes.share(size) for processes in every) == pytest.approx(1.0, abs=1e-15)
    images = [image for processes in every for image in range(size)[processes.part(size)]]
    if size >= count:
        assert images == [*range(size)]
        assert max(len(range(size)[p.part(size)]) for p in every) - size // count <= 1
    else:
        assert images == [*range(size)] * count


def test_alone_there_is_nothing_to_agree_on() -> None:
    with pytest.raises(ValueError, match="mine"), ALONE.agreed():
        raise ValueError("mine")
    assert ALONE.any(True)
    assert not ALONE.any(False)
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    ALONE.mean(values).backward()
    torch.testing.assert_close(values.grad, torch.full((3,), 1 / 3))


class Gone(Processes):
    """The first of two, of which the other one ends at some sum."""

    def __init__(self, sums: int) -> None:
        super().__init__(0, 2)
        self.left = sums

    def add(self, tensor: torch.Tensor) -> None:
        self.left -= 1
        if self.left < 0:
            raise Lost("gone")
        # As if the other one had the same.
        tensor.mul_(2)


@pytest.mark.parametrize("name", ["moving-average", "relax", "igr", "capacities"])
@pytest.mark.parametrize("sums", range(5, 11))
def test_a_checkpoint_knows_nothing_of_a_step_that_was_not_taken(
    name: str, sums: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in a step the other process ends, the state is that after the last whole one."""
    config = dataclasses.replace(CONFIGS[name], tensorboard=False).resolved()
    dataset = loop.load_data(config)

    def loop_of(folder: str, processes: Processes) -> loop.Loop:
        found = loop.Loop(RunFolder(tmp_path / folder), config, dataset, processes=processes)
        found.folder.path.mkdir()
        return found

    broken = loop_of("broken", Gone(sums))
    whole = loop_of("whole", Gone(10**6))
    with pytest.raises(TrainingFailure), broken.folder.locked():
        broken.run(Watcher())
    for batch in whole.batches()[: broken.step]:
        whole._step(whole._part_of(batch), len(batch))
    assert whole.step == broken.step
    if broken.step % broken.steps_per_epoch == 0:
        whole.metrics.sums.zero_()
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(broken.tensors()[name], tensor, rtol=0, atol=0)


def test_what_says_that_there_are_several() -> None:
    whole = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert are_several(whole)
    assert not are_several(whole | {"WORLD_SIZE": "1"})
    assert not any(are_several({key: whole[key] for key in whole if key != left}) for left in whole)


@pytest.mark.parametrize(
    ("config", "count", "message"),
    [
        (
            TrainConfig(**SMALL, latent="igr-sb-truncated"),
            2,
            "expected one process for igr-sb-truncated.*got 2",
        ),
        (DLGMMConfig(latent="dlgmm-truncated"), 3, "expected one process for dlgmm-truncated.*got 3"),
        (TrainConfig(batch_size=3), 4, "expected no more processes than images of a batch \\(3\\); got 4"),
    ],
    ids=["sticks", "components", "batch"],
)
def test_what_cannot_be_shared_is_refused_in_words(
    config: RunConfig, count: int, message: str, tmp_path: Path
) -> None:
    config = config.resolved()
    with pytest.raises(UserError, match=message):
        loop.Loop(RunFolder(tmp_path / "run"), config, loop.load_data(config), processes=Processes(0, count))
    assert not (tmp_path / "run").exists()


def test_other_commands_are_started_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    for rank, said in (("0", "igr compare: expected to be started once; got 2 processes"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["compare", "a"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(said)
        assert bool(err) == bool(said)


LONG = dataclasses.replace(CONFIGS["igr"], epochs=100, eval_every=10, checkpoint_every=100)


def command(path: Path) -> list[str]:
    defaults = TrainConfig()
    flags = [
        f"--{key.replace('_', '-')}={value}"
        for key, value in LONG.to_json().items()
        if value != getattr(defaults, key)
    ]
    return ["-m", "igr", "train", "--out", str(path), *flags]


def wait_for_epochs(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(RunFolder(path).metrics()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("rank", "number"),
    [
        (1, signal.SIGKILL),
        pytest.param(0, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["another-dies", "the-first-dies", "one-is-asked-to-stop"],
)
def test_the_end_of_one_is_the_end_of_all_with_one_message_and_a_checkpoint(
    rank: int, number: signal.Signals, tmp_path: Path
) -> None:
    processes = start(command(tmp_path / "run"), 2)
    wait_for_epochs(tmp_path / "run", 3)
    processes[rank].send_signal(number)
    found = ends(processes)
    said = [line for _, _, lines in found for line in lines.splitlines() if line.startswith("igr train: ")]
    assert len(said) == 1, found
    if number == signal.SIGKILL:
        assert found[rank][0] == -signal.SIGKILL
        assert found[1 - rank][0] == 1
        assert "expected 2 processes to the end of training; got the end of one before; stopped" in said[0]
    else:
        assert [code for code, _, _ in found] == [130, 130]
    pattern = r"stopped at step (\d+) of 300 with the checkpoint (\S+); go on with igr train --resume (\S+)"
    match = re.search(pattern, said[0])
    assert match is not None, said
    assert (tmp_path / "run" / "checkpoints" / match[2]).is_file()
    # The step of the signal: no work is lost but that of the step under way.
    assert int(match[1]) >= 9
    loop.resume(match[3])
    loop.train(LONG, tmp_path / "one")
    assert_same_run(tmp_path / "run", tmp_path / "one")


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs the processes of Linux under /proc")
@pytest.mark.parametrize("repetition", range(4))
def test_torchrun_ends_the_others_after_they_have_spoken(repetition: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *command(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_epochs(run, 3)
    os.kill(children_of(launcher.pid)[1], signal.SIGKILL)
    _, said = launcher.communicate(timeout=240)
    lines = [line for line in said.splitlines() if line.startswith("igr train: ")]
    assert len(lines) == 1, said
    assert "got the end of one before; stopped at step" in lines[0]
    assert RunFolder(run).latest_checkpoint() is not None


@pytest.mark.slow
def test_bad_input_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("here before")
    found = ends(start(["-m", "igr", "train", "--smoke", "--out", str(tmp_path / "run")], 2))
    assert [code for code, _, _ in found] == [2, 1]
    assert "expected an empty folder for a new run" in found[0][2]
    assert found[1][1:] == ("", "")
