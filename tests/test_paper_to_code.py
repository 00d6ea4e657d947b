"""The page that leads from the paper to the code: what it names is there, and its equations hold."""

import ast
import functools
import importlib
import math
import re
from pathlib import Path

import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import dlgmm_problems
import igr
import sop_problems
from cases import generator, z_score
from igr.estimators import REBAR, RELAX, Pathwise
from igr.evaluation import per_datum_bounds
from igr.fitting import calibrate_temperature, fit
from igr.kernels import kumaraswamy
from igr.models.joint_vae import Capacity
from igr.models.latents import InvertibleGaussianLatent, PlanarLatent
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import NETWORKS, Sizes
from igr.models.stick_laws import LogitNormalSticks
from igr.models.vae import VAE
from igr.studies import STUDIES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "paper-to-code.md").read_text(encoding="utf-8")
EQUATIONS, EXPERIMENTS = PAGE.split("## Experiments\n")
SECTIONS = {
    text.splitlines()[0]: text for part in EQUATIONS.split("\n## ")[1:] for text in part.split("\n### ")[1:]
}
TEMPERATURE, DELTA = 0.6, 0.4
LOC = torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64)
SCALE = torch.tensor([0.8, 1.3, 0.5], dtype=torch.float64)
K = len(LOC) + 1


def law_of(transform=None, temperature=TEMPERATURE, delta=DELTA):
    return igr.InvertibleGaussian(LOC, SCALE, temperature, transform, delta)


def noise_of(count=5):
    return torch.randn(count, K - 1, generator=generator("noise"), dtype=torch.float64)


def planar():
    u, w = (torch.randn(K - 1, generator=generator(name), dtype=torch.float64) for name in "uw")
    return igr.PlanarTransform.from_tensors(u, w, torch.tensor(0.2, dtype=torch.float64)), u, w, 0.2


TRANSFORMS = {
    "IGR-I": lambda: None,
    "IGR-Planar": lambda: planar()[0],
    "lengths": lambda: igr.LogisticStickBreakingTransform(),
    "log-ratios": lambda: igr.LogisticStickBreakingTransform("log"),
}


def softmax_plus_plus(t, temperature=TEMPERATURE, delta=DELTA):
    total = (t / temperature).exp().sum(-1, keepdim=True) + delta
    return torch.cat([(t / temperature).exp() / total, delta / total], -1)


def pieces(y):
    """The pieces of a stick, one after the other, and what remains of it."""
    left, found = torch.ones_like(y[..., 0]), []
    for k in range(y.shape[-1]):
        eta = 1 / (1 + (-y[..., k]).exp())
        found.append(eta * left)
        left = left * (1 - eta)
    return torch.stack(found, -1), left


def log_det(function, points):
    jacobians = [torch.autograd.functional.jacobian(function, point) for point in points]
    return torch.stack([torch.linalg.slogdet(jacobian)[1] for jacobian in jacobians])


def integral(function, low, high):
    return integrate.quad(function, low, high, epsabs=1e-12, limit=200)[0]


def same(found, expected, tolerance=1e-9):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(torch.as_tensor(found).detach(), expected, rtol=tolerance, atol=tolerance)


def normal_kl(mu, sigma, m, s):
    return ((s / sigma).log() + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5).sum(-1)


CHECKS = {}


def of(heading):
    """Marks the check of an equation by its heading on the page."""
    return lambda check: CHECKS.setdefault(heading, check)


@of("Gaussian noise")
def _():
    law, noise = law_of(), noise_of()
    same(law.pre_image(noise), LOC + SCALE * noise)
    drawn = law.draw_noise((100_000,), generator("draws"))
    assert z_score(drawn, 0.0).abs().max() < 5
    assert z_score(drawn**2, 1.0).abs().max() < 5
    assert z_score(drawn[:, 0] * drawn[:, 1], 0.0).abs() < 5


