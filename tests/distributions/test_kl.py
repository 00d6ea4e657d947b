"""Divergences: closed forms against samples and torch, and refusals that say why."""

import itertools

import pytest
import torch
from torch.distributions import OneHotCategorical, kl_divergence

import igr
from cases import TEN, Sinh, available, each, gaussian, generator, gumbel, tensor, tracing, z_score

SETTINGS = [(0.5, 1.0), (0.5, 0.1), (2.0, 1.0), (0.05, 3.0)]  # temperature, delta


def sampled_kl(p, q, count=50_000):
    log_z = p.rsample_log((count,), generator=generator("kl"))
    return p.log_prob_of_log(log_z) - q.log_prob_of_log(log_z)


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product(SETTINGS, repeat=2)), ids=lambda s: f"tau{s[0]}-delta{s[1]}"
)
def test_closed_form_is_the_mean_of_the_log_ratio_of_densities(first, second):
    """Across temperatures and deltas, between laws near one another, so that samples reach the mean."""
    p = gaussian(4, temperature=first[0], delta=first[1]).law()
    mean, scale = p.log_ratio_parameters(torch.float64)
    shift = torch.log(torch.tensor(second[1], dtype=torch.float64))
    q = igr.InvertibleGaussian(
        (mean + 0.3 * scale + shift) * second[0], 1.3 * scale * second[0], second[0], delta=second[1]
    )
    closed = kl_divergence(p, q)
    # Gaussians shifted by 0.3 p-scales, 1.3 times as wide: known without either law.
    expected = 3 * 0.5 * ((1.0 + 0.09) / 1.69 - 1.0 + 2.0 * torch.log(tensor(1.3)))
    torch.testing.assert_close(closed, expected[0], rtol=1e-9, atol=1e-9)
    assert z_score(sampled_kl(p, q), closed).abs() < 5


def differs(law):
    """Where more than the last category is left, without which every law is the same point mass."""
    left = torch.ones(law.event_shape) if law.mask is None else (~law.mask).double()
    return (left.sum(-1) > 1).expand(law.batch_shape)


@each(where=lambda case: not case.is_gumbel)
def test_zero_at_equality_and_positive_elsewhere(case):
    law = case.law()
    other = igr.InvertibleGaussian(
        law.loc + 0.2, law.scale, law.temperature, law.transform, law.delta, mask=law.mask
    )
    assert torch.equal(kl_divergence(law, law), torch.zeros(law.batch_shape, dtype=torch.float64))
    found = kl_divergence(law, other)
    terms = torch.nn.functional.pad(0.5 * (0.2 / law.scale).square(), (0, 1))
    torch.testing.assert_close(found, available(law, terms).sum(-1))
    assert torch.equal(found > 0, differs(law))


@each(where=lambda case: not case.is_gumbel and not case.has_transform)
def test_divergence_from_another_temperature_is_positive(case):
    law = case.law()
    assert torch.equal(kl_divergence(law, law.with_temperature(0.77)) > 0, differs(law))
    assert torch.equal(kl_divergence(law.with_temperature(0.77), law) > 0, differs(law))


def test_one_map_on_both_sides_is_the_divergence_of_torchs_gaussians():
    transform = Sinh()
    p = gaussian(4, (3,), temperature=0.5, transform=transform).law()
    q = gaussian(4, scale=2.0, temperature=0.5, transform=transform).law()
    normals = [torch.distributions.Normal(law.loc, law.scale) for law in (p, q)]
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(*normals).sum(-1))
    assert z_score(sampled_kl(p.expand((3,)), q), kl_divergence(p, q)).abs().max() < 5


def test_the_same_tensor_temperature_and_delta_are_one_map():
    settings = {"temperature": tensor(0.3, 0.6), "delta": tensor(0.1, 2.0), "transform": Sinh()}
    laws = [igr.InvertibleGaussian(tensor(0.3, x), 1.0 + x, **settings) for x in (0.0, 0.5)]
    normals = [torch.distributions.Normal(law.loc, law.scale) for law in laws]
    torch.testing.assert_close(kl_divergence(*laws), kl_divergence(*normals).sum(-1))


