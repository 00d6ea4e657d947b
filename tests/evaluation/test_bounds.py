"""The bounds against exact enumeration of the latents of a tiny model."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Normal,
    OneHotCategorical,
    RelaxedOneHotCategorical,
    kl_divergence,
)

from igr.data import PreparedImages
from igr.errors import UserError
from igr.evaluation import BOUND_KINDS, estimate, per_datum_bounds
from igr.evaluation.bounds import _DiscretePosterior
from igr.models.latents import (
    BernoulliLatent,
    DiscreteLatent,
    GaussianLatent,
    GumbelSoftmaxLatent,
    InvertibleGaussianLatent,
    JointLatent,
    JointPoints,
    Latent,
    LogStickBreakingLatent,
    PlanarLatent,
    StickBreakingLatent,
    TruncatedStickBreakingLatent,
)
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import Networks
from igr.models.vae import VAE
from igr.training.randomness import keyed_generator

V, K, PIXELS = 2, 3, 5
TEMPERATURE = 0.4

# Far from uniform, so that a bound that took the uniform prior would be found out.
NORMAL = {"loc": torch.tensor([0.3, -0.8]).double(), "scale": torch.tensor([0.8, 1.2]).double()}
FLOW = {
    "u": torch.tensor([[0.9, -0.4]]).double(),
    "w": torch.tensor([[0.5, 1.1]]).double(),
    "b": torch.tensor([0.3]).double(),
}


def planar(prior: dict[str, Tensor] | None = None) -> PlanarLatent:
    latent = PlanarLatent(V, K, prior, flow_layers=1, generator=torch.Generator().manual_seed(2))
    if prior is not None and "u" in prior:
        # Near the prior, so that weighted averages settle.
        with torch.no_grad():
            for name in ("u", "w", "b"):
                getattr(latent.flow.layers[0], name).copy_(prior[name][0] + 0.1)
    return latent


LATENTS: dict[str, Callable[[], DiscreteLatent]] = {
    "igr": partial(InvertibleGaussianLatent, V, K),
    "igr free scale": partial(InvertibleGaussianLatent, V, K, scale="free"),
    "gumbel-softmax": partial(GumbelSoftmaxLatent, V, K),
    "igr given prior": partial(InvertibleGaussianLatent, V, K, NORMAL, scale="free"),
    "gumbel-softmax given prior": partial(
        GumbelSoftmaxLatent, V, K, {"logits": torch.tensor([0.7, -0.9, 0.0])}, prior_temperature=None
    ),
    "igr-sb": partial(StickBreakingLatent, V, K, NORMAL),
    "igr-sb-log": partial(LogStickBreakingLatent, V, K, NORMAL),
    "igr-sb-truncated": partial(TruncatedStickBreakingLatent, V, K),
    "bernoulli": partial(BernoulliLatent, V),
}
PLANAR: dict[str, Callable[[], DiscreteLatent]] = {
    "igr-planar": planar,
    "igr-planar given prior": partial(planar, NORMAL),
    "igr-planar prior with a flow": partial(planar, {**NORMAL, **FLOW}),
}
every_latent = pytest.mark.parametrize("name", LATENTS)
igr_latents = pytest.mark.parametrize("name", ["igr", "igr free scale"])


def vae_of(latent: Latent, size: float = 0.2) -> VAE:
    generator = torch.Generator().manual_seed(1)
    encoder = nn.Sequential(nn.Flatten(-3), nn.Linear(PIXELS, latent.num_outputs))
    decoder = nn.Sequential(nn.Linear(latent.num_features, PIXELS), nn.Unflatten(-1, (1, 1, 1, PIXELS)))
    model = VAE(Networks(encoder, decoder), latent, LIKELIHOODS["bernoulli"], "relaxed").double().eval()
    for network, scale in ((encoder, size), (decoder, 1.0)):
        # A posterior that is not far from the prior, so that weighted averages settle.
        for parameter in network.parameters():
            parameter.data = scale * torch.randn(parameter.shape, generator=generator).double()
    return model


def tiny_vae(name: str) -> VAE:
    return vae_of({**LATENTS, **PLANAR}[name]())


def joint_vae(name: str) -> VAE:
    """With a Gaussian of one dimension, over which one can integrate."""
    return vae_of(JointLatent({**LATENTS, **PLANAR}[name](), GaussianLatent(1)))


def gaussian_vae() -> VAE:
    """With posteriors a little wider than the prior, so that no weight is large."""
    model = vae_of(GaussianLatent(1), size=0.4)
    with torch.no_grad():
        model.encoder[1].weight[1] *= 0.2
        model.encoder[1].bias[1] = 0.2
    return model


def all_images() -> Tensor:
    return torch.cartesian_prod(*[torch.arange(2.0)] * PIXELS).double().view(-1, 1, 1, PIXELS)


def repeated(image: Tensor, times: int) -> Tensor:
    """The same datum many times: its figures are independent and identically distributed."""
    return image.expand(times, -1, -1, -1)


@torch.no_grad()
def enumerated(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """The exact discrete ELBO and log p(x), each [N]."""
    log_q = model.encode(images, TEMPERATURE).discrete().logits.clamp_min(-1e9)  # [N, V, K]
    log_prior = model.latent.discrete_prior().logits.clamp_min(-1e9)  # [V, K]
    elbo = torch.zeros(len(images)).double()
    log_joint = []
    count = log_prior.shape[-1]
    for i in range(count):
        for j in range(count):
            d = torch.nn.functional.one_hot(torch.tensor([i, j]), count).double()
            log_p = model.decode(d).log_prob(images) + log_prior[0, i] + log_prior[1, j]
            log_q_d = log_q[:, 0, i] + log_q[:, 1, j]
            elbo += log_q_d.exp() * (log_p - log_q_d)
            log_joint.append(log_p)
    return elbo, torch.stack(log_joint).logsumexp(0)


def bounds(
    model: VAE, images: Tensor | PreparedImages, num_samples: int, **settings: Any
) -> dict[str, Tensor]:
    return per_datum_bounds(model, images, TEMPERATURE, num_samples=num_samples, **settings)


def z_score(values: Tensor, truth: Tensor | float) -> float:
    return ((values.mean() - truth) / (values.std() / math.sqrt(len(values)))).item()


@every_latent
def test_discrete_elbo_is_the_enumerated_one(name: str) -> None:
    model = tiny_vae(name)
    image = all_images()[11]
    elbo, _ = enumerated(model, image[None])
    values = bounds(model, repeated(image, 320), 50)["discrete_elbo"]
    assert abs(z_score(values, elbo[0])) < 5
    assert values.std() < 0.3  # or the test could not fail


@every_latent
def test_discrete_kl_is_that_of_torch(name: str) -> None:
    model = tiny_vae(name)
    images = all_images()
    q = OneHotCategorical(logits=model.encode(images, TEMPERATURE).discrete().logits.detach())
    p = OneHotCategorical(logits=model.latent.discrete_prior().logits)
    found = bounds(model, images, 1)["discrete_kl"]
    torch.testing.assert_close(found, torch.distributions.kl_divergence(q, p).sum(-1))


WEIGHTED = ("importance_weighted", "importance_weighted_pre_image")


def weighted_keys_of(results: dict[str, Tensor]) -> list[str]:
    return [key for key in WEIGHTED if key in results]


def weighted_keys(model: VAE, results: dict[str, Tensor]) -> list[str]:
    """Those of the importance-weighted bounds that there have to be, and no others."""
    expected = [key for key in WEIGHTED if "pre_image" not in key or model.latent.has_pre_image]
    assert weighted_keys_of(results) == expected
    return expected


@every_latent
def test_weights_are_unbiased_for_the_enumerated_likelihood(name: str) -> None:
    model = tiny_vae(name)
    image = all_images()[11]
    _, log_p = enumerated(model, image[None])
    results = bounds(model, repeated(image, 640), 20)
    for key in weighted_keys(model, results):
        assert abs(z_score((results[key] - log_p).exp(), 1.0)) < 5


@every_latent
def test_importance_weighted_bounds_rise_to_the_enumerated_likelihood(name: str) -> None:
    model = tiny_vae(name)
    if name.startswith("gumbel-softmax"):
        # Of the exact law alone, which is tight near the prior.
        for parameter in model.encoder.parameters():
            parameter.data *= 3
    images = all_images()
    log_p = enumerated(model, images)[1].repeat(10)
    last = dict.fromkeys(WEIGHTED, -math.inf)
    for num_samples in (1, 4, 40, 600):
        results = bounds(model, images.repeat(10, 1, 1, 1), num_samples)
        for key in weighted_keys(model, results):
            gap = results[key] - log_p
            assert z_score(gap, 0.0) < 5
            assert gap.mean() > last[key]
            last[key] = gap.mean().item()
    assert all(abs(last[key]) < 0.04 for key in weighted_keys(model, results))


@igr_latents
def test_pre_image_is_looser(name: str) -> None:
    model = tiny_vae(name)
    # Near the prior the two hardly differ.
    for parameter in model.encoder.parameters():
        parameter.data *= 4
    results = bounds(model, all_images().repeat(20, 1, 1, 1), 10)
    difference = results["importance_weighted"] - results["importance_weighted_pre_image"]
    assert z_score(difference, 0.0) > 5


@igr_latents
def test_relaxed_elbo_of_igr_against_torch_primitives(name: str) -> None:
    model = tiny_vae(name)
    image = all_images()[11]
    values = bounds(model, repeated(image, 320), 50)["relaxed_elbo"]

    posterior = model.encode(image[None], TEMPERATURE)
    mu, sigma = posterior.loc[0].detach(), posterior.scale[0].detach()
    generator = torch.Generator().manual_seed(3)
    y = mu + sigma * torch.randn(20_000, V, K - 1, generator=generator, dtype=torch.float64)
    weights = torch.cat([(y / TEMPERATURE).exp(), torch.ones(20_000, V, 1).double()], -1)
    z = weights / weights.sum(-1, keepdim=True)
    log_p = Bernoulli(logits=model.decoder(z.flatten(-2)).flatten(1).detach()).log_prob(image.flatten())
    normal = torch.distributions.Normal(0.0, 1.0)
    m = -normal.icdf(torch.tensor(K ** (-1 / (K - 1))).double())
    kl = (0.5 * (sigma**2 + (mu - m) ** 2 - 1) - sigma.log()).sum()
    reference = log_p.sum(-1) - kl
    assert abs(two_sample_z(values, reference)) < 5


def test_relaxed_elbo_of_gumbel_softmax_against_torch_primitives() -> None:
    model = tiny_vae("gumbel-softmax")
    image = all_images()[11]
    values = bounds(model, repeated(image, 320), 50)["relaxed_elbo"]

    logits = model.encoder(image[None]).view(V, K).detach()
    q = RelaxedOneHotCategorical(torch.tensor(TEMPERATURE).double(), logits=logits)
    p = RelaxedOneHotCategorical(torch.tensor(0.5).double(), logits=torch.zeros(V, K).double())
    torch.manual_seed(3)
    z = q.sample((20_000,)).clamp_min(1e-30)
    log_p = Bernoulli(logits=model.decoder(z.flatten(-2)).flatten(1).detach()).log_prob(image.flatten())
    reference = log_p.sum(-1) - (q.log_prob(z) - p.log_prob(z)).sum(-1)
    assert abs(two_sample_z(values, reference)) < 5


def two_sample_z(a: Tensor, b: Tensor) -> float:
    return ((a.mean() - b.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt()).item()


@pytest.mark.parametrize("name", ["igr", "gumbel-softmax", "igr-sb", "igr-planar", "joint", "gaussian"])
def test_figures_do_not_depend_on_the_chunks(name: str) -> None:
    model = joint_vae("igr") if name == "joint" else gaussian_vae() if name == "gaussian" else tiny_vae(name)
    images = all_images().repeat(2, 1, 1, 1)[:45]
    largest = max(model.latent.num_features, PIXELS)
    whole = bounds(model, images, 37, element_budget=2**30, legacy=True)
    # One sample at a time, 7 (no divisor of a draw), 23 (more than a draw, no multiple of one).
    for samples in (1, 7, 23):
        found = bounds(model, images, 37, element_budget=samples * 32 * largest, legacy=True)
        assert found.keys() == whole.keys()
        for key, values in found.items():
            torch.testing.assert_close(values, whole[key], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["gumbel-softmax", "igr-planar", "joint", "gaussian"])
def test_figures_are_fixed_by_the_seed_and_longer_runs_contain_shorter_ones(name: str) -> None:
    model = joint_vae("igr") if name == "joint" else gaussian_vae() if name == "gaussian" else tiny_vae(name)
    images = all_images()
    first, again, other = (bounds(model, images, 30, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [kind.key for kind in BOUND_KINDS if kind.key in first]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)
    # log-sum-exp over 30 = over the first 10 and the other 20, which only shared noise satisfies.
    shorter = bounds(model, images, 10)
    for key in weighted_keys_of(first):
        ten, thirty = shorter[key] + math.log(10), first[key] + math.log(30)
        assert (thirty > ten).all()


def test_figures_of_a_datum_do_not_depend_on_how_many_others_there_are() -> None:
    """But for the last block, which is drawn for the data that are in it."""
    model, images = tiny_vae("igr"), all_images().repeat(10, 1, 1, 1)[:300]
    few, many = bounds(model, images[:100], 12), bounds(model, images, 12)
    for key, values in many.items():
        assert torch.equal(few[key][:96], values[:96])


def test_data_do_not_share_noise() -> None:
    model = tiny_vae("igr")
    image = all_images()[11]
    results = bounds(model, repeated(image, 96), 3)
    assert len(results["relaxed_elbo"].unique()) == 96
    del results["discrete_kl"]
    for values in results.values():
        first, second, third = values.split(32)
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)


def test_memory_does_not_grow_with_the_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vae("igr")
    decoded: list[int] = []
    decode = model.decode

    def counting(z: Tensor) -> torch.distributions.Distribution:
        decoded.append(z[..., 0].numel() if z.is_floating_point() else z.numel())
        return decode(z)

    monkeypatch.setattr(model, "decode", counting)
    budget = 60 * 3 * V * K
    bounds(model, all_images()[:3], 100, element_budget=budget)
    largest = max(decoded)
    decoded.clear()
    bounds(model, all_images()[:3], 20_000, element_budget=budget)
    assert max(decoded) == largest <= budget // K
    assert sum(decoded) >= 3 * 20_000 * 3 * V


def test_wide_layers_count_against_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vae("gumbel-softmax")
    wide = nn.Linear(V * K, 1000, dtype=torch.float64)
    model.decoder = nn.Sequential(wide, nn.Linear(1000, V * K).double(), model.decoder)
    rows: list[int] = []
    wide.register_forward_hook(lambda _module, _inputs, output: rows.append(output.numel()))
    bounds(model, all_images(), 50, element_budget=32 * 1000 * 5)
    assert max(rows) == 32 * 1000 * 5


def test_standard_error_covers_the_mean_over_all_data() -> None:
    model = tiny_vae("igr")
    images = all_images()
    truth = enumerated(model, images)[0].mean().item()
    generator = torch.Generator().manual_seed(7)
    repeats = 200
    covered = 0
    for seed in range(repeats):
        chosen = images[torch.randint(len(images), (60,), generator=generator)]
        found = estimate(bounds(model, chosen, 2, seed=seed)["discrete_elbo"])
        covered += abs(found.value - truth) < 1.96 * found.standard_error
    # 95 % within five standard deviations of a binomial, and not all.
    assert 0.95 - 5 * math.sqrt(0.95 * 0.05 / repeats) < covered / repeats < 1


def test_a_single_datum_has_no_standard_error() -> None:
    found = estimate(torch.tensor([-3.0]))
    assert (found.value, found.standard_error) == (-3.0, None)


def test_progress_counts_the_data() -> None:
    done: list[int] = []
    bounds(tiny_vae("igr"), all_images().repeat(3, 1, 1, 1)[:70], 1, progress=done.append)
    assert done == [32, 64, 70]


@pytest.mark.parametrize("num_samples", [0, -3])
def test_too_few_samples_are_refused(num_samples: int) -> None:
    with pytest.raises(UserError, match=f"at least 1; got {num_samples};"):
        bounds(tiny_vae("igr"), all_images(), num_samples)


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="at least one image; got none;"):
        bounds(tiny_vae("igr"), all_images()[:0], 1)


def test_categories_of_probability_zero_are_harmless() -> None:
    model = tiny_vae("gumbel-softmax")
    with torch.no_grad():
        model.encoder[1].weight.zero_()
        model.encoder[1].bias.copy_(torch.tensor([-2000.0, 0, 0, 0, -2000.0, 0]))
    image = all_images()[11]
    elbo, log_p = enumerated(model, image[None])
    results = bounds(model, repeated(image, 100), 30)
    assert abs(z_score(results["discrete_elbo"], elbo[0])) < 5
    assert (results["importance_weighted"] < log_p + 1e-9).all()


def test_the_lowest_uniform_number_takes_no_impossible_category() -> None:
    logits = torch.tensor([-math.inf, 0.0, 0.0]).expand(1, V, K)
    law = _DiscretePosterior(logits, LATENTS["gumbel-softmax"]())
    categories, log_ratio = law.sample(torch.zeros(1, 1, V).double())
    assert categories.tolist() == [[[1] * V]]
    assert log_ratio.isfinite().all()


# Nodes and weights of the standard normal law.
NODES, WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(60))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def log_likelihoods(model: VAE, images: Tensor, c: Tensor, d: Tensor | None = None) -> Tensor:
    """log p(x | d, c) of every image [N] at every number c, which has the shape [N, C] or [C]."""
    c = c.expand(len(images), -1).T.unsqueeze(-1)  # [C, N, 1]
    points = c if d is None else JointPoints(d.expand(*c.shape[:2], *d.shape[-2:]), c)
    return model.decode(points).log_prob(images).T


def normal_of(model: VAE, images: Tensor) -> Normal:
    """q(c | x), with shape [N, 1], from the last two numbers that the encoder gives."""
    loc, log_scale = model.encoder(images)[:, -2:].unbind(-1)
    return Normal(loc.unsqueeze(-1), log_scale.exp().unsqueeze(-1))


@torch.no_grad()
def integrated(model: VAE, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The exact ELBO with c from q(c | x), log p(x), and the KL of c; of both parts if there are two."""
    q = normal_of(model, images)
    at_q = q.mean + q.stddev * NODES
    kl = kl_divergence(q, Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())).squeeze(-1)
    discrete = model.latent.discrete
    if discrete is None:
        elbo = (log_likelihoods(model, images, at_q) * WEIGHTS).sum(-1) - kl
        return elbo, (log_likelihoods(model, images, NODES) + WEIGHTS.log()).logsumexp(-1), kl
    log_q, _ = model.latent.parts_of(model.encode(images, TEMPERATURE))
    log_q = log_q.discrete().logits.clamp_min(-1e9)
    log_prior = discrete.discrete_prior().logits.clamp_min(-1e9)
    elbo, terms = -kl, []
    count = log_prior.shape[-1]
    for i, j in itertools.product(range(count), repeat=2):
        d = torch.nn.functional.one_hot(torch.tensor([i, j]), count).double()
        of_prior = log_prior[0, i] + log_prior[1, j]
        of_q = log_q[:, 0, i] + log_q[:, 1, j]
        inner = (log_likelihoods(model, images, at_q, d) * WEIGHTS).sum(-1)
        elbo = elbo + of_q.exp() * (inner + of_prior - of_q)
        terms.append((log_likelihoods(model, images, NODES, d) + WEIGHTS.log()).logsumexp(-1) + of_prior)
    return elbo, torch.stack(terms).logsumexp(0), kl


