"""What the example with Pyro finds is what is right."""

import re

import pytest

from example_files import load_example

pytest.importorskip("pyro", reason="needs pyro-ppl, of the extra interoperability")
example = load_example("pyro_svi")


@pytest.mark.slow
def test_it_finds_the_exact_posteriors(capsys):
    """The law of an IGR can be any, and so can its Gaussian: only the number of steps keeps them away."""
    example.main()
    distances = map(float, re.findall(r"largest distance .*: (\S+)", capsys.readouterr().out))
    by_enumeration, of_means, of_scales = distances
    assert by_enumeration < 0.005
    assert of_means < 0.05
    assert of_scales < 0.05


def distances(num_steps: int) -> list[float]:
    """From the exact posteriors: of the probabilities, the means and the scales."""
    results = (example.clusters_by_enumeration(num_steps), *example.noisy_shares(num_steps))
    return [(found - exact).abs().max().item() for found, exact in results]


def test_it_begins_far_away_and_comes_closer():
    before, after = distances(0), distances(15)
    assert min(before) > 0.3
    for far, closer in zip(before, after, strict=True):
        assert closer < 0.8 * far
