"""Densities: they integrate to one, agree with the pre-image, with torch's, and with sixty digits."""

import math

import mpmath
import numpy as np
import pytest
import torch
from torch.distributions import AffineTransform, ComposeTransform, SigmoidTransform, TanhTransform

import igr
from cases import Sinh, Sticks, each, gaussian, generator, gumbel, planar, tensor


def integral(law, reach, low=None, panels=60):
    """Of the density over the simplex, in u = log(z_k / z_K), where dz_1 .. dz_(K-1) = z_1 .. z_K du.

    Panels of Gauss-Legendre over [low, reach] in each u, or [-reach, reach].
    """
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(16))
    edges = torch.linspace(-reach if low is None else low, reach, panels + 1, dtype=torch.float64)
    half = 0.5 * edges.diff().unsqueeze(-1)
    points = (edges[:-1].unsqueeze(-1) + half * (1.0 + nodes)).flatten()
    weight = (half * weights).flatten()
    axes = law.num_categories - 1
    u = torch.stack(torch.meshgrid(*[points] * axes, indexing="ij"), -1)
    log_z = torch.log_softmax(torch.nn.functional.pad(u, (0, 1)), -1)
    mass = torch.exp(law.log_prob_of_log(log_z) + log_z.sum(-1))
    for _ in range(axes):
        mass = mass @ weight
    return mass.item()


