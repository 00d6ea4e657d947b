"""Every latent keeps the promises of the seam: where it starts, both KLs, its pre-image, its draws."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from cases import z_score
from igr import GumbelSoftmax
from igr.kernels.planar import NEUTRAL
from igr.models.latents import (
    LATENTS as CATEGORICAL,
)
from igr.models.latents import (
    BernoulliLatent,
    ContinuousLatent,
    DiscreteLatent,
    GaussianLatent,
    GumbelSoftmaxLatent,
    InvertibleGaussianLatent,
    JointLatent,
    JointPoints,
    Latent,
    LatentSample,
    LogStickBreakingLatent,
    PlanarLatent,
    StickBreakingLatent,
    TruncatedStickBreakingLatent,
)
from igr.transforms import PlanarFlow
from references import maximum_log_probs

V, K, B, D = 3, 4, 2, 2
TEMPERATURE = 0.6


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


NORMAL = {"loc": tensor(0.4, -0.9, 0.1), "scale": tensor(0.8, 1.3, 0.5)}
# Sticks whose lengths are neither all alike nor uniform, so that nothing has to be fitted.
STICKS = {"loc": tensor(-0.9, -0.4, 0.3), "scale": tensor(0.8, 1.2, 1.0)}
LOGITS = {"logits": tensor(0.5, -1.0, 0.3, 0.0)}


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_flow(seed: int, num_layers: int = 2) -> dict[str, Tensor]:
    """The tensors of a planar flow that is far from the identity."""
    u, w = torch.randn(2, num_layers, K - 1, dtype=torch.float64, generator=source(seed))
    return {"u": u, "w": w, "b": torch.randn(num_layers, dtype=torch.float64, generator=source(seed + 1))}


def moved(latent: PlanarLatent) -> PlanarLatent:
    """With a flow that is far from the identity, as after training."""
    with torch.no_grad():
        for parameter in latent.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=source(3))
    return latent


def neutral(latent: PlanarLatent) -> PlanarLatent:
    """In float64, with a flow that is the identity, to rounding."""
    with torch.no_grad():
        for layer in latent.double().flow.layers:
            layer.u.copy_(NEUTRAL * layer.w / layer.w.square().sum(-1, keepdim=True))
    return latent


def planar(prior: dict[str, Tensor] | None = None, **settings: object) -> PlanarLatent:
    return PlanarLatent(V, K, prior, flow_layers=2, generator=source(1), **settings)


LATENTS = {
    "igr fixed": lambda: InvertibleGaussianLatent(V, K),
    "igr free": lambda: InvertibleGaussianLatent(V, K, scale="free"),
    "igr own prior temperature": lambda: InvertibleGaussianLatent(V, K, prior_temperature=0.9, scale="free"),
    "igr given prior": lambda: InvertibleGaussianLatent(V, K, NORMAL),
    "igr given prior free": lambda: InvertibleGaussianLatent(V, K, NORMAL, scale="free"),
    "gumbel-softmax": lambda: GumbelSoftmaxLatent(V, K),
    "gumbel-softmax given prior": lambda: GumbelSoftmaxLatent(V, K, LOGITS, prior_temperature=None),
    "gumbel-softmax landing": lambda: GumbelSoftmaxLatent(V, K, LOGITS, stick_the_landing=True),
    "igr-sb": lambda: StickBreakingLatent(V, K, STICKS),
    "igr-sb free": lambda: StickBreakingLatent(V, K, STICKS, scale="free"),
    "igr-sb-log": lambda: LogStickBreakingLatent(V, K, STICKS, scale="free"),
    "igr-sb-truncated": lambda: TruncatedStickBreakingLatent(V, K).eval(),
    "igr-planar": lambda: moved(planar()),
    "igr-planar fixed own prior temperature": lambda: moved(planar(scale="fixed", prior_temperature=0.9)),
    "igr-planar given prior": lambda: moved(planar(NORMAL)),
    "igr-planar prior with a flow": lambda: moved(
        planar({**NORMAL, **a_flow(5)}, prior_temperature=0.9, stick_the_landing=True)
    ),
}
EXACT = [name for name in LATENTS if "planar" not in name]
PRE_IMAGES = [name for name in LATENTS if name.startswith("igr")]


@pytest.fixture(params=LATENTS.values(), ids=LATENTS.keys())
def latent(request) -> DiscreteLatent:
    return request.param().double()


@pytest.fixture(params=EXACT)
def exact_latent(request) -> DiscreteLatent:
    return LATENTS[request.param]().double()


@pytest.fixture(params=PRE_IMAGES)
def igr_latent(request) -> DiscreteLatent:
    return LATENTS[request.param]().double()


ALL = LATENTS | {
    "gaussian": lambda: GaussianLatent(D),
    "joint": lambda: JointLatent(planar(), GaussianLatent(D)),
    "joint truncated": lambda: JointLatent(TruncatedStickBreakingLatent(V, K), GaussianLatent(D)).eval(),
}


def outputs_of(latent: Latent, spread: float = 0.7, count: int = B) -> Tensor:
    return spread * torch.randn(count, latent.num_outputs, generator=source(5), dtype=torch.float64)


def own_noise(latent: DiscreteLatent, noise: Tensor) -> Tensor:
    """That of the points, of a latent that has a pilot draw as well."""
    return noise.chunk(2, -1)[0] if isinstance(latent, TruncatedStickBreakingLatent) else noise


def prior_probs(latent: DiscreteLatent) -> Tensor:
    """The law of the prior; where it is an estimate, from many times the draws that it is compared with."""
    if latent.has_exact_law():
        return latent.discrete_prior().probs
    law = latent.prior(1.0).discrete("monte_carlo", num_samples=200_000, generator=source(8))
    return law.probs.mean(0).expand(V, K)


def test_shapes_follow_from_the_numbers_of_variables_and_categories(latent):
    posterior = latent(outputs_of(latent), TEMPERATURE)
    assert posterior.batch_shape == (B, V)
    assert posterior.event_shape == (K,)
    noise = own_noise(latent, latent.draw_noise((7, B)))
    assert noise.shape == posterior.draw_noise((7,)).shape
    assert posterior.rsample_log(noise=noise).shape == (7, B, V, K)
    assert latent.prior(TEMPERATURE).batch_shape == (V,)
    assert latent.discrete_prior().batch_shape == (V,)
    assert (latent.num_features, latent.parts_of(posterior)[1], latent.continuous) == (V * K, None, None)


def test_the_registry_has_every_latent_under_its_name():
    # Bernoulli variables, whose features are others, have tests of their own.
    assert {type(make()) for make in LATENTS.values()} == set(CATEGORICAL.values()) - {BernoulliLatent}
    for name, make in LATENTS.items():
        kind = CATEGORICAL[max((key for key in CATEGORICAL if name.startswith(key)), key=len)]
        assert type(make()) is kind


def test_outputs_of_zero_are_the_prior(latent):
    if isinstance(latent, PlanarLatent):
        if latent._prior_flow is not None:
            pytest.skip("the flow of this prior is not that of the posterior")
        neutral(latent)
    own = getattr(latent, "prior_temperature", None) or TEMPERATURE
    law = latent(torch.zeros(latent.num_outputs, dtype=torch.float64), own)
    prior = latent.prior(TEMPERATURE)
    log_z = prior.rsample_log((50,), source())
    torch.testing.assert_close(law.log_prob_of_log(log_z), prior.log_prob_of_log(log_z), atol=1e-9, rtol=1e-9)
    assert prior.log_prob_of_log(log_z).isfinite().all()
    if latent.has_exact_law():
        torch.testing.assert_close(law.discrete().probs, latent.discrete_prior().probs, atol=1e-9, rtol=1e-9)
        assert latent.discrete_kl(law).abs() < 1e-9


@pytest.mark.parametrize("name", [name for name in LATENTS if "prior" not in name and "landing" not in name])
def test_a_prior_that_is_not_given_is_uniform(name):
    latent = LATENTS[name]().double()
    if name.startswith("igr-sb"):
        kind = type(latent)
        if kind is TruncatedStickBreakingLatent:
            return
        latent = kind(V, K).double()
    winners = K - 1 if name.startswith("igr-sb") and "log" not in name else K
    expected = torch.zeros(V, K, dtype=torch.float64)
    expected[:, :winners] = 1 / winners
    assert (latent.discrete_prior().probs - expected).abs().max() < 1e-9
    if latent.has_exact_law():
        assert (latent.prior(TEMPERATURE).discrete().probs - expected).abs().max() < 1e-9


def test_the_prior_of_a_truncated_latent_does_not_depend_on_how_many_categories_there_are():
    for count in (5, 9):
        prior = TruncatedStickBreakingLatent(V, count).prior(0.5)
        assert (prior.loc == 0).all()
        assert (prior.scale == 1).all()


def test_given_priors_are_what_was_given():
    def law_of(latent: DiscreteLatent) -> Tensor:
        return latent.double().discrete_prior().probs[0]

    torch.testing.assert_close(law_of(GumbelSoftmaxLatent(V, K, LOGITS)), LOGITS["logits"].softmax(-1))
    expected = maximum_log_probs(NORMAL["loc"], NORMAL["scale"]).exp()
    torch.testing.assert_close(
        law_of(InvertibleGaussianLatent(V, K, NORMAL)), expected, rtol=1e-9, atol=1e-12
    )
    # Normal after the flow of the latent, which has no part in it.
    torch.testing.assert_close(law_of(moved(planar(NORMAL))), expected, rtol=1e-9, atol=1e-12)
    y = NORMAL["loc"] + NORMAL["scale"] * torch.randn(400_000, K - 1, dtype=torch.float64, generator=source())
    eta = STICKS["loc"] + STICKS["scale"] * torch.randn(
        400_000, K - 1, dtype=torch.float64, generator=source(1)
    )
    left = torch.cumprod(1 - eta.sigmoid(), -1)
    lengths = torch.cat([left.new_ones(len(left), 1), left[:, :-1]], -1) * eta.sigmoid()
    for space, scores in (("length", lengths), ("log", torch.cat([lengths, left[:, -1:]], -1))):
        kind = {"length": StickBreakingLatent, "log": LogStickBreakingLatent}[space]
        drawn = torch.nn.functional.one_hot(scores.argmax(-1), K).double()
        won = drawn.any(0)
        assert z_score(drawn[:, won], law_of(kind(V, K, STICKS))[won]).abs().max() < 5
        assert (law_of(kind(V, K, STICKS))[~won] == 0).all()
    flow = a_flow(5)
    own = planar({**NORMAL, **flow})
    t = PlanarFlow.from_tensors(flow["u"], flow["w"], flow["b"])(y)
    winner = torch.cat([t, torch.zeros(len(t), 1)], -1).argmax(-1)
    drawn = torch.nn.functional.one_hot(winner, K).double()
    found = own.double().discrete_prior()
    error = (drawn.var(0) / len(drawn) + found.standard_error**2).sqrt()
    assert ((drawn.mean(0) - found.probs) / error).abs().max() < 5


def test_the_noise_is_that_of_the_posterior(latent):
    def draw(source_of) -> Tensor:
        return source_of.draw_noise((6, B), generator=source(2))

    assert torch.equal(own_noise(latent, draw(latent)), draw(latent.prior(TEMPERATURE)))


def test_the_relaxed_kl_is_the_mean_of_the_log_ratio(latent):
    posterior = latent(outputs_of(latent), TEMPERATURE)
    prior = latent.prior(TEMPERATURE)
    noise = latent.draw_noise((20_000, B), generator=source(3))
    own = own_noise(latent, noise)
    with torch.no_grad():
        z, kl = latent.relaxed(posterior, noise, TEMPERATURE)
        assert torch.equal(z, posterior.rsample(noise=own)) or torch.allclose(z, posterior.rsample(noise=own))
        log_z = posterior.rsample_log(noise=own)
        ratio = (posterior.log_prob_of_log(log_z) - prior.log_prob_of_log(log_z)).sum(-1)
    if kl.shape == (B,):
        assert z_score(ratio, kl).abs().max() < 5
    else:
        # The inverse of a flow multiplies rounding, here by far less than that.
        torch.testing.assert_close(kl, ratio, rtol=1e-7, atol=1e-7)
    assert (ratio.mean(0) > 0).all()


@pytest.mark.parametrize("name", ["igr fixed", "igr given prior free", "igr-sb free", "igr-sb-log"])
def test_a_relaxed_kl_in_closed_form_is_that_of_torchs_normals(name):
    latent = LATENTS[name]().double()
    posterior, prior = latent(outputs_of(latent), TEMPERATURE), latent.prior(TEMPERATURE)
    expected = kl_divergence(Normal(posterior.loc, posterior.scale), Normal(prior.loc, prior.scale))
    _, found = latent.relaxed(posterior, latent.draw_noise((1, B)), TEMPERATURE)
    torch.testing.assert_close(found, expected.sum((-2, -1)))


def test_the_discrete_kl_is_that_of_the_enumerated_categories(exact_latent):
    posterior = exact_latent(outputs_of(exact_latent), TEMPERATURE)
    q, p = posterior.discrete().probs, exact_latent.discrete_prior().probs
    by_hand = torch.zeros(B, dtype=torch.float64)
    for categories in itertools.product(range(K), repeat=V):
        of_q = torch.stack([q[:, v, k] for v, k in enumerate(categories)]).prod(0)
        of_p = torch.stack([p[v, k] for v, k in enumerate(categories)]).prod(0)
        by_hand += torch.special.xlogy(of_q, of_q) - torch.special.xlogy(of_q, of_p)
    found = exact_latent.discrete_kl(posterior)
    torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-9)
    assert (found > 0.01).all()
    noise = exact_latent.draw_noise((1, B))
    assert torch.equal(exact_latent.sample(posterior, noise, TEMPERATURE, "discrete").kl, found)


def test_pre_image_points_are_the_largest_categories(igr_latent):
    posterior = igr_latent(outputs_of(igr_latent), TEMPERATURE)
    noise = igr_latent.draw_noise((500, B), generator=source(4))
    d, _ = igr_latent.pre_image(posterior, noise)
    log_z = posterior.rsample_log(noise=own_noise(igr_latent, noise))
    assert torch.equal(d, log_z.argmax(-1))


def test_pre_image_weights_turn_the_posterior_into_the_prior(igr_latent):
    posterior = igr_latent(outputs_of(igr_latent, spread=0.2), TEMPERATURE)
    if isinstance(igr_latent, PlanarLatent):
        # Near the prior, or a few weights would outweigh all others.
        neutral(igr_latent)
        with torch.no_grad():
            for number, layer in enumerate(igr_latent.flow.layers):
                if igr_latent._prior_flow is not None:
                    for name, value in zip("uwb", igr_latent._prior_flow, strict=True):
                        getattr(layer, name).copy_(value[number].expand_as(getattr(layer, name)))
                layer.u += 0.2
    noise = igr_latent.draw_noise((20_000, B), generator=source(6))
    with torch.no_grad():
        categories, log_weight = igr_latent.pre_image(posterior, noise)
    d = torch.nn.functional.one_hot(categories, posterior.num_categories).double()
    weight = log_weight.exp()
    assert z_score(weight, 1.0).abs().max() < 5
    share = weight[..., None, None] * d
    taken = d.any(0)
    expected = prior_probs(igr_latent).expand(B, V, K)
    assert z_score(share[:, taken], expected[taken]).abs().max() < 5
    assert (expected[~taken] == 0).all()
    # And the draws are far enough from the prior to tell.
    assert z_score(d[:, taken], expected[taken]).abs().max() > 10


def test_igr_is_told_no_delta():
    """Its outputs are offsets from the uniform law, so a delta would give the same model."""
    assert InvertibleGaussianLatent.options == {"scale", "prior_temperature"}
    posterior = InvertibleGaussianLatent(V, K)(torch.zeros(V * (K - 1)), TEMPERATURE)
    assert posterior.delta == 1.0


def test_only_gaussian_laws_have_a_pre_image():
    latent = GumbelSoftmaxLatent(V, K)
    joint = JointLatent(latent, GaussianLatent(D))
    for made in (latent, joint, GaussianLatent(D)):
        assert not made.has_pre_image
    posterior = latent(torch.zeros(V * K), TEMPERATURE)
    with pytest.raises(NotImplementedError, match="got GumbelSoftmaxLatent"):
        latent.pre_image(posterior, latent.draw_noise())


def test_only_a_flow_is_saved(latent):
    flow = [f"flow.{name}" for name in latent.flow.state_dict()] if isinstance(latent, PlanarLatent) else []
    assert list(latent.state_dict()) == flow


def test_the_discrete_kl_is_that_of_the_laws_and_finite_where_a_category_is_never_taken(exact_latent):
    outputs = outputs_of(exact_latent)
    posterior = exact_latent(outputs, TEMPERATURE)
    q, p = posterior.discrete().probs, exact_latent.discrete_prior().probs
    assert ((q > 0) | (p == 0)).all()
    extreme = torch.zeros(1, exact_latent.num_outputs, dtype=torch.float64)
    extreme.view(V, -1)[:, : K - 1] = -1e6
    extreme.requires_grad_()
    found = exact_latent.discrete_kl(exact_latent(extreme, TEMPERATURE))
    assert found.isfinite().all()
    (gradient,) = torch.autograd.grad(found.sum(), extreme)
    assert gradient.isfinite().all()


def test_laws_that_do_not_change_are_made_once_for_a_temperature_and_a_dtype(latent):
    first = latent.prior(0.7)
    assert latent.prior(0.7) is first
    if isinstance(latent, PlanarLatent) or getattr(latent, "prior_temperature", None) is None:
        assert latent.prior(0.8) is not first
        assert latent.prior(torch.tensor(0.7, dtype=torch.float64)) is not first
    for temperature in torch.linspace(0.1, 1.0, 50).tolist():
        latent.prior(temperature)
    # An annealed temperature leaves nothing behind.
    assert len(latent._constant_laws) <= 2
    first = latent.prior(0.7)
    with torch.inference_mode():
        assert latent.prior(0.7) is not first
    copied = copy.deepcopy(latent)
    assert copied.prior(0.7) is not first
    noise = latent.draw_noise((2,), source())
    assert latent.float().prior(0.7).dtype == torch.float32
    assert latent.discrete_prior().logits.dtype == torch.float32
    assert latent.draw_noise((2,), source()).dtype == torch.float32
    assert noise.dtype == torch.float64


@pytest.mark.parametrize("name", ALL)
def test_points_alone_are_those_of_a_sample(name):
    latent = ALL[name]().double()
    posterior = latent(outputs_of(latent), TEMPERATURE)
    noise = latent.draw_noise((5, B), source(7))
    found = latent.points(posterior, noise)
    expected = latent.sample(posterior, noise, TEMPERATURE, "relaxed").points
    torch.testing.assert_close(latent.features(found), latent.features(expected))
    if isinstance(latent, JointLatent):
        assert isinstance(found, JointPoints)


def test_a_latent_that_knows_no_points_alone_can_be_made():
    """As one was written before there were any."""

    class Given(Latent):
        discrete = continuous = None

        def forward(self, outputs, temperature):
            return outputs

        def draw_noise(self, sample_shape=(), generator=None, device=None, dtype=None):
            return torch.zeros(*sample_shape, D)

        def sample(self, posterior, noise, temperature, kl, straight_through=False):
            return LatentSample(posterior + noise, torch.zeros(B), {})

        def features(self, points):
            return points

        def parts_of(self, posterior):
            return None, None

        def join(self, discrete, continuous):
            return None

    class Continuous(Given, ContinuousLatent):
        draw_prior_points = divergence = log_ratio = None

    outputs, noise = torch.randn(B, D, generator=source()), torch.randn(5, B, D, generator=source(1))
    assert torch.equal(Continuous().points(outputs, noise), outputs + noise)
    with pytest.raises(NotImplementedError, match="apart from their KL; got Given; use sample"):
        Given().points(outputs, noise)


@pytest.mark.parametrize("kl", ["relaxed", "discrete"])
def test_points_of_a_sample_are_those_of_the_law_and_straight_through_ones_its_vertices(latent, kl):
    if kl not in latent.kls:
        pytest.skip("no exact law is known")
    outputs = outputs_of(latent).requires_grad_()
    noise = latent.draw_noise((5, B), source(7))
    weights = torch.randn(V, K, dtype=torch.float64, generator=source(8))

    def sampled(straight_through: bool) -> tuple[Tensor, Tensor, Tensor]:
        drawn = latent.sample(latent(outputs, TEMPERATURE), noise, TEMPERATURE, kl, straight_through)
        (gradient,) = torch.autograd.grad((drawn.points * weights).sum(), outputs, retain_graph=True)
        return drawn.points.detach(), gradient, drawn.kl.detach()

    (soft, of_soft, kl_of_soft), (hard, of_hard, kl_of_hard) = sampled(False), sampled(True)
    own = own_noise(latent, noise)
    posterior = latent(outputs, TEMPERATURE)
    torch.testing.assert_close(soft, posterior.rsample(noise=own).detach())
    assert torch.equal(hard, torch.nn.functional.one_hot(soft.argmax(-1), K).double())
    assert torch.equal(hard, posterior.vertex(own))
    torch.testing.assert_close(of_hard, of_soft)
    assert of_soft.abs().max() > 1e-3
    assert torch.equal(kl_of_hard, kl_of_soft)


def landing(name: str, sticks: bool) -> DiscreteLatent:
    """A latent with a sampled KL, with or without a gradient through its density."""
    if name == "gumbel-softmax":
        made: DiscreteLatent = GumbelSoftmaxLatent(
            V, K, LOGITS, prior_temperature=None, stick_the_landing=sticks
        )
    else:
        made = neutral(planar(NORMAL, stick_the_landing=sticks))
    return made.double()


def sampled_kl(latent: DiscreteLatent, outputs: Tensor, noise: Tensor) -> Tensor:
    return latent.relaxed(latent(outputs, TEMPERATURE), noise, TEMPERATURE)[1]


@pytest.mark.parametrize("name", ["gumbel-softmax", "igr-planar"])
def test_stick_the_landing_has_the_same_value_and_the_same_mean_gradient(name):
    count = 20_000
    gradients, values = [], []
    for sticks in (False, True):
        latent = landing(name, sticks)
        if isinstance(latent, PlanarLatent):
            moved(latent)
        outputs = outputs_of(latent, count=1).expand(count, -1).clone().requires_grad_()
        kl = sampled_kl(latent, outputs, latent.draw_noise((1, count), source(9)))
        gradients.append(torch.autograd.grad(kl.sum(), outputs)[0])
        values.append(kl.detach())
    torch.testing.assert_close(values[0], values[1], rtol=1e-8, atol=1e-8)
    difference = gradients[1] - gradients[0]
    assert difference.std(0).min() > 0.01
    assert z_score(difference, 0.0).abs().max() < 5
    # It is there for that.
    assert z_score(gradients[1], 0.0).abs().max() > 10


def test_stick_the_landing_has_the_same_mean_gradient_in_the_flow():
    latents = [moved(landing("igr-planar", sticks)) for sticks in (False, True)]
    means = []
    for chunk in range(100):
        differences = []
        for latent in latents:
            kl = sampled_kl(
                latent, outputs_of(latent, count=1).expand(50, -1), latent.draw_noise((1, 50), source(chunk))
            )
            found = torch.autograd.grad(kl.mean(), list(latent.parameters()))
            differences.append(torch.cat([gradient.flatten() for gradient in found]))
        means.append(differences[1] - differences[0])
    difference = torch.stack(means)
    assert difference.std(0).min() > 1e-3
    assert z_score(difference, 0.0).abs().max() < 5


@pytest.mark.parametrize("name", ["gumbel-softmax", "igr-planar"])
def test_at_the_prior_its_gradient_vanishes_whatever_was_drawn(name):
    found = {}
    for sticks in (False, True):
        latent = landing(name, sticks)
        outputs = torch.zeros(100, latent.num_outputs, dtype=torch.float64, requires_grad=True)
        kl = sampled_kl(latent, outputs, latent.draw_noise((1, 100), source(9)))
        assert kl.abs().max() < 1e-9
        found[sticks] = torch.autograd.grad(kl.sum(), [outputs, *latent.parameters()])
    assert all(gradient.abs().max() < 1e-9 for gradient in found[True])
    assert found[False][0].abs().max() > 0.1
    # Shifts of layers that are the identity change nothing.
    moving = [gradient for gradient in found[False][1:] if gradient.dim() == 2]
    assert all(gradient.abs().max() > 0.1 for gradient in moving)
    assert len(moving) == {"gumbel-softmax": 0, "igr-planar": 4}[name]


def test_draws_of_the_prior_are_vertices_with_its_law(latent):
    count = 20_000
    drawn = latent.draw_prior(count, source(10))
    assert drawn.shape == (count, V, K)
    assert torch.equal(drawn.sum(-1), torch.ones(count, V, dtype=torch.float64))
    # The law of a prior with a flow of its own is an estimate, from which points are drawn.
    expected = latent.discrete_prior().probs
    taken = drawn.any(0)
    assert z_score(drawn[:, taken], expected[taken]).abs().max() < 5
    assert (expected[~taken] < 5 / count).all()
    # Variables are drawn apart.
    pair = drawn[:, 0, :, None] * drawn[:, 1, None, :]
    product = expected[0, :, None] * expected[1, None, :]
    often = product > 1e-3
    assert z_score(pair[:, often], product[often]).abs().max() < 5
    assert not torch.equal(latent.draw_prior(count, source(11)), drawn)


def test_the_most_probable_category_is_that_of_most_draws(latent):
    posterior = latent(outputs_of(latent, spread=3.0), TEMPERATURE)
    noise = own_noise(latent, latent.draw_noise((5_000, B), source(12)))
    share = posterior.vertex(noise).mean(0)
    best, second = share.topk(2).values.unbind(-1)
    clear = best - second > 0.2
    assert clear.any()
    found = latent.most_probable(posterior)
    assert torch.equal(found, latent.representative(posterior))
    assert torch.equal(found.argmax(-1)[clear], share.argmax(-1)[clear])
    assert torch.equal(found.sum(-1), torch.ones(B, V, dtype=torch.float64))


def test_the_flow_of_a_planar_latent_starts_near_the_identity_from_its_generator_alone():
    state = torch.get_rng_state()
    latent = planar()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, latent.parameters(), planar().parameters()))
    points = torch.randn(1000, V, K - 1, generator=source())
    assert (latent.flow(points) - points).norm(dim=-1).mean() < 0.5
    assert len(latent.flow.layers) == 2


@pytest.mark.parametrize("scale", ["fixed", "free"])
def test_a_truncated_latent_is_that_of_the_sticks_that_a_pilot_draw_needs(scale):
    """All of it by hand, from the definition."""
    count, threshold, quantile = 30, 0.8, 0.6
    prior = {"loc": torch.zeros(count - 1).double() - 1.0, "scale": 0.5 + torch.zeros(count - 1).double()}
    latent = TruncatedStickBreakingLatent(
        V, count, prior, scale=scale, stick_threshold=threshold, stick_quantile=quantile
    ).double()
    assert latent.training
    outputs = outputs_of(latent, spread=0.3)
    noise = latent.draw_noise((4, B), source(1))
    own, pilot = noise.split(count - 1, -1)
    parts = outputs.view(B, V, -1).split(count - 1, -1)
    loc = parts[0] - 1.0
    sigma = 0.5 * parts[1].exp() if scale == "free" else torch.full_like(loc, 0.5)

    lengths = torch.zeros(4, B, V, count - 1).double()
    left = torch.ones(4, B, V).double()
    needed = torch.full((4, B, V), count - 1)
    for k in range(count - 1):
        eta = (loc[..., k] + sigma[..., k] * pilot[..., k]).sigmoid()
        lengths[..., k] = left * eta
        left = left * (1 - eta)
        reached = (1 - left > threshold) & (needed == count - 1)
        needed[reached] = k + 1
    wanted = int(needed.flatten().sort().values[math.ceil(quantile * needed.numel()) - 1])
    kept = 8 if wanted <= 8 else 16
    assert 1 < wanted <= 16
    mass = lengths[..., kept:].sum(-1).mean((0, 2))

    for kl in ("relaxed", "discrete"):
        drawn = latent.sample(latent(outputs, TEMPERATURE), noise, TEMPERATURE, kl)
        assert (drawn.parts["num_sticks"] == kept).all()
        torch.testing.assert_close(drawn.parts["mass_cut"], mass, rtol=1e-9, atol=1e-12)
        assert mass.min() > 1e-4
        eta = (loc + sigma * own)[..., :kept].sigmoid()
        rest = torch.cumprod(1 - eta, -1)
        pieces = eta * torch.cat([torch.ones_like(rest[..., :1]), rest[..., :-1]], -1)
        weights = torch.cat([(pieces / TEMPERATURE).exp(), torch.ones_like(rest[..., :1])], -1)
        z = weights / weights.sum(-1, keepdim=True)
        torch.testing.assert_close(drawn.points[..., :kept], z[..., :-1])
        torch.testing.assert_close(drawn.points[..., -1], z[..., -1])
        assert (drawn.points[..., kept:-1] == 0).all()
        if kl == "relaxed":
            normals = Normal(loc[..., :kept], sigma[..., :kept]), Normal(tensor(-1.0), tensor(0.5))
            expected = kl_divergence(*normals).sum((-2, -1))
        else:
            cut_prior = {name: values[:kept] for name, values in prior.items()}
            short = StickBreakingLatent(V, kept + 1, cut_prior, scale=scale).double()
            cut = [part[..., :kept] for part in parts]
            posterior = short(torch.cat(cut, -1).flatten(-2), TEMPERATURE)
            q, p = posterior.discrete(), short.prior(TEMPERATURE).discrete()
            expected = kl_divergence(q, p).sum(-1)
        torch.testing.assert_close(drawn.kl, expected, rtol=1e-9, atol=1e-9)
    hard = latent.sample(latent(outputs, TEMPERATURE), noise, TEMPERATURE, "relaxed", straight_through=True)
    assert torch.equal(hard.points.argmax(-1), drawn.points.argmax(-1))
    assert torch.equal(hard.points.sum(-1), torch.ones(4, B, V).double())


def test_the_pilot_draw_has_no_part_in_the_points_nor_they_in_it():
    latent = TruncatedStickBreakingLatent(V, 40).double()
    outputs = outputs_of(latent, spread=0.3)
    first, second = (latent.draw_noise((3, B), source(seed)) for seed in (1, 2))
    size = 39
    mixed = torch.cat([first[..., :size], second[..., size:]], -1)

    def sample(noise: Tensor):
        return latent.sample(latent(outputs, TEMPERATURE), noise, TEMPERATURE, "relaxed")

    a, b, c = map(sample, (first, second, mixed))
    assert torch.equal(c.parts["mass_cut"], b.parts["mass_cut"])
    assert not torch.equal(c.parts["mass_cut"], a.parts["mass_cut"])
    assert torch.equal(a.parts["num_sticks"], b.parts["num_sticks"])
    assert torch.equal(c.points, a.points)
    noise = latent.draw_noise((500, B), source(3))
    product = noise[..., :size].flatten(0, 2) * noise[..., size:].flatten(0, 2)
    assert z_score(product, 0.0).abs().max() < 5
    outputs.requires_grad_()
    assert not sample(first).parts["mass_cut"].requires_grad


def test_in_evaluation_mode_nothing_is_cut():
    latent = TruncatedStickBreakingLatent(V, 30).double()
    outputs, noise = outputs_of(latent), latent.draw_noise((3, B), source(1))
    zeros = {"loc": torch.zeros(29).double(), "scale": torch.ones(29).double()}
    plain = StickBreakingLatent(V, 30, zeros).double()
    for kl in ("relaxed", "discrete"):
        cut = latent.train().sample(latent(outputs, TEMPERATURE), noise, TEMPERATURE, kl)
        assert (cut.parts["num_sticks"] < 29).all()
        whole = latent.eval().sample(latent(outputs, TEMPERATURE), noise, TEMPERATURE, kl)
        expected = plain.sample(plain(outputs, TEMPERATURE), noise[..., :29], TEMPERATURE, kl)
        torch.testing.assert_close(whole.points, expected.points)
        torch.testing.assert_close(whole.kl, expected.kl)
        assert (whole.parts["num_sticks"] == 29).all()
        assert (whole.parts["mass_cut"] == 0).all()
    assert latent.part_names == tuple(whole.parts)


def gaussian_outputs(count: int = B) -> Tensor:
    return outputs_of(GaussianLatent(D), count=count)


def test_a_gaussian_latent_is_torchs_normal_beside_the_standard_one():
    latent = GaussianLatent(D).double()
    outputs = gaussian_outputs()
    posterior = latent(outputs, TEMPERATURE)
    torchs, standard = Normal(outputs[:, :D], outputs[:, D:].exp()), Normal(tensor(0.0), tensor(1.0))
    noise = latent.draw_noise((1000, B), source())
    drawn = latent.sample(posterior, noise, TEMPERATURE, "relaxed")
    torch.testing.assert_close(drawn.points, torchs.mean + torchs.stddev * noise)
    torch.testing.assert_close(drawn.kl, kl_divergence(torchs, standard).sum(-1))
    ratio = (standard.log_prob(drawn.points) - torchs.log_prob(drawn.points)).sum(-1)
    torch.testing.assert_close(latent.log_ratio(posterior, drawn.points), ratio)
    torch.testing.assert_close(latent.representative(posterior), torchs.mean)
    zero = latent(torch.zeros(2 * D).double(), TEMPERATURE)
    assert torch.equal(zero.loc, torch.zeros(D).double())
    assert torch.equal(zero.scale, torch.ones(D).double())
    assert latent.divergence(zero) == 0
    prior = latent.draw_prior(20_000, source(1))
    assert prior.shape == (20_000, D)
    assert z_score(prior, 0.0).abs().max() < 5
    assert z_score(prior.square(), 1.0).abs().max() < 5
    assert (latent.num_outputs, latent.num_features, latent.discrete) == (2 * D, D, None)
    assert latent.continuous is latent


JOINT = ["igr given prior free", "gumbel-softmax given prior", "igr-sb-truncated", "igr-planar"]


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("kl", ["relaxed", "discrete"])
def test_a_joint_latent_is_its_parts_side_by_side(name, kl):
    discrete = LATENTS[name]()
    if kl not in discrete.kls:
        pytest.skip("no exact law is known")
    joint = JointLatent(discrete, GaussianLatent(D)).double().eval()
    assert joint.num_outputs == discrete.num_outputs + 2 * D
    assert joint.num_features == V * K + D
    outputs = outputs_of(joint)
    posterior = joint(outputs, TEMPERATURE)
    of_discrete = discrete(outputs[:, : -2 * D], TEMPERATURE)
    of_continuous = joint.continuous(outputs[:, -2 * D :], TEMPERATURE)
    noise = joint.draw_noise((5, B), source(1))
    generator = source(1)
    noise_d, noise_c = (part.draw_noise((5, B), generator) for part in (discrete, joint.continuous))
    drawn = joint.sample(posterior, noise, TEMPERATURE, kl)
    d = discrete.sample(of_discrete, noise_d, TEMPERATURE, kl)
    c = joint.continuous.sample(of_continuous, noise_c, TEMPERATURE, kl)
    assert torch.equal(drawn.points.discrete, d.points)
    assert torch.equal(drawn.points.continuous, c.points)
    torch.testing.assert_close(drawn.kl, d.kl + c.kl)
    assert torch.equal(drawn.parts["kl_discrete"], d.kl)
    assert torch.equal(drawn.parts["kl_continuous"], c.kl)
    assert joint.part_names == tuple(drawn.parts)
    features = joint.features(drawn.points)
    assert torch.equal(features[..., : V * K], d.points.flatten(-2))
    assert torch.equal(features[..., V * K :], c.points)
    hard = joint.sample(posterior, noise, TEMPERATURE, kl, straight_through=True).points
    assert torch.equal(hard.discrete, discrete.sample(of_discrete, noise_d, TEMPERATURE, kl, True).points)
    assert torch.equal(hard.continuous, c.points)
    shown = joint.representative(posterior)
    assert isinstance(shown, JointPoints)
    assert torch.equal(shown.discrete, discrete.most_probable(of_discrete))
    assert torch.equal(shown.continuous, of_continuous.loc)
    assert joint.has_pre_image == discrete.has_pre_image
    if joint.has_pre_image:
        points, log_weight = joint.pre_image(posterior, noise)
        vertices, own = discrete.pre_image(of_discrete, noise_d)
        assert torch.equal(points.discrete, vertices)
        assert torch.equal(points.continuous, c.points)
        torch.testing.assert_close(log_weight, own + joint.continuous.log_ratio(of_continuous, c.points))
    prior = joint.draw_prior(7, source(2))
    assert torch.equal(prior.discrete, discrete.draw_prior_points(7, source(2)))
    assert prior.continuous.shape == (7, D)


def test_a_posterior_of_another_latent_is_refused():
    igr, gumbel = InvertibleGaussianLatent(V, K), GumbelSoftmaxLatent(V, K)
    of_igr, of_gumbel = (latent(torch.zeros(latent.num_outputs), 0.5) for latent in (igr, gumbel))
    assert isinstance(of_gumbel, GumbelSoftmax)
    with pytest.raises(TypeError, match=r"expected an InvertibleGaussian; got GumbelSoftmax; give"):
        igr.pre_image(of_gumbel, igr.draw_noise((1,)))
    with pytest.raises(TypeError, match=r"expected a GumbelSoftmax; got InvertibleGaussian; give"):
        gumbel.relaxed(of_igr, gumbel.draw_noise((1,)), 0.5)


def test_a_flow_starts_at_that_of_the_prior():
    drawn = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return 0.5 * torch.randn(shape, generator=drawn, dtype=torch.float64)

    prior = {"loc": normal(K - 1), "scale": normal(K - 1).exp()}
    prior |= {"u": normal(2, K - 1), "w": normal(2, K - 1), "b": normal(2)}
    # What is copied is rounded to the dtype of the flow.
    latent = PlanarLatent(V, K, prior, flow_layers=2)
    posterior = latent(torch.zeros(1, latent.num_outputs), TEMPERATURE)
    noise = latent.draw_noise((50, 1), generator=torch.Generator().manual_seed(5))
    _, kl = latent.relaxed(posterior, noise, TEMPERATURE)
    assert kl.abs().max() < 1e-4
    torch.testing.assert_close(
        posterior.rsample_log(noise=noise)[:, 0],
        latent.prior(TEMPERATURE).rsample_log(noise=noise[:, 0]),
        rtol=1e-4,
        atol=1e-4,
    )
