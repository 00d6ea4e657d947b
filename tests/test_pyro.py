"""Laws of igr are distributions of Pyro: its effects, its bounds and its enumeration see them as they are."""

import copy
import importlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence

import igr
from cases import BINARY, CASES, Case, each, z_score

pyro = pytest.importorskip("pyro", reason="needs pyro-ppl, of the extra interoperability")

import pyro.distributions as dist  # noqa: E402
from pyro import poutine  # noqa: E402
from pyro.infer import (  # noqa: E402
    SVI,
    JitTraceMeanField_ELBO,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
    infer_discrete,
)
from pyro.infer.autoguide import AutoNormal  # noqa: E402

from igr.pyro import PyroLogLaw, to_pyro  # noqa: E402

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def fresh() -> None:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    pyro.enable_validation(True)


def check_as_pyro_law(law: Any) -> None:
    """What Pyro asks of a distribution is what the law says."""
    wrapped = to_pyro(law)
    torch.manual_seed(1)
    z = wrapped((5,))
    torch.manual_seed(1)
    assert torch.equal(z, law.rsample((5,)))
    assert z.shape == wrapped.shape(torch.Size((5,)))
    assert (wrapped.batch_shape, wrapped.event_shape) == (law.batch_shape, law.event_shape)
    log_prob = law.log_prob(z)
    assert torch.equal(wrapped.log_prob(z), log_prob)
    assert torch.equal(wrapped.score_parts(z).entropy_term, log_prob)
    assert wrapped.support is law.support

    wider = wrapped.expand_by((2, 5))
    assert wider.batch_shape == (2, 5, *law.batch_shape)
    assert wider().shape == wider.shape()
    torch.testing.assert_close(wider.log_prob(z.expand(2, *z.shape)), log_prob.expand(2, *log_prob.shape))
    as_event = wrapped.to_event()
    assert as_event.batch_shape == ()
    over_batch = log_prob.flatten(1).sum(-1) if law.batch_shape else log_prob
    torch.testing.assert_close(as_event.log_prob(z), over_batch)
    assert (wrapped.mask(False).log_prob(z) == 0).all()
    if law.batch_shape:
        mask = torch.arange(law.batch_shape.numel()).view(law.batch_shape) % 2 == 0
        assert torch.equal(wrapped.mask(mask).log_prob(z), torch.where(mask, log_prob, 0.0))

    found = pickle.loads(pickle.dumps(copy.deepcopy(wrapped)))
    torch.testing.assert_close(found.log_prob(z), log_prob)
    assert repr(wrapped) == f"PyroLaw({law!r})"


@each()
def test_a_relaxation_does_what_pyro_asks(case: Case):
    check_as_pyro_law(case.law())


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_relaxation_does_what_pyro_asks(name):
    check_as_pyro_law(BINARY[name].law())


def a_pair(case: Case) -> tuple[Any, Any]:
    """Two laws of a family, with one transform."""
    p = case.law()
    if case.is_gumbel:
        return p, igr.GumbelSoftmax(p.temperature, logits=p.logits + torch.arange(p.num_categories))
    return p, igr.InvertibleGaussian(p.loc + 0.3, 1.1 * p.scale, p.temperature, p.transform, delta=p.delta)


@each(where=lambda case: not (case.is_masked or case.is_gumbel))
def test_a_divergence_is_the_closed_form_of_the_laws(case: Case):
    p, q = a_pair(case)
    expected = kl_divergence(p, q)
    assert torch.equal(kl_divergence(to_pyro(p), to_pyro(q)), expected)
    assert torch.equal(kl_divergence(to_pyro(p, log=True), to_pyro(q, log=True)), expected)
    found = kl_divergence(to_pyro(p).to_event(), to_pyro(q).to_event())
    torch.testing.assert_close(found, expected.sum())


@pytest.mark.parametrize("name", ["igr-K3-batch", "gs-K10-batch2-temperatures"])
def test_a_divergence_of_discrete_laws_is_theirs(name):
    p, q = (law.discrete() for law in a_pair(CASES[name]))
    expected = kl_divergence(p, q)
    of_pyro_q = dist.OneHotCategorical(logits=q.logits, validate_args=False)
    of_pyro_p = dist.OneHotCategorical(logits=p.logits, validate_args=False)
    for found in (
        kl_divergence(to_pyro(p), to_pyro(q)),
        kl_divergence(to_pyro(p), of_pyro_q),
        kl_divergence(of_pyro_p, to_pyro(q)),
    ):
        torch.testing.assert_close(found, expected)


