"""A checkpoint is either whole and of this model, or refused in one sentence."""

import json
import random
import struct
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from igr.errors import UserError
from igr.training import checkpoints
from igr.training.failures import TrainingFailure


def state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model.weight": torch.randn(3, 4, generator=generator),
        "model.bias": torch.randn(3, generator=generator, dtype=torch.float64),
        "adam.step": torch.tensor(17.0),
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return checkpoints.write(tmp_path / "checkpoints", 17, 2, state())


def test_what_was_written_is_read_bit_for_bit(written):
    checkpoint = checkpoints.read(written, state(seed=1))
    assert (checkpoint.step, checkpoint.epoch) == (17, 2)
    assert all(torch.equal(tensor, state()[name]) for name, tensor in checkpoint.tensors.items())
    assert checkpoint.tensors.keys() == state().keys()


def test_views_and_parameters_are_written_by_value(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base.T, "b": base[1], "c": base.clone().requires_grad_()}
    path = checkpoints.write(tmp_path, 1, 1, tensors)
    read = checkpoints.read(path, tensors).tensors
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_part_of_the_state_can_be_read_alone(written):
    model = {name: tensor for name, tensor in state(1).items() if name.startswith("model.")}
    assert checkpoints.read(written, model).tensors.keys() == model.keys()


def test_the_latest_two_are_kept_in_order_of_their_steps(tmp_path):
    for step in (5, 99_999_999, 100_000_000):
        checkpoints.write(tmp_path, step, 1, state())
    assert [checkpoints.step_of(path) for path in checkpoints.every(tmp_path)] == [
        99_999_999,
        100_000_000,
    ]


def test_other_files_in_the_folder_are_no_checkpoints(written):
    (written.parent / "step-1.safetensors").touch()
    (written.parent / "step-00000099.txt").touch()
    assert checkpoints.every(written.parent) == [written]


OTHER_MODELS = {
    "shape": (
        {"model.bias": torch.zeros(4, dtype=torch.float64)},
        r"bias with shape \(4,\).*\(3,\)",
    ),
    "type": ({"model.bias": torch.zeros(3)}, "type F32 .* got shape .* type F64"),
    "missing": ({"model.scale": torch.zeros(3)}, "got no model.scale"),
    "foreign": ({"model.bias": None}, "got a model.bias that the model does not have"),
}


@pytest.mark.parametrize(("change", "message"), OTHER_MODELS.values(), ids=OTHER_MODELS.keys())
def test_a_checkpoint_of_another_model_is_refused(written, change, message):
    like = {name: tensor for name, tensor in {**state(), **change}.items() if tensor is not None}
    with pytest.raises(UserError, match=message) as error:
        checkpoints.read(written, like)
    assert "\n" not in str(error.value)


def huge_header(contents: bytes) -> bytes:
    return struct.pack("<Q", 2**60) + contents[8:]


BROKEN = {
    "empty": lambda contents: b"",
    "cut in the header": lambda contents: contents[:40],
    "cut in the numbers": lambda contents: contents[:-1],
    "longer": lambda contents: contents + b"0",
    "header of 2^60 bytes": huge_header,
    "text": lambda contents: b"not a checkpoint at all, just text",
    "pickle": lambda contents: b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00.",
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_and_the_older_one_named(written, damage):
    broken = checkpoints.write(written.parent, 30, 3, state())
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(UserError, match="expected a whole checkpoint") as error:
        checkpoints.read(broken, state())
    assert str(error.value).endswith(
        f"igr train --resume {written.parent.parent} goes on from {written.name}"
    )
    assert "\n" not in str(error.value)


def test_no_bit_that_is_flipped_gives_other_numbers(written):
    contents = written.read_bytes()
    bits = random.Random(0)
    for _ in range(400):
        flipped = bytearray(contents)
        flipped[bits.randrange(len(flipped))] ^= 1 << bits.randrange(8)
        written.write_bytes(flipped)
        with suppress(UserError):
            # A bit of the padding, or of what is known otherwise.
            found = checkpoints.read(written, state()).tensors
            assert all(torch.equal(found[name], tensor) for name, tensor in state().items())


def test_damage_to_numbers_is_damage_and_the_newest_whole_one_is_found(written):
    damaged = checkpoints.write(written.parent, 30, 3, state(1))
    contents = bytearray(damaged.read_bytes())
    contents[-1] ^= 1
    damaged.write_bytes(contents)
    with pytest.raises(checkpoints.BrokenCheckpoint, match=r"the numbers of model\.\w+ are not those that"):
        checkpoints.read(damaged, state())
    found, (said,) = checkpoints.newest_whole(written.parent)
    assert found == written
    assert said.startswith(
        f"expected a whole checkpoint at {damaged}; got a broken file (the numbers of model."
    )
    assert said.endswith(f"); training goes on from {written.name}, which is whole")
    written.write_bytes(b"")
    with pytest.raises(checkpoints.BrokenCheckpoint, match=f"whole checkpoint at {damaged}"):
        checkpoints.newest_whole(written.parent)


def test_a_checkpoint_of_before_there_were_checksums_is_read(tmp_path):
    path = tmp_path / "step-00000001.safetensors"
    save_file(state(), path, {"igr": json.dumps({"format": 1, "step": 1, "epoch": 1})})
    assert torch.equal(checkpoints.read(path, state()).tensors["model.bias"], state()["model.bias"])
    assert checkpoints.newest_whole(tmp_path) == (path, [])


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"igr": "{"},
        {"igr": "[]"},
        {"igr": json.dumps({"format": 1, "step": "x", "epoch": 1})},
        {"igr": json.dumps({"format": 1, "step": 2, "epoch": 1})},
        {"igr": json.dumps({"format": 1, "step": 1, "epoch": 1, "crc32": [1]})},
        {"igr": json.dumps({"format": 1, "step": 1, "epoch": 1, "crc32": {}})},
    ],
    ids=["none", "no JSON", "no object", "no number", "another step", "a list", "no checksums"],
)
def test_a_safetensors_file_of_others_is_refused(tmp_path, metadata):
    path = tmp_path / "step-00000001.safetensors"
    save_file(state(), path, metadata)
    with pytest.raises(UserError, match="expected a whole checkpoint"):
        checkpoints.read(path, state())


def test_a_file_that_is_gone_is_not_called_broken(written):
    written.unlink()
    with pytest.raises(FileNotFoundError):
        checkpoints.read(written, state())
    written.symlink_to("nowhere")
    with pytest.raises(UserError, match="broken file"):
        checkpoints.read(written, state())


def test_another_format_is_refused_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    path = checkpoints.write(tmp_path, 1, 1, state())
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"format 1 .* got format 99"):
        checkpoints.read(path, state())


def test_a_write_that_fails_leaves_the_older_one_and_no_remains(written, monkeypatch):
    def full(self, contents):
        with self.open("wb") as file:
            file.write(contents[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TrainingFailure, match="No space left on device"):
        checkpoints.write(written.parent, 30, 3, state())
    assert list(written.parent.iterdir()) == [written]
    checkpoints.read(written, state())
