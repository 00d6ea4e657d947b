"""Targets of fits: every law as scipy has it, cut where it should be, and a sentence for everything else."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Distribution,
    Geometric,
    Independent,
    MixtureSameFamily,
    Multinomial,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
    constraints,
)

import igr
from igr.fitting.targets import MAX_CATEGORIES, Target, as_target

P = torch.tensor(0.3)  # float32: what a law is built from has more bits than that
p = P.item()
LOGIT = torch.tensor(-0.4)
q = 1.0 / (1.0 + math.exp(-LOGIT.item()))

# Laws without an end, and those that scipy makes independently of torch.
COUNTABLE = {
    "poisson": (Poisson(50.0), scipy.stats.poisson(50)),
    "small poisson": (Poisson(0.01), scipy.stats.poisson(np.float32(0.01).item())),
    "large poisson": (Poisson(3000.0), scipy.stats.poisson(3000)),
    "geometric": (Geometric(P), scipy.stats.geom(p, loc=-1)),
    "geometric of logits": (Geometric(logits=LOGIT), scipy.stats.geom(q, loc=-1)),
    "negative binomial": (NegativeBinomial(2.5, P), scipy.stats.nbinom(2.5, 1 - p)),
    "negative binomial of logits": (NegativeBinomial(4.0, logits=LOGIT), scipy.stats.nbinom(4, 1 - q)),
}
FINITE = {
    "bernoulli": (Bernoulli(P), scipy.stats.bernoulli(p)),
    "bernoulli of logits": (Bernoulli(logits=LOGIT), scipy.stats.bernoulli(q)),
    "binomial": (Binomial(12, P), scipy.stats.binom(12, p)),
    "binomial of logits": (Binomial(300, logits=LOGIT), scipy.stats.binom(300, q)),
}
SCIPY = {
    "poisson": scipy.stats.poisson(50),
    "shifted poisson": scipy.stats.poisson(5, loc=7),
    "shifted below zero": scipy.stats.poisson(5, loc=-3),
    "geom": scipy.stats.geom(0.2),
    "nbinom": scipy.stats.nbinom(2.5, 0.3),
    "zipf": scipy.stats.zipf(4.0),
    "planck": scipy.stats.planck(0.01),
    "skellam": scipy.stats.skellam(3, 4),
    "dlaplace": scipy.stats.dlaplace(0.8),
}
TAIL_MASSES = [0.5, 1e-3, 1e-6, 1e-10]


def cases(laws):
    return [pytest.param(*(law if isinstance(law, tuple) else (law,)), id=name) for name, law in laws.items()]


def values_of(target):
    return np.arange(target.first, target.first + target.num_categories)


def close(actual, expected, **tolerances):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, **{"rtol": 0.0, "atol": 1e-12, **tolerances})


def unnormalized(target):
    return target.probs * (1.0 - target.tail.unsqueeze(-1))


# Laws of torch


@pytest.mark.parametrize(("law", "reference"), cases(COUNTABLE))
@pytest.mark.parametrize("tail_mass", TAIL_MASSES)
def test_a_countable_law_is_cut_where_enough_of_it_is_in(law, reference, tail_mass):
    target = as_target(law, tail_mass=tail_mass)
    K = target.num_categories
    assert target.first == 0
    assert target.probs.dtype == target.tail.dtype == torch.float64
    close(target.probs.sum(-1), 1.0)
    close(unnormalized(target), reference.pmf(range(K)))
    close(target.tail, reference.sf(K - 1))
    assert reference.sf(K - 1) <= tail_mass
    assert K == 2 or reference.sf(K - 2) > tail_mass  # one less would leave too much


@pytest.mark.parametrize(("law", "reference"), cases(FINITE))
def test_a_finite_law_is_kept_whole(law, reference):
    target = as_target(law, tail_mass=0.5)
    assert target.num_categories == reference.support()[1] + 1
    assert target.first == target.tail == 0
    close(target.probs, reference.pmf(values_of(target)))


@pytest.mark.parametrize(("law", "reference"), cases(COUNTABLE | FINITE))
@pytest.mark.parametrize("num_categories", [2, 5, 60])
def test_the_number_of_categories_decides_alone(law, reference, num_categories):
    if reference.cdf(num_categories - 1) < 1e-300:
        pytest.skip("no mass there")
    target = as_target(law, num_categories=num_categories, tail_mass=1e-300)
    assert target.probs.shape == (num_categories,)
    close(target.tail, reference.sf(num_categories - 1))
    close(target.probs, reference.pmf(range(num_categories)) / reference.cdf(num_categories - 1), rtol=1e-9)


def test_the_first_parameters_are_the_ones_that_count():
    """Probs that torch derives from logits are rounded to float32, and stay beside them."""
    law = Binomial(300, logits=LOGIT)
    assert law.probs.dtype == torch.float32
    close(as_target(law).probs, scipy.stats.binom(300, q).pmf(range(301)))
    law = NegativeBinomial(2.5, P)
    assert law.logits.dtype == torch.float32
    law.sample()  # makes a Gamma of them, too
    close(unnormalized(as_target(law, num_categories=20)), scipy.stats.nbinom(2.5, 1 - p).pmf(range(20)))


def test_the_law_itself_is_not_touched():
    rate = torch.tensor(4.0, requires_grad=True)
    law = MixtureSameFamily(Categorical(torch.ones(1)), Poisson(rate.reshape(1)))
    before = {name: id(value) for name, value in law.__dict__.items()}
    target = as_target(law)
    assert not target.probs.requires_grad
    assert {name: id(value) for name, value in law.__dict__.items()} == before
    assert law.component_distribution.rate.dtype == torch.float32
    assert law.component_distribution._validate_args


def test_the_success_that_torch_counts_is_the_failure_of_scipy():
    target = as_target(NegativeBinomial(3.0, P), tail_mass=1e-12)
    mean = (target.probs * torch.arange(target.num_categories)).sum()
    close(mean, 3.0 * p / (1.0 - p), atol=1e-9)


def test_a_mixture():
    weights, rates = torch.tensor([[0.25, 0.75], [0.5, 0.5]]), torch.tensor([[1.0, 80.0], [2.0, 3.0]])
    target = as_target(MixtureSameFamily(Categorical(weights), Poisson(rates)))
    values = np.arange(target.num_categories)[:, None, None]
    expected = (scipy.stats.poisson(rates.double().numpy()).pmf(values) * weights.numpy()).sum(-1).T
    close(unnormalized(target), expected)
    assert target.batch_shape == (2,)


def test_a_gap_does_not_end_a_law():
    law = MixtureSameFamily(Categorical(torch.tensor([0.75, 0.25])), Poisson(torch.tensor([1.0, 20_000.0])))
    target = as_target(law)
    close(target.tail, 0.25 * scipy.stats.poisson(20_000).sf(target.num_categories - 1))
    assert target.num_categories > 20_000


def test_a_mixture_of_finite_laws_is_as_long_as_the_longest():
    counts = torch.tensor([2.0, 9.0])
    target = as_target(MixtureSameFamily(Categorical(torch.ones(2)), Binomial(counts, P)))
    expected = sum(0.5 * scipy.stats.binom(n, p).pmf(range(10)) for n in (2, 9))
    close(target.probs, expected)


@pytest.mark.parametrize("batch_shape", [(1,), (3,), (2, 3)], ids=str)
def test_laws_of_a_batch_share_their_categories(batch_shape):
    rates = torch.linspace(1.0, 40.0, math.prod(batch_shape)).reshape(batch_shape)
    target = as_target(Poisson(rates))
    reference = scipy.stats.poisson(rates.double().numpy())
    K = target.num_categories
    assert target.batch_shape == target.tail.shape == batch_shape
    close(
        unnormalized(target),
        np.moveaxis(reference.pmf(values_of(target).reshape(-1, *[1] * rates.dim())), 0, -1),
    )
    close(target.tail, reference.sf(K - 1))
    assert reference.sf(K - 2).max() > 1e-6 >= reference.sf(K - 1).max()


def test_finite_laws_of_a_batch_may_differ_in_length():
    target = as_target(Binomial(torch.tensor([3, 8]), torch.tensor([0.3, 0.6])))
    expected = [
        scipy.stats.binom(n, np.float32(chance).item()).pmf(range(9)) for n, chance in ((3, 0.3), (8, 0.6))
    ]
    close(target.probs, np.stack(expected))
    assert (target.probs[0, 4:] == 0.0).all()


def test_a_long_finite_law_is_cut_like_one_without_an_end():
    n = 10**6
    reference = scipy.stats.binom(n, np.float32(1e-4).item())
    target = as_target(Binomial(n, torch.tensor(1e-4)))
    K = target.num_categories
    assert reference.sf(K - 1) <= 1e-6 < reference.sf(K - 2)
    close(target.tail, reference.sf(K - 1), atol=1e-11)
    # As many categories as the law has, and more.
    assert as_target(Binomial(200_000, torch.tensor(1e-5)), num_categories=200_005).probs[200_001:].sum() == 0


@pytest.mark.parametrize(
    "law",
    [
        Categorical(torch.tensor([[1.0, 3.0], [0.0, 1.0]])),
        OneHotCategorical(torch.tensor([[1.0, 3.0], [0.0, 1.0]])),
        Categorical(logits=torch.tensor([[0.25, 0.75], [0.0, 1.0]]).log()),
        igr.DiscreteLaw(torch.tensor([[0.25, 0.75], [0.0, 1.0]]).log()),
    ],
    ids=["categorical", "one-hot", "logits", "discrete law"],
)
def test_probabilities_of_categories_are_taken_as_they_are(law):
    target = as_target(law)
    close(target.probs, [[0.25, 0.75], [0.0, 1.0]], atol=1e-7)
    assert target.tail.tolist() == [0.0, 0.0]
    assert target.description == f"{type(law).__name__}(2 categories)"
    assert as_target(law, num_categories=4).probs[:, 2:].sum() == 0.0


def test_a_discrete_law_in_half_precision_gives_what_it_was_computed_from():
    law = igr.DiscreteLaw(torch.tensor([0.3, 0.7]).log(), dtype=torch.float16)
    close(as_target(law).probs, [0.3, 0.7], atol=1e-7)


def test_the_discrete_law_of_a_relaxation():
    law = igr.InvertibleGaussian(torch.zeros(3), torch.ones(3), 0.5)
    close(as_target(law.discrete()).probs, law.discrete().probs.double(), atol=1e-6)


class Dice(Distribution):
    """A law of a user's own, with a constructor of its own."""

    arg_constraints = {"weights": constraints.simplex}  # noqa: RUF012
    support = constraints.integer_interval(1, 3)

    def __init__(self, *faces):
        self.weights = torch.tensor(faces)
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def log_prob(self, value):
        return self.weights[value.long() - 1].log()


