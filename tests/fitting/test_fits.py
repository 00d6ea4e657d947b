"""Fits of relaxations to discrete laws: exact where they claim it, honest where not, and their errors."""

import functools
import json
import math
import re

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.distributions import Binomial, Geometric, Poisson

import igr
from cases import TEN, generator, tensor
from igr.fitting import Fit, as_target, fit
from igr.fitting.families import FAMILIES
from igr.fitting.objectives import OBJECTIVES

PAIRS = [(family, method) for family, found in FAMILIES.items() for method in found.methods]
# For what does not depend on the space of the sticks; length space is the dearer one.
SOME = [(family, method) for family, method in PAIRS if family != "igr-sb" or method == "newton"]
EXACT = [(family, method) for family, method in PAIRS if method in ("closed_form", "newton")]
# As few as a test of anything but the result needs.
SHORT = {"relaxed": {"num_iterations": 3, "num_samples": 50}, "gradient": {"num_iterations": 3}}
THREE = tensor(0.2, 0.3, 0.5)


def quick(target, family, method, **options):
    # Sticks as wide as this have a start that is close.
    scale = {"scale": 3.0} if family.startswith("igr-sb") else {}
    return fit(target, family, method=method, **{**SHORT.get(method, {}), **scale, **options})


def dirichlet(count, num_categories):
    weight = -torch.rand(count, num_categories, dtype=torch.float64, generator=generator("dirichlet")).log()
    return weight / weight.sum(-1, keepdim=True)


def same(one, other):
    """Whether two fits are, but for their times."""
    assert one.to_json() | {"seconds": 0} == other.to_json() | {"seconds": 0}


# What is reached


@pytest.mark.parametrize(("family", "method"), EXACT)
def test_an_exact_method_reaches_the_ten_category_law(family, method):
    found = fit(TEN, family, method=method)
    assert found.converged
    assert found.kl < 1e-14
    assert found.total_variation < 1e-10
    assert found.num_draws is None
    assert found.standard_error is None
    assert found.num_categories == 10 + (family == "igr-sb")


@pytest.mark.parametrize(
    ("family", "method"),
    [
        pytest.param(f, m, marks=[pytest.mark.slow] if f.startswith("igr-sb") and m == "gradient" else [])
        for f, m in PAIRS
        if (f, m) not in EXACT
    ],
)
def test_adam_comes_near_the_ten_category_law(family, method):
    settings = {"num_iterations": 150}
    if method == "relaxed":
        settings = {"num_iterations": 60, "num_samples": 500, "temperature": 0.1, "learning_rate": 0.1}
    found = quick(TEN, family, method, generator=generator(family), **settings)
    assert found.converged
    # The mean of relaxed samples is another law, which they miss by more than their noise.
    assert found.total_variation < (0.01 if method == "gradient" else 0.12)
    start = 0.5 * (found.start_probs - found.target.probs).abs().sum()
    assert found.total_variation < 0.7 * start
    assert found.history[-1] < 0.2 * found.history[0]


def test_a_thousand_laws_at_once():
    probs = dirichlet(1000, 10)
    found = fit(probs)
    assert found.converged.all()
    assert found.total_variation.max() < 1e-10
    assert found.kl.max() < 1e-14
    assert found.parameters["loc"].shape == (1000, 9)


TARGETS = {
    "list": [0.2, 0.3, 0.5],
    "array": np.array([0.2, 0.3, 0.5]),
    "poisson": Poisson(1.0),
    "batch of binomials": Binomial(5, torch.tensor([0.3, 0.6])),
    "scipy": scipy.stats.binom(5, 0.3),
    "samples": [0, 2, 2, 1, 3, 0, 0],
    "target": as_target(Geometric(torch.tensor(0.8))),
    "discrete law": igr.InvertibleGaussian(torch.zeros(3), 1.0, 0.5).discrete(),
}


