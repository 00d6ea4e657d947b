"""Means of IGR-SB for a given law: the law comes back, and what does not is said not to."""

import pytest
import scipy.stats
import torch
from torch.distributions import Binomial, Geometric, NegativeBinomial, Poisson

import igr
from cases import TEN, generator, tensor
from igr import LogisticStickBreakingTransform as Sticks
from igr.fitting import as_target
from igr.kernels import stick_breaking_law as kernel
from igr.kernels import stick_breaking_law_inverse as inverse
from igr.kernels.stick_breaking_law import (
    Mesh,
    longest_piece_law_and_jacobian,
    longest_piece_log_probs,
    longest_piece_probs,
    longest_piece_probs_and_jacobian,
)
from igr.kernels.stick_breaking_law_inverse import stick_loc_for_probs

SPACES = pytest.mark.parametrize("in_lengths", [False, True], ids=["log", "length"])
SCALES = pytest.mark.parametrize(
    "scale", [pytest.param(1.0, marks=pytest.mark.slow), 3.0, pytest.param(5.0, marks=pytest.mark.slow)]
)


def dirichlet(count, num_categories, key="dirichlet"):
    """Of concentration one: exponential variables over their sum."""
    weight = -torch.rand(count, num_categories, dtype=torch.float64, generator=generator(key)).log()
    return weight / weight.sum(-1, keepdim=True)


def rows_of(law):
    """[N, K] of anything that a fit takes."""
    probs = as_target(law).probs
    return probs.reshape(-1, probs.shape[-1])


# A uniform mixture is one with holes.
LAWS = {
    "dirichlet": dirichlet(10, 6),
    "ten": TEN,
    "binomial": Binomial(12, torch.tensor(0.3)),
    "geometric": Geometric(torch.tensor(0.7)),
    "uniform": torch.full((10,), 0.1, dtype=torch.float64),
    "uniform mixture": 0.5 * scipy.stats.randint(0, 8).pmf(range(14))
    + 0.5 * scipy.stats.randint(6, 14).pmf(range(14)),
}
LONG = {
    "poisson": Poisson(50.0),
    "negative binomial": NegativeBinomial(50.0, torch.tensor(0.6, dtype=torch.float64)),
}
HOLES = {
    "middle": (0.3, 0.0, 0.0, 0.45, 0.25),
    "first": (0.0, 0.0, 0.6, 0.3, 0.1),
    "last": (0.2, 0.5, 0.3, 0.0, 0.0),
    "alternating": (0.0, 0.5, 0.0, 0.5, 0.0),
    "certain first": (1.0, 0.0, 0.0),
    "certain middle": (0.0, 1.0, 0.0),
    "certain last": (0.0, 0.0, 1.0),
}


def solve(law, scale, in_lengths, observe=None):
    """The solution, the law that it has by the other kernel, and what was asked for, all [N, K]."""
    probs = rows_of(law)
    if in_lengths:
        probs = torch.nn.functional.pad(probs, (0, 1))
    scale = torch.as_tensor(scale, dtype=torch.float64).expand(len(probs), probs.shape[-1] - 1)
    found = stick_loc_for_probs(probs, scale, in_lengths, observe)
    reached = longest_piece_log_probs(found.loc, scale, in_lengths=in_lengths).exp()
    return found, reached, probs


def total_variation(p, q):
    return 0.5 * (p - q).abs().sum(-1).max().item()


# The slopes of the law


@SPACES
@pytest.mark.parametrize("edge", [-1.0, 0.0, 0.5])
@pytest.mark.parametrize("n", [1, 4])
def test_jacobian_is_that_of_autograd(n, edge, in_lengths):
    source = generator(f"jacobian {n}")
    loc = 1.5 * torch.randn(3, n, dtype=torch.float64, generator=source) - 0.5
    scale = 0.3 * 10.0 ** torch.rand(3, n, dtype=torch.float64, generator=source)
    threshold = torch.full((3, 1), edge, dtype=torch.float64)
    mesh = Mesh(24, 24)

    def law(mu):
        return longest_piece_probs(mu, scale, threshold, in_lengths, mesh)

    probs, jacobian = longest_piece_probs_and_jacobian(loc, scale, threshold, in_lengths, mesh)
    torch.testing.assert_close(probs, law(loc), rtol=0, atol=1e-13)
    slopes = torch.autograd.functional.jacobian(law, loc)
    expected = torch.stack([slopes[i, :, i] for i in range(3)])
    assert expected.shape == (3, n + 1, n)
    torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-11)
    # What one category gains the others lose.
    assert jacobian.sum(-2).abs().max() < 1e-4