def test_a_law_of_a_users_own():
    target = as_target(Dice(0.5, 0.25, 0.25))
    assert target.probs.tolist() == [0.5, 0.25, 0.25]
    assert target.first == 1


@pytest.mark.parametrize(
    "law",
    [Poisson(0.0), Geometric(1.0), Binomial(0, P), Categorical(torch.ones(1)), [0, 0, 0]],
    ids=["poisson", "geometric", "binomial", "categorical", "samples"],
)
def test_a_certain_value_has_a_category_beside_it(law):
    target = as_target(law)
    assert target.probs.tolist() == [1.0, 0.0]
    assert target.tail == 0.0


@pytest.mark.parametrize("tail_mass", [1e-12, 1e-15, 1e-300])
def test_rounding_does_not_hide_that_a_law_has_ended(tail_mass):
    """The probabilities of this law sum to less than 1 by more than such a tail."""
    target = as_target(Poisson(30_000.0), tail_mass=tail_mass)
    assert target.tail <= tail_mass
    reference = scipy.stats.poisson(30_000)
    K = target.num_categories
    assert reference.sf(K - 1) <= tail_mass * 1.001
    assert reference.sf(K - 3) > tail_mass


# Laws of scipy


@pytest.mark.parametrize("law", cases(SCIPY))
@pytest.mark.parametrize("tail_mass", TAIL_MASSES)
def test_a_countable_law_of_scipy(law, tail_mass):
    if law.dist.name == "zipf" and tail_mass < 1e-6:
        pytest.skip("more than the limit")
    target = as_target(law, tail_mass=tail_mass)
    first, last = target.first, target.first + target.num_categories - 1
    lower = law.support()[0]
    below = law.cdf(first - 1)
    if math.isinf(lower):
        assert below < tail_mass / 2 <= law.cdf(first)
    else:
        assert first == lower
    close(unnormalized(target), law.pmf(values_of(target)))
    close(target.tail, below + law.sf(last))
    assert below + law.sf(last) <= tail_mass
    assert target.num_categories == 2 or below + law.sf(last - 1) > tail_mass


