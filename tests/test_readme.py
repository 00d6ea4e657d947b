"""What the README and the guides show runs as it stands there."""

import re
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
        assert (ROOT / link).exists(), link


def test_the_examples_of_the_laws_run_one_after_another():
    text = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for example in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            exec(example, found)
    assert found["score"].shape == found["log_prob"].shape == (32,)
    assert found["shares"].standard_error.shape == (32, 10)
    assert found["average"].method == "monte_carlo"
    assert found["z"].shape == (32, 200)
    assert found["whole"].num_sticks == 199
    assert 0.1 < found["temperature"] < 1.0
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link
