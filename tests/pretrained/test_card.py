"""What the card of a trained model says."""

import re
from pathlib import Path

import pytest
import torch

from igr.pretrained import save_pretrained
from igr.training.run_folder import RunFolder
from run_folders import evaluation
from written_runs import CONFIGS, STEP, VAES, write_run_of


def written_card(run: Path, folder: Path) -> str:
    return (save_pretrained(run, folder) / "README.md").read_text(encoding="utf-8")


def test_figures_stand_there_where_they_are_of_this_checkpoint(tmp_path):
    run = tmp_path / "run"
    write_run_of(VAES["igr"], run)
    assert "Figures" not in written_card(run, tmp_path / "1")
    found = evaluation([-100.0, -101.25, None, -99.5], step=STEP)
    RunFolder(run).update_result({"evaluation": found.to_json()})
    card = written_card(run, tmp_path / "2")
    assert "Lower bounds on log p(x), means ± standard errors over 300 test images, S = 100" in card
    assert (
        "| relaxed ELBO | -100.00 ±0.25 |\n| discrete ELBO | -101.25 ±0.25 |\n| IW bound, pre-image" in card
    )
    assert "IW bound, exact q" not in card
    RunFolder(run).update_result({"evaluation": evaluation([-1.0] * 4, step=STEP + 1).to_json()})
    assert "Figures" not in written_card(run, tmp_path / "3")


@pytest.mark.parametrize("name", ["igr", "sop-igr", "dlgmm-igr"])
def test_the_lines_of_a_card_run(tmp_path, name, monkeypatch):
    write_run_of(CONFIGS[name], tmp_path / "run")
    card = written_card(tmp_path / "run", tmp_path / "FOLDER")
    assert f"latent | {CONFIGS[name].latent} |" in card
    assert "data_dir" not in card
    assert "None" not in card
    (lines,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shown = re.search(r"with shape \(N, (.*)\)", lines)
    assert shown is not None
    found = {"images": torch.rand(2, *map(int, shown[1].split(", ")))}
    exec(lines, found)
    assert found["completed" if name == "sop-igr" else "new"].shape[1:] == CONFIGS[name].image_shape
