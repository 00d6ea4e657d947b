"""The one-call samplers: the draws of the laws, in every layout; one-hot to the bit; safe in half."""

import math

import pytest
import torch

import igr
from cases import generator, tensor, tracing
from igr.functional import gumbel_softmax, invertible_gaussian, softmax_plus_plus, stick_breaking_lengths

BATCH, K = (4, 3), 5


def normal(*shape, key="functional", dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=generator((key, shape))).to(dtype)


LOGITS, LOC, NOISE = normal(*BATCH, K), normal(*BATCH, K - 1), normal(*BATCH, K - 1, key="noise")
GUMBEL = -torch.log(-torch.log(torch.rand(*BATCH, K, dtype=torch.float64, generator=generator("g"))))
SCALE = 0.3 + normal(*BATCH, K - 1, key="scale").abs()
NUMBERS = {
    "float": 0.4,
    "scalar-tensor": torch.tensor(0.4, dtype=torch.float64),
    "row": tensor(0.1, 0.5, 2.0),
    "batch": 0.1 + normal(*BATCH, key="tau").abs(),
}


@pytest.mark.parametrize("tau", NUMBERS.values(), ids=NUMBERS)
def test_gumbel_softmax_is_the_draw_of_the_law(tau):
    law = igr.GumbelSoftmax(tau, logits=LOGITS)
    torch.testing.assert_close(
        gumbel_softmax(LOGITS, tau, noise=GUMBEL), law.rsample(noise=GUMBEL), rtol=0, atol=0
    )