def test_a_gaussian_latent_has_the_bounds_that_quadrature_gives() -> None:
    model, images = gaussian_vae(), all_images()
    image = images[11]
    elbo, log_p, _ = (found[0] for found in integrated(model, image[None]))
    results = bounds(model, repeated(image, 640), 20)
    assert set(results) == {"relaxed_elbo", "importance_weighted"}
    assert abs(z_score(results["relaxed_elbo"], elbo)) < 5
    assert abs(z_score((results["importance_weighted"] - log_p).exp(), 1.0)) < 5
    assert elbo < log_p - 0.01
    every = integrated(model, images)[1]
    last = -math.inf
    for num_samples in (1, 5, 300):
        gap = bounds(model, images.repeat(10, 1, 1, 1), num_samples)["importance_weighted"] - every.repeat(10)
        assert z_score(gap, 0.0) < 5
        assert gap.mean() > last
        last = gap.mean().item()
    assert abs(last) < 0.01


@pytest.mark.parametrize("name", ["igr given prior", "gumbel-softmax given prior", "igr-sb", "igr-sb-log"])
def test_joint_bounds_are_those_of_enumeration_and_quadrature(name: str) -> None:
    model = joint_vae(name)
    image = all_images()[11]
    elbo, log_p, kl = (found[0] for found in integrated(model, image[None]))
    assert kl > 0.01
    results = bounds(model, repeated(image, 640), 20)
    assert abs(z_score(results["discrete_elbo"], elbo)) < 5
    for key in weighted_keys(model, results):
        assert abs(z_score((results[key] - log_p).exp(), 1.0)) < 5
        assert z_score(results[key], log_p) < 0
    posterior, _ = model.latent.parts_of(model.encode(image[None], TEMPERATURE))
    expected = kl_divergence(posterior.discrete(), model.latent.discrete.discrete_prior()).sum(-1)
    torch.testing.assert_close(results["discrete_kl"], expected.detach().expand(640))