@SPACES
def test_a_batch_in_chunks_is_the_laws_one_by_one(in_lengths, monkeypatch):
    source = generator("chunks")
    loc = torch.randn(8, 3, dtype=torch.float64, generator=source)
    scale = 0.2 * 25.0 ** torch.rand(8, 3, dtype=torch.float64, generator=source)
    single = [
        longest_piece_law_and_jacobian(m[None], s[None], in_lengths) for m, s in zip(loc, scale, strict=True)
    ]
    for size in (kernel._CHUNK, 1, 5000):
        monkeypatch.setattr(kernel, "_CHUNK", size)
        probs, jacobian = longest_piece_law_and_jacobian(loc, scale, in_lengths)
        assert probs.shape == (8, 4)
        assert jacobian.shape == (8, 4, 3)
        # Laws in one chunk share the finer of their rules.
        torch.testing.assert_close(probs, torch.cat([p for p, _ in single]), rtol=0, atol=1e-9)
        torch.testing.assert_close(jacobian, torch.cat([j for _, j in single]), rtol=0, atol=1e-8)


def test_the_law_and_its_slopes_keep_no_graph():
    loc = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    probs, jacobian = longest_piece_law_and_jacobian(loc, torch.ones_like(loc), False)
    assert not probs.requires_grad
    assert not jacobian.requires_grad


def test_scales_that_no_mesh_resolves_are_refused():
    probs = tensor(0.2, 0.3, 0.5).unsqueeze(0)
    with pytest.raises(NotImplementedError, match="no exact law of stick-breaking is known for scales"):
        stick_loc_for_probs(probs, torch.full((1, 2), 1e-4, dtype=torch.float64), False)


# The law comes back


@SPACES
@pytest.mark.parametrize(
    ("name", "scale"),
    [
        pytest.param(
            name, scale, marks=[] if (name, scale) == ("ten", 1.0) or scale == 3.0 else [pytest.mark.slow]
        )
        for name in LAWS
        for scale in (1.0, 3.0, 5.0)
    ],
)
def test_the_law_comes_back(name, scale, in_lengths):
    found, reached, probs = solve(LAWS[name], scale, in_lengths)
    assert found.converged.all()
    assert total_variation(reached, probs) < 1e-9


@pytest.mark.parametrize(
    ("name", "scale", "in_lengths"),
    [
        pytest.param(name, scale, in_lengths, marks=[] if usual else [pytest.mark.slow])
        for name in LONG
        for scale in (0.5, 1.0, 3.0, 5.0)
        for in_lengths in (False, True)
        for usual in [(name, scale, in_lengths) == ("poisson", 3.0, True)]
        if scale >= 1.0 or name == "poisson"
    ],
)
def test_a_long_law_comes_back(name, scale, in_lengths):
    found, reached, probs = solve(LONG[name], scale, in_lengths)
    assert probs.shape[-1] >= 80
    assert found.converged.all()
    assert total_variation(reached, probs) < 1e-9


def test_the_two_conventions_of_the_negative_binomial():
    ours = as_target(LONG["negative binomial"]).probs
    theirs = torch.as_tensor(scipy.stats.nbinom(50, 0.4).pmf(range(len(ours))))
    torch.testing.assert_close(ours, theirs / theirs.sum(), rtol=0, atol=1e-12)


@SPACES
@SCALES
@pytest.mark.parametrize("name", HOLES)
def test_a_law_with_zeros_comes_back(name, scale, in_lengths):
    found, reached, probs = solve(tensor(*HOLES[name]), scale, in_lengths)
    assert found.converged.all()
    assert torch.isfinite(found.loc).all()
    assert total_variation(reached, probs) < 1e-9
    assert reached[probs == 0].max() < 1e-10


@SPACES
def test_scales_of_each_category(in_lengths):
    n = 5 + in_lengths
    spread = torch.rand(5, n, dtype=torch.float64, generator=generator("scales"))
    found, reached, probs = solve(dirichlet(5, 6, "of scales"), 0.3 * 10.0**spread, in_lengths)
    assert found.converged.all()
    assert total_variation(reached, probs) < 1e-9


@SPACES
def test_narrow_scales_are_reached_from_wider_ones(in_lengths):
    found, reached, probs = solve(TEN[:6] / TEN[:6].sum(), 0.3, in_lengths)
    assert found.converged.all()
    assert total_variation(reached, probs) < 1e-9


def test_two_pieces_in_log_space_are_the_closed_form():
    """The one piece wins if its logit is above zero: mu = sigma Phi^-1(p)."""
    share = tensor(1e-6, 0.3, 0.5, 0.999).unsqueeze(-1)
    scale = tensor(0.5, 1.0, 3.0, 10.0).unsqueeze(-1)
    found = stick_loc_for_probs(torch.cat([share, 1 - share], -1), scale, False)
    assert found.converged.all()
    torch.testing.assert_close(found.loc, scale * torch.special.ndtri(share), rtol=0, atol=1e-6)


