"""The base noise against its law, out to where float32 uniforms show their grain."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from cases import chi_square, generator, tracing, z_score
from igr.kernels import noise
from igr.kernels.noise import standard_exponential, standard_gumbel, standard_normal

CPU = torch.device("cpu")
EULER = 0.5772156649015329
# Tails from which the collisions are counted: the lowest and the highest 2^-11.
LOW, HIGH = -math.log1p(-(2.0**-11)), 11 * math.log(2.0)


@pytest.fixture(params=["eager", "many", "static-shapes"])
def path(request, monkeypatch):
    """All ways in which the tails are drawn anew; the last is what tracing and CUDA take."""
    for name in ("_MANY", "_MANY_NORMAL"):
        monkeypatch.setattr(noise, name, 1 if request.param == "many" else 2**62)
    if request.param == "static-shapes":
        monkeypatch.setattr(noise, "is_traced", lambda: True)
    return request.param


def draw(sampler, count, dtype=torch.float32, key="noise"):
    return sampler(torch.Size([count]), dtype=dtype, device=CPU, generator=generator(key))


def plain_exponential(shape, *, dtype, device, generator):
    """What one would write without thinking of the grain."""
    return -torch.log(torch.rand(shape, dtype=dtype, device=device, generator=generator))


def repeated(values):
    """How many draws equal another one."""
    return len(values) - len(torch.unique(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_exponential_and_gumbel_have_their_law(path, dtype):
    exponential = draw(standard_exponential, 200_000, dtype).double()
    gumbel = draw(standard_gumbel, 200_000, dtype, key="gumbel").double()
    assert scipy.stats.kstest(exponential.numpy(), "expon").pvalue > 1e-6
    assert scipy.stats.kstest(gumbel.numpy(), "gumbel_r").pvalue > 1e-6
    assert z_score(exponential, 1.0).abs() < 5
    assert z_score(exponential.square(), 2.0).abs() < 5
    assert z_score(gumbel, EULER).abs() < 5
    assert z_score((gumbel - EULER).square(), math.pi**2 / 6).abs() < 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normal_has_its_law(path, dtype):
    normal = draw(standard_normal, 200_000, dtype).double()
    assert scipy.stats.kstest(normal.numpy(), "norm").pvalue > 1e-6
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert z_score(normal**power, moment).abs() < 5


def test_many_normal_draws_fit_cell_by_cell_on_both_sides_and_have_no_grain_in_the_tails():
    """Cells of a quarter octave of the probability beyond, down to 2^-20; at 2^-12 the tails begin."""
    count, probabilities = 4_000_000, 2.0 ** torch.arange(-20.0, -1.0, 0.25, dtype=torch.float64)
    normal = draw(standard_normal, count)
    assert torch.isfinite(normal).all()
    edges = torch.tensor(scipy.stats.norm.ppf(probabilities))
    expected = count * torch.cat([probabilities[:1], probabilities.diff(), 0.5 - probabilities[-1:]])
    for side in (normal, -normal):
        cells = torch.bucketize(side[side < 0].double(), edges)
        assert chi_square(torch.bincount(cells, minlength=len(expected)).double(), expected) > 1e-6
        tail = side[side < edges[probabilities == 2.0**-12].item()]
        # As many as 977 on the few thousand points that 24 bits leave would collide dozens of times.
        assert repeated(tail) <= 6


def test_places_of_a_tail_are_chosen_independently():
    """Their number is binomial, and any two places are as far from each other as chance has it."""
    source, count, probability = np.random.SFC64(5), 4096, 2.0**-6
    chosen = [noise._chosen(source, count, probability) for _ in range(2000)]
    numbers = torch.tensor([len(places) for places in chosen], dtype=torch.float64)
    mean, variance = count * probability, count * probability * (1 - probability)
    assert z_score(numbers, mean).abs() < 5
    assert z_score((numbers - mean).square(), variance).abs() < 5
    assert all(len(places) == len(torch.unique(places)) for places in chosen)
    eighths = torch.bincount(torch.cat(chosen) // (count // 8), minlength=8).double()
    assert chi_square(eighths, eighths.sum() / 8 * torch.ones(8)) > 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gumbel_is_minus_the_log_of_the_exponential(path, dtype):
    torch.testing.assert_close(
        draw(standard_gumbel, 1000, dtype),
        -torch.log(draw(standard_exponential, 1000, dtype)),
        rtol=0,
        atol=0,
    )


def test_same_generator_same_noise_and_another_one_other_noise(path):
    for sampler in (standard_exponential, standard_gumbel, standard_normal):
        first, again, other = (draw(sampler, 1000, key=key) for key in ("a", "a", "b"))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_no_generator_means_torchs_own():
    for sampler in (standard_exponential, standard_gumbel, standard_normal):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            first = sampler(torch.Size([5000]), dtype=torch.float32, device=CPU)
            torch.manual_seed(3)
            assert torch.equal(first, sampler(torch.Size([5000]), dtype=torch.float32, device=CPU))


def test_two_million_draws_are_finite_positive_and_without_grain_in_the_tails(path):
    exponential = draw(standard_exponential, 2_000_000)
    assert torch.isfinite(torch.log(exponential)).all()
    for tail in (exponential[exponential < LOW], exponential[exponential > HIGH]):
        # 977 are expected. On a grid of 2^-24 each tail has 8,192 points, and 58 of them would collide.
        assert abs(len(tail) - 2_000_000 * 2.0**-11) < 5 * math.sqrt(977)
        assert repeated(tail) <= 6


def test_the_plain_formula_would_fail_that():
    """The test of the tails has power: the logarithm of rand repeats itself in both."""
    exponential = draw(plain_exponential, 2_000_000)
    for tail in (exponential[exponential < LOW], exponential[exponential > HIGH]):
        assert repeated(tail) > 25


@pytest.mark.parametrize(
    "uniform", [0.0, 2.0**-24, 2.0**-11 - 2.0**-24, 2.0**-11, 1 - 2.0**-11, 1 - 2.0**-24]
)
@pytest.mark.parametrize("path", ["eager", "static-shapes"], indirect=True)
def test_extreme_uniforms_give_finite_noise(path, uniform, monkeypatch):
    """rand may return zero; every value on the way must be finite and in the right tail."""
    monkeypatch.setattr(noise.torch, "rand", lambda shape, **_: torch.full(tuple(shape), uniform))
    exponential = standard_exponential(torch.Size([3]), dtype=torch.float32, device=CPU)
    assert torch.isfinite(torch.log(exponential)).all()
    if uniform < 2.0**-11:
        assert (exponential <= LOW).all()
    if uniform >= 1 - 2.0**-11:
        assert (exponential >= HIGH * (1 - 1e-6)).all()


def test_float64_never_gives_infinity(monkeypatch):
    for uniform in (0.0, 1 - 2.0**-53):
        monkeypatch.setattr(
            noise.torch,
            "rand",
            lambda shape, u=uniform, **_: torch.full(tuple(shape), u, dtype=torch.float64),
        )
        assert torch.isfinite(standard_gumbel(torch.Size([3]), dtype=torch.float64, device=CPU)).all()


@tracing
def test_sampling_can_be_compiled_without_a_generator():
    def sample(like):
        return standard_gumbel(like.shape, dtype=like.dtype, device=like.device)

    compiled = torch.compile(sample, fullgraph=True, backend="aot_eager")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = compiled(torch.empty(100_000)).double()
    assert scipy.stats.kstest(drawn.numpy(), "gumbel_r").pvalue > 1e-6


def dyadic_edges():
    """Quarter octaves of E near zero, octaves of exp(-E) in the upper tail: cells down to 2^-24."""
    low = 2.0 ** torch.arange(-24.0, -1.0, 0.25, dtype=torch.float64)
    high = math.log(2.0) * torch.arange(1.0, 24.0, 0.25, dtype=torch.float64)
    return torch.cat([low[low < high[0]], high])


def draws(sampler, total, chunk):
    """A stream of float32 draws, for counts that would not fit into memory at once."""
    source = generator("many")
    for _ in range(total // chunk):
        yield sampler(torch.Size([chunk]), dtype=torch.float32, device=CPU, generator=source)


def cell_counts(sampler, total, chunk):
    edges = dyadic_edges()
    counts = torch.zeros(len(edges) + 1, dtype=torch.float64)
    for drawn in draws(sampler, total, chunk):
        counts += torch.bincount(torch.bucketize(drawn, edges.float()), minlength=len(counts)).double()
    below = -torch.expm1(-torch.cat([torch.zeros(1, dtype=torch.float64), edges]))
    above = torch.exp(-torch.cat([edges, torch.full((1,), torch.inf, dtype=torch.float64)]))
    expected = total * (1.0 - below - above)
    expected[-1] = total * torch.exp(-edges[-1])
    expected[0] = -total * torch.expm1(-edges[0])
    return counts, expected


def test_two_million_draws_fit_cell_by_cell(path):
    assert chi_square(*cell_counts(standard_exponential, 2_000_000, 1_000_000)) > 1e-6


def phases(sampler, total, chunk):
    """Where between two multiples of 2^-24 the probabilities below and above each draw lie: eighths.

    Only of draws whose probability is below 2^-14. Both are uniform for the law, and nothing but multiples
    for a function of one float32 uniform.
    """
    counts = torch.zeros(2, 8, dtype=torch.float64)
    for drawn in draws(sampler, total, chunk):
        tails = (
            -torch.expm1(-drawn[drawn < 2.0**-14].double()),
            torch.exp(-drawn[drawn > 14 * math.log(2)].double()),
        )
        for row, probability in zip(counts, tails, strict=True):
            # Shifted by a sixteenth, so that rounding does not scatter a multiple over two cells.
            eighth = ((probability * 2.0**24 + 1 / 16) % 1.0 * 8).long()
            row += torch.bincount(eighth, minlength=8).double()
    return counts


@pytest.mark.slow
def test_a_hundred_million_draws_fit_beyond_the_grain_of_rand(path):
    total, chunk = 100_000_000, 5_000_000
    assert chi_square(*cell_counts(standard_exponential, total, chunk)) > 1e-6
    for counts in phases(standard_exponential, total, chunk):
        assert chi_square(counts, counts.sum() / 8 * torch.ones(8)) > 1e-6


@pytest.mark.slow
def test_the_plain_formula_would_not_fit():
    for counts in phases(plain_exponential, 20_000_000, 5_000_000):
        assert chi_square(counts, counts.sum() / 8 * torch.ones(8)) < 1e-9


@pytest.mark.parametrize("count", [2**16 - 1, 2**16, 2**16 + 1])
def test_the_faster_source_of_many_numbers_follows_the_generator(count):
    """One number more or less than what it takes; the generator goes on, so the next draw is another one."""
    source = generator("many")
    first, second = (
        standard_gumbel(torch.Size([count]), dtype=torch.float32, device=CPU, generator=source)
        for _ in range(2)
    )
    assert torch.equal(first, draw(standard_gumbel, count, key="many"))
    assert not torch.equal(first, second)
    assert scipy.stats.kstest(first.double().numpy(), "gumbel_r").pvalue > 1e-6
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 5 / math.sqrt(count)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_dtype_is_the_one_that_is_asked_for(default):
    torch.set_default_dtype(default)
    try:
        drawn = draw(standard_gumbel, 2**16)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(drawn, draw(standard_gumbel, 2**16))
