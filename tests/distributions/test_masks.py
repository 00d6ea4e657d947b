"""Masked laws: those over the available categories, and nothing else, in the simplex of all of them."""

import math
import pickle

import pytest
import torch
from torch.distributions import kl_divergence

import igr
from cases import CASES, NUMBERS, available, bits, each, gaussian, generator, gumbel, tensor, tracing
from igr.kernels.gaussian_law import maximum_log_probs

masked = each(where=lambda case: case.is_masked)
NODES = 200  # the same for every law, since how many are chosen depends on the batch


def compacted(law):
    """The law over the available categories alone, of a masked law without a batch."""
    keep = ~law.mask
    if isinstance(law, igr.GumbelSoftmax):
        return igr.GumbelSoftmax(law.temperature, logits=law.logits[keep])
    inner = keep[:-1]
    return igr.InvertibleGaussian(law.loc[inner], law.scale[inner], law.temperature, delta=law.delta)


def shifted(law):
    """Another law of the same family with the same mask, and delta, where it has one."""
    if isinstance(law, igr.GumbelSoftmax):
        return igr.GumbelSoftmax(0.9, logits=torch.tanh(law.logits), mask=law.mask)
    return igr.InvertibleGaussian(law.loc + 0.3, 1.5 * law.scale, 0.9, delta=law.delta, mask=law.mask)


def numbers(law, noise):
    """By name, what a law says about the draws of some noise, one number each."""
    z, log_prob = law.rsample_and_log_prob(noise=noise)
    log_z = law.rsample_log(noise=noise)
    other = shifted(law)
    exact, other_exact = law.discrete(num_nodes=NODES), other.discrete(num_nodes=NODES)
    found = {
        "log_prob of the draw": log_prob,
        "log_prob": law.log_prob(z),
        "log_prob_of_log": law.log_prob_of_log(log_z),
        "log_prob_of_log of another": other.log_prob_of_log(log_z),
        "entropy": exact.entropy(),
        "discrete kl": kl_divergence(exact, other_exact),
    }
    if isinstance(law, igr.InvertibleGaussian):
        found["kl"] = kl_divergence(law, other)
        found["kl at one temperature"] = kl_divergence(law, other.with_temperature(law.temperature))
    return found


def vectors(law, noise):
    """By name, what a law gives for each category."""
    return {
        "rsample": law.rsample(noise=noise),
        "rsample_log": law.rsample_log(noise=noise),
        "point": law.rsample_and_log_prob(noise=noise)[0],
        "log_probs": law.discrete(num_nodes=NODES).log_probs,
        "probs": law.discrete(num_nodes=NODES).probs,
    }


@masked
def test_it_is_the_law_of_the_available_categories(case):
    for index, law in case.elements():
        keep = ~law.mask
        noise = law.draw_noise((5,), generator=generator(str(index)))
        found = numbers(law, noise) | {name: x[..., keep] for name, x in vectors(law, noise).items()}
        if keep.sum() == 1:  # a point mass, for which there is no law to build
            for name, value in found.items():
                certain = name in ("rsample", "point", "probs")
                assert torch.equal(value, torch.full_like(value, 1.0 if certain else 0.0)), name
            continue
        alone = compacted(law)
        own = noise[..., keep if case.is_gumbel else keep[:-1]]
        for name, value in (numbers(alone, own) | vectors(alone, own)).items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-12, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}"
            )


@masked
def test_masked_categories_have_no_weight(case):
    law = case.law()
    mask = law.mask.expand(law.batch_shape + law.event_shape)
    noise = law.draw_noise((50,), generator=generator(0))
    drawn = mask.expand((50, *mask.shape))
    for name, where in (("rsample", drawn), ("point", drawn), ("probs", mask)):
        assert (vectors(law, noise)[name][where] == 0.0).all(), name
    for name, where in (("rsample_log", drawn), ("log_probs", mask)):
        value = vectors(law, noise)[name]
        assert (value[where] == -math.inf).all(), name
        assert torch.isfinite(value[~where]).all(), name
    estimate = law.discrete("monte_carlo", noise=noise)
    assert (estimate.probs[mask] == 0.0).all()
    assert (estimate.standard_error[mask] == 0.0).all()
    mode = law.discrete().mode
    assert (mode[mask] == 0.0).all()
    assert (mode.sum(-1) == 1.0).all()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert (law.discrete().sample((50,))[drawn] == 0.0).all()
    if case.is_gumbel:
        assert (law.probs[mask] == 0.0).all()
        assert (law.logits[mask] == -math.inf).all()