@pytest.mark.parametrize(
    ("law", "first", "size"),
    [
        (scipy.stats.binom(12, 0.3), 0, 13),
        (scipy.stats.randint(2, 9), 2, 7),
        (scipy.stats.hypergeom(20, 7, 12), 0, 8),
        (scipy.stats.rv_discrete(values=([1, 4], [0.25, 0.75])), 1, 4),
        (scipy.stats.rv_discrete(values=([-2, 0], [0.25, 0.75])), -2, 3),
    ],
    ids=["binom", "randint", "hypergeom", "values", "values below zero"],
)
def test_a_finite_law_of_scipy(law, first, size):
    target = as_target(law)
    assert (target.first, target.num_categories) == (first, size)
    close(target.probs, law.pmf(values_of(target)))
    assert target.tail == 0.0


def test_a_batch_of_scipy():
    law = scipy.stats.poisson([3, 40], loc=[0, 2])
    target = as_target(law)
    assert target.first == 0
    close(unnormalized(target), law.pmf(values_of(target)[:, None]).T)
    close(target.tail, law.sf(target.num_categories - 1))


@pytest.mark.skipif(not hasattr(scipy.stats, "Binomial"), reason="scipy has no new-style discrete laws yet")
def test_laws_of_scipy_in_the_new_style():
    target = as_target(scipy.stats.Binomial(n=12, p=0.3))
    close(target.probs, scipy.stats.binom(12, 0.3).pmf(range(13)))
    assert target.description == "Binomial(n=12.0, p=0.3)"
    poisson = scipy.stats.make_distribution(scipy.stats.poisson)(mu=3.0)
    close(as_target(poisson).probs, as_target(Poisson(3.0)).probs)