@pytest.mark.parametrize("name", ["igr", "gumbel-softmax"])
def test_the_relaxed_elbo_of_a_joint_latent_against_its_parts(name: str) -> None:
    model = joint_vae(name)
    image = all_images()[11]
    values = bounds(model, repeated(image, 320), 50)["relaxed_elbo"]
    with torch.no_grad():
        posterior, _ = model.latent.parts_of(model.encode(image[None], TEMPERATURE))
        prior = model.latent.discrete.prior(TEMPERATURE)
        q, count = normal_of(model, image[None]), 20_000
        log_z = posterior.rsample_log((count,), torch.Generator().manual_seed(3))
        c = q.mean + q.stddev * torch.randn(count, 1, generator=torch.Generator().manual_seed(4))
        log_p = model.decode(JointPoints(log_z.exp(), c.unsqueeze(1))).log_prob(image).squeeze(-1)
        ratio = (posterior.log_prob_of_log(log_z) - prior.log_prob_of_log(log_z)).sum((-2, -1))
        standard = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
        reference = log_p - ratio - (q.log_prob(c) - standard.log_prob(c)).sum(-1)
    assert abs(two_sample_z(values, reference)) < 5


def planar_law(latent: DiscreteLatent) -> Tensor:
    """log p(d) of a variable of a planar latent: exact, or from 800,000 draws where it has a flow."""
    assert isinstance(latent, PlanarLatent)
    prior = latent.prior(1.0)
    if prior.transform is None:
        return prior.discrete().logits[0]
    law = prior.discrete("monte_carlo", num_samples=400_000, generator=torch.Generator().manual_seed(9))
    return law.probs.mean(0).log()