@pytest.mark.parametrize("family", ["gumbel-softmax", "igr", "igr-sb", "igr-sb-log"])
@pytest.mark.parametrize("name", TARGETS)
def test_every_kind_of_target(name, family):
    found = quick(TARGETS[name], family, None)
    expected = as_target(TARGETS[name])
    assert found.converged.all()
    K = expected.num_categories
    assert found.num_categories in (K, K + 1)
    torch.testing.assert_close(found.probs[..., :K], expected.probs, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.tail, expected.tail)
    assert (found.total_variation <= found.tail + 1e-9).all()


@pytest.mark.parametrize("family", ["igr", "igr-sb", "igr-sb-log"])
def test_scales_of_newton_are_those_given(family):
    # Not a number of float32.
    scale = 0.7
    found = fit(THREE, family, scale=scale)
    assert (found.parameters["scale"] == scale).all()
    assert found.total_variation < 1e-9
    mixed = fit(THREE, family, scale=torch.linspace(0.5, 2.0, found.num_categories - 1))
    assert mixed.converged
    assert mixed.total_variation < 1e-9


def test_a_probability_of_zero():
    holes = [0.0, 0.4, 0.0, 0.6, 0.0]
    for family, least in (("gumbel-softmax", 1e-14), ("igr", 1e-14), ("igr-sb", 1e-9), ("igr-sb-log", 1e-9)):
        found = fit(holes, family)
        assert found.converged
        assert found.total_variation < least
        assert math.isfinite(found.kl)
        assert all(torch.isfinite(value).all() for value in found.parameters.values())


# Tails


@pytest.mark.parametrize("family", ["gumbel-softmax", "igr", "igr-sb", "igr-sb-log"])
def test_the_total_variation_is_that_from_the_whole_law(family):
    law = scipy.stats.poisson(4)
    found = fit(law, family, num_categories=8)
    K = found.num_categories
    kept = 7 if family == "igr-sb" else 8
    assert K == 8
    assert found.tail.item() == pytest.approx(law.sf(kept - 1), rel=1e-9)
    p = torch.as_tensor(law.pmf(range(K)))
    p[kept:] = 0.0  # those are in the tail
    by_hand = 0.5 * ((p - found.probs).abs().sum() + law.pmf(range(kept, 200)).sum())
    assert found.total_variation.item() == pytest.approx(by_hand.item(), rel=1e-9)
    assert found.total_variation.item() == pytest.approx(found.tail.item(), rel=1e-6)
    assert found.kl < 1e-9  # which is from what is kept


def test_twenty_categories_hold_nearly_nothing_of_poisson_50():
    found = fit(Poisson(50.0), "gumbel-softmax", num_categories=20)
    tail = scipy.stats.poisson(50).sf(19)
    assert tail > 0.999
    assert found.tail.item() == pytest.approx(tail, abs=1e-12)
    assert found.total_variation.item() == pytest.approx(tail, abs=1e-12)


def test_a_smaller_tail_mass_takes_more_categories():
    few, many = fit(Poisson(5.0), tail_mass=1e-2), fit(Poisson(5.0), tail_mass=1e-8)
    assert few.num_categories < many.num_categories
    assert many.total_variation < 1e-8 < few.total_variation < 1e-2


def test_more_categories_than_the_law_has():
    found = fit(THREE, "igr", num_categories=5)
    assert found.probs.shape == (5,)
    assert found.probs[3:].max() < 1e-14
    assert found.total_variation < 1e-13


# Objectives

P = np.array([[0.2, 0.3, 0.5, 0.0], [0.1, 0.0, 0.2, 0.7], [0.25, 0.25, 0.25, 0.25]])
Q = np.array([[0.1, 0.6, 0.3, 0.0], [0.2, 0.1, 0.3, 0.4], [0.25 + 1e-9, 0.25 - 1e-9, 0.25, 0.25]])
SCIPY = {
    "kl": lambda p, q: scipy.special.rel_entr(p, q).sum(-1),
    "reverse_kl": lambda p, q: scipy.special.rel_entr(q, p).sum(-1),
    "squared_error": lambda p, q: ((p - q) ** 2).sum(-1),
    "total_variation": lambda p, q: 0.5 * np.abs(p - q).sum(-1),
}