def test_only_so_many_categories_of_scipy():
    law = scipy.stats.geom(0.2)
    target = as_target(law, num_categories=5)
    assert (target.first, target.num_categories) == (1, 5)
    close(target.tail, law.sf(5))
    law = scipy.stats.skellam(3, 4)
    target = as_target(law, num_categories=12)
    first = as_target(law).first
    assert target.first == first
    close(target.tail, law.cdf(first - 1) + law.sf(first + 11))


# Numbers


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([0.25, 0.75]),
        torch.tensor([0.25, 0.75]).half(),
        torch.tensor([0.25, 0.75], requires_grad=True),
        np.array([0.25, 0.75]),
        np.array([0.75, 0.25], dtype=">f4")[::-1],
        np.array([0.25, 0.75], dtype=np.longdouble),
        [0.25, 0.75],
        (np.float32(0.25), 0.75),
        [torch.tensor(0.25), torch.tensor(0.75)],
    ],
    ids=["tensor", "half", "gradient", "array", "big-endian", "long double", "list", "mixed", "tensors"],
)
def test_probabilities_in_every_form(given):
    target = as_target(given)
    assert target.probs.tolist() == [0.25, 0.75]
    assert target.probs.dtype == torch.float64
    assert not target.probs.requires_grad
    assert (target.first, target.tail.item(), target.description) == (0, 0.0, "2 probabilities")


def test_an_array_that_cannot_be_written_is_read_without_a_warning():
    probs = np.array([0.25, 0.75])
    probs.flags.writeable = False
    assert as_target(probs).probs.tolist() == [0.25, 0.75]