DENSITIES = {
    "gs-K2-cold": (gumbel(2, temperature=0.3), 150.0),
    "gs-K2-hot": (gumbel(2, temperature=5.0), 40.0),
    "gs-K3": (gumbel(3, temperature=0.8), 50.0),
    "igr-K2-cold": (gaussian(2, temperature=0.1), 260.0),
    "igr-K2-hot": (gaussian(2, temperature=5.0), 20.0),
    "igr-K2-delta": (gaussian(2, temperature=0.5, delta=0.1), 50.0),
    "igr-K3": (gaussian(3, temperature=0.8), 50.0),
    "igr-K3-delta": (gaussian(3, temperature=0.5, delta=0.1), 80.0),
    "igr-K2-affine": (
        gaussian(2, temperature=0.8, transform=torch.distributions.AffineTransform(0.3, -2.0)),
        60.0,
    ),
    "igr-K3-sinh": (gaussian(3, scale=0.4, temperature=0.9, transform=Sinh()), 60.0),
    # The lengths end at 0 and 1, so log(z_k / z_K) at 0 and 1 / temperature.
    "sb-length-K2": (gaussian(2, scale=0.8, temperature=0.5, transform=Sticks()), 2.0, 0.0),
    "sb-length-K3": (gaussian(3, scale=0.8, temperature=0.5, transform=Sticks()), 2.0, 0.0),
    "sb-length-K3-delta": (
        gaussian(3, scale=0.8, temperature=0.4, delta=0.5, transform=Sticks()),
        2.5 + math.log(2.0),
        math.log(2.0),
    ),
    "sb-log-K2": (gaussian(2, temperature=0.8, transform=Sticks("log")), 50.0),
    "sb-log-K3": (gaussian(3, temperature=0.8, transform=Sticks("log")), 80.0),
    "planar-K2": (planar(2, temperature=0.8), 20.0),
    "planar-K3": (planar(3, temperature=0.8), 20.0),
    "planar-K2-flow": (planar(2, num_layers=2, temperature=0.8), 20.0),
    "planar-K3-flow": (planar(3, num_layers=2, temperature=0.8), 20.0),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_density_integrates_to_one(name):
    case, *ends = DENSITIES[name]
    assert integral(case.law(), *ends) == pytest.approx(1.0, abs=1e-8)


@each()
def test_density_of_the_draw_is_that_of_its_logarithm(case):
    """From the pre-image, without an inverse; and back from log z, through the inverse."""
    law = case.law()
    noise = law.draw_noise((20,), generator=generator(0))
    _, from_noise = law.rsample_and_log_prob(noise=noise)
    from_log = law.log_prob_of_log(law.rsample_log(noise=noise))
    # At temperature 1e-3 log z is of size 1e4, and its sum has lost as many digits.
    torch.testing.assert_close(from_log, from_noise, rtol=1e-10, atol=1e-8)


@each(where=lambda case: not case.is_cold)
def test_log_prob_of_a_point_is_that_of_its_logarithm(case):
    law = case.law()
    log_z = law.rsample_log((200,), generator=generator(0))
    log_z = torch.log_softmax(torch.where(log_z == -torch.inf, log_z, log_z.clamp(min=-600.0)), -1)
    assert torch.isfinite(law.log_prob_of_log(log_z)).all()
    torch.testing.assert_close(law.log_prob(log_z.exp()), law.log_prob_of_log(log_z), rtol=1e-10, atol=1e-8)


def test_log_prob_of_underflowed_entries_is_that_of_the_smallest_normal_number():
    tiny = torch.finfo(torch.float64).tiny
    for law in (igr.GumbelSoftmax(0.5, logits=tensor(0.0, 1.0, 2.0)), gaussian(3, temperature=0.5).law()):
        stored = law.log_prob(tensor(0.0, 0.25, 0.75))
        assert torch.equal(stored, law.log_prob(tensor(tiny, 0.25, 0.75)))
        assert torch.isfinite(stored)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_gumbel_softmax_density_is_torchs(temperature):
    logits = gumbel(5, (3,)).parameters["logits"]
    ours = igr.GumbelSoftmax(temperature, logits=logits)
    theirs = torch.distributions.RelaxedOneHotCategorical(tensor(temperature), logits=logits)
    z = ours.sample((50,), generator=generator(0)).clamp(min=1e-12)
    z = z / z.sum(-1, keepdim=True)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("delta", [0.1, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_igr_density_is_that_of_torchs_transformed_distribution(temperature, delta):
    law = gaussian(4, (3,), temperature=temperature, delta=delta).law()
    base = torch.distributions.Independent(torch.distributions.Normal(law.loc, law.scale), 1)
    transform = igr.SoftmaxPlusPlusTransform(temperature, delta)
    theirs = torch.distributions.TransformedDistribution(base, transform)
    z = law.sample((50,), generator=generator(0))
    torch.testing.assert_close(law.log_prob(z), theirs.log_prob(z), rtol=1e-9, atol=1e-9)


def test_igr_density_by_a_numerical_jacobian():
    """The change of variables with no formula of ours: the Jacobian of the sampler in the noise."""
    law = gaussian(4, temperature=0.7, delta=0.3).law()
    noise = law.draw_noise(generator=generator(0))
    jacobian = torch.autograd.functional.jacobian(lambda e: law.rsample(noise=e)[:-1], noise)
    base = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum()
    _, log_prob = law.rsample_and_log_prob(noise=noise)
    assert log_prob.item() == pytest.approx(
        (base - torch.linalg.slogdet(jacobian).logabsdet).item(), rel=1e-12
    )


# At temperature 1e-6 log z is of size 1e6: the density in float64 beside the definitions in sixty digits.


def exact_log_softmax(scores):
    largest = max(scores)
    total = mpmath.log(sum(mpmath.exp(s - largest) for s in scores)) + largest
    return [s - total for s in scores]


def exact_gumbel_density(logits, noise, temperature):
    """Maddison et al. (2017), equation 10, from the logits and the noise."""
    log_z = exact_log_softmax([(x + g) / temperature for x, g in zip(logits, noise, strict=True)])
    powers = [x - temperature * z for x, z in zip(logits, log_z, strict=True)]
    size = len(logits)
    return (
        mpmath.log(mpmath.factorial(size - 1))
        + (size - 1) * mpmath.log(temperature)
        + sum(powers)
        - size * mpmath.log(sum(mpmath.exp(p) for p in powers))
        - sum(log_z)
    )


def exact_gaussian_density(loc, scale, noise, temperature, delta):
    y = [m + s * e for m, s, e in zip(loc, scale, noise, strict=True)]
    log_z = exact_log_softmax([*(v / temperature for v in y), mpmath.log(delta)])
    normal = sum(mpmath.log(mpmath.npdf(v, m, s)) for v, m, s in zip(y, loc, scale, strict=True))
    return normal + len(loc) * mpmath.log(temperature) - sum(log_z)


def digits(values):
    return [mpmath.mpf(x) for x in values.double().tolist()]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)], ids=str)
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.5, 1e3])
def test_density_of_the_draw_to_the_last_digits(temperature, dtype, tolerance):
    """At 1e-6 the log-density is of size 1e6, at 1e3 its terms are of size 10."""
    with mpmath.workdps(60):
        for seed in range(3):
            law = gumbel(4, temperature=temperature).law(dtype)
            noise = law.draw_noise(generator=generator(seed))
            exact = exact_gumbel_density(digits(law.logits), digits(noise), mpmath.mpf(temperature))
            found = law.rsample_and_log_prob(noise=noise)[1].item()
            assert found == pytest.approx(float(exact), rel=tolerance, abs=50 * tolerance)
            law = gaussian(4, temperature=temperature, delta=0.1).law(dtype)
            noise = law.draw_noise(generator=generator(seed))
            # The pre-image is rounded once, y = mu + sigma eps, and that is divided by the temperature.
            exact = exact_gaussian_density(
                digits(law.loc), digits(law.scale), digits(noise), mpmath.mpf(temperature), mpmath.mpf(0.1)
            )
            found = law.rsample_and_log_prob(noise=noise)[1].item()
            assert found == pytest.approx(float(exact), rel=tolerance, abs=50 * tolerance)