def total(law, noise):
    """A number that is steep in everything, and infinitely so in the zeros of masked categories."""
    given = vectors(law, noise)
    value = 10.0 * sum(torch.tanh(0.1 * x).sum() for x in numbers(law, noise).values())
    value = value + 10.0 * available(law, given["rsample_log"] + given["log_probs"]).square().mean().log1p()
    for z in (given["rsample"], given["point"]):
        # What underflows at available categories is not the matter here.
        value = value + torch.special.entr(z + available(law, torch.full_like(z, 1e-30))).sum()
    return value


def spoilt(case, dtype, junk):
    """Its parameters with junk where masked, as leaves, and where that is."""
    tensors = {name: value.clone() for name, value in case.batched().items() if name != "mask"}
    mask = case.batched()["mask"]
    where = {name: mask[..., : value.shape[-1]] for name, value in tensors.items() if name not in NUMBERS}
    for name, here in where.items():
        tensors[name] = torch.where(here, junk, tensors[name])
    return {name: value.to(dtype).requires_grad_() for name, value in tensors.items()}, where


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, -1.0])
@masked
def test_parameters_of_masked_categories_mean_nothing_and_have_no_gradient(case, junk, dtype):
    """To the second order, and with the temperature and delta as tensors."""

    def results(junk):
        leaves, where = spoilt(case, dtype, junk)
        for name in ("temperature",) if case.is_gumbel else ("temperature", "delta"):
            if name not in leaves:
                leaves[name] = torch.tensor(getattr(case.law(), name), dtype=dtype, requires_grad=True)
        law = case.law(dtype, **leaves)
        value = total(law, law.draw_noise((3,), generator=generator(0)))
        first = torch.autograd.grad(value, list(leaves.values()), create_graph=True)
        second = torch.autograd.grad(sum(torch.tanh(g).sum() for g in first), list(leaves.values()))
        return value, dict(zip(leaves, first, strict=True)), dict(zip(leaves, second, strict=True)), where

    expected_value, *expected, _ = results(0.5)
    value, *gradients, where = results(junk)
    assert torch.isfinite(value)
    assert torch.equal(value, expected_value)
    for found, plain in zip(gradients, expected, strict=True):
        for name, gradient in found.items():
            assert torch.isfinite(gradient).all(), name
            assert torch.equal(gradient, plain[name]), name
            if name in where:
                assert (gradient[where[name]] == 0.0).all(), name


@pytest.mark.parametrize("junk", [math.nan, 0.0, 5.0])
def test_probabilities_are_those_among_the_available(junk):
    probs = tensor(0.2, junk, 0.6).requires_grad_()
    law = igr.GumbelSoftmax(0.5, probs=probs, mask=bits("010"))
    torch.testing.assert_close(law.probs, tensor(0.25, 0.0, 0.75), rtol=0, atol=1e-15)
    (gradient,) = torch.autograd.grad(10.0 * law.discrete().entropy(), probs)
    assert gradient[1] == 0.0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["gs-K4-masked", "igr-K4-masked"])
def test_mass_on_a_masked_category_has_density_zero(name):
    case = CASES[name]
    law = case.law()
    z = torch.full((3, 4), 0.25, dtype=torch.float64)
    assert torch.equal(law.log_prob(z), torch.full((3,), -math.inf, dtype=torch.float64))
    assert torch.equal(law.log_prob_of_log(z.log()), law.log_prob(z))
    # The least mass, in one row alone; the others keep their density and their gradient.
    z = law.sample(generator=generator(0))
    z[0, law.mask[0]] = 1e-300
    leaf = case.tensors()["logits" if case.is_gumbel else "loc"].requires_grad_()
    moved = case.law(**{"logits" if case.is_gumbel else "loc": leaf})
    for density in (moved.log_prob(z), moved.log_prob_of_log(z.log())):
        assert torch.equal(density == -math.inf, torch.tensor([True, False, False]))
        (gradient,) = torch.autograd.grad(density.sum(), leaf, retain_graph=True)
        assert (gradient[0] == 0.0).all()
        assert (gradient[1] != 0.0).any()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(gumbel(3, temperature=0.5, mask=bits("110")), id="gs"),
        pytest.param(gaussian(3, temperature=0.5, delta=0.3, mask=bits("110")), id="igr"),
        pytest.param(gaussian(2, temperature=0.5, mask=bits("10")), id="igr-K2"),
    ],
)
def test_one_category_is_a_point_mass(case):
    law = case.law()
    vertex = torch.zeros(law.num_categories, dtype=torch.float64)
    vertex[-1] = 1.0
    assert torch.equal(law.sample((2,)), vertex.expand(2, -1))
    assert torch.equal(law.rsample_and_log_prob((2,))[1], torch.zeros(2, dtype=torch.float64))
    assert law.log_prob(vertex) == 0.0
    assert torch.equal(law.discrete().probs, vertex)
    assert torch.equal(law.discrete("monte_carlo", num_samples=10).probs, vertex)
    assert law.discrete().entropy() == 0.0
    assert kl_divergence(law.discrete(), law.discrete()) == 0.0
    if not case.is_gumbel:
        assert kl_divergence(law, shifted(law)) == 0.0


