"""The arithmetic of planar maps: the constraint near w = 0, and the equation of the way back."""

import math

import mpmath
import pytest
import torch

from cases import generator
from igr.kernels import planar


def normal(*shape, key="planar"):
    return torch.randn(shape, dtype=torch.float64, generator=generator(key))


def equations(dtype):
    """Sides k and slopes p at the knee: from 1e-30 to 1e6, next to one, and where k is next to p - 1."""
    small, near = (10.0 ** torch.linspace(*ends, 60, dtype=torch.float64) for ends in ((-30, 0), (-15, -0.1)))
    large = 10.0 ** torch.linspace(0, 3 if dtype == torch.float32 else 6, 60, dtype=torch.float64)
    knee = torch.cat([small, 1.0 - near, 1.0 + near, large]).unsqueeze(-1)
    k = torch.cat([torch.zeros(1, dtype=torch.float64), 10.0 ** torch.linspace(-30, 8, 400).double()])
    beside = (knee - 1.0).abs() * torch.linspace(0.9, 1.1, 41, dtype=torch.float64)
    around = (knee - 1.0).abs() + torch.linspace(-10.0, 10.0, 41, dtype=torch.float64)
    k = torch.cat([k.expand(len(knee), -1), beside, around], -1)
    return k.to(dtype), knee.expand(k.shape).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_five_steps_reach_the_last_digit_everywhere(dtype, monkeypatch):
    k, knee = equations(dtype)
    found = planar.solve(k, knee)
    monkeypatch.setattr(planar, "_NEWTON_STEPS", 40)
    best = planar.solve(k, knee)
    # With p = 1e6 the two sides, of 1e6 each, leave an h of ten.
    scale = torch.finfo(dtype).eps * (1.0 + knee)
    assert ((found - best).abs() <= 300 * scale * best.abs() + 1e-37).all()
    assert (torch.sign(found) == torch.sign(k)).all()


def test_solution_in_sixty_digits():
    """What is left of the equation there, over the slope, is the error of h."""
    for knee in (1e-25, 2e-9, 0.3, 1.0, 7.0, 1e4):
        for k in (1e-20, 1e-6, 1e-3, 0.5, 2.0, 30.0, knee + 0.9):
            found = planar.solve(*(torch.tensor(v, dtype=torch.float64) for v in (k, knee))).item()
            with mpmath.workdps(60):
                p, side, h = mpmath.mpf(knee), mpmath.mpf(k), mpmath.mpf(found)
                tanh = mpmath.tanh(h)
                error = (h + (p - 1) * tanh - side) / (tanh**2 + p * mpmath.sech(h) ** 2)
                assert abs(error / h) < 1e-12, (knee, k)


def test_derivatives_of_the_solution_to_the_third_order():
    """Against the implicit function: h' = 1 / g'(h), and so on by hand."""
    k = torch.linspace(-3.0, 3.0, 13, dtype=torch.float64).requires_grad_()
    for p in (1e-3, 0.4, 1.0, 5.0):
        h = planar.solve(k, torch.tensor(p, dtype=torch.float64))
        found = []
        value = h
        for _ in range(3):
            (value,) = torch.autograd.grad(value.sum(), k, create_graph=True)
            found.append(value)
        t = torch.tanh(h)
        bend = 1.0 - t * t
        g1, g2 = 1.0 + (p - 1.0) * bend, -2.0 * (p - 1.0) * t * bend
        g3 = -2.0 * (p - 1.0) * bend * (1.0 - 3.0 * t * t)
        expected = [1.0 / g1, -g2 / g1**3, (3.0 * g2 * g2 - g1 * g3) / g1**5]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_derivatives_stay_exact_where_the_solution_is_ill_conditioned():
    """The rounding of the residual, over p^2, would be all that is left of them."""
    knee = torch.tensor(2e-9)
    k = torch.tensor(1e-12, requires_grad=True)
    h = planar.solve(k, knee)
    (slope,) = torch.autograd.grad(h, k)
    exact = 1.0 / (torch.tanh(h.double()) ** 2 + knee.double() / torch.cosh(h.double()) ** 2)
    assert slope.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("length", [0.0, 1e-12, 1e-5, 1e-3, 0.0099, 0.0101, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constraint_holds_for_every_length_of_w(size, length, dtype):
    w = normal(3000, size, key="w")
    w = length * w / w.norm(dim=-1, keepdim=True)
    u = 10.0 ** (2.0 * normal(3000, 1, key="size")) * normal(3000, size, key="u")
    direction, knee = planar.constrained(u.to(dtype), w.to(dtype))
    assert torch.isfinite(direction).all()
    assert (knee > 0.0).all()
    if dtype == torch.float64:
        actual = 1.0 + (w * direction).sum(-1)
        error = (actual - knee).abs() / (1.0 + length * u.norm(dim=-1))
        assert error.max() < 1e-13
    longer = direction.norm(dim=-1) - u.to(dtype).norm(dim=-1)
    assert (longer <= 101.0 + 1e-3 * u.norm(dim=-1)).all()


def test_constraint_is_the_papers_where_nothing_is_held():
    u, w = normal(100, 4, key="u"), normal(100, 4, key="w")
    inner = (w * u).sum(-1, keepdim=True)
    expected = u + (torch.log1p(inner.exp()) - 1.0 - inner) * w / (w * w).sum(-1, keepdim=True)
    direction, knee = planar.constrained(u, w)
    torch.testing.assert_close(direction, expected)
    torch.testing.assert_close(knee, torch.log1p(inner.exp()).squeeze(-1))


def test_constraint_has_no_jump():
    """Across |w|^2 = FLOOR, and across w.u = -0.54 with w shorter than that."""
    for u, w in (
        (torch.tensor([5.0, 1.0]), torch.tensor([planar.FLOOR**0.5, 0.0])),
        (torch.tensor([-planar.NEUTRAL / 1e-3, 1.0]), torch.tensor([1e-3, 0.0])),
    ):
        below, above = (planar.constrained(u.double(), w.double() * (1.0 + step)) for step in (-1e-9, 1e-9))
        for ours, theirs in zip(below, above, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_every_slope_at_the_knee_is_reached_with_a_short_w():
    w = torch.tensor([1e-3], dtype=torch.float64)
    u = torch.linspace(-40.0, 40.0, 20_001, dtype=torch.float64).unsqueeze(-1) / w
    _, knee = planar.constrained(u, w.expand_as(u))
    assert (knee.diff() > 0.0).all()
    assert knee.min() < 1e-17
    assert knee.max() > 40.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_comes_back_not_finite(value):
    y = torch.tensor([[value, 1.0], [0.5, 1.0]])
    u, w, b = torch.tensor([1.0, -2.0]), torch.tensor([0.3, 0.2]), torch.tensor(0.1)
    x = planar.inverse(y, u, w, b)
    assert not torch.isfinite(x[0, 0])
    assert torch.isfinite(x[1]).all()
    assert not torch.isfinite(planar.solve(torch.tensor(value), torch.tensor([0.1, 1.0, 3.0]))).any()