@of("softmax++")
def _():
    t = noise_of()
    z = softmax_plus_plus(t)
    same(igr.functional.softmax_plus_plus(t / TEMPERATURE, DELTA), z)
    found = igr.SoftmaxPlusPlusTransform(TEMPERATURE, DELTA)
    same(found(t), z)
    same(TEMPERATURE * (z[..., :-1].log() - z[..., -1:].log() + math.log(DELTA)), t)
    same(found.inv(z), t)


@of("IGR-I")
def _():
    noise = noise_of()
    same(law_of().rsample(noise=noise), softmax_plus_plus(LOC + SCALE * noise))
    found = igr.functional.invertible_gaussian(
        LOC.expand(5, -1), SCALE, TEMPERATURE, delta=DELTA, noise=noise
    )
    same(found, softmax_plus_plus(LOC + SCALE * noise))


@of("IGR-Planar")
def _():
    transform, u, w, b = planar()
    inner = w @ u
    u_hat = u + (torch.log(1 + inner.exp()) - 1 - inner) * w / w.square().sum()
    assert w @ u_hat > -1
    y = LOC + SCALE * noise_of()
    t = y + u_hat * torch.tanh(y @ w + b).unsqueeze(-1)
    same(transform(y), t)
    same(law_of(transform).rsample(noise=noise_of()), softmax_plus_plus(t))


@of("IGR-SB")
def _():
    y = LOC + SCALE * noise_of()
    lengths, left = pieces(y)
    same(igr.functional.stick_breaking_lengths(y), lengths)
    same(y - torch.log(1 + y.exp()).cumsum(-1), lengths.log())
    same(lengths.sum(-1) + left, torch.ones(5))
    law = law_of(igr.LogisticStickBreakingTransform())
    same(law.rsample(noise=noise_of()), softmax_plus_plus(lengths))


@of("IGR-SB by log-ratios")
def _():
    y = LOC + SCALE * noise_of()
    lengths, left = pieces(y)
    t = (lengths / left.unsqueeze(-1)).log()
    after = torch.log(1 + y.exp())
    same(y + after.flip(-1).cumsum(-1).flip(-1) - after, t)
    later = t.exp().flip(-1).cumsum(-1).flip(-1) - t.exp()
    same(t - torch.log(1 + later), y)
    transform = igr.LogisticStickBreakingTransform("log")
    same(transform(y), t)
    same(transform.inv(t), y)
    # The largest weight of lengths over the smallest one cannot be more than the page says.
    nearest = law_of(igr.LogisticStickBreakingTransform(), delta=1.0).rsample((10_000,))
    assert (nearest.amax(-1) / nearest.amin(-1)).max() < math.exp(1 / TEMPERATURE)


@of("Log-determinants")
def _():
    y = LOC + SCALE * noise_of()
    z = softmax_plus_plus(y)
    expected = z.log().sum(-1) - (K - 1) * math.log(TEMPERATURE)
    same(log_det(lambda t: softmax_plus_plus(t)[:-1], y), expected)
    same(igr.SoftmaxPlusPlusTransform(TEMPERATURE, DELTA).log_abs_det_jacobian(y, z), expected)
    transform, u, w, b = planar()
    inner = w @ u
    along = inner + torch.log(1 + inner.exp()) - 1 - inner  # w . u_hat
    squared = torch.tanh(y @ w + b) ** 2
    expected = torch.log(squared + (1 + along) * (1 - squared))
    same(log_det(transform, y), expected)
    same((1 + along * (1 - squared)).log(), expected)
    same(transform.call_and_log_det(y)[1], expected)
    lengths, _ = pieces(y)
    expected = (lengths.log() - torch.log(1 + y.exp())).sum(-1)
    same(log_det(lambda y: pieces(y)[0], y), expected)
    same(igr.LogisticStickBreakingTransform().log_abs_det_jacobian(y, lengths), expected)
    transform = igr.LogisticStickBreakingTransform("log")
    same(log_det(transform, y), torch.zeros(5))
    same(transform.log_abs_det_jacobian(y, transform(y)), torch.zeros(5))