@pytest.mark.parametrize("name", SCIPY)
def test_objectives_are_those_of_scipy(name):
    assert set(SCIPY) == set(OBJECTIVES)
    found = OBJECTIVES[name](torch.from_numpy(P), torch.from_numpy(Q))
    assert found.tolist() == pytest.approx(SCIPY[name](P, Q).tolist(), rel=1e-12, abs=1e-15)
    assert OBJECTIVES[name](torch.from_numpy(P), torch.from_numpy(P)).tolist() == [0.0, 0.0, 0.0]


def test_entropies_of_scipy():
    # Its reverse of the second row is infinite: q has what p has not.
    kl = [scipy.stats.entropy(p, q) for p, q in zip(P[:2], Q[:2], strict=True)]
    assert OBJECTIVES["kl"](torch.from_numpy(P[:2]), torch.from_numpy(Q[:2])).tolist() == pytest.approx(kl)
    assert OBJECTIVES["reverse_kl"](torch.from_numpy(P[1]), torch.from_numpy(Q[1])).item() == math.inf


def test_nothing_cancels_near_zero():
    """KL = sum d^2 / (2 p) for p + d with a small d, where a difference of logarithms has no digit left."""
    p, d = torch.full((4,), 0.25, dtype=torch.float64), 2.0**-34 * tensor(1.0, -1.0, 1.0, -1.0)
    for name in ("kl", "reverse_kl"):
        assert OBJECTIVES[name](p, p + d).item() == pytest.approx((d**2 / (2 * p)).sum().item(), rel=1e-6)


@pytest.mark.parametrize("name", SCIPY)
def test_slopes_of_objectives(name):
    """By finite differences, and finite where probabilities are zero."""
    logits = torch.randn(2, 4, dtype=torch.float64, generator=generator("slopes")).requires_grad_()
    p = dirichlet(2, 4)
    assert torch.autograd.gradcheck(lambda x: OBJECTIVES[name](p, torch.softmax(x, -1)), (logits,))
    with_zeros = torch.from_numpy(P if name != "reverse_kl" else P[[0, 2]])
    q = torch.from_numpy(Q if name != "reverse_kl" else Q[[0, 2]]).requires_grad_()
    OBJECTIVES[name](with_zeros, q).sum().backward()
    assert torch.isfinite(q.grad).all()


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "squared_error", "total_variation"])
def test_every_objective_leads_to_the_law(name):
    found = fit(THREE, "igr", method="gradient", objective=name, num_iterations=100)
    assert found.objective == name
    assert found.total_variation < 0.05
    exact = fit(THREE, "igr", objective=name)
    assert exact.history[-1] < 1e-12
    assert torch.equal(exact.parameters["loc"], fit(THREE, "igr").parameters["loc"])


# A fit as a function


# Not "relaxed": there the laws of a batch share a stream of noise.
@pytest.mark.parametrize(("family", "method"), [pair for pair in SOME if pair[1] != "relaxed"])
def test_a_batch_is_its_laws_one_by_one(family, method):
    batch = dirichlet(4, 4).view(2, 2, 4)
    together = quick(batch, family, method)
    assert together.probs.shape[:2] == together.converged.shape == together.kl.shape == (2, 2)
    for i, j in ((0, 0), (1, 0), (1, 1)):
        alone = quick(batch[i, j], family, method)
        torch.testing.assert_close(together.probs[i, j], alone.probs, rtol=0, atol=1e-9)
        for name, value in alone.parameters.items():
            torch.testing.assert_close(together.parameters[name][i, j], value, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("family", "method"), SOME)
def test_a_generator_is_the_only_source(family, method):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = quick(THREE, family, method, generator=generator("source"))
    other = quick(THREE, family, method, generator=generator("source"))
    assert torch.equal(torch.get_rng_state(), state)
    same(one, other)
    if method == "relaxed":
        assert not torch.equal(quick(THREE, family, method, generator=generator("2")).history, one.history)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference"])