def test_probabilities_are_copied():
    probs = torch.tensor([0.25, 0.75], dtype=torch.float64)
    target = as_target(probs)
    probs.zero_()
    assert target.probs.tolist() == [0.25, 0.75]


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=20))
def test_what_float32_rounds_is_normalized(weights):
    probs = torch.tensor(weights)
    probs = probs / probs.sum()
    target = as_target(probs.expand(3, 2, -1))
    assert target.description == f"3 x 2 x {len(weights)} probabilities"
    assert target.batch_shape == target.tail.shape == (3, 2)
    close(target.probs.sum(-1), torch.ones(3, 2), atol=1e-15)
    close(target.probs[0, 0], probs.double(), atol=1e-6)


@given(st.lists(st.integers(-20, 30), min_size=1, max_size=50))
def test_samples_are_counted(samples):
    target = as_target(samples)
    low = min([0, *samples])
    counts = np.bincount(np.array(samples) - low, minlength=2)
    assert target.first == low
    close(target.probs, counts / len(samples))
    assert target.tail == 0.0


@pytest.mark.parametrize(
    "samples",
    [
        torch.tensor([0, 2, 2, 3]),
        torch.tensor([0, 2, 2, 3], dtype=torch.uint8),
        np.array([0, 2, 2, 3], dtype=np.uint64),
        np.array([0, 2, 2, 3], dtype=">i2"),
        (0, 2, 2, 3),
        [np.int64(0), 2, 2, 3],
    ],
    ids=["tensor", "bytes", "unsigned", "big-endian", "tuple", "mixed"],
)
def test_samples_in_every_form(samples):
    target = as_target(samples)
    assert target.probs.tolist() == [0.25, 0.0, 0.5, 0.25]
    assert target.description == "4 samples"


def test_integers_are_samples_even_where_they_could_be_probabilities():
    assert as_target([0, 1, 0]).probs.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert as_target([0.0, 1.0, 0.0]).probs.tolist() == [0.0, 1.0, 0.0]


def test_samples_beyond_the_categories_are_the_tail():
    target = as_target([-1, 0, 0, 10**12], num_categories=4)
    assert target.first == -1
    assert target.tail == 0.25
    close(target.probs, [1 / 3, 2 / 3, 0.0, 0.0])
    assert as_target([1, 1], num_categories=5).probs.tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]


def test_the_largest_number_of_categories_of_samples():
    assert as_target([MAX_CATEGORIES - 1]).num_categories == MAX_CATEGORIES


# The target itself


def test_a_target_passes_through():
    target = as_target([0.25, 0.75])
    assert as_target(target) is target
    assert as_target(target, num_categories=3).probs.tolist() == [0.25, 0.75, 0.0]


@given(K=st.integers(2, 30), smaller=st.integers(2, 30))
def test_cutting_twice_is_cutting_once(K, smaller):
    once = as_target(Poisson(9.0), num_categories=min(K, smaller))
    twice = as_target(Poisson(9.0), num_categories=K).with_num_categories(smaller)
    close(twice.probs[: once.num_categories], once.probs)
    close(twice.tail, once.tail)
    assert twice.num_categories == smaller
    assert (twice.probs[once.num_categories :] == 0.0).all()


def test_cutting_a_batch():
    target = as_target([[0.5, 0.25, 0.25], [0.25, 0.75, 0.0]]).with_num_categories(2)
    close(target.probs, [[2 / 3, 1 / 3], [0.25, 0.75]])
    assert target.tail.tolist() == [0.25, 0.0]


@pytest.mark.parametrize(
    "law", [Poisson(50.0), Poisson(torch.tensor([[1.0], [9.0]])), [-3, 4], [0.1] * 10], ids=str
)
def test_a_target_goes_through_json_to_the_last_bit(law):
    target = as_target(law)
    back = Target.from_json(json.loads(json.dumps(target.to_json())))
    assert torch.equal(back.probs, target.probs)
    assert torch.equal(back.tail, target.tail)
    assert (back.first, back.description) == (target.first, target.description)