@of("Density on the simplex")
def _():
    noise = noise_of()
    y = LOC + SCALE * noise
    for made in TRANSFORMS.values():
        transform = made()
        law = law_of(transform)
        z, found = law.rsample_and_log_prob(noise=noise)
        slope = 0.0 if transform is None else log_det(transform, y)
        expected = Normal(LOC, SCALE).log_prob(y).sum(-1) - slope
        expected = expected + (K - 1) * math.log(TEMPERATURE) - z.log().sum(-1)
        same(found, expected)
        same(law.log_prob(z), expected, 1e-7)


@of("Gumbel-Softmax")
def _():
    logits = torch.tensor([0.4, -1.0, 0.7], dtype=torch.float64)
    law = igr.GumbelSoftmax(TEMPERATURE, logits)
    noise = law.draw_noise((5,), generator("gumbel"))
    z = torch.softmax((logits + noise) / TEMPERATURE, -1)
    same(law.rsample(noise=noise), z)
    away = logits - TEMPERATURE * z.log()
    expected = math.lgamma(3) + 2 * math.log(TEMPERATURE) + away.sum(-1)
    expected = expected - 3 * away.exp().sum(-1).log() - z.log().sum(-1)
    same(law.log_prob(z), expected)


@of("Limit of temperature")
def _():
    noise = law_of().draw_noise((2000,), generator("vertices"))
    for transform in (made() for made in TRANSFORMS.values()):
        law = law_of(transform)
        y = LOC + SCALE * noise
        t = y if transform is None else transform(y)
        edge = torch.full((2000, 1), TEMPERATURE * math.log(DELTA), dtype=torch.float64)
        winner = torch.cat([t, edge], -1).argmax(-1)
        assert torch.equal(law.category(noise), winner)
        assert torch.equal(law.rsample_log(noise=noise).argmax(-1), winner)
        cold = law_of(transform, 1e-3, 1.0).rsample(noise=noise)
        away = (cold - law_of(transform, 1e-3, 1.0).vertex(noise)).norm(dim=-1)
        assert (away < 1e-3).double().mean() > 0.95


@of("Discrete law of IGR-I")
def _():
    edge, means, scales = TEMPERATURE * math.log(DELTA), LOC.tolist(), SCALE.tolist()

    def product(t, without=None):
        others = (j for j in range(K - 1) if j != without)
        return math.prod(stats.norm.cdf((t - means[j]) / scales[j]) for j in others)

    expected = [
        integral(lambda t, k=k: stats.norm.pdf(t, means[k], scales[k]) * product(t, k), edge, 20.0)
        for k in range(K - 1)
    ]
    same(law_of().discrete().probs, [*expected, product(edge)])


@of("Discrete law of IGR-SB")
def _():
    noise = law_of().draw_noise((50_000,), generator("chain"))
    y = LOC + SCALE * noise
    law = law_of(igr.LogisticStickBreakingTransform("log"))
    lead = torch.full((50_000,), -math.inf, dtype=torch.float64)
    leader = torch.full((50_000,), -1)
    for k in range(K - 1):
        leader = torch.where(lead < -torch.log(1 + (-y[:, k]).exp()), k, leader)
        lead = torch.maximum(lead + torch.log(1 + y[:, k].exp()), y[:, k])
    in_lengths = igr.LogisticStickBreakingTransform()
    assert torch.equal(leader, law_of(in_lengths).category(noise))
    winner = torch.where(lead < TEMPERATURE * math.log(DELTA), K - 1, leader)
    assert torch.equal(winner, law.category(noise))
    for found, transform in ((winner, law.transform), (leader, in_lengths)):
        shares = torch.nn.functional.one_hot(found, K).double()
        probs = law_of(transform).discrete().probs
        error = (probs * (1 - probs) / 50_000).sqrt()
        assert ((shares.mean(0) - probs).abs() <= 5 * error).all()


@of("Truncation")
def _():
    law = igr.InvertibleGaussian(
        torch.zeros(4, 59).double(), 0.8, 0.3, igr.LogisticStickBreakingTransform("log")
    )
    noise = law.draw_noise((3,), generator("pilot"))
    lengths, _ = pieces(0.8 * noise)
    expected = (lengths.cumsum(-1) <= 0.95).sum(-1) + 1
    cut = igr.StickTruncation(0.95, 0.5)(law, noise=noise)
    assert torch.equal(cut.needed, expected)
    assert cut.num_needed == expected.flatten().sort().values[5]


