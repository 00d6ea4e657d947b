"""Troubles that users of other tools report with draws; docs/coming-from-gumbel-softmax.md tells of each."""

import math

import pytest
import torch
from torch.distributions import Categorical, RelaxedOneHotCategorical
from torch.nn.functional import gumbel_softmax

import igr
from cases import generator
from igr.kernels import noise
from other_tools import IS_TORCH

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)


def simplex_laws(dtype=torch.float32, num_categories=10, temperature=0.5, batch=()):
    """Gumbel-Softmax and IGR-I with standard normal parameters, which ask for gradients."""
    source = generator(f"{num_categories} {batch}")
    logits = torch.randn(*batch, num_categories, generator=source).to(dtype).requires_grad_()
    loc = torch.randn(*batch, num_categories - 1, generator=source).to(dtype).requires_grad_()
    return {
        igr.GumbelSoftmax(temperature, logits): logits,
        igr.InvertibleGaussian(loc, 1.0, temperature): loc,
    }


def hand_written(uniform):
    """Gumbel noise as one writes it."""
    return -torch.log(-torch.log(uniform))


def the_least_and_the_greatest_uniform(shape, dtype=torch.float32, **_):
    """What torch.rand may give at either end, in turn."""
    grain = torch.finfo(dtype).eps / 2
    values = torch.zeros(shape, dtype=dtype)
    values.view(-1)[1::2] = 1 - grain
    return values


def the_least_and_the_greatest_bits(source, count):
    """What the faster source of many numbers may give at either end, and around the middle."""
    ends = torch.tensor([-(2**31), 2**31 - 1, 0, -1], dtype=torch.int32)
    return ends.repeat(count // 4 + 1)[:count]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("path", ["plain", "many", "static-shapes"])
def test_nan_from_the_noise_at_its_ends(path, dtype, monkeypatch):
    assert hand_written(torch.tensor(0.0)) == -torch.inf
    for name in ("_MANY", "_MANY_NORMAL"):
        monkeypatch.setattr(noise, name, 1 if path == "many" else 2**62)
    monkeypatch.setattr(noise, "_bits", the_least_and_the_greatest_bits)
    monkeypatch.setattr(noise.torch, "rand", the_least_and_the_greatest_uniform)
    if path == "static-shapes":  # what tracing and a GPU take
        monkeypatch.setattr(noise, "is_traced", lambda: True)
    shape = torch.Size([40, 10])
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    drawn = noise.standard_gumbel(shape, dtype=exact, device=torch.device("cpu"))
    assert torch.isfinite(drawn).all()
    assert (drawn.amin(), drawn.amax()) < (-2.0, 0.0)  # both ends were there
    assert drawn.amax() > 15.0
    for temperature in (1.0, 0.1, 1e-6):
        logits = torch.zeros(shape, dtype=dtype, requires_grad=True)
        z = igr.functional.gumbel_softmax(logits, temperature, noise=drawn)
        assert (z.double().sum(-1) - 1.0).abs().max() < 4 * torch.finfo(dtype).eps * 10**0.5
        z.square().sum().backward()
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_from_the_noise_in_many_draws(dtype):
    if IS_TORCH:
        # float32 has been mended; float16 still rounds one draw in 2^25 to zero, whose logarithm is infinite.
        with torch.random.fork_rng():
            torch.manual_seed(28_807)
            assert gumbel_softmax(torch.zeros(100, 10, dtype=torch.float16)).isnan().any()
    law = igr.GumbelSoftmax(0.5, torch.zeros(10, dtype=dtype))
    drawn = law.draw_noise((1_000_000,), generator("many draws"))
    assert torch.isfinite(drawn).all()
    assert drawn.amax() > 13.5  # of ten million the largest is 16 +- 1.3
    z = igr.functional.gumbel_softmax(law.logits.expand(20_000, 10), 0.15, noise=drawn[:20_000])
    assert torch.isfinite(z).all()


def test_temperature_to_zero_tends_to_the_vertex_with_finite_gradients():
    for cold in simplex_laws(batch=(200,)):
        drawn = cold.draw_noise((), generator("cold"))
        vertex = cold.vertex(drawn)
        away = []
        for temperature in (1.0, 1e-1, 1e-2, 1e-3, 1e-6, 1e-30):
            law = cold.with_temperature(temperature)
            parameter = law.loc if isinstance(law, igr.InvertibleGaussian) else law.logits
            z, log_prob = law.rsample_and_log_prob(noise=drawn)
            away.append((z - vertex).abs().amax(-1).mean().item())
            assert torch.isfinite(log_prob).all() or temperature == 1e-30
            weights = torch.arange(10.0)
            (slope,) = torch.autograd.grad((weights * z).sum(), parameter, retain_graph=True)
            assert torch.isfinite(slope).all()
            (slope,) = torch.autograd.grad(law.rsample_and_log_prob(noise=drawn)[1].sum(), parameter)
            assert torch.isfinite(slope).all()
        assert away == sorted(away, reverse=True)
        assert away[0] > 0.1
        assert away[-1] == 0.0


@pytest.mark.parametrize("tau", [0.0, -1.0, 1e-45, 1e-39])
def test_temperature_to_zero_is_refused_where_it_leaves_no_number(tau):
    if IS_TORCH:
        assert gumbel_softmax(torch.zeros(8), tau=0.0).isnan().all()
        assert gumbel_softmax(torch.arange(8.0), tau=1e-39).isnan().all()
    calls = (
        lambda: igr.functional.gumbel_softmax(torch.arange(8.0), tau),
        lambda: igr.functional.invertible_gaussian(torch.arange(8.0), 1.0, tau),
        lambda: igr.GumbelSoftmax(tau, torch.arange(8.0)),
        lambda: igr.GumbelSoftmax(torch.tensor([0.5, tau]), torch.zeros(2, 8)),
        lambda: igr.InvertibleGaussian(torch.zeros(7), 1.0, tau),
        lambda: igr.BinaryConcrete(tau, torch.arange(8.0)),
        lambda: igr.BinaryInvertibleGaussian(torch.zeros(8), 1.0, tau),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"expected (tau|temperature) (to be positive|of at least)"):
            call()


def test_temperature_to_zero_lets_many_categories_train():
    """What the reporter of pyro-ppl/pyro#3304 ran: a thousand categories at temperature 0.1."""
    logits = torch.randn(1, 1000, generator=generator("pyro 3304"))
    if IS_TORCH:
        theirs = RelaxedOneHotCategorical(torch.tensor(0.1), logits=logits, validate_args=False)
        assert theirs.log_prob(theirs.sample((20,))).isnan().any()
    logits.requires_grad_()
    posterior, prior = (igr.GumbelSoftmax(0.1, numbers) for numbers in (logits, torch.zeros(1, 1000)))
    log_z = posterior.rsample_log((20,), generator("pyro 3304, draws"))
    divergence = (posterior.log_prob_of_log(log_z) - prior.log_prob_of_log(log_z)).mean()
    divergence.backward()
    assert math.isfinite(divergence.item())
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).any()


