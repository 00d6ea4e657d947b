"""Calibrated temperatures against closed forms where K = 2, and on fresh samples of every law."""

import math
import re

import pytest
import scipy.stats
import torch

import igr
from cases import CASES, bits, each, generator, tensor
from igr.diagnostics import vertex_distance
from igr.fitting import calibrate_temperature, temperature
from igr.fitting.temperature import FixedSamples, temperature_within

N = 10_000
NEAREST = re.compile(r"the nearest that can be reached being (\S+), at temperature (\S+)\.$")


def share_within(law, at, distance, number, key):
    """The share of new samples, of all laws of a batch, and how many there are."""
    log_z = law.with_temperature(at).rsample_log((number,), generator(key))
    within = vertex_distance(log_z) <= distance
    return within.double().mean().item(), within.numel()


# For K = 2, z = sigmoid(x / temperature): the law of x.
BINARY = {
    "igr": (
        igr.InvertibleGaussian(tensor(0.7), tensor(1.3), 1.0),
        scipy.stats.norm(0.7, 1.3),
    ),
    "gs": (
        igr.GumbelSoftmax(1.0, logits=tensor(0.4, 0.0)),
        scipy.stats.logistic(0.4),
    ),
    "sb-log": (
        igr.InvertibleGaussian(tensor(0.7), tensor(1.3), 1.0, igr.LogisticStickBreakingTransform("log")),
        scipy.stats.norm(0.7, 1.3),
    ),
}


@pytest.mark.parametrize(("law", "law_of_x"), BINARY.values(), ids=BINARY)
@pytest.mark.parametrize(
    ("distance", "quantile"), [(0.2, 0.75), (0.2, 0.1), (0.2, 0.99), (1e-8, 0.5), (0.6, 0.5), (0.7, 0.9)]
)
def test_two_categories_give_the_quantile_of_the_closed_form(law, law_of_x, distance, quantile):
    """|x| / temperature is beyond the logit of d / sqrt 2 with the probability q."""
    found = calibrate_temperature(law, distance, quantile, num_samples=N, generator=generator(distance))
    rest = distance / math.sqrt(2)
    far = found * (math.log1p(-rest) - math.log(rest))
    reached = law_of_x.cdf(-far) + law_of_x.sf(far)
    assert abs(reached - quantile) < 5 * math.sqrt(quantile * (1 - quantile) / N)


def test_two_sticks_by_length_give_the_quantile_of_the_closed_form():
    """z = sigmoid(eta / temperature) with eta = sigmoid(y), so that eta = 1 bounds the temperature."""
    law = igr.InvertibleGaussian(tensor(0.5), tensor(1.5), 1.0, igr.LogisticStickBreakingTransform("length"))
    found = calibrate_temperature(law, 0.2, 0.6, num_samples=N, generator=generator("length"))
    rest = 0.2 / math.sqrt(2)
    eta = found * (math.log1p(-rest) - math.log(rest))
    reached = scipy.stats.norm(0.5, 1.5).sf(math.log(eta / (1 - eta)))
    assert abs(reached - 0.6) < 5 * math.sqrt(0.24 / N)


@each()
def test_new_samples_have_the_share(case):
    law = case.law()
    found = calibrate_temperature(law, num_samples=4000, generator=generator("old"))
    share, number = share_within(law, found, 0.2, 4000, "new")
    # The quantile is an estimate as well, from as many samples.
    assert abs(share - 0.75) < 5 * math.sqrt(2 * 0.75 * 0.25 / number)


@each()
def test_it_is_the_highest_for_its_own_samples(case):
    samples = FixedSamples([case.law()], 500, [7])
    found = temperature_within(samples, 0.2, 0.75)
    assert samples.quantile(found, 0.75) <= 0.2
    assert samples.quantile(found * (1 + 2 * temperature.TOLERANCE), 0.75) > 0.2