@pytest.mark.parametrize("delta", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("tau", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize(
    "scale", [0.7, SCALE, SCALE[..., :1], SCALE[0, 0]], ids=["float", "full", "one", "row"]
)
def test_invertible_gaussian_is_the_draw_of_the_law(tau, delta, scale):
    law = igr.InvertibleGaussian(LOC, scale, tau, delta=delta)
    drawn = invertible_gaussian(LOC, scale, tau, delta=delta, noise=NOISE)
    torch.testing.assert_close(drawn, law.rsample(noise=NOISE), rtol=1e-12, atol=1e-300)


def test_the_generator_draws_the_noise_of_the_law():
    law = igr.InvertibleGaussian(LOC, SCALE, 0.4)
    drawn = invertible_gaussian(LOC, SCALE, 0.4, generator=generator(0))
    torch.testing.assert_close(drawn, law.rsample(generator=generator(0)))
    law = igr.GumbelSoftmax(0.4, logits=LOGITS)
    drawn = gumbel_softmax(LOGITS, 0.4, generator=generator(0))
    torch.testing.assert_close(drawn, law.rsample(generator=generator(0)))


# Every function along another dimension: the same numbers, moved.

ALONG = {
    "gumbel_softmax": (lambda x, e, dim, tau: gumbel_softmax(x, tau, dim=dim, noise=e), LOGITS, GUMBEL),
    "gumbel_softmax-hard": (
        lambda x, e, dim, tau: gumbel_softmax(x, tau, True, dim=dim, noise=e),
        LOGITS,
        GUMBEL,
    ),
    "invertible_gaussian": (
        lambda x, e, dim, tau: invertible_gaussian(x, 0.7, tau, dim=dim, delta=tau, noise=e),
        LOC,
        NOISE,
    ),
    "softmax_plus_plus": (lambda x, e, dim, tau: softmax_plus_plus(x, tau, dim=dim), LOC, NOISE),
    "stick_breaking_lengths": (lambda x, e, dim, tau: stick_breaking_lengths(x, dim=dim), LOC, NOISE),
}


@pytest.mark.parametrize("tau", [0.4, NUMBERS["batch"]], ids=["float", "tensor"])
@pytest.mark.parametrize("dim", [0, 1, -2, -3])
@pytest.mark.parametrize("name", ALONG)
def test_dim_moves_the_categories_and_nothing_else(name, dim, tau):
    function, x, noise = ALONG[name]
    moved = function(x.movedim(-1, dim), noise.movedim(-1, dim), dim, tau)
    torch.testing.assert_close(moved.movedim(dim, -1), function(x, noise, -1, tau), rtol=0, atol=0)


def test_a_scale_tensor_moves_with_the_categories():
    moved = invertible_gaussian(LOC.mT, SCALE.mT, 0.5, dim=-2, noise=NOISE.mT)
    torch.testing.assert_close(moved.mT, invertible_gaussian(LOC, SCALE, 0.5, noise=NOISE))


# Hard draws.


def hard_and_soft(name, dtype, tau):
    if name == "gumbel_softmax":
        leaf, noise = LOGITS.to(dtype, copy=True).requires_grad_(), GUMBEL
        return leaf, *(gumbel_softmax(leaf, tau, hard, noise=noise) for hard in (True, False))
    leaf, noise = LOC.to(dtype, copy=True).requires_grad_(), NOISE
    return leaf, *(
        invertible_gaussian(leaf, 0.7, tau, hard, delta=0.5, noise=noise) for hard in (True, False)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("tau", [0.7, torch.tensor(0.7)], ids=["float", "tensor"])
@pytest.mark.parametrize("name", ["gumbel_softmax", "invertible_gaussian"])
def test_hard_is_one_hot_to_the_bit_with_the_gradient_of_soft(name, tau, dtype):
    leaf, hard, soft = hard_and_soft(name, dtype, tau)
    assert torch.equal(hard, torch.nn.functional.one_hot(soft.argmax(-1), K).to(dtype))
    weight = normal(*BATCH, K, key="w").to(dtype)
    by_hard, by_soft = (torch.autograd.grad((x * weight).sum(), leaf)[0] for x in (hard, soft))
    assert torch.equal(by_hard, by_soft)
    assert by_soft.abs().max() > 0


def test_hard_picks_the_largest_score_where_points_tie():
    """At tau = 1000 in float32 the points are equal; the scores are not."""
    scores = torch.tensor([1.0, 1.0 + 1e-5, 1.0 - 1e-5])
    soft = gumbel_softmax(scores, 1e3, noise=torch.zeros(3))
    assert soft.unique().numel() == 1
    assert gumbel_softmax(scores, 1e3, hard=True, noise=torch.zeros(3)).tolist() == [0.0, 1.0, 0.0]


# Range.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tau", [1e-4, 1e-6, torch.tensor(1e-4)], ids=str)
def test_half_precision_is_finite_at_tiny_temperatures(tau, dtype):
    for leaf, sample in (
        (
            LOGITS.to(dtype, copy=True).requires_grad_(),
            lambda x: gumbel_softmax(x, tau, generator=generator(0)),
        ),
        (
            LOC.to(dtype, copy=True).requires_grad_(),
            lambda x: invertible_gaussian(x, 1.0, tau, generator=generator(0)),
        ),
    ):
        drawn = sample(leaf)
        (gradient,) = torch.autograd.grad(drawn.square().sum(), leaf)
        assert drawn.dtype == dtype
        torch.testing.assert_close(drawn.float().sum(-1), torch.ones(BATCH))
        assert torch.isfinite(gradient).all()


def test_torchs_own_fails_there():
    """What "made safe" means: float16 scores divided by 1e-4 overflow, and the softmax is NaN."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.nn.functional.gumbel_softmax(10 * LOGITS.half(), tau=1e-4)
    assert theirs.isnan().any()


def test_a_hundred_thousand_categories():
    logits = normal(100_000, dtype=torch.float32)
    for drawn in (
        gumbel_softmax(logits, 0.1, generator=generator(0)),
        invertible_gaussian(logits, 1.0, 0.1, generator=generator(0)),
        softmax_plus_plus(logits),
    ):
        assert torch.isfinite(drawn).all()
        assert drawn.sum().item() == pytest.approx(1.0, abs=1e-5)
    lengths = stick_breaking_lengths(logits)
    assert torch.isfinite(lengths).all()
    assert lengths.sum().item() == pytest.approx(1.0, abs=1e-4)


# Definitions.


def test_softmax_plus_plus_is_its_definition():
    total = LOC.exp().sum(-1, keepdim=True) + 0.3
    expected = torch.cat([LOC.exp() / total, 0.3 / total], -1)
    torch.testing.assert_close(softmax_plus_plus(LOC, 0.3), expected)


def test_sticks_are_the_naive_product():
    share = torch.sigmoid(LOC)
    left = torch.cumprod(1.0 - share, -1)
    expected = share * torch.nn.functional.pad(left, (1, 0), value=1.0)[..., :-1]
    torch.testing.assert_close(stick_breaking_lengths(LOC), expected)
    torch.testing.assert_close(1.0 - stick_breaking_lengths(LOC).sum(-1), left[..., -1])


@pytest.mark.parametrize("function", [softmax_plus_plus, stick_breaking_lengths])
def test_half_precision_is_computed_in_float32(function):
    x = LOC.bfloat16()
    assert torch.equal(function(x), function(x.float()).bfloat16())


def test_gradients_by_differences():
    scale, tau, delta = SCALE[0].clone(), torch.tensor(0.7).double(), torch.tensor(0.4).double()
    inputs = tuple(t.requires_grad_() for t in (LOC[0].clone(), scale, tau, delta))

    def drawn(loc, scale, tau, delta):
        return invertible_gaussian(loc, scale, tau, delta=delta, noise=NOISE[0])

    assert torch.autograd.gradcheck(drawn, inputs)
    assert torch.autograd.gradgradcheck(drawn, inputs)
    logits = LOGITS[0].clone().requires_grad_()
    for tau in (0.7, inputs[2]):
        assert torch.autograd.gradcheck(lambda x, tau=tau: gumbel_softmax(x, tau, noise=GUMBEL[0]), logits)
    assert torch.autograd.gradgradcheck(lambda x: invertible_gaussian(x, 0.5, 0.7, noise=NOISE[0]), inputs[0])


# Tracing.

TRACED = {
    "gumbel_softmax": (lambda x, e: gumbel_softmax(x, 0.4, noise=e), LOGITS, GUMBEL),
    "gumbel_softmax-hard": (lambda x, e: gumbel_softmax(x, 0.4, True, noise=e), LOGITS, GUMBEL),
    "invertible_gaussian": (lambda x, e: invertible_gaussian(x, 0.7, 0.4, delta=0.3, noise=e), LOC, NOISE),
    "invertible_gaussian-hard": (lambda x, e: invertible_gaussian(x, 0.7, 0.4, True, noise=e), LOC, NOISE),
    "softmax_plus_plus": (lambda x, e: softmax_plus_plus(x), LOC, NOISE),
    "stick_breaking_lengths": (lambda x, e: stick_breaking_lengths(x), LOC, NOISE),
}


@tracing
@pytest.mark.parametrize("name", TRACED)
def test_compile_and_vmap_change_nothing(name):
    function, x, noise = TRACED[name]
    expected = function(x, noise)
    weight = normal(*expected.shape, key="traced")
    torch.testing.assert_close(torch.func.vmap(function)(x, noise), expected, rtol=1e-12, atol=1e-14)
    # The parameters fixed, the noise mapped: nothing but the noise is wrapped.
    torch.testing.assert_close(
        torch.func.vmap(lambda e: function(x[0], e))(noise)[0], expected[0], rtol=1e-12, atol=1e-14
    )
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    gradients = []
    for run in (function, compiled):
        leaf = x.clone().requires_grad_()
        drawn = run(leaf, noise)
        torch.testing.assert_close(drawn, expected, rtol=1e-12, atol=1e-14)
        gradients.append(torch.autograd.grad((drawn * weight).sum(), leaf)[0])
    gradients.append(torch.func.grad(lambda t: (function(t, noise) * weight).sum())(x))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-10, atol=1e-12)


# Arguments.


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_numbers_must_be_positive_and_finite(bad):
    for name, call in {
        "tau": lambda: gumbel_softmax(LOGITS, bad),
        "tau ": lambda: invertible_gaussian(LOC, 1.0, bad),
        "scale": lambda: invertible_gaussian(LOC, bad),
        "delta": lambda: invertible_gaussian(LOC, 1.0, delta=bad),
        "delta ": lambda: softmax_plus_plus(LOC, bad),
    }.items():
        with pytest.raises(
            ValueError,
            match=rf"expected {name.strip()} to be positive and finite; got {bad}(\.$|; the nearest)",
        ):
            call()


def test_shapes_that_do_not_broadcast_are_told_each_with_its_own_advice():
    with pytest.raises(ValueError, match=r"tau .* \(4, 3\); got shape \(5,\); a temperature or delta has no"):
        gumbel_softmax(LOGITS, torch.ones(5))
    with pytest.raises(ValueError, match=r"scale .* \(4, 3, 4\); got shape \(5,\)\.$"):
        invertible_gaussian(LOC, torch.ones(5))


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected noise of shape \(4, 3, 5\); got \(4, 3, 4\); draw"):
        gumbel_softmax(LOGITS, noise=NOISE)
    with pytest.raises(ValueError, match=r"expected noise of shape \(4, 3, 4\); got \(4, 3, 5\); draw"):
        invertible_gaussian(LOC, 1.0, noise=GUMBEL)


@pytest.mark.parametrize(
    "call",
    [
        gumbel_softmax,
        lambda x: invertible_gaussian(x, 1.0),
        softmax_plus_plus,
        stick_breaking_lengths,
    ],
    ids=["gumbel_softmax", "invertible_gaussian", "softmax_plus_plus", "stick_breaking_lengths"],
)
def test_integers_are_refused(call):
    with pytest.raises(TypeError, match=r"of a floating-point dtype; got torch\.int64; use \.float\(\)\.$"):
        call(torch.arange(5))


@pytest.mark.parametrize("shape", [(4, 1), (5,), (2, 4)])
def test_a_temperature_that_would_enlarge_the_batch_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected tau .* \(4,\); got shape"):
        igr.functional.gumbel_softmax(torch.zeros(4, 10), torch.full(shape, 0.5))
    with pytest.raises(ValueError, match=r"expected tau .* \(4,\); got shape"):
        igr.functional.invertible_gaussian(torch.zeros(4, 9), 1.0, torch.full(shape, 0.5))


@pytest.mark.parametrize("value", ["0.5", None, [0.5], True])
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"expected tau to be a number or a tensor; got"):
        igr.functional.gumbel_softmax(torch.zeros(4, 10), value)
    with pytest.raises(TypeError, match=r"expected scale to be a number or a tensor; got"):
        igr.functional.invertible_gaussian(torch.zeros(4, 9), value)
