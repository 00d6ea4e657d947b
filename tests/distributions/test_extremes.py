"""Random parameters at the ends of their ranges: every number is finite but where the laws say otherwise.

Temperatures from 1e-6 to 1e3, means up to 1e4, scales from 1e-4 to 1e3, deltas from 1e-6 to 1e6, 2 to 1000
categories, and noise at the ends of what a generator gives. ``-m slow`` has 100,000 sets of each law.
"""

import pytest
import torch
from torch.distributions import kl_divergence

import igr
from cases import Sticks
from extremes import (
    Family,
    another,
    gradients,
    gumbel,
    logistic,
    many,
    normal,
    not_finite,
    scales,
    vectors,
)


def logits(count, size, source):
    return {"logits": vectors(count, size, source)}


def gaussians(count, size, source):
    return {"loc": vectors(count, size - 1, source), "scale": scales(count, size - 1, source)}


def of_one(parameters):
    """The same tensors without the last dimension, of two categories."""
    return lambda count, size, source: {
        name: t if t.dim() == 1 else t[:, 0] for name, t in parameters(count, 2, source).items()
    }


def layers(num_layers):
    def parameters(count, size, source):
        found = gaussians(count, size, source)
        for number in range(num_layers):
            for name in ("u", "w"):
                found[f"{name}{number}"] = vectors(count, size - 1, source, 1e-3, 10.0)
            found[f"b{number}"] = vectors(count, 1, source, 1e-3, 10.0)[:, 0]
        return found

    return parameters


def sticks(space):
    def make(loc, scale, temperature, delta):
        return igr.InvertibleGaussian(loc, scale, temperature, Sticks(space), delta)

    return make


def planar(loc, scale, temperature, delta, u0, w0, b0):
    transform = igr.PlanarTransform.from_tensors(u0, w0, b0)
    return igr.InvertibleGaussian(loc, scale, temperature, transform, delta)


def flow(loc, scale, temperature, delta, **tensors):
    stacked = (torch.stack([tensors[f"{name}{number}"] for number in range(3)]) for name in "uwb")
    return igr.InvertibleGaussian(loc, scale, temperature, igr.PlanarFlow.from_tensors(*stacked), delta)


def binary_planar(loc, scale, temperature, u0, w0, b0):
    transform = igr.PlanarTransform.from_tensors(u0.unsqueeze(-1), w0.unsqueeze(-1), b0)
    return igr.BinaryInvertibleGaussian(loc, scale, temperature, transform)


FAMILIES = {
    "gumbel": Family(igr.GumbelSoftmax, logits, gumbel),
    "gumbel-masked": Family(igr.GumbelSoftmax, logits, gumbel, is_masked=True),
    "igr": Family(igr.InvertibleGaussian, gaussians, normal, has_delta=True),
    "igr-masked": Family(igr.InvertibleGaussian, gaussians, normal, has_delta=True, is_masked=True),
    "lengths": Family(sticks("length"), gaussians, normal, has_delta=True),
    "log-ratios": Family(sticks("log"), gaussians, normal, has_delta=True),
    "planar": Family(planar, layers(1), normal, has_delta=True),
    "flow": Family(flow, layers(3), normal, has_delta=True),
    "concrete": Family(igr.BinaryConcrete, of_one(logits), logistic, is_binary=True),
    "binary": Family(igr.BinaryInvertibleGaussian, of_one(gaussians), normal, is_binary=True),
    "binary-planar": Family(binary_planar, of_one(layers(1)), normal, is_binary=True),
}
EXACT = ("gumbel", "gumbel-masked", "igr", "igr-masked", "concrete", "binary", "binary-planar")


def counts(default, slow):
    return pytest.mark.parametrize("count", [default, pytest.param(slow, marks=pytest.mark.slow)])


def is_flat(sets):
    """Where a planar layer is so flat at its knee that a derivative of its inverse may overflow, [N]."""
    lowest = -300.0 if sets.dtype == torch.float64 else -20.0
    flat = torch.zeros(sets.count, dtype=torch.bool)
    for number in range(3):
        if f"w{number}" in sets.tensors:
            product = sets.tensors[f"w{number}"].double() * sets.tensors[f"u{number}"].double()
            flat |= product.reshape(sets.count, -1).sum(-1) < lowest
    return flat


