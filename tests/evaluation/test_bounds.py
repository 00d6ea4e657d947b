"""The bounds against exact enumeration of the latents of a tiny model."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, OneHotCategorical, RelaxedOneHotCategorical

from igr.errors import UserError
from igr.evaluation import BOUND_KINDS, estimate, per_datum_bounds
from igr.evaluation.bounds import _DiscretePosterior
from igr.models.latents import GumbelSoftmaxLatent, InvertibleGaussianLatent, Latent
from igr.models.likelihoods import LIKELIHOODS
from igr.models.networks import Networks
from igr.models.vae import VAE

V, K, PIXELS = 2, 3, 5
TEMPERATURE = 0.4

LATENTS: dict[str, Callable[[], Latent]] = {
    "igr": partial(InvertibleGaussianLatent, V, K),
    "igr free scale": partial(InvertibleGaussianLatent, V, K, scale="free"),
    "gumbel-softmax": partial(GumbelSoftmaxLatent, V, K, 0.5),
}
every_latent = pytest.mark.parametrize("name", LATENTS)
igr_latents = pytest.mark.parametrize("name", [name for name in LATENTS if "igr" in name])


def tiny_vae(name: str) -> VAE:
    generator = torch.Generator().manual_seed(1)
    latent = LATENTS[name]()
    encoder = nn.Sequential(nn.Flatten(-3), nn.Linear(PIXELS, latent.num_outputs))
    decoder = nn.Sequential(nn.Linear(V * K, PIXELS), nn.Unflatten(-1, (1, 1, 1, PIXELS)))
    model = VAE(Networks(encoder, decoder), latent, LIKELIHOODS["bernoulli"]).double().eval()
    for name_of, parameter in model.named_parameters():
        # A posterior that is not far from the prior, so that weighted averages settle.
        size = 0.2 if name_of.startswith("encoder") else 1.0
        parameter.data = size * torch.randn(parameter.shape, generator=generator).double()
    return model


def all_images() -> Tensor:
    return torch.cartesian_prod(*[torch.arange(2.0)] * PIXELS).double().view(-1, 1, 1, PIXELS)


def repeated(image: Tensor, times: int) -> Tensor:
    """The same datum many times: its figures are independent and identically distributed."""
    return image.expand(times, -1, -1, -1)


@torch.no_grad()
def enumerated(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """The exact discrete ELBO and log p(x), each [N]."""
    log_q = model.encode(images, TEMPERATURE).discrete().logits  # [N, V, K]
    elbo = torch.zeros(len(images)).double()
    log_joint = []
    for i in range(K):
        for j in range(K):
            d = torch.nn.functional.one_hot(torch.tensor([i, j]), K).double()
            log_p = model.decode(d).log_prob(images) - 2 * math.log(K)
            log_q_d = log_q[:, 0, i] + log_q[:, 1, j]
            elbo += log_q_d.exp() * (log_p - log_q_d)
            log_joint.append(log_p)
    return elbo, torch.stack(log_joint).logsumexp(0)


def bounds(model: VAE, images: Tensor, num_samples: int, **settings: int) -> dict[str, Tensor]:
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
    p = OneHotCategorical(logits=torch.zeros(V, K).double())
    found = bounds(model, images, 1)["discrete_kl"]
    torch.testing.assert_close(found, torch.distributions.kl_divergence(q, p).sum(-1))


@every_latent
@pytest.mark.parametrize("key", ["importance_weighted", "importance_weighted_pre_image"])
def test_weights_are_unbiased_for_the_enumerated_likelihood(name: str, key: str) -> None:
    model = tiny_vae(name)
    image = all_images()[11]
    _, log_p = enumerated(model, image[None])
    results = bounds(model, repeated(image, 640), 20)
    if "pre_image" in key and not model.latent.has_pre_image:
        assert key not in results
        return
    assert abs(z_score((results[key] - log_p).exp(), 1.0)) < 5


@every_latent
@pytest.mark.parametrize("key", ["importance_weighted", "importance_weighted_pre_image"])
def test_importance_weighted_bound_rises_to_the_enumerated_likelihood(name: str, key: str) -> None:
    model = tiny_vae(name)
    if "pre_image" in key and not model.latent.has_pre_image:
        assert key not in bounds(model, all_images(), 1)
        return
    images = all_images()
    log_p = enumerated(model, images)[1].repeat(10)
    last = -math.inf
    for num_samples in (1, 4, 40, 1000):
        gap = bounds(model, images.repeat(10, 1, 1, 1), num_samples)[key] - log_p
        assert z_score(gap, 0.0) < 5
        assert gap.mean() > last
        last = gap.mean().item()
    assert abs(last) < 0.02


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


@pytest.mark.parametrize("name", ["igr", "gumbel-softmax"])
def test_figures_do_not_depend_on_the_chunks(name: str) -> None:
    model = tiny_vae(name)
    images = all_images().repeat(2, 1, 1, 1)[:45]
    whole = bounds(model, images, 37, element_budget=2**30)
    # One sample at a time, 7 (no divisor of a draw), 23 (more than a draw, no multiple of one).
    for samples in (1, 7, 23):
        for key, values in bounds(model, images, 37, element_budget=samples * 32 * V * K).items():
            torch.testing.assert_close(values, whole[key], rtol=1e-11, atol=1e-11)


def test_figures_are_fixed_by_the_seed_and_longer_runs_contain_shorter_ones() -> None:
    model = tiny_vae("gumbel-softmax")
    images = all_images()
    first, again, other = (bounds(model, images, 30, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[kind.key], other[kind.key]) for kind in BOUND_KINDS[:3])
    # log-sum-exp over 30 = over the first 10 and the other 20, which only shared noise satisfies.
    ten = bounds(model, images, 10)["importance_weighted"] + math.log(10)
    thirty = first["importance_weighted"] + math.log(30)
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
        decoded.append(z.numel())
        return decode(z)

    monkeypatch.setattr(model, "decode", counting)
    budget = 60 * 3 * V * K
    bounds(model, all_images()[:3], 100, element_budget=budget)
    largest = max(decoded)
    decoded.clear()
    bounds(model, all_images()[:3], 20_000, element_budget=budget)
    assert max(decoded) == largest <= budget
    assert sum(decoded) >= 3 * 20_000 * 3 * V * K


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
    d, log_ratio = law.sample(torch.zeros(1, 1, V).double(), torch.float64)
    assert d.argmax(-1).tolist() == [[[1] * V]]
    assert log_ratio.isfinite().all()
