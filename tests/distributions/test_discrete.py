"""The discrete law behind a relaxation: exact, estimated, and as a torch distribution."""

import math

import pytest
import torch

import igr
from cases import TEN, Sticks, chi_square, each, gaussian, generator, gumbel, planar, tensor

COUNT = 40_000


@each(where=lambda case: case.has_exact_law)
def test_exact_law_is_the_frequency_of_the_largest_coordinate(case):
    law = case.law()
    exact = law.discrete().probs.reshape(-1, law.num_categories)
    largest = law.rsample_log((COUNT,), generator=generator(0)).argmax(-1).reshape(COUNT, -1)
    for probs, drawn in zip(exact, largest.T, strict=True):
        counts = torch.bincount(drawn, minlength=law.num_categories)
        assert (counts[probs == 0] == 0).all()
        order = probs.argsort()  # rare categories first, so that they are pooled
        assert chi_square(counts[order], COUNT * probs[order]) > 1e-7


@each()
def test_estimate_agrees_with_the_frequency_from_the_same_noise(case):
    """Also at temperature 1e-3 where z underflows, and with transforms that have no exact law."""
    law = case.law()
    noise = law.draw_noise((500,), generator=generator(0))
    estimate = law.discrete("monte_carlo", noise=noise)
    largest = law.rsample_log(noise=noise).argmax(-1)
    shares = torch.nn.functional.one_hot(largest, law.num_categories).double().mean(0)
    torch.testing.assert_close(estimate.probs, shares, rtol=1e-12, atol=1e-12)
    assert not estimate.probs.requires_grad


@pytest.mark.parametrize(
    "case", [gumbel(4, temperature=0.5), gaussian(4, temperature=0.5, delta=0.3)], ids=["gs", "igr"]
)
def test_standard_error_covers_as_it_should(case):
    """The error over 400 estimates, in units of the stated one, has mean 0 and variance 1."""
    law = case.law()
    exact = law.discrete().probs
    scores = []
    source = generator("coverage")
    for _ in range(400):
        estimate = law.discrete("monte_carlo", num_samples=1000, generator=source)
        scores.append((estimate.probs - exact) / estimate.standard_error)
    scores = torch.stack(scores)
    assert (scores.mean(0) * math.sqrt(400)).abs().max() < 5
    assert ((scores.var(0) - 1.0) * math.sqrt(200)).abs().max() < 5


def test_estimate_is_reproducible_and_may_miss_a_category():
    law = igr.GumbelSoftmax(0.5, logits=tensor(0.0, 0.0, -30.0))
    first, again = (law.discrete("monte_carlo", num_samples=100, generator=generator(0)) for _ in range(2))
    assert torch.equal(first.probs, again.probs)
    assert first.log_probs[2] == -torch.inf
    assert first.probs[2] == 0.0
    assert first.standard_error[2] == 0.0
    assert torch.isfinite(first.entropy())


def test_exact_law_of_gumbel_softmax_is_its_logits_at_every_temperature():
    logits = gumbel(5, (2,)).parameters["logits"]
    for temperature in (1e-6, 1.0, 1e3):
        law = igr.GumbelSoftmax(temperature, logits=logits).discrete()
        torch.testing.assert_close(law.log_probs, torch.log_softmax(logits, -1), rtol=0, atol=1e-15)
        assert law.standard_error is None


def test_temperature_has_no_part_in_the_law_with_delta_one_and_has_one_otherwise():
    base = gaussian(4, temperature=1.0)
    probs = [base.law(temperature=t).discrete().probs for t in (0.1, 5.0)]
    assert torch.equal(*probs)
    tilted = [base.law(temperature=t, delta=0.1).discrete().probs for t in (0.1, 5.0)]
    # c = tau log delta sinks with the temperature, and with it the last category.
    assert tilted[1][-1] < tilted[0][-1] < probs[0][-1]


def test_small_delta_removes_the_last_category():
    law = gaussian(3, temperature=1.0, delta=1e-30).law()
    assert law.discrete().probs[-1] < 1e-12


def test_number_of_nodes_may_be_chosen():
    law = gaussian(10, temperature=1.0).law()
    exact = law.discrete().log_probs
    errors = [(law.discrete(num_nodes=n).log_probs - exact).abs().max().item() for n in (8, 32, 128)]
    assert 1e-4 < errors[1] < errors[0]
    assert errors[2] < 1e-8


def test_normalization_is_left_to_logits():
    log_probs = tensor(0.2, 0.3, 0.6).log()
    law = igr.DiscreteLaw(log_probs)
    assert torch.equal(law.log_probs, log_probs)
    torch.testing.assert_close(law.probs, tensor(2.0, 3.0, 6.0) / 11.0)
    torch.testing.assert_close(law.logits.exp(), law.probs)


def test_it_is_a_torch_one_hot_categorical():
    law = igr.DiscreteLaw(TEN.log())
    theirs = torch.distributions.OneHotCategorical(probs=TEN)
    assert isinstance(law, torch.distributions.OneHotCategorical)
    assert law.num_categories == 10
    vertices = torch.eye(10, dtype=torch.float64)
    torch.testing.assert_close(law.log_prob(vertices), theirs.log_prob(vertices))
    torch.testing.assert_close(law.entropy(), theirs.entropy())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = law.sample((COUNT,))
    assert chi_square(drawn.sum(0), COUNT * TEN) > 1e-6