def test_a_mask_of_no_category_is_none():
    for kind, name in ((gumbel, "logits"), (gaussian, "loc")):
        plain = kind(5, (2,), temperature=0.6)
        law, masked = plain.law(), plain.law(mask=bits("00000"))
        noise = law.draw_noise((4,), generator=generator(0))
        torch.testing.assert_close(masked.rsample(noise=noise), law.rsample(noise=noise), rtol=1e-14, atol=0)
        assert torch.equal(masked.rsample_log(noise=noise), law.rsample_log(noise=noise))
        drawn = (d.rsample_and_log_prob(noise=noise)[1] for d in (masked, law))
        torch.testing.assert_close(*drawn, rtol=1e-13, atol=1e-13)
        assert torch.equal(masked.discrete().log_probs, law.discrete().log_probs)
        assert torch.equal(getattr(masked, name), getattr(law, name))


@pytest.mark.parametrize("kind", [gumbel, gaussian], ids=["gs", "igr"])
def test_a_row_does_not_depend_on_the_masks_of_others(kind):
    case = kind(4, (3,), temperature=0.7)
    one, other = (case.law(mask=bits("0100", row, "0110")) for row in ("0000", "1010"))
    assert one.noise_shape == case.law().noise_shape
    noise = one.draw_noise((6,), generator=generator(0))
    assert torch.equal(noise, case.law().draw_noise((6,), generator=generator(0)))
    a, b, free = (law.rsample_log(noise=noise) for law in (one, other, case.law()))
    assert torch.equal(a[:, ::2], b[:, ::2])
    assert torch.equal(a[:, 1], free[:, 1])


@pytest.mark.parametrize("kind", [gumbel, gaussian], ids=["gs", "igr"])
def test_a_mask_broadcasts_and_is_kept(kind):
    """A mask alone can give a law its batch; every copy of the law has it, as the same tensor."""
    mask = bits("0100", "0010")
    law = kind(4, temperature=0.7).law(mask=mask)
    assert law.batch_shape == (2,)
    assert law.mask is mask
    assert law.with_temperature(0.3).mask is mask
    assert law.with_temperature(0.3).temperature == 0.3
    wide = law.expand((5, 2))
    assert wide.mask is mask
    assert wide.rsample().shape == (5, 2, 4)
    assert (wide.rsample()[:, 0, 1] == 0.0).all()
    assert torch.equal(pickle.loads(pickle.dumps(law)).mask, mask)
    assert repr(law).endswith(", available=3 of 4)")
    assert kind(4, temperature=0.7).law().mask is None


def test_one_scale_for_all_is_kept_where_the_first_category_is_masked():
    law = gaussian(4, scale=0.3, temperature=0.5, mask=bits("1000")).law()
    again = law.with_temperature(0.5)
    assert torch.equal(again.scale, law.scale)
    assert torch.equal(again.discrete().log_probs, law.discrete().log_probs)