@pytest.mark.parametrize("with_gaussian", [False, True])
@pytest.mark.parametrize("name", PLANAR)
@torch.no_grad()
def test_the_bound_of_planar_is_unbiased_over_the_pre_image(name: str, with_gaussian: bool) -> None:
    model = joint_vae(name) if with_gaussian else tiny_vae(name)
    image = all_images()[11]
    log_prior = planar_law(model.latent.discrete)
    terms = []
    for i, j in itertools.product(range(K), repeat=2):
        d = torch.nn.functional.one_hot(torch.tensor([i, j]), K).double()
        if with_gaussian:
            log_p_x = (log_likelihoods(model, image[None], NODES, d) + WEIGHTS.log()).logsumexp(-1)[0]
        else:
            log_p_x = model.decode(d).log_prob(image)
        terms.append(log_p_x + log_prior[i] + log_prior[j])
    log_p = torch.stack(terms).logsumexp(0)
    results = bounds(model, repeated(image, 640), 20)
    assert set(results) == {"relaxed_elbo", "importance_weighted_pre_image"}
    ratio = (results["importance_weighted_pre_image"] - log_p).exp()
    assert abs(z_score(ratio, 1.0)) < 5
    assert ratio.std() > 0.01


def test_of_lengths_the_last_category_is_never_drawn_and_every_figure_is_finite() -> None:
    model = tiny_vae("igr-sb")
    images = all_images()
    results = bounds(model, images, 50)
    assert all(values.isfinite().all() for values in results.values())
    posterior = model.encode(images, TEMPERATURE)
    law = _DiscretePosterior(posterior.discrete().logits, model.latent)
    uniform = torch.rand(
        5000, len(images), V, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    uniform[0] = 1 - 2**-53
    categories, log_ratio = law.sample(uniform)
    d = torch.nn.functional.one_hot(categories, K).double()
    assert not d[..., -1].any()
    assert log_ratio.isfinite().all()
    z = (d.mean(0) - posterior.discrete().probs)[..., :-1] / (d.std(0) / 5000**0.5)[..., :-1]
    assert z.abs().max() < 5


def by_hand(model: VAE, images: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """log p(x | z_s) of every sample, and the KL, with the noise that the documentation promises."""
    draws = [
        model.latent.draw_noise((10, len(images)), keyed_generator(0, "evaluation/relaxed/0", number))
        for number in range(-(-num_samples // 10))
    ]
    noise = torch.cat(draws)[:num_samples]
    with torch.no_grad():
        drawn = model.latent.sample(model.encode(images, TEMPERATURE), noise, TEMPERATURE, "relaxed")
        log_p = model.decode(drawn.points).log_prob(images)
    return log_p, drawn.kl.expand_as(log_p).mean(0)


@pytest.mark.parametrize("name", ["igr", "gumbel-softmax", "igr-planar", "joint", "gaussian"])
def test_the_legacy_estimate_is_its_formula_and_only_there_on_request(name: str) -> None:
    model = joint_vae("igr") if name == "joint" else gaussian_vae() if name == "gaussian" else tiny_vae(name)
    images = all_images()
    assert "legacy_estimate" not in bounds(model, images, 13)
    results = bounds(model, images, 13, legacy=True)
    log_p, kl = by_hand(model, images, 13)
    torch.testing.assert_close(results["legacy_estimate"], log_p.exp().mean(0).log() - kl)
    torch.testing.assert_close(results["relaxed_elbo"], log_p.mean(0) - kl)
    assert (results["legacy_estimate"] > results["relaxed_elbo"]).all()
    of_one = bounds(model, images, 1, legacy=True)
    torch.testing.assert_close(of_one["legacy_estimate"], of_one["relaxed_elbo"])


def test_the_legacy_estimate_can_exceed_the_likelihood_that_the_bounds_stay_below() -> None:
    model, image = gaussian_vae(), all_images()[31]
    with torch.no_grad():
        # A posterior a little aside of the prior, where the image is more likely.
        model.encoder[1].weight.zero_()
        slope = model.decoder[0].weight.sum()
        model.encoder[1].bias.copy_(torch.tensor([0.5 * slope.sign(), 0.0]))
    _, log_p, _ = integrated(model, image[None])
    results = bounds(model, repeated(image, 320), 100, legacy=True)
    assert z_score(results["legacy_estimate"], log_p[0]) > 5
    assert z_score(results["importance_weighted"], log_p[0]) < 5
    assert z_score(results["relaxed_elbo"], log_p[0]) < -5


def test_images_may_be_prepared_as_they_are_asked_for() -> None:
    model, images = tiny_vae("igr"), all_images().repeat(2, 1, 1, 1)
    stored = PreparedImages((255 * images).to(torch.uint8), "bernoulli", torch.float64)
    found, expected = bounds(model, stored, 3), bounds(model, images, 3)
    assert all(torch.equal(found[key], values) for key, values in expected.items())
    with pytest.raises(UserError, match="at least one image; got none;"):
        bounds(model, stored.first(0), 1)


def test_sticks_whose_law_cannot_be_computed_are_evaluated_by_a_wider_one() -> None:
    model = vae_of(StickBreakingLatent(V, K, NORMAL, scale="free"))
    with torch.no_grad():
        # The logarithms of the scales, by variable: far below what the law of sticks resolves.
        model.encoder[1].weight.view(V, 2, K - 1, PIXELS)[:, 1] = 0.0
        model.encoder[1].bias.view(V, 2, K - 1)[:, 1] = -6.0
    image = all_images()[11:12]
    posterior = model.encode(image, TEMPERATURE)
    with pytest.raises(NotImplementedError, match="no exact law of stick-breaking"):
        posterior.discrete()
    law = model.latent.exact_law(posterior)
    # Which piece is the longest is as good as certain with either scale.
    drawn = posterior.discrete("monte_carlo", num_samples=2000)
    assert (law.probs - drawn.probs).abs().max() < 0.1
    assert torch.equal(model.latent.representative(posterior).argmax(-1), drawn.probs.argmax(-1))
    prior = model.latent.discrete_prior().logits.clamp_min(-1e9)
    log_joint = [
        model.decode(nn.functional.one_hot(torch.tensor([i, j]), K).double()).log_prob(image)
        + prior[0, i]
        + prior[1, j]
        for i in range(K)
        for j in range(K)
    ]
    log_p = torch.stack(log_joint).logsumexp(0)
    results = bounds(model, repeated(image, 200), 50)
    for key in ("discrete_elbo", "importance_weighted"):
        assert results[key].isfinite().all()
        assert z_score(results[key], log_p[0]) < 5