@of("Uniform prior")
def _():
    for k, scale in ((2, 1.0), (10, 0.7)):
        law = igr.InvertibleGaussian.uniform(k, TEMPERATURE, scale, DELTA, dtype=torch.float64)
        expected = TEMPERATURE * math.log(DELTA) - scale * stats.norm.ppf(k ** (-1 / (k - 1)))
        same(law.loc, [expected] * (k - 1))
        same(law.discrete().probs, [1 / k] * k)


@of("Parameters for a law")
def _():
    target = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    same(igr.InvertibleGaussian.from_probs(target, SCALE, temperature=0.1).discrete().probs, target)
    same(fit(target, "igr").probs, target)
    # The mean of relaxed points comes close at a high temperature too, and the discrete law does not.
    settings = {"method": "relaxed", "temperature": 1.0, "num_samples": 200, "num_iterations": 200}
    found = fit(target, "igr", **settings, learning_rate=0.05, generator=generator("fit"))
    mean = found.distribution(temperature=1.0).mean
    assert (mean - target).abs().max() < 0.02 < found.total_variation


@of("Temperature for a distance")
def _():
    law = law_of(delta=1.0)
    found = law.with_temperature(calibrate_temperature(law, generator=generator("calibrated")))
    z = found.rsample((20_000,), generator("others"))
    distance = torch.cdist(z, torch.eye(K, dtype=torch.float64)).amin(-1)
    # The temperature has an error of its own, of half as many samples.
    assert abs((distance <= 0.2).double().mean() - 0.75) < 5 * math.sqrt(
        0.75 * 0.25 * (1 / 20_000 + 1 / 10_000)
    )


@of("Mean of a point")
def _():
    source = generator("mean")
    x = (LOC + SCALE * torch.randn(200_000, K - 1, generator=source, dtype=torch.float64)) / TEMPERATURE
    x = torch.nn.functional.pad(x, (0, 1), value=math.log(DELTA))
    gumbel = -torch.log(torch.empty_like(x).exponential_(generator=source))
    winners = torch.nn.functional.one_hot((x + gumbel).argmax(-1), K).double()
    assert z_score(winners, law_of().mean).abs().max() < 5


@of("KL of relaxed laws")
def _():
    m, s = LOC + 0.4, SCALE * 1.2
    for made in TRANSFORMS.values():
        q = law_of(made())
        p = igr.InvertibleGaussian(m, s, TEMPERATURE, q.transform, DELTA)
        same(kl_divergence(q, p), normal_kl(LOC, SCALE, m, s))
        # The mean of the log-ratio of densities of z, in which the Jacobians cancel.
        z, log_q = q.rsample_and_log_prob((4000,), generator("ratio"))
        assert z_score(log_q - p.log_prob(z), kl_divergence(q, p)).abs() < 5


@of("KL across temperatures")
def _():
    m, s, colder, other = LOC + 0.4, SCALE * 1.2, 0.3, 0.9
    z = law_of().rsample(noise=noise_of())
    mean, scale = LOC / TEMPERATURE - math.log(DELTA), SCALE / TEMPERATURE
    same((z[:, :-1] / z[:, -1:]).log(), mean + scale * noise_of())
    found = kl_divergence(law_of(), igr.InvertibleGaussian(m, s, colder, delta=other))
    same(found, normal_kl(mean, scale, m / colder - math.log(other), s / colder))


@of("KL of planar latents")
def _():
    latent = PlanarLatent(1, K, generator=generator("flow")).double()
    posterior = latent(torch.randn(2, latent.num_outputs, generator=generator("out")).double(), TEMPERATURE)
    noise = latent.draw_noise((3, 2), generator("latent"), dtype=torch.float64)
    y = posterior.pre_image(noise)
    slope = latent.flow.log_abs_det_jacobian(y, latent.flow(y))
    prior = igr.InvertibleGaussian.uniform(K, TEMPERATURE, dtype=torch.float64)
    expected = Normal(posterior.loc, posterior.scale).log_prob(y).sum(-1) - slope
    expected = expected - Normal(prior.loc, prior.scale).log_prob(latent.flow(y)).sum(-1)
    same(latent.relaxed(posterior, noise, TEMPERATURE)[1], expected.sum(-1), 1e-6)