# Under torch's machinery.


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")  # torch's own import
@pytest.mark.parametrize("name", ["gs-K4-masked", "igr-K4-masked"])
def test_forward_mode_is_reverse_mode(name):
    case = CASES[name]
    noise = case.law().draw_noise((3,), generator=generator(0))
    tensors = case.tensors()
    directions = {key: torch.cos(value) for key, value in tensors.items()}

    def value(tensors):
        law = case.law(**tensors)
        z, log_prob = law.rsample_and_log_prob(noise=noise)
        log_z = law.rsample_log(noise=noise)
        densities = log_prob.sum() + law.log_prob(z).sum() + law.log_prob_of_log(log_z).sum()
        return densities + available(law, log_z).square().sum() + law.rsample(noise=noise).square().sum()

    _, slope = torch.func.jvp(value, (tensors,), (directions,))
    gradients = torch.func.grad(value)(tensors)
    expected = sum((gradients[key] * directions[key]).sum() for key in tensors)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [gumbel, gaussian], ids=["gs", "igr"])
def test_vmap_over_masks_is_a_loop(kind):
    case = kind(4, temperature=torch.tensor(0.7, dtype=torch.float64))
    masks = bits("0100", "1010", "1110", "0000")
    noise = case.law().draw_noise((3,), generator=generator(0))
    parameter = next(iter(case.parameters))

    def value(tensors, mask):
        law = case.law(**tensors, mask=mask, validate_args=True)
        return total(law, noise), law.rsample(noise=noise)

    mapped = torch.func.vmap(torch.func.grad(value, has_aux=True), in_dims=(None, 0))(case.tensors(), masks)
    for index, mask in enumerate(masks):
        leaves = {name: tensor.requires_grad_() for name, tensor in case.tensors().items()}
        number, z = value(leaves, mask)
        gradients = torch.autograd.grad(number, list(leaves.values()))
        torch.testing.assert_close(mapped[1][index], z, rtol=1e-11, atol=0)
        for name, gradient in zip(leaves, gradients, strict=True):
            torch.testing.assert_close(mapped[0][name][index], gradient, rtol=1e-7, atol=1e-9)
        blocked = mask[: case.parameters[parameter].shape[-1]]
        assert (mapped[0][parameter][index][blocked] == 0.0).all()


