"""The law of the longest piece: against nested quadrature of another recursion, draws, and closed forms.

The reference here goes the other way round, by the law of the longest of the *later* pieces, which has kinks:
with B_k = max(log sigmoid(y_k), B_(k+1) - softplus(y_k)) and B_(n+1) = c,
P(k) = int N(y_k) P(A_(k-1) < log sigmoid(y)) P(B_(k+1) < y) dy.
"""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_expit, logit
from scipy.stats import norm

from cases import generator
from igr.kernels import stick_breaking
from igr.kernels import stick_breaking_law as kernel
from igr.kernels.stick_breaking_law import longest_piece_log_probs

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
SPACES = pytest.mark.parametrize("in_lengths", [False, True], ids=["log", "length"])
# Towards zero from below, where a logit changes without bound while the logarithm of its piece hardly does.
LAYERS = tuple(-(10.0**-j) for j in range(1, 14))


def integrate(function, mean, deviation, low, high, kinks=()):
    """Of function(y) N(y) over [low, high], in panels that end at the kinks; the function takes arrays."""
    low, high = max(low, mean - 9 * deviation), min(high, mean + 9 * deviation)
    if low >= high:
        return 0.0
    inside = [k for k in kinks if low < k < high]
    count = math.ceil((high - low) / min(deviation, 0.5))
    edges = np.unique(np.concatenate([np.linspace(low, high, count + 1), inside]))
    half = 0.5 * np.diff(edges)[:, None]
    y = (edges[:-1, None] + half * (1 + NODES)).ravel()
    weight = (half * WEIGHTS).ravel() * norm.pdf(y, mean, deviation)
    return float(weight @ function(y))


def logit_of_gap(gap):
    """The y with softplus(y) = gap; minus infinity where there is none."""
    with np.errstate(all="ignore"):
        return np.where(gap > 0, np.log(np.expm1(np.minimum(np.abs(gap), 700.0))), -np.inf)


class Nested:
    """The law of at most three pieces."""

    def __init__(self, loc, scale, edge, in_lengths):
        self.loc, self.scale, self.n = loc, scale, len(loc)
        self.edge = -math.inf if in_lengths else edge

    def normal(self, k):
        return self.loc[k - 1], self.scale[k - 1]

    def lead(self, k, x):
        """P(A_k < x) for an array."""
        if k == 0:
            return np.ones_like(x)
        if k == 1:
            return norm.cdf(x, *self.normal(1))
        return np.array(
            [
                integrate(
                    lambda y, v=v: self.lead(k - 1, v - np.logaddexp(0, y)), *self.normal(k), -np.inf, v
                )
                for v in x
            ]
        )

    def later(self, k, x):
        """P(B_k < x) for an array."""
        if k == self.n + 1:
            return (x > self.edge).astype(float)
        with np.errstate(divide="ignore"):
            end = np.where(x < 0, logit(np.exp(np.minimum(x, 0.0))), np.inf)
        if k == self.n:  # both conditions in closed form: softplus(y) > edge - x and log sigmoid(y) < x
            start = logit_of_gap(self.edge - x)
            return np.maximum(0.0, norm.cdf(end, *self.normal(k)) - norm.cdf(start, *self.normal(k)))
        # The argument passes the ends of the support of B_(k+1).
        kinks = [logit_of_gap(g) for g in (-x, log_expit(self.edge) - x, self.edge - x)]
        return np.array(
            [
                integrate(
                    lambda y, v=v: self.later(k + 1, v + np.logaddexp(0, y)),
                    *self.normal(k),
                    -np.inf,
                    e,
                    (*(float(g[i]) for g in kinks), *LAYERS),
                )
                for i, (v, e) in enumerate(zip(x, end, strict=True))
            ]
        )

    def probs(self):
        support = -math.log(2 + math.exp(min(700.0, -self.edge)))
        layers = (*LAYERS, *(self.edge + d for d in LAYERS))
        kinks = (*layers, 0.0, self.edge, log_expit(self.edge), support)
        found = [
            integrate(
                lambda y, k=k: self.lead(k - 1, log_expit(y)) * self.later(k + 1, y),
                *self.normal(k),
                -np.inf,
                np.inf,
                kinks,
            )
            for k in range(1, self.n + 1)
        ]
        last = self.lead(self.n, np.array([self.edge])).item() if math.isfinite(self.edge) else 0.0
        return [*found, last]


