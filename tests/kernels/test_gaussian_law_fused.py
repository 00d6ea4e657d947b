"""The kernels of the exact law of IGR-I against plain operations in float64, by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import igr
from cases import generator
from compiled_kernels import compiled
from igr.kernels import fused, gaussian_law_fused
from igr.kernels.gaussian_law import maximum_log_probs
from interpreted_kernels import OLD_CONVERSION, interpret

pytest.importorskip("triton", reason="needs the package triton, which is published for Linux alone")


pytestmark = pytest.mark.filterwarnings(OLD_CONVERSION)


@pytest.fixture(autouse=True)
def by_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few the laws are."""
    interpret(monkeypatch)
    monkeypatch.setattr(gaussian_law_fused, "_FEW", 1)


def parameters(count: int, rows: int = 3, equal: bool = False) -> tuple[Tensor, Tensor]:
    """Laws cut by the threshold or not, one with a variable that underflows, as views with other strides."""
    source = generator(("laws of a kernel", count))
    loc = 2.0 * torch.randn(count, rows, generator=source) + torch.linspace(-6.0, 6.0, rows)
    loc[0, 0] -= 40.0
    scale = 0.4 + torch.rand(1 if equal else count, rows, generator=source)
    return loc.T, scale.T.expand(rows, count)


def run(loc: Tensor, scale: Tensor, threshold: float, num_nodes: int, weight: Tensor) -> list[Tensor]:
    inputs = [t.detach().requires_grad_() for t in (loc, scale)]
    value = maximum_log_probs(*inputs, num_nodes, threshold)
    return [value.detach(), *torch.autograd.grad((value * weight.to(value.dtype)).sum(), inputs)]


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize(
    ("count", "threshold"),
    [
        (1, 0.7),
        (3, 0.0),
        (9, 0.7),
        *(pytest.param(*c, marks=pytest.mark.slow) for c in ((2, 0.0), (40, 0.7), (300, 0.0))),
    ],
)
def test_kernels_give_the_law_and_its_gradient(count, threshold, equal, monkeypatch):
    """What the passes on a CPU give from the same nodes, also where float32 cannot reach the law itself."""
    loc, scale = parameters(count, equal=equal)
    weight = torch.randn(3, count + 1, generator=generator("weight of kernels"))
    assert gaussian_law_fused.can_run(loc, scale)
    found = run(loc, scale, threshold, 60, weight)
    monkeypatch.setattr(fused, "_DEVICES", {"cuda"})
    assert not gaussian_law_fused.can_run(loc, scale)
    expected = run(loc, scale, threshold, 60, weight)
    for ours, theirs in zip(found, expected, strict=True):
        largest = max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(ours, theirs, rtol=3e-4, atol=1e-4 * largest)
    exact, *_ = run(loc.double(), scale.double(), threshold, 500, weight)
    torch.testing.assert_close(found[0].double().exp(), exact.exp(), rtol=1e-4, atol=1e-5)


def test_only_what_is_asked_for_has_a_gradient():
    loc, scale = parameters(4)
    for needs in ((True, False), (False, True)):
        inputs = [t.detach().clone().requires_grad_(n) for t, n in zip((loc, scale), needs, strict=True)]
        maximum_log_probs(*inputs, 40).exp()[:, 0].sum().backward()
        assert [t.grad is not None for t in inputs] == list(needs)


def test_second_derivatives_are_those_of_plain_operations():
    def twice(dtype: torch.dtype) -> Tensor:
        loc, scale = (t.to(dtype) for t in parameters(3))
        loc.requires_grad_()
        (first,) = torch.autograd.grad(
            maximum_log_probs(loc, scale, 80).exp()[:, 1].sum(), loc, create_graph=True
        )
        return torch.autograd.grad(first.square().sum(), loc)[0].double()

    torch.testing.assert_close(twice(torch.float32), twice(torch.float64), rtol=1e-3, atol=1e-4)


def test_extreme_parameters_are_finite():
    extremes = [(m, s) for m in (-1e4, -30.0, 0.0, 30.0, 1e4) for s in (1e-4, 1.0, 1e3)]
    rows = torch.randint(len(extremes), (16, 6), generator=generator("extreme kernels"))
    loc, scale = (torch.tensor(c)[rows].requires_grad_() for c in zip(*extremes, strict=True))
    log_probs = maximum_log_probs(loc, scale, 40)
    assert log_probs.isfinite().all()
    for gradient in torch.autograd.grad(log_probs.sum(), (loc, scale)):
        assert gradient.isfinite().all()


def test_the_discrete_law_and_a_divergence_of_it_come_from_a_kernel(monkeypatch):
    """As on a device: a divergence is that of the law, which a kernel has found."""
    calls = []
    original = gaussian_law_fused.log_probs_of
    monkeypatch.setattr(gaussian_law_fused, "log_probs_of", lambda *a: calls.append(a) or original(*a))
    loc, scale = parameters(4)
    law = igr.InvertibleGaussian(loc, scale, 0.5, delta=1.3)
    found = law.discrete().probs
    assert len(calls) == 1
    exact = igr.InvertibleGaussian(loc.double(), scale.double(), 0.5, delta=1.3)
    torch.testing.assert_close(found.double(), exact.discrete().probs, rtol=1e-4, atol=1e-5)
    prior = torch.distributions.OneHotCategorical(torch.ones(5))
    divergence = law.discrete_kl(prior)
    assert len(calls) == 2
    torch.testing.assert_close(divergence.double(), exact.discrete_kl(prior).double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda loc, scale: (loc.double(), scale.double()),
        lambda loc, scale: (loc[:, :0], scale[:, :0]),
        lambda loc, scale: (loc[:0], scale[:0]),
        lambda loc, scale: (loc.repeat(1, 400), scale.repeat(1, 400)),
    ],
    ids=["float64", "no-variables", "no-laws", "too-many-variables"],
)
def test_what_no_kernel_takes(change):
    assert not gaussian_law_fused.can_run(*change(*parameters(3)))


def test_a_masked_law_and_a_threshold_of_each_law():
    loc, scale = parameters(4)
    mask = torch.tensor(
        [[False, True, False, False, False], [True, True, False, True, False], [True] * 4 + [False]]
    )
    delta = torch.tensor([0.7, 1.0, 2.0])

    def probs(dtype):
        law = igr.InvertibleGaussian(loc.to(dtype), scale.to(dtype), 0.5, delta=delta.to(dtype), mask=mask)
        return law.discrete(num_nodes=120).probs.double()

    found = probs(torch.float32)
    torch.testing.assert_close(found, probs(torch.float64), rtol=1e-4, atol=1e-5)
    assert (found[mask] == 0).all()


COMPILE = """
from igr.kernels import fused, gaussian_law_fused
from igr.kernels.gaussian_law import maximum_log_probs

fused._DEVICES.add("cpu")
gaussian_law_fused._FEW = 1
loc = torch.zeros(3, int(sys.argv[2])).requires_grad_()
for scale in (torch.ones(3, 1).expand_as(loc), torch.ones_like(loc).requires_grad_()):
    maximum_log_probs(loc, scale, 40).sum().backward()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "numbers"), [(80, 9), (90, 1), (90, 1024)])
def test_kernels_of_the_law_compile_for_gpus(capability, numbers, tmp_path):
    assert compiled(COMPILE, capability, tmp_path, str(numbers)) == ["forward", "backward"] * 2