def test_half_precision_draws_are_those_of_float32_rounded():
    if IS_TORCH:
        rows = torch.zeros(1000, 10, dtype=torch.float16)
        assert gumbel_softmax(rows, tau=1e-5).isnan().any(-1).float().mean() > 0.9
    for dtype in HALVES:
        for law in simplex_laws(dtype, batch=(1000,), temperature=1e-3):
            drawn = law.draw_noise((), generator("half"))
            assert drawn.dtype == torch.float32
            if isinstance(law, igr.GumbelSoftmax):
                exact = igr.GumbelSoftmax(1e-3, law.logits.float())
                called = igr.functional.gumbel_softmax(law.logits, 1e-3, noise=drawn)
            else:
                exact = igr.InvertibleGaussian(law.loc.float(), 1.0, 1e-3)
                called = igr.functional.invertible_gaussian(law.loc, 1.0, 1e-3, noise=drawn)
            z = law.rsample(noise=drawn)
            assert z.dtype == dtype
            assert torch.equal(z, exact.rsample(noise=drawn).to(dtype))
            assert torch.equal(z, called)
            for mine, other in zip(
                law.rsample_and_log_prob(noise=drawn), exact.rsample_and_log_prob(noise=drawn), strict=True
            ):
                assert torch.equal(mine, other.to(dtype))


