"""What holds of every estimator: values, state, tracers, laws that it takes, and errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Independent,
    Normal,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)

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
@pytest.mark.parametrize(
    "how", ["vmap of grad", pytest.param("grad of vmap", marks=pytest.mark.slow), "compile"]
)
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


@tracing
@pytest.mark.parametrize("name", ESTIMATORS)
def test_laws_of_torch_under_vmap(name: str) -> None:
    estimator = made(name).eval()
    start = parameters("gumbel-softmax", 2)["logits"]
    laws: list[Callable[[Tensor], torch.distributions.Distribution]] = [
        lambda x: RelaxedOneHotCategorical(torch.tensor(0.5), logits=x, validate_args=False),
        lambda x: RelaxedBernoulli(torch.tensor(0.5), logits=x[..., 1] - x[..., 0], validate_args=False),
    ]
    for law, of in zip(laws, (OF, lambda b: (b - 0.4).square().sum(-1)), strict=True):
        estimator(of, law(start), 2)
        noise = torch.stack([estimator.draw_noise(law(start), 2) for _ in range(3)])

        def loss(leaf: Tensor, noise: Tensor, estimator=estimator, law=law, of=of) -> Tensor:  # type: ignore[no-untyped-def]
            return estimator(of, law(leaf), 2, noise=noise).loss

        found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(start, noise)
        for slope, one in zip(found, noise, strict=True):
            leaf = start.clone().requires_grad_()
            (expected,) = torch.autograd.grad(loss(leaf, one), leaf)
            torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-7)
        if name == "relax":
            estimator = made(name).eval()


def test_laws_of_torch_are_taken() -> None:
    logits = parameters("gumbel-softmax", 2)["logits"]
    relaxed = RelaxedOneHotCategorical(torch.tensor(0.5, dtype=torch.float64), logits=logits)
    noise = estimators.Pathwise().draw_noise(relaxed)
    expected = estimators.Pathwise()(OF, distribution("gumbel-softmax", {"logits": logits}), noise=noise)
    torch.testing.assert_close(estimators.Pathwise()(OF, relaxed, noise=noise).value, expected.value)
    noise = ScoreFunction().draw_noise(OneHotCategorical(logits=logits))
    expected = ScoreFunction()(OF, distribution("gumbel-softmax", {"logits": logits}), noise=noise)
    found = ScoreFunction()(OF, OneHotCategorical(logits=logits), noise=noise)
    assert torch.equal(found.value, expected.value)
    binary = Independent(Bernoulli(logits=torch.zeros(4, 3)), 1)
    assert DisARM()(lambda b: b.sum(-1), binary, 5).value.shape == (4,)


BINARY = {
    "concrete": lambda x: igr.BinaryConcrete(0.5, x, validate_args=False),
    "igr": lambda x: igr.BinaryInvertibleGaussian(x, 0.8, 0.5, validate_args=False),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in ESTIMATORS
        for kind in BINARY
        # Its network sees one number of one law and two of the other.
        if name != "relax" and (kind == "concrete" or exists(name, "igr"))
    ],
)
def test_binary_relaxations_are_taken_as_numbers(name: str, kind: str) -> None:
    """They give what the law over two categories gives for a function of its first coordinate."""
    start = parameters("gumbel-softmax", 2)["logits"][..., 0]
    leaves = [start.clone().requires_grad_() for _ in range(2)]
    law, simplex = BINARY[kind](leaves[0]), BINARY[kind](leaves[1]).as_simplex()
    estimator, other = (made(name).eval() for _ in range(2))
    noise = estimator.draw_noise(law, 2)
    found = estimator(lambda b: (b - 0.4).square().sum(-1), law, 2, noise=noise)
    expected = other(lambda d: (d[..., 0] - 0.4).square().sum(-1), simplex, 2, noise=noise)
    torch.testing.assert_close(found.value, expected.value)
    slopes = [
        torch.autograd.grad(one.loss.sum(), leaf)[0]
        for one, leaf in zip((found, expected), leaves, strict=True)
    ]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("kind", BINARY)
def test_binary_relaxations_are_probed(kind: str) -> None:
    law = BINARY[kind](torch.tensor([0.3, -0.6], dtype=torch.float64))
    report = estimators.probe(
        lambda b: (b - 0.45).square().sum(-1),
        law,
        ["score_function", "rebar", "relax", "disarm"],
        num_gradients=20_000,
    )
    assert all(row.worst_z < 5 for row in report.rows)


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


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "disarm"])
def test_a_category_without_a_chance_is_as_good_as_masked(name: str) -> None:
    # With no gradient of its own, and the value and gradient of a law that masks it for the others.
    start = torch.tensor([[0.0, 1.0, -0.5], [0.3, -0.2, 0.1]], dtype=torch.float64)
    lost = torch.tensor([[False, False, True], [False, False, False]])

    def of(z: Tensor) -> Tensor:
        return (z * torch.tensor([1.0, 2.0, 5.0])).sum((-2, -1)).square()

    def slope(law: igr.GumbelSoftmax, leaf: Tensor) -> tuple[Tensor, Tensor]:
        estimator = made(name).eval()
        noise = estimator.draw_noise(law, 20, generator=torch.Generator().manual_seed(1))
        found = estimator(of, law, 20, noise=noise)
        return found.value, torch.autograd.grad(found.loss, leaf)[0]

    leaf = start.clone().requires_grad_()
    never = torch.where(lost, -torch.inf, leaf)
    value, found = slope(igr.GumbelSoftmax(0.5, logits=never, validate_args=False), leaf)
    other = start.clone().requires_grad_()
    expected_value, expected = slope(igr.GumbelSoftmax(0.5, logits=other, mask=lost), other)
    torch.testing.assert_close(value, expected_value)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert found[0, 2] == 0
    assert (found[1] != 0).all()


COUNTS: dict[str, Callable[[], Estimator]] = {
    "score_function": ScoreFunction,
    "score_function_leave_one_out": lambda: ScoreFunction("leave_one_out"),
    "vimco": VIMCO,
    "disarm": DisARM,
    "relax": lambda: RELAX(ControlNetwork(5, 6, torch.Generator().manual_seed(0)), coefficient=None),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_truth_values_are_numbers_too(name: str) -> None:
    start = parameters("gumbel-softmax", 2)["logits"]

    def slope(of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = start.clone().requires_grad_()
        law = distribution("gumbel-softmax", {"logits": leaf})
        found = COUNTS[name]()(of, law, 50, generator=torch.Generator().manual_seed(0))
        return found.value, torch.autograd.grad(found.loss, leaf)[0]

    def count(z: Tensor) -> Tensor:
        return z[..., 1].long().sum(-1)

    def most(z: Tensor) -> Tensor:
        return count(z) > 1

    for of in (count, most):
        value, found = slope(of)
        expected_value, expected = slope(lambda z, of=of: of(z).double())
        assert value.is_floating_point()
        assert torch.equal(value, expected_value)
        assert torch.equal(found, expected)
        assert (found != 0).any()


@pytest.mark.parametrize("law", ["gumbel-softmax", "igr"])
def test_relaxed_points_have_a_temperature_of_their_own_and_the_vertices_of_the_law(law: str) -> None:
    relaxation = distribution(law, parameters(law, 3))  # of IGR-I with a delta that is not one
    for temperature in (0.1, 2.0):
        for make in (estimators.GumbelStraightThrough, estimators.RaoBlackwellStraightThrough):
            if make is estimators.RaoBlackwellStraightThrough and law == "igr":
                continue
            seen: list[Tensor] = []
            estimator = make(temperature=temperature)
            noise = estimator.draw_noise(relaxation, 2000, generator=torch.Generator().manual_seed(0))
            estimator(_noting(seen), relaxation, 2000, noise=noise)
            one_draw = noise if noise.dim() == 3 else noise[0]
            assert torch.equal(seen[0], relaxation.vertex(one_draw))
        noise = relaxation.draw_noise((2000,), generator=torch.Generator().manual_seed(0))
        seen = []
        estimators.Pathwise(temperature)(_noting(seen), relaxation, 2000, noise=noise)
        hottest = torch.nn.functional.one_hot(seen[0].argmax(-1), 3).double()
        assert torch.equal(hottest, relaxation.vertex(noise))
        if law == "gumbel-softmax":
            scores = parameters(law, 3)["logits"] + noise
            torch.testing.assert_close(seen[0], torch.softmax(scores / temperature, -1))


def _noting(seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def of(points: Tensor) -> Tensor:
        seen.append(points.detach())
        return points.sum((-2, -1))

    return of


@pytest.mark.parametrize("name", ESTIMATORS)
def test_autocast_changes_nothing_of_a_law(name: str) -> None:
    for law in ("gumbel-softmax", "igr"):
        if not exists(name, law):
            continue

        def slopes(enabled: bool, law: str = law) -> list[Tensor]:
            leaves = {key: p.float().requires_grad_() for key, p in parameters(law, 2).items()}
            torch.manual_seed(0)
            estimator = estimators.by_name(name).eval()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                found = estimator(
                    lambda z: (z * torch.tensor([0.3, 1.7])).sum((-2, -1)).square(),
                    distribution(law, leaves),
                    4,
                    generator=torch.Generator().manual_seed(0),
                )
            return list(torch.autograd.grad(found.loss, list(leaves.values())))

        for found, expected in zip(slopes(True), slopes(False), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_terms_of_the_control_variate_can_be_left_out() -> None:
    law = distribution("gumbel-softmax", parameters("gumbel-softmax", 2))
    noise = REBAR().draw_noise(law, 4, generator=torch.Generator().manual_seed(0))
    papers = REBAR(baseline=None).double()
    assert set(papers.learned()) == {"temperature", "coefficient"}
    assert set(RELAX(coefficient=None).learned()) == {"temperature", "baseline"}
    found = papers(OF, law, 4, noise=noise)
    assert found.control_loss is not None
    found.control_loss.backward()
    assert papers.baseline.grad is None
    assert papers.coefficient.grad is not None
    # At its start, the constant is zero.
    assert torch.equal(found.loss, REBAR().double()(OF, law, 4, noise=noise).loss)
    moved = REBAR(temperature=0.7, coefficient=0.3, baseline=-2.0)
    assert moved.learned() == pytest.approx({"temperature": 0.7, "coefficient": 0.3, "baseline": -2.0})


def test_a_network_is_made_at_the_first_call_whatever_the_mode_and_never_under_a_tracer() -> None:
    law = distribution("gumbel-softmax", parameters("gumbel-softmax", 2))
    for mode in (torch.no_grad, torch.inference_mode):
        estimator = RELAX()
        with mode():
            estimator(OF, law)
        assert all(p.requires_grad and not p.is_inference() for p in estimator.control.parameters())
        assert next(estimator.control.parameters()).shape == (50, 6)
        found = estimator(OF, law)
        assert found.control_loss is not None
        found.control_loss.backward()
    noise = RELAX().draw_noise(law, 1).expand(2, 1, 3, 2)
    fresh = RELAX()
    with pytest.raises(
        ValueError, match=r"under torch.func or a tracer.*ControlNetwork\(num_inputs=V \* K\)"
    ):
        torch.func.vmap(lambda noise: fresh(OF, law, noise=noise).loss)(noise)
    with pytest.raises(ValueError, match=r"variables times categories are 6.*got shape \(1, 3, 3\)"):
        estimator(lambda z: z.sum((-2, -1)), distribution("gumbel-softmax", parameters("gumbel-softmax", 3)))
    torch.manual_seed(0)
    first, again = (ControlNetwork(4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(first(torch.ones(1, 3, 2)), again(torch.ones(1, 3, 2)))


def test_gradients_that_would_be_missing_are_refused() -> None:
    leaves = {key: p.requires_grad_() for key, p in parameters("gumbel-softmax", 3).items()}
    law = distribution("gumbel-softmax", leaves)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def rounded(z: Tensor) -> Tensor:
        return z.detach().round().sum((-2, -1))

    for name in ("pathwise", "straight_through", "gumbel_straight_through", "reinmax"):
        with pytest.raises(ValueError, match="a function with a gradient, which is what this estimator"):
            made(name)(rounded, law)
        with torch.no_grad():
            assert made(name)(rounded, law).value.isfinite()
    # A parameter of the function has a gradient, but nothing inside the simplex does.
    for name in CONTROLLED:
        with pytest.raises(ValueError, match="a gradient inside the simplex; got values that have none"):
            made(name)(lambda z: weight * rounded(z), law)


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
    # No constant on the vertices, where some estimators would have nothing to do.
    weights = torch.tensor([0.3, 1.7]).bfloat16()
    found = estimators.by_name(name)(
        lambda z: (z * weights).sum((-2, -1)).square(), distribution(law, leaves), 2
    )
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
        weights = torch.tensor([0.3, 1.7])
        found = estimators.by_name(name)(
            lambda z, weights=weights: (z * weights).sum((-2, -1)).square(), distribution(law, leaves), 3
        )
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
    "a coefficient that is no number": (lambda: REBAR(coefficient=math.nan), ValueError, "coefficient"),
    "a temperature that leaves no delta": (
        lambda: estimators.Pathwise(1e-4)(OF, distribution("igr", parameters("igr", 2))),
        ValueError,
        r"leaves delta a number; got 0.0001, with which it would be exp\(1312\)",
    ),
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
            OF, igr.InvertibleGaussian(torch.zeros(3, 2), 1.0, 0.5, transform=igr.PlanarTransform(3))
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
