"""The law of the longest piece on shared meshes: against the plain form on a fine mesh of each law's own."""

import pytest
import torch

from cases import generator
from igr.kernels import stick_breaking_law as kernel
from igr.kernels import stick_breaking_law_mesh as mesh
from igr.kernels import stick_breaking_law_shared as shared
from igr.kernels.stick_breaking_law import Mesh, longest_piece_log_probs, longest_piece_probs

SPACES = pytest.mark.parametrize("in_lengths", [False, True], ids=["log", "length"])


def laws(n):
    """Five laws [5, n]: means alike or wide, or so far out that pieces are certain; scales equal or mixed."""
    source = generator(f"shared {n}")
    start = -torch.log(torch.arange(n, 0, -1, dtype=torch.float64))
    loc = start + torch.randn(5, n, dtype=torch.float64, generator=source)
    scale = 0.3 * 10.0 ** torch.rand(5, n, dtype=torch.float64, generator=source)
    loc[0], scale[0] = start, 1.0
    loc[1], scale[1] = 3.0 * loc[1], 0.3
    scale[2] = 3.0
    loc[3, ::2] = torch.where(torch.arange(len(loc[3, ::2])) % 2 == 0, -30.0, 30.0)
    # In length space something has to be above the lowest threshold.
    loc[3, -1] = 0.0
    if n == 1:
        scale[2] = 1.0
    return loc, scale


def edges(loc, value=0.0):
    return torch.full_like(loc[:, :1], value)


def groups_of(loc, scale, edge, in_lengths, dtype=torch.float64):
    return shared.shared_groups(loc, scale, edge, in_lengths, kernel._PRECISION[dtype].shared)


def fast(loc, scale, edge, in_lengths, dtype=torch.float64):
    return kernel._on_shared_meshes(loc, scale, edge, in_lengths, kernel._PRECISION[dtype])


def with_slopes(form, loc, scale, edge, weight):
    """Probabilities [N, K], and the slopes of their weighted sum; what form does not depend on has none."""
    leaves = [t.clone().requires_grad_() for t in (loc, scale, edge)]
    probs = form(*leaves)
    slopes = torch.autograd.grad((probs * weight).sum(), leaves, materialize_grads=True, allow_unused=True)
    return probs.detach(), *slopes


def weights(loc):
    return torch.randn(len(loc), loc.shape[1] + 1, dtype=torch.float64, generator=generator("weights"))


def plain(in_lengths, num_points=80, num_nodes=80):
    return lambda *law: longest_piece_probs(*law, in_lengths, Mesh(num_points, num_nodes))