@tracing
@pytest.mark.parametrize("kind", [gumbel, gaussian], ids=["gs", "igr"])
def test_one_compiled_graph_serves_every_mask(kind):
    case = kind(4, (2,), temperature=0.7)
    noise = case.law().draw_noise((3,), generator=generator(0))
    torch.compiler.reset()

    def draw(tensors, mask):
        law = case.law(**tensors, mask=mask)
        return *law.rsample_and_log_prob(noise=noise), law.rsample_log(noise=noise)

    graphs = []

    def backend(module, _):
        graphs.append(module)
        return module.forward

    compiled = torch.compile(draw, fullgraph=True, backend=backend)
    for rows in (("0100", "1010"), ("0010", "0000"), ("1110", "0110")):
        found = compiled(case.tensors(), bits(*rows))
        for ours, theirs in zip(found, draw(case.tensors(), bits(*rows)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert len(graphs) == 1


# The exact law.


def test_the_exact_law_is_that_of_the_available_to_the_last_digits():
    """Whatever the thresholds, means and scales: masked variables disturb neither nodes nor integrands."""
    source = generator("exact")

    def uniform(low, high, size=1):
        return low + (high - low) * torch.rand(size, dtype=torch.float64, generator=source)

    for _ in range(300):
        size = int(torch.randint(1, 12, (1,), generator=source))
        scale = 10 ** uniform(-2, 1, size)
        threshold = (torch.sign(uniform(-1, 2)) * 10 ** uniform(-2, 4)).item()
        loc = threshold + 10 ** uniform(-2, 2) * torch.randn(size, dtype=torch.float64, generator=source)
        keep = uniform(0, 1, size) < 0.6
        keep[0] = True
        mask = torch.nn.functional.pad(~keep, (0, 1))
        inputs = loc.clone().requires_grad_(), scale.clone().requires_grad_()
        found = maximum_log_probs(*inputs, NODES, threshold, mask=mask)
        alone = tuple(t[keep].clone().requires_grad_() for t in (loc, scale))
        expected = maximum_log_probs(*alone, NODES, threshold)
        torch.testing.assert_close(found[~mask], expected, rtol=1e-12, atol=1e-12)
        found_gradients, expected_gradients = (
            torch.autograd.grad(x.exp().square().sum(), leaves)
            for x, leaves in ((found, inputs), (expected, alone))
        )
        for ours, theirs in zip(found_gradients, expected_gradients, strict=True):
            torch.testing.assert_close(ours[keep], theirs, rtol=1e-11, atol=1e-12)
            assert (ours[~keep] == 0.0).all()


# Divergences.


def test_the_entropy_of_a_masked_law_has_a_gradient_which_torchs_has_not():
    logits = tensor(0.3, -0.5, 0.0).requires_grad_()
    law = igr.GumbelSoftmax(0.5, logits=logits, mask=bits("001")).discrete()
    theirs = torch.distributions.Categorical(logits=law.log_probs, validate_args=False)
    torch.testing.assert_close(law.entropy(), theirs.entropy())
    assert torch.autograd.grad(10.0 * theirs.entropy(), logits, retain_graph=True)[0][:2].isnan().all()
    free = logits[:2].detach().requires_grad_()
    (expected,) = torch.autograd.grad(10.0 * igr.DiscreteLaw(free).entropy(), free)
    (found,) = torch.autograd.grad(10.0 * law.entropy(), logits)
    torch.testing.assert_close(found, torch.cat([expected, tensor(0.0)]))


def test_the_discrete_divergence_of_one_mask_is_finite_with_both_gradients():
    first, second = (t.requires_grad_() for t in (tensor(0.3, -0.5, 0.1, 9.0), tensor(1.0, 0.5, -2.0, 0.0)))
    p, q = (igr.GumbelSoftmax(0.5, logits=t, mask=bits("0001")).discrete() for t in (first, second))
    found = kl_divergence(p, q)
    expected = kl_divergence(igr.DiscreteLaw(first[:3]), igr.DiscreteLaw(second[:3]))
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(10.0 * found, (first, second), create_graph=True)
    for ours, theirs in zip(gradients, torch.autograd.grad(10.0 * expected, (first, second)), strict=True):
        torch.testing.assert_close(ours.detach(), theirs)
    curvature = torch.autograd.grad(sum(g.square().sum() for g in gradients), (first, second))
    assert all(torch.isfinite(c).all() and c[3] == 0.0 for c in curvature)
    assert kl_divergence(p, igr.DiscreteLaw(second.detach())) < torch.inf
    assert kl_divergence(igr.DiscreteLaw(first.detach()), q) == torch.inf


def test_equal_masks_need_not_be_one_tensor():
    mask = bits("0100")
    base = gaussian(4, temperature=0.5)
    p, q = (base.law(loc=tensor(x, 9.0, -0.2), mask=mask) for x in (0.1, 0.4))
    copy = base.law(loc=tensor(0.4, -7.0, -0.2), mask=bits("0100"))
    assert torch.equal(kl_divergence(p, q), kl_divergence(p, copy))


MASKED = gaussian(4, temperature=0.5, mask=bits("0100")).law()
KL_REFUSALS = {
    "one-side": (MASKED, gaussian(4, temperature=0.5).law(), "only one side is masked"),
    "other-side": (gaussian(4, temperature=0.5).law(), MASKED, "only one side is masked"),
    "other-mask": (
        MASKED,
        gaussian(4, temperature=0.5, mask=bits("0110")).law(),
        "the masks are not known to be equal",
    ),
    "other-shape": (
        MASKED,
        gaussian(4, temperature=0.5, mask=bits("0100", "0100")).law(),
        "the masks are not known to be equal",
    ),
}


@pytest.mark.parametrize("name", KL_REFUSALS)
def test_divergences_over_different_categories_are_refused(name):
    p, q, reason = KL_REFUSALS[name]
    with pytest.raises(NotImplementedError, match=reason) as refused:
        kl_divergence(p, q)
    assert f"KL({p!r} || {q!r})" in str(refused.value)
    assert str(refused.value).count(". ") == 0


def test_under_a_tracer_masks_are_one_tensor_or_refused():
    masks = bits("0100", "1010")
    base = gaussian(4, temperature=0.5)

    def divergence(mask, copy):
        return kl_divergence(base.law(mask=mask), base.law(loc=torch.zeros(3).double(), mask=copy))

    found = torch.func.vmap(lambda mask: divergence(mask, mask))(masks)
    torch.testing.assert_close(found, torch.stack([divergence(mask, mask) for mask in masks]))
    with pytest.raises(NotImplementedError, match="as one tensor object where its values cannot be read"):
        torch.func.vmap(divergence)(masks, masks.clone())