def law(loc, scale, threshold=0.0, in_lengths=False, **settings):
    loc, scale = (torch.as_tensor(t, dtype=torch.float64) for t in (loc, scale))
    return longest_piece_log_probs(loc, scale, threshold=threshold, in_lengths=in_lengths, **settings).exp()


HARD = {
    "usual": ((0.3, -0.8, 0.2), (1.0, 0.7, 1.3)),
    "narrow": ((-1.0, -0.6, 0.1), (0.2, 0.3, 0.25)),
    "mixed": ((0.5, -1.5, 1.0), (0.3, 4.0, 0.8)),
    "far": ((-6.0, -5.0, -5.5), (1.0, 1.0, 1.0)),
    "sure": ((-2.0, 9.0, 0.0), (1.0, 0.5, 1.0)),
}


@SPACES
@pytest.mark.parametrize("edge", [0.0, -1.5, 0.7])
@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("size", [1, 2])
def test_law_of_few_pieces_is_that_of_the_other_recursion(size, name, edge, in_lengths):
    loc, scale = (values[:size] for values in HARD[name])
    expected = Nested(loc, scale, edge, in_lengths).probs()
    assert sum(expected) == pytest.approx(1.0, abs=1e-9)
    assert law(loc, scale, edge, in_lengths).tolist() == pytest.approx(expected, abs=2e-9)


@SPACES
def test_law_of_three_pieces_is_that_of_the_other_recursion(in_lengths):
    loc, scale = HARD["usual"]
    expected = Nested(loc, scale, 0.0, in_lengths).probs()
    # What the reference itself is good for: it sums to one to 1e-8.
    assert sum(expected) == pytest.approx(1.0, abs=1e-8)
    assert law(loc, scale, 0.0, in_lengths).tolist() == pytest.approx(expected, abs=1e-8)


def drawn(loc, scale, edge, in_lengths, count, key):
    """How often each category wins."""
    source, n = generator(key), loc.shape[-1]
    counts = torch.zeros(n + 1, dtype=torch.float64)
    for _ in range(0, count, 100_000):
        y = loc + scale * torch.randn(100_000, n, dtype=torch.float64, generator=source)
        if in_lengths:
            winner = stick_breaking.log_lengths(y).argmax(-1)
        else:
            winner = torch.nn.functional.pad(stick_breaking.log_ratios(y), (0, 1), value=edge).argmax(-1)
        counts += torch.bincount(winner, minlength=n + 1)
    return counts


def worst_z(counts, probs):
    """The largest z-score over the categories, those that expect fewer than 20 pooled."""
    total = counts.sum()
    rare = probs * total < 20
    share = torch.cat([probs[~rare], probs[rare].sum(-1, keepdim=True)])
    seen = torch.cat([counts[~rare], counts[rare].sum(-1, keepdim=True)])
    deviation = torch.sqrt(total * share * (1 - share)).clamp_min(1.0)
    return ((seen - total * share) / deviation).abs().max()


def random_law(index):
    """Parameters of many kinds: categories from 3 to 50, means alike, geometric or wide, scales 0.2 to 5."""
    source = generator(f"law {index}")
    n = (2, 4, 9, 19, 49)[index % 5]
    loc = torch.randn(n, dtype=torch.float64, generator=source)
    start = -torch.log(torch.arange(n, 0, -1, dtype=torch.float64))
    loc = (loc, start + 0.3 * loc, 3.0 * loc)[index % 3]
    low, high = ((0.5, 1.5), (0.2, 5.0), (1.0, 1.0), (0.3, 0.3))[index % 4]
    scale = low * (high / low) ** torch.rand(n, dtype=torch.float64, generator=source)
    return loc, scale


@SPACES
@pytest.mark.parametrize("index", range(6))
def test_law_is_the_frequency_of_the_longest_piece(index, in_lengths):
    loc, scale = random_law(index)
    counts = drawn(loc, scale, 0.0, in_lengths, 200_000, index)
    assert worst_z(counts, law(loc, scale, 0.0, in_lengths)) < 5