def test_where_there_is_no_closed_form_the_law_says_so():
    p, q = (igr.GumbelSoftmax(0.5, logits=torch.tensor([0.0, x])) for x in (0.0, 1.0))
    with pytest.raises(NotImplementedError, match="has no closed form; estimate it"):
        kl_divergence(to_pyro(p), to_pyro(q))


def test_where_pyro_is_absent_its_package_is_named(monkeypatch):
    """What is named pyro in the registries is something else."""
    monkeypatch.setitem(sys.modules, "pyro.distributions", None)
    monkeypatch.delitem(sys.modules, "igr.pyro")
    with pytest.raises(ImportError, match=r"named pyro-ppl; install it with pip install 'igr\[interop"):
        importlib.import_module("igr.pyro")


def test_pyro_takes_no_plain_law():
    """What to_pyro is for; where Pyro comes to take one, it may go."""
    with pytest.raises(TypeError, match="not callable"):
        pyro.sample("z", igr.GumbelSoftmax(0.5, logits=torch.zeros(3)))


# The bounds.

LOC = torch.tensor([[0.3, -0.2], [1.0, 0.5], [-1.0, 0.2], [0.4, 0.0]], dtype=DOUBLE)
SCALE = torch.tensor([0.8, 1.2], dtype=DOUBLE)


def posterior(loc: Tensor = LOC) -> igr.InvertibleGaussian:
    return igr.InvertibleGaussian(loc, SCALE, 0.5)


PRIOR = igr.InvertibleGaussian(torch.zeros(2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE), 0.5)
KL = kl_divergence(posterior(), PRIOR)


def sites(law: Callable[[], Any]) -> Callable[[], Tensor]:
    def sites_of_four() -> Tensor:
        with pyro.plate("data", 4):
            return pyro.sample("z", law())

    return sites_of_four


model_of_prior = sites(lambda: to_pyro(PRIOR))
guide_of_posterior = sites(lambda: to_pyro(posterior()))


def test_the_bound_of_a_mean_field_has_the_closed_form():
    """With nothing observed the loss is the KL, whatever was drawn."""
    elbo = TraceMeanField_ELBO()
    assert elbo.loss(model_of_prior, guide_of_posterior) == pytest.approx(KL.sum().item(), rel=1e-14)
    # So that the comparison with a bound by draws means something.
    drawn = Trace_ELBO().loss(model_of_prior, guide_of_posterior)
    assert abs(drawn - KL.sum().item()) > 0.01


def test_draws_agree_with_the_closed_form():
    elbo = Trace_ELBO()
    losses = [elbo.loss(model_of_prior, guide_of_posterior) for _ in range(100)]
    assert abs(z_score(torch.tensor(losses), KL.sum().item())) < 5


def test_scales_masks_and_subsamples_reach_the_closed_form():
    elbo = TraceMeanField_ELBO()
    model, guide = (poutine.scale(f, scale=0.25) for f in (model_of_prior, guide_of_posterior))
    assert elbo.loss(model, guide) == pytest.approx(0.25 * KL.sum().item())
    mask = torch.tensor([True, False, False, True])
    model, guide = (poutine.mask(f, mask=mask) for f in (model_of_prior, guide_of_posterior))
    assert elbo.loss(model, guide) == pytest.approx(KL[mask].sum().item())
    batch = torch.tensor([2, 0])

    def model_of_batch() -> None:
        with pyro.plate("data", 4, subsample=batch):
            pyro.sample("z", to_pyro(PRIOR))

    def guide_of_batch() -> None:
        with pyro.plate("data", 4, subsample=batch) as places:
            pyro.sample("z", to_pyro(posterior(LOC[places])))

    assert elbo.loss(model_of_batch, guide_of_batch) == pytest.approx(2 * KL[batch].sum().item())