@of("KL of discrete laws")
def _():
    q = law_of().discrete()
    p = igr.InvertibleGaussian.uniform(K, TEMPERATURE, dtype=torch.float64).discrete()
    expected = (q.probs * (q.probs / p.probs).log()).sum(-1)
    same(kl_divergence(q, p), expected)
    same(law_of().discrete_kl(p), expected)


def tiny_vae():
    latent = InvertibleGaussianLatent(2, 3, scale="free")
    sizes = Sizes((1, 2, 3), latent.num_outputs, latent.num_features, 1)
    networks = NETWORKS["dense"].build(sizes, generator("networks"))
    return VAE(networks, latent, LIKELIHOODS["bernoulli"], "relaxed").double().eval()


def images(count):
    return torch.bernoulli(torch.full((count, 1, 2, 3), 0.5, dtype=torch.float64), generator=generator("x"))


def of_draws(model, x, num_draws):
    """log p(x | z) of draws of the posterior, and the KL of the relaxed laws, of Gaussians."""
    posterior = model.encode(x, TEMPERATURE)
    noise = model.latent.draw_noise((num_draws, len(x)), generator("posterior"), dtype=torch.float64)
    prior = model.latent.prior(TEMPERATURE)
    kl = normal_kl(posterior.loc, posterior.scale, prior.loc, prior.scale).sum(-1)
    return noise, model.decode(posterior.rsample(noise=noise)).log_prob(x), kl


@of("Relaxed ELBO")
def _():
    model, x = tiny_vae(), images(4)
    noise, log_likelihood, kl = of_draws(model, x, 3)
    same(model(x, noise, TEMPERATURE).loss, (kl - log_likelihood).mean())


def enumerated(model, x):
    """log q(d | x), log p(d) and log p(x | d) of all values of two variables with three categories."""
    d = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    vertices = torch.nn.functional.one_hot(d, 3).double().unsqueeze(1)
    log_q = model.encode(x, TEMPERATURE).discrete().logits.log_softmax(-1)
    log_q = (log_q * vertices).sum((-2, -1))
    return log_q, torch.full_like(log_q, -math.log(9)), model.decode(vertices).log_prob(x)


@of("Discrete ELBO")
def _():
    model, x = tiny_vae(), images(4)
    log_q, log_p, log_likelihood = enumerated(model, x)
    expected = (log_q.exp() * (log_likelihood + log_p - log_q)).sum(0)
    found = per_datum_bounds(model, x, TEMPERATURE, num_samples=20_000)["discrete_elbo"]
    spread = (log_q.exp() * log_likelihood.square()).sum(0) - (log_q.exp() * log_likelihood).sum(0).square()
    assert ((found - expected) / (spread / 20_000).sqrt()).abs().max() < 5
    assert (expected <= torch.logsumexp(log_p + log_likelihood, 0)).all()


@of("Importance-weighted bound")
def _():
    model, x = tiny_vae(), images(4)
    _, log_p, log_likelihood = enumerated(model, x)
    exact = torch.logsumexp(log_p + log_likelihood, 0)
    few, many = (per_datum_bounds(model, x, TEMPERATURE, num_samples=count) for count in (1, 20_000))
    for kind in ("importance_weighted", "importance_weighted_pre_image"):
        same(many[kind], exact, 0.05)
        assert (few[kind] - exact).abs().max() > 0.05


@of("Legacy estimate")
def _():
    model, x = tiny_vae(), images(4)
    _, log_likelihood, kl = of_draws(model, x, 50_000)
    expected = log_likelihood.logsumexp(0) - math.log(50_000) - kl
    found = per_datum_bounds(model, x, TEMPERATURE, num_samples=20_000, legacy=True)["legacy_estimate"]
    same(found, expected, 0.02)


