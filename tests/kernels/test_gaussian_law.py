"""The law of the largest of normals and zero, before normalization, against a dense reference."""

import math
import threading

import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import igr
from cases import generator, tracing
from igr.kernels import gaussian_law_pass
from igr.kernels.gaussian_law import (
    maximum_kl,
    maximum_log_probs,
    maximum_log_probs_and_jacobian,
    maximum_log_probs_reference,
)
from igr.kernels.quadrature import nodes_for_maximum
from references import maximum_log_probs as reference

PROMISE = 1e-10  # absolute, in P; 1e-8 where a scale is below 0.2
PROMISE_IN_LOG = 1e-8  # where P > 1e-12


def computed(loc, scale, **options):
    """log P as `discrete` gives it, before normalization, from the default nodes."""
    return igr.InvertibleGaussian(loc, scale, temperature=1.0, **options).discrete().log_probs


def assert_promise(log_probs, expected, absolute=PROMISE, in_log=PROMISE_IN_LOG):
    assert (log_probs.double().exp() - expected.exp()).abs().max().item() < absolute
    visible = expected > math.log(1e-12)
    assert (log_probs - expected)[visible].abs().max().item() < in_log


def mixed(num_categories, reach, narrowest=0.2, seed=0):
    """Means in [-reach, reach], scales spread evenly in log between the narrowest and 5."""
    source = generator((num_categories, reach, narrowest, seed))
    loc = reach * (2.0 * torch.rand(num_categories - 1, dtype=torch.float64, generator=source) - 1.0)
    spread = torch.rand(num_categories - 1, dtype=torch.float64, generator=source)
    return loc, narrowest * (5.0 / narrowest) ** spread


def halves(count, low, high):
    return torch.where(torch.arange(count) < count // 2, low, high).double()


def with_one(values, index, value):
    values = values.clone()
    values[index] = value
    return values


def adversarial(n):
    """Rows that break a mesh that does not know where the law changes: n means and n scales each."""
    zeros, ones = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    ramp = torch.linspace(-1.0, 1.0, n, dtype=torch.float64)
    return {
        "all-equal": (zeros, ones),
        "ramp-one-wide": (ramp, with_one(0.2 * ones, -1, 5.0)),
        "half-narrow": (ramp, halves(n, 0.2, 5.0)),
        "half-narrow-high": (halves(n, 30.0, -30.0), halves(n, 0.2, 5.0)),
        "all-high": (30.0 * ones, 0.2 * ones),
        "all-low": (-30.0 * ones, 5.0 * ones),
        "all-low-narrow": (-30.0 * ones, 0.2 * ones),
        "opposite": (halves(n, 30.0, -30.0), ones),
        "narrow-above-wide": (with_one(zeros, 0, 6.0), with_one(5.0 * ones, 0, 0.2)),
        "narrow-at-threshold": (with_one(zeros, 0, 0.0), with_one(5.0 * ones, 0, 0.2)),
        "narrow-below-threshold": (with_one(zeros, 0, -1.0), with_one(5.0 * ones, 0, 0.2)),
        "narrow-at-edge-of-start": (with_one(zeros, 0, 9.6 * 0.2), with_one(5.0 * ones, 0, 0.2)),
        "narrow-far-above": (with_one(zeros, 0, 30.0), with_one(5.0 * ones, 0, 0.2)),
        "narrow-ramp-in-wide": (30.0 * ramp, with_one(0.2 * ones, 0, 5.0)),
    }


# The reference itself.


def test_reference_with_two_categories_is_the_closed_form():
    for mu, sigma in [(0.3, 0.05), (-4.0, 1.0), (30.0, 5.0), (-1.0, 0.2)]:
        expected = scipy.stats.norm.logcdf([mu / sigma, -mu / sigma])
        found = reference(*(torch.tensor([x], dtype=torch.float64) for x in (mu, sigma)))
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-13, atol=1e-15)


def test_reference_equals_adaptive_quadrature():
    loc, scale = mixed(4, 3.0)
    found = reference(loc, scale)
    normals = [scipy.stats.norm(m, s) for m, s in zip(loc.tolist(), scale.tolist(), strict=True)]
    for k, own in enumerate(normals):
        others = [normal for normal in normals if normal is not own]
        value, _ = scipy.integrate.quad(
            lambda t, own=own, others=others: own.pdf(t) * math.prod(other.cdf(t) for other in others),
            0.0,
            60.0,
            points=[max(0.0, x) for x in loc.tolist()],
            epsabs=1e-13,
            limit=200,
        )
        assert found[k].exp().item() == pytest.approx(value, abs=1e-12)


