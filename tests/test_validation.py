"""The checks themselves: what they accept, what they say, and that they read nothing while tracing."""

import math

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from igr import validation


def test_good_values_pass_as_numbers_and_as_tensors():
    for value in (1, 0.5, torch.tensor(0.5), torch.tensor([1e-30, 1e30]), torch.tensor([])):
        validation.check_values("f", "x", value, positive=True)
    for value in (-1, 0.0, torch.tensor([-1.0, 0.0])):
        validation.check_values("f", "x", value)


@pytest.mark.parametrize(
    ("value", "positive", "text"),
    [
        (0, True, "f: expected x to be positive and finite; got 0."),
        (math.nan, False, "f: expected x to be finite; got nan."),
        (-math.inf, False, "f: expected x to be finite; got -inf."),
        (torch.tensor(-2.0), True, "f: expected x to be positive and finite; got -2.0."),
        (
            torch.tensor([1.0, 0.0, -3.0]),
            True,
            "f: expected x to be positive and finite; got 0.0 in 2 of 3 entries.",
        ),
        (torch.tensor([math.inf, 1.0]), False, "f: expected x to be finite; got inf in 1 of 2 entries."),
    ],
    ids=str,
)
def test_bad_values_are_named_and_counted(value, positive, text):
    with pytest.raises(ValueError, match="expected x") as error:
        validation.check_values("f", "x", value, positive=positive)
    assert str(error.value) == text


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_probabilities_normalized_in_their_own_dtype_pass(dtype):
    weight = torch.rand(50, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    validation.check_probabilities("f", weight / weight.sum(-1, keepdim=True), normalized=True)


@pytest.mark.parametrize(
    ("probs", "normalized", "text"),
    [
        ([0.5, -0.25], False, "f: expected probs to be at least 0 and finite; got -0.25."),
        ([0.5, math.nan], False, "f: expected probs to be at least 0 and finite; got nan."),
        ([0.0, 0.0], False, "f: expected probs with a positive sum; got a row of zeros."),
        ([0.5, 0.25], True, "f: expected probs to sum to 1; got a sum of 0.75; divide by the sum."),
    ],
    ids=["negative", "nan", "zeros", "sum"],
)
def test_bad_probabilities(probs, normalized, text):
    with pytest.raises(ValueError, match="expected probs") as error:
        validation.check_probabilities("f", torch.tensor(probs), normalized=normalized)
    assert str(error.value) == text


def test_weights_need_not_sum_to_one_unless_asked():
    validation.check_probabilities("f", torch.tensor([2.0, 3.0]))


def test_shapes_broadcast_or_are_all_named():
    assert validation.broadcast_batch("f", a=(2, 1), b=(3,), c=()) == (2, 3)
    with pytest.raises(ValueError, match="expected shapes") as error:
        validation.broadcast_batch("f", a=(2,), b=(3,))
    assert str(error.value) == ("f: expected shapes that broadcast against each other; got a (2,), b (3,).")


def test_half_precision_computes_in_float32():
    assert [validation.compute_dtype(d) for d in (torch.float16, torch.bfloat16)] == [torch.float32] * 2
    assert [validation.compute_dtype(d) for d in (torch.float32, torch.float64)] == [
        torch.float32,
        torch.float64,
    ]


@pytest.mark.parametrize(
    ("dtype", "lowest"), [(torch.float16, 1e-31), (torch.float32, 1e-31), (torch.float64, 1.1e-292)], ids=str
)
def test_a_temperature_is_one_that_can_be_divided_by(dtype, lowest):
    scores = torch.tensor([1e4, -1e4], dtype=validation.compute_dtype(dtype))
    for value in (lowest, 1.0, torch.tensor([lowest, 1e3], dtype=torch.float64), torch.tensor([])):
        validation.check_temperature("f", "tau", value, dtype)
    assert torch.isfinite(scores / lowest).all()
    for value in (0.5 * lowest, torch.tensor([1.0, 0.5 * lowest], dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"f: expected tau of at least 9\.9e-32|of at least 1\.0e-292"):
            validation.check_temperature("f", "tau", value, dtype)
    for value in (0.0, torch.tensor([1.0, 0.0])):
        with pytest.raises(
            ValueError, match=r"got 0\.0.*; the nearest vertex, .* is that of hard=True and of"
        ):
            validation.check_temperature("f", "tau", value, dtype)
    for value in (-1.0, math.inf):
        with pytest.raises(ValueError, match=r"got [^;]*\.$"):
            validation.check_temperature("f", "tau", value, dtype)
    for value in (0.0, -1.0, math.inf, math.nan, torch.tensor([1.0, 0.0]), torch.tensor([math.nan])):
        with pytest.raises(ValueError, match="f: expected tau to be positive and finite; got"):
            validation.check_temperature("f", "tau", value, dtype)


def test_shapes_of_a_tracer_stay_open():
    def spread(x, y):
        return x.expand(validation.broadcast_shapes(x.shape, y.shape))

    traced = make_fx(spread, tracing_mode="symbolic")(torch.zeros(5, 3), torch.zeros(1))
    assert traced(torch.zeros(7, 2), torch.zeros(1)).shape == (7, 2)
    assert validation.broadcast_shapes((2, 1), (3,), ()) == (2, 3)
    with pytest.raises(RuntimeError):
        validation.broadcast_shapes((2,), (3,))


def test_nothing_is_read_under_vmap_or_compile():
    bad = torch.tensor([[-1.0, 2.0]])

    def check(value):
        validation.check_values("f", "x", value, positive=True)
        validation.check_probabilities("f", value, normalized=True)
        validation.check_temperature("f", "x", value, torch.float32)
        return value + 1.0

    assert torch.equal(torch.func.vmap(check)(bad), bad + 1.0)
    assert torch.equal(torch.compile(check, fullgraph=True, backend="eager")(bad), bad + 1.0)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("IGR", "did you mean igr?"),
        ("igr-bs", "did you mean igr-sb?"),
        ("x", "choose one of these."),
        (["igr"], "choose"),
    ],
)
def test_a_name_outside_of_a_closed_set(given, advice):
    with pytest.raises(ValueError, match="f: expected family to be one of igr, igr-sb; got") as refusal:
        validation.check_name("f", "family", given, ["igr", "igr-sb"])
    assert advice in str(refusal.value)
    validation.check_name("f", "family", "igr", ["igr", "igr-sb"])
