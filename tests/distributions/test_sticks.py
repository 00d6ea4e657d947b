"""Truncation: the number of sticks by its definition, and an ordinary law over them."""

import math
import warnings

import pytest
import torch
from torch.distributions import kl_divergence

from cases import gaussian, generator
from igr import InvertibleGaussian, LogisticStickBreakingTransform, StickTruncation
from igr.kernels import stick_breaking

SPACES = pytest.mark.parametrize("space", ["length", "log"])


def sticks(num_categories=60, batch=(5, 3), space="length", loc=0.0, scale=0.7, **settings):
    return InvertibleGaussian(
        torch.full((*batch, num_categories - 1), loc, dtype=torch.float64),
        torch.full((*batch, num_categories - 1), scale, dtype=torch.float64),
        0.3,
        LogisticStickBreakingTransform(space),
        **settings,
    )


@SPACES
@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.999])
def test_number_is_that_of_the_definition(threshold, quantile, space):
    """One draw after another; also where the first stick alone passes the threshold."""
    law = sticks(space=space)
    noise = law.draw_noise((4,), generator=generator(0))
    cut = StickTruncation(threshold, quantile)(law, noise=noise)
    lengths = stick_breaking.lengths(law.pre_image(noise))
    expected = []
    for row in lengths.reshape(-1, 59).tolist():
        total, count = 0.0, 0
        while total <= threshold:
            total += row[count]
            count += 1
        expected.append(count)
    assert cut.needed.flatten().tolist() == expected
    assert cut.needed.shape == (4, 5, 3)
    enough = sorted(expected)[math.ceil(quantile * len(expected)) - 1]
    assert cut.num_needed == enough
    assert cut.num_sticks == min(size for size in (8, 16, 32, 59) if size >= enough)
    assert sum(n <= cut.num_needed for n in expected) >= quantile * len(expected)
    torch.testing.assert_close(cut.mass_cut, lengths[..., cut.num_sticks :].sum(-1).mean(0))
    assert not cut.mass_cut.requires_grad