# Accuracy.


@pytest.mark.parametrize("num_categories", [2, 3, 10, 50, 200])
@pytest.mark.parametrize("reach", [1.0, 5.0, 30.0])
def test_random_laws_keep_the_promise(num_categories, reach):
    repeats = 20 if num_categories <= 10 else 2
    for seed in range(repeats):
        loc, scale = mixed(num_categories, reach, seed=seed)
        assert_promise(computed(loc, scale), reference(loc, scale))


@pytest.mark.parametrize("num_categories", [2, 3, 10, 50, 200])
def test_scales_down_to_one_twentieth(num_categories):
    for reach in (1.0, 30.0):
        loc, scale = mixed(num_categories, reach, narrowest=0.05)
        assert_promise(computed(loc, scale), reference(loc, scale), absolute=1e-8)


@pytest.mark.parametrize("name", adversarial(2))
@pytest.mark.parametrize("num_categories", [3, 10, 50, 200])
def test_adversarial_laws_keep_the_promise(name, num_categories):
    loc, scale = adversarial(num_categories - 1)[name]
    assert_promise(computed(loc, scale), reference(loc, scale))


@pytest.mark.parametrize("num_categories", [2, 10, 50, 200])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_one_scale_for_all_needs_fewer_nodes(num_categories, scale):
    for reach in (1.0, 30.0):
        loc, _ = mixed(num_categories, reach)
        expected = reference(loc, torch.full_like(loc, scale))
        assert_promise(computed(loc, scale), expected)
        found = computed(loc.float(), scale)
        assert (
            found.double().exp() - reference(loc.float().double(), torch.full_like(loc, scale)).exp()
        ).abs().max() < 1e-5


@pytest.mark.parametrize("num_categories", [2, 3, 10, 50, 200])
def test_float32(num_categories):
    rows = {f"random-{reach}": mixed(num_categories, reach) for reach in (1.0, 5.0, 30.0)}
    rows |= adversarial(num_categories - 1) if num_categories > 2 else {}
    for name, (loc, scale) in rows.items():
        loc, scale = loc.float(), scale.float()
        error = computed(loc, scale).double().exp() - reference(loc.double(), scale.double()).exp()
        assert error.abs().max().item() < 1e-5, name


def test_float32_with_clusters_of_narrow_and_wide():
    """Half the scales 0.2 and half 5, means close enough to compete: the hardest laws for a coarse mesh."""
    source = generator("clusters")
    for _ in range(300):
        size = int(torch.randint(2, 15, (1,), generator=source))
        scale = torch.where(torch.rand(size, generator=source) < 0.6, 0.2, 5.0)
        width = 10.0 * torch.rand(1, generator=source)
        loc = width * (2.0 * torch.rand(size, generator=source) - 1.0)
        error = computed(loc, scale).double().exp() - reference(loc.double(), scale.double()).exp()
        assert error.abs().max().item() < 1e-5, (loc, scale)


numbers = st.floats(-30.0, 30.0, allow_nan=False).map(lambda x: round(x, 3))
log_scales = st.floats(math.log(0.2), math.log(5.0)).map(lambda x: round(math.exp(x), 3))


@settings(max_examples=300)
@given(st.lists(st.tuples(numbers, log_scales), min_size=1, max_size=8))
def test_no_law_that_hypothesis_finds_breaks_the_promise(rows):
    loc, scale = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    assert_promise(computed(loc, scale.clamp(0.2, 5.0)), reference(loc, scale.clamp(0.2, 5.0)))


@pytest.mark.parametrize("delta", [0.1, 1.0, 7.0])
def test_delta_and_temperature_move_the_threshold(delta):
    loc, scale = mixed(5, 2.0)
    law = igr.InvertibleGaussian(loc, scale, temperature=0.7, delta=delta)
    assert_promise(law.discrete().log_probs, reference(loc - 0.7 * math.log(delta), scale))


# Derivatives.


@pytest.mark.parametrize("num_categories", [2, 3, 10, 50])
@pytest.mark.parametrize("reach", [1.0, 30.0])
def test_gradients_are_those_of_the_reference(num_categories, reach):
    loc, scale = mixed(num_categories, reach)
    weight = torch.randn(num_categories, dtype=torch.float64, generator=generator("weight"))

    def gradients(law):
        inputs = [loc.clone().requires_grad_(), scale.clone().requires_grad_()]
        return torch.autograd.grad((law(*inputs).exp() * weight).sum(), inputs)

    for found, expected in zip(gradients(computed), gradients(reference), strict=True):
        # The slope of P in units of its scale, 0.2: five times the promise for the value.
        torch.testing.assert_close(found, expected, rtol=0, atol=10 * PROMISE)


