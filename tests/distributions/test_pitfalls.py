"""Faults that readers of the code found, each with the test that would have caught it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import biject_to, kl_divergence, transform_to

import igr
from igr.distributions import estimates
from igr.kernels.gaussian_law import maximum_log_probs_and_jacobian


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("first", [0.3, -60.0], ids=["safe", "underflowing"])
def test_autocast_leaves_the_exact_law_alone(dtype, first):
    loc = torch.tensor([first, -1.0, 0.7], requires_grad=True)
    scale = torch.tensor([1.0, 0.7, 1.3])
    prior = torch.distributions.OneHotCategorical(torch.ones(4))

    def values_and_gradients():
        law = igr.InvertibleGaussian(loc, scale, 0.4)
        values = law.discrete().entropy(), law.discrete_kl(prior)
        _, jacobian = maximum_log_probs_and_jacobian(loc[None], scale[None], 40)
        return *values, jacobian, *(torch.autograd.grad(value, loc)[0] for value in values)

    plain = values_and_gradients()
    with torch.autocast("cpu", dtype=dtype):
        cast = values_and_gradients()
    for a, b in zip(plain, cast, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("epsilon", torch.linspace(8.0, 12.0, 41).tolist())
def test_the_density_of_own_samples_has_a_finite_gradient(epsilon):
    """Entries just above the smallest normal number, where 1 / z is next to overflow."""
    loc = torch.tensor([-8.83], requires_grad=True)
    law = igr.InvertibleGaussian(loc, 0.01, 0.1)
    z = law.rsample(noise=torch.tensor([epsilon]))
    (gradient,) = torch.autograd.grad(law.log_prob(z), loc)
    assert torch.isfinite(gradient).all()
    logits = torch.linspace(-90.0, 3.0, 50).requires_grad_()
    gumbel = igr.GumbelSoftmax(1.0, logits)
    z = gumbel.rsample(noise=torch.full((50,), 0.01 * epsilon))
    (gradient,) = torch.autograd.grad(gumbel.log_prob(z), logits)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loc", [(9.0, 0.0, 0.0), (10.0, 2.0), (0.0, -9.0, 4.0), (11.0, -1.0, 0.5, 3.0)])
def test_logarithms_of_small_probabilities_are_right_in_float32(loc):
    law = igr.InvertibleGaussian(torch.tensor(loc), 1.0, 0.5)
    exact = igr.InvertibleGaussian(torch.tensor(loc, dtype=torch.float64), 1.0, 0.5).discrete(num_nodes=512)
    worth = exact.log_probs > -27.6  # P > 1e-12
    difference = law.discrete().log_probs.double() - exact.log_probs
    assert difference[worth].abs().max() < 1e-3


@pytest.mark.parametrize(
    ("loc", "scale", "temperature", "delta"),
    [(100.0, 0.01, 0.5, 1.0), (1000.0, 0.1, 0.5, 1.0), (0.0, 0.3, 10.0, 1e-6), (0.0, 0.3, 1000.0, 1e-6)],
)
def test_large_means_and_far_thresholds_lose_nothing_in_float32(loc, scale, temperature, delta):
    generator = torch.Generator().manual_seed(0)
    mean = loc + scale * torch.randn(200, 9, generator=generator)
    law = igr.InvertibleGaussian(mean, scale, temperature, delta=delta)
    # The same float32 numbers, computed in float64.
    exact = igr.InvertibleGaussian(mean.double(), law.scale.double(), temperature, delta=delta)
    error = law.discrete().log_probs.exp() - exact.discrete().probs
    assert error.abs().max() < 1e-5


def test_a_second_derivative_through_from_probs_is_an_error_and_not_a_wrong_number():
    p = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loc = igr.InvertibleGaussian.from_probs(torch.stack([p, 1 - p]), temperature=0.5).loc[0]
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.autograd.grad(loc, p, create_graph=True)
    (first,) = torch.autograd.grad(loc, p)
    assert first.item() == pytest.approx(2.876101, rel=1e-6)  # 1 / phi(Phi^-1(0.3))


def test_from_probs_refuses_a_tracer_in_one_sentence():
    with pytest.raises(NotImplementedError, match="iterates until it has converged"):
        torch.func.vmap(lambda p: igr.InvertibleGaussian.from_probs(p, temperature=0.5).loc)(
            torch.full((2, 3), 1 / 3)
        )


def test_fake_tensors_leave_nothing_behind():
    with FakeTensorMode():
        loc = torch.zeros(13)
        law = igr.InvertibleGaussian(loc, 1.0, 0.5, validate_args=False)
        with pytest.raises(Exception):  # noqa: B017, PT011 (values of fake tensors cannot be read)
            law.discrete().log_probs.sum().item()
    assert torch.isfinite(igr.InvertibleGaussian(torch.zeros(13), 1.0, 0.5).discrete().log_probs).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_discrete_kl_of_half_precision_is_that_of_float32_rounded(dtype):
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(200, 49, generator=generator).to(dtype) for _ in range(2))
    laws = [igr.InvertibleGaussian(loc, 1.0, 0.5).discrete() for loc in (p, q)]
    exact = [igr.InvertibleGaussian(loc.float(), 1.0, 0.5).discrete() for loc in (p, q)]
    assert laws[0].probs.dtype == dtype
    assert torch.equal(kl_divergence(*laws), kl_divergence(*exact).to(dtype))


def test_the_kl_of_a_law_that_is_no_number_is_none():
    law = igr.InvertibleGaussian(torch.full((9,), torch.nan), 1.0, 0.5, validate_args=False).discrete()
    assert kl_divergence(law, igr.DiscreteLaw(torch.zeros(10))).isnan()


def test_small_probabilities_survive_half_precision():
    law = igr.GumbelSoftmax(0.5, probs=torch.tensor([1e-5, 0.5, 0.5], dtype=torch.float16))
    assert law.logits[0].item() == pytest.approx(-11.51, abs=0.02)


def test_the_support_has_its_bijections():
    law = igr.GumbelSoftmax(0.5, logits=torch.zeros(4))
    x = torch.tensor([0.3, -1.0, 2.0])
    assert law.support.check(biject_to(law.support)(x))
    assert law.support.check(transform_to(law.support)(torch.zeros(4)))


def test_refusals_of_a_kl_with_another_family_say_what_to_do():
    law = igr.InvertibleGaussian(torch.zeros(2), 1.0, 0.5)
    with pytest.raises(NotImplementedError, match=r"take the discrete law of the other side"):
        kl_divergence(law, law.discrete())
    with pytest.raises(NotImplementedError, match=r"estimate it as the mean"):
        kl_divergence(torch.distributions.Dirichlet(torch.ones(3)), law)


def test_a_transform_that_is_not_defined_everywhere_is_refused():
    power = torch.distributions.transforms.PowerTransform(torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"defined for all real numbers; got PowerTransform"):
        igr.InvertibleGaussian(torch.zeros(2), 1.0, 0.5, transform=power)


def test_a_tensor_without_dimensions_is_like_a_number():
    loc = torch.zeros(2, dtype=torch.float32)
    assert igr.InvertibleGaussian(loc, torch.tensor(1.0, dtype=torch.float64), 0.5).dtype == torch.float32
    on_meta = igr.GumbelSoftmax(torch.tensor(0.5), logits=torch.zeros(3, device="meta"), validate_args=False)
    assert on_meta.rsample(noise=torch.zeros(3, device="meta")).device.type == "meta"


def test_an_estimate_does_not_depend_on_how_many_draws_are_taken_at_once(monkeypatch):
    law = igr.InvertibleGaussian(torch.tensor([[0.5, -1.0], [0.0, 0.2]]), 1.0, 0.5)
    noise = law.draw_noise((1000,), torch.Generator().manual_seed(0))
    whole = law.discrete("monte_carlo", noise=noise)
    monkeypatch.setattr(estimates, "_DRAWN_AT_ONCE", 42)
    parts = law.discrete("monte_carlo", noise=noise)
    assert torch.equal(whole.probs, parts.probs)
    assert torch.equal(whole.standard_error, parts.standard_error)
    drawn = law.discrete("monte_carlo", num_samples=1001, generator=torch.Generator().manual_seed(0))
    assert ((drawn.probs - law.discrete().probs) / drawn.standard_error).abs().max() < 5


def test_equal_transforms_have_equal_hashes():
    a, b = (igr.SoftmaxPlusPlusTransform(0.5, delta=2.0) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)


def test_a_scale_that_does_not_fit_the_probabilities_is_refused():
    with pytest.raises(ValueError, match=r"expected shapes that broadcast .* scale \(5,\)"):
        igr.InvertibleGaussian.from_probs(torch.full((4,), 0.25), torch.ones(5), temperature=0.5)