def test_torchs_density_fails_where_ours_does_not():
    """Why log_prob is not torch's: on its own draws at temperature 0.01 that one is not finite."""
    logits = gumbel(10).parameters["logits"].float()
    theirs = torch.distributions.RelaxedOneHotCategorical(
        torch.tensor(0.01), logits=logits, validate_args=False
    )
    ours = igr.GumbelSoftmax(0.01, logits=logits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = theirs.sample((100,))
    assert not torch.isfinite(theirs.log_prob(drawn)).any()
    assert torch.isfinite(ours.log_prob(ours.sample((100,), generator=generator(0)))).all()
    assert torch.isfinite(ours.rsample_and_log_prob((100,), generator=generator(0))[1]).all()


def test_density_outside_the_image_of_the_transform_is_zero():
    """Stick lengths lie in (0, 1), so no point is nearer to a vertex than exp(1 / temperature) allows."""
    law = gaussian(3, temperature=0.2, transform=Sticks()).law()
    near = torch.tensor([[-1e-9, -20.0, -21.0], [-20.0, -1e-9, -25.0], [-1.0986, -1.0986, -1.0986]])
    log_z = torch.log_softmax(near.double(), -1).requires_grad_()
    density = law.log_prob_of_log(log_z)
    assert (density == -torch.inf).all()
    inside = law.rsample_log(generator=generator(0)).detach()
    both = torch.stack([log_z[0], inside])
    density = law.log_prob_of_log(both)
    assert density[0] == -torch.inf
    assert torch.isfinite(density[1])
    (gradient,) = torch.autograd.grad(density[1], log_z)
    assert torch.equal(gradient, torch.zeros_like(log_z))
    loc = law.loc.clone().requires_grad_()
    law = igr.InvertibleGaussian(loc, law.scale, 0.2, Sticks())
    (gradient,) = torch.autograd.grad(law.log_prob_of_log(both.detach()).exp().sum(), loc)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "parts", [[Sticks()], [Sticks(), AffineTransform(0.0, 2.0)]], ids=["one", "composed"]
)
def test_density_outside_the_image_of_many_sticks_has_no_gradient(parts):
    """Halves of what is left are no numbers any more after 150 pieces and cannot stand in for a point."""
    loc = torch.zeros(2, 199, requires_grad=True)
    law = igr.InvertibleGaussian(loc, 1.0, 0.5, ComposeTransform(parts))
    density = law.log_prob(torch.full((2, 200), 1.0 / 200.0))
    assert (density == -torch.inf).all()
    (gradient,) = torch.autograd.grad(density.exp().sum(), loc)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_density_outside_the_image_of_composed_transforms_is_zero():
    """Whatever part of the chain it is that does not map onto all vectors."""
    chains = [
        ([Sticks(), AffineTransform(0.0, 2.0)], tensor(0.2, 0.3, 0.5)),
        ([TanhTransform(), AffineTransform(0.0, 3.0)], tensor(0.99999, 5e-6, 5e-6)),
        ([SigmoidTransform()], tensor(0.2, 0.3, 0.5)),
    ]
    for parts, outside in chains:
        law = igr.InvertibleGaussian(tensor(0.0, 0.0), 1.0, 0.3, ComposeTransform(parts))
        assert law.log_prob(outside) == -torch.inf
        drawn, density = law.rsample_and_log_prob(generator=generator(0))
        torch.testing.assert_close(law.log_prob(drawn), density)
