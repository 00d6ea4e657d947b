"""SoftmaxPlusPlusTransform: a bijection with the log-determinant that autograd finds."""

import math

import pytest
import torch
from torch.distributions import ComposeTransform, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform

from cases import generator, tensor, z_score
from igr import SoftmaxPlusPlusTransform

TRANSFORMS = {
    "plain": SoftmaxPlusPlusTransform(),
    "temperature": SoftmaxPlusPlusTransform(0.3),
    "delta": SoftmaxPlusPlusTransform(2.0, 0.1),
    "tensors": SoftmaxPlusPlusTransform(tensor(0.5, 1.0, 2.0), tensor(0.1, 1.0, 7.0)),
}
each = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
X = torch.randn(3, 4, dtype=torch.float64, generator=generator("transform"))


@each
def test_round_trip(transform):
    z = transform(X)
    torch.testing.assert_close(transform.inv(z), X, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(transform(transform.inv(z)), z, rtol=1e-10, atol=1e-10)
    assert transform.codomain.check(z).all()


@each
def test_value_is_the_definition(transform):
    temperature, delta = (
        torch.as_tensor(v, dtype=torch.float64).expand(3).unsqueeze(-1)
        for v in (transform.temperature, transform.delta)
    )
    weight = torch.cat([torch.exp(X / temperature), delta], -1)
    torch.testing.assert_close(transform(X), weight / weight.sum(-1, keepdim=True))


@each
def test_log_determinant_is_that_of_the_jacobian(transform):
    """On the first K - 1 coordinates, which is the measure of every density here."""
    full = torch.autograd.functional.jacobian(lambda x: transform(x)[..., :-1], X)
    own = torch.stack([full[i, :, i] for i in range(3)])
    expected = torch.linalg.slogdet(own).logabsdet
    torch.testing.assert_close(
        transform.log_abs_det_jacobian(X, transform(X)), expected, rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(
        transform.inv.log_abs_det_jacobian(transform(X), X), -expected, rtol=1e-10, atol=1e-10
    )


def test_log_determinant_is_exact_where_the_point_underflows():
    transform = SoftmaxPlusPlusTransform(1e-3)
    x = tensor(1.0, -1.0)
    z = transform(x)
    assert z.min() == 0.0
    # log z = (0, -2000, -1000) to double precision, and - 2 log 1e-3.
    assert transform.log_abs_det_jacobian(x, z).item() == pytest.approx(
        -3000.0 + 2 * math.log(1e3), rel=1e-15
    )


def test_shapes():
    transform = SoftmaxPlusPlusTransform()
    assert transform.forward_shape((5, 3)) == (5, 4) == transform(torch.zeros(5, 3)).shape
    assert transform.inverse_shape((5, 4)) == (5, 3) == transform.inv(torch.full((5, 4), 0.25)).shape
    assert (transform.domain.event_dim, transform.codomain.event_dim) == (1, 1)
    with pytest.raises(ValueError, match=r"expected at least 2 categories; got 1\.$"):
        transform.inverse_shape((5, 1))


def test_equality_is_that_of_the_map():
    shared = tensor(0.5)
    assert SoftmaxPlusPlusTransform(0.5, 2.0) == SoftmaxPlusPlusTransform(0.5, 2.0, cache_size=1)
    assert SoftmaxPlusPlusTransform(0.5) != SoftmaxPlusPlusTransform(0.6)
    assert SoftmaxPlusPlusTransform(0.5) != SoftmaxPlusPlusTransform(0.5, 2.0)
    assert SoftmaxPlusPlusTransform(shared) == SoftmaxPlusPlusTransform(shared)
    # Values of tensors are not compared: that would wait for the device.
    assert SoftmaxPlusPlusTransform(shared) != SoftmaxPlusPlusTransform(shared.clone())
    assert SoftmaxPlusPlusTransform() != AffineTransform(0.0, 1.0)


def test_cache_returns_the_very_point_that_was_mapped():
    transform = SoftmaxPlusPlusTransform(0.5).with_cache(1)
    assert transform.inv(transform(X)) is X
    assert transform.with_cache(1) is transform
    plain = transform.with_cache(0)
    assert plain == transform
    assert plain.inv(plain(X)) is not X


def test_inside_torchs_distributions():
    """Between an affine transform and a normal law: log-ratios (3 + 2 y) / tau - log delta."""
    base = Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
    chain = [AffineTransform(3.0, 2.0), SoftmaxPlusPlusTransform(0.5, 0.1)]
    law = TransformedDistribution(base, chain)
    assert law.event_shape == (3,)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = law.rsample((20_000,))
    ratios = torch.log(z[:, :-1] / z[:, -1:])
    assert z_score(ratios, 6.0 - math.log(0.1)).abs().max() < 5
    normal = Independent(Normal(torch.full((2,), 6.0 - math.log(0.1), dtype=torch.float64), 4.0), 1)
    # The density of z is that of its log-ratios over z_1 .. z_K.
    torch.testing.assert_close(
        law.log_prob(z), normal.log_prob(ratios) - z.log().sum(-1), rtol=1e-7, atol=1e-7
    )
    torch.testing.assert_close(ComposeTransform(chain).inv(z), (ratios + math.log(0.1)) * 0.25 - 1.5)


@pytest.mark.parametrize("temperature", [1e-40, torch.tensor(1e-40), torch.tensor([0.5, 1e-40])])
def test_a_temperature_that_leaves_no_number_is_refused(temperature):
    with pytest.raises(ValueError, match="SoftmaxPlusPlusTransform: expected temperature of at least"):
        SoftmaxPlusPlusTransform(temperature)
