"""The discrete sample is the largest of the relaxed one, and the conditional map is the right one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

import igr
from estimator_problems import distribution, parameters
from igr.estimators import REBAR
from igr.estimators.coupling import coupled
from igr.estimators.reparameterized import _conditional_noise
from igr.kernels.gaussian_conditional import _integral, gaussian_conditional
from igr.kernels.gaussian_law import maximum_log_probs

LOC = torch.tensor([0.4, -0.6, 0.2], dtype=torch.float64)
SCALE = torch.tensor([1.1, 0.7, 1.5], dtype=torch.float64)


def draws(count: int, threshold: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noise [N, 3] of IGR-I, its Gaussian vector, and which variable won (all False where none did)."""
    noise = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = LOC + SCALE * noise
    full = torch.cat([y, torch.full((count, 1), threshold, dtype=torch.float64)], dim=-1)
    winner = torch.nn.functional.one_hot(full.argmax(-1), 4).bool()[:, :3]
    return noise, y, winner


@pytest.mark.parametrize("law", ["gumbel-softmax", "igr"])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_discrete_sample_is_the_largest_of_the_relaxed_one(
    law: str, temperature: float, dtype: torch.dtype
) -> None:
    values = {name: value.to(dtype) for name, value in parameters(law, 5).items()}
    relaxation = distribution(law, values)
    estimator = REBAR(temperature)
    noise = estimator.draw_noise(relaxation, 2000, generator=torch.Generator().manual_seed(0))
    met: list[Tensor] = []

    def of(points: Tensor) -> Tensor:
        met.append(points.detach())
        return points.square().sum((-2, -1))

    estimator(of, relaxation, 2000, noise=noise)
    hard, relaxed = met
    # From the definitions of the laws, with none of the code under test.
    if law == "gumbel-softmax":
        scores = values["logits"] + noise
    else:
        y = torch.addcmul(values["loc"], values["scale"], noise)
        scores = torch.nn.functional.pad(y, (0, 1), value=0.5 * math.log(1.3))
    assert torch.equal(hard, torch.nn.functional.one_hot(scores.argmax(-1), 5).to(dtype))
    rtol = 1e-6 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(relaxed, torch.softmax(scores / temperature, -1), rtol=rtol, atol=1e-12)
    # Where entries round to the same number, each of them is a largest one.
    assert ((relaxed == relaxed.amax(-1, keepdim=True)) & hard.bool()).any(-1).all()


@pytest.mark.parametrize("threshold", [0.9, -2.0])
def test_the_noise_given_the_category_is_uniform(threshold: float) -> None:
    # v of the winner by the integrals of the kernel, and of the others by scipy's distribution functions.
    noise, y, winner = draws(3000, threshold)
    edge = torch.full((3000, 1), threshold, dtype=torch.float64)
    top = torch.where(winner, y, -torch.inf).amax(-1, keepdim=True).clamp_min(threshold)
    below = _integral(LOC.expand_as(y), SCALE.expand_as(y), winner, edge, top + 1e-12, 200)
    above = _integral(LOC.expand_as(y), SCALE.expand_as(y), winner, top, None, 200)
    shares = torch.sigmoid(below.log_mass - above.log_mass).squeeze(-1)
    found = gaussian_conditional(LOC.expand_as(y), SCALE.expand_as(y), noise, winner, threshold)
    assert torch.equal(found.follow[winner], torch.ones(int(winner.sum()), dtype=torch.float64))
    normal = scipy.stats.norm(LOC.numpy(), SCALE.numpy())
    values: dict[tuple[int, int], list[float]] = {}
    checked = 0
    for row, won, share in zip(y.numpy(), winner.numpy(), shares.tolist(), strict=True):
        k = int(won.argmax()) if won.any() else 3
        highest = row[k] if k < 3 else threshold
        if k < 3:
            values.setdefault((k, k), []).append(share)
            if checked < 20:
                assert share == pytest.approx(
                    mass(normal, k, threshold, highest) / mass(normal, k, threshold)
                )
                checked += 1
        for j in set(range(3)) - {k}:
            values.setdefault((k, j), []).append(normal.cdf(row)[j] / normal.cdf(highest)[j])
    # The threshold may be too low to win at all.
    assert len(values) >= 9
    for numbers in values.values():
        assert scipy.stats.kstest(numbers, "uniform").pvalue > 1e-5