@of("Gaussian decoder")
def _():
    numbers = torch.randn(2, 1, 2, 3, generator=generator("decoder"), dtype=torch.float64)
    x = torch.rand(1, 2, 3, generator=generator("grey"), dtype=torch.float64)
    for name, least, first in (
        ("normal", 1 / 255, lambda a: a),
        ("normal-elu", 1e-6, torch.nn.functional.elu),
    ):
        a, b = first(numbers)
        expected = Normal(1 / (1 + (-a).exp()), least + torch.log(1 + b.exp())).log_prob(x).sum()
        same(LIKELIHOODS[name].law(numbers).log_prob(x), expected)


@of("JointVAE")
def _():
    for step in (0, 10, 24_999, 25_000, 10**6):
        expected = 1.0 + (5.0 - 1.0) * min(1.0, step / 25_000)
        assert Capacity(1.0, 5.0, 25_000).at(step) == pytest.approx(expected)


@of("Multi-sample bound")
def _():
    model, x = sop_problems.model_of("gumbel-softmax"), sop_problems.images()
    noise = model.draw_noise((7, len(x)), generator("units"))
    h = 2 * x[..., :2, :].flatten(-3) - 1
    for index in range(2):
        units = igr.BinaryConcrete(TEMPERATURE, model.layers[index](h))
        h = 2 * units.rsample(noise=noise[..., index, :]) - 1
    logits = model.layers[2](h).unflatten(-1, (1, 2, 3))
    log_likelihood = torch.distributions.Bernoulli(logits=logits).log_prob(x[..., 2:, :]).sum((-3, -2, -1))
    same(model(x, noise, TEMPERATURE).bound, log_likelihood.exp().mean(0).log())


@of("Bound of a mixture")
def _():
    x = dlgmm_problems.images()
    for sums_out in (False, True):
        model = dlgmm_problems.model_of("logit-normal", 3, 2, sums_out=sums_out)
        noise = model.draw_noise((5, len(x)), generator("mixture"))
        posterior = model.encode(x)
        drawn = model.draw(x, posterior, noise)
        y = posterior.sticks.law.pre_image(noise[..., :2])
        lengths, left = pieces(y)
        weights = torch.cat([lengths, left.unsqueeze(-1)], -1)
        same(drawn.log_weights.exp(), weights)
        z = posterior.loc + posterior.scale * noise[..., 4:].unflatten(-1, (3, 2))
        log_likelihood = model.decode(z).log_prob(x.unsqueeze(1))
        prior = posterior.sticks.prior
        kl_sticks = normal_kl(posterior.sticks.law.loc, posterior.sticks.law.scale, prior.loc, prior.scale)
        if sums_out:
            log_q = Normal(posterior.loc, posterior.scale).log_prob(z).sum(-1)
            log_p = Normal(model.prior_loc, 1.0).log_prob(z).sum(-1)
            expected = (weights * (log_likelihood + log_p - log_q).exp()).sum(-1).log()
        else:
            kl = normal_kl(posterior.loc, posterior.scale, model.prior_loc, torch.ones(()).double())
            expected = (weights * (log_likelihood - kl)).sum(-1)
        same(model.bound(posterior, drawn), expected - kl_sticks, 1e-7)


@of("Laws of the sticks")
def _():
    a, b = (torch.tensor(value, dtype=torch.float64) for value in (1.7, 0.6))
    noise = noise_of()[:, 0]
    u = torch.exp(-torch.exp(-noise))
    v = (1 - u ** (1 / b)) ** (1 / a)
    log_v, log_rest, _ = kumaraswamy.log_fractions(a, b, noise)
    same(log_v.exp(), v)
    same(log_rest.exp(), 1 - v)
    for alpha in (0.5, 1.0, 5.0):
        sticks = LogitNormalSticks(3, alpha)
        assert sticks.prior_loc == pytest.approx(special.digamma(1.0) - special.digamma(alpha))
        spread = special.polygamma(1, 1.0) + special.polygamma(1, alpha)
        assert sticks.prior_scale == pytest.approx(math.sqrt(spread))