@pytest.mark.parametrize(("family", "method"), SOME)
def test_contexts_make_no_difference(family, method, context):
    expected = quick([0.2, 0.3, 0.5], family, method, generator=generator("context"))
    with context():
        given = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
        found = quick(given, family, method, generator=generator("context"))
    assert found.parameters.keys() == expected.parameters.keys()
    for name, value in found.parameters.items():
        assert torch.equal(value, expected.parameters[name])
        assert not value.is_inference()
    assert torch.equal(found.history, expected.history)


@pytest.mark.parametrize(("family", "method"), SOME)
def test_the_default_dtype_makes_no_difference(family, method):
    narrow = quick([0.2, 0.3, 0.5], family, method, generator=generator("dtype"))
    try:
        torch.set_default_dtype(torch.float64)
        wide = quick([0.2, 0.3, 0.5], family, method, generator=generator("dtype"))
        assert wide.distribution(0.5).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert narrow.distribution(0.5).dtype == torch.float32
    for value in (*narrow.parameters.values(), narrow.probs, narrow.history, narrow.start_probs):
        assert value.dtype == torch.float64
    torch.testing.assert_close(narrow.probs, wide.probs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("family", "method"), SOME)
def test_no_graph_is_kept(family, method):
    found = quick(
        THREE.clone().requires_grad_(),
        family,
        method,
        **({} if family == "gumbel-softmax" else {"scale": torch.full((1,), 3.0, requires_grad=True)}),
    )
    tensors = (*found.parameters.values(), found.probs, found.start_probs, found.history, found.kl)
    assert not any(value.requires_grad for value in tensors)


def test_the_target_that_was_given_is_not_written_to():
    given = THREE.clone()
    found = fit(given, "gumbel-softmax")
    found.target.probs.zero_()
    assert torch.equal(given, THREE)


