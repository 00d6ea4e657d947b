"""log Phi and its derivatives against mpmath, which carries as many digits as the tails ask for."""

import mpmath
import pytest
import scipy.special
import torch

from cases import tracing
from igr.kernels.normal import log_ndtr, log_normal_density, reversed_hazard

POINTS = [-1e4, -3000.0, -300.0, -40.0, -38.5, -14.0, -5.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 2.0, 5.0, 8.0, 12.0]


def exact_log_ndtr(x: float) -> mpmath.mpf:
    # log(ncdf) at 40 digits would lose Phi(12) = 1 - 2e-33; log1p of the complement does not.
    return mpmath.log(mpmath.ncdf(x)) if x < 0 else mpmath.log1p(-mpmath.ncdf(-x))


def exact_hazard(x: float) -> mpmath.mpf:
    return mpmath.npdf(x) / mpmath.ncdf(x)


def stored(x: float, dtype: torch.dtype) -> float:
    """The number that the dtype keeps of x: what the functions are really given."""
    return torch.tensor(x, dtype=dtype).item()


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


# A few units of the last place; the hazard for x > 0 goes through exp(-x^2/2), whose relative error is
# x^2/2 units: 72 of them at 12.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("x", POINTS)
def test_value_and_derivatives_are_accurate_to_the_tails(x, dtype, tolerance):
    x = stored(x, dtype)
    point = torch.tensor(x, dtype=dtype, requires_grad=True)
    value = log_ndtr(point)
    (slope,) = torch.autograd.grad(value, point, create_graph=True)
    hazard = exact_hazard(x)
    assert value.item() == pytest.approx(float(exact_log_ndtr(x)), rel=tolerance)
    assert slope.item() == pytest.approx(float(hazard), rel=tolerance)
    assert reversed_hazard(point).item() == slope.item()
    (curvature,) = torch.autograd.grad(slope, point)
    # -h (x + h): far to the left x + h is 1/|x| of two numbers of size |x|, so its error is theirs.
    absolute = float(hazard * abs(x)) * tolerance if x < 0 else 0.0
    exact = float(-hazard * (mpmath.mpf(x) + hazard))
    assert curvature.item() == pytest.approx(exact, rel=10 * tolerance, abs=absolute)


def test_float32_slope_is_right_where_torch_is_wrong():
    """The reason for these functions: torch's slope at -1e4 is 6.5 times too large."""
    ours, theirs = (torch.tensor(-1e4, requires_grad=True) for _ in range(2))
    log_ndtr(ours).backward()
    torch.special.log_ndtr(theirs).backward()
    assert ours.grad.item() == pytest.approx(1e4, rel=1e-5)
    assert theirs.grad.item() > 2e4


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-13), (torch.float32, 2e-5)], ids=str)
def test_values_equal_scipy_from_minus_10_000_to_40(dtype, tolerance):
    x = torch.cat([-torch.logspace(4, -3, 400), torch.linspace(0, 40, 401)]).to(dtype)
    expected = torch.from_numpy(scipy.special.log_ndtr(x.double().numpy()))
    # Relative, but for float32 beyond 13 where log Phi is below its smallest normal number.
    torch.testing.assert_close(log_ndtr(x).double(), expected, rtol=tolerance, atol=1e-38)


def test_derivatives_of_every_order_are_those_of_the_function():
    x = torch.linspace(-6.0, 4.0, 11, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_ndtr, x)
    assert torch.autograd.gradgradcheck(log_ndtr, x)
    assert torch.autograd.gradgradcheck(reversed_hazard, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_extremes_give_no_nan(dtype):
    big = torch.finfo(dtype).max ** 0.25
    x = torch.tensor([-big, big], dtype=dtype, requires_grad=True)
    value = log_ndtr(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert torch.isfinite(value).all()
    assert slope[0].item() == pytest.approx(big, rel=1e-5)
    assert slope[1].item() == 0.0


@tracing
@pytest.mark.parametrize("function", [log_ndtr, reversed_hazard])
def test_vmap_and_compile_change_nothing(function):
    x = torch.linspace(-30.0, 9.0, 12, dtype=torch.float64).view(3, 4)
    torch.testing.assert_close(torch.func.vmap(function)(x), function(x), rtol=0, atol=0)
    slope = torch.func.vmap(torch.func.vmap(torch.func.grad(function)))(x)
    again = x.clone().requires_grad_()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")(again)
    compiled.sum().backward()
    torch.testing.assert_close(compiled.detach(), function(x), rtol=0, atol=0)
    torch.testing.assert_close(again.grad, slope, rtol=1e-14, atol=0)


def test_log_normal_density_is_torchs():
    loc, scale = torch.tensor([0.3, -2.0]), torch.tensor([0.4, 3.0])
    noise = torch.tensor([[0.1, -1.0], [4.0, 0.0]])
    expected = torch.distributions.Normal(loc, scale).log_prob(loc + scale * noise).sum(-1)
    torch.testing.assert_close(log_normal_density(noise, scale), expected)


def test_masked_coordinates_have_no_part_in_the_log_normal_density():
    scale = torch.tensor([0.4, 3.0, 1e-30], requires_grad=True)
    noise = torch.tensor([[0.1, -1.0, 1e30], [4.0, 0.0, 2.0]])
    mask = torch.tensor([[False, False, True], [True, False, True]])
    found = log_normal_density(noise, scale, mask)
    expected = [log_normal_density(row[~left], scale[~left]) for row, left in zip(noise, mask, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))
    (slope,) = torch.autograd.grad(found.sum(), scale)
    torch.testing.assert_close(slope, torch.tensor([-1 / 0.4, -2 / 3.0, 0.0]))
