"""LogisticStickBreakingTransform: two bijections, with the log-determinants that autograd finds."""

import pytest
import torch
from torch.distributions import AffineTransform

from cases import generator
from igr import LogisticStickBreakingTransform

X = torch.randn(3, 4, dtype=torch.float64, generator=generator("sticks"))
each = pytest.mark.parametrize("space", ["length", "log"])


def slope(transform, x):
    """log|det| of the Jacobian at each row, by autograd."""
    full = torch.autograd.functional.jacobian(transform, x)
    return torch.linalg.slogdet(torch.stack([full[i, :, i] for i in range(len(x))])).logabsdet


@each
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_log_determinant_is_that_of_the_jacobian(space, spread):
    transform = LogisticStickBreakingTransform(space)
    found = transform.log_abs_det_jacobian(spread * X, transform(spread * X))
    torch.testing.assert_close(found, slope(transform, spread * X), rtol=1e-10, atol=1e-10)


@each
def test_round_trip(space):
    transform = LogisticStickBreakingTransform(space)
    t = transform(X)
    assert transform.codomain.check(t).all()
    torch.testing.assert_close(transform.inv(t), X, rtol=1e-10, atol=1e-10)
    assert transform.codomain.check(t).shape == (3,)


def test_the_codomain_of_lengths_is_open():
    codomain = LogisticStickBreakingTransform().codomain
    outside = torch.tensor([[0.5, 0.5], [0.0, 0.5], [-0.1, 0.2], [0.6, 0.6]])
    assert not codomain.check(outside).any()
    assert codomain.check(torch.tensor([0.5, 0.4]))


def test_two_spaces_are_one_stick():
    lengths = LogisticStickBreakingTransform()(X)
    remaining = 1.0 - lengths.sum(-1, keepdim=True)
    torch.testing.assert_close(LogisticStickBreakingTransform("log")(X), (lengths / remaining).log())


def test_shapes_and_equality():
    transform = LogisticStickBreakingTransform()
    assert transform.forward_shape((5, 3)) == (5, 3) == transform.inverse_shape((5, 3))
    assert (transform.domain.event_dim, transform.codomain.event_dim) == (1, 1)
    assert transform == LogisticStickBreakingTransform("length", cache_size=1)
    assert hash(transform) == hash(LogisticStickBreakingTransform("length"))
    assert transform != LogisticStickBreakingTransform("log")
    assert transform != AffineTransform(0.0, 1.0)


@each
def test_cache_returns_the_very_point_that_was_mapped(space):
    transform = LogisticStickBreakingTransform(space).with_cache(1)
    assert transform.inv(transform(X)) is X
    assert transform.with_cache(1) is transform
    assert transform.with_cache(0).inv(transform(X)) is not X


def test_another_space_is_refused():
    with pytest.raises(ValueError, match=r"expected space to be 'length' or 'log'; got 'lengths'; .*\.$"):
        LogisticStickBreakingTransform("lengths")
