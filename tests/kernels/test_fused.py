"""Draws by one kernel against plain operations in float64 on the same noise, by Triton's interpreter.

That they compile for GPUs too is a test of its own; what the code then does and costs, only a GPU can show
(tests/test_gpu.py).
"""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import scipy.stats
import torch
from torch import Tensor

import igr
from cases import generator
from compiled_kernels import compiled
from igr.kernels import fused, stick_breaking
from igr.kernels.fused import Draw
from igr.kernels.gumbel import gumbel_log_density
from igr.kernels.simplex import log_softmax, with_reference
from interpreted_kernels import OLD_CONVERSION, interpret

triton = pytest.importorskip("triton", reason="needs the package triton, which is published for Linux alone")
tl = pytest.importorskip("triton.language")
fused_triton = pytest.importorskip("igr.kernels.fused_triton")

KINDS = ("gumbel", "gaussian", "lengths", "log-ratios")
# Those that differ most in how they fill four planes; the others take long by the interpreter.
SIZES = (2, 5, 8, 101, *(pytest.param(size, marks=pytest.mark.slow) for size in (3, 4, 7, 17, 64)))


pytestmark = pytest.mark.filterwarnings(OLD_CONVERSION)


@pytest.fixture(autouse=True)
def by_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    interpret(monkeypatch)


def seed(number: int = 0) -> Tensor:
    return torch.tensor([(number + 1) * 0x1234_5678_9ABC_DEF % 2**62])


def inside_nan(x: Tensor) -> Tensor:
    """The same numbers as a view into NaN: a read from outside shows in the result."""
    room = torch.full([*x.shape[:-1], x.shape[-1] + 5], torch.nan, dtype=x.dtype)
    room = torch.cat([torch.full_like(room[:1], torch.nan), room, torch.full_like(room[:1], torch.nan)])
    view = room[1:-1, ..., : x.shape[-1]]
    view.copy_(x)
    return view