@of("Pathwise gradient")
def _():
    loc = LOC.clone().unsqueeze(0).requires_grad_()
    law = igr.InvertibleGaussian(loc, SCALE, TEMPERATURE)
    noise = law.draw_noise((4,), generator("pathwise"))

    def function(z: Tensor) -> Tensor:
        return (z * torch.arange(4.0)).sum((-2, -1)).square()

    found = Pathwise()(function, law, 4, noise=noise)
    expected = function(softmax_plus_plus(loc + SCALE * noise, delta=1.0)).mean()
    same(found.value, expected)
    same(*(torch.autograd.grad(value, loc)[0] for value in (found.loss, expected)))


@of("REBAR and RELAX")
def _():
    logits = torch.tensor([[0.4, -1.0, 0.7]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)

    def function(z: Tensor) -> Tensor:
        return (z @ weights).square().sum(-1)

    law = igr.GumbelSoftmax(TEMPERATURE, logits)
    estimator = REBAR(temperature=0.5, coefficient=0.8, baseline=1.5).double()
    noise = estimator.draw_noise(law, 6, generator=generator("rebar"))
    s = logits + noise
    d = torch.nn.functional.one_hot(s.argmax(-1), 3).double()
    # What was drawn as a function of exponential variables given d, which are then held.
    top = (s * d).sum(-1, keepdim=True)
    with torch.no_grad():
        of_top = (-top).exp() * logits.exp().sum()
        of_others = ((-s).exp() - (-top).exp()) * logits.exp()
    top = logits.logsumexp(-1) - of_top.log()
    twin = torch.where(d > 0, top, -((-top).exp() + of_others * (-logits).exp()).log())
    same(twin, s.detach())

    def control(scores: Tensor) -> Tensor:
        return 0.8 * function(torch.softmax(scores / 0.5, -1)) + 1.5

    log_probs = (d * logits.log_softmax(-1)).sum((-2, -1))
    expected = (function(d) - control(twin)).detach() * log_probs + control(s) - control(twin)
    found = estimator(function, law, 6, noise=noise).loss
    same(*(torch.autograd.grad(value, logits)[0] for value in (found, expected.mean())), 1e-6)
    # Its network starts without a part, so that it starts as REBAR.
    again = RELAX(temperature=0.5, coefficient=0.8, baseline=1.5).double()
    same(
        *(
            torch.autograd.grad(one(function, law, 6, noise=noise).loss, logits)[0]
            for one in (again, estimator)
        )
    )


def test_every_function_that_is_named_exists():
    names = re.findall(r"`((?:igr|torch)(?:\.\w+)+)`", PAGE)
    assert len(names) > 60
    for name in names:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:length]))
            except ModuleNotFoundError:
                continue
            functools.reduce(getattr, parts[length:], found)
            break
        else:
            raise AssertionError(name)


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 60
    for path in {path for path, _ in named}:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {name for at, name in named if at == path} <= there, path
    # None is written in another form, in which it would not be looked for.
    assert len(named) == PAGE.count("::")
    for path in re.findall(r"`((?:tests|src|docs)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_every_section_has_an_equation_its_code_and_its_test():
    assert len(SECTIONS) > 30
    for title, text in SECTIONS.items():
        assert text.count("$$") >= 2, title
        assert text.count("$$") % 2 == 0, title
        assert len(re.findall(r"^- Code: `", text, re.MULTILINE)) == 1, title
        assert len(re.findall(r"^- Test: `", text, re.MULTILINE)) == 1, title


def test_every_study_has_its_row():
    named = re.findall(r"`igr study run ([\w-]+)`", EXPERIMENTS)
    assert sorted(named) == sorted(STUDIES)


def test_all_but_one_of_the_equations_are_computed_here():
    assert set(SECTIONS) - set(CHECKS) == {"Coupled control variate of IGR-I"}
    assert set(CHECKS) <= set(SECTIONS)


@pytest.mark.parametrize("heading", CHECKS)
def test_equation(heading):
    CHECKS[heading]()
