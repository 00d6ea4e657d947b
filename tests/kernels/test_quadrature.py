"""The rule integrates what it should, exactly; the mesh adapts to narrow and wide categories."""

import math

import pytest
import scipy.integrate
import scipy.stats
import torch

from igr.kernels.quadrature import clenshaw_curtis, default_num_nodes, nodes_for_maximum

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_nodes", [3, 4, 5, 8, 17, 64, 161])
def test_polynomials_below_the_number_of_nodes_are_exact(num_nodes):
    points, weights = clenshaw_curtis(num_nodes, torch.float64, CPU)
    powers = torch.arange(num_nodes, dtype=torch.float64)
    moments = (points.unsqueeze(-1) ** powers).mT @ weights
    torch.testing.assert_close(moments, 1.0 / (powers + 1.0), rtol=0, atol=1e-14)
    # And not one degree more, when that degree is even: otherwise the test would have no teeth.
    if num_nodes in (3, 5):
        beyond = (points ** (num_nodes + 1) @ weights).item()
        assert abs(beyond - 1.0 / (num_nodes + 2)) > 1e-4


@pytest.mark.parametrize(
    "function",
    [torch.exp, lambda x: torch.sin(7.0 * x), lambda x: 1.0 / (1.0 + x * x)],
    ids=["exp", "sin", "runge"],
)
def test_smooth_integrals_equal_scipys(function):
    points, weights = clenshaw_curtis(40, torch.float64, CPU)
    expected, _ = scipy.integrate.fixed_quad(lambda x: function(torch.from_numpy(x)).numpy(), 0.0, 1.0, n=30)
    assert (function(points) @ weights).item() == pytest.approx(expected, abs=1e-14)


def test_the_rule_is_symmetric_and_positive():
    for num_nodes in (6, 7):
        points, weights = clenshaw_curtis(num_nodes, torch.float64, CPU)
        torch.testing.assert_close(points, 1.0 - points.flip(0), rtol=0, atol=1e-15)
        torch.testing.assert_close(weights, weights.flip(0), rtol=0, atol=1e-15)
        assert (weights > 0).all()


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.2, 5.0), (0.05, 5.0)], ids=str)
@pytest.mark.parametrize("means", [(0.0, 0.0), (3.0, -2.0), (30.0, 30.0), (0.01, -30.0)], ids=str)
def test_the_mesh_integrates_the_density_of_the_largest_above_zero(means, scales):
    loc, scale = (torch.tensor(values, dtype=torch.float64) for values in (means, scales))
    nodes = nodes_for_maximum(loc, scale, 256)
    normal = torch.distributions.Normal(loc.unsqueeze(-1), scale.unsqueeze(-1))
    points = nodes.start + nodes.offsets
    cdf, density = normal.cdf(points), normal.log_prob(points).exp()
    largest = density[0] * cdf[1] + density[1] * cdf[0]
    expected = 1.0 - math.prod(scipy.stats.norm.cdf(0.0, means, scales))
    assert (largest * nodes.log_weights.exp()).sum().item() == pytest.approx(expected, abs=1e-12)
    assert (points >= 0.0).all()


def test_the_default_number_of_nodes_keeps_its_promise():
    for dtype in (torch.float32, torch.float64):
        for num_categories in (2, 10, 50, 200, 1000):
            few, many = (default_num_nodes(dtype, num_categories, equal) for equal in (True, False))
            assert 3 <= few < many <= 512