# What a fit is


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_its_distribution_has_its_law(family, method):
    found = quick(dirichlet(2, 4), family, method, generator=generator("law"))
    law = found.distribution(0.3, torch.float64, "cpu")
    assert law.batch_shape == (2,)
    assert law.num_categories == found.num_categories
    assert law.temperature == 0.3
    if found.num_draws is None:
        torch.testing.assert_close(law.discrete().probs, found.probs, rtol=0, atol=1e-12)
        return
    assert found.num_draws == 100_000
    share = law.discrete("monte_carlo", num_samples=100_000, generator=generator("share")).probs
    z = (share - found.probs) / (math.sqrt(2.0) * found.standard_error)
    assert z.abs().max() < 5


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "igr-planar"])
def test_descents_start_at_the_uniform_law(family):
    for method in ("gradient", "relaxed"):
        found = quick(THREE, family, method, scale=None if family == "gumbel-softmax" else 2.5)
        free = found.num_categories - (family == "igr-sb")
        expected = torch.full((free,), 1.0 / free, dtype=torch.float64)
        torch.testing.assert_close(found.start_probs[:free], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_history(family, method):
    found = quick(dirichlet(3, 4), family, method)
    assert found.history.shape == (found.num_iterations, 3)
    assert found.num_iterations == {"closed_form": 0, "newton": found.num_iterations}.get(method, 3)
    if method == "newton":
        first, last = (OBJECTIVES["kl"](found.target.probs, p) for p in (found.start_probs, found.probs))
        torch.testing.assert_close(found.history[0], first, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.history[-1], last, rtol=0, atol=1e-9)
    if method == "gradient":
        first = OBJECTIVES["kl"](found.target.probs, found.start_probs)
        torch.testing.assert_close(found.history[0], first, rtol=0, atol=1e-9)
        assert (found.history[-1] < found.history[0]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_relaxed_objective_falls(family):
    settings = {"num_samples": 100, "num_iterations": 20, "learning_rate": 0.1, "temperature": 0.2}
    found = quick(TEN, family, "relaxed", generator=generator("falls"), **settings)
    assert found.history[-5:].mean() < 0.8 * found.history[:3].mean()


def test_scales_are_fitted_where_asked():
    for method, asked, moves in (
        ("relaxed", None, True),
        ("relaxed", False, False),
        ("gradient", None, False),
        ("gradient", True, True),
    ):
        found = quick(THREE, "igr", method, fit_scale=asked)
        assert bool((found.parameters["scale"] == 1.0).all()) is not moves
    sticks = quick(THREE, "igr-sb-log", "gradient", fit_scale=True)
    assert (sticks.parameters["scale"] != 1.0).all()
    assert fit(THREE, "igr", fit_scale=False).converged


def test_slopes_of_sticks_are_those_of_autograd():
    """Of the descent with scales fixed, whose backward pass is its own."""
    own = fit(THREE, "igr-sb-log", method="gradient", scale=3.0, num_iterations=3, learning_rate=0.1)
    start = fit(THREE.new_full((3,), 1 / 3), "igr-sb-log", scale=3.0).parameters["loc"]
    loc = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([loc], lr=0.1)
    for expected in own.history:
        law = igr.InvertibleGaussian(loc, 3.0, 1.0, igr.LogisticStickBreakingTransform("log"))
        loss = OBJECTIVES["kl"](THREE, law.discrete().probs)
        assert expected.item() == pytest.approx(loss.item(), rel=1e-8)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(own.parameters["loc"], loc.detach(), rtol=0, atol=1e-8)


def test_a_step_too_long_is_said():
    with pytest.raises(ValueError, match=r"keep all parameters finite, and scales positive; got others with"):
        fit(THREE, "igr", method="gradient", fit_scale=True, learning_rate=1e4, num_iterations=5)


def test_a_law_without_a_slope_is_not_converged(monkeypatch):
    """An objective that is infinite for the first law leaves it where it is, and the other goes on."""
    monkeypatch.setitem(
        OBJECTIVES, "kl", lambda p, q: torch.where(p[..., 0] > 0.5, torch.inf, 1.0) * q[..., 0]
    )
    found = fit([[0.9, 0.1], [0.1, 0.9]], "igr", method="gradient", num_iterations=3)
    assert found.converged.tolist() == [False, True]
    assert torch.isfinite(found.parameters["loc"]).all()
    assert "not converged: 1 of 2" in repr(found)


# Files


@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
@pytest.mark.parametrize(("family", "method"), SOME)
def test_json_keeps_every_bit(family, method, batch, tmp_path):
    found = quick(dirichlet(2, 3) if batch else THREE, family, method, generator=generator("json"))
    found.save(tmp_path / "fit.json")
    for back in (Fit.from_json(json.loads(json.dumps(found.to_json()))), Fit.load(tmp_path / "fit.json")):
        assert back.to_json() == found.to_json()
        for name in ("probs", "start_probs", "history", "converged", "tail", "kl", "total_variation"):
            assert torch.equal(getattr(back, name), getattr(found, name)), name
            assert getattr(back, name).dtype == getattr(found, name).dtype
        assert repr(back) == repr(found)
    assert [path.name for path in tmp_path.glob("*.json")] == ["fit.json"]


def test_an_objective_that_cannot_be_finite_is_refused_by_newton_too():
    with pytest.raises(ValueError, match="expected a target without zeros for the objective reverse_kl"):
        fit([0.5, 0.5, 0.0], "igr", objective="reverse_kl")
    # The last category of length space is reached by no law, and does not count.
    assert torch.isfinite(fit([0.5, 0.5], "igr-sb", objective="reverse_kl").history).all()


DAMAGE = {
    "other format": {"format": 2},
    "no family": {"family": "dirichlet"},
    "a family that is a list": {"family": ["igr"]},
    "no method": {"method": "relax"},
    "no objective": {"objective": "hinge"},
    "no target": {"target": None},
    "no parameters": {"parameters": {}},
    "parameters of another size": {"parameters": {"loc": [0.0], "scale": [1.0]}},
    "a scale of zero": {"parameters": {"loc": [0.0, 0.0], "scale": [1.0, 0.0]}},
    "text for numbers": {"probs": "none"},
    "negative probabilities": {"probs": [0.5, -0.5, 1.0]},
    "no law": {"start_probs": [0.5, 0.6, 0.7]},
    "rows of two lengths": {"probs": [[0.5, 0.5], [1.0]]},
    "a law of another size": {"probs": [0.5, 0.5]},
    "a history of another shape": {"history": [[0.1, 0.2]]},
    "a history of nothing": {"history": 1.0},
    "half a draw": {"num_draws": 0.5},
    "a time that is none": {"seconds": "long"},
    "too many flags": {"converged": [True, True]},
    "a number that no float comes near to": {"probs": [10**400, 0.5, 0.5]},
    "a time that no float comes near to": {"seconds": 10**400},
    "lists in lists": {"probs": functools.reduce(lambda inner, _: [inner], range(70), 0.5)},
    "many categories of nothing": {"start_probs": ["x" * 100_000]},
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_one_sentence(name, tmp_path):
    values = fit(THREE, "igr").to_json() | DAMAGE[name]
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(values))
    with pytest.raises(
        ValueError, match=r"^Fit.load: expected a file that Fit.save .* make it anew\.$"
    ) as error:
        Fit.load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1_000
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\ufeff{}", '{"format": 1}', "[" * 100_000])
def test_a_file_of_something_else(text, tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^Fit.load: expected a file that Fit.save"):
        Fit.load(path)


def test_every_missing_key_is_said():
    whole = fit(THREE, "igr").to_json()
    for key in whole:
        with pytest.raises(ValueError, match=r"^Fit.from_json: expected"):
            Fit.from_json({name: value for name, value in whole.items() if name != key})


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        Fit.load(tmp_path / "none.json")
    with pytest.raises(OSError, match="No such file"):
        fit(THREE, "igr").save(tmp_path / "no" / "folder.json")


def test_repr_is_a_line():
    found = fit(Poisson(2.0), "igr-sb-log", scale=3.0)
    assert re.fullmatch(
        r"Fit\(igr-sb-log to Poisson\(rate=2\), num_categories=13, method=newton, kl=\S+, "
        r"total_variation=\S+, tail=\S+, num_iterations=\d+\)",
        repr(found),
    )
    assert "batch_shape=(2,)" in repr(fit(dirichlet(2, 3), "igr"))


# Errors

VALUE_ERRORS = {
    "negative": (([0.5, -0.1, 0.6],), {}, "expected probs to be at least 0 and finite; got -0.1"),
    "nan": (([0.5, math.nan],), {}, "expected probs to be at least 0 and finite; got nan"),
    "sum": (([0.5, 0.6],), {}, "expected probs to sum to 1"),
    "no samples": (([],), {}, "at least one sample; got none"),
    "no laws": ((torch.empty(0, 3),), {}, "got none"),
    "family": ((THREE, "gumbel"), {}, "expected family to be one of gumbel-softmax, igr, .*; got 'gumbel'"),
    "family of lists": ((THREE, ["igr"]), {}, r"expected family to be one of .*; got \['igr'\]"),
    "objective": ((THREE,), {"objective": "js"}, "expected objective to be one of kl, .*; got 'js'"),
    "method": ((THREE,), {"method": "sgd"}, "one of newton, gradient, relaxed for the family igr; got 'sgd'"),
    "no newton": ((THREE, "igr-planar"), {"method": "newton"}, "one of relaxed for the family igr-planar"),
    "temperature": (
        (THREE,),
        {"temperature": 0.1},
        "no temperature for the family igr and the method newton",
    ),
    "samples of newton": ((THREE,), {"num_samples": 10}, "expected no num_samples"),
    "iterations of newton": ((THREE,), {"num_iterations": 10}, "expected no num_iterations"),
    "rate of newton": ((THREE,), {"learning_rate": 0.1}, "expected no learning_rate"),
    "scales of newton": ((THREE,), {"fit_scale": True}, "expected no fit_scale"),
    "temperature of the gradient": ((THREE,), {"method": "gradient", "temperature": 1.0}, "no temperature"),
    "scale of logits": ((THREE, "gumbel-softmax"), {"scale": 1.0}, "no scale for the family gumbel-softmax"),
    "scale of two": ((TEN,), {"scale": torch.ones(2)}, r"expected scale to broadcast against \(9,\)"),
    "scale of a batch": ((THREE,), {"scale": torch.ones(4, 2)}, r"broadcast against \(2,\)"),
    "negative scale": ((THREE,), {"scale": -1.0}, "expected scale to be positive and finite; got -1.0"),
    "infinite scale": ((THREE,), {"scale": math.inf}, "expected scale to be positive and finite; got inf"),
    "cold": (
        (THREE,),
        {"method": "relaxed", "temperature": 0.0},
        "temperature to be positive and finite; got 0.0",
    ),
    "hot": (
        (THREE,),
        {"method": "relaxed", "temperature": math.inf},
        "temperature to be positive and finite",
    ),
    "rate": (
        (THREE,),
        {"method": "gradient", "learning_rate": -1.0},
        "learning_rate to be positive and finite",
    ),
    "no steps": (
        (THREE,),
        {"method": "gradient", "num_iterations": 0},
        "num_iterations of at least 1; got 0",
    ),
    "no draws": ((THREE,), {"method": "relaxed", "num_samples": 0}, "num_samples of at least 1; got 0"),
    "one category": ((THREE,), {"num_categories": 1}, "num_categories of at least 2; got 1"),
    "two lengths": (
        (THREE, "igr-sb"),
        {"num_categories": 2},
        "num_categories of at least 3 for igr-sb, since",
    ),
    "tail mass": ((Poisson(2.0),), {"tail_mass": 0.0}, "expected 0 < tail_mass < 1; got 0.0"),
    "nothing kept": (([0.0, 0.0, 1.0],), {"num_categories": 2}, "expected some of the mass"),
    "infinite objective": (
        ([0.5, 0.5, 0.0],),
        {"method": "gradient", "objective": "reverse_kl"},
        "a target without zeros for the objective reverse_kl",
    ),
}
TYPE_ERRORS = {
    "text": (("poisson",), {}, "expected probabilities, integer samples, or a law over integers"),
    "continuous": ((torch.distributions.Normal(0.0, 1.0),), {}, "Normal, which is continuous"),
    "scale": ((THREE,), {"scale": "wide"}, "expected scale to be a number or a tensor; got 'wide'"),
    "categories": ((THREE,), {"num_categories": 2.5}, "expected num_categories to be an int; got 2.5"),
    "steps": (
        (THREE,),
        {"method": "gradient", "num_iterations": 1.5},
        "num_iterations to be an int; got 1.5",
    ),
    "rate": (
        (THREE,),
        {"method": "gradient", "learning_rate": "0.1"},
        "learning_rate to be a number; got '0.1'",
    ),
    "fit_scale": ((THREE,), {"method": "gradient", "fit_scale": "no"}, "fit_scale to be a bool; got 'no'"),
    "generator": ((THREE,), {"generator": 3}, "generator to be a Generator; got 3"),
}


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_value_errors(name):
    arguments, options, message = VALUE_ERRORS[name]
    with pytest.raises(ValueError, match=rf"^fit: .*{message}") as error:
        fit(*arguments, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TYPE_ERRORS)
def test_type_errors(name):
    arguments, options, message = TYPE_ERRORS[name]
    with pytest.raises(TypeError, match=rf"^fit: .*{message}"):
        fit(*arguments, **options)


def test_numbers_are_checked_before_anything_is_computed(monkeypatch):
    def no(*_, **__):
        raise AssertionError

    monkeypatch.setattr("igr.fitting.fits.as_target", no)
    monkeypatch.setattr("igr.fitting.fits.start_parameters", no)
    for options in ({"num_iterations": 0}, {"num_samples": 0}, {"learning_rate": 0.0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            fit(Poisson(50.0), "igr-sb", method="relaxed", **options)


def test_a_tracer_is_refused():
    with pytest.raises(NotImplementedError, match="no tracer can follow"):
        torch.func.vmap(lambda p: fit(p).probs)(dirichlet(2, 3))
