"""What the tutorial of a VAE says of its own length is true."""

from pathlib import Path

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorials" / "03_vae.py"


def cells():
    """The code of each cell by its heading, without comments and empty lines."""
    found = {}
    for cell in TUTORIAL.read_text(encoding="utf-8").split("\n# %%\n"):
        lines = [line for line in cell.splitlines() if line.strip() and not line.startswith("#")]
        found[cell.splitlines()[0].removeprefix("# ")] = lines
    return found


def test_images_model_training_and_bounds_have_at_most_sixty_lines():
    found = cells()
    parts = ["The images", "Model, loss and training", "The other KL: one line", "Which figure bounds what"]
    assert list(found)[1:5] == parts
    lines = [line for part in parts for line in found[part]]
    for needed in ("import torch", "        loss.backward()", "discrete_model = train(discrete_kl)"):
        assert needed in lines
    assert lines[-1].startswith("    return dict(zip(names, (relaxed_elbo, ")
    assert 40 < len(lines) <= 60


def test_one_line_makes_the_other_kl():
    found = cells()
    model = found["Model, loss and training"]
    start = next(i for i, line in enumerate(model) if line.startswith("def relaxed_kl"))
    relaxed, discrete = model[start : start + 3], found["The other KL: one line"]
    assert discrete[0] == relaxed[0].replace("relaxed", "discrete")
    # One line of the body, and what it is called.
    assert relaxed[2].startswith("def ")
    assert [line.startswith("    return") for line in (relaxed[1], discrete[1])] == [True, True]
    assert discrete[2:] == ["discrete_model = train(discrete_kl)"]