def mass(law: Any, k: int, low: float, high: float = 14.0) -> float:
    """The integral of the density of variable k where it is the largest, by scipy."""

    def density(s: float) -> float:
        below = law.cdf(s)
        below[k] = 1.0
        return float(law.pdf(s)[k] * below.prod())

    return float(scipy.integrate.quad(density, low, high, epsabs=1e-13, epsrel=1e-12)[0])


@pytest.mark.parametrize("masked", [False, True])
def test_noise_drawn_given_the_category_gives_it_and_is_gumbel_noise_on_the_whole(masked: bool) -> None:
    mask = torch.tensor([False, False, True, False]) if masked else None
    logits = torch.tensor([0.5, -1.0, 0.3, 0.0], dtype=torch.float64).expand(20_000, 4)
    law = igr.GumbelSoftmax(0.5, logits=logits, mask=mask)
    generator = torch.Generator().manual_seed(0)
    winner = law.vertex(law.draw_noise(generator=generator)).bool()
    noise = _conditional_noise(law.logits, winner, law.draw_noise(generator=generator))
    assert torch.equal(law.vertex(noise).bool(), winner)
    assert noise.isfinite().all()
    # The category is drawn from its law, and so the noise is drawn from its own.
    available = [k for k in range(4) if mask is None or not mask[k]]
    for k in available:
        assert scipy.stats.kstest(noise[:, k].numpy(), "gumbel_r").pvalue > 1e-5
    correlation = torch.corrcoef(noise[:, available].T) - torch.eye(len(available), dtype=torch.float64)
    assert correlation.abs().max() < 5 / math.sqrt(20_000)


def conditional_twin(loc: Tensor, scale: Tensor, y: Tensor, winner: Tensor, threshold: float) -> Tensor:
    """The vector with the same noise given the category, at parameters nearby: by root finding and scipy."""
    old, new = scipy.stats.norm(LOC.numpy(), SCALE.numpy()), scipy.stats.norm(loc.numpy(), scale.numpy())
    k = int(winner.int().argmax()) if winner.any() else 3
    result = y.clone()
    before = after = threshold
    if k < 3:
        before = float(y[k])
        v = mass(old, k, threshold, before) / mass(old, k, threshold)
        total = mass(new, k, threshold)
        after = scipy.optimize.brentq(
            lambda t: mass(new, k, threshold, t) / total - v, threshold, 12.0, xtol=1e-13
        )
        result[k] = after
    for j in set(range(3)) - {k}:
        share = old.cdf(y.numpy())[j] / old.cdf(before)[j]
        result[j] = new.ppf(share * new.cdf(after))[j]
    return result


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_the_difference_of_the_jacobians_is_that_of_the_two_maps(threshold: float) -> None:
    noise, y, winner = draws(3, threshold, seed=3)
    law = igr.InvertibleGaussian(LOC, SCALE, 1.0, delta=math.exp(threshold))
    step = 1e-4
    for row in range(len(y)):
        coupling = coupled("test", law.expand((1,)), noise[row : row + 1].unsqueeze(0))
        for cotangent in torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.3, -1.0, 0.5, 0.0]], dtype=torch.float64):
            by_loc, by_scale = coupling.gradients(
                torch.zeros(1, dtype=torch.float64), cotangent.expand(1, 1, 4)
            )
            for j in range(3):
                for found, direction in (
                    (by_loc, (torch.eye(3, dtype=torch.float64)[j], torch.zeros(3).double())),
                    (by_scale, (torch.zeros(3).double(), torch.eye(3, dtype=torch.float64)[j])),
                ):
                    ends = []
                    for sign in (1.0, -1.0):
                        loc, scale = LOC + sign * step * direction[0], SCALE + sign * step * direction[1]
                        twin = conditional_twin(loc, scale, y[row], winner[row], threshold)
                        ends.append(loc + scale * noise[row] - twin)
                    slope = ((ends[0] - ends[1]) / (2 * step)) @ cotangent[:3]
                    assert found[0, 0, j] == pytest.approx(float(slope), abs=2e-6)