def test_sites_may_be_one_event():
    def model() -> None:
        pyro.sample("z", to_pyro(PRIOR).expand([4]).to_event(1))

    def guide() -> None:
        pyro.sample("z", to_pyro(posterior()).to_event(1))

    assert isinstance(to_pyro(PRIOR).expand([4]).to_event(1), Independent)
    assert TraceMeanField_ELBO().loss(model, guide) == pytest.approx(KL.sum().item())


def test_a_step_has_the_gradient_of_the_closed_form():
    def guide() -> None:
        loc = pyro.param("loc", LOC.clone())
        with pyro.plate("data", 4):
            pyro.sample("z", to_pyro(posterior(loc)))

    TraceMeanField_ELBO().loss_and_grads(model_of_prior, guide)
    loc = LOC.clone().requires_grad_()
    (expected,) = torch.autograd.grad(kl_divergence(posterior(loc), PRIOR).sum(), loc)
    torch.testing.assert_close(pyro.param("loc").grad, expected)


def test_particles_are_drawn_at_once():
    elbo = Trace_ELBO(num_particles=300, vectorize_particles=True, max_plate_nesting=1)
    single = Trace_ELBO()
    losses = torch.tensor([single.loss(model_of_prior, guide_of_posterior) for _ in range(100)])
    spread = losses.std().item() / 300**0.5
    assert abs(elbo.loss(model_of_prior, guide_of_posterior) - KL.sum().item()) < 5 * spread


def test_replayed_and_conditioned_sites_are_scored_by_the_law():
    trace = poutine.trace(guide_of_posterior).get_trace()
    z = trace.nodes["z"]["value"]
    assert z.shape == (4, 3)
    replayed = poutine.trace(poutine.replay(model_of_prior, trace)).get_trace()
    assert replayed.nodes["z"]["value"] is z
    torch.testing.assert_close(replayed.log_prob_sum(), PRIOR.log_prob(z).sum())
    observed = pyro.condition(model_of_prior, {"z": z})
    found = poutine.trace(observed).get_trace()
    assert found.nodes["z"]["is_observed"]
    torch.testing.assert_close(found.log_prob_sum(), PRIOR.log_prob(z).sum())


def test_a_model_is_used_by_other_parts_of_pyro():
    def model() -> None:
        z = pyro.sample("z", to_pyro(PRIOR))
        pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=torch.tensor(0.4, dtype=DOUBLE))

    for parallel in (False, True):
        assert Predictive(model, num_samples=7, parallel=parallel)()["z"].squeeze().shape == (7, 3)
    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    assert torch.tensor([svi.step() for _ in range(3)]).isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_bound_that_pyro_compiles_has_the_closed_form():
    elbo = JitTraceMeanField_ELBO(ignore_jit_warnings=True)
    loc = pyro.param("loc", LOC.clone())

    def guide() -> None:
        with pyro.plate("data", 4):
            pyro.sample("z", to_pyro(posterior(pyro.param("loc"))))

    assert elbo.loss_and_grads(model_of_prior, guide) == pytest.approx(KL.sum().item())
    assert loc.grad is not None


# The discrete law.

MEANS = torch.tensor([-2.0, 0.0, 3.0], dtype=DOUBLE)
NUMBERS = torch.tensor([-1.8, 0.9, 2.5, 0.1], dtype=DOUBLE)
DISCRETE_PRIOR = igr.GumbelSoftmax(0.5, logits=torch.tensor([0.1, 0.5, -0.3], dtype=DOUBLE)).discrete()
LOG_JOINT = DISCRETE_PRIOR.logits + dist.Normal(MEANS, 1.0).log_prob(NUMBERS.unsqueeze(-1))


def clusters(**infer: Any) -> None:
    with pyro.plate("data", 4):
        d = pyro.sample("d", to_pyro(DISCRETE_PRIOR), infer=infer)
        pyro.sample("x", dist.Normal(d @ MEANS, 1.0), obs=NUMBERS)


def nothing() -> None:
    """A guide without sites."""


def test_a_discrete_law_lists_its_vertices():
    law = to_pyro(posterior().discrete())
    assert law.has_enumerate_support
    assert not law.has_rsample
    assert law.enumerate_support(expand=False).shape == (3, 1, 3)
    vertices = law.enumerate_support()
    assert torch.equal(vertices, torch.eye(3).to(vertices).unsqueeze(1).expand(3, 4, 3))
    torch.testing.assert_close(law.log_prob(vertices).T, posterior().discrete().logits)
    torch.testing.assert_close(law.entropy(), posterior().discrete().entropy())
    assert torch.equal(law.mean, posterior().discrete().mean)
    assert torch.equal(law.variance, posterior().discrete().variance)
    assert law.expand([2, 4]).enumerate_support().shape == (3, 2, 4, 3)


