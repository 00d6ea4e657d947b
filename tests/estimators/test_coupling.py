"""The discrete sample is the largest of the relaxed one, and the conditional map is the right one."""

from __future__ import annotations

import math

import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

import igr
from estimator_problems import distribution, parameters
from igr.estimators.coupling import coupled
from igr.kernels.gaussian_conditional import gaussian_conditional
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
@pytest.mark.parametrize("temperature", [1e-3, 0.5, 20.0])
def test_the_discrete_sample_is_the_largest_of_the_relaxed_one(law: str, temperature: float) -> None:
    relaxation = distribution(law, parameters(law, 5), temperature)
    noise = relaxation.draw_noise((2000,), generator=torch.Generator().manual_seed(0))
    coupling = coupled("test", relaxation, noise)
    assert torch.equal(coupling.hard, relaxation.vertex(noise))
    assert torch.equal(coupling.scores.argmax(-1), coupling.hard.argmax(-1))
    for control_temperature in (0.1, 1.0, 10.0):
        relaxed = torch.softmax(coupling.scores / control_temperature, dim=-1)
        top = relaxed.amax(-1, keepdim=True)
        # Where entries round to the same number, each of them is a largest one.
        assert ((relaxed == top) & coupling.hard.bool()).any(-1).all()


@pytest.mark.parametrize("threshold", [0.9, -2.0])
def test_the_noise_given_the_category_is_uniform(threshold: float) -> None:
    # v of the winner and of the others, from scipy's integrals and distribution functions.
    _, y, winner = draws(1500, threshold)
    normal = scipy.stats.norm(LOC.numpy(), SCALE.numpy())
    mine: dict[tuple[int, int], list[float]] = {}
    for row, won in zip(y.numpy(), winner.numpy(), strict=True):
        k = int(won.argmax()) if won.any() else 3
        top = row[k] if k < 3 else threshold
        if k < 3 and len(mine.get((k, k), [])) < 100:

            def density(s: float, k: int = k) -> float:
                below = normal.cdf(s)
                below[k] = 1.0
                return float(normal.pdf(s)[k] * below.prod())

            inside = scipy.integrate.quad(density, threshold, top)[0]
            mine.setdefault((k, k), []).append(inside / scipy.integrate.quad(density, threshold, 12.0)[0])
        for j in set(range(3)) - {k}:
            share = normal.cdf(row)[j] / normal.cdf(top)[j]
            mine.setdefault((k, j), []).append(share)
    for values in mine.values():
        if len(values) > 20:
            assert scipy.stats.kstest(values, "uniform").pvalue > 1e-5


def conditional_twin(loc: Tensor, scale: Tensor, y: Tensor, winner: Tensor, threshold: float) -> Tensor:
    """The vector with the same noise given the category, at parameters nearby: by root finding and scipy."""
    old, new = scipy.stats.norm(LOC.numpy(), SCALE.numpy()), scipy.stats.norm(loc.numpy(), scale.numpy())
    k = int(winner.int().argmax()) if winner.any() else 3
    result = y.clone()
    before = after = threshold
    if k < 3:

        def mass(law, low: float, high: float) -> float:  # type: ignore[no-untyped-def]
            def density(s: float) -> float:
                below = law.cdf(s)
                below[k] = 1.0
                return float(law.pdf(s)[k] * below.prod())

            return float(scipy.integrate.quad(density, low, high, epsabs=1e-13, epsrel=1e-12)[0])

        before = float(y[k])
        v = mass(old, threshold, before) / mass(old, threshold, 14.0)
        total = mass(new, threshold, 14.0)
        after = scipy.optimize.brentq(
            lambda t: mass(new, threshold, t) / total - v, threshold, 12.0, xtol=1e-13
        )
        result[k] = after
    for j in set(range(3)) - {k}:
        share = old.cdf(y.numpy())[j] / old.cdf(before)[j]
        result[j] = new.ppf(share * new.cdf(after))[j]
    return result


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_the_difference_of_the_jacobians_is_that_of_the_two_maps(threshold: float) -> None:
    noise, y, winner = draws(5, threshold, seed=3)
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
