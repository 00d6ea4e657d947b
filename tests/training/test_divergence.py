"""Where numbers are not finite, a run ends with the step, what is intact, and the likely cause."""

import re
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.failures import TrainingFailure
from igr.training.run_folder import RunFolder
from tiny_runs import SMALL


def test_a_learning_rate_far_too_high_stops_the_run(tmp_path):
    config = TrainConfig(**{**SMALL.to_json(), "learning_rate": 1e30})
    with pytest.raises(TrainingFailure) as failure:
        loop.train(config, tmp_path / "run")
    text = str(failure.value)
    assert re.search(r"got a step \([23], epoch 1\) where the ", text)
    assert "last good checkpoint: none was written yet" in text
    assert "the likely cause is a learning rate too high (1e+30)" in text
    assert RunFolder(tmp_path / "run").latest_checkpoint() is None


def test_numbers_that_break_later_leave_the_last_good_checkpoint(tmp_path, monkeypatch):
    class Poisoned(loop.Loop):
        def _step(self, x: torch.Tensor, num_images: int) -> None:
            super()._step(x, num_images)
            if self.step == 8:
                with torch.no_grad():
                    self.parameters[0][0, 0] = torch.nan

    monkeypatch.setattr(loop, "Loop", Poisoned)
    with pytest.raises(TrainingFailure, match=r"\(9, epoch 3\) where the weights") as failure:
        loop.train(SMALL, tmp_path / "run")
    latest = RunFolder(tmp_path / "run").latest_checkpoint()
    assert f"last good checkpoint: {latest}" in str(failure.value)
    assert latest is not None
    assert latest.name == "step-00000006.safetensors"
    assert all(tensor.isfinite().all() for tensor in load_file(latest).values())


def test_no_checkpoint_is_written_of_broken_weights(tmp_path, monkeypatch):
    """Weights that break in the very step before a checkpoint, which no loss has seen yet."""

    class Poisoned(loop.Loop):
        def _checkpoint(self) -> None:
            with torch.no_grad():
                self.parameters[0][0, 0] = torch.inf
            super()._checkpoint()

    monkeypatch.setattr(loop, "Loop", Poisoned)
    with pytest.raises(TrainingFailure, match=r"\(6, epoch 2\) where model.encoder.1.weight"):
        loop.train(SMALL, tmp_path / "run")
    assert RunFolder(tmp_path / "run").latest_checkpoint() is None


@pytest.mark.parametrize(("broken", "name"), [("log_likelihood", "log-likelihood"), ("kl", "KL")])
def test_the_term_that_broke_is_named(tmp_path, monkeypatch, broken, name):
    class Poisoned(loop.Loop):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            forward = self.model.forward

            def poisoned(*inputs, **settings):
                terms = forward(*inputs, **settings)
                return terms._replace(**{broken: getattr(terms, broken) / 0})

            self.model.forward = poisoned

    monkeypatch.setattr(loop, "Loop", Poisoned)
    with pytest.raises(TrainingFailure, match=rf"where the {name} is -?inf; .* temperature too"):
        loop.train(SMALL, tmp_path / "run")
