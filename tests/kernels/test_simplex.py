"""softmax++, its inverse, vertices and sticks against what they are defined to be."""

import math

import pytest
import torch

from cases import generator
from igr.kernels import simplex

X = 3.0 * torch.randn(4, 5, dtype=torch.float64, generator=generator("simplex"))


@pytest.mark.parametrize(
    "log_delta", [0.0, math.log(0.1), torch.tensor([-3.0, 0.0, 1.0, 2.0])], ids=["1", "0.1", "tensor"]
)
def test_softmax_plus_plus_is_its_definition(log_delta):
    delta = torch.as_tensor(log_delta, dtype=torch.float64).exp().reshape(-1, 1)
    total = X.exp().sum(-1, keepdim=True) + delta
    expected = torch.cat([X.exp() / total, delta / total], -1)
    torch.testing.assert_close(simplex.tempered_softmax(X, 1.0, log_delta), expected)
    log_z = simplex.log_softmax_plus_plus(X, log_delta)
    torch.testing.assert_close(log_z, expected.log())
    torch.testing.assert_close(simplex.inverse_log_softmax_plus_plus(log_z, log_delta), X)


NUMBER = torch.tensor(0.7, dtype=torch.float64)


# 5 and 40 categories: on either side of the width from which torch's own softmax is taken.
@pytest.mark.parametrize("size", [5, 40])
@pytest.mark.parametrize("temperature", [0.7, NUMBER], ids=["float", "tensor"])
@pytest.mark.parametrize("log_delta", [None, -0.5, NUMBER], ids=["softmax", "float-delta", "tensor-delta"])
def test_hand_written_softmax_is_torchs_to_second_order(size, temperature, log_delta):
    scores = torch.randn(2, size, dtype=torch.float64, generator=generator("scores"))
    weight = torch.randn(2, size + (log_delta is not None), dtype=torch.float64, generator=generator("w"))

    def torchs(scores):
        x = scores / temperature
        if log_delta is not None:
            x = torch.cat([x, torch.as_tensor(log_delta, dtype=x.dtype).expand(2, 1)], -1)
        return torch.softmax(x, -1)

    def derivatives(function):
        leaf = scores.clone().requires_grad_()
        value = function(leaf)
        (first,) = torch.autograd.grad((value * weight).sum(), leaf, create_graph=True)
        (plain,) = torch.autograd.grad((function(leaf) * weight).sum(), leaf)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        return value, first, plain, second

    ours = derivatives(lambda s: simplex.tempered_softmax(s, temperature, log_delta))
    for found, expected in zip(ours, derivatives(torchs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("size", [2, 5, 9, 40])
@pytest.mark.parametrize("log_delta", [None, -0.5], ids=["softmax", "softmax++"])
@pytest.mark.parametrize("scale", [None, 0.7, 2, "column", "tensor"], ids=str)
def test_points_of_noise_and_their_derivatives_are_those_of_plain_operations(size, log_delta, scale):
    """With respect to loc, scale and noise, which broadcast, to second order."""

    def normal(*shape, key):
        return torch.randn(*shape, dtype=torch.float64, generator=generator(key)).requires_grad_()

    leaves = [normal(3, size, key="loc"), normal(4, 3, size, key="noise")]
    if isinstance(scale, str):
        leaves.append(normal(*((3, 1) if scale == "column" else (3, size)), key="scale"))
    weight = normal(4, 3, size + (log_delta is not None), key="weight").detach()

    def ours(loc, noise, spread=scale):
        return simplex.points_of_noise(loc, spread, noise, 0.6, log_delta)

    def plain(loc, noise, spread=scale):
        x = (loc + (1.0 if spread is None else spread) * noise) / 0.6
        if log_delta is not None:
            x = torch.cat([x, torch.full_like(x[..., :1], log_delta)], -1)
        return torch.softmax(x, -1)

    def derivatives(function):
        value = (function(*leaves) * weight).sum()
        first = torch.autograd.grad(value, leaves, create_graph=True)
        once = torch.autograd.grad((function(*leaves) * weight).sum(), leaves)
        total = torch.stack([d.square().sum() for d in first]).sum()
        return function(*leaves), *first, *once, *torch.autograd.grad(total, leaves)

    for found, expected in zip(derivatives(ours), derivatives(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 999, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_softmax_written_over_its_argument_is_the_softmax(size, dtype):
    """The hand-written pass relies on it."""
    x = 5.0 * torch.randn(7, 3, size, dtype=dtype, generator=generator("over"))
    z = x.clone()
    assert torch.equal(torch.softmax(z, -1, out=z), torch.softmax(x, -1))


def test_the_last_weight_is_not_one_minus_a_sum():
    """At x = 40 the remainder is 4e-18: below the grain of one minus a sum, exact here."""
    z = simplex.tempered_softmax(torch.tensor([40.0], dtype=torch.float64), 1.0, 0.0)
    assert z[-1].item() == pytest.approx(math.exp(-40.0), rel=1e-14)


def test_logarithms_are_finite_where_the_weights_underflow():
    x = torch.tensor([1e6, -1e6, 0.0])
    assert simplex.tempered_softmax(x, 1.0, 0.0).min() == 0.0
    assert torch.equal(simplex.log_softmax_plus_plus(x), torch.tensor([0.0, -2e6, -1e6, -1e6]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_straight_through_is_one_hot_to_the_bit(dtype):
    soft = torch.softmax(torch.randn(1000, 7, generator=generator("hard")), -1).to(dtype).requires_grad_()
    hard = simplex.nearest_vertex(soft)
    result = simplex.straight_through(hard, soft)
    assert torch.equal(result, torch.nn.functional.one_hot(soft.argmax(-1), 7).to(dtype))
    weight = torch.randn(1000, 7, generator=generator("weight")).to(dtype)
    (gradient,) = torch.autograd.grad((result * weight).sum(), soft)
    assert torch.equal(gradient, weight)


def test_log_of_clamped_is_finite_at_zero_and_exact_elsewhere():
    z = torch.tensor([0.0, 1e-30, 0.5])
    log_z = simplex.log_of_clamped(z)
    assert log_z[0].item() == pytest.approx(math.log(torch.finfo(torch.float32).tiny))
    assert torch.equal(log_z[1:], torch.log(z[1:]))
