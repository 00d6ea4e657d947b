"""Laws of weights of a mixture: what they draw, their means, KL and densities."""

from __future__ import annotations

import pytest
import torch

from cases import generator, z_score
from dlgmm_problems import FAMILIES, mean_weights
from igr.models.stick_laws import KumaraswamySticks, LogitNormalLaw, LogitNormalSticks

each_family = pytest.mark.parametrize("family", FAMILIES)
each_concentration = pytest.mark.parametrize("concentration", [0.5, 1.0, 4.0])
K = 5
LIKE = torch.zeros((), dtype=torch.float64)


def outputs(family: str, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 2 * (K - 1), generator=generator(family), dtype=torch.float64)


@each_family
@each_concentration
def test_weights_are_a_mixtures_and_have_the_means_of_the_law(family, concentration):
    sticks = FAMILIES[family](K, concentration)
    law = sticks(outputs(family))
    noise = sticks.draw_noise((100_000, 3), generator("weights"), LIKE)
    weights = law.log_weights(noise).exp()
    assert (weights.sum(-1) - 1).abs().max() < 1e-9
    assert z_score(weights, mean_weights(law)).abs().max() < 5
    # What is left after each stick is what the weights up to it do not have.
    assert torch.allclose(law.log_left(noise).exp(), 1 - weights[..., :-1].cumsum(-1), atol=1e-9)


@each_family
@each_concentration
def test_the_kl_is_the_mean_of_the_log_ratio(family, concentration):
    sticks = FAMILIES[family](K, concentration)
    law = sticks(outputs(family))
    noise = sticks.draw_noise((100_000, 3), generator("ratio"), LIKE)
    assert z_score(-law.log_ratio(noise), law.kl()).abs().max() < 5
    # And the other way round, the mean of the ratio itself is one, where it has a variance.
    mild = sticks(0.2 * outputs(family))
    assert z_score(mild.log_ratio(noise).exp(), 1.0).abs().max() < 5


@each_family
@each_concentration
def test_outputs_of_zero_are_the_prior(family, concentration):
    sticks = FAMILIES[family](K, concentration)
    zeros = torch.zeros(2, 2 * (K - 1), dtype=torch.float64, requires_grad=True)
    kl = sticks(zeros).kl()
    # But for the least concentration that there is.
    assert kl.abs().max() < 1e-4
    assert torch.autograd.grad(kl.sum(), zeros)[0].abs().max() < 5e-3


def test_the_prior_of_logit_normal_sticks_has_the_moments_of_the_logits_of_beta_fractions():
    for concentration in (0.5, 1.0, 4.0):
        sticks = LogitNormalSticks(K, concentration)
        beta = torch.distributions.Beta(
            torch.tensor(1.0, dtype=torch.float64), torch.tensor(concentration, dtype=torch.float64)
        )
        torch.manual_seed(0)
        logits = torch.logit(beta.sample((400_000,)))
        assert z_score(logits, sticks.prior_loc).abs() < 5
        assert z_score((logits - sticks.prior_loc) ** 2, sticks.prior_scale**2).abs() < 5


@each_family
def test_the_first_sticks_are_the_first_of_the_law(family):
    sticks = FAMILIES[family](K)
    law = sticks(outputs(family))
    noise = sticks.draw_noise((4, 3), generator("first"), LIKE)
    cut, whole = law.first(2).log_weights(noise[..., :2]).exp(), law.log_weights(noise).exp()
    assert torch.allclose(cut[..., :2], whole[..., :2])
    assert torch.allclose(cut[..., 2], whole[..., 2:].sum(-1))
    assert (law.first(2).kl() < law.kl()).all()


def test_a_temperature_moves_weights_of_logit_normal_sticks_to_a_vertex_and_leaves_the_kl():
    sticks = LogitNormalSticks(K)
    noise = sticks.draw_noise((1000, 3), generator("temperature"), LIKE)
    one, low = sticks(outputs("t"), 1.0), sticks(outputs("t"), 0.2)
    assert low.log_weights(noise).exp().amax(-1).mean() > one.log_weights(noise).exp().amax(-1).mean() + 0.1
    assert torch.equal(low.kl(), one.kl())
    assert isinstance(one, LogitNormalLaw)
    # At one they are the lengths of the sticks.
    y = one.law.pre_image(noise)
    v = torch.sigmoid(y)
    lengths = v * torch.cat([torch.ones_like(v[..., :1]), torch.cumprod(1 - v, -1)[..., :-1]], -1)
    assert torch.allclose(one.log_weights(noise).exp()[..., :-1], lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_family
def test_gradients_are_finite_far_out(family, dtype):
    sticks = FAMILIES[family](K)
    given = 12 * torch.randn(200, 2 * (K - 1), generator=generator("far"), dtype=dtype)
    given[:, K - 1 :] *= 0.3 if family == "logit-normal" else 1.0
    given.requires_grad_()
    law = sticks(given)
    noise = sticks.draw_noise((10, 200), generator("noise"), given)
    total = law.log_weights(noise).exp()[..., 0].sum() + law.kl().sum()
    (slope,) = torch.autograd.grad(total, given)
    assert torch.isfinite(total)
    assert torch.isfinite(slope).all()


def test_kumaraswamy_sticks_have_no_temperature():
    assert "temperature" not in KumaraswamySticks.options


@each_family
@pytest.mark.parametrize(("concentration", "expected"), [(0.5, 4), (1.0, 6), (5.0, 17)])
def test_how_many_components_of_twenty_the_prior_has_above_one_per_cent(family, concentration, expected):
    law = FAMILIES[family](20, concentration)(torch.zeros(38, dtype=torch.float64))
    assert int((mean_weights(law) > 0.01).sum()) == expected