@pytest.mark.parametrize("num_categories", [2, 4, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_score_is_the_slope_of_the_exact_law(num_categories: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(num_categories)
    shape = (500, num_categories - 1)
    loc = torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
    scale = (torch.rand(shape, generator=generator, dtype=dtype) + 0.3).requires_grad_()
    noise = torch.randn(shape, generator=generator, dtype=dtype)
    y = (loc + scale * noise).detach()
    category = torch.cat([y, torch.full((500, 1), 0.2, dtype=dtype)], -1).argmax(-1)
    winner = torch.nn.functional.one_hot(category, num_categories).bool()[:, :-1]
    found = gaussian_conditional(loc, scale, noise, winner, 0.2)
    log_probs = maximum_log_probs(loc, scale, threshold=0.2)
    chosen = log_probs.gather(-1, category.unsqueeze(-1)).sum()
    by_loc, by_scale = torch.autograd.grad(chosen, (loc, scale))
    tolerance = 1e-9 if dtype == torch.float64 else 3e-4
    torch.testing.assert_close(found.score_by_loc, by_loc, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.score_by_scale, by_scale, rtol=tolerance, atol=tolerance)


def test_gumbel_difference_is_that_of_the_conditional_map() -> None:
    # At fixed exponential noise e: s_k = -log e_k + log Z, s_j = -log(e_j exp(-l_j) + e_k / Z).
    logits = torch.tensor([[0.3, -1.0, 0.8, 0.1]], dtype=torch.float64)
    law = igr.GumbelSoftmax(1.0, logits=logits)
    noise = law.draw_noise((200,), generator=torch.Generator().manual_seed(0))
    coupling = coupled("test", law, noise)
    scores = logits + noise
    winner = coupling.hard.bool()
    top = scores.amax(-1, keepdim=True)
    total = torch.logsumexp(logits, -1, keepdim=True)
    log_winner = total - top
    log_other = logits + torch.log((torch.exp(-scores) - torch.exp(-top)).clamp_min(0.0))

    def difference(l: Tensor) -> Tensor:
        free = l + noise
        of_winner = torch.logsumexp(l, -1, keepdim=True) - log_winner
        twin = torch.where(winner, of_winner, -torch.logaddexp(log_other - l, -of_winner))
        return free - twin

    assert difference(logits).abs().max() < 1e-9
    cotangent = torch.randn(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    leaf = logits.expand_as(scores).clone().requires_grad_()
    (expected,) = torch.autograd.grad((difference(leaf) * cotangent).sum(), leaf)
    (found,) = coupling.gradients(torch.zeros(200, dtype=torch.float64), cotangent)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conditional_is_finite_in_hard_cases(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    size = (4000, 4)
    loc = torch.randn(size, generator=generator, dtype=dtype) * 10.0 ** (
        2 * torch.rand(size[0], 1, generator=generator, dtype=dtype) - 1
    )
    scale = 10.0 ** (4 * torch.rand(size, generator=generator, dtype=dtype) - 2)
    noise = torch.randn(size, generator=generator, dtype=dtype)
    y = loc + scale * noise
    full = torch.cat([y, torch.zeros(size[0], 1, dtype=dtype)], -1)
    winner = torch.nn.functional.one_hot(full.argmax(-1), 5).bool()[:, :4]
    found = gaussian_conditional(loc, scale, noise, winner, 0.0)
    assert all(part.isfinite().all() for part in found)
    assert (found.follow >= 0).all()
    assert (found.follow <= 1 + 1e-3).all()