def assert_close(found, expected, *tolerances):
    for one, other, tolerance in zip(found, expected, tolerances, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@SPACES
@pytest.mark.parametrize("num_categories", [2, 3, 10, 30, 50])
def test_law_and_slopes_are_those_of_the_plain_form(num_categories, in_lengths):
    loc, scale = laws(num_categories - 1)
    if num_categories > 10:  # the plain form takes its time
        loc, scale = loc[1:4], scale[1:4].clamp_min(0.3 if num_categories < 50 else 0.5)
    size = (80, 80) if num_categories <= 10 else (64, 56)
    edge, weight = edges(loc), weights(loc)
    expected = with_slopes(plain(in_lengths, *size), loc, scale, edge, weight)
    for dtype, tolerances in (
        # The plain form neglects 1e-10 of every piece, and counts on a threshold in length space.
        (torch.float64, (3e-9, 2e-8, 6e-8)),
        (torch.float32, (2e-7, 2e-6, 4e-6)),
    )[num_categories // 50 :]:
        groups, rest = groups_of(loc, scale, edge, in_lengths, dtype)
        # In float64 thirty pieces and scales as small as 0.3 are too much.
        assert len(rest) <= (2 if num_categories > 10 and dtype == torch.float64 else 0)
        rows = torch.cat([group.chosen for group in groups])
        law = [t[rows] for t in (loc, scale, edge)]
        found = with_slopes(lambda *law, dtype=dtype: fast(*law, in_lengths, dtype), *law, weight[rows])
        assert_close(found[:3], [t[rows] for t in expected[:3]], *tolerances)
        assert_close(found[:1], (fast(*law, in_lengths, dtype),), 1e-7)  # without a slope for c


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@SPACES
def test_probabilities_sum_to_one(in_lengths, dtype):
    for n in (1, 9, 19):
        loc, scale = laws(n)
        total = fast(loc, scale, edges(loc), in_lengths, dtype).sum(-1)
        tolerance = 1e-7 if dtype == torch.float32 else 2e-9
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=tolerance)


@SPACES
def test_small_probabilities_are_right_in_float32(in_lengths):
    loc, scale = laws(9)
    single = longest_piece_log_probs(loc.float(), scale.float(), in_lengths=in_lengths)
    # Of the rounded parameters, on a fine mesh.
    expected = plain(in_lengths)(loc.float().double(), scale.float().double(), edges(loc))
    seen = expected > 1e-6
    assert single.dtype == torch.float32
    assert ((single.double().exp() / expected)[seen] - 1.0).abs().max() < 1e-3


def test_thresholds_and_their_slopes_are_those_of_the_plain_form():
    loc, scale = laws(4)
    scale = scale.clamp_min(0.5)
    edge = torch.tensor([[0.0], [-1.5], [0.7], [2.4], [-3.2]], dtype=torch.float64)
    assert len(groups_of(loc, scale, edge, False)[1]) == 0
    expected = with_slopes(plain(False), loc, scale, edge, weights(loc))
    found = with_slopes(lambda *law: fast(*law, False), loc, scale, edge, weights(loc))
    assert_close(found, expected, 3e-9, 2e-8, 6e-8, 2e-8)
    assert (found[3].abs() > 1e-2).sum() == 2
    torch.testing.assert_close(fast(loc, scale, edge, False), expected[0], rtol=0, atol=3e-9)


@pytest.mark.parametrize("edge", [690.0, -690.0, float("nan")])
def test_thresholds_that_no_mesh_has_are_left_to_the_plain_form(edge):
    loc, scale = laws(4)
    groups, rest = groups_of(loc, scale, edges(loc, edge), False)
    assert not groups
    assert sorted(rest.tolist()) == [0, 1, 2, 3, 4]


def test_two_categories_in_log_space_are_igr():
    loc = torch.tensor([[-30.0], [-4.0], [0.0], [3.0], [30.0]], dtype=torch.float64)
    for scale in (0.1, 1.0, 7.0, 100.0):
        found = fast(loc, torch.full_like(loc, scale), edges(loc), False)
        assert len(groups_of(loc, torch.full_like(loc, scale), edges(loc), False)[1]) == 0
        expected = torch.special.ndtr(torch.cat([loc, -loc], -1) / scale)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def narrow_among_others():
    """Laws of which the second one and the last one are for no mesh."""
    loc, scale = laws(4)
    scale[1], scale[4, 2] = 0.12, 0.11
    loc[4, 2] = -1.0
    return loc, scale


@SPACES
def test_narrow_laws_and_others_in_one_batch(in_lengths):
    loc, scale = narrow_among_others()
    assert sorted(groups_of(loc, scale, edges(loc), in_lengths)[1].tolist()) == [1, 4]
    expected = with_slopes(
        lambda *law: kernel._in_chunks(*law, in_lengths, kernel._PRECISION[torch.float64], None),
        *(loc, scale, edges(loc), weights(loc)),
    )
    found = with_slopes(lambda *law: fast(*law, in_lengths), loc, scale, edges(loc), weights(loc))
    assert_close(found[:3], expected[:3], 3e-9, 1e-7, 1e-6)


def test_narrow_pieces_that_meet_no_node_do_not_matter():
    """A certain piece, one that takes nothing, and pieces that are hardly there, as narrow as can be."""
    loc = torch.tensor([[9.0, -0.5, 0.3], [-20.0, 0.5, 0.1], [-40.0, -0.5, 0.2]], dtype=torch.float64)
    scale = torch.tensor([[1e-3, 1.0, 1.0], [1e-6, 0.7, 1.0], [1e-3, 1.0, 0.4]], dtype=torch.float64)
    assert len(groups_of(loc, scale, edges(loc), False)[1]) == 0
    found = with_slopes(lambda *law: fast(*law, False), loc, scale, edges(loc), weights(loc))
    assert found[0][0, 0].item() == pytest.approx(1.0, abs=1e-9)
    rest = plain(False)(loc[1:, 1:], scale[1:, 1:], edges(loc)[1:])
    torch.testing.assert_close(found[0][1:, 1:], rest, rtol=0, atol=1e-8)
    assert all(torch.isfinite(slope).all() for slope in found)


@SPACES
def test_second_derivatives_are_those_of_the_plain_form(in_lengths):
    loc, scale = (t[:2].requires_grad_() for t in laws(3))

    def curvature(form):
        probs = form(loc, scale, edges(loc).detach())[:, :3]
        slopes = torch.autograd.grad((probs * probs).sum(), (loc, scale), create_graph=True)
        return torch.autograd.grad(sum(slope.square().sum() for slope in slopes), (loc, scale))

    found = curvature(lambda *law: fast(*law, in_lengths))
    assert_close(found, curvature(plain(in_lengths)), 1e-6, 1e-5)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(shared, "_CHUNK", 2), (shared, "_KEPT", 0), (shared, "_FEW", 1), (mesh, "_MOST_KEPT", 0)],
)
def test_how_laws_are_grouped_and_what_is_kept_do_not_matter(module, name, value, monkeypatch):
    loc, scale = narrow_among_others()
    expected = with_slopes(lambda *law: fast(*law, False), loc, scale, edges(loc, 0.3), weights(loc))
    monkeypatch.setattr(module, name, value)
    found = with_slopes(lambda *law: fast(*law, False), loc, scale, edges(loc, 0.3), weights(loc))
    assert_close(found, expected, 1e-9, 1e-8, 3e-8, 1e-8)


def test_a_graph_that_is_kept_gives_the_same_slopes_again():
    loc, scale = laws(9)
    leaf = loc.requires_grad_()
    total = (longest_piece_log_probs(leaf, scale).exp() * weights(loc)).sum()
    (first,) = torch.autograd.grad(total, leaf, retain_graph=True)
    (again,) = torch.autograd.grad(total, leaf)
    assert torch.equal(first, again)


def test_what_is_no_number_is_left_to_the_plain_form():
    loc, scale = laws(4)
    loc[1, 2], scale[3, 0] = torch.nan, torch.inf
    for in_lengths in (False, True):
        assert sorted(groups_of(loc, scale, edges(loc), in_lengths)[1].tolist()) == [1, 3]