def check(sets, results, excused=None):
    """Some results [N, *] are finite, and so are their gradients but for those of excused sets, [N]."""
    for name, value in results.items():
        assert not torch.isnan(value).any(), name
        if sets.mask is not None and value.shape == sets.mask.shape:
            masked = -torch.inf if name.startswith("log") else 0.0
            assert (value[sets.mask] == masked).all(), name
            value = value.masked_fill(sets.mask, 0.0)
        assert torch.isfinite(value).all(), name
        for parameter, gradient in gradients(sets, value).items():
            bad = not_finite(gradient)
            if excused is not None:
                bad &= ~excused
            assert not bad.any(), (name, parameter, {n: t[bad][0] for n, t in sets.tensors.items()})


def finite(density):
    """Zero in place of minus infinity, where there is no density."""
    return torch.where(density == -torch.inf, 0.0, density)


def check_sums(probs, least_tolerance=0.0):
    tolerance = max(least_tolerance, 4.0 * torch.finfo(probs.dtype).eps * probs.shape[-1] ** 0.5)
    assert (probs >= 0.0).all()
    assert ((probs.double().sum(-1) - 1.0).abs() < tolerance).all()


@counts(300, 100_000)
@pytest.mark.parametrize("name", FAMILIES)
def test_draws_and_their_densities(name, count):
    for sets, _ in many(FAMILIES[name], count, name):
        law = sets.law()
        points, density = law.rsample_and_log_prob(noise=sets.noise)
        results = {
            "z": law.rsample(noise=sets.noise),
            "log z": law.rsample_log(noise=sets.noise),
            "points": points,
            "density": density,
        }
        vertex = law.vertex(sets.noise)
        if sets.family.is_binary:
            results["logit"] = law.rsample_logit(noise=sets.noise)
            assert ((points >= 0.0) & (points <= 1.0)).all()
            assert ((vertex == 0.0) | (vertex == 1.0)).all()
        else:
            check_sums(results["z"])
            check_sums(points)
            ends = torch.tensor([0.0, 1.0], dtype=sets.dtype).expand(sets.count, 2)
            assert torch.equal(vertex.sort(-1).values[:, -2:], ends)
            assert torch.equal(vertex.argmax(-1), law.category(sets.noise))
        check(sets, results)


@counts(150, 100_000)
@pytest.mark.parametrize("name", FAMILIES)
def test_densities_of_points_that_are_given(name, count):
    """Of what was drawn and stored. What lengths have lost may have no pre-image, and then no density."""
    for sets, _ in many(FAMILIES[name], count, name):
        law = sets.law()
        z, log_z = law.sample(noise=sets.noise), law.rsample_log(noise=sets.noise).detach()
        results = {"at z": law.log_prob(z), "at log z": law.log_prob_of_log(log_z)}
        if sets.family.is_binary:
            results["at logit"] = law.log_prob_of_logit(law.rsample_logit(noise=sets.noise).detach())
        if name == "lengths":
            results = {key: finite(value) for key, value in results.items()}
        check(sets, results, is_flat(sets))


@counts(150, 20_000)
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_through_points_and_their_densities(name, count):
    """By the logarithm they are finite; by the point itself where the slope of the density in it is."""
    excused = 0
    for sets, _ in many(FAMILIES[name], count, f"through {name}"):
        law = sets.law()
        if sets.family.is_binary:
            of_log = law.log_prob_of_logit(law.rsample_logit(noise=sets.noise))
        else:
            of_log = law.log_prob_of_log(law.rsample_log(noise=sets.noise))
        z = law.rsample(noise=sets.noise)
        stored = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(finite(law.log_prob(stored)).sum(), stored)
        steep = ~(slope.abs().reshape(sets.count, -1).amax(-1) < 0.01 * torch.finfo(sets.dtype).max)
        excused += int(steep.sum())
        check(sets, {"density of log z": finite(of_log)}, is_flat(sets))
        check(sets, {"density of z": finite(law.log_prob(z))}, steep | is_flat(sets))
    assert excused < 0.02 * count


@counts(150, 20_000)
@pytest.mark.parametrize("name", EXACT)
def test_exact_laws_and_their_divergences(name, count):
    for sets, source in many(FAMILIES[name], count, name, most=60 if count < 1_000 else 1_000):
        other = another(sets, source)
        p, q = sets.law(), other.law()
        law = p.discrete()
        check_sums(law.probs)
        # As computed, so that a mesh that misses a category shows.
        lost = (law.log_probs.double().exp().sum(-1) - 1.0).abs()
        assert (lost < {torch.float64: 1e-6, torch.float32: 5e-3, torch.bfloat16: 3e-2}[sets.dtype]).all()
        divergence = kl_divergence(law, q.discrete())
        results = {"log_probs": law.log_probs, "probs": law.probs, "entropy": law.entropy(), "kl": divergence}
        if not sets.family.is_binary:
            results["discrete_kl"] = p.discrete_kl(igr.DiscreteLaw(q.discrete().log_probs.detach()))
        check(sets, results, is_flat(sets))
        check(other, {"kl": divergence}, is_flat(other))