@SPACES
def test_what_is_left_is_an_ordinary_law(space):
    case = gaussian(60, (4,), temperature=0.5, delta=0.5, transform=LogisticStickBreakingTransform(space))
    law = case.law(scale=0.3)
    cut = StickTruncation(0.9)(law, generator=generator(1))
    n = cut.num_sticks
    assert 8 <= n < 59
    alone = InvertibleGaussian(law.loc[:, :n], 0.3, 0.5, law.transform, 0.5)
    noise = alone.draw_noise((6,), generator=generator(2))
    for found, expected in zip(
        cut.law.rsample_and_log_prob(noise=noise), alone.rsample_and_log_prob(noise=noise), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(cut.law.discrete().log_probs, alone.discrete().log_probs)
    prior = InvertibleGaussian(torch.zeros_like(law.loc), 1.0, 0.5, law.transform, 0.5)
    divergence = kl_divergence(cut.law, cut.same_cut(prior))
    normal = torch.distributions.Normal
    expected = kl_divergence(normal(law.loc, law.scale), normal(prior.loc, prior.scale))[:, :n].sum(-1)
    torch.testing.assert_close(divergence, expected)


def test_gradients_reach_the_sticks_that_are_kept_and_no_other():
    loc = torch.zeros(3, 59, dtype=torch.float64, requires_grad=True)
    law = InvertibleGaussian(loc, 0.5, 0.3, LogisticStickBreakingTransform("log"))
    cut = StickTruncation(0.9)(law, generator=generator(0))
    assert cut.needed.requires_grad is False
    cut.law.rsample(generator=generator(1)).square().sum().backward()
    assert (loc.grad[:, : cut.num_sticks] != 0).all()
    assert (loc.grad[:, cut.num_sticks :] == 0).all()


def test_padding_keeps_every_category_in_its_place():
    law = sticks(20, (2,))
    cut = StickTruncation(0.9)(law, generator=generator(0))
    z = cut.law.rsample((3,), generator=generator(1))
    padded = cut.pad(z)
    assert padded.shape == (3, 2, 20)
    assert torch.equal(padded[..., : cut.num_sticks], z[..., :-1])
    assert torch.equal(padded[..., -1], z[..., -1])
    assert (padded[..., cut.num_sticks : -1] == 0).all()
    logs = cut.pad(z.log(), value=-math.inf)
    torch.testing.assert_close(logs.exp(), padded)


def test_the_whole_law_is_the_law():
    law = sticks(20)
    cut = StickTruncation().whole(law)
    assert cut.law is law
    assert cut.num_needed == cut.num_sticks == 19
    assert (cut.mass_cut == 0).all()
    assert cut.mass_cut.shape == (5, 3)
    z = law.rsample(generator=generator(0))
    assert cut.pad(z) is z


def test_sizes_are_few():
    law = sticks(1000, (20,))
    seen = {
        StickTruncation(threshold)(law, generator=generator(0)).num_sticks
        for threshold in torch.linspace(0.5, 0.9999999, 40).tolist()
    }
    assert seen <= {8, 16, 32, 64}
    assert len(seen) >= 2


def test_it_warns_once_where_all_sticks_are_too_few():
    law = sticks(10, loc=-4.0)
    truncation = StickTruncation(0.99)
    with pytest.warns(RuntimeWarning, match=r"expected 9 sticks to reach the threshold 0\.99 in 75% of the"):
        cut = truncation(law, generator=generator(0))
    assert cut.num_sticks == 9
    assert cut.needed.max() == 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        truncation(law, generator=generator(1))
        # The last stick may be needed and suffice: then there is nothing to say.
        StickTruncation(0.5, 0.5)(sticks(9, loc=0.0, scale=0.01), generator=generator(0))


def test_the_same_pilot_gives_the_same_cut():
    law = sticks()
    truncation = StickTruncation(0.999, num_draws=7)
    first, second = (truncation(law, generator=generator(3)) for _ in range(2))
    assert torch.equal(first.needed, second.needed)
    assert first.needed.shape == (7, 5, 3)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_threshold_outside_the_unit_interval(threshold):
    with pytest.raises(ValueError, match=r"expected threshold in \(0, 1\); got .*\.$"):
        StickTruncation(threshold)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: StickTruncation(quantile=0.0), r"expected quantile in \(0, 1\]; got 0\.0"),
        (lambda: StickTruncation(quantile=75), r"expected quantile in \(0, 1\]; got 75"),
        (lambda: StickTruncation(num_draws=0), r"expected num_draws of at least 1; got 0"),
        (
            lambda: StickTruncation()(gaussian(5, temperature=0.5).law()),
            r"expected an InvertibleGaussian with a LogisticStickBreakingTransform; got InvertibleGaussian;",
        ),
        (lambda: StickTruncation().whole("law"), r"got str;"),
        (
            lambda: StickTruncation().whole(sticks(20)).same_cut(sticks(21)),
            r"expected a law over 20 categories, like the one that was cut; got one over 21",
        ),
        (
            lambda: StickTruncation().whole(sticks(20)).pad(torch.zeros(3)),
            r"expected points with 20 categories in the last dimension; got shape \(3,\)",
        ),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words + r".*\.$"):
        call()


def test_no_tracer_follows_the_number():
    with pytest.raises(NotImplementedError, match=r"no tracer can follow.*\.$"):
        torch.func.vmap(lambda noise: StickTruncation()(sticks(), noise=noise).law.loc)(
            sticks().draw_noise((2, 1))
        )


@pytest.mark.parametrize("arguments", [{"threshold": "0.9"}, {"quantile": None}, {"num_draws": 1.5}])
def test_wrong_types(arguments):
    with pytest.raises(
        TypeError, match=r"^StickTruncation: expected .* to be an? (number|int); got .*; convert it .*\.$"
    ):
        StickTruncation(**arguments)


def test_one_scale_for_all_stays_one():
    law = InvertibleGaussian(torch.zeros(59), 0.5, 0.3, LogisticStickBreakingTransform())
    assert StickTruncation(0.9)(law, generator=generator(0)).law._equal_scales
