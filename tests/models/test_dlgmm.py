"""Mixture models against exact integration, what truncation leaves, and the promises of a pure model."""

from __future__ import annotations

import pytest
import torch

from cases import generator, z_score
from dlgmm_problems import FAMILIES, exact_bound, exact_log_likelihood, images, model_of
from igr.distributions import StickTruncation
from igr.evaluation.bounds import IMPORTANCE_WEIGHTED, RELAXED_ELBO
from igr.evaluation.dlgmm_bounds import dlgmm_bounds
from igr.models.dlgmm import ACTIVE, DLGMM, separated_means
from igr.models.networks import MIXTURE_NETWORKS
from igr.models.stick_laws import LogitNormalSticks

each_family = pytest.mark.parametrize("family", FAMILIES)
# One dimension has two corners; more components need more.
each_size = pytest.mark.parametrize(("num_components", "dim"), [(2, 1), (4, 2)], ids=["one", "two"])
each_concentration = pytest.mark.parametrize("concentration", [1.0, 3.0])


@each_family
@each_size
@each_concentration
def test_the_bound_that_is_trained_agrees_with_exact_integration(family, num_components, dim, concentration):
    model, x = model_of(family, num_components, dim, concentration), images()
    exact = exact_bound(model, x)
    with torch.no_grad():
        terms = model(x, model.draw_noise((100_000, len(x)), generator("bound")))
    bounds = terms.log_likelihood - terms.kl_components - terms.kl_sticks
    assert z_score(bounds, exact).abs().max() < 5
    assert terms.loss.item() == pytest.approx(-bounds.mean().item())
    # The component is a variable of it, so that it is no tighter than what is evaluated.
    assert (exact < exact_log_likelihood(model, x)).all()


@each_family
@each_size
@each_concentration
def test_importance_weights_are_unbiased_and_the_component_summed_out_is_tighter(
    family, num_components, dim, concentration
):
    model, x = model_of(family, num_components, dim, concentration, sums_out=True), images()
    log_p = exact_log_likelihood(model, x)
    noise = model.draw_noise((100_000, len(x)), generator("weights"))
    with torch.no_grad():
        posterior = model.encode(x)
        drawn = model.draw(x, posterior, noise)
        terms = model(x, noise)
    log_sums = drawn.log_terms.logsumexp(-1)
    log_w = log_sums + posterior.sticks.log_ratio(noise[..., : num_components - 1])
    assert z_score((log_w - log_p).exp(), 1.0).abs().max() < 5
    # What is trained is log of the sum, with the KL of the sticks in closed form; its parts say so.
    bounds = terms.log_likelihood - terms.kl_components - terms.kl_sticks
    assert torch.allclose(bounds, log_sums - posterior.sticks.kl())
    assert torch.allclose(bounds, model.bound(posterior, drawn))
    assert terms.loss.item() == pytest.approx(-bounds.mean().item())
    # Between the bound with the component as a variable and what both bound.
    error = bounds.std(0) / len(bounds) ** 0.5
    assert (bounds.mean(0) < log_p + 5 * error).all()
    assert (bounds.mean(0) > exact_bound(model, x) - 5 * error).all()
    # The shares are the posterior probabilities of the components for the points that were drawn.
    shares = model.shares(x, posterior, noise[:5])
    assert torch.allclose(shares.sum(-1), torch.ones(5, len(x), dtype=torch.float64))
    assert torch.allclose(shares, (drawn.log_terms - log_sums.unsqueeze(-1))[:5].exp())


@each_family
def test_the_gradient_of_the_sum_is_that_of_the_component_that_explains_the_image(family):
    model, x = model_of(family, 4, 2, sums_out=True), images(1)
    noise = model.draw_noise((1, 1), generator("gradient"))
    posterior = model.encode(x)
    shares = model.shares(x, posterior, noise)[0, 0]
    (slope,) = torch.autograd.grad(
        model.draw(x, posterior, noise).log_terms.logsumexp(-1).sum(), posterior.loc
    )
    (plain,) = torch.autograd.grad(model.draw(x, posterior, noise).log_terms.sum(), posterior.loc)
    assert torch.allclose(slope[0], shares.detach().unsqueeze(-1) * plain[0])


@each_family
def test_training_cuts_sticks_and_evaluation_does_not(family):
    cut = StickTruncation(threshold=0.9, quantile=0.5)
    model, x = model_of(family, 40, 6, truncation=cut), images()
    with torch.no_grad():
        model.stick_head.weight.mul_(0.1)
        model.stick_head.bias.zero_()
    noise = model.draw_noise((2, len(x)), generator("cut"))
    whole = model(x, noise)
    assert (whole.num_components == 40).all()
    assert (whole.mass_cut == 0).all()
    part = model.train()(x, noise)
    assert (part.num_components == 9).all()
    assert (part.mass_cut > 0).all()
    assert (part.mass_cut < 0.1).all()
    # Of the first eight, and of the last, which has what remains.
    part.loss.backward()
    slopes = model.loc_head.weight.grad.unflatten(0, (40, 6)).abs().sum((1, 2))
    assert slopes.nonzero().flatten().tolist() == [*range(8), 39]


