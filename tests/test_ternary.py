"""The triangle of three categories: its map keeps proportions, and densities over it are those of laws."""

import re

import pytest
import torch

import igr
from cases import bits, generator
from igr.ternary import CORNERS, TernaryGrid, log_density, ternary_grid, to_plane

STICKS = igr.LogisticStickBreakingTransform
LOC = torch.tensor([0.5, -0.3])


def planar() -> igr.PlanarFlow:
    source = generator("planar")
    vectors = 0.6 * torch.randn(2, 2, 2, generator=source)
    return igr.PlanarFlow.from_tensors(*vectors, torch.zeros(2))


LAWS = {
    "gs": igr.GumbelSoftmax(1.5, torch.tensor([0.5, 0.2, -0.3])),
    "igr": igr.InvertibleGaussian(LOC, torch.tensor([0.7, 1.2]), 1.0, delta=0.5),
    "lengths": igr.InvertibleGaussian(LOC, 0.8, 0.5, STICKS()),
    "log-ratios": igr.InvertibleGaussian(LOC, 0.8, 1.0, STICKS("log")),
    "planar": igr.InvertibleGaussian(LOC, 1.0, 1.0, planar()),
    "masked": igr.GumbelSoftmax(1.5, torch.zeros(3), mask=bits("000")),
}


@pytest.fixture(scope="module")
def grid() -> TernaryGrid:
    return ternary_grid()


def test_corners_are_an_equilateral_triangle_and_the_map_is_linear() -> None:
    corners = to_plane(torch.eye(3, dtype=torch.float64))
    assert corners.tolist() == [list(corner) for corner in CORNERS]
    sides = torch.linalg.vector_norm(corners - corners.roll(1, 0), dim=-1)
    torch.testing.assert_close(sides, torch.ones(3, dtype=torch.float64))
    a, b = torch.rand(2, 5, 3, generator=generator(0)).softmax(-1)
    torch.testing.assert_close(to_plane(0.3 * a + 0.7 * b), 0.3 * to_plane(a) + 0.7 * to_plane(b))


@pytest.mark.parametrize("resolution", [1, 2, 7])
def test_the_triangles_of_a_grid_cover_the_simplex_once(resolution: int) -> None:
    grid = ternary_grid(resolution)
    assert len(grid.triangles) == len(grid.points) == resolution**2
    assert len(grid.nodes) == (resolution + 1) * (resolution + 2) // 2
    corners = to_plane(grid.nodes)[grid.triangles]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    areas = (ax * by - ay * bx).abs() / 2
    whole = 3**0.5 / 4
    torch.testing.assert_close(areas, torch.full_like(areas, whole / resolution**2))
    torch.testing.assert_close(to_plane(grid.points), corners.mean(1))
    # Equal areas that sum to the whole cover it once if no two have one centre and each lies within.
    assert len({tuple(point) for point in grid.points.mul(1e6).round().tolist()}) == resolution**2
    assert (grid.points > 0).all()
    # The measure of a cell is that of the first two weights.
    assert grid.cell * resolution**2 == pytest.approx(0.5)


@pytest.mark.parametrize("name", LAWS)
def test_densities_integrate_to_one_and_are_those_of_the_law(name: str, grid: TernaryGrid) -> None:
    law = LAWS[name]
    density = log_density(law, grid.points)
    total = (density.double().exp().sum() * grid.cell).item()
    assert total == pytest.approx(1.0, abs=2e-3)
    some = slice(None, None, 997)
    expected = law.log_prob(grid.points[some].float())
    torch.testing.assert_close(density[some], expected, rtol=2e-3, atol=2e-3)


def test_a_density_has_no_gradient() -> None:
    law = igr.GumbelSoftmax(1.5, torch.zeros(3, requires_grad=True))
    points = ternary_grid(2).points.requires_grad_()
    assert law.log_prob(points.float()).requires_grad
    assert not log_density(law, points).requires_grad


@pytest.mark.parametrize("name", LAWS)
def test_means_over_the_grid_are_those_of_samples(name: str, grid: TernaryGrid) -> None:
    """So the weights stand in their order, which an integral alone does not tell."""
    law = LAWS[name]
    weight = log_density(law, grid.points).double().exp() * grid.cell
    mean = (weight.unsqueeze(-1) * grid.points).sum(0)
    points = law.sample((20_000,), generator=generator(name)).double()
    z = (mean - points.mean(0)) / (points.std(0) / len(points) ** 0.5)
    assert z.abs().max() < 5.0


@pytest.mark.parametrize("temperature", [0.05, 5.0])
@pytest.mark.parametrize("name", LAWS)
def test_no_density_is_nan_at_low_and_high_temperature(
    name: str, temperature: float, grid: TernaryGrid
) -> None:
    density = log_density(LAWS[name].with_temperature(temperature), grid.points)
    assert not density.isnan().any()
    assert density.max() < torch.inf
    # Lengths reach a part of the simplex; all else has a density everywhere.
    assert (density > -torch.inf).all() == (name != "lengths")


def test_lengths_reach_no_point_outside_of_their_image(grid: TernaryGrid) -> None:
    """Of lengths l that sum to less than one, z_k / z_3 is exp(l_k / temperature), which is above one."""
    density = log_density(LAWS["lengths"], grid.points)
    lengths = 0.5 * (grid.points[:, :2] / grid.points[:, 2:]).log()
    room = torch.minimum(lengths.min(-1).values, 1.0 - lengths.sum(-1))
    decided = room.abs() > 1e-6
    assert decided.sum() > 39_000
    assert ((density > -torch.inf) == (room > 0))[decided].all()


BAD = {
    "a tensor": (torch.zeros(3), TypeError, "expected law to be a SimplexRelaxation; got Tensor"),
    "binary": (igr.BinaryConcrete(0.5, torch.tensor(0.0)), TypeError, "got BinaryConcrete"),
    "four": (igr.GumbelSoftmax(0.5, torch.zeros(4)), ValueError, "three categories; got 4"),
    "batch": (igr.GumbelSoftmax(0.5, torch.zeros(2, 3)), ValueError, r"got batch shape \(2,\)"),
    "mask": (igr.GumbelSoftmax(0.5, torch.zeros(3), mask=bits("010")), ValueError, "got a mask"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_fills_no_triangle_is_refused(name: str) -> None:
    law, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        log_density(law, ternary_grid(2).points)


def test_bad_points_and_resolutions_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("got shape (2,)")):
        to_plane(torch.zeros(2))
    with pytest.raises(TypeError, match="got list"):
        to_plane([1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="resolution of at least 1; got 0"):
        ternary_grid(0)