JSON = as_target([0.25, 0.75]).to_json()


@pytest.mark.parametrize(
    ("values", "error", "sentence"),
    [
        ([1], TypeError, "expected a dict; got list"),
        ({"probs": [1.0]}, ValueError, "expected the keys probs, tail, first and description"),
        (JSON | {"probs": "abc"}, TypeError, "expected probs and tail to be lists of numbers; got 'abc'"),
        (JSON | {"probs": [1.0]}, ValueError, "expected probs of at least 2 categories"),
        (JSON | {"tail": [0.0]}, ValueError, r"got shapes \(2,\) and \(1,\)"),
        (JSON | {"probs": [0.5, 0.6]}, ValueError, "expected probs to sum to 1"),
        (JSON | {"tail": -0.1}, ValueError, "expected tail to lie between 0 and 1; got -0.1"),
        (JSON | {"tail": math.nan}, ValueError, "expected tail to lie between 0 and 1; got nan"),
        (JSON | {"first": 0.5}, TypeError, "expected first to be an int; got 0.5"),
    ],
    ids=["kind", "keys", "text", "short", "shapes", "sum", "negative tail", "nan tail", "first"],
)
def test_what_is_no_target_of_json(values, error, sentence):
    with pytest.raises(error, match=rf"^Target.from_json: .*{sentence}"):
        Target.from_json(values)