@SPACES
@pytest.mark.parametrize("scale", [0.5, pytest.param(0.2, marks=pytest.mark.slow)])
def test_rare_categories_are_reached_at_narrow_scales(scale, in_lengths):
    """Their means have to come along with the scales: too many deviations away they have no slope."""
    weight = dirichlet(10, 6, "rare") ** 6
    rare = weight / weight.sum(-1, keepdim=True)
    assert rare.min() < 1e-6
    found, reached, probs = solve(rare, scale, in_lengths)
    assert found.converged.all()
    assert total_variation(reached, probs) < 1e-9
    seen = probs > 1e-8
    assert (reached / probs - 1)[seen].abs().max() < 1e-2


def test_the_category_that_cannot_win_is_not_looked_at():
    probs = torch.tensor([[0.2, 0.3, 0.5, 0.0], [0.2, 0.3, 0.5, 7.0]], dtype=torch.float64)
    loc = stick_loc_for_probs(probs, torch.full((2, 3), 2.0, dtype=torch.float64), True).loc
    assert torch.equal(loc[0], loc[1])
    assert (loc[:, -1] == 6.0).all()  # 3 sigma


@SPACES
def test_a_batch_is_its_laws_one_by_one(in_lengths):
    probs = dirichlet(4, 4, "batch")
    together, _, _ = solve(probs, 2.0, in_lengths)
    for row, loc in zip(probs, together.loc, strict=True):
        alone, _, _ = solve(row, 2.0, in_lengths)
        torch.testing.assert_close(alone.loc[0], loc, rtol=0, atol=1e-8)


def test_no_laws_have_no_means():
    found = stick_loc_for_probs(torch.empty(0, 4), torch.empty(0, 3), False)
    assert found.loc.shape == (0, 3)
    assert found.converged.shape == (0,)


@SPACES
def test_what_is_observed_ends_at_the_solution(in_lengths):
    seen = {}

    def observe(index, probs):
        assert index.shape == probs.shape[:1]
        for law, row in zip(index.tolist(), probs, strict=True):
            seen.setdefault(law, []).append(row)

    found, reached, probs = solve(dirichlet(4, 5, "observed"), 1.0, in_lengths, observe)
    assert set(seen) == {0, 1, 2, 3}
    for law, rows in seen.items():
        # One of the last two: a step that brings nothing is not kept.
        errors = [(row - reached[law]).abs().max().item() for row in rows[-2:]]
        assert min(errors) < 1e-9
        assert total_variation(rows[0], probs[law]) > 1e-6
    unseen, _, _ = solve(dirichlet(4, 5, "observed"), 1.0, in_lengths)
    assert torch.equal(unseen.loc, found.loc)


def test_what_is_not_reached_is_said(monkeypatch):
    """We know of no such law, so Newton's method is stopped short; one beside it is not held up."""
    monkeypatch.setattr(inverse, "_STEPS", 1)
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.3, 0.0, 0.7], [0.0, 1.0, 0.0]], dtype=torch.float64)
    scale = torch.full((3, 2), 3.0, dtype=torch.float64)
    found = stick_loc_for_probs(probs, scale, False)
    assert found.converged.tolist() == [False, False, True]
    assert torch.isfinite(found.loc).all()
    reached, _ = longest_piece_law_and_jacobian(found.loc, scale, False)
    assert 1e-9 < total_variation(reached[:2], probs[:2]) < 0.2
    assert total_variation(reached[2:], probs[2:]) < 1e-9


@SPACES
@SCALES
def test_draws_have_the_law(scale, in_lengths):
    """Of the distribution itself, which knows nothing of the kernel."""
    found, _, probs = solve(TEN, scale, in_lengths)
    count, n = 200_000, found.loc.shape[-1]
    law = igr.InvertibleGaussian(
        found.loc[0], torch.full((n,), scale), 1e-3, Sticks("length" if in_lengths else "log")
    )
    winner = law.rsample_log((count,), generator(f"draws {scale} {in_lengths}")).argmax(-1)
    share = torch.bincount(winner, minlength=n + 1) / count
    kept = probs[0] > 0
    z = (share - probs[0])[kept] / torch.sqrt(probs[0] * (1 - probs[0]) / count)[kept]
    assert z.abs().max() < 5
    assert share[~kept].sum() == 0


@pytest.mark.parametrize("in_lengths", [False, True], ids=["log", "length"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_many_zeros_do_not_count_as_an_error(place, in_lengths):
    # Each of their pieces loses a little of the sum of the law, which is not one of its shape.
    some, none = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    probs = torch.cat([none, some] if place == "before" else [some, none])
    goal = torch.cat([probs, none[:1]]) if in_lengths else probs
    steps = []
    found = stick_loc_for_probs(
        goal[None],
        torch.full((1, len(goal) - 1), 3.0, dtype=torch.float64),
        in_lengths,
        lambda index, law: steps.append(index),
    )
    assert bool(found.converged)
    assert len(steps) <= 6