def reference(draw: Draw, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Points and log-densities by plain operations in float64."""

    def column(value: float | Tensor) -> Tensor:
        return torch.as_tensor(value).double().unsqueeze(-1)

    loc, noise = draw.loc.double(), noise.double()
    tau = column(draw.temperature)
    if draw.kind == "gumbel":
        log_z = log_softmax((loc + noise) / tau)
        return log_z.exp(), gumbel_log_density(-noise, log_z, tau.squeeze(-1))
    scale = torch.as_tensor(draw.scale).double()
    y = loc + scale * noise
    slope = torch.zeros(())
    if draw.kind == "lengths":
        logs = stick_breaking.log_lengths(y)
        t, slope = logs.exp(), stick_breaking.slope_of_lengths(y, logs)
    else:
        t = y if draw.kind == "gaussian" else stick_breaking.log_ratios(y)
    log_z = log_softmax(with_reference(t / tau, column(draw.delta).log().squeeze(-1)))
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise) - scale.log()
    log_tau = tau.log().squeeze(-1)
    return log_z.exp(), normal.sum(-1) + noise.shape[-1] * log_tau - log_z.sum(-1) - slope


def parameters(kind: str, size: int, batch: tuple[int, ...] = (3,)) -> tuple[Tensor, Tensor]:
    """Logits or means, and scales, for K = size."""
    count = size if kind == "gumbel" else size - 1
    source = generator(f"{kind} {size}")
    loc = torch.randn(*batch, count, generator=source)
    return loc, 0.5 + torch.rand(*batch, count, generator=source)


def check(draw: Draw, samples: tuple[int, ...], scale_error: float = 1.0) -> None:
    """Results and gradients of a draw, with log-density, against the reference.

    Arguments:
        draw: What is drawn; loc and scale are leaves.
        samples: The sample shape.
        scale_error: How many times as far as usual the results may lie.
    """
    leaves = [draw.loc]
    if draw.kind != "gumbel" and isinstance(draw.scale, Tensor):
        leaves.append(draw.scale)
    rows = math.prod(samples) * draw.loc.shape[:-1].numel()
    own = fused.noise(draw.kind, seed(), rows, draw.loc.shape[-1]).view(*samples, *draw.loc.shape)
    with torch.no_grad():
        same = fused.sample(draw, samples, seed=seed())[0]
    points, density, _ = fused.sample(draw, samples, seed=seed(), with_log_density=True)
    expected, expected_density = reference(draw, own)
    assert torch.equal(points, same)
    assert points.dtype == draw.loc.dtype
    unit = scale_error * torch.finfo(draw.loc.dtype).eps
    numbers = draw.loc.shape[-1]
    torch.testing.assert_close(points.double(), expected, rtol=100 * unit, atol=20 * unit)
    largest = expected_density.abs().max().item() + numbers
    torch.testing.assert_close(density.double(), expected_density, rtol=0.0, atol=4 * unit * largest)
    upstream = torch.randn(points.shape, generator=generator("upstream")).to(points.dtype)
    weight = torch.randn(density.shape, generator=generator("weight")).to(points.dtype)

    def loss(points: Tensor, density: Tensor, which: str) -> Tensor:
        total = torch.zeros((), dtype=points.dtype)
        if "p" in which:
            total = total + (points * upstream.to(points)).sum()
        if "d" in which:
            total = total + (density * weight.to(points)).sum()
        return total

    for which in ("p", "d", "pd"):
        ours = torch.autograd.grad(loss(points, density, which), leaves, retain_graph=True)
        theirs = torch.autograd.grad(loss(expected, expected_density, which), leaves, retain_graph=True)
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            size = b.double().abs().max().item() + (numbers if "d" in which else 1.0)
            torch.testing.assert_close(a.double(), b.double(), rtol=200 * unit, atol=20 * unit * size)


def leaf(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return inside_nan(x.to(dtype)).requires_grad_()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_draws_and_gradients_are_those_of_plain_operations(kind, size):
    loc, scale = parameters(kind, size)
    check(Draw(kind, leaf(loc), leaf(scale), 0.7, 0.3), (2,))


@pytest.mark.parametrize("size", [1000, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_long_rows(kind, size):
    loc, scale = parameters(kind, size, (2,))
    # Sticks: log-ratios to what is left of so many reach into the thousands.
    check(Draw(kind, leaf(loc), leaf(scale), 1.5), (), 1.0 if kind != "log-ratios" else size / 20)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_that_of_parameters_and_results_alone(kind, dtype):
    loc, scale = parameters(kind, 7, (2, 3))
    check(Draw(kind, leaf(loc, dtype), leaf(scale, dtype), 0.7), (4,))


@pytest.mark.parametrize("temperature", [1e-3, 1e2])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_temperatures(kind, temperature):
    loc, scale = parameters(kind, 9)
    check(Draw(kind, leaf(loc), leaf(scale), temperature), (2,), max(1.0, 0.1 / temperature))


@pytest.mark.parametrize(
    ("samples", "programs"),
    [((), 512), *(pytest.param((3, 3), count, marks=pytest.mark.slow) for count in (1, 4))],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_rows_and_one_scale_for_all(kind, samples, programs, monkeypatch):
    """Many samples of few parameters are added up by several programs, each of them by one or in turn."""
    monkeypatch.setattr(fused, "_PROGRAMS", programs)
    loc, _ = parameters(kind, 6, (2, 2))
    temperature, delta = torch.tensor([0.5, 2.0], dtype=torch.float64), torch.tensor([[0.2], [3.0]])
    check(Draw(kind, leaf(loc), 0.8, temperature, delta), samples)
    if not samples:
        check(Draw(kind, leaf(loc), 0.8, torch.tensor(0.5), torch.tensor(2.0)), samples)


@pytest.mark.slow
def test_many_short_rows():
    """More rows than a program takes, and a last program that is not full."""
    for kind in KINDS:
        loc, scale = parameters(kind, 3, (700,))
        check(Draw(kind, leaf(loc), leaf(scale), 0.7), (2,))


@pytest.mark.parametrize("size", [2, 7, 101])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_divergence_from_a_prior(kind, size):
    loc, scale = (leaf(t) for t in parameters(kind, size))
    vectors = torch.linspace(-1.0, 1.0, size - 1), torch.linspace(0.6, 1.4, size - 1)
    rows = torch.randn(3, size - 1, generator=generator("prior")), torch.full((), 0.9)
    upstream = torch.tensor([1.0, -2.0, 0.5])
    for prior in (vectors, rows):
        draw = Draw(kind, loc, scale, 0.7)
        _, density, found = fused.sample(draw, (2,), seed=seed(), with_log_density=True, prior=prior)
        laws = (torch.distributions.Normal(a.double(), b.double()) for a, b in ((loc, scale), prior))
        expected = torch.distributions.kl_divergence(*laws).sum(-1)
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
        ours = torch.autograd.grad((found * upstream).sum(), (loc, scale))
        theirs = torch.autograd.grad((expected * upstream).sum(), (loc, scale))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        assert density.isfinite().all()


def test_divergence_with_one_scale_and_of_many_samples():
    loc = leaf(torch.randn(2, 3, generator=generator("one")))
    prior = torch.zeros(3), torch.ones(3)
    points, _, found = fused.sample(Draw("gaussian", loc, 0.5), (20,), seed=seed(), prior=prior)
    law = torch.distributions.Normal(loc, torch.tensor(0.5))
    expected = torch.distributions.kl_divergence(law, torch.distributions.Normal(*prior)).sum(-1)
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad(found.sum() + 0.0 * points.sum(), loc)[0]
    torch.testing.assert_close(ours, loc.detach())


@pytest.mark.parametrize("transform", [None, igr.LogisticStickBreakingTransform()], ids=["igr", "sb"])
def test_points_and_a_divergence_of_a_law(transform, monkeypatch):
    loc, scale = (leaf(t) for t in parameters("gaussian", 5))
    law = igr.InvertibleGaussian(loc, scale, 0.4, transform, delta=1.3)
    prior = igr.InvertibleGaussian(torch.zeros(4), 1.0, 0.4, transform, delta=1.3)
    calls = []
    original = fused.sample
    monkeypatch.setattr(
        "igr.distributions.invertible_gaussian.sample", lambda *a, **k: calls.append(k) or original(*a, **k)
    )
    own = torch.Generator().manual_seed(3)
    points, divergence = law.rsample_and_kl(prior, (2,), own, fused=True)
    assert len(calls) == 1
    expected = torch.distributions.kl_divergence(law, prior)
    torch.testing.assert_close(divergence, expected, rtol=1e-5, atol=1e-5)
    same = law.rsample((2,), torch.Generator().manual_seed(3), fused=True)
    assert torch.equal(points, same)
    for ours, theirs in zip(
        torch.autograd.grad(divergence.sum() + points[..., 0].sum(), (loc, scale)),
        torch.autograd.grad(expected.sum() + same[..., 0].sum(), (loc, scale)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    # Those that no kernel takes: of another map, with a gradient, of a larger batch.
    others = [
        igr.InvertibleGaussian(torch.zeros(4).requires_grad_(), 1.0, 0.4, transform, delta=1.3),
        igr.InvertibleGaussian(torch.zeros(2, 1, 4), 1.0, 0.4, transform, delta=1.3),
    ]
    if transform is None:
        others.append(igr.InvertibleGaussian(torch.zeros(4), 1.0, 0.7))
    for other in others:
        points, divergence = law.rsample_and_kl(other, fused=True)
        torch.testing.assert_close(divergence, torch.distributions.kl_divergence(law, other))
        assert points.shape == (3, 5)
    with pytest.raises(NotImplementedError):
        law.rsample_and_kl(igr.GumbelSoftmax(0.4, torch.zeros(5)), fused=True)
    assert len(calls) == 1


def test_a_divergence_of_equal_laws_is_zero_and_a_prior_has_no_gradient():
    loc, scale = parameters("gaussian", 5)
    assert fused.sample(Draw("gaussian", loc, scale), seed=seed(), prior=(loc, scale))[2].abs().max() == 0.0
    with pytest.raises(ValueError, match="expected a prior without gradient"):
        fused.sample(Draw("gaussian", loc, scale), prior=(loc.clone().requires_grad_(), scale))


# The noise.


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes a large tile in hardly more time than a small one."""
    monkeypatch.setattr(fused, "_TILE", 2**16)


@pytest.mark.parametrize(("kind", "law"), [("gumbel", scipy.stats.gumbel_r), ("gaussian", scipy.stats.norm)])
@pytest.mark.parametrize("numbers", [1, 6, 257])
def test_noise_has_its_law(kind, law, numbers, few_programs):
    noise = fused.noise(kind, seed(3), 400_000 // numbers, numbers)
    assert noise.isfinite().all()
    flat = noise.double().flatten()
    assert scipy.stats.kstest(flat.numpy(), law.cdf).pvalue > 1e-3
    # The tails too: of 4e5 numbers some 40 are beyond the quantile of 1e-4, on either side.
    for tail in (flat > law.isf(1e-4), flat < law.ppf(1e-4)):
        assert abs(tail.sum().item() - 40) < 5 * 40**0.5


@pytest.mark.parametrize("kind", ["gumbel", "gaussian"])
def test_columns_rows_and_seeds_are_independent(kind, few_programs):
    first, other = fused.noise(kind, seed(1), 20_000, 8), fused.noise(kind, seed(2), 20_000, 8)
    assert torch.equal(first, fused.noise(kind, seed(1), 20_000, 8))
    columns = torch.cat([first, first.roll(1, 0), other], 1)
    columns = torch.cat([columns, columns.square()], 1)
    correlation = torch.corrcoef(columns.double().T)
    # A column and its own square are dependent.
    size = 24
    correlation[range(size), range(size, 2 * size)] = 0.0
    correlation[range(size, 2 * size), range(size)] = 0.0
    assert correlation.fill_diagonal_(0.0).abs().max() < 5.5 / math.sqrt(20_000)


def test_noise_does_not_depend_on_how_rows_are_dealt_out(monkeypatch):
    whole = fused.noise("gumbel", seed(), 70, 13)
    monkeypatch.setattr(fused, "_TILE", 32)
    assert torch.equal(fused.noise("gumbel", seed(), 70, 13), whole)


def test_each_tail_is_as_fine_as_the_word_that_it_is_made_of():
    @triton.jit
    def exponentials(words, out, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)
        tl.store(out + i, fused_triton._exponential(tl.load(words + i).to(tl.uint32)))

    words = [0, 1, 2, 1000, 2**24 + 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2**25, 2**32 - 2**12]
    words += [2**32 - 1000, 2**32 - 999, 2**32 - 4, 2**32 - 3, 2**32 - 2, 2**32 - 1]
    out = torch.empty(16)
    exponentials[(1,)](torch.tensor(words), out, BLOCK=16)
    expected = -torch.log1p(-(2**32 - torch.tensor(words).double() - 0.5) / 2**32)
    torch.testing.assert_close(out.double(), expected, rtol=3e-7, atol=0.0)


# Who asks for it.


LAWS = {
    "gumbel": lambda loc, scale: igr.GumbelSoftmax(0.5, loc),
    "gaussian": lambda loc, scale: igr.InvertibleGaussian(loc, scale, 0.5, delta=0.3),
    "lengths": lambda loc, scale: igr.InvertibleGaussian(
        loc, scale, 0.5, igr.LogisticStickBreakingTransform()
    ),
    "log-ratios": lambda loc, scale: igr.InvertibleGaussian(
        loc, scale, 0.5, igr.LogisticStickBreakingTransform("log")
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_laws_draw_what_they_draw_from_that_noise(kind, dtype):
    loc, scale = (leaf(t, dtype) for t in parameters(kind, 5, (2, 3)))
    law = LAWS[kind](loc, scale)
    own = fused.new_seed(loc.device, torch.Generator().manual_seed(7))
    noise = fused.noise(kind, own, 24, loc.shape[-1]).view(4, *loc.shape)
    points, density = law.rsample_and_log_prob((4,), torch.Generator().manual_seed(7), fused=True)
    assert torch.equal(law.rsample((4,), torch.Generator().manual_seed(7), fused=True), points)
    expected, expected_density = law.rsample_and_log_prob(noise=noise)
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(points, expected, rtol=20 * unit, atol=4 * unit)
    torch.testing.assert_close(density, expected_density, rtol=20 * unit, atol=20 * unit)
    leaves = (loc,) if kind == "gumbel" else (loc, scale)
    ours = torch.autograd.grad(points.float().square().sum() + density.float().sum(), leaves)
    theirs = torch.autograd.grad(expected.float().square().sum() + expected_density.float().sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=40 * unit, atol=100 * unit)


def test_samplers_along_another_dimension():
    logits = torch.randn(6, 4, 3, generator=generator("dim"))
    points = igr.functional.gumbel_softmax(
        logits, 0.5, dim=0, generator=torch.Generator().manual_seed(1), fused=True
    )
    own = fused.new_seed(logits.device, torch.Generator().manual_seed(1))
    noise = fused.noise("gumbel", own, 12, 6).view(4, 3, 6).movedim(-1, 0)
    torch.testing.assert_close(points, igr.functional.gumbel_softmax(logits, 0.5, dim=0, noise=noise))
    scale = torch.tensor(0.7, requires_grad=True)
    points = igr.functional.invertible_gaussian(
        logits, scale, 0.5, dim=1, delta=0.3, generator=torch.Generator().manual_seed(1), fused=True
    )
    noise = fused.noise("gaussian", own, 18, 4).view(6, 3, 4).movedim(-1, 1)
    expected = igr.functional.invertible_gaussian(logits, scale, 0.5, dim=1, delta=0.3, noise=noise)
    torch.testing.assert_close(points, expected)
    weight = torch.randn(points.shape, generator=generator("weight"))
    ours, theirs = (torch.autograd.grad((p * weight).sum(), scale)[0] for p in (points, expected))
    torch.testing.assert_close(ours, theirs)


def test_one_argument_says_how_and_the_size_where_it_is_left_out(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("drawn by a kernel")

    monkeypatch.setattr(fused, "sample", refuse)
    # Left out, a draw on the CPU is plain, as always.
    large = torch.zeros(2000, 10)
    for law in (igr.GumbelSoftmax(0.5, large), igr.InvertibleGaussian(large, 1.0, 0.5)):
        plain = law.rsample(noise=law.draw_noise(generator=torch.Generator().manual_seed(0)))
        for choice in (None, False):
            assert torch.equal(law.rsample((), torch.Generator().manual_seed(0), fused=choice), plain)
    assert fused.chosen("test", None, Draw("gumbel", large)) is not None
    assert fused.chosen("test", False, Draw("gumbel", large)) is None
    assert fused.chosen("test", None, Draw("gumbel", large[:20])) is None
    assert fused.chosen("test", None, Draw("gumbel", large[:20]), (100,)) is not None
    assert fused.chosen("test", None, Draw("gumbel", large.double())) is None


def test_a_second_derivative_names_the_way_out():
    logits = torch.randn(3, 4, generator=generator("second")).requires_grad_()
    points = igr.functional.gumbel_softmax(logits, fused=True)
    (first,) = torch.autograd.grad(points.square().sum(), logits, create_graph=True)
    (again,) = torch.autograd.grad(points.square().sum(), logits, retain_graph=True)
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match="draw with fused=False"):
        torch.autograd.grad(first.square().sum(), logits)


LOGITS = torch.zeros(3, 4)
REFUSED = {
    "numbers of torch.float64": lambda: igr.GumbelSoftmax(0.5, LOGITS.double()).rsample(fused=True),
    "noise that is given": lambda: igr.functional.gumbel_softmax(LOGITS, noise=LOGITS, fused=True),
    "hard=True": lambda: igr.functional.invertible_gaussian(LOGITS, 1.0, hard=True, fused=True),
    "a mask": lambda: igr.GumbelSoftmax(
        0.5, LOGITS, mask=torch.tensor([True, False, False, False])
    ).rsample_and_log_prob(fused=True),
    "a temperature that needs a gradient": lambda: igr.functional.gumbel_softmax(
        LOGITS, torch.tensor(0.5, requires_grad=True), fused=True
    ),
    "a delta that needs a gradient": lambda: igr.InvertibleGaussian(
        LOGITS, 1.0, 0.5, delta=torch.tensor(0.5, requires_grad=True)
    ).rsample(fused=True),
    "8193 numbers in a row, more than 8192": lambda: igr.functional.gumbel_softmax(
        torch.zeros(8193), fused=True
    ),
    "an empty batch": lambda: igr.GumbelSoftmax(0.5, LOGITS[:0]).rsample(fused=True),
    "no sample": lambda: igr.GumbelSoftmax(0.5, LOGITS).rsample((0,), fused=True),
    "the transform PlanarTransform": lambda: igr.InvertibleGaussian(
        LOGITS, 1.0, 0.5, igr.PlanarTransform(5, generator=torch.Generator().manual_seed(0))
    ).rsample(fused=True),
    "BinaryConcrete, which has no kernel": lambda: igr.BinaryConcrete(0.5, logits=LOGITS).rsample(fused=True),
    "code under a tracer": lambda: torch.func.vmap(
        lambda x: igr.functional.gumbel_softmax(x, fused=True), randomness="different"
    )(LOGITS),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_kernel_that_is_asked_for_and_cannot_be_had_says_why(reason):
    with pytest.raises(ValueError, match=f"fused=True asks for; got .*{reason.split(' of ')[-1]}"):
        REFUSED[reason]()


def test_devices_without_a_kernel_and_a_missing_package(monkeypatch):
    monkeypatch.setattr(fused, "_has_triton", lambda: False)
    with pytest.raises(ValueError, match="got no package triton"):
        igr.GumbelSoftmax(0.5, LOGITS).rsample(fused=True)
    monkeypatch.setattr(fused, "_DEVICES", {"cuda"})
    with pytest.raises(ValueError, match="got parameters on cpu"):
        igr.GumbelSoftmax(0.5, LOGITS).rsample(fused=True)


def test_the_library_does_not_import_triton():
    code = "import sys, igr, igr.kernels.fused; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


COMPILE = """
from igr.kernels import fused

kind, numbers, dtype = sys.argv[2], int(sys.argv[3]), getattr(torch, sys.argv[4])
fused._DEVICES.add("cpu")
loc = torch.zeros(3, numbers, dtype=dtype).requires_grad_()
of_rows = torch.ones(3)
plain = fused.Draw(kind, loc, 0.7, 0.5, 0.3), None
full = fused.Draw(kind, loc, torch.ones_like(loc).requires_grad_(), of_rows, of_rows), loc[0].detach()
for draw, prior in (plain, full):
    prior = None if prior is None or kind == "gumbel" else (prior, prior)
    results = fused.sample(draw, (2,), with_log_density=prior is not None, prior=prior)
    sum(r.sum() for r in results if r is not None).backward()
fused.noise(kind, torch.tensor([1]), 10, numbers)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "numbers", "dtype"), [(80, 10, "bfloat16"), (90, 1, "float32"), (90, 8192, "float32")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_compile_for_gpus(kind, capability, numbers, dtype, tmp_path):
    """Down to machine code, as they are launched, with a driver that launches nothing."""
    made = compiled(COMPILE, capability, tmp_path, kind, str(numbers), dtype)
    assert made == ["forward", "backward", "forward", "backward", "fill"]