def test_the_evidence_is_summed_out_of_the_model():
    evidence = LOG_JOINT.logsumexp(-1).sum().item()
    found = TraceEnum_ELBO(max_plate_nesting=1).loss(lambda: clusters(enumerate="parallel"), nothing)
    assert found == pytest.approx(-evidence)
    assert TraceEnum_ELBO(max_plate_nesting=1).loss(config_enumerate(clusters), nothing) == pytest.approx(
        -evidence
    )


def padded(loc: Tensor) -> Tensor:
    return torch.nn.functional.pad(loc, (0, 1))


LAWS: dict[str, Callable[[Tensor], Any]] = {
    "igr": posterior,
    "igr-sb": lambda loc: igr.InvertibleGaussian(loc, SCALE, 0.5, igr.LogisticStickBreakingTransform("log")),
    "gumbel-softmax": lambda loc: igr.GumbelSoftmax(0.5, logits=padded(loc)),
}


def check_gradient(loss: float, law: Callable[[Tensor], Any], count: int) -> None:
    """Loss and gradient of a step are those of a sum over all categories by hand."""
    loc = LOC[:count].clone().requires_grad_()
    log_q = law(loc).discrete().logits
    exact = -(log_q.exp() * (LOG_JOINT[:count] - log_q)).sum()
    (expected,) = torch.autograd.grad(exact, loc)
    assert loss == pytest.approx(exact.item())
    torch.testing.assert_close(pyro.param("loc").grad, expected)
    assert (expected != 0).all()


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_the_gradient_by_enumeration_is_exact(law):
    def guide() -> None:
        loc = pyro.param("loc", LOC.clone())
        with pyro.plate("data", 4):
            pyro.sample("d", to_pyro(law(loc).discrete()), infer={"enumerate": "parallel"})

    loss = TraceEnum_ELBO(max_plate_nesting=1).loss_and_grads(clusters, guide)
    check_gradient(loss, law, 4)


def test_the_gradient_by_enumeration_one_after_the_other_is_exact():
    def model() -> None:
        for place in pyro.plate("data", 2):
            d = pyro.sample(f"d_{place}", to_pyro(DISCRETE_PRIOR))
            pyro.sample(f"x_{place}", dist.Normal(d @ MEANS, 1.0), obs=NUMBERS[place])

    def guide() -> None:
        loc = pyro.param("loc", LOC[:2].clone())
        for place in pyro.plate("data", 2):
            law = to_pyro(posterior(loc[place]).discrete())
            pyro.sample(f"d_{place}", law, infer={"enumerate": "sequential"})

    loss = TraceEnum_ELBO(max_plate_nesting=1).loss_and_grads(model, guide)
    check_gradient(loss, posterior, 2)


@pytest.mark.parametrize("of_igr", [True, False])
def test_the_posterior_is_sampled_by_categories_alone(of_igr):
    """infer_discrete of Pyro takes no site with an event dimension, be it Pyro's own."""

    def model(law: Any) -> Tensor:
        with pyro.plate("data", 4):
            d = pyro.sample("d", law, infer={"enumerate": "parallel"})
            means = d @ MEANS if law.event_shape else MEANS[d]
            pyro.sample("x", dist.Normal(means, 1.0), obs=NUMBERS)
        return d

    one_hot = to_pyro(DISCRETE_PRIOR) if of_igr else dist.OneHotCategorical(logits=DISCRETE_PRIOR.logits)
    with pytest.raises(ValueError, match="Invalid tensor shape"):
        infer_discrete(model, first_available_dim=-2)(one_hot)
    best = infer_discrete(model, temperature=0, first_available_dim=-2)(
        dist.Categorical(logits=DISCRETE_PRIOR.logits)
    )
    assert torch.equal(best, LOG_JOINT.argmax(-1))


# Logarithms.


