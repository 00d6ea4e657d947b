"""What objects say of themselves is one line that tells what they hold, wherever it lies."""

import ast
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import igr
from cases import BINARY, CASES, Case, bits, generator, gumbel, tensor
from igr import reprs
from igr.distributions import MeanEstimate
from igr.estimators import Surrogate
from igr.fitting import as_target
from igr.models.latents.latent import LatentSample
from igr.ternary import ternary_grid

EVERY = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in {**CASES, **BINARY}.items()]
)
STICKS = igr.LogisticStickBreakingTransform()
NAN = float("nan")
PARTS = {"kl_discrete": torch.ones(7), "kl_gaussian": torch.ones(7)}


def told(text: str) -> dict[str, Any]:
    """The settings in a repr that reads as a call, but for a transform."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    return {
        str(keyword.arg): ast.literal_eval(keyword.value)
        for keyword in call.keywords
        if keyword.arg != "transform"
    }


@EVERY
def test_every_law_is_one_line_with_its_temperature(case: Case) -> None:
    law = case.law()
    text = repr(law)
    assert "\n" not in text
    # The names of stick-breaking transforms take a third of it.
    assert len(text) <= (135 if "LogisticStickBreaking" in text else reprs.LONGEST)
    assert text.startswith(f"{type(law).__name__}(")
    assert text.endswith(")")
    assert "temperature=" in text
    # No name of a class that is not public.
    assert "=_" not in text


@EVERY
def test_a_law_shows_its_numbers_or_its_shape(case: Case) -> None:
    """What stands there as a number is what the law holds, and nothing that it is made of is left out."""
    law = case.law()
    text = repr(law)
    if f"batch_shape={tuple(law.batch_shape)}" in text:
        assert isinstance(law, igr.BinaryRelaxation) or f"num_categories={law.num_categories}" in text
        return
    shown = told(text)
    for name, value in shown.items():
        held = torch.as_tensor(getattr(law, name), dtype=torch.float64)
        given = torch.tensor(value, dtype=torch.float64).expand(held.shape)
        torch.testing.assert_close(given, held, rtol=5e-3, atol=0.0)
    delta = getattr(law, "delta", 1.0)
    assert set(shown) == {"loc", "scale", "temperature", *(["delta"] if delta != 1.0 else [])} or (
        set(shown) == {"probs", "temperature"}
    )


LAWS: dict[str, tuple[Callable[[], Any], str]] = {
    "gs": (
        lambda: igr.GumbelSoftmax(0.5, probs=torch.tensor([0.5, 0.3, 0.2])),
        "GumbelSoftmax(probs=[0.5, 0.3, 0.2], temperature=0.5)",
    ),
    "igr": (
        lambda: igr.InvertibleGaussian(torch.tensor([0.0, 0.3]), 1.0, 0.4, delta=0.5),
        "InvertibleGaussian(loc=[0, 0.3], scale=1, temperature=0.4, delta=0.5)",
    ),
    "scales": (
        lambda: igr.InvertibleGaussian(torch.tensor([0.0, 0.3]), torch.tensor([1.0, 2.0]), 0.4),
        "InvertibleGaussian(loc=[0, 0.3], scale=[1, 2], temperature=0.4)",
    ),
    "sticks": (
        lambda: igr.InvertibleGaussian(torch.tensor([0.0, 0.3]), 1.0, 0.4, STICKS),
        "InvertibleGaussian(loc=[0, 0.3], scale=1, temperature=0.4, "
        "transform=LogisticStickBreakingTransform('length'))",
    ),
    "many digits": (
        lambda: igr.InvertibleGaussian(torch.tensor([0.123441, 12.3441]), 2.34441, 0.345641),
        "InvertibleGaussian(loc=[0.123, 12.3], scale=2.344, temperature=0.3456)",
    ),
    "many digits of many": (
        lambda: igr.BinaryInvertibleGaussian(torch.linspace(-1.23441, 2.34441, 9), 1.0, 0.5),
        "BinaryInvertibleGaussian(batch_shape=(9,), loc in -1.23..2.34, scale=1, temperature=0.5)",
    ),
    "large": (
        lambda: igr.InvertibleGaussian(torch.linspace(-1.5, 2, 128 * 9).view(128, 9), 1.0, 0.4),
        "InvertibleGaussian(num_categories=10, batch_shape=(128,), loc in -1.5..2, scale=1, temperature=0.4)",
    ),
    "large sticks": (
        lambda: igr.InvertibleGaussian(torch.zeros(128, 20, 9), 1.0, 0.4, STICKS),
        "InvertibleGaussian(num_categories=10, LogisticStickBreakingTransform('length'), temperature=0.4, "
        "batch_shape=(128, 20))",
    ),
    "flow": (
        lambda: igr.InvertibleGaussian(torch.zeros(2), 1.0, 0.4, igr.PlanarFlow(3, 2)),
        "InvertibleGaussian(loc=[0, 0], scale=1, temperature=0.4, transform=PlanarFlow)",
    ),
    "masked": (
        lambda: igr.GumbelSoftmax(0.5, torch.zeros(3), mask=bits("010")),
        "GumbelSoftmax(probs=[0.5, -, 0.5], temperature=0.5, available=2 of 3)",
    ),
    "masked loc": (
        lambda: igr.InvertibleGaussian(torch.tensor([0.5, NAN]), 1.0, 0.5, mask=bits("010")),
        "InvertibleGaussian(loc=[0.5, -], scale=1, temperature=0.5, available=2 of 3)",
    ),
    "masks": (
        lambda: gumbel(4, (3,), temperature=0.5, mask=bits("0100", "1010", "1101")).law(),
        "GumbelSoftmax(num_categories=4, batch_shape=(3,), temperature=0.5, available=1..3 of 4)",
    ),
    "temperatures": (
        lambda: igr.GumbelSoftmax(torch.linspace(0.1, 1.0, 10), torch.zeros(10, 3)),
        "GumbelSoftmax(num_categories=3, batch_shape=(10,), logits=0, temperature=tensor(10,) in 0.1..1)",
    ),
    "empty": (
        lambda: igr.InvertibleGaussian(torch.zeros(0, 9), 1.0, 0.4),
        "InvertibleGaussian(num_categories=10, batch_shape=(0,), temperature=0.4)",
    ),
    "half": (
        lambda: igr.GumbelSoftmax(0.5, torch.zeros(2, dtype=torch.bfloat16)),
        "GumbelSoftmax(probs=[0.5, 0.5], temperature=0.5)",
    ),
    "trained": (
        lambda: igr.GumbelSoftmax(0.5, torch.zeros(2, requires_grad=True)),
        "GumbelSoftmax(probs=[0.5, 0.5], temperature=0.5)",
    ),
    "NaN": (
        lambda: igr.InvertibleGaussian(torch.tensor([NAN, 1.0]), 1.0, 0.4, validate_args=False),
        "InvertibleGaussian(loc=[nan, 1], scale=1, temperature=0.4)",
    ),
    "NaN among many": (
        lambda: igr.InvertibleGaussian(torch.full((9,), NAN), 1.0, 0.4, validate_args=False),
        "InvertibleGaussian(num_categories=10, batch_shape=(), loc with NaN, scale=1, temperature=0.4)",
    ),
    "binary": (
        lambda: igr.BinaryConcrete(0.5, probs=torch.tensor([0.2, 0.7])),
        "BinaryConcrete(probs=[0.2, 0.7], temperature=0.5)",
    ),
    "binary igr": (
        lambda: igr.BinaryInvertibleGaussian(torch.tensor(0.2), 2.0, 0.5),
        "BinaryInvertibleGaussian(loc=0.2, scale=2, temperature=0.5)",
    ),
    "binary, many": (
        lambda: igr.BinaryInvertibleGaussian(torch.arange(240.0), 2.0, 0.5),
        "BinaryInvertibleGaussian(batch_shape=(240,), loc in 0..239, scale=2, temperature=0.5)",
    ),
    "exact": (
        lambda: igr.GumbelSoftmax(0.5, probs=torch.tensor([0.5, 0.3, 0.2])).discrete(),
        "DiscreteLaw(probs=[0.5, 0.3, 0.2], exact)",
    ),
    "estimated": (
        lambda: igr.DiscreteLaw.from_counts(torch.full((5, 10), 40.0), 400, torch.float32),
        "DiscreteLaw(num_categories=10, batch_shape=(5,), estimated, standard_error<=0.015)",
    ),
    "never drawn": (
        lambda: igr.DiscreteLaw(torch.tensor([0.0, -torch.inf])),
        "DiscreteLaw(probs=[1, 0], exact)",
    ),
    "softmax++": (
        lambda: igr.SoftmaxPlusPlusTransform(0.5, torch.tensor([0.1, 1.0])),
        "SoftmaxPlusPlusTransform(temperature=0.5, delta=[0.1, 1])",
    ),
    "target": (
        lambda: as_target([0.5, 0.25, 0.25]),
        "Target(3 probabilities, num_categories=3, first=0, tail=0)",
    ),
    "mean": (
        lambda: MeanEstimate(torch.linspace(0.0, 1.0, 12).view(3, 4), None, "quadrature"),
        "MeanEstimate(value=tensor(3, 4) in 0..1, standard_error=None, method='quadrature')",
    ),
    "surrogate": (
        lambda: Surrogate(torch.tensor(0.25), torch.full((20,), 3.0)),
        "Surrogate(value=0.25, loss=tensor(20,) of 3, control_loss=None)",
    ),
    "parts by name": (
        lambda: LatentSample(torch.zeros(7), torch.ones(7), PARTS),
        "LatentSample(points=tensor(7,) of 0, kl=tensor(7,) of 1, parts=['kl_discrete', 'kl_gaussian'])",
    ),
    "grid": (lambda: ternary_grid(10), "TernaryGrid(num_points=100, cell=0.005)"),
}


@pytest.mark.parametrize("name", LAWS)
def test_reprs_read_like_this(name: str) -> None:
    make, text = LAWS[name]
    assert repr(make()) == text


def test_only_so_many_numbers_are_looked_through() -> None:
    few = torch.zeros(()).expand(2**20)
    many = torch.zeros(()).expand(2**20 + 1)
    assert reprs.is_constant(few)
    assert not reprs.is_constant(many)
    assert (reprs.spread("loc", few), reprs.spread("loc", many)) == ("loc=0", "")


def test_a_whole_sample_of_sticks_is_told_in_a_line() -> None:
    law = igr.InvertibleGaussian(torch.zeros(400, 99), 0.5, 0.1, STICKS)
    cut = igr.StickTruncation()(law, generator=generator(0))
    text = repr(cut)
    assert text.startswith("CutSticks(num_sticks=8, num_categories=100, batch_shape=(400,), num_needed=")
    assert len(text) <= reprs.LONGEST


def without_numbers(law: Any) -> bool:
    """Whether a repr tells shapes alone."""
    text = repr(law)
    return "loc" not in text and "probs" not in text and "batch_shape=(" in text


def made(loc: Tensor) -> tuple[Any, ...]:
    """Laws of all kinds whose parameters are a function of a tensor [2]."""
    temperature = loc.exp().sum()
    return (
        igr.InvertibleGaussian(loc, loc.exp(), temperature, delta=temperature, validate_args=False),
        igr.GumbelSoftmax(temperature, loc, validate_args=False),
        igr.BinaryConcrete(0.5, loc, validate_args=False),
        igr.BinaryInvertibleGaussian(loc, loc.exp(), 0.5, validate_args=False),
        igr.DiscreteLaw(loc, loc.exp()),
    )


def test_nothing_is_read_of_a_device_that_would_have_to_be_waited_for() -> None:
    """Reading a number of a tensor on ``meta`` raises, as it would wait on a GPU."""
    for law in made(torch.zeros(2, device="meta")):
        assert without_numbers(law)
    mask = torch.zeros(2, dtype=torch.bool, device="meta")
    masked = igr.GumbelSoftmax(0.5, torch.zeros(2, device="meta"), validate_args=False, mask=mask)
    assert repr(masked) == "GumbelSoftmax(num_categories=2, batch_shape=(), temperature=0.5, masked)"


# Torch imports what its own forward mode is made of when it is first used.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad, torch.func.jacfwd])
def test_nothing_is_read_under_a_transform_of_torch_func(transform: Any) -> None:
    kept: list[Any] = []

    def function(loc: Tensor) -> Tensor:
        kept.extend(made(loc))
        assert all(map(without_numbers, kept))
        return loc.sum()

    transform(function)(torch.zeros(4, 2) if transform is torch.func.vmap else torch.zeros(2))
    # What has escaped has no numbers of its own.
    assert all(map(without_numbers, kept))


def test_nothing_is_read_of_fake_tensors() -> None:
    real = made(torch.zeros(2))
    with FakeTensorMode():
        for law in (*made(torch.zeros(2)), *real):
            assert without_numbers(law)
    assert not any(map(without_numbers, real))


def test_a_law_whose_shape_alone_is_long_is_cut() -> None:
    law = igr.InvertibleGaussian(torch.zeros(*[1] * 40, 9), 1.0, 0.4)
    assert len(repr(law)) == 140
    assert repr(law).endswith("...)")


def test_scale_and_delta_are_told() -> None:
    """Two laws that differ in any number have different reprs."""
    base = {"loc": tensor(0.1, 0.2), "scale": tensor(1.0, 2.0), "temperature": 0.5, "delta": 0.7}
    others = {"loc": tensor(0.1, 0.3), "scale": tensor(1.0, 3.0), "temperature": 0.6, "delta": 0.8}
    texts = {repr(igr.InvertibleGaussian(**base))}
    texts |= {repr(igr.InvertibleGaussian(**{**base, name: value})) for name, value in others.items()}
    assert len(texts) == 5


def test_gradients_may_be_batched() -> None:
    """With is_grads_batched a backward pass may meet laws of tensors that stand for many."""
    seen = []
    x = torch.zeros(2, requires_grad=True)
    y = 2 * x
    y.register_hook(lambda gradient: seen.append(repr(made(gradient)[1])))
    torch.autograd.grad(y, x, torch.eye(2), is_grads_batched=True)
    assert seen
    assert "batch_shape" in seen[0]