@each(where=lambda case: not case.is_cold)
def test_its_own_temperature_has_no_part(case):
    law = case.law()
    found = [
        calibrate_temperature(other, 0.3, 0.6, num_samples=200, generator=generator("own"))
        for other in (law, law.with_temperature(1e-3), law.with_temperature(50.0))
    ]
    assert found[0] == found[1] == found[2]


def test_a_batch_of_temperatures_has_no_part():
    law = CASES["igr-K10-batch2-temperatures"].law()
    found = calibrate_temperature(law, num_samples=200, generator=generator("t"))
    assert found == calibrate_temperature(
        law.with_temperature(0.3), num_samples=200, generator=generator("t")
    )


@pytest.mark.parametrize(
    "name", ["gs-K3-batch", "gs-K10-masked-temperatures", "sb-length-K4-delta", "planar-K4-flow-delta"]
)
def test_it_rises_with_the_distance_and_falls_with_the_quantile(name):
    samples = FixedSamples([CASES[name].law()], 1000, [0])
    distances = [1e-30, 1e-6, 0.01, 0.2, 0.5]
    by_distance = [temperature_within(samples, distance, 0.75) for distance in distances]
    assert by_distance == sorted(set(by_distance))
    quantiles = [1e-9, 0.1, 0.5, 0.9, 1.0]
    by_quantile = [temperature_within(samples, 0.2, quantile) for quantile in quantiles]
    assert by_quantile == sorted(set(by_quantile), reverse=True)


def test_temperatures_scale_with_the_scores():
    loc, scale = torch.randn(5, dtype=torch.float64, generator=generator("loc")), 0.7
    found = [
        calibrate_temperature(
            igr.InvertibleGaussian(unit * loc, unit * scale, 1.0), generator=generator("scores")
        )
        for unit in (2.0**-40, 1.0, 2.0**20)
    ]
    assert found == pytest.approx([2.0**-40 * found[1], found[1], 2.0**20 * found[1]], rel=1e-5)


def test_the_share_of_all_and_of_none_are_those_of_single_samples():
    """The quantile 1 is that of the sample that stays farthest away, the smallest that of the closest."""
    samples = FixedSamples([CASES["gs-K3-batch"].law()], 20, [1])
    for quantile, extreme in ((1.0, max), (1e-9, min), (1 / 60, min)):
        found = temperature_within(samples, 0.2, quantile)
        (distances,) = samples.vertex_distances(found)
        assert extreme(distances.flatten().tolist()) == pytest.approx(0.2, rel=1e-3)


def test_the_share_counts_whole_samples():
    """Three of 30 samples are a share of 0.1, although 0.1 * 30 is above 3."""
    samples = FixedSamples([CASES["gs-K2"].law()], 30, [1])
    (distances,) = samples.vertex_distances(0.3)
    assert samples.quantile(0.3, 0.1) == sorted(distances.tolist())[2]
    assert samples.quantile(0.3, 0.1001) == sorted(distances.tolist())[3]


def test_several_laws_count_together():
    """A batch in one piece or in two, of different sizes, has the same temperature but for the noise."""
    logits = 1.5 * torch.randn(6, 4, dtype=torch.float64, generator=generator("several"))
    whole = FixedSamples([igr.GumbelSoftmax(1.0, logits=logits)], N, [1])
    parts = FixedSamples(
        [igr.GumbelSoftmax(1.0, logits=logits[:1]), igr.GumbelSoftmax(1.0, logits=logits[1:])], N, [2, 3]
    )
    found = temperature_within(parts, 0.2, 0.75)
    (distances,) = whole.vertex_distances(found)
    share = (distances <= 0.2).double().mean().item()
    assert abs(share - 0.75) < 5 * math.sqrt(2 * 0.75 * 0.25 / (6 * N))


