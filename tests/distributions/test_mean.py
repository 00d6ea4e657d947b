"""The mean of a relaxation: by quadrature where there is one, else estimated, and it says which."""

import pytest
import torch

import igr
from cases import bits, each, gaussian, generator, gumbel, planar, z_score


@each(where=lambda case: not case.has_transform)
def test_quadrature_is_the_mean_of_draws(case):
    law = case.law()
    found = law.mean_estimate()
    assert found.method == "quadrature"
    assert found.standard_error is None
    torch.testing.assert_close(law.mean, found.value)
    torch.testing.assert_close(found.value.sum(-1), torch.ones(law.batch_shape, dtype=torch.float64))
    draws = law.rsample((20_000,), generator=generator(0))
    scores = z_score(draws, found.value)
    # A mean that a few draws make up has no normal error.
    assert scores[(found.value > 2e-3) & torch.isfinite(scores)].abs().max() < 5
    if law.mask is not None:
        assert (found.value.masked_select(law.mask) == 0).all()


@each()
def test_estimates_state_an_error_that_covers(case):
    law = case.law()
    plain = law.mean_estimate("monte_carlo", num_samples=4096, generator=generator(0))
    quasi = law.mean_estimate("quasi_monte_carlo", num_samples=4096, generator=generator(0))
    assert (plain.method, quasi.method) == ("monte_carlo", "quasi_monte_carlo")
    common = plain.value > 5e-3
    difference = (plain.value - quasi.value).abs()
    error = torch.sqrt(plain.standard_error**2 + quasi.standard_error**2) + 1e-9
    assert (difference / error)[common].max() < 6
    draws = law.rsample((4096,), generator=generator(0))
    torch.testing.assert_close(plain.value, draws.mean(0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(plain.standard_error, draws.std(0) / 64, rtol=1e-5, atol=1e-8)


def test_masked_means_are_those_of_the_categories_that_are_left():
    mask = bits("0100")
    kept = [0, 2, 3]
    law = gumbel(4, temperature=0.7).law()
    masked = igr.GumbelSoftmax(0.7, law.logits, mask=mask)
    alone = igr.GumbelSoftmax(0.7, law.logits[kept])
    torch.testing.assert_close(masked.mean[kept], alone.mean, rtol=0, atol=1e-12)
    law = gaussian(4, temperature=0.7, delta=0.5).law()
    masked = igr.InvertibleGaussian(law.loc, law.scale, 0.7, delta=0.5, mask=mask)
    alone = igr.InvertibleGaussian(law.loc[[0, 2]], law.scale[[0, 2]], 0.7, delta=0.5)
    torch.testing.assert_close(masked.mean[kept], alone.mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_has_the_dtype_of_the_law(dtype):
    law = gaussian(3, (2,), temperature=0.5).law(dtype)
    assert law.mean.dtype == law.mean_estimate("monte_carlo", num_samples=10).value.dtype == dtype


def test_the_mean_is_differentiable():
    case = gaussian(3, (2,), temperature=0.5, delta=0.5)
    names = list(case.parameters)
    inputs = tuple(value.requires_grad_() for value in case.tensors().values())
    assert torch.autograd.gradcheck(lambda *t: case.law(**dict(zip(names, t, strict=True))).mean, inputs)


def test_with_a_transform_there_is_no_quadrature_and_what_to_do():
    law = planar(3, temperature=0.5).law()
    with pytest.raises(
        NotImplementedError, match=r"^mean: no quadrature is known.*mean_estimate\('monte_carlo'\)\.$"
    ):
        law.mean


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "guess"}, r"expected method to be 'quadrature' or 'monte_carlo'.*got 'guess'"),
        ({"method": "monte_carlo", "num_samples": 0}, r"expected num_samples of at least 1; got 0"),
        ({"method": "quasi_monte_carlo", "num_samples": 31}, r"expected num_samples of at least 32.*got 31"),
        (
            {"method": "quasi_monte_carlo", "noise": torch.zeros(5, 2)},
            r"expected no noise for 'quasi_monte_carlo'",
        ),
        ({"method": "monte_carlo", "noise": torch.zeros(0, 2)}, r"expected noise of at least one draw"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(ValueError, match=words + r".*\.$"):
        gaussian(3, temperature=0.5).law().mean_estimate(**arguments)


def test_points_of_a_low_discrepancy_have_a_largest_dimension():
    law = igr.GumbelSoftmax(0.5, logits=torch.zeros(30_000))
    with pytest.raises(ValueError, match=r"expected at most 21201 numbers of noise.*got 30000.*\.$"):
        law.discrete("quasi_monte_carlo")


def test_one_draw_says_nothing_of_its_error():
    found = gaussian(4, temperature=0.3).law().mean_estimate("monte_carlo", num_samples=1)
    assert found.standard_error.isnan().all()


def test_estimates_from_noise_are_mapped():
    case = gaussian(4, (3,), temperature=0.5)
    noise = torch.randn(3, 50, 3, dtype=torch.float64, generator=generator(0))

    def estimates(loc, scale, noise):
        law = igr.InvertibleGaussian(loc, scale, 0.5, validate_args=False)
        law_of_noise = law.discrete("monte_carlo", noise=noise)
        return law_of_noise.probs, law.mean_estimate("monte_carlo", noise=noise).value

    loc, scale = case.tensors()["loc"], case.tensors()["scale"]
    mapped = torch.func.vmap(estimates)(loc, scale, noise)
    for index in range(3):
        for found, expected in zip(mapped, estimates(loc[index], scale[index], noise[index]), strict=True):
            torch.testing.assert_close(found[index], expected)


def test_empty_batches_and_gradients_of_many():
    law = igr.GumbelSoftmax(0.5, logits=torch.zeros(0, 4, requires_grad=True))
    law.mean.sum().backward()
    assert law.mean_estimate("quasi_monte_carlo").value.shape == (0, 4)
    logits = torch.zeros(12, 30, dtype=torch.float64, requires_grad=True)
    igr.GumbelSoftmax(0.5, logits=logits).mean[:, 0].sum().backward()
    torch.testing.assert_close(logits.grad.sum(-1), torch.zeros(12, dtype=torch.float64), rtol=0, atol=1e-9)
    assert (logits.grad[:, 0] > 0).all()
