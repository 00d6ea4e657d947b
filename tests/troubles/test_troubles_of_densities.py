"""Troubles that users report with densities and divergences; see docs/coming-from-gumbel-softmax.md."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, RelaxedBernoulli, RelaxedOneHotCategorical, kl_divergence
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical
from torch.nn.functional import logsigmoid

import igr
from cases import bits, generator, z_score
from other_tools import IS_TORCH

COUNT = 40_000


@pytest.mark.parametrize("temperature", [0.05, 0.005])
def test_log_prob_at_the_boundary_of_a_binary_law(temperature):
    """Against the density in the logit, where nothing is lost, in float64."""
    logits = torch.tensor(-5.0)
    law = igr.BinaryConcrete(temperature, logits)
    drawn = law.draw_noise((COUNT,), generator("boundary"))
    logit = (logits.double() + drawn.double()) / temperature
    score = temperature * logit - logits.double()
    exact = (
        math.log(temperature)
        + logsigmoid(score)
        + logsigmoid(-score)
        - logsigmoid(logit)
        - logsigmoid(-logit)
    )
    if IS_TORCH:
        # Once NaN; now points and densities are held at the edge, and the densities off by that.
        theirs = RelaxedBernoulli(torch.tensor(temperature), logits=logits)
        z = theirs.transforms[0](logit.float())
        off = (theirs.log_prob(z).double() - exact).abs()
        assert torch.isfinite(off).all()
        assert off.max() > 100.0
        assert off.mean() > 20.0
    z, log_prob = law.rsample_and_log_prob(noise=drawn)
    assert ((log_prob.double() - exact).abs() < 1e-4 * (1.0 + exact.abs())).all()
    found = law.log_prob_of_logit(law.rsample_logit(noise=drawn))
    assert ((found.double() - exact).abs() < 1e-4 * (1.0 + exact.abs())).all()
    for density in (law.log_prob(z), law.log_prob(torch.tensor([0.0, 1.0]))):
        assert torch.isfinite(density).all()


@pytest.mark.parametrize("temperature", [0.05, 0.01])
def test_log_prob_at_the_boundary_of_a_simplex_law(temperature):
    logits = torch.randn(10, generator=generator("simplex"))
    if IS_TORCH:
        theirs = RelaxedOneHotCategorical(torch.tensor(temperature), logits=logits, validate_args=False)
        found = theirs.log_prob(theirs.sample((1000,))).isnan()
        assert found.any() if temperature == 0.05 else found.all()
    for single, exact_density in (
        (
            igr.GumbelSoftmax(temperature, logits),
            # Torch's law of log z, which loses nothing in double precision.
            lambda log_z: ExpRelaxedCategorical(
                torch.tensor(temperature, dtype=torch.float64), logits=logits.double()
            ).log_prob(log_z),
        ),
        (
            igr.InvertibleGaussian(logits[1:], 1.0, temperature),
            # The Gaussian density of temperature times the log-ratios.
            lambda log_z: (
                Normal(logits[1:].double(), 1.0)
                .log_prob(temperature * (log_z[:, :-1] - log_z[:, -1:]))
                .sum(-1)
                + 9 * math.log(temperature)
            ),
        ),
    ):
        drawn = single.draw_noise((COUNT // 10,), generator("simplex draws"))
        if isinstance(single, igr.GumbelSoftmax):
            scores = logits.double() + drawn.double()
        else:
            scores = torch.nn.functional.pad(logits[1:].double() + drawn.double(), (0, 1))
        log_z = torch.log_softmax(scores / temperature, -1)
        assert (log_z.exp().float() == 0).any()  # single precision has points on the boundary
        exact = exact_density(log_z) - log_z.sum(-1)
        z, log_prob = single.rsample_and_log_prob(noise=drawn)
        torch.testing.assert_close(z.double(), log_z.exp(), rtol=0, atol=1e-3)
        assert ((log_prob - exact).abs() < 1e-3 * (1.0 + exact.abs())).all()
        found = single.log_prob_of_log(single.rsample_log(noise=drawn))
        assert ((found - exact).abs() < 1e-3 * (1.0 + exact.abs())).all()
        for point in (z, torch.eye(10)):
            assert torch.isfinite(single.log_prob(point)).all()


def test_no_kl_but_a_closed_form_that_is_the_mean_of_draws():
    loc = torch.randn(2, 5, generator=generator("kl"), dtype=torch.float64)
    posterior = igr.InvertibleGaussian(loc[0], 0.7, 0.5)
    prior = igr.InvertibleGaussian(loc[1], 1.0, 0.9, delta=0.5)
    z, log_q = posterior.rsample_and_log_prob((COUNT,), generator("kl draws"))
    ratio = log_q - prior.log_prob(z)
    exact = kl_divergence(posterior, prior)
    assert exact > 0.1
    assert z_score(ratio, exact).abs() < 5
    trained = igr.InvertibleGaussian(loc[1].clone().requires_grad_(), 1.0, 0.9, delta=0.5)  # another way
    torch.testing.assert_close(kl_divergence(posterior, trained), exact)
    # What the reporter of pytorch/pytorch#18730 took: draws that are weighted once more, and a sign.
    theirs = -(log_q.exp() * ratio).mean()
    assert theirs < -1000 * exact
    with pytest.raises(NotImplementedError):
        kl_divergence(*(RelaxedOneHotCategorical(torch.tensor(0.5), logits=loc[0]) for _ in range(2)))


def test_no_kl_of_gumbel_softmax_either_but_an_estimate_and_that_of_the_discrete_laws():
    logits = torch.randn(2, 4, generator=generator("gs kl"), dtype=torch.float64)
    p, q = (igr.GumbelSoftmax(0.5, row) for row in logits)
    with pytest.raises(NotImplementedError, match=r"no closed form; estimate it as the mean of"):
        kl_divergence(p, q)
    log_z = p.rsample_log((COUNT,), generator("gs kl draws"))
    relaxed = p.log_prob_of_log(log_z) - q.log_prob_of_log(log_z)
    own, other = torch.log_softmax(logits, -1)
    discrete = p.discrete_kl(q.discrete())
    torch.testing.assert_close(discrete, (own.exp() * (own - other)).sum())
    # The vertex is a function of the point, so its divergence is no more than that of the point.
    assert z_score(relaxed, discrete) > 5


class BinaryModel:
    """One binary variable and one observed pixel; all integrals over z by quadrature, in float64.

    The decoder is of the kind that a relaxed model learns and a discrete one cannot use: a pixel is likely
    where z is between the vertices.
    """

    def __init__(self, prior: igr.BinaryInvertibleGaussian | igr.BinaryConcrete) -> None:
        self.prior = prior
        # Both vertices have the same weight in the prior.
        self.log_likelihood = torch.logsumexp(self.log_decoder(torch.tensor([0.0, 1.0])) + math.log(0.5), 0)
        self.relaxed_log_likelihood = self.mean(prior, lambda z, _: self.log_decoder(z).exp()).log()

    def log_decoder(self, z: Tensor) -> Tensor:
        """log p(x = 1 | z)."""
        return logsigmoid(3.0 - 24.0 * (z.double() - 0.5).square())

    def mean(self, law, function) -> Tensor:
        """E f(z, logit z) under a law, by the middles of equal parts of the law of its noise."""
        uniform = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
        drawn = torch.logit(uniform) if isinstance(law, igr.BinaryConcrete) else torch.special.ndtri(uniform)
        logit = law.rsample_logit(noise=drawn)
        return function(torch.sigmoid(logit), logit).mean()

    def bounds(self, posterior) -> dict[str, float]:
        """The three numbers that are taken for the ELBO, by what is drawn and whose KL is subtracted."""
        relaxed_fit = self.mean(posterior, lambda z, _: self.log_decoder(z))
        relaxed_kl = self.mean(
            posterior,
            lambda _, logit: posterior.log_prob_of_logit(logit) - self.prior.log_prob_of_logit(logit),
        )
        law = posterior.discrete()
        discrete_kl = kl_divergence(law, self.prior.discrete())
        fit = (law.probs * self.log_decoder(torch.tensor([1.0, 0.0]))).sum()
        return {
            "discrete": (fit - discrete_kl).item(),
            "relaxed": (relaxed_fit - relaxed_kl).item(),
            "mixed": (relaxed_fit - discrete_kl).item(),
        }


def gaussian(loc: float, scale: float) -> igr.BinaryInvertibleGaussian:
    return igr.BinaryInvertibleGaussian(torch.tensor(loc, dtype=torch.float64), scale, temperature=0.4)


def concrete(logit: float, temperature: float) -> igr.BinaryConcrete:
    return igr.BinaryConcrete(temperature, torch.tensor(logit, dtype=torch.float64))


MODELS = {
    "igr": (
        BinaryModel(gaussian(0.0, 1.0)),
        [gaussian(loc, scale) for loc in (-0.5, 0.0, 0.3) for scale in (0.05, 0.3, 1.0)],
    ),
    "gumbel-softmax": (
        BinaryModel(concrete(0.0, 0.4)),
        [concrete(logit, temperature) for logit in (-2.0, 0.0, 0.3) for temperature in (0.4, 2.0, 9.0)],
    ),
}


@pytest.mark.parametrize(("model", "posteriors"), MODELS.values(), ids=MODELS)
def test_which_kl_belongs_in_the_elbo(model, posteriors):
    """Relaxed draws with the relaxed KL bound one model, vertices with the discrete KL another; mixed, none.

    Both bounds are of log-likelihoods that integrals and a sum over the vertices give.
    """
    found = [model.bounds(posterior) for posterior in posteriors]
    for bounds in found:
        assert bounds["discrete"] <= model.log_likelihood + 1e-9
        assert bounds["relaxed"] <= model.relaxed_log_likelihood + 1e-6
        assert bounds["mixed"] >= bounds["relaxed"] - 1e-6  # by the divergence that is left out
    worst = max(bounds["mixed"] for bounds in found)
    assert worst > model.relaxed_log_likelihood + 0.05
    assert worst > model.log_likelihood + 1.0
    # The discrete bound is reached where the vertices have the weights of the prior, since both decode alike.
    assert max(bounds["discrete"] for bounds in found) == pytest.approx(model.log_likelihood.item(), abs=1e-9)


def test_no_mean_or_entropy_but_quadrature_and_the_discrete_law():
    theirs = RelaxedOneHotCategorical(torch.tensor(0.1), torch.tensor([0.1, 0.9]))
    for ask in (theirs.entropy, lambda: theirs.mean, lambda: theirs.variance):
        with pytest.raises(NotImplementedError):
            ask()
    logits = torch.randn(4, generator=generator("mean"), dtype=torch.float64).requires_grad_()
    for law in (igr.GumbelSoftmax(0.4, logits), igr.InvertibleGaussian(logits[1:], 0.8, 0.4)):
        drawn = law.draw_noise((COUNT,), generator("mean draws"))
        z = law.rsample(noise=drawn)
        mean = law.mean
        assert z_score(z, mean).abs().max() < 5
        # The slope of the mean is the mean of the slopes.
        weights = torch.arange(4.0, dtype=torch.float64)
        (slope,) = torch.autograd.grad((weights * mean).sum(), logits)
        rows = logits.detach().expand(COUNT, 4).clone().requires_grad_()
        each = (
            igr.GumbelSoftmax(0.4, rows)
            if isinstance(law, igr.GumbelSoftmax)
            else igr.InvertibleGaussian(rows[:, 1:], 0.8, 0.4)
        )
        (slopes,) = torch.autograd.grad((each.rsample(noise=drawn) * weights).sum(), rows)
        known = slope != 0
        assert z_score(slopes[:, known], slope[known]).abs().max() < 5
        # The entropy that the reporter proposes, that of the discrete law: by the law, and by its draws.
        exact = law.discrete()
        torch.testing.assert_close(exact.entropy(), -(exact.probs * exact.probs.log()).sum())
        surprise = -exact.log_prob(law.vertex(drawn))
        assert z_score(surprise.detach(), exact.entropy()).abs() < 5
        with pytest.raises(
            NotImplementedError, match=r"entropy: no closed form .* discrete\(\)\.entropy\(\)"
        ):
            law.entropy()
        with pytest.raises(NotImplementedError, match="variance: no quadrature"):
            law.stddev
    binary = igr.BinaryConcrete(0.4, torch.zeros(3))
    torch.testing.assert_close(binary.mean, torch.full((3,), 0.5))
    torch.testing.assert_close(binary.discrete().entropy(), torch.full((3,), math.log(2.0)))
    with pytest.raises(NotImplementedError, match="entropy: no closed form"):
        binary.entropy()


def test_masked_categories_have_no_weight_no_gradient_and_a_density_without_them():
    logits = torch.randn(3, 5, generator=generator("mask"), dtype=torch.float64)
    mask = bits("01010", "00000", "10110")
    if IS_TORCH:
        theirs = RelaxedOneHotCategorical(
            torch.tensor(0.5, dtype=torch.float64), logits=logits.masked_fill(mask, -torch.inf)
        )
        assert theirs.log_prob(theirs.sample()).isnan().tolist() == [True, False, True]
        for lowest in (-torch.inf, -1e9):
            masked = RelaxedOneHotCategorical(torch.tensor(0.5), logits=torch.tensor([0.0, 1.0, lowest]))
            assert masked.log_prob(masked.sample()).isnan()
        given = torch.tensor([0.0, 1.0, -torch.inf], requires_grad=True)
        other = Categorical(logits=torch.tensor([1.0, 0.0, -torch.inf]))
        (slope,) = torch.autograd.grad(kl_divergence(Categorical(logits=given), other), given)
        assert slope.isnan().all()
    logits.masked_fill_(mask, math.nan)  # whatever stands there means nothing
    logits.requires_grad_()
    law = igr.GumbelSoftmax(0.5, logits, mask=mask)
    z, log_prob = law.rsample_and_log_prob((COUNT // 10,), generator("mask draws"))
    assert (z[:, mask] == 0).all()
    entropy = law.discrete().entropy()
    divergence = law.discrete_kl(
        igr.GumbelSoftmax(0.5, torch.zeros(5, dtype=torch.float64), mask=mask).discrete()
    )
    (slope,) = torch.autograd.grad(
        (z * torch.arange(5.0)).sum() + log_prob.sum() + entropy.sum() + divergence.sum(), logits
    )
    assert (slope[mask] == 0).all()
    assert (slope[~mask] != 0).all()
    # Row by row the same numbers as the law over what is left.
    for row, gone in enumerate(mask):
        alone = igr.GumbelSoftmax(0.5, logits[row, ~gone])
        assert torch.isfinite(log_prob[:, row]).all()
        torch.testing.assert_close(log_prob[:, row], alone.log_prob(z[:, row, ~gone]), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(entropy[row], alone.discrete().entropy())
        torch.testing.assert_close(law.mean[row, ~gone], alone.mean)
