"""What the example with Pyro finds is what is right."""

import re

import pytest

from example_files import load_example

pytest.importorskip("pyro", reason="needs pyro-ppl, of the extra interoperability")
example = load_example("pyro_svi")


def test_it_finds_the_exact_posteriors(capsys):
    """The law of an IGR can be any, and so can its Gaussian: only the number of steps keeps them away."""
    example.main()
    distances = map(float, re.findall(r"largest distance .*: (\S+)", capsys.readouterr().out))
    by_enumeration, of_means, of_scales = distances
    assert by_enumeration < 0.005
    assert of_means < 0.05
    assert of_scales < 0.05


def test_it_does_not_begin_there():
    for found, exact in (example.clusters_by_enumeration(0), *example.noisy_shares(0)):
        assert (found - exact).abs().max() > 0.3