@pytest.mark.slow
@SPACES
@pytest.mark.parametrize("index", range(50))
def test_law_is_the_frequency_among_ten_million(index, in_lengths):
    loc, scale = random_law(index)
    edge = (0.0, -1.0, 0.5)[index % 3]
    counts = drawn(loc, scale, edge, in_lengths, 10_000_000, index)
    assert worst_z(counts, law(loc, scale, edge, in_lengths)) < 5


@SPACES
@pytest.mark.parametrize(
    ("n", "tolerance"),
    [
        (2, 1e-6),
        (9, 1e-6),
        pytest.param(49, 1e-6, marks=pytest.mark.slow),
        pytest.param(199, 1e-5, marks=pytest.mark.slow),
    ],
)
def test_precision_of_the_chosen_mesh(n, tolerance, in_lengths):
    """Against twice the points and nodes, for scales alike and mixed; what was measured is far better."""
    source = generator(n)
    start = -torch.log(torch.arange(n, 0, -1, dtype=torch.float64))
    for low, high in ((0.3, 0.3), (1.0, 1.0), (0.3, 3.0), (0.2, 5.0))[: 4 if n < 100 else 2]:
        loc = start + torch.randn(n, dtype=torch.float64, generator=source)
        scale = low * (high / low) ** torch.rand(n, dtype=torch.float64, generator=source)
        finer = law(loc, scale, 0.0, in_lengths, num_nodes=120)
        assert (law(loc, scale, 0.0, in_lengths) - finer).abs().max() < 0.1 * tolerance
        single = longest_piece_log_probs(loc.float(), scale.float(), in_lengths=in_lengths).exp()
        assert (single - finer).abs().max() < 1e-5  # 1e-4 is what is promised


@pytest.mark.parametrize("edge", [0.0, 0.4])
def test_log_space_with_two_categories_is_igr(edge):
    probs = law([0.3], [0.7], edge)
    assert probs[0].item() == pytest.approx(norm.sf(edge, 0.3, 0.7), abs=1e-12)
    assert probs.sum().item() == pytest.approx(1.0, abs=1e-9)