def test_nearly_equal_scales_lose_nothing():
    """KL of N(0, 1) and N(0, (1 + 1e-6)^2) is 1e-12: r^2 - 1 - 2 log r would keep four digits of it."""
    one, close = (igr.InvertibleGaussian(tensor(0.0), s, 0.5) for s in (1.0, 1.0 + 1e-6))
    assert kl_divergence(one, close).item() == pytest.approx(1e-12, rel=1e-3)


def test_gradients_across_temperatures_overflow_no_earlier_than_they_must():
    """Of a divergence of 3e32 between laws of a hot prior with a small scale and a cold posterior."""

    def gradients(dtype):
        values = 1e4, 0.5, 2e-6, 0.3, 1e-4, 1e3
        loc, scale, temperature, *of_q = (
            torch.tensor([x, x] if i % 3 < 2 else x, dtype=dtype, requires_grad=True)
            for i, x in enumerate(values)
        )
        p = igr.InvertibleGaussian(loc, scale, temperature, delta=0.1)
        divergence = kl_divergence(p, igr.InvertibleGaussian(*of_q))
        return torch.autograd.grad(divergence, (loc, scale, *of_q))

    for single, double in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0)


def test_gradients_reach_both_temperatures():
    temperatures = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, 0.9)]

    def divergence(a, b):
        p, q = gaussian(3, delta=0.3).law(temperature=a), gaussian(3).law(temperature=b)
        return kl_divergence(p, q)

    assert torch.autograd.gradcheck(divergence, temperatures)


# Discrete laws.


@pytest.mark.parametrize("weights", [range(1, 11), [1] * 10], ids=["ramp", "uniform"])
def test_discrete_divergence_is_torchs(weights):
    other = tensor(*weights) / sum(weights)
    ours = [igr.DiscreteLaw(probs.log()) for probs in (TEN, other)]
    theirs = [OneHotCategorical(probs=probs) for probs in (TEN, other)]
    expected = kl_divergence(*theirs)
    for p, q in ((ours[0], ours[1]), (ours[0], theirs[1]), (theirs[0], ours[1])):
        torch.testing.assert_close(kl_divergence(p, q), expected)
    assert torch.equal(kl_divergence(ours[0], ours[0]), torch.zeros((), dtype=torch.float64))


def test_categories_of_probability_zero():
    """0 log 0 is 0, with a finite gradient; a category that q never takes is an infinite surprise."""
    free = tensor(0.3, -0.5).requires_grad_()
    log_p = torch.cat([free, tensor(-torch.inf)])
    p, q = igr.DiscreteLaw(log_p), igr.DiscreteLaw(tensor(0.2, 0.3, 0.5).log())
    found = kl_divergence(p, q)
    probs = torch.softmax(free, -1)
    expected = (probs * (probs.log() - tensor(0.2, 0.3).log())).sum()
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, free, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, free)[0])
    assert kl_divergence(q, p) == torch.inf
    both = kl_divergence(p, igr.DiscreteLaw(tensor(0.5, 0.5, 0.0).log()))
    assert torch.isfinite(both)
    assert torch.isfinite(torch.autograd.grad(both, free)[0]).all()


def test_discrete_divergence_of_igr_by_enumeration():
    p, q = (gaussian(5, scale=s, temperature=0.5).law().discrete() for s in (1.0, 3.0))
    expected = sum(p.probs[k] * (p.probs[k] / q.probs[k]).log() for k in range(5))
    torch.testing.assert_close(kl_divergence(p, q), expected)


# Refusals.