def test_gradients_with_two_categories_are_the_closed_form():
    """log P(1) = log Phi((mu - tau log delta) / sigma), in all four arguments."""
    names = ("loc", "scale", "temperature", "delta")
    values = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (-0.4, 0.6, 0.7, 0.3)]
    loc, scale, temperature, delta = values
    law = igr.InvertibleGaussian(loc.view(1), scale, temperature, delta=delta)
    found = torch.autograd.grad(law.discrete().log_probs[0], values)
    closed = torch.special.log_ndtr((loc - temperature * torch.log(delta)) / scale)
    expected = torch.autograd.grad(closed, values)
    for name, ours, theirs in zip(names, found, expected, strict=True):
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-9), name


def test_gradients_in_temperature_and_delta_by_differences():
    loc, scale = mixed(4, 2.0)

    def law(temperature, delta):
        return igr.InvertibleGaussian(loc, scale, temperature, delta=delta).discrete().log_probs

    inputs = tuple(torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.7, 0.3))
    assert torch.autograd.gradcheck(law, inputs)


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=["both", "loc", "scale"])
def test_first_and_second_derivatives_by_differences(needs):
    loc, scale = (t.unsqueeze(0).repeat(2, 1) for t in mixed(4, 2.0))
    inputs = tuple(t.requires_grad_(n) for t, n in zip((loc, scale), needs, strict=True))

    def law(loc, scale):
        return maximum_log_probs(loc, scale, 256)

    assert torch.autograd.gradcheck(law, inputs)
    assert torch.autograd.gradgradcheck(law, inputs)


