"""What holds of every estimator: values, state, tracers, laws that it takes, and errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical

import igr
from cases import tracing
from estimator_problems import distribution, function, parameters
from igr import estimators
from igr.estimators import ESTIMATORS, REBAR, RELAX, VIMCO, ControlNetwork, DisARM, Estimator, ScoreFunction

OF = function("network", 2)
LAWS = ("gumbel-softmax", "igr", "igr-sb")
CONTROLLED = ("rebar", "relax")


def made(name: str) -> Estimator:
    torch.manual_seed(0)
    return estimators.by_name(name).double()


def exists(name: str, law: str) -> bool:
    if name == "rao_blackwell_straight_through":
        return law == "gumbel-softmax"
    return not (law == "igr-sb" and name in CONTROLLED)


EXISTING = [(name, law) for name in ESTIMATORS for law in LAWS if exists(name, law)]


def gradient(
    estimator: Estimator, law: str, noise: Tensor, num_samples: int = 2
) -> tuple[estimators.Surrogate, dict[str, Tensor]]:
    leaves = {name: p.requires_grad_() for name, p in parameters(law, 2).items()}
    found = estimator(OF, distribution(law, leaves), num_samples, noise=noise)
    return found, dict(zip(leaves, torch.autograd.grad(found.loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize(("name", "law"), EXISTING)
def test_the_same_noise_gives_the_same_estimate_of_the_right_shape(name: str, law: str) -> None:
    estimator = made(name).eval()
    relaxation = distribution(law, parameters(law, 2))
    noise = estimator.draw_noise(relaxation, 2, generator=torch.Generator().manual_seed(0))
    first, slopes = gradient(estimator, law, noise)
    second, again = gradient(estimator, law, noise)
    assert first.value.shape == first.loss.shape == ()
    assert not first.value.requires_grad
    assert torch.equal(first.value, first.loss.detach())
    assert torch.equal(first.loss, second.loss)
    assert all(torch.equal(slopes[key], again[key]) for key in slopes)
    assert all(slope.isfinite().all() for slope in slopes.values())
    drawn = estimator(OF, relaxation, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.value, first.value)


@pytest.mark.parametrize(("name", "law"), EXISTING)
def test_values_are_of_vertices_but_for_pathwise(name: str, law: str) -> None:
    estimator = made(name)
    relaxation = distribution(law, parameters(law, 2))
    seen: list[Tensor] = []

    def of(points: Tensor) -> Tensor:
        seen.append(points.detach())
        return OF(points)

    noise = estimator.draw_noise(relaxation, 2, generator=torch.Generator().manual_seed(0))
    value = estimator(of, relaxation, 2, noise=noise).value
    one_draw = noise[0] if estimator.draws_per_sample > 1 else noise
    vertices = relaxation.vertex(one_draw)
    if name == "pathwise":
        assert torch.equal(seen[0], relaxation.rsample(noise=noise))
        return
    assert torch.equal(seen[0][:2], vertices)
    assert ((seen[0] == 0) | (seen[0] == 1)).all()
    bound = torch.logsumexp(OF(vertices), 0) - math.log(2)
    expected = bound if name == "vimco" else OF(seen[0]).mean(0)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0.0)


# Of sticks the law alone is another one, and that has tests of its own under tracers.
@tracing
@pytest.mark.parametrize(("name", "law"), [case for case in EXISTING if case[1] != "igr-sb"])
@pytest.mark.parametrize("how", ["vmap of grad", "grad of vmap", "compile"])
def test_traced_estimates_are_those_of_eager_code(name: str, law: str, how: str) -> None:
    estimator = made(name).eval()
    start = parameters(law, 2)
    relaxation = distribution(law, start)
    if name == "relax":
        estimator(OF, relaxation)  # makes the network
    noises = torch.stack(
        [
            estimator.draw_noise(relaxation, 2, generator=torch.Generator().manual_seed(seed))
            for seed in range(3)
        ]
    )
    eager = [gradient(estimator, law, noise) for noise in noises]

    def loss(leaves: dict[str, Tensor], noise: Tensor) -> Tensor:
        return estimator(OF, distribution(law, leaves), 2, noise=noise).loss

    if how == "vmap of grad":
        found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(start, noises)
    elif how == "grad of vmap":
        many = {key: p.expand(3, *p.shape).clone().requires_grad_() for key, p in start.items()}
        total = torch.func.vmap(loss)(many, noises).sum()
        found = dict(zip(many, torch.autograd.grad(total, list(many.values())), strict=True))
    else:
        torch._dynamo.reset()
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        leaves = {key: p.clone().requires_grad_() for key, p in start.items()}
        slopes = torch.autograd.grad(compiled(leaves, noises[0]), list(leaves.values()))
        found = {key: slope.unsqueeze(0) for key, slope in zip(leaves, slopes, strict=True)}
    for i in range(len(next(iter(found.values())))):
        for key, slope in eager[i][1].items():
            torch.testing.assert_close(found[key][i], slope, rtol=1e-6, atol=1e-7)


@tracing
@pytest.mark.parametrize("name", CONTROLLED)
def test_control_losses_of_tracers_are_those_of_eager_code(name: str) -> None:
    estimator = made(name)
    relaxation = distribution("igr", parameters("igr", 2))
    estimator(OF, relaxation)
    if name == "relax":
        assert isinstance(estimator, RELAX)
        estimator.control_scale.data.fill_(0.5)
    noise = estimator.draw_noise(relaxation, 4, generator=torch.Generator().manual_seed(0))
    wanted = dict(estimator.named_parameters())

    def slopes(loss: Tensor | None) -> tuple[Tensor, ...]:
        assert loss is not None
        return torch.autograd.grad(loss, list(wanted.values()))

    eager = slopes(estimator(OF, relaxation, 4, noise=noise).control_loss)

    def control_loss(noise: Tensor) -> Tensor | None:
        return estimator(OF, relaxation, 4, noise=noise).control_loss

    torch._dynamo.reset()
    compiled = torch.compile(control_loss, fullgraph=True, backend="aot_eager")(noise)
    mapped = torch.func.vmap(control_loss)(noise.unsqueeze(0))
    # Replicas, each with parameters of its own.
    stacked = {key: p.detach().expand(3, *p.shape).clone().requires_grad_() for key, p in wanted.items()}

    def of_replica(own: dict[str, Tensor]) -> Tensor:
        found = torch.func.functional_call(estimator, own, (OF, relaxation, 4, noise)).control_loss
        assert found is not None
        return found

    replicas = torch.func.vmap(of_replica)(stacked).sum()
    for slope, expected in zip(torch.autograd.grad(replicas, list(stacked.values())), eager, strict=True):
        torch.testing.assert_close(slope, expected.expand_as(slope), rtol=1e-6, atol=1e-8)
    by_func = torch.func.vmap(torch.func.grad(of_replica))({k: p.detach() for k, p in stacked.items()})
    for slope, expected in zip(by_func.values(), eager, strict=True):
        torch.testing.assert_close(slope, expected.expand_as(slope), rtol=1e-6, atol=1e-8)
    for found in (slopes(compiled), slopes(mapped.sum())):
        for mine, theirs in zip(found, eager, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("law", ["gumbel-softmax", "igr"])
@pytest.mark.parametrize("name", CONTROLLED)
def test_control_loss_is_the_mean_square_and_reaches_the_own_parameters_alone(name: str, law: str) -> None:
    estimator = made(name)
    relaxation = distribution(law, parameters(law, 2))
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def of(points: Tensor) -> Tensor:
        return weight * OF(points)

    estimator(of, relaxation)
    if name == "relax":
        assert isinstance(estimator, RELAX)
        estimator.control_scale.data.fill_(0.5)
    count = 6
    noise = estimator.draw_noise(relaxation, count, generator=torch.Generator().manual_seed(0))

    def mean_square() -> Tensor:
        squares = []
        for one in noise:
            leaves = {key: p.requires_grad_() for key, p in parameters(law, 2).items()}
            loss = estimator(of, distribution(law, leaves), noise=one.unsqueeze(0)).loss
            squares += [slope.square().sum() for slope in torch.autograd.grad(loss, list(leaves.values()))]
        return torch.stack(squares).sum() / count

    found = estimator(of, relaxation, count, noise=noise).control_loss
    assert found is not None
    torch.testing.assert_close(found.detach(), mean_square(), rtol=1e-10, atol=0.0)
    found.backward()
    assert weight.grad is None
    for parameter in estimator.parameters():
        flat, slopes = parameter.data.view(-1), parameter.grad
        assert slopes is not None
        for index in range(min(3, flat.numel())):
            ends = []
            for step in (1e-5, -1e-5):
                kept = float(flat[index])
                flat[index] = kept + step
                ends.append(mean_square())
                flat[index] = kept
            expected = float(ends[0] - ends[1]) / 2e-5
            assert float(slopes.view(-1)[index]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_parameters_of_the_function_have_their_gradient(name: str) -> None:
    estimator = made(name)
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    relaxation = distribution("gumbel-softmax", parameters("gumbel-softmax", 2))
    seen: list[Tensor] = []

    def of(points: Tensor) -> Tensor:
        seen.append(points.detach())
        return weight * OF(points)

    found = estimator(of, relaxation, 2, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad(found.loss, weight)
    values = OF(seen[0])
    if name == "vimco":
        expected = (torch.softmax(weight.detach() * values, 0) * values).sum()
    else:
        expected = values.mean()
    torch.testing.assert_close(slope, expected, rtol=1e-10, atol=1e-12)


def test_moving_average_is_of_earlier_calls_and_changes_in_training_alone() -> None:
    estimator = ScoreFunction("moving_average", decay=0.5)
    law = Bernoulli(logits=torch.zeros(1))

    def constant(value: float) -> Callable[[Tensor], Tensor]:
        return lambda b: torch.full_like(b[..., 0], value)

    def slope(value: float) -> float:
        leaf = torch.zeros(1, requires_grad=True)
        noise = torch.tensor([[[0.0, 1.0]]])  # b is one, so the score is 1 - p = 1/2
        loss = estimator(constant(value), Bernoulli(logits=leaf), noise=noise).loss
        return float(torch.autograd.grad(loss, leaf)[0])

    assert slope(4.0) == pytest.approx(2.0)  # nothing was seen yet
    assert slope(4.0) == pytest.approx(0.0)  # minus 4, and not minus a half of it
    estimator.eval()
    assert slope(6.0) == pytest.approx(1.0)
    assert slope(6.0) == pytest.approx(1.0)
    assert set(estimator.state_dict()) == {"total", "weight"}
    assert law.batch_shape == (1,)


def test_second_derivatives_pass_through_the_stand_ins() -> None:
    # Of a linear function, whose own curvature is zero, the slope of the estimate is that of its stand-in.
    of = function("linear", 3)
    for name in ("straight_through", "gumbel_straight_through", "reinmax", "gapped_straight_through"):
        estimator = made(name)
        leaf = parameters("gumbel-softmax", 3)["logits"].requires_grad_()
        noise = estimator.draw_noise(distribution("gumbel-softmax", {"logits": leaf}), 1)

        def slope(
            logits: Tensor, estimator: Estimator = estimator, noise: Tensor = noise, graph: bool = False
        ) -> Tensor:
            loss = estimator(of, distribution("gumbel-softmax", {"logits": logits}), noise=noise).loss
            return torch.autograd.grad(loss, logits, create_graph=graph)[0]

        assert leaf.requires_grad
        (second,) = torch.autograd.grad(slope(leaf, graph=True)[0, 0], leaf)
        assert second.isfinite().all()
        if name in ("straight_through", "gumbel_straight_through"):
            step = torch.zeros_like(leaf)
            step[0, 1] = 1e-6
            ends = [slope((leaf + sign * step).detach().requires_grad_())[0, 0] for sign in (1, -1)]
            assert float(second[0, 1]) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8)


def test_laws_of_torch_are_taken() -> None:
    logits = parameters("gumbel-softmax", 2)["logits"]
    noise = ScoreFunction().draw_noise(OneHotCategorical(logits=logits))
    expected = ScoreFunction()(OF, distribution("gumbel-softmax", {"logits": logits}), noise=noise)
    found = ScoreFunction()(OF, OneHotCategorical(logits=logits), noise=noise)
    assert torch.equal(found.value, expected.value)
    binary = Independent(Bernoulli(logits=torch.zeros(4, 3)), 1)
    assert DisARM()(lambda b: b.sum(-1), binary, 5).value.shape == (4,)


MASKED = [
    (name, law)
    for name in ESTIMATORS
    for law in ("gumbel-softmax", "igr")
    if exists(name, law) and name != "disarm" and not (law == "igr" and name in CONTROLLED)
]


@pytest.mark.parametrize(("name", "law"), MASKED)
def test_masked_categories_have_no_gradient_and_the_rest_that_of_a_law_without_them(
    name: str, law: str
) -> None:
    mask = torch.tensor([False, True, False])
    number = 3 if law == "gumbel-softmax" else 2

    def masked(leaf: Tensor, temperature: Tensor | float = 0.5) -> igr.SimplexRelaxation:
        if law == "gumbel-softmax":
            return igr.GumbelSoftmax(temperature, logits=leaf, mask=mask)
        return igr.InvertibleGaussian(leaf, 1.0, temperature, mask=mask)

    def small(leaf: Tensor) -> igr.SimplexRelaxation:
        if law == "gumbel-softmax":
            return igr.GumbelSoftmax(0.5, logits=leaf)
        return igr.InvertibleGaussian(leaf, 1.0, 0.5)

    def of(z: Tensor) -> Tensor:
        return (z * torch.tensor([0.5, 9.0, 2.0])).sum((-2, -1)).square()

    start = torch.tensor([[0.3, 5.0, -0.2], [0.0, -4.0, 0.4]], dtype=torch.float64)[:, :number]
    estimator = made(name).eval()
    leaf = start.clone().requires_grad_()
    noise = estimator.draw_noise(masked(leaf), 20, generator=torch.Generator().manual_seed(0))
    if name == "relax":
        estimator(of, masked(leaf), 20, noise=noise)
    found = estimator(of, masked(leaf), 20, noise=noise)
    (slope,) = torch.autograd.grad(found.loss, leaf)
    assert (slope[:, 1] == 0).all()
    kept = [k for k in range(number) if k != 1]
    part = start[:, kept].clone().requires_grad_()
    if name != "relax":  # whose network would have other inputs
        weights = torch.tensor([0.5, 2.0])
        plain = estimator(
            lambda z: (z * weights).sum((-2, -1)).square(), small(part), 20, noise=noise[..., kept]
        )
        (expected,) = torch.autograd.grad(plain.loss, part)
        torch.testing.assert_close(slope[:, kept], expected, rtol=1e-6, atol=1e-9)
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    hot = estimator(of, masked(leaf, temperature), 20, noise=noise).loss
    (by_temperature,) = torch.autograd.grad(hot, temperature, allow_unused=True)
    assert by_temperature is None or by_temperature.isfinite()


def test_a_category_without_a_chance_is_as_good_as_masked() -> None:
    for name in ("rebar", "relax", "score_function", "reinmax", "gapped_straight_through"):
        leaf = torch.tensor([[0.0, 1.0, -torch.inf]], dtype=torch.float64, requires_grad=True)
        law = OneHotCategorical(logits=leaf, validate_args=False)
        found = made(name)(lambda z: (z * torch.arange(3.0)).sum((-2, -1)).square(), law, 20)
        assert found.loss.isfinite()


def test_functions_without_a_gradient_are_refused_where_one_is_needed() -> None:
    law = distribution("gumbel-softmax", parameters("gumbel-softmax", 3))

    def rounded(z: Tensor) -> Tensor:
        return z.detach().round().sum((-2, -1))

    for estimator in (REBAR(), RELAX().double()):
        with pytest.raises(ValueError, match=r"use RELAX\(coefficient=None\)"):
            estimator(rounded, law)
    assert RELAX(coefficient=None)(rounded, law).loss.isfinite()  # and a float32 network


def test_no_gradient_is_formed_where_none_is_asked_for() -> None:
    law = distribution("igr", parameters("igr", 2))
    for mode in (torch.no_grad, torch.inference_mode):
        for name in ESTIMATORS:
            if exists(name, "igr"):
                with mode():
                    found = made(name)(OF, law, 2)
                assert not found.loss.requires_grad
                assert found.control_loss is None


def test_a_law_that_is_kept_is_computed_once_and_never_without_its_graph() -> None:
    leaf = torch.zeros(2, 3, requires_grad=True)
    law = igr.InvertibleGaussian(leaf, 1.0, 0.5).keeping_exact_law()
    with torch.no_grad():
        assert not law.discrete().log_probs.requires_grad
    first = law.discrete()
    assert first.log_probs.requires_grad
    assert law.discrete() is first
    assert law.expand((5, 2)).discrete().batch_shape == (5, 2)
    assert law.with_temperature(0.1).discrete() is not first
    assert igr.InvertibleGaussian(leaf, 1.0, 0.5).discrete() is not first


def test_control_losses_of_masked_laws_are_finite() -> None:
    mask = torch.tensor([False, True, False])
    for name in ("rebar", "relax"):
        leaf = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        law = igr.GumbelSoftmax(0.5, logits=leaf, mask=mask)
        found = made(name)(lambda z: (z * torch.arange(3.0)).sum((-2, -1)), law, 20)
        (slope,) = torch.autograd.grad(found.loss, leaf)
        assert (slope[:, 1] == 0).all()
        assert (slope[:, 0] != 0).all()
        if found.control_loss is not None:
            assert found.control_loss.isfinite()


@pytest.mark.parametrize("setting", ["delta", "temperature"])
def test_gradients_of_delta_and_of_a_temperature_in_the_threshold(setting: str) -> None:
    # The law depends on them through the threshold alone; by enumeration.
    of = function("quadratic", 3)
    start = parameters("igr", 3)
    eye = torch.eye(3, dtype=torch.float64)
    points = torch.stack(
        [torch.stack([eye[a], eye[b], eye[c]]) for a in range(3) for b in range(3) for c in range(3)]
    )

    settings = {"temperature": 0.5, "delta": 1.3}

    def law(value: Tensor) -> igr.InvertibleGaussian:
        return igr.InvertibleGaussian(**start, **{**settings, setting: value}, validate_args=False)

    number = torch.tensor(settings[setting], dtype=torch.float64, requires_grad=True)
    weight = torch.exp((points * law(number).discrete().exact_logits).sum((-2, -1)))
    (exact,) = torch.autograd.grad((weight * of(points)).sum(), number)
    count = 20_000
    for estimator in (REBAR(), ScoreFunction()):
        numbers = torch.full((count, 1), settings[setting], dtype=torch.float64, requires_grad=True)
        many = igr.InvertibleGaussian(
            **{key: p.expand(count, *p.shape) for key, p in start.items()},
            **{**settings, setting: numbers},
            validate_args=False,
        )
        found = estimator(of, many, generator=torch.Generator().manual_seed(0))
        (rows,) = torch.autograd.grad(found.loss.sum(), numbers)
        z = (rows.mean() - exact) / (rows.std() / math.sqrt(count))
        assert abs(z) < 5.0


@pytest.mark.parametrize(("name", "law"), EXISTING)
def test_half_precision_in_and_out(name: str, law: str) -> None:
    leaves = {key: p.bfloat16().requires_grad_() for key, p in parameters(law, 2).items()}
    found = estimators.by_name(name)(lambda z: z.square().sum((-2, -1)), distribution(law, leaves), 2)
    assert found.loss.isfinite()
    assert found.loss.dtype == torch.bfloat16
    for slope in torch.autograd.grad(found.loss, list(leaves.values())):
        assert slope.dtype == torch.bfloat16
        assert slope.isfinite().all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_gradients_are_finite_at_extreme_parameters(name: str) -> None:
    for law, values in (
        ("gumbel-softmax", {"logits": torch.tensor([[80.0, -80.0], [0.0, 1e4]])}),
        ("igr", {"loc": torch.tensor([[60.0], [-60.0]]), "scale": torch.tensor([[1e-3], [1e2]])}),
    ):
        if not exists(name, law):
            continue
        leaves = {key: p.clone().requires_grad_() for key, p in values.items()}
        found = estimators.by_name(name)(lambda z: z.square().sum((-2, -1)), distribution(law, leaves), 3)
        slopes = torch.autograd.grad(found.loss, list(leaves.values()))
        assert all(slope.isfinite().all() for slope in slopes)
        assert found.control_loss is None or found.control_loss.isfinite()


ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no variables": (
        lambda: ScoreFunction()(lambda z: z.sum(-1), Bernoulli(logits=torch.tensor(0.0))),
        ValueError,
        "add a dimension of size 1",
    ),
    "another law": (
        lambda: ScoreFunction()(lambda z: z, Normal(torch.zeros(3), 1.0)),
        TypeError,
        "got Normal",
    ),
    "values of another shape": (
        lambda: ScoreFunction()(lambda z: z.sum(), Bernoulli(logits=torch.zeros(4, 2)), 3),
        ValueError,
        r"numbers of shape \(3, 4\), one for each sample and datum; got \(\)",
    ),
    "noise of another shape": (
        lambda: ScoreFunction()(lambda b: b.sum(-1), Bernoulli(logits=torch.zeros(2)), 3, torch.zeros(2, 2)),
        ValueError,
        r"noise of shape \(3, 2, 2\)",
    ),
    "too few samples": (
        lambda: VIMCO()(lambda b: b.sum(-1), Bernoulli(logits=torch.zeros(2)), 1),
        ValueError,
        "num_samples.*at least 2",
    ),
    "too few to leave one out": (
        lambda: ScoreFunction("leave_one_out")(lambda b: b.sum(-1), Bernoulli(logits=torch.zeros(2)), 1),
        ValueError,
        "num_samples.*at least 2",
    ),
    "a baseline that is none": (lambda: ScoreFunction("moving"), ValueError, "moving_average"),
    "a name that is none": (lambda: estimators.by_name("rienmax"), ValueError, "did you mean reinmax"),
    "no temperature": (
        lambda: estimators.Pathwise()(lambda b: b.sum(-1), Bernoulli(logits=torch.zeros(2))),
        ValueError,
        r"make it Pathwise\(temperature=",
    ),
    "a temperature of zero": (lambda: REBAR(temperature=0.0), ValueError, "temperature"),
    "three categories": (
        lambda: DisARM()(lambda z: z.sum((-2, -1)), OneHotCategorical(logits=torch.zeros(2, 3))),
        NotImplementedError,
        "binary variables; got 3 categories; use REBAR",
    ),
    "rebar of sticks": (
        lambda: REBAR()(OF, distribution("igr-sb", parameters("igr-sb", 2))),
        NotImplementedError,
        "use ScoreFunction",
    ),
    "noise given the category of igr": (
        lambda: estimators.RaoBlackwellStraightThrough()(OF, distribution("igr", parameters("igr", 2))),
        NotImplementedError,
        "use GumbelStraightThrough",
    ),
    "no exact law": (
        lambda: ScoreFunction()(
            OF, igr.InvertibleGaussian(torch.zeros(3, 1), 1.0, 0.5, transform=igr.PlanarTransform(2))
        ),
        NotImplementedError,
        "no exact law",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_to_do(case: str) -> None:
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        call()


def test_network_for_a_given_number_of_inputs_is_there_at_once() -> None:
    network = ControlNetwork(hidden=7, num_inputs=12, generator=torch.Generator().manual_seed(0))
    again = ControlNetwork(hidden=7, num_inputs=12, generator=torch.Generator().manual_seed(0))
    assert [p.shape for p in network.parameters()] == [(7, 12), (7,), (1, 7), (1,)]
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert network(torch.rand(5, 3, 4)).shape == (5,)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_making_one_draws_nothing(name: str) -> None:
    before = torch.get_rng_state()
    estimators.by_name(name)
    ControlNetwork(num_inputs=4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