@each_family
def test_what_is_cut_is_an_ordinary_model_of_so_many_components(family):
    cut = StickTruncation(threshold=0.5, quantile=0.1)
    model, x = model_of(family, 12, 4, truncation=cut).train(), images()
    noise = model.draw_noise((1, len(x)), generator("ordinary"))
    kept = int(model(x, noise).num_components[0, 0])
    assert kept == 9
    small = model_of(family, kept, 4)
    index = torch.tensor([*range(kept - 1), 11])
    with torch.no_grad():
        for mine, other in zip(
            [*small.trunk.parameters(), *small.decoder.parameters()],
            [*model.trunk.parameters(), *model.decoder.parameters()],
            strict=True,
        ):
            mine.copy_(other)
        small.prior_loc.copy_(model.prior_loc[index])
        for name in ("loc_head", "log_scale_head"):
            for part in ("weight", "bias"):
                source = getattr(getattr(model, name), part).unflatten(0, (12, 4))
                getattr(getattr(small, name), part).copy_(source[index].flatten(0, 1))
        for part in ("weight", "bias"):
            source = getattr(model.stick_head, part).unflatten(0, (2, 11))
            getattr(small.stick_head, part).copy_(source[:, : kept - 1].flatten(0, 1))
    own, normal = noise[..., :11], noise[..., 22:].unflatten(-1, (12, 4))
    same = torch.cat([own[..., : kept - 1], own[..., : kept - 1], normal[..., :kept, :].flatten(-2)], dim=-1)
    found, expected = model(x, noise), small(x, same)
    for name in ("log_likelihood", "kl_components"):
        assert torch.allclose(getattr(found, name), getattr(expected, name))
    # The other sticks, which nothing depends on, are held to their prior too.
    law = model.sticks(model.stick_head(model.trunk(x)))
    assert torch.allclose(law.first(kept - 1).kl(), expected.kl_sticks[0])
    assert torch.allclose(law.kl(), found.kl_sticks[0])
    assert (found.kl_sticks > expected.kl_sticks).all()


@pytest.mark.parametrize("sums_out", [False, True], ids=["averaged", "summed"])
@each_family
def test_a_model_is_pure(family, sums_out):
    model, x = model_of(family, 4, 2, sums_out=sums_out).train(), images()
    noise = model.draw_noise((2, len(x)), generator("pure"))
    first, again = model(x, noise), model(x, noise)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    parameters = {name: p.detach().clone() for name, p in [*model.named_parameters(), *model.named_buffers()]}
    stacked = {name: torch.stack([p, 1.1 * p]) for name, p in parameters.items()}

    def loss(values):
        return torch.func.functional_call(model, values, (x, noise)).loss

    losses = torch.func.vmap(loss)(stacked)
    assert losses[0].item() == pytest.approx(first.loss.item())
    assert losses[1].item() == pytest.approx(loss({n: 1.1 * p for n, p in parameters.items()}).item())


def test_means_of_the_prior_are_distinct_corners():
    for count, dim in ((2, 1), (8, 3), (50, 50), (50, 6), (20, 17)):
        means = separated_means(count, dim, 2.0, generator("means"))
        assert means.shape == (count, dim)
        assert (means.abs() == 2.0).all()
        assert len(torch.unique(means, dim=0)) == count
        assert torch.equal(means, separated_means(count, dim, 2.0, generator("means")))
    with pytest.raises(ValueError, match="4; got 5; take more dimensions or fewer components"):
        separated_means(5, 2, 1.0, generator("means"))


@pytest.mark.slow
@pytest.mark.parametrize("sums_out", [False, True], ids=["averaged", "summed"])
def test_of_twenty_truncated_components_a_mixture_of_four_takes_few(sums_out):
    """As many as the prior of the sticks has, and whatever the data are; they are as good as all twenty.

    Each image has a stick of its own, so that the mean weights of a model that fits are those of the prior:
    six above one per cent. What responds to the data is which component has an image.
    """
    prototypes = (torch.rand(4, 1, 6, 6, generator=generator("prototypes")) < 0.5).float()
    active, uncertain = [], []
    for seed in range(5):
        source = generator(f"mixture {seed}")
        labels = torch.randint(4, (2000,), generator=source)
        flipped = torch.rand(2000, *prototypes.shape[1:], generator=source) < 0.05
        x = torch.where(flipped, 1 - prototypes[labels], prototypes[labels])
        whole, cut = (
            dlgmm_bounds(
                trained(x, truncation, sums_out, generator(f"training {seed}")), x[:500], 1.0, num_samples=100
            )
            for truncation in (None, StickTruncation())
        )
        for key in (IMPORTANCE_WEIGHTED.key, RELAXED_ELBO.key):
            assert (whole.bounds[key] - cut.bounds[key]).mean().abs() < 1.0
        active.append(int((cut.weights.mean(0) > ACTIVE).sum()))
        # What the component of an image leaves unknown of its prototype, in nats; of log 4.
        joint = torch.stack([cut.shares[labels[:500] == label].sum(0) for label in range(4)]) / 500
        uncertain.append(float((joint * (joint.sum(0) / joint).clamp_max(1e9).log()).nansum()))
    assert sum(4 <= number <= 6 for number in active) >= 4, active
    # Only where the component is summed out do components divide the prototypes among themselves.
    assert all((nats < 0.7) == sums_out for nats in uncertain), uncertain


def trained(
    x: torch.Tensor, truncation: StickTruncation | None, sums_out: bool, source: torch.Generator
) -> DLGMM:
    """A mixture of at most twenty components after 1,500 steps."""
    networks = MIXTURE_NETWORKS["dlgmm_dense"].build(5, (1, 1, 6, 6), source)
    sticks, means = LogitNormalSticks(20), separated_means(20, 5, 2.0, source)
    model = DLGMM(*networks, sticks, means, source, truncation=truncation, sums_out=sums_out)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(1500):
        batch = x[torch.randint(len(x), (100,), generator=source)]
        loss = model(batch, model.draw_noise((1, 100), source)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