def test_parts_are_pooled(monkeypatch):
    """Samples in many parts have the share that samples in one have."""
    law = CASES["igr-K10-float-scale"].law()
    whole = FixedSamples([law], 5000, [1])
    found = temperature_within(whole, 0.2, 0.75)
    monkeypatch.setattr(temperature, "_AT_ONCE", 2000)
    (in_parts,) = whole.vertex_distances(found)
    assert in_parts.shape == (5000, 3)
    assert len(in_parts.unique()) == in_parts.numel()
    share = (in_parts <= 0.2).double().mean().item()
    assert abs(share - 0.75) < 5 * math.sqrt(2 * 0.75 * 0.25 / 15_000)


@pytest.mark.parametrize(("delta", "loc"), [(0.1, -0.3), (10.0, 0.3)])
def test_another_delta_stops_at_the_first_rise(delta, loc):
    """At high temperature the samples are at (1, delta) / (1 + delta), and so again within the distance."""
    law = igr.InvertibleGaussian(tensor(loc), tensor(1.0), 1.0, delta=delta)
    samples = FixedSamples([law], 2000, [4])
    found = temperature_within(samples, 0.2, 0.75)
    assert samples.quantile(1e6, 0.75) < 0.2
    assert samples.quantile(found * 1.0001, 0.75) > 0.2
    for octaves in torch.arange(0, 12, 0.1).tolist():
        assert samples.quantile(found * 2.0**-octaves, 0.75) <= 0.2
    # For K = 2 the law is that with delta = 1 and another loc, which the temperature moves.
    other = FixedSamples(
        [igr.InvertibleGaussian(tensor(loc) - found * math.log(delta), tensor(1.0), 1.0)], 2000, [4]
    )
    assert other.quantile(found, 0.75) == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize(
    "name", ["gs-K3-batch", "igr-K3-delta", "sb-log-K10-temperatures", "planar-K4-flow-delta"]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_computed_in_float32(name, dtype):
    """Its samples have the share in float64, but for the rounding of the parameters."""
    law = CASES[name].law(dtype, temperature=1.0)
    found = calibrate_temperature(law, 0.1, 0.7, num_samples=4000, generator=generator("half"))
    share, number = share_within(CASES[name].law(), found, 0.1, 4000, "double")
    # bfloat16 moves the parameters by up to 2^-9 of their size.
    assert abs(share - 0.7) < 5 * math.sqrt(2 * 0.21 / number) + 0.005
    (distances,) = FixedSamples([law], 4000, [1]).vertex_distances(found)
    assert distances.dtype == torch.float32
    # 4000 distances of bfloat16 would fall on some 1000 numbers.
    assert len(distances.unique()) > 0.9 * distances.numel()


def test_it_touches_neither_gradients_nor_the_default_generator():
    loc = torch.zeros(3, requires_grad=True)
    law = igr.InvertibleGaussian(loc, 1.0, 0.5)
    state = torch.random.get_rng_state()
    found = calibrate_temperature(law, num_samples=500, generator=generator("g"))
    assert loc.grad is None
    assert torch.equal(torch.random.get_rng_state(), state)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert calibrate_temperature(law, num_samples=500, generator=generator("g")) == found
    # Without a generator torch's default one is used.
    torch.manual_seed(5)
    first = calibrate_temperature(law, num_samples=500)
    torch.manual_seed(5)
    assert calibrate_temperature(law, num_samples=500) == first != found


def test_masked_parameters_have_no_part():
    mask = bits("0100")
    found = [
        calibrate_temperature(
            igr.GumbelSoftmax(1.0, logits=tensor(0.3, masked, -1.0, 0.5), mask=mask),
            num_samples=500,
            generator=generator("m"),
        )
        for masked in (0.0, -100.0, 100.0)
    ]
    assert found[0] == found[1] == found[2]


# What cannot be reached.

HIGH = {
    "gs-K2": math.sqrt(1 / 2),
    "igr-K3-batch": math.sqrt(2 / 3),
    "gs-K10-cold": math.sqrt(9 / 10),
    "sb-length-K2": math.sqrt(1 / 2),
    "sb-log-K10-temperatures": math.sqrt(9 / 10),
    "planar-K2": math.sqrt(1 / 2),
    "igr-K5-one-mask": math.sqrt(2 / 3),
}


def law_named(name):
    if name == "igr-K5-one-mask":
        loc = torch.randn(4, dtype=torch.float64, generator=generator(name))
        return igr.InvertibleGaussian(loc, 1.0, 1.0, mask=bits("00110"))
    return CASES[name].law()


@pytest.mark.parametrize("name", HIGH)
def test_a_distance_beyond_the_centre_names_the_centre(name):
    law = law_named(name)
    with pytest.raises(ValueError, match=r"got 0\.99, within which it lies at every one of them") as error:
        calibrate_temperature(law, 0.99, num_samples=500, generator=generator("high"))
    nearest, at = map(float, NEAREST.search(str(error.value)).groups())
    assert HIGH[name] - 2e-4 < nearest < HIGH[name]
    found = calibrate_temperature(law, nearest, num_samples=500, generator=generator("high"))
    assert found == pytest.approx(at, rel=1e-3)


def test_the_farthest_that_another_delta_goes_is_named():
    """There the largest distance of the quantile is at no end, but at a temperature between."""
    law = igr.InvertibleGaussian(tensor(0.3), tensor(1.0), 1.0, delta=10.0)
    with pytest.raises(ValueError, match="every one of them") as error:
        calibrate_temperature(law, 0.7, 0.75, num_samples=2000, generator=generator("delta"))
    nearest, at = map(float, NEAREST.search(str(error.value)).groups())
    found = calibrate_temperature(law, nearest, 0.75, num_samples=2000, generator=generator("delta"))
    assert found == pytest.approx(at, rel=1e-3)
    seed = int(torch.randint(2**63 - 1, (), generator=generator("delta")))
    samples = FixedSamples([law], 2000, [seed])
    grid = [found * 2.0 ** (i / 20) for i in range(-60, 61)]
    farthest = max(samples.quantile(t, 0.75) for t in grid)
    # The steps upward miss the top by less than that.
    assert nearest <= farthest < 1.02 * nearest
    assert samples.quantile(1e6, 0.75) < 0.9 * nearest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_distance_below_the_smallest_number_names_that(dtype):
    law = CASES["igr-K3-batch"].law(dtype)
    least = torch.finfo(dtype).tiny
    with pytest.raises(ValueError, match="within which it lies at none of them") as error:
        calibrate_temperature(law, least / 2, num_samples=500, generator=generator("low"))
    nearest, at = map(float, NEAREST.search(str(error.value)).groups())
    assert least <= nearest < 1.001 * least
    assert calibrate_temperature(law, nearest, num_samples=500, generator=generator("low")) == pytest.approx(
        at, rel=1e-3
    )


def tied(*more):
    """Two scores that are equal whatever the noise, and others: they stay half way between two vertices."""

    class Twice(torch.distributions.Transform):
        domain = codomain = torch.distributions.constraints.real_vector
        bijective = True

        def _call(self, x):
            return torch.cat([x[..., :1] + 50.0, x[..., :1] + 50.0, x[..., 2:]], -1)

        def _inverse(self, y):
            return y

        def log_abs_det_jacobian(self, x, y):
            return x.new_zeros(x.shape[:-1])

    return igr.InvertibleGaussian(torch.zeros(2 + len(more)), 1.0, 1.0, Twice())


def test_ties_are_no_closer_to_a_vertex_than_half_way():
    law = tied(0.0)
    with pytest.raises(ValueError, match=r"got 0\.2, within which it lies at none of them") as error:
        calibrate_temperature(law, num_samples=500, generator=generator("tie"))
    nearest, at = map(float, NEAREST.search(str(error.value)).groups())
    assert math.sqrt(1 / 2) < nearest < math.sqrt(1 / 2) + 2e-4
    found = calibrate_temperature(law, nearest, num_samples=500, generator=generator("tie"))
    assert found == pytest.approx(at, rel=1e-3)
    share, _ = share_within(law, found, nearest, 500, "tie again")
    assert abs(share - 0.75) < 5 * math.sqrt(2 * 0.75 * 0.25 / 500)


@pytest.mark.parametrize(
    ("law", "stuck"),
    [
        (igr.GumbelSoftmax(1.0, logits=torch.zeros(3), mask=bits("101")), "0"),
        (igr.InvertibleGaussian(torch.zeros(2), 1.0, 1.0, mask=bits("110")), "0"),
        # Three of four laws have one category.
        (igr.GumbelSoftmax(1.0, logits=torch.zeros(4, 2), mask=bits("10", "01", "10", "00")), "0"),
        # Lengths that are zero in float32.
        (
            igr.InvertibleGaussian(
                torch.full((1,), -200.0), 1.0, 1.0, igr.LogisticStickBreakingTransform("length")
            ),
            "0.7071|0.7072",
        ),
    ],
    ids=["gs", "igr", "most", "sticks"],
)
def test_samples_that_no_temperature_moves_are_refused(law, stuck):
    with pytest.raises(ValueError, match=rf"got a share of 0\.75 within ({stuck}) at every temperature"):
        calibrate_temperature(law, num_samples=100, generator=generator("stuck"))


def test_the_moving_laws_of_a_batch_can_be_calibrated():
    """Three of four laws are always at a vertex, so 0.95 of all is 0.8 of the fourth."""
    law = igr.GumbelSoftmax(1.0, logits=torch.zeros(4, 2), mask=bits("10", "01", "10", "00"))
    found = calibrate_temperature(law, 0.2, 0.95, num_samples=N, generator=generator("few"))
    rest = 0.2 / math.sqrt(2)
    reached = 2 * scipy.stats.logistic.sf(found * (math.log1p(-rest) - math.log(rest)))
    assert abs(reached - 0.8) < 5 * math.sqrt(0.16 / N)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"distribution": torch.zeros(3)}, TypeError, "a SimplexRelaxation; got Tensor"),
        ({"distribution": igr.GumbelSoftmax(1.0, torch.zeros(0, 3))}, ValueError, r"got batch shape \(0,\)"),
        ({"distance": 0.0}, ValueError, "distance to be positive and finite; got 0.0"),
        ({"distance": -1}, ValueError, "distance to be positive and finite; got -1.0"),
        ({"distance": math.inf}, ValueError, "distance to be positive and finite; got inf"),
        ({"distance": math.nan}, ValueError, "distance to be positive and finite; got nan"),
        ({"distance": "near"}, TypeError, "distance to be a number; got 'near'"),
        ({"quantile": 0.0}, ValueError, "quantile above 0 and at most 1; got 0.0"),
        ({"quantile": 75}, ValueError, "quantile above 0 and at most 1; got 75.0"),
        ({"quantile": math.nan}, ValueError, "quantile above 0 and at most 1; got nan"),
        ({"quantile": None}, TypeError, "quantile to be a number; got None"),
        ({"num_samples": 0}, ValueError, "num_samples of at least 1; got 0"),
        ({"num_samples": 10.0}, TypeError, "num_samples to be an int; got 10.0"),
    ],
)
def test_arguments_that_cannot_be_used(changes, kind, said):
    arguments = {"distribution": igr.GumbelSoftmax(1.0, torch.zeros(3)), **changes}
    with pytest.raises(kind, match=f"^calibrate_temperature: expected .*{said}"):
        calibrate_temperature(**arguments)


def test_samples_that_are_no_numbers_are_refused():
    law = igr.GumbelSoftmax(1.0, torch.tensor([0.0, math.nan]), validate_args=False)
    with pytest.raises(ValueError, match="got NaN in 100 of 100"):
        calibrate_temperature(law, num_samples=100)


def test_a_tracer_is_refused():
    law = igr.GumbelSoftmax(1.0, torch.zeros(3))
    with pytest.raises(NotImplementedError, match="no tracer can follow"):
        torch.func.vmap(lambda x: x * calibrate_temperature(law))(torch.ones(2))
