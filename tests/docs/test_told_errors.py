"""Of the library, every error that a docstring tells of is raised by a wrong call."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

import igr
from api_pages import CALLABLES, entries, in_library, section
from igr import estimators, fitting, functional, schedules, ternary
from igr.diagnostics import diagnose, vertex_distance
from igr.fitting.temperature import FixedSamples
from igr.transforms import LogisticStickBreakingTransform, PlanarFlow, PlanarTransform

WHOLE = torch.tensor([1, 2])
TWO, THREE, FIVE = (torch.linspace(0.1, 0.9, size) for size in (2, 3, 5))
POINT = torch.tensor([0.2, 0.3, 0.5])
TRAINED = torch.zeros(2, 3, requires_grad=True)

GUMBEL = igr.GumbelSoftmax(0.5, logits=THREE, validate_args=True)
BROKEN = igr.GumbelSoftmax(0.5, logits=THREE * torch.nan, validate_args=False)
GAUSSIAN = igr.InvertibleGaussian(TWO, 1.0, temperature=0.5, validate_args=True)
BATCH = GAUSSIAN.expand((4,))
PLANAR = igr.InvertibleGaussian(TWO, 1.0, temperature=0.5, transform=PlanarTransform(3))
STICKS = igr.InvertibleGaussian(torch.zeros(9), 1.0, 0.5, LogisticStickBreakingTransform())
FEWER_STICKS = igr.InvertibleGaussian(torch.zeros(5), 1.0, 0.5, LogisticStickBreakingTransform())
CONCRETE = igr.BinaryConcrete(0.5, logits=torch.zeros(4), validate_args=True)
BINARY = igr.BinaryInvertibleGaussian(torch.zeros(4), 1.0, temperature=0.5, validate_args=True)
MADE = igr.BinaryInvertibleGaussian(torch.zeros(4), 1.0, 0.5, PlanarTransform(2))
VARIABLES = torch.distributions.OneHotCategorical(logits=torch.zeros(2, 3))
LAYER, FLOW = PlanarTransform(3, num_variables=2), PlanarFlow(3, 2)
SCHEDULE = schedules.ConstantSchedule(0.5)
FIT = fitting.fit(POINT)


def traced(call: Callable[[torch.Tensor], object]) -> Callable[[], object]:
    """The call with a tensor whose values cannot be read."""
    return lambda: torch.func.vmap(lambda x: (call(x), x)[1])(torch.zeros(2, 3))


def summed(points: torch.Tensor) -> torch.Tensor:
    return points.sum((-2, -1))


def with_wrong_parameters() -> object:
    layer = PlanarTransform(3, num_variables=2)
    layer.u = torch.nn.Parameter(torch.zeros(5, 2))
    return layer.batch_shape


def temperatures(law: object, method: str = "with_temperature") -> list[tuple[type, Callable[[], object]]]:
    change = getattr(law, method)
    return [
        (TypeError, partial(change, "0.5")),
        (ValueError, partial(change, 0.0)),
        (ValueError, partial(change, torch.tensor([0.5, -1.0]))),
    ]


def expansions(law: torch.distributions.Distribution) -> list[tuple[type, Callable[[], object]]]:
    return [(RuntimeError, partial(law.expand, (3,)))]


def noises(method: Callable[..., object]) -> list[tuple[type, Callable[[], object]]]:
    return [(TypeError, partial(method, noise=WHOLE)), (ValueError, partial(method, noise=FIVE))]


def values(method: Callable[..., object], outside: float) -> list[tuple[type, Callable[[], object]]]:
    return [
        (TypeError, partial(method, WHOLE)),
        (ValueError, partial(method, FIVE)),
        (ValueError, partial(method, torch.full((4,), outside))),
    ]


def of_two_tensors(make: Callable[..., object], *, stacked: bool) -> list[tuple[type, Callable[[], object]]]:
    vector, number = (torch.zeros(2, 3), torch.zeros(2)) if stacked else (torch.zeros(3), torch.zeros(()))
    return [
        (TypeError, partial(make, vector, vector, 0)),
        (ValueError, partial(make, vector, number, number)),
    ]


def changes(schedule: type) -> list[tuple[type, Callable[[], object]]]:
    return [
        (TypeError, partial(schedule, "1", 0.5, 10)),
        (TypeError, partial(schedule, 1.0, 0.5, 2.5)),
        (ValueError, partial(schedule, 1.0, 0.0, 10)),
        (ValueError, partial(schedule, 1.0, 0.5, 0)),
    ]


def points_of(map_: object, method: str) -> list[tuple[type, Callable[[], object]]]:
    call = getattr(map_, method)
    return [(TypeError, partial(call, WHOLE)), (ValueError, partial(call, FIVE))]


# By name, which errors there are, and calls that each raise one of them.
WRONG: dict[str, list[tuple[type, Callable[[], object]]]] = {
    "igr.functional.gumbel_softmax": [
        (TypeError, lambda: functional.gumbel_softmax(WHOLE)),
        (TypeError, lambda: functional.gumbel_softmax(THREE, tau="1")),
        (ValueError, lambda: functional.gumbel_softmax(THREE.sum())),
        (IndexError, lambda: functional.gumbel_softmax(THREE, dim=3)),
        (ValueError, lambda: functional.gumbel_softmax(THREE, tau=0.0)),
        (ValueError, lambda: functional.gumbel_softmax(THREE, tau=FIVE)),
        (ValueError, lambda: functional.gumbel_softmax(THREE, noise=FIVE)),
        (ValueError, lambda: functional.gumbel_softmax(THREE, hard=True, fused=True)),
    ],
    "igr.functional.invertible_gaussian": [
        (TypeError, lambda: functional.invertible_gaussian(WHOLE, 1.0)),
        (TypeError, lambda: functional.invertible_gaussian(TWO, "1")),
        (ValueError, lambda: functional.invertible_gaussian(TWO.sum(), 1.0)),
        (IndexError, lambda: functional.invertible_gaussian(TWO, 1.0, dim=3)),
        (ValueError, lambda: functional.invertible_gaussian(TWO, -1.0)),
        (ValueError, lambda: functional.invertible_gaussian(TWO, 1.0, delta=0.0)),
        (ValueError, lambda: functional.invertible_gaussian(TWO, FIVE)),
        (ValueError, lambda: functional.invertible_gaussian(TWO, 1.0, noise=FIVE)),
    ],
    "igr.functional.softmax_plus_plus": [
        (TypeError, lambda: functional.softmax_plus_plus(WHOLE)),
        (TypeError, lambda: functional.softmax_plus_plus(TWO, delta=None)),
        (ValueError, lambda: functional.softmax_plus_plus(TWO.sum())),
        (IndexError, lambda: functional.softmax_plus_plus(TWO, dim=3)),
        (ValueError, lambda: functional.softmax_plus_plus(TWO, delta=0.0)),
        (ValueError, lambda: functional.softmax_plus_plus(TWO, delta=FIVE)),
    ],
    "igr.functional.stick_breaking_lengths": [
        (TypeError, lambda: functional.stick_breaking_lengths(WHOLE)),
        (ValueError, lambda: functional.stick_breaking_lengths(TWO.sum())),
        (IndexError, lambda: functional.stick_breaking_lengths(TWO, dim=3)),
    ],
    "igr.InvertibleGaussian": [
        (TypeError, lambda: igr.InvertibleGaussian(WHOLE, 1.0, 0.5)),
        (TypeError, lambda: igr.InvertibleGaussian(TWO, "1", 0.5)),
        (TypeError, lambda: igr.InvertibleGaussian(TWO, 1.0, 0.5, mask=THREE)),
        (ValueError, lambda: igr.InvertibleGaussian(TWO * torch.nan, 1.0, 0.5, validate_args=True)),
        (ValueError, lambda: igr.InvertibleGaussian(TWO, 0.0, 0.5, validate_args=True)),
        (ValueError, lambda: igr.InvertibleGaussian(TWO, FIVE, 0.5)),
        (ValueError, lambda: igr.InvertibleGaussian(TWO, 1.0, 0.5, igr.SoftmaxPlusPlusTransform())),
        (ValueError, lambda: igr.InvertibleGaussian(TWO, 1.0, 0.5, mask=torch.arange(3) == 2)),
    ],
    "igr.InvertibleGaussian.from_probs": [
        (TypeError, lambda: igr.InvertibleGaussian.from_probs(WHOLE, temperature=0.5)),
        (TypeError, lambda: igr.InvertibleGaussian.from_probs(POINT, "1", temperature=0.5)),
        (
            ValueError,
            lambda: igr.InvertibleGaussian.from_probs(2 * POINT, temperature=0.5, validate_args=True),
        ),
        (TypeError, lambda: igr.InvertibleGaussian.from_probs(POINT, temperature="0.5")),
        (ValueError, lambda: igr.InvertibleGaussian.from_probs(POINT, FIVE, temperature=0.5)),
        (ValueError, lambda: igr.InvertibleGaussian.from_probs(POINT, temperature=0.0, validate_args=True)),
        (NotImplementedError, traced(lambda x: igr.InvertibleGaussian.from_probs(x, temperature=0.5))),
        (
            RuntimeError,
            lambda: igr.InvertibleGaussian.from_probs(
                torch.tensor([1e-308, 0.5, 0.5], dtype=torch.float64),
                torch.tensor([1e-8, 1.0]),
                temperature=0.5,
            ),
        ),
    ],
    "igr.InvertibleGaussian.uniform": [
        (TypeError, lambda: igr.InvertibleGaussian.uniform(4, "0.5")),
        (TypeError, lambda: igr.InvertibleGaussian.uniform(4, 0.5, delta="1")),
        (TypeError, lambda: igr.InvertibleGaussian.uniform(2.5, 0.5)),
        (ValueError, lambda: igr.InvertibleGaussian.uniform(1, 0.5)),
        (ValueError, lambda: igr.InvertibleGaussian.uniform(4, 0.0)),
        (ValueError, lambda: igr.InvertibleGaussian.uniform(4, 0.5, scale=-1.0)),
        (ValueError, lambda: igr.InvertibleGaussian.uniform(4, 0.5, delta=0.0)),
    ],
    "igr.InvertibleGaussian.with_temperature": temperatures(BATCH),
    "igr.InvertibleGaussian.with_point_temperature": [
        *temperatures(BATCH, "with_point_temperature"),
        *temperatures(
            igr.InvertibleGaussian(TWO, 1.0, 0.5, delta=2.0).expand((4,)), "with_point_temperature"
        ),
        (
            ValueError,
            lambda: igr.InvertibleGaussian(TWO, 1.0, 1.0, delta=2.0).with_point_temperature(1e-4),
        ),
    ],
    "igr.InvertibleGaussian.expand": expansions(BATCH),
    "igr.InvertibleGaussian.pre_image": noises(BATCH.pre_image),
    "igr.InvertibleGaussian.rsample_and_kl": [
        (NotImplementedError, lambda: PLANAR.rsample_and_kl(GAUSSIAN)),
        (RuntimeError, lambda: BATCH.rsample_and_kl(GAUSSIAN.expand((3,)))),
        *noises(partial(GAUSSIAN.rsample_and_kl, GAUSSIAN)),
        (ValueError, lambda: GAUSSIAN.rsample_and_kl(GAUSSIAN, noise=TWO, fused=True)),
    ],
    "igr.InvertibleGaussian.discrete_kl": [
        (ValueError, lambda: GAUSSIAN.discrete_kl(igr.GumbelSoftmax(0.5, logits=FIVE).discrete())),
        (RuntimeError, lambda: BATCH.discrete_kl(GUMBEL.expand((3,)).discrete())),
        (NotImplementedError, lambda: PLANAR.discrete_kl(GUMBEL.discrete())),
    ],
    "igr.GumbelSoftmax": [
        (TypeError, lambda: igr.GumbelSoftmax(0.5, logits=WHOLE)),
        (TypeError, lambda: igr.GumbelSoftmax("0.5", logits=THREE)),
        (TypeError, lambda: igr.GumbelSoftmax(0.5, logits=THREE, mask=THREE)),
        (ValueError, lambda: igr.GumbelSoftmax(0.5)),
        (ValueError, lambda: igr.GumbelSoftmax(0.5, logits=THREE[:1])),
        (ValueError, lambda: igr.GumbelSoftmax(FIVE, logits=torch.zeros(2, 3))),
        (ValueError, lambda: igr.GumbelSoftmax(0.5, logits=THREE * torch.inf, validate_args=True)),
        (ValueError, lambda: igr.GumbelSoftmax(0.5, probs=-POINT, validate_args=True)),
        (ValueError, lambda: igr.GumbelSoftmax(0.0, logits=THREE, validate_args=True)),
        (ValueError, lambda: igr.GumbelSoftmax(1e-32, logits=THREE, validate_args=True)),
        (ValueError, lambda: igr.GumbelSoftmax(0.5, THREE, validate_args=True, mask=THREE > 0)),
    ],
    "igr.GumbelSoftmax.with_temperature": temperatures(GUMBEL.expand((4,))),
    "igr.GumbelSoftmax.expand": expansions(GUMBEL.expand((4,))),
    "igr.BinaryConcrete": [
        (TypeError, lambda: igr.BinaryConcrete(0.5, logits=WHOLE)),
        (TypeError, lambda: igr.BinaryConcrete("0.5", logits=TWO)),
        (ValueError, lambda: igr.BinaryConcrete(0.5)),
        (ValueError, lambda: igr.BinaryConcrete(FIVE, logits=TWO)),
        (ValueError, lambda: igr.BinaryConcrete(0.5, logits=TWO * torch.nan, validate_args=True)),
        (ValueError, lambda: igr.BinaryConcrete(0.5, probs=TWO + 1.0, validate_args=True)),
        (ValueError, lambda: igr.BinaryConcrete(0.0, logits=TWO, validate_args=True)),
        (ValueError, lambda: igr.BinaryConcrete(1e-32, logits=TWO, validate_args=True)),
    ],
    "igr.BinaryConcrete.with_temperature": temperatures(CONCRETE),
    "igr.BinaryConcrete.expand": expansions(CONCRETE),
    "igr.BinaryInvertibleGaussian": [
        (TypeError, lambda: igr.BinaryInvertibleGaussian(WHOLE, 1.0, 0.5)),
        (TypeError, lambda: igr.BinaryInvertibleGaussian(TWO, "1", 0.5)),
        (ValueError, lambda: igr.BinaryInvertibleGaussian(TWO, 0.0, 0.5, validate_args=True)),
        (ValueError, lambda: igr.BinaryInvertibleGaussian(TWO, FIVE, 0.5)),
        (ValueError, lambda: igr.BinaryInvertibleGaussian(TWO, 1.0, 0.5, LogisticStickBreakingTransform())),
    ],
    "igr.BinaryInvertibleGaussian.with_temperature": temperatures(BINARY),
    "igr.BinaryInvertibleGaussian.expand": expansions(BINARY),
    "igr.BinaryInvertibleGaussian.pre_image": noises(BINARY.pre_image),
    "igr.StickTruncation": [
        (TypeError, lambda: igr.StickTruncation("0.9")),
        (ValueError, lambda: igr.StickTruncation(1.0)),
        (ValueError, lambda: igr.StickTruncation(quantile=0.0)),
        (ValueError, lambda: igr.StickTruncation(num_draws=0)),
    ],
    "igr.StickTruncation.count": [
        (NotImplementedError, traced(lambda x: igr.StickTruncation().count(x))),
    ],
    "igr.StickTruncation.whole": [(ValueError, lambda: igr.StickTruncation().whole(GAUSSIAN))],
    "igr.distributions.CutSticks.same_cut": [
        (ValueError, lambda: igr.StickTruncation().whole(STICKS).same_cut(GAUSSIAN)),
        (ValueError, lambda: igr.StickTruncation().whole(STICKS).same_cut(FEWER_STICKS)),
    ],
    "igr.distributions.CutSticks.pad": [(ValueError, lambda: igr.StickTruncation().whole(STICKS).pad(FIVE))],
    "igr.SimplexRelaxation.rsample_log": noises(BATCH.rsample_log),
    "igr.SimplexRelaxation.vertex": noises(BATCH.vertex),
    "igr.SimplexRelaxation.log_prob": [
        (TypeError, lambda: GUMBEL.log_prob(WHOLE)),
        (ValueError, lambda: GUMBEL.log_prob(FIVE)),
        (ValueError, lambda: GUMBEL.log_prob(2 * POINT)),
    ],
    "igr.SimplexRelaxation.log_prob_of_log": [
        (TypeError, lambda: GUMBEL.log_prob_of_log(WHOLE)),
        (ValueError, lambda: GUMBEL.log_prob_of_log(FIVE)),
    ],
    "igr.SimplexRelaxation.discrete": [
        (ValueError, lambda: GUMBEL.discrete("quadrature")),
        (ValueError, lambda: GAUSSIAN.discrete(num_nodes=2)),
        (ValueError, lambda: GUMBEL.discrete("monte_carlo", num_samples=0)),
        (NotImplementedError, PLANAR.discrete),
    ],
    "igr.SimplexRelaxation.discrete_kl": [
        (ValueError, lambda: GUMBEL.discrete_kl(igr.GumbelSoftmax(0.5, logits=FIVE).discrete())),
        (RuntimeError, lambda: GUMBEL.expand((4,)).discrete_kl(GUMBEL.expand((3,)).discrete())),
        (NotImplementedError, lambda: PLANAR.discrete_kl(GUMBEL.discrete())),
    ],
    "igr.distributions.reparameterized.Reparameterized.entropy": [(NotImplementedError, GUMBEL.entropy)],
    "igr.distributions.reparameterized.Reparameterized.variance": [
        (NotImplementedError, lambda: CONCRETE.variance)
    ],
    "igr.SimplexRelaxation.mean": [(NotImplementedError, lambda: PLANAR.mean)],
    "igr.SimplexRelaxation.mean_estimate": [
        (ValueError, lambda: GUMBEL.mean_estimate("exact")),
        (ValueError, lambda: GUMBEL.mean_estimate("monte_carlo", num_samples=0)),
        (NotImplementedError, PLANAR.mean_estimate),
    ],
    "igr.BinaryRelaxation.rsample_logit": noises(BINARY.rsample_logit),
    "igr.BinaryRelaxation.rsample_log": noises(BINARY.rsample_log),
    "igr.BinaryRelaxation.rsample_and_log_prob": noises(BINARY.rsample_and_log_prob),
    "igr.BinaryRelaxation.vertex": noises(BINARY.vertex),
    "igr.BinaryRelaxation.log_prob": values(BINARY.log_prob, outside=1.5),
    "igr.BinaryRelaxation.log_prob_of_log": values(BINARY.log_prob_of_log, outside=0.5),
    "igr.BinaryRelaxation.log_prob_of_logit": values(BINARY.log_prob_of_logit, outside=torch.inf),
    "igr.BinaryRelaxation.mean": [(NotImplementedError, lambda: MADE.mean)],
    "igr.distributions.reparameterized.Reparameterized.with_temperature": temperatures(BATCH),
    "igr.distributions.reparameterized.Reparameterized.expand": expansions(BATCH),
    "igr.distributions.reparameterized.Reparameterized.vertex": noises(BATCH.vertex),
    "igr.distributions.reparameterized.Reparameterized.straight_through": noises(BATCH.straight_through),
    "igr.distributions.reparameterized.Reparameterized.rsample": [
        *noises(BATCH.rsample),
        (ValueError, lambda: BATCH.rsample(noise=torch.zeros(4, 2), fused=True)),
    ],
    "igr.SoftmaxPlusPlusTransform": [
        (ValueError, lambda: igr.SoftmaxPlusPlusTransform(0.0)),
        (ValueError, lambda: igr.SoftmaxPlusPlusTransform(delta=-THREE)),
    ],
    "igr.SoftmaxPlusPlusTransform.inverse_shape": [
        (ValueError, lambda: igr.SoftmaxPlusPlusTransform().inverse_shape((4, 1))),
    ],
    "igr.LogisticStickBreakingTransform": [(ValueError, lambda: LogisticStickBreakingTransform("logits"))],
    "igr.PlanarTransform": [
        (TypeError, lambda: PlanarTransform(3.5)),
        (TypeError, lambda: LAYER(WHOLE)),
        (ValueError, lambda: PlanarTransform(1)),
        (ValueError, lambda: PlanarTransform(3, num_variables=0)),
        (ValueError, lambda: LAYER(FIVE)),
    ],
    "igr.PlanarTransform.from_tensors": of_two_tensors(PlanarTransform.from_tensors, stacked=False),
    "igr.PlanarTransform.forward": points_of(LAYER, "forward"),
    "igr.PlanarTransform.batch_shape": [(ValueError, with_wrong_parameters)],
    "igr.PlanarTransform.call_and_log_det": points_of(LAYER, "call_and_log_det"),
    "igr.PlanarTransform.forward_shape": [(ValueError, lambda: LAYER.forward_shape((2, 3)))],
    "igr.PlanarFlow": [
        (TypeError, lambda: PlanarFlow(3, 1.5)),
        (TypeError, lambda: FLOW(WHOLE)),
        (ValueError, lambda: PlanarFlow(1)),
        (ValueError, lambda: PlanarFlow(3, 0)),
        (ValueError, lambda: PlanarFlow(3, num_variables=0)),
        (ValueError, lambda: FLOW(FIVE)),
    ],
    "igr.PlanarFlow.from_tensors": of_two_tensors(PlanarFlow.from_tensors, stacked=True),
    "igr.estimators.Estimator": [
        (TypeError, lambda: estimators.StraightThrough()(summed, THREE)),
        (ValueError, lambda: estimators.StraightThrough()(summed, GUMBEL)),
        (NotImplementedError, lambda: estimators.DisARM()(summed, VARIABLES)),
    ],
    "igr.estimators.Estimator.forward": [
        (TypeError, lambda: estimators.StraightThrough().forward(summed, VARIABLES, num_samples=2.5)),
        (ValueError, lambda: estimators.VIMCO().forward(summed, VARIABLES, num_samples=1)),
        (ValueError, lambda: estimators.StraightThrough().forward(summed, VARIABLES, noise=THREE)),
        (ValueError, lambda: estimators.StraightThrough().forward(torch.sum, VARIABLES)),
        (
            ValueError,
            lambda: estimators.StraightThrough().forward(
                lambda d: d.detach().sum((-2, -1)), igr.GumbelSoftmax(0.5, logits=TRAINED)
            ),
        ),
        (NotImplementedError, lambda: estimators.RaoBlackwellStraightThrough().forward(summed, BATCH)),
    ],
    "igr.estimators.Estimator.draw_noise": [
        (TypeError, lambda: estimators.StraightThrough().draw_noise(THREE)),
        (TypeError, lambda: estimators.StraightThrough().draw_noise(VARIABLES, 2.5)),
        (ValueError, lambda: estimators.VIMCO().draw_noise(VARIABLES, 1)),
        (ValueError, lambda: estimators.StraightThrough().draw_noise(GUMBEL)),
    ],
    "igr.estimators.by_name": [
        (TypeError, lambda: estimators.by_name("reinmax", gap=1.0)),
        (ValueError, lambda: estimators.by_name("rein_max")),
    ],
    "igr.estimators.Pathwise": [(ValueError, lambda: estimators.Pathwise(0.0))],
    "igr.estimators.GumbelStraightThrough": [(ValueError, lambda: estimators.GumbelStraightThrough(0.0))],
    "igr.estimators.RaoBlackwellStraightThrough": [
        (TypeError, lambda: estimators.RaoBlackwellStraightThrough(2.5)),
        (ValueError, lambda: estimators.RaoBlackwellStraightThrough(0)),
        (ValueError, lambda: estimators.RaoBlackwellStraightThrough(temperature=-1.0)),
    ],
    "igr.estimators.ReinMax": [(ValueError, lambda: estimators.ReinMax(0.0))],
    "igr.estimators.GappedStraightThrough": [
        (ValueError, lambda: estimators.GappedStraightThrough(0.0)),
        (ValueError, lambda: estimators.GappedStraightThrough(temperature=0.0)),
    ],
    "igr.estimators.ScoreFunction": [
        (ValueError, lambda: estimators.ScoreFunction("mean")),
        (ValueError, lambda: estimators.ScoreFunction(decay=1.0)),
    ],
    "igr.estimators.REBAR": [
        (ValueError, lambda: estimators.REBAR(0.0)),
        (ValueError, lambda: estimators.REBAR(coefficient=torch.nan)),
    ],
    "igr.estimators.RELAX": [
        (ValueError, lambda: estimators.RELAX(temperature=0.0)),
        (ValueError, lambda: estimators.RELAX(baseline=torch.inf)),
    ],
    "igr.estimators.ControlNetwork": [
        (TypeError, lambda: estimators.ControlNetwork(2.5)),
        (ValueError, lambda: estimators.ControlNetwork(0)),
    ],
    "igr.estimators.ControlNetwork.forward": [
        (ValueError, lambda: estimators.ControlNetwork(num_inputs=4).forward(torch.zeros(2, 3))),
    ],
    "igr.estimators.probe": [
        (TypeError, lambda: estimators.probe(summed, VARIABLES, ["reinmax"], num_gradients=2.5)),
        (TypeError, lambda: estimators.probe(summed, THREE, ["reinmax"])),
        (ValueError, lambda: estimators.probe(summed, VARIABLES, [])),
        (ValueError, lambda: estimators.probe(summed, VARIABLES, ["rein_max"])),
        (ValueError, lambda: estimators.probe(summed, VARIABLES, ["reinmax"], num_gradients=1)),
    ],
    "igr.estimators.gradient_moments": [
        (
            ValueError,
            lambda: estimators.gradient_moments(
                estimators.ReinMax(), summed, VARIABLES, parameters=["scale"]
            ),
        ),
    ],
    "igr.fitting.fit": [
        (TypeError, lambda: fitting.fit("poisson")),
        (ValueError, lambda: fitting.fit(2 * POINT)),
        (ValueError, lambda: fitting.fit(POINT, "igr-i")),
        (NotImplementedError, traced(lambda x: fitting.fit(x))),
    ],
    "igr.fitting.Fit.distribution": temperatures(fitting.fit(POINT.expand(4, 3)), "distribution"),
    "igr.fitting.Fit.from_json": [(ValueError, lambda: fitting.Fit.from_json({}))],
    "igr.fitting.Fit.save": [(OSError, lambda: FIT.save("/no/such/folder/fit.json"))],
    "igr.fitting.Fit.load": [
        (OSError, lambda: fitting.Fit.load("/no/such/folder/fit.json")),
        (ValueError, lambda: fitting.Fit.load(__file__)),
    ],
    "igr.fitting.as_target": [
        (TypeError, lambda: fitting.as_target("poisson")),
        (TypeError, lambda: fitting.as_target(torch.distributions.Normal(0.0, 1.0))),
        (ValueError, lambda: fitting.as_target(-POINT)),
        (ValueError, lambda: fitting.as_target([[0, 1], [1, 1]])),
        (ValueError, lambda: fitting.as_target(POINT, tail_mass=0.0)),
        (ValueError, lambda: fitting.as_target(POINT, num_categories=1)),
    ],
    "igr.fitting.Target.with_num_categories": [
        (TypeError, lambda: fitting.as_target(POINT).with_num_categories(2.5)),
        (ValueError, lambda: fitting.as_target(POINT).with_num_categories(1)),
        (ValueError, lambda: fitting.as_target([2, 3]).with_num_categories(2)),
    ],
    "igr.fitting.Target.from_json": [
        (TypeError, lambda: fitting.Target.from_json([])),
        (ValueError, lambda: fitting.Target.from_json({})),
    ],
    "igr.fitting.uniform_prior": [
        (TypeError, lambda: fitting.uniform_prior(2.5)),
        (TypeError, lambda: fitting.uniform_prior(4, temperature="0.5")),
        (ValueError, lambda: fitting.uniform_prior(1)),
        (ValueError, lambda: fitting.uniform_prior(4, "igr-i")),
        (ValueError, lambda: fitting.uniform_prior(4, temperature=0.0)),
        (ValueError, lambda: fitting.uniform_prior(4, "igr", num_iterations=10)),
        (RuntimeError, lambda: fitting.uniform_prior(2, "igr-sb-log", scale=1e-3, cache=False)),
        (NotImplementedError, traced(lambda x: fitting.uniform_prior(3, "igr-sb-log", cache=False))),
    ],
    "igr.fitting.fit_uniform_prior": [
        (TypeError, lambda: fitting.fit_uniform_prior(2.5)),
        (ValueError, lambda: fitting.fit_uniform_prior(1)),
        (RuntimeError, lambda: fitting.fit_uniform_prior(2, "igr-sb-log", scale=1e-3, cache=False)),
        (NotImplementedError, traced(lambda x: fitting.fit_uniform_prior(3, cache=False))),
    ],
    "igr.fitting.calibrate_temperature": [
        (TypeError, lambda: fitting.calibrate_temperature(CONCRETE)),
        (TypeError, lambda: fitting.calibrate_temperature(GUMBEL, num_samples=2.5)),
        (ValueError, lambda: fitting.calibrate_temperature(GUMBEL.expand((0,)))),
        (ValueError, lambda: fitting.calibrate_temperature(GUMBEL, num_samples=0)),
        (ValueError, lambda: fitting.calibrate_temperature(GUMBEL, distance=0.0)),
        (ValueError, lambda: fitting.calibrate_temperature(GUMBEL, quantile=1.5)),
        (ValueError, lambda: fitting.calibrate_temperature(GUMBEL, distance=0.9, num_samples=100)),
        (NotImplementedError, traced(lambda x: fitting.calibrate_temperature(GUMBEL))),
    ],
    "igr.fitting.temperature.FixedSamples.gaps": [
        (ValueError, lambda: FixedSamples([BROKEN], 10, [0]).gaps())
    ],
    "igr.schedules.TemperatureSchedule.at": [
        (TypeError, lambda: SCHEDULE.at(0.5)),
        (ValueError, lambda: SCHEDULE.at(-1)),
    ],
    "igr.schedules.TemperatureSchedule.load_state_dict": [
        (TypeError, lambda: SCHEDULE.load_state_dict([])),
        (ValueError, lambda: SCHEDULE.load_state_dict({})),
        (ValueError, lambda: SCHEDULE.load_state_dict(schedules.ConstantSchedule(0.1).state_dict())),
        (ValueError, lambda: SCHEDULE.load_state_dict({**SCHEDULE.state_dict(), "step": -1})),
    ],
    "igr.schedules.ConstantSchedule": [
        (TypeError, lambda: schedules.ConstantSchedule("0.5")),
        (ValueError, lambda: schedules.ConstantSchedule(0.0)),
    ],
    "igr.schedules.ExponentialSchedule": changes(schedules.ExponentialSchedule),
    "igr.schedules.LinearSchedule": changes(schedules.LinearSchedule),
    "igr.schedules.CosineSchedule": changes(schedules.CosineSchedule),
    "igr.diagnostics.diagnose": [
        (TypeError, lambda: diagnose(CONCRETE)),
        (TypeError, lambda: diagnose(GUMBEL, num_samples=2.5)),
        (ValueError, lambda: diagnose(GUMBEL.expand((0,)))),
        (ValueError, lambda: diagnose(GUMBEL, num_samples=0)),
        (ValueError, lambda: diagnose(GUMBEL, quantiles=[1.5])),
        (ValueError, lambda: diagnose(GUMBEL, temperatures=[0.0])),
    ],
    "igr.diagnostics.vertex_distance": [(TypeError, lambda: vertex_distance(WHOLE))],
    "igr.ternary.to_plane": [
        (TypeError, lambda: ternary.to_plane(WHOLE)),
        (ValueError, lambda: ternary.to_plane(FIVE)),
    ],
    "igr.ternary.ternary_grid": [
        (TypeError, lambda: ternary.ternary_grid(2.5)),
        (ValueError, lambda: ternary.ternary_grid(0)),
    ],
    "igr.ternary.log_density": [
        (TypeError, lambda: ternary.log_density(CONCRETE, POINT)),
        (ValueError, lambda: ternary.log_density(BATCH, POINT)),
        (ValueError, lambda: ternary.log_density(STICKS, POINT)),
    ],
}


def told(name: str) -> set[str]:
    """The errors in the docstring of a name."""
    return set(entries(section(CALLABLES[name][1], "Raises")))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name):
    for error, call in WRONG[name]:
        assert error.__name__ in told(name)
        with pytest.raises(error) as found:
            call()
        assert type(found.value) is error or error is OSError
        # In a sentence of ours, and not from somewhere within.
        assert error not in (TypeError, ValueError) or "expected " in str(found.value)


def test_every_error_that_is_told_is_tried():
    # Overrides have the docstring of what they override.
    tried = {(CALLABLES[name][1], error.__name__) for name, calls in WRONG.items() for error, _ in calls}
    told_of = {(CALLABLES[name][1], error) for name in CALLABLES if in_library(name) for error in told(name)}
    assert told_of == tried
