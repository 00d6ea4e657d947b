"""What the README shows runs as it stands there."""

import re
from pathlib import Path

import torch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_says_the_truth():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    found = {}
    exec(example, found)
    assert found["z"].shape == (64, 20, 10)
    assert found["log_prob"].shape == (64, 20)
    for name in ("relaxed", "discrete"):
        assert found[name].shape == (64, 20)
        assert (found[name] > 0).all()  # loc 0 is not where the law is uniform
    gradient = torch.autograd.grad(found["discrete"].sum(), found["loc"])[0]
    assert gradient.abs().min() > 0
    assert set(found["hard"].unique().tolist()) == {0.0, 1.0}


def test_every_file_it_links_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 5
    for link in links:
        assert (Path(__file__).parents[1] / link).exists(), link