@pytest.mark.parametrize(
    ("law", "description"),
    [
        (Poisson(50.0), "Poisson(rate=50)"),
        (Binomial(12, P), "Binomial(total_count=12, probs=0.3)"),
        (Bernoulli(logits=LOGIT), "Bernoulli(logits=-0.4)"),
        (Poisson(torch.tensor([1.0, 2.5])), "Poisson(rate=[1, 2.5])"),
        (Poisson(torch.ones(5)), "Poisson(rate=<shape (5,)>)"),
        (
            MixtureSameFamily(Categorical(torch.ones(2)), Poisson(torch.ones(2))),
            "MixtureSameFamily(2 x Poisson)",
        ),
        (scipy.stats.binom(12, 0.3), "binom(12, 0.3)"),
        (scipy.stats.poisson(5, loc=2), "poisson(5, loc=2)"),
        (
            scipy.stats.poisson(np.arange(1, 60)),
            "poisson([ 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 2...)",
        ),
        (scipy.stats.rv_discrete(values=([0, 1], [0.5, 0.5])), "rv_sample"),
        (scipy.stats.rv_discrete(values=([0, 1], [0.5, 0.5]), name="coin"), "coin"),
        ([0] * 1000, "1,000 samples"),
        ([3], "1 sample"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_descriptions(law, description):
    assert as_target(law).description == description


# Errors


class Silent(Distribution):
    """Says no support."""

    arg_constraints = {}  # noqa: RUF012


class Unended(Dice):
    def __init__(self):
        super().__init__(0.5, 0.25, 0.25)
        self.support = type("BelowOnly", (constraints.Constraint,), {"is_discrete": True})()


THREE = torch.zeros(3)
KINDS = {
    "text": ("abc", "expected probabilities, integer samples, or a law over integers .* got 'abc'; pass"),
    "none": (None, "got None; pass one such as torch.distributions.Poisson"),
    "number": (0.5, "got 0.5; pass"),
    "dict": ({1: 2}, r"got \{1: 2\}; pass"),
    "class of torch": (Poisson, "got <class .*Poisson'>; pass"),
    "bool": ([True, False], r"expected probabilities .* got bool in \[True, False\]; convert"),
    "bool tensor": (torch.tensor([True]), "got a tensor of torch.bool; use"),
    "complex tensor": (torch.tensor([1j]), "got a tensor of torch.complex64; use"),
    "strings": (["a", "b"], "got <U1 in"),
    "ragged": ([[0.5, 0.5], [1.0]], "expected numbers in rows of one length; got .* fill"),
    "huge ints": ([10**30], "got object in"),
    "normal": (Normal(0.0, 1.0), "expected a law over integers; got Normal, which is continuous; pass"),
    "multinomial": (Multinomial(3, torch.ones(2)), r"got Multinomial, whose draws are of shape \(2,\); pass"),
    "independent": (Independent(Poisson(torch.ones(2)), 1), r"got Independent, whose draws .* \(2,\); pass"),
    "relaxation": (igr.GumbelSoftmax(0.5, THREE), r"got GumbelSoftmax, .* pass its discrete\(\) law"),
    "no support": (Silent(validate_args=False), "got Silent, which does not say its support; give"),
    "no lower end": (Unended(), "expected a law over integers with a lower end; got Unended"),
    "normal of scipy": (scipy.stats.norm(0, 1), r"got norm\(0, 1\), which is continuous; pass"),
    "unfrozen normal": (scipy.stats.norm, "got norm, which is continuous"),
    "histogram": (scipy.stats.rv_histogram(([1, 2], [0, 1, 2])), "which is continuous"),
    "unfrozen": (scipy.stats.poisson, "with its parameters; got poisson without; give them"),
}
if hasattr(scipy.stats, "Binomial"):
    KINDS["class of scipy"] = (scipy.stats.Binomial, "with its parameters; got Binomial without; give them")
    KINDS["new normal"] = (scipy.stats.Normal(), r"got StandardNormal\(\), which is continuous")
VALUES = {
    "negative": ([-0.5, 1.5], "expected probs to be at least 0 and finite; got -0.5"),
    "nan": ([math.nan, 1.0], "expected probs to be at least 0 and finite; got nan"),
    "infinite": ([math.inf, 1.0], "expected probs to be at least 0 and finite; got inf"),
    "sum": ([0.5, 0.6], "expected probs to sum to 1; got a sum of 1.1; divide by the sum"),
    "one probability": ([1.0], r"at least 2 categories in the last dimension; got shape \(1,\); give"),
    "scalar": (torch.tensor(0.5), r"at least 2 categories in the last dimension; got shape \(\)"),
    "float samples": (
        torch.tensor([3.0, 0.0, 4.0]),
        r"got whole numbers of dtype float32; if .* use .long\(\)",
    ),
    "empty list": ([], r"expected probabilities or at least one sample; got none \(shape \(0,\)\); pass"),
    "empty probabilities": (torch.empty(0, 3), r"got none \(shape \(0, 3\)\)"),
    "no samples": (torch.tensor([], dtype=torch.long), "at least one sample; got none"),
    "rows of samples": (
        [[1, 2], [3, 4]],
        r"samples \(integers\) in one dimension; got shape \(2, 2\); flatten",
    ),
    "one integer": (torch.tensor(3), r"samples \(integers\) in one dimension; got shape \(\)"),
    "far samples": (
        [1, MAX_CATEGORIES],
        "within 100,000 consecutive values.*; got some from 0 to 100,000; shift",
    ),
    "low samples": ([-MAX_CATEGORIES, 0], "got some from -100,000 to 0; shift"),
    "unsigned": (np.array([2**63], dtype=np.uint64), "to 9,223,372,036,854,775,808; shift"),
    "no law": (Poisson(torch.ones(0)), r"expected at least one law; got a batch of shape \(0,\)"),
    "no categorical": (Categorical(torch.ones(0, 2)), r"at least one law; got a batch of shape \(0,\)"),
    "no law of scipy": (scipy.stats.poisson([]), r"at least one law; got a batch of shape \(0,\)"),
    "far law": (
        Poisson(2e5),
        r"all but 1e-06 \(tail_mass\) of Poisson\(rate=200000\) to lie within 100,000 .* got 1 ",
    ),
    "flat law": (Geometric(1e-6), "got 0.905 outside of them; give a larger tail_mass, or num_categories"),
    "long law": (Binomial(10**6, torch.tensor(0.5)), "within 100,000 values; got 1 outside"),
    "heavy tail": (scipy.stats.zipf(1.5), r"of zipf\(1.5\) to lie .* got 0.00242 outside of them; give"),
    "nan parameter": (
        Poisson(torch.tensor(math.nan), validate_args=False),
        r"at least 0 and finite; got nan; check",
    ),
    "nan logits": (Categorical(logits=torch.tensor([math.nan, 0.0]), validate_args=False), "finite; got nan"),
    "unnormalized": (Dice(0.5, 0.25, 0.5), r"to sum to 1; got a sum of 1.25; pass a law over integers"),
    "parameter of scipy": (
        scipy.stats.poisson(-1),
        r"poisson\(-1\) to have a support of integers; got .* nan; check",
    ),
    "halves": (scipy.stats.poisson(3, loc=0.5), "support of integers; got one that ends at 0.5"),
    "between integers": (
        scipy.stats.rv_discrete(values=([0, 1.5, 3], [0.25] * 2 + [0.5])),
        "a sum of 0.75; pass",
    ),
}
SETTINGS = {
    "tail zero": ({"tail_mass": 0}, ValueError, "expected 0 < tail_mass < 1; got 0.0; give"),
    "tail one": ({"tail_mass": 1.0}, ValueError, "expected 0 < tail_mass < 1; got 1.0"),
    "tail nan": ({"tail_mass": math.nan}, ValueError, "expected 0 < tail_mass < 1; got nan"),
    "tail text": ({"tail_mass": "a"}, TypeError, "expected tail_mass to be a number; got 'a'"),
    "one category": ({"num_categories": 1}, ValueError, "expected num_categories of at least 2; got 1"),
    "float": ({"num_categories": 2.0}, TypeError, "expected num_categories to be an int; got 2.0"),
    "bool": ({"num_categories": True}, TypeError, "expected num_categories to be an int; got True"),
}
NOTHING = {
    "poisson": (
        Poisson(5000.0),
        r"of Poisson\(rate=5000\) from 0 to 19; got none; give a larger num_categories",
    ),
    "batch": (Poisson(torch.tensor([5.0, 5000.0])), "got none in 1 of 2 laws"),
    "scipy": (scipy.stats.poisson(5000), r"of poisson\(5000\) from 0 to 19; got none"),
    "samples": ([30, 40], "of 2 samples from 0 to 19; got none"),
    "probabilities": ([0.0] * 20 + [1.0], "of 21 probabilities from 0 to 19; got none"),
}


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert re.fullmatch(r"fit: expected .*; got .*\.", text), text


@pytest.mark.parametrize(("given", "sentence"), cases(KINDS))
def test_other_kinds(given, sentence):
    with pytest.raises(TypeError, match=sentence) as error:
        as_target(given)
    assert_one_sentence(error)


@pytest.mark.parametrize(("given", "sentence"), cases(VALUES))
def test_values_that_no_law_has(given, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        as_target(given)
    assert_one_sentence(error)


@pytest.mark.parametrize(("settings", "error", "sentence"), cases(SETTINGS))
@pytest.mark.parametrize("law", [Poisson(3.0), [0.5, 0.5], [1, 2]], ids=["law", "probabilities", "samples"])
def test_settings_out_of_range(settings, error, sentence, law):
    with pytest.raises(error, match=sentence) as raised:
        as_target(law, **settings)
    assert str(raised.value).startswith("fit: ")


@pytest.mark.parametrize(("given", "sentence"), cases(NOTHING))
def test_no_mass_within_the_categories(given, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        as_target(given, num_categories=20)
    assert_one_sentence(error)


def test_errors_name_their_owner():
    with pytest.raises(TypeError, match=r"^uniform_prior: expected"):
        as_target(None, owner="uniform_prior")
    with pytest.raises(
        ValueError, match=r"^Target.with_num_categories: expected num_categories of at least 2"
    ):
        as_target([0.5, 0.5]).with_num_categories(1)
    with pytest.raises(ValueError, match=r"^Target.with_num_categories: .* from 0 to 1; got none"):
        as_target([0.0, 0.0, 1.0]).with_num_categories(2)


def test_scipy_is_not_loaded():
    code = "import sys, igr.fitting.targets as t; t.as_target([0.5, 0.5]); print('scipy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