def test_expand_keeps_everything():
    law = gaussian(4, (3,), temperature=0.5).law().discrete("monte_carlo", generator=generator(0))
    wide = law.expand((2, 3))
    assert type(wide) is igr.DiscreteLaw
    for name in ("log_probs", "standard_error", "probs", "logits"):
        assert torch.equal(getattr(wide, name), getattr(law, name).expand(2, 3, 4))
    assert igr.DiscreteLaw(TEN.log()).expand((2,)).standard_error is None


@each(where=lambda case: case.has_exact_law and not case.is_masked)
def test_quasi_monte_carlo_is_unbiased_and_says_its_error(case):
    law = case.law()
    exact = law.discrete().probs
    estimate = law.discrete("quasi_monte_carlo", num_samples=4096, generator=generator(1))
    # A t-law of 15 degrees of freedom, but not where hardly any point falls.
    scores = (estimate.probs - exact) / estimate.standard_error
    assert scores[exact > 5e-3].abs().max() < 6
    again = law.discrete("quasi_monte_carlo", num_samples=4096, generator=generator(1))
    assert torch.equal(again.log_probs, estimate.log_probs)


def test_quasi_monte_carlo_errs_less_than_draws():
    law = planar(4, (3,), temperature=0.5).law()
    plain = law.discrete("monte_carlo", num_samples=2**14, generator=generator(0))
    quasi = law.discrete("quasi_monte_carlo", num_samples=2**14, generator=generator(0))
    assert quasi.standard_error.mean() < 0.4 * plain.standard_error.mean()
    assert ((quasi.probs - plain.probs) / plain.standard_error).abs().max() < 5


def test_the_last_category_of_lengths_never_wins():
    law = gaussian(5, (2,), temperature=0.5, transform=Sticks()).law()
    exact = law.discrete()
    assert (exact.log_probs[:, -1] == -math.inf).all()
    assert (exact.probs[:, -1] == 0).all()
    assert torch.isfinite(exact.entropy()).all()
    leaf = law.loc.clone().requires_grad_()
    law = igr.InvertibleGaussian(leaf, law.scale, 0.5, law.transform)
    (gradient,) = torch.autograd.grad(law.discrete().entropy().sum(), leaf)
    assert torch.isfinite(gradient).all()


def test_lengths_with_delta_above_one_have_no_exact_law():
    for delta in (2.0, tensor(0.5, 2.0)):
        law = gaussian(3, (2,), temperature=0.5, delta=delta, transform=Sticks()).law()
        with pytest.raises(NotImplementedError, match=r"delta above one; got 2, .*method='monte_carlo'\.$"):
            law.discrete()
        assert law.discrete("monte_carlo", num_samples=100).probs.shape == (2, 3)


def test_sticks_of_log_space_with_two_categories_are_igr():
    case = gaussian(2, (4,), temperature=0.5, delta=0.7)
    plain, sticks = case.law(), case.law(transform=Sticks("log"))
    torch.testing.assert_close(sticks.discrete().log_probs, plain.discrete().log_probs, rtol=0, atol=0)


def test_estimates_see_which_length_is_the_longest_where_all_underflow():
    loc = tensor(-1000.0, -990.0, -995.0)
    law = igr.InvertibleGaussian(loc, 5.0, 0.5, Sticks())
    estimate = law.discrete("monte_carlo", num_samples=20_000, generator=generator(0))
    assert ((estimate.probs - law.discrete().probs)[:3].abs() / estimate.standard_error[:3]).max() < 5
    above = igr.InvertibleGaussian(tensor(0.0, 0.0), 1.0, 0.5, Sticks(), delta=2.0)
    noise = above.draw_noise((500,), generator=generator(0))
    wins = torch.nn.functional.one_hot(above.rsample_log(noise=noise).argmax(-1), 3).double().mean(0)
    torch.testing.assert_close(above.discrete("monte_carlo", noise=noise).probs, wins)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_draws_of_a_discrete_law_have_it_and_follow_the_generator(dtype):
    probs = torch.tensor([[0.5, 0.0, 0.3, 0.2], [0.01, 0.9, 0.09, 0.0]], dtype=dtype)
    law = igr.DiscreteLaw(torch.log(probs))
    drawn = law.sample((COUNT // 4, 4), generator=generator("draws"))
    assert drawn.shape == (COUNT // 4, 4, 2, 4)
    assert drawn.dtype == dtype
    assert ((drawn == 0) | (drawn == 1)).all()
    assert (drawn.sum(-1) == 1).all()
    counts = drawn.double().sum((0, 1))
    assert (counts[probs == 0] == 0).all()
    for row, expected in zip(counts, law.exact_logits.exp(), strict=True):
        order = expected.argsort()
        assert chi_square(row[order], COUNT * expected[order]) > 1e-6
    assert torch.equal(drawn, law.sample((COUNT // 4, 4), generator=generator("draws")))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = law.sample((100,))
        torch.manual_seed(3)
        assert torch.equal(first, law.sample((100,)))
    assert law.sample().shape == (2, 4)


def test_draws_of_half_precision_never_have_what_cannot_be():
    """Torch's multinomial of float16 divides by noise that may round to zero (pytorch/pytorch#192812)."""
    log_probs = torch.full((100_000,), -torch.inf, dtype=torch.float16)
    log_probs[0] = 0.0
    drawn = igr.DiscreteLaw(log_probs).sample((100,), generator=generator("half"))
    assert (drawn[:, 0] == 1).all()