def test_jacobian_is_that_of_autograd():
    loc, scale = (torch.stack(rows) for rows in zip(mixed(5, 2.0), mixed(5, 8.0), strict=True))
    log_probs, jacobian = maximum_log_probs_and_jacobian(loc, scale, 256)
    expected = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda m, s=s: maximum_log_probs(m, s, 256), m)
            for m, s in zip(loc, scale, strict=True)
        ]
    )
    torch.testing.assert_close(log_probs, maximum_log_probs(loc, scale, 256), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(jacobian, expected, rtol=1e-10, atol=1e-10)


# The fused form and its plain definition.

SHAPES = [(), (0,), (5,), (2, 3), (1, 1, 1)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("num_nodes", [3, 57])
@pytest.mark.parametrize("batch", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 13])
@pytest.mark.parametrize("reach", [1.0, 60.0], ids=["even", "underflowing"])
def test_fused_equals_plain_forward_and_backward(reach, batch, size, num_nodes, dtype):
    source = generator("fused")
    loc = reach * torch.randn(*batch, size, dtype=dtype, generator=source)
    scale = 0.5 + torch.rand(*batch, size, dtype=dtype, generator=source)
    weight = torch.randn(*batch, size, dtype=dtype, generator=source)

    def run(law):
        inputs = [loc.clone().requires_grad_(), scale.clone().requires_grad_()]
        value = law(*inputs)
        return value.detach(), *torch.autograd.grad((value * weight).sum(), inputs)

    fused = run(lambda m, s: maximum_log_probs(m, s, num_nodes)[..., :-1])
    plain = run(
        lambda m, s: maximum_log_probs_reference(m, s, nodes_for_maximum(m.detach(), s.detach(), num_nodes))
    )
    # Rounding only: both forms exponentiate numbers of the size of log P, so that is what it scales with.
    size_of_exponent = max([1.0, *plain[0].abs().flatten().tolist()])
    tolerance = 200 * torch.finfo(dtype).eps * size_of_exponent
    for ours, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.mT.contiguous().mT,
        lambda t: t[:1].expand(6, -1),
        lambda t: torch.stack([t, t], -1)[..., 0],
        lambda t: t[:, :1].expand(-1, 4),
    ],
    ids=["transposed", "expanded-batch", "strided", "expanded-categories"],
)
def test_memory_layout_does_not_matter(view):
    source = generator("layout")
    loc = torch.randn(6, 4, dtype=torch.float64, generator=source).requires_grad_()
    scale = (0.5 + torch.rand(6, 4, dtype=torch.float64, generator=source)).requires_grad_()

    def run(change):
        value = maximum_log_probs(*change(view(loc), view(scale)), 200)
        return value, *torch.autograd.grad(value.square().sum(), (loc, scale))

    viewed = run(lambda *pair: pair)
    plain = run(lambda *pair: tuple(t.contiguous() for t in pair))
    for ours, theirs in zip(viewed, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_many_laws_are_cut_into_chunks_that_leave_no_trace():
    source = generator("chunks")
    loc = torch.randn(700, 9, dtype=torch.float64, generator=source)
    scale = 0.5 + torch.rand(700, 9, dtype=torch.float64, generator=source)
    together = maximum_log_probs(loc, scale, 64)
    alone = torch.cat(
        [maximum_log_probs(m, s, 64) for m, s in zip(loc.split(1), scale.split(1), strict=True)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=1e-13)


def test_more_categories_than_nodes():
    """119 means over 59 nodes, the gradient beside the Jacobian."""
    loc, scale = mixed(120, 1.0, narrowest=0.8)
    log_probs, jacobian = maximum_log_probs_and_jacobian(loc[None], scale[None], 59)
    found = maximum_log_probs(loc.requires_grad_(), scale, 59)
    torch.testing.assert_close(found, log_probs[0], rtol=1e-11, atol=1e-11)
    weight = torch.randn(120, dtype=torch.float64, generator=generator("weight"))
    (gradient,) = torch.autograd.grad((found * weight).sum(), loc)
    torch.testing.assert_close(gradient, weight @ jacobian[0], rtol=1e-9, atol=1e-9)


# Many laws at once: each with the nodes that it needs, some of them by logarithms.


def many_laws(dtype, equal, count=9):
    """Laws near the threshold, cut by it or not, and every seventh with a category that underflows."""
    source = generator(("many", count))
    loc = torch.randn(5000, count, dtype=torch.float64, generator=source)
    loc += 12.0 * torch.rand(5000, 1, dtype=torch.float64, generator=source) - 3.0
    loc[::7, 0] -= 50.0
    spread = torch.rand(5000, 1 if equal else count, dtype=torch.float64, generator=source)
    scale = (0.3 * 8.0**spread).expand_as(loc)
    return loc.to(dtype), scale.to(dtype)


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize(
    "dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)], ids=str
)
def test_laws_that_need_more_nodes_get_them(dtype, equal):
    """Beside each law with the most nodes that any law may need, by plain operations in float64."""
    loc, scale = many_laws(dtype, equal)
    parameters = [t.clone().requires_grad_() for t in (loc, scale)]
    found = maximum_log_probs(*parameters, equal_scales=equal)
    weight = torch.randn(found.shape, dtype=dtype, generator=generator("weight of many"))
    gradients = torch.autograd.grad((found.exp() * weight).sum(), parameters)
    exact = [t.double().requires_grad_() for t in (loc, scale)]
    nodes = nodes_for_maximum(exact[0].detach(), exact[1].detach(), 512)
    above = maximum_log_probs_reference(*exact, nodes)
    last = torch.special.log_ndtr(-exact[0] / exact[1]).sum(-1, keepdim=True)
    expected = torch.cat([above, last], dim=-1)
    expected_gradients = torch.autograd.grad((expected.exp() * weight.double()).sum(), exact)
    absolute = PROMISE if dtype == torch.float64 else 1e-5
    in_log = PROMISE_IN_LOG if dtype == torch.float64 else 3e-3
    assert_promise(found.detach(), expected.detach(), absolute, in_log)
    tolerance = 1e-8 if dtype == torch.float64 else 2e-5
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


def test_an_underflowing_law_is_right_beside_others():
    """Its logarithm, far below what float32 holds; the first of seven has such a category."""
    loc, scale = many_laws(torch.float32, equal=False)
    expected = torch.cat([maximum_log_probs(m, s) for m, s in zip(loc[:7], scale[:7], strict=True)])
    found = maximum_log_probs(loc, scale)[:7].flatten()
    assert found.min() < math.log(1e-38)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


def test_no_result_is_an_array_that_is_written_over():
    source = generator("written over")
    loc, other = (torch.randn(3, 4, generator=source) for _ in range(2))
    scale = torch.ones(3, 4)
    target = torch.full((5,), 0.2).log()

    def everything(loc):
        loc = loc.clone().requires_grad_()
        values = [maximum_log_probs(loc, scale), maximum_kl(loc, scale, target)]
        gradients = [torch.autograd.grad(v.sum(), loc, retain_graph=True)[0] for v in values]
        return [*values, *gradients, *maximum_log_probs_and_jacobian(loc.detach(), scale, 40)]

    results = everything(loc)
    before = [t.detach().clone() for t in results]
    own = loc.clone().requires_grad_()
    values = maximum_log_probs(own, scale), maximum_kl(own, scale, target)
    everything(other)
    # The values that were kept, and the gradients that are found afterwards.
    for now, then in zip(results, before, strict=True):
        assert torch.equal(now, then)
    for value, then in zip(values, before[2:4], strict=True):
        assert torch.equal(torch.autograd.grad(value.sum(), own)[0], then)


def test_arrays_made_in_inference_mode_serve_outside_of_it():
    loc = torch.zeros(2, 3, dtype=torch.float64)
    results = []

    def inside_and_outside():  # in a thread of its own, which has no arrays yet
        with torch.inference_mode():
            results.append(maximum_log_probs(loc, torch.ones_like(loc)))
        own = loc.clone().requires_grad_()
        results.append(maximum_log_probs(own, torch.ones_like(loc)))
        results.append(torch.autograd.grad(results[-1][:, 0].sum(), own)[0])

    thread = threading.Thread(target=inside_and_outside)
    thread.start()
    thread.join()
    inside, outside, gradient = results
    assert torch.equal(inside, outside)
    assert (gradient[:, 0] > 0).all()


def test_arrays_are_where_the_law_is():
    """In a thread of its own, which has none yet, and under another default device."""
    loc = torch.zeros(2, 3, device="cpu")
    expected = maximum_log_probs(loc, torch.ones_like(loc), 40)
    results = []

    def under_another_device():
        with torch.device("meta"):
            results.append(maximum_log_probs(loc, torch.ones_like(loc), 40))

    thread = threading.Thread(target=under_another_device)
    thread.start()
    thread.join()
    assert torch.equal(results[0], expected)


@pytest.mark.parametrize("count", [9, 599, 4999])
def test_the_last_category_beside_many_others(count):
    """Its logarithm is a sum over all others, each of which is nearly certain to stay below."""
    loc = torch.full((1, count), -3.3)
    found = maximum_log_probs(loc, torch.ones_like(loc), 88, equal_scales=True)[0, -1].item()
    assert found == pytest.approx(count * scipy.stats.norm.logcdf(3.3), rel=1e-5)


@pytest.mark.parametrize("count", [2, 9, 99])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_one_law_at_a_time_near_and_below_the_threshold(count, dtype):
    """Short meshes, of few nodes, without longer ones beside them."""
    for step in range(30):
        shift = -7.0 + 0.3 * step
        loc = (torch.randn(1, count, dtype=torch.float64, generator=generator(("shift", step)))).to(dtype)
        loc += shift - loc.amax()
        scale = torch.ones_like(loc)
        found = maximum_log_probs(loc, scale, equal_scales=True)
        expected = maximum_log_probs(loc.double(), scale.double(), 512)
        absolute, in_log = (PROMISE, PROMISE_IN_LOG) if dtype == torch.float64 else (1e-6, 1e-3)
        assert_promise(found, expected, absolute, in_log)


def test_gradients_in_batches():
    """As torch forms a Jacobian at once, which is no transform of `torch.func`."""
    loc, scale = (t.requires_grad_() for t in mixed(4, 2.0))
    log_probs = maximum_log_probs(loc, scale, 200)
    found = torch.autograd.grad(
        log_probs, (loc, scale), torch.eye(4, dtype=torch.float64), is_grads_batched=True, retain_graph=True
    )
    expected = [torch.autograd.grad(p, (loc, scale), retain_graph=True) for p in log_probs]
    for ours, theirs in zip(found, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-9, atol=1e-11)


def test_a_narrow_variable_far_below_has_no_gradient_in_its_scale():
    loc = torch.tensor([[-60.0, 3.0]])
    for narrow in (1e-8, 1e-10):
        scale = torch.tensor([[narrow, 1.0]], requires_grad=True)
        log_probs = maximum_log_probs(loc, scale)
        (gradient,) = torch.autograd.grad(log_probs[0, 1], scale)
        assert gradient[0, 0].item() == 0.0


# The divergence from another law.


def plain_kl(loc, scale, log_q, threshold=0.0):
    log_p = torch.log_softmax(maximum_log_probs(loc, scale, 256, threshold), dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=["both", "loc", "scale"])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize("batch", [(), (0,), (5,), (2, 3)], ids=str)
def test_the_divergence_and_its_gradient_are_those_of_the_law(batch, equal, needs):
    source = generator(("divergence", batch))
    loc = 3.0 * torch.randn(*batch, 6, dtype=torch.float64, generator=source)
    spread = torch.rand(*batch, 1 if equal else 6, dtype=torch.float64, generator=source)
    scale = (0.5 + spread).expand_as(loc)
    log_q = torch.randn(7, dtype=torch.float64, generator=source).log_softmax(-1)
    weight = torch.randn(batch, dtype=torch.float64, generator=source)

    def run(divergence):
        inputs = [t.clone().requires_grad_(n) for t, n in zip((loc, scale), needs, strict=True)]
        value = divergence(*inputs)
        return value, *torch.autograd.grad((value * weight).sum(), [t for t in inputs if t.requires_grad])

    found = run(lambda m, s: maximum_kl(m, s, log_q, 0.4, equal))
    expected = run(lambda m, s: plain_kl(m, s, log_q, 0.4))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(maximum_kl(loc, scale, log_q, 0.4, equal), found[0], rtol=0, atol=1e-13)


def test_the_divergence_has_right_second_derivatives():
    loc, scale = (t.unsqueeze(0).repeat(2, 1).requires_grad_() for t in mixed(4, 2.0))
    log_q = torch.full((4,), 0.25, dtype=torch.float64).log()

    def divergence(loc, scale):
        return maximum_kl(loc, scale, log_q)

    assert torch.autograd.gradcheck(divergence, (loc, scale))
    assert torch.autograd.gradgradcheck(divergence, (loc, scale))


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
def test_the_divergence_of_many_laws_in_float32(equal):
    loc, scale = many_laws(torch.float32, equal)
    log_q = torch.randn(5000, 10, generator=generator("many targets")).log_softmax(-1)

    def run(divergence, dtype):
        inputs = [t.to(dtype).requires_grad_() for t in (loc, scale)]
        value = divergence(*inputs, log_q.to(dtype))
        return value, *torch.autograd.grad(value.sum(), inputs)

    found = run(lambda m, s, q: maximum_kl(m, s, q, equal_scales=equal), torch.float32)
    expected = run(plain_kl, torch.float64)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=5e-5, atol=5e-5)


class LargestTensor(TorchDispatchMode):
    """Records the largest number of entries of any tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, torch.Tensor):
                self.entries = max(self.entries, value.numel())
        return result


@pytest.mark.parametrize("num_categories", [50, 65, 100, 200, 400])
def test_memory_is_linear_in_categories_times_nodes(num_categories, monkeypatch):
    """Where there are more categories than nodes too: a Jacobian would have (K - 1)^2 numbers."""
    monkeypatch.setattr(gaussian_law_pass, "_CHUNK", 0)  # lest arrays of a chunk be found
    loc, scale = (t.requires_grad_() for t in mixed(num_categories, 2.0))
    with LargestTensor() as largest:
        maximum_log_probs(loc, scale, 64).sum().backward()
    assert (num_categories - 1) * 64 <= largest.entries <= 2 * num_categories * 64


# Extremes, and tracing.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", [1, 2, 9])
def test_extreme_parameters_give_finite_numbers_and_gradients(size, dtype):
    extremes = [(m, s) for m in (-1e4, -30.0, 0.0, 30.0, 1e4) for s in (1e-4, 1.0, 1e3)]
    source = generator("extreme")
    rows = torch.randint(len(extremes), (64, size), generator=source)
    loc, scale = (
        torch.tensor(column, dtype=dtype)[rows].requires_grad_() for column in zip(*extremes, strict=True)
    )
    law = igr.InvertibleGaussian(loc, scale, temperature=1.0)
    log_probs = law.discrete().log_probs
    gradients = torch.autograd.grad(law.discrete().logits.sum(), (loc, scale))
    assert not log_probs.isnan().any()
    assert torch.isfinite(log_probs).all()
    for name, gradient in zip(("loc", "scale"), gradients, strict=True):
        assert torch.isfinite(gradient).all(), name


@tracing
def test_compile_and_vmap_give_the_eager_law():
    loc, scale = (torch.stack(rows) for rows in zip(mixed(5, 2.0), mixed(5, 8.0), strict=True))

    def law(loc, scale):
        return maximum_log_probs(loc, scale, 128)

    expected = law(loc, scale)
    torch.testing.assert_close(torch.func.vmap(law)(loc, scale), expected, rtol=1e-12, atol=1e-12)
    compiled = torch.compile(law, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(loc, scale), expected, rtol=1e-12, atol=1e-12)
