"""Mixture models against exact integration, what truncation leaves, and the promises of a pure model."""

from __future__ import annotations

import pytest
import torch

from cases import generator, z_score
from dlgmm_problems import FAMILIES, exact_bound, exact_log_likelihood, images, model_of
from igr.distributions import StickTruncation
from igr.models.dlgmm import separated_means

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
def test_importance_weights_are_unbiased_and_their_logarithm_is_between(
    family, num_components, dim, concentration
):
    model, x = model_of(family, num_components, dim, concentration), images()
    log_p = exact_log_likelihood(model, x)
    with torch.no_grad():
        posterior = model.encode(x)
        noise = model.draw_single_noise((200_000, len(x)), generator("weights"))
        log_w = model.log_weights(x, posterior, noise)
    assert z_score((log_w - log_p).exp(), 1.0).abs().max() < 5
    # E log w is a bound, no looser than the one with the component as a variable.
    error = log_w.std(0) / len(log_w) ** 0.5
    assert (log_w.mean(0) < log_p + 5 * error).all()
    assert (log_w.mean(0) > exact_bound(model, x) - 5 * error).all()


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


@each_family
def test_a_model_is_pure(family):
    model, x = model_of(family, 4, 2).train(), images()
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