def density_of_a_draw(temperature, logits):
    law = RelaxedOneHotCategorical(temperature, logits=logits)
    return law.log_prob(law.sample())


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("num_categories", [10, 1000])
def test_half_precision_passes_its_own_checks(dtype, num_categories):
    logits = torch.randn(200, num_categories, generator=generator("checks")).to(dtype)
    probs = torch.softmax(logits, -1)
    if IS_TORCH:
        with pytest.raises(ValueError, match=r"constraint Simplex|within the support"):
            density_of_a_draw(torch.tensor(0.5), logits)
    if IS_TORCH and dtype == torch.bfloat16 and num_categories == 10:
        with pytest.raises(ValueError, match="constraint Simplex"):
            Categorical(probs)
    laws = (
        igr.GumbelSoftmax(0.5, logits, validate_args=True),
        igr.GumbelSoftmax(0.5, probs=probs, validate_args=True),
        igr.InvertibleGaussian(logits[:, 1:], 1.0, 0.5, validate_args=True),
    )
    for law in laws:
        z, density = law.rsample_and_log_prob((5,), generator("checked draws"))
        assert density.dtype == law.log_prob(z).dtype == dtype
        assert torch.isfinite(density).all()
    exact = torch.softmax(logits.float(), -1)
    assert (laws[0].discrete().probs.float() - exact).abs().max() < torch.finfo(dtype).eps
    # Sums of what half precision holds miss one by more than the law itself does.
    kl = torch.distributions.kl_divergence(laws[0].discrete(), laws[1].discrete())
    assert kl.abs().max() < 1e-3


def test_no_generator_means_draws_that_cannot_be_repeated():
    with pytest.raises(TypeError, match="generator"):
        gumbel_softmax(torch.zeros(3), generator=generator(0))
    with pytest.raises(TypeError, match="generator"):
        RelaxedOneHotCategorical(torch.tensor(0.5), logits=torch.zeros(3)).rsample(generator=generator(0))
    laws = [*simplex_laws(), igr.BinaryConcrete(0.5, torch.zeros(3))]
    draws = [
        lambda g: igr.functional.gumbel_softmax(torch.zeros(50, 3), 0.5, generator=g),
        lambda g: igr.functional.invertible_gaussian(torch.zeros(50, 3), 1.0, 0.5, generator=g),
    ]
    for law in laws:
        draws += [
            lambda g, law=law: law.rsample((50,), g),
            lambda g, law=law: law.sample((50,), g),
            lambda g, law=law: law.rsample_log((50,), g),
            lambda g, law=law: law.rsample_and_log_prob((50,), g)[1],
            lambda g, law=law: law.draw_noise((50,), g),
            lambda g, law=law: law.discrete("monte_carlo", num_samples=50, generator=g).probs,
            lambda g, law=law: law.discrete().sample((50,), generator=g),
        ]
    before = torch.get_rng_state()
    for draw in draws:
        first, again, other = (draw(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_temperature_per_row_gives_the_density_of_each_row():
    temperature = torch.tensor([0.1, 0.5, 1.0, 2.0, 10.0])
    logits = torch.randn(5, 3, generator=generator("rows"))
    if IS_TORCH:
        theirs = RelaxedOneHotCategorical(temperature.unsqueeze(-1), logits=logits)
        assert theirs.batch_shape == (5,)
        assert theirs.log_prob(theirs.rsample()).shape == (5, 5)
        square = RelaxedOneHotCategorical(temperature[:3], logits=logits[:3])  # without a word
        z = torch.softmax(logits[:3], -1)
        alone = RelaxedOneHotCategorical(temperature[0], logits=logits[0]).log_prob(z[0])
        assert (square.log_prob(z)[0] - alone).abs() > 0.1
    rows = {
        igr.GumbelSoftmax(temperature, logits): [
            igr.GumbelSoftmax(t.item(), row) for t, row in zip(temperature, logits, strict=True)
        ],
        igr.InvertibleGaussian(logits, 1.0, temperature): [
            igr.InvertibleGaussian(row, 1.0, t.item()) for t, row in zip(temperature, logits, strict=True)
        ],
    }
    for law, alone in rows.items():
        drawn = law.draw_noise((4,), generator("rows, draws"))
        z, density = law.rsample_and_log_prob(noise=drawn)
        assert density.shape == law.log_prob(z).shape == (4, 5)
        for i, row in enumerate(alone):
            found = row.rsample_and_log_prob(noise=drawn[:, i])
            torch.testing.assert_close((z[:, i], density[:, i]), found, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(law.log_prob(z)[:, i], row.log_prob(z[:, i]), rtol=1e-5, atol=1e-5)
    own = igr.GumbelSoftmax(temperature, logits).draw_noise((), generator("rows, call"))
    called = igr.functional.gumbel_softmax(logits, temperature, noise=own)
    torch.testing.assert_close(called, igr.GumbelSoftmax(temperature, logits).rsample(noise=own))