GS = gumbel(3, temperature=0.5).law()
IGR = gaussian(3, temperature=0.5).law()
OTHER_WARP = gaussian(3, temperature=0.5, transform=Sinh()).law()
WARPED = gaussian(3, scale=1.0, temperature=0.5, transform=Sinh()).law()
SAME_WARP = igr.InvertibleGaussian(WARPED.loc, 1.0, 0.7, WARPED.transform)
REFUSALS = {
    "gs-gs": (GS, GS, "has no closed form; estimate it"),
    "gs-igr": (GS, IGR, "has no closed form; estimate it"),
    "igr-gs": (IGR, GS, "has no closed form; estimate it"),
    "two-transforms": (WARPED, OTHER_WARP, "transforms are two objects"),
    "two-spaces": (
        igr.InvertibleGaussian(WARPED.loc, 1.0, 0.5, igr.LogisticStickBreakingTransform("log")),
        igr.InvertibleGaussian(WARPED.loc, 1.0, 0.5, igr.LogisticStickBreakingTransform()),
        r"\(LogisticStickBreakingTransform\('log'\) and LogisticStickBreakingTransform\('length'\)\)",
    ),
    "one-transform": (WARPED, IGR, "transforms are two objects"),
    "temperatures": (WARPED, SAME_WARP, "need one temperature and delta"),
    "equal-tensors": (
        WARPED.with_temperature(tensor(0.5)[0]),
        WARPED.with_temperature(tensor(0.5)[0]),
        "the same tensor object",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_names_both_sides_and_the_reason(name):
    p, q, reason = REFUSALS[name]
    with pytest.raises(NotImplementedError, match=reason) as refused:
        kl_divergence(p, q)
    assert f"KL({p!r} || {q!r})" in str(refused.value)


@pytest.mark.parametrize(
    ("p", "q"),
    [(IGR, gaussian(4, temperature=0.5).law()), (IGR.discrete(), OneHotCategorical(probs=TEN))],
    ids=["igr", "discrete"],
)
def test_different_numbers_of_categories_are_an_error(p, q):
    with pytest.raises(ValueError, match="expected laws over the same number of categories; got 3 and"):
        kl_divergence(p, q)


@pytest.mark.parametrize("fixed_scale", [False, True])
def test_the_kl_to_a_constant_law_has_right_first_and_second_derivatives(fixed_scale):
    """The path of training, where only the first law is differentiated, against finite differences."""
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(3, 2, 4, dtype=torch.float64, generator=generator).requires_grad_()
    log_scale = (0.3 * torch.randn(3, 2, 4, dtype=torch.float64, generator=generator)).requires_grad_()
    prior = igr.InvertibleGaussian(torch.full((2, 4), -0.5, dtype=torch.float64), 1.3, 0.4)

    def divergence(loc, log_scale=None):
        scale = 1.0 if log_scale is None else log_scale.exp()
        return kl_divergence(igr.InvertibleGaussian(loc, scale, 0.4), prior)

    inputs = (loc,) if fixed_scale else (loc, log_scale)
    assert torch.autograd.gradcheck(divergence, inputs)
    assert torch.autograd.gradgradcheck(divergence, inputs)


@each()
def test_the_divergence_of_the_discrete_law_is_that_of_both_laws(case):
    """Of every law, whichever way it takes."""
    law = case.law()
    try:
        exact = law.discrete()
    except NotImplementedError:
        with pytest.raises(NotImplementedError):
            law.discrete_kl(OneHotCategorical(torch.ones(law.event_shape, dtype=torch.float64)))
        return
    other = torch.randn(law.event_shape, dtype=torch.float64, generator=generator("discrete kl"))
    prior = OneHotCategorical(logits=other)
    found = law.discrete_kl(prior)
    torch.testing.assert_close(found, kl_divergence(exact, prior), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law.discrete_kl(igr.DiscreteLaw(other.log_softmax(-1))), found)


@pytest.mark.parametrize("scale", [0.7, torch.tensor([0.7]), torch.tensor([0.5, 0.9, 1.4])], ids=str)
def test_the_gradient_of_the_divergence_of_the_discrete_law(scale):
    loc = torch.randn(5, 3, dtype=torch.float64, generator=generator("loc of a kl")).requires_grad_()
    scale = scale.double().requires_grad_() if isinstance(scale, torch.Tensor) else scale
    delta = tensor(1.7).requires_grad_()
    inputs = [t for t in (loc, scale, delta) if isinstance(t, torch.Tensor)]
    prior = igr.InvertibleGaussian.uniform(4, 0.5, dtype=torch.float64).discrete()
    for given in (delta, 1.7):
        law = igr.InvertibleGaussian(loc, scale, 0.5, delta=given)
        values = law.discrete_kl(prior).sum(), kl_divergence(law.discrete(), prior).sum()
        found, expected = (torch.autograd.grad(v, inputs, allow_unused=True) for v in values)
        assert (found[-1] is None) == (given is not delta)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_the_divergence_of_the_discrete_law_from_many_and_from_a_trained_one():
    law = igr.InvertibleGaussian(torch.zeros(3, dtype=torch.float64), 1.0, 0.5)
    many = torch.randn(6, 1, 4, dtype=torch.float64, generator=generator("many priors")).requires_grad_()
    prior = OneHotCategorical(logits=many)
    found, expected = law.discrete_kl(prior), kl_divergence(law.discrete(), prior)
    assert found.shape == (6, 1)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value.sum(), many, retain_graph=True)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)
    law.loc.requires_grad_()
    one = OneHotCategorical(logits=many[0, 0])
    (through_prior,) = torch.autograd.grad(law.discrete_kl(one), many)
    assert through_prior.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_the_divergence_of_a_discrete_law_in_less_precision(dtype):
    loc = torch.tensor([0.3, -1.0, 0.5, 2.0], dtype=dtype)
    law = igr.InvertibleGaussian(loc, 1.0, 0.5)
    prior = igr.InvertibleGaussian.uniform(5, 0.5, dtype=dtype).discrete()
    found = law.discrete_kl(prior)
    assert found.dtype == dtype
    expected = kl_divergence(law.discrete(), prior).double()
    torch.testing.assert_close(found.double(), expected, rtol=8 * torch.finfo(dtype).eps, atol=1e-6)


