"""What the README and the guides show runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

import igr

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


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(
    page for page in (ROOT / "docs").rglob("*.md") if not {"_build", "auto_tutorials"} & {*page.parts}
)
# What these show has tests of its own.
LOOKED_INTO = {"README.md", "laws.md", "fitting.md", "estimators.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_linked_exists(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert "://" in link or (page.parent / link).exists(), link


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in LOOKED_INTO and blocks(page)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_examples_of_a_page_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for example in blocks(page):
            if "import pyro\n" in example:
                pytest.importorskip("pyro", reason="the rest needs pyro-ppl, of the extra interoperability")
            exec(example, found)


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
    assert found["u"].shape == found["density"].shape == found["bits"].shape == found["p"].shape == (32, 240)
    assert found["z"].shape == (32, 200)
    assert found["whole"].num_sticks == 199
    assert 0.1 < found["temperature"] < 1.0
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link


def test_the_examples_of_the_fits_run_one_after_another(capsys):
    text = (ROOT / "docs" / "fitting.md").read_text(encoding="utf-8")
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for example in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            exec(example, found)
    assert found["z"].shape == (1000, found["poisson"].num_categories) == (1000, 21)
    expected = torch.distributions.Poisson(5.0).log_prob(torch.arange(20.0)).exp()
    torch.testing.assert_close(found["exact"].probs[:20], expected, rtol=0, atol=1e-5)
    for name in ("poisson", "batch", "counted", "rates", "cut"):
        assert found[name].converged.all(), name
    shown, tail = capsys.readouterr().out.splitlines()
    assert shown.startswith("Fit(igr-sb to Poisson(rate=5), ")
    assert "total_variation=3.5e-07, tail=3.5e-07, " in shown
    assert tail.count("1.0000") == 2
    assert found["prior"].num_categories == found["sticks"].num_categories == 10
    assert 0.001 < found["temperature"] < 0.1  # lengths of a stick of 21 pieces are much alike
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link


def test_the_examples_of_the_estimators_run_one_after_another(capsys):
    text = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for example in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            exec(example, found)
    assert (found["logits"] != 0).any()  # a step was taken
    assert found["estimator"].coefficient.item() != 1.0
    shown = capsys.readouterr().out
    assert "exact enumeration" in shown
    assert found["report"].rows[0].worst_z < 5
    assert found["report"].rows[2].worst_z < 5
    # Every name that there is stands in the table.
    for name in igr.estimators.ESTIMATORS:
        assert name in text or name.removeprefix("score_function") in text, name
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link