@counts(300, 100_000)
@pytest.mark.parametrize("name", ["igr", "igr-masked", "lengths", "log-ratios", "planar", "flow", "binary"])
def test_divergences_of_one_map_of_gaussians(name, count):
    for sets, source in many(FAMILIES[name], count, f"one map {name}"):
        other = another(sets, source)
        p = sets.law()
        names = ("temperature", "transform", "delta", "mask")
        same = {key: getattr(p, key) for key in names if hasattr(p, key)}
        q = type(p)(other.tensors["loc"], other.tensors["scale"], **same)
        results = {"kl": kl_divergence(p, q)}
        if not sets.family.is_binary:
            results["z"], results["also kl"] = p.rsample_and_kl(q, noise=sets.noise)
        check(sets, results)
        check(other, {"kl": results["kl"]})


@counts(300, 100_000)
@pytest.mark.parametrize("name", ["igr", "igr-masked", "binary"])
def test_divergences_across_temperatures(name, count):
    """Gradients are infinite only where they are beyond the type: the divergence itself reaches 1e37."""
    for sets, source in many(FAMILIES[name], count, f"temperatures {name}"):
        other = another(sets, source)
        found = {"kl": kl_divergence(sets.law(), other.law())}
        pair = [s.leaves(torch.float64) for s in (sets, other)]
        exact = kl_divergence(*(s.law() for s in pair))
        for single, double in zip((sets, other), pair, strict=True):
            largest = [g.abs().reshape(sets.count, -1).amax(-1) for g in gradients(double, exact).values()]
            check(single, found, torch.stack(largest).amax(0) > 0.5 * torch.finfo(sets.dtype).max)


@counts(6, 240)
@pytest.mark.parametrize("name", ["gumbel", "gumbel-masked", "igr", "igr-masked", "concrete", "binary"])
def test_means(name, count):
    for sets, _ in many(FAMILIES[name], count, f"mean {name}", most=3 if count < 100 else 30):
        mean = sets.law().mean
        if not sets.family.is_binary:
            check_sums(mean, 1e-7)
        check(sets, {"mean": mean})


@counts(12, 2_000)
@pytest.mark.parametrize("space", ["length", "log"])
def test_exact_laws_of_sticks(space, count):
    """For the scales that it serves: it refuses laws that are too narrow for it."""

    def parameters(number, size, source):
        loc = vectors(number, size - 1, source, 1e-4, 1e4)
        return {"loc": loc, "scale": scales(number, size - 1, source, 0.5, 5.0)}

    def make(loc, scale, temperature):
        return igr.InvertibleGaussian(loc, scale, temperature, Sticks(space))

    for sets, _ in many(Family(make, parameters, normal), count, space, most=4 if count < 100 else 12):
        law = sets.law().discrete()
        assert not torch.isnan(law.log_probs).any()
        check_sums(law.probs)
        lost = law.log_probs.double().exp().sum(-1) - 1.0
        assert (lost.abs() < (2e-2 if sets.dtype == torch.bfloat16 else 1e-3)).all()
        log_probs = law.log_probs[:, :-1] if space == "length" else law.log_probs
        check(sets, {"log_probs": log_probs, "probs": law.probs, "entropy": law.entropy()})


@counts(300, 100_000)
@pytest.mark.parametrize("hard", [False, True], ids=["points", "vertices"])
@pytest.mark.parametrize("name", ["gumbel_softmax", "invertible_gaussian"])
def test_functional_samplers(name, hard, count):
    family = FAMILIES["gumbel" if name == "gumbel_softmax" else "igr"]
    for sets, _ in many(family, count, f"{name} {hard}"):
        given = {**sets.settings, **sets.tensors, "tau": (sets.tensors | sets.settings)["temperature"]}
        del given["temperature"]
        z = getattr(igr.functional, name)(**given, hard=hard, noise=sets.noise)
        check_sums(z)
        check(sets, {"z": z})


@counts(300, 100_000)
def test_functional_maps(count):
    for sets, _ in many(FAMILIES["igr"], count, "maps"):
        x = sets.tensors["loc"] / 1e-6
        z = igr.functional.softmax_plus_plus(x, (sets.tensors | sets.settings)["delta"])
        lengths = igr.functional.stick_breaking_lengths(sets.tensors["loc"])
        check_sums(z)
        assert (lengths >= 0.0).all()
        check(sets, {"z": z, "lengths": lengths})