@pytest.mark.parametrize(
    "law",
    [
        igr.InvertibleGaussian(torch.tensor([0.4], dtype=DOUBLE), torch.tensor([0.8], dtype=DOUBLE), 0.7),
        igr.GumbelSoftmax(0.7, logits=torch.tensor([0.4, 0.0], dtype=DOUBLE)),
    ],
    ids=["igr", "gumbel-softmax"],
)
def test_the_density_of_the_logarithm_has_the_integral_one(law):
    # Over the logit of z_1, of which d log z_1 = z_2 d logit.
    logit = torch.linspace(-60, 60, 20_001, dtype=DOUBLE)
    log_z = torch.stack([-torch.nn.functional.softplus(-logit), -torch.nn.functional.softplus(logit)], dim=-1)
    density = (to_pyro(law, log=True).log_prob(log_z) + log_z[..., 1]).exp()
    assert torch.trapezoid(density, logit).item() == pytest.approx(1.0, abs=1e-6)


def test_logarithms_are_those_of_the_law():
    wrapped = to_pyro(posterior(), log=True)
    torch.manual_seed(1)
    log_z = wrapped((3,))
    torch.manual_seed(1)
    assert torch.equal(log_z, posterior().rsample_log((3,)))
    assert torch.equal(wrapped.support.check(log_z), torch.ones(3, 4, dtype=torch.bool))
    assert not wrapped.sample().requires_grad
    expected = posterior().log_prob(log_z.exp()) + log_z[..., :-1].sum(-1)
    torch.testing.assert_close(wrapped.log_prob(log_z), expected)
    assert isinstance(wrapped.expand([2, 4]), PyroLogLaw)
    with pytest.raises(NotImplementedError, match="no closed form"):
        wrapped.mean


@pytest.mark.parametrize("log", [True, False])
def test_a_bound_by_draws_is_right_at_any_temperature_by_logarithms_alone(log):
    """Points that underflow have lost what their density needs."""
    loc = LOC.float()
    p, q = (igr.InvertibleGaussian(mean, SCALE.float(), 1e-3) for mean in (loc, torch.zeros_like(loc)))
    elbo = Trace_ELBO(num_particles=500, vectorize_particles=True, max_plate_nesting=1)
    found = elbo.loss(sites(lambda: to_pyro(q, log=log)), sites(lambda: to_pyro(p, log=log)))
    expected = kl_divergence(p, q).sum().item()
    if log:
        assert found == pytest.approx(expected, abs=0.5)
    else:
        assert abs(found - expected) > 1.0


def test_laws_of_points_and_of_logarithms_are_not_compared():
    with pytest.raises(NotImplementedError, match="give both or neither log=True"):
        kl_divergence(to_pyro(PRIOR), to_pyro(PRIOR, log=True))


# What is refused.


@pytest.mark.parametrize(
    ("law", "log", "sentence"),
    [
        (
            torch.distributions.Normal(0.0, 1.0),
            False,
            "expected a law of igr .* got Normal; take what pyro.dis",
        ),
        (
            torch.distributions.Normal(0.0, 1.0),
            True,
            "expected a relaxation on the simplex with log=True; got",
        ),
        (
            BINARY["concrete"].law(),
            True,
            "expected a relaxation on the simplex with log=True; got BinaryConcrete",
        ),
        (to_pyro(PRIOR), False, "expected a law of igr .* got PyroLaw"),
    ],
)
def test_another_law_is_refused(law, log, sentence):
    with pytest.raises(TypeError, match=sentence):
        to_pyro(law, log=log)


def test_masked_categories_have_no_logarithms():
    law = igr.GumbelSoftmax(0.5, logits=torch.zeros(3), mask=torch.tensor([False, True, False]))
    with pytest.raises(ValueError, match="expected a relaxation without masked categories"):
        to_pyro(law, log=True)
    # Pyro's method and the categories of the law have names of their own.
    wrapped = to_pyro(law)
    assert wrapped.law.mask.tolist() == [False, True, False]
    assert wrapped.mask(torch.tensor(True)).log_prob(wrapped()).isfinite()


def test_gradients_can_be_turned_off():
    wrapped = to_pyro(posterior(LOC.clone().requires_grad_())).has_rsample_(False)
    assert not wrapped.expand([2, 4])().requires_grad
    assert to_pyro(posterior(LOC.clone().requires_grad_()))().requires_grad
