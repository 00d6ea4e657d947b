"""Stick-breaking in log space: the products that define it, sixty digits, and the way back."""

import mpmath
import pytest
import torch

from cases import generator
from igr.kernels import stick_breaking

X = 2.0 * torch.randn(4, 5, dtype=torch.float64, generator=generator("sticks"))


def pieces(logits):
    """The pieces and what remains, by the products that define them."""
    share = torch.sigmoid(logits)
    left = torch.ones_like(share[..., 0])
    found = []
    for k in range(logits.shape[-1]):
        found.append(share[..., k] * left)
        left = left * (1.0 - share[..., k])
    return torch.stack(found, -1), left


def test_pieces_are_the_products_that_define_them():
    lengths, left = pieces(X)
    torch.testing.assert_close(stick_breaking.lengths(X), lengths)
    torch.testing.assert_close(stick_breaking.log_lengths(X), lengths.log())
    torch.testing.assert_close(stick_breaking.log_ratios(X), (lengths / left.unsqueeze(-1)).log())


@pytest.mark.parametrize("scale", [1.0, 10.0, 40.0])
def test_values_to_sixty_digits(scale):
    """Also between 20 and 36, where torch's softplus has dropped the one and float64 still sees it."""
    y = scale * (2.0 * torch.rand(30, dtype=torch.float64, generator=generator(int(scale))) - 1.0)
    with mpmath.workdps(60):
        exact = [mpmath.log1p(mpmath.exp(mpmath.mpf(v))) for v in y.tolist()]
        total, ratio = mpmath.mpf(0), mpmath.fsum(exact)
        for k, value in enumerate(y.tolist()):
            total += exact[k]
            ratio -= exact[k]
            for found, expected in (
                (stick_breaking.log_lengths(y)[k], value - total),
                (stick_breaking.log_ratios(y)[k], value + ratio),
            ):
                assert found.item() == pytest.approx(float(expected), rel=1e-14, abs=1e-13 * scale)


@pytest.mark.parametrize("size", [1, 2, 9, 49, 999])
@pytest.mark.parametrize("reach", [0.1, 3.0, 40.0])
def test_log_space_comes_back_in_float32(size, reach):
    y = reach * (2.0 * torch.rand(200, size, generator=generator(size)) - 1.0)
    y = torch.cat([y, torch.full((1, size), reach), torch.full((1, size), -reach)])
    t = stick_breaking.log_ratios(y)
    back = stick_breaking.logits_of_log_ratios(t)
    error = (back - y).abs() / (1.0 + t.abs().amax(-1, keepdim=True))
    assert error.max() < 1e-6


def test_length_space_comes_back_while_something_remains():
    """1e-5 in float64 for ten categories and logits up to 3, as long as 1e-11 of the stick remains.

    With all logits at 3 what remains is 1.2e-12, and the rounding of the first piece alone, half of 1.1e-16,
    moves it by 5e-5: no way back can do better.
    """
    y = 3.0 * (2.0 * torch.rand(20_000, 9, dtype=torch.float64, generator=generator("back")) - 1.0)
    y = torch.cat([y, torch.tensor([3.0] * 8 + [0.0], dtype=torch.float64).expand(1, 9)])
    error = (stick_breaking.logits_of_lengths(stick_breaking.lengths(y)) - y).abs().amax(-1)
    remaining = torch.exp(-stick_breaking.softplus(y).sum(-1))
    assert remaining.min() > 1e-11
    assert error.max() < 2e-5
    assert (error * remaining).max() < 4 * torch.finfo(torch.float64).eps


def test_what_is_no_length_has_no_logits():
    beyond = torch.tensor([[0.7, 0.7], [-0.1, 0.2]], dtype=torch.float64)
    assert stick_breaking.logits_of_lengths(beyond).isnan().any(-1).all()


@pytest.mark.parametrize(
    "function",
    [
        stick_breaking.lengths,
        stick_breaking.log_lengths,
        stick_breaking.log_ratios,
        stick_breaking.logits_of_log_ratios,
        lambda x: stick_breaking.logits_of_lengths(torch.softmax(x, -1)[..., :-1]),
    ],
    ids=["lengths", "log_lengths", "log_ratios", "logits_of_log_ratios", "logits_of_lengths"],
)
def test_derivatives_to_second_order(function):
    x = X[:2, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))