def test_a_category_that_is_never_taken_adds_nothing():
    law = igr.InvertibleGaussian(torch.full((3,), 5e3), 1e-16, 0.5)
    loc = law.loc.requires_grad_()
    prior = OneHotCategorical(torch.ones(4))
    found, expected = law.discrete_kl(prior), kl_divergence(law.discrete(), prior)
    assert law.discrete().log_probs.min() == -torch.inf
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(found, loc)[0].isfinite().all()


def test_what_is_no_discrete_law_is_refused_as_ever():
    law = igr.InvertibleGaussian(torch.zeros(3), 1.0, 0.5)
    forgotten = igr.InvertibleGaussian.uniform(4, 0.5)
    relaxed = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.5), torch.ones(4))
    for other in (forgotten, relaxed, torch.distributions.Categorical(torch.ones(4))):
        with pytest.raises(NotImplementedError):
            law.discrete_kl(other)


def test_another_number_of_categories_is_one_sentence():
    law = igr.InvertibleGaussian(torch.zeros(3), 1.0, 0.5)
    with pytest.raises(
        ValueError,
        match=r"the same number of categories; got 4 and 7; K categories take K logits, or K - 1 means",
    ):
        law.discrete_kl(OneHotCategorical(torch.ones(7)))


@tracing
def test_the_divergence_of_a_discrete_law_under_tracers():
    loc = torch.randn(4, 3, dtype=torch.float64, generator=generator("traced kl"))
    prior = OneHotCategorical(torch.ones(4, dtype=torch.float64))

    def divergence(loc):
        return igr.InvertibleGaussian(loc, 1.0, 0.5, validate_args=False).discrete_kl(prior)

    expected = divergence(loc)
    torch.testing.assert_close(torch.func.vmap(divergence)(loc), expected, rtol=1e-9, atol=1e-9)
    compiled = torch.compile(divergence, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(loc), expected, rtol=1e-9, atol=1e-9)


@each(where=lambda case: not case.is_gumbel)
def test_points_come_with_their_divergence(case):
    law = case.law()
    prior = igr.InvertibleGaussian(
        law.loc.detach() + 0.2, law.scale, law.temperature, law.transform, law.delta, mask=law.mask
    )
    noise = law.draw_noise((2,), generator=generator("points and kl"))
    points, divergence = law.rsample_and_kl(prior, noise=noise)
    assert torch.equal(points, law.rsample(noise=noise))
    assert torch.equal(divergence, kl_divergence(law, prior))


def test_a_divergence_that_has_no_closed_form_is_refused_before_a_draw():
    law = igr.InvertibleGaussian(torch.zeros(3), 1.0, 0.5, igr.LogisticStickBreakingTransform())
    state = torch.get_rng_state()
    with pytest.raises(NotImplementedError, match="no closed form"):
        law.rsample_and_kl(igr.InvertibleGaussian(torch.zeros(3), 1.0, 0.5))
    assert torch.equal(state, torch.get_rng_state())