def test_geometric_starts_give_their_law_as_scales_grow():
    """mu_k = sigma Phi^-1(p_k / sum_(j >= k) p_j): every logit is then far from zero, on either side."""
    probs = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
    share = probs / probs.flip(0).cumsum(0).flip(0)
    start = torch.special.ndtri(share[:-1])
    errors = [
        (law(scale * start, torch.full((4,), scale)) - probs).abs().max().item()
        for scale in (2.0, 10.0, 80.0)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


@SPACES
def test_derivatives_are_those_of_differences(in_lengths):
    loc = torch.tensor([[0.3, -0.8, 0.2], [-0.5, 0.1, 1.0]], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([[1.0, 0.7, 1.3], [0.8, 1.1, 0.9]], dtype=torch.float64, requires_grad=True)
    edge = torch.tensor([[0.0], [-0.4]], dtype=torch.float64)

    def entropy(loc, scale, edge):
        log_probs = longest_piece_log_probs(loc, scale, threshold=edge, in_lengths=in_lengths)[..., :3]
        return (log_probs.exp() * log_probs).sum(-1)

    edge.requires_grad_(not in_lengths)
    assert torch.autograd.gradcheck(entropy, (loc, scale, edge), atol=1e-6)
    assert torch.autograd.gradgradcheck(entropy, (loc, scale, edge), atol=1e-5)


def test_pieces_and_chunks_do_not_matter(monkeypatch):
    """Laws of unlike needs in one batch, in any order and in chunks of one, are what each is alone."""
    laws = [random_law(index) for index in (2, 7, 17, 12)]  # all of ten categories
    loc, scale = (torch.stack([pair[i] for pair in laws]) for i in (0, 1))
    together = law(loc, scale)
    for index, pair in enumerate(laws):
        torch.testing.assert_close(law(*pair), together[index], rtol=0, atol=1e-8)
    monkeypatch.setattr(kernel, "_CHUNK", 1)
    torch.testing.assert_close(law(loc, scale), together, rtol=0, atol=1e-8)
    assert law(loc[:0], scale[:0]).shape == (0, 10)


def test_small_probabilities_are_held_and_have_no_gradient():
    loc = torch.tensor([-30.0, 0.0], dtype=torch.float64, requires_grad=True)
    log_probs = longest_piece_log_probs(loc, torch.ones(2, dtype=torch.float64))
    assert log_probs[0].item() == pytest.approx(math.log(1e-11))
    (gradient,) = torch.autograd.grad(log_probs[0], loc)
    assert torch.equal(gradient, torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("loc", "edge", "in_lengths", "expected"),
    [
        ([0.0, 0.0, 0.0], 690.0, False, [0.0, 0.0, 0.0, 1.0]),
        ([30.0, 0.0, 0.0], -690.0, False, [1.0, 0.0, 0.0, 0.0]),
        ([-1e3, -990.0, -1e3], 0.0, True, [0.0, 1.0, 0.0, 0.0]),
        ([100.0, -100.0, 3.0], 0.0, True, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_what_is_certain_is_certain(loc, edge, in_lengths, expected):
    """Thresholds and means at which exponentials overflow."""
    leaf = torch.tensor(loc, dtype=torch.float64, requires_grad=True)
    log_probs = longest_piece_log_probs(
        leaf, torch.ones(3, dtype=torch.float64), threshold=edge, in_lengths=in_lengths
    )
    assert log_probs.exp().tolist() == pytest.approx(expected, abs=1e-9)
    (gradient,) = torch.autograd.grad(log_probs[:3].sum(), leaf)
    assert torch.isfinite(gradient).all()


def test_scales_that_no_mesh_resolves_are_refused():
    with pytest.raises(NotImplementedError, match=r"scales as small as 0\.001.*use method='monte_carlo'"):
        law([0.0, -0.5], [1e-3, 1e-3])
    # A certain piece needs no resolving.
    assert law([9.0, -0.5], [1e-3, 1.0])[0].item() == pytest.approx(1.0, abs=1e-9)


def test_what_is_no_number_leaves_its_neighbours_alone():
    probs = longest_piece_log_probs(torch.tensor([[math.nan, 0.0], [0.0, 0.0]]), torch.ones(2, 2))
    alone = longest_piece_log_probs(torch.zeros(2), torch.ones(2))
    assert probs[0].isnan().any()
    torch.testing.assert_close(probs[1], alone, rtol=0, atol=1e-6)


@SPACES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_under_a_tracer_a_law_is_right_or_no_number(in_lengths, dtype):
    """There the mesh cannot follow the parameters, and what it does not resolve must not pass for a law."""
    start = -torch.log(torch.arange(9, 0, -1, dtype=torch.float64))
    loc = (start + 0.3 * torch.randn(4, 9, dtype=torch.float64, generator=generator("traced"))).to(dtype)
    resolved = {}
    for scale in (1.0, 0.5, 0.3, 0.2, 0.1, 0.02):

        def probs(loc, scale=scale):
            return longest_piece_log_probs(loc, torch.full_like(loc, scale), in_lengths=in_lengths).exp()

        traced = torch.func.vmap(probs)(loc)
        resolved[scale] = torch.isfinite(traced).all(-1)
        if resolved[scale].any():
            error = (traced - law(loc, torch.full_like(loc, scale), 0.0, in_lengths)).abs()
            assert error[resolved[scale]].max() < 1e-5
    assert resolved[1.0].all()
    assert resolved[0.5].all()
    assert not resolved[0.02].any()


def test_too_few_nodes_are_refused():
    with pytest.raises(ValueError, match=r"expected num_nodes to resolve the law; got 16, .* give more\.$"):
        law([0.0, -0.5, -1.0, 0.0, 1.0], [0.02] * 5, num_nodes=16)


def test_an_empty_batch_keeps_its_graph():
    loc = torch.zeros(0, 3, requires_grad=True)
    longest_piece_log_probs(loc, torch.ones(0, 3)).sum().backward()
    assert loc.grad.shape == (0, 3)
