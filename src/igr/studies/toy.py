"""Toy problems of REBAR and RELAX: which gradient estimators find the best Bernoulli, and how surely."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, RelaxedBernoulli

from igr import InvertibleGaussian, plot
from igr.estimators import ESTIMATORS, REBAR, Estimator, ScoreFunction, gradient_moments
from igr.plot import Band
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Item, Record, Study, StudyConfig, Work
from igr.training.randomness import keyed_generator

# The targets t of E (b - t)^2, summed over the variables; the first two are the reference's.
PROBLEMS: Mapping[str, tuple[float, ...]] = {
    "one": (0.4,),
    "three": (1.0, 0.4, 0.0),
    "close": (0.45,),
    "closest": (0.499,),
}
LAWS = {"bernoulli": "Bernoulli", "igr": "IGR-I"}
# The estimators by name, and the control variate of REBAR without the constant that it has here, as in the
# paper.
MAKERS: Mapping[str, Callable[..., Estimator]] = {
    **ESTIMATORS,
    "rebar_without_constant": partial(REBAR, baseline=None),
}
# Without closed form for IGR-I.
OF_BERNOULLI_ALONE = {"rao_blackwell_straight_through"}
# In panels of their own, since they have one more thing in common than that they are biased.
FAMILIES = {
    "from the score": (
        "score_function",
        "score_function_moving_average",
        "score_function_leave_one_out",
        "disarm",
        "rebar",
        "rebar_without_constant",
        "relax",
    ),
    "through a differentiable stand-in": (
        "pathwise",
        "straight_through",
        "gumbel_straight_through",
        "rao_blackwell_straight_through",
        "reinmax",
        "gapped_straight_through",
    ),
}
# VIMCO is not among them: its objective is the bound of several samples, and no expectation of a loss.
TITLES = {
    "pathwise": "pathwise",
    "straight_through": "straight-through",
    "gumbel_straight_through": "relaxed straight-through",
    "rao_blackwell_straight_through": "Rao-Blackwell ST",
    "reinmax": "ReinMax",
    "gapped_straight_through": "gapped ST",
    "score_function": "score function",
    "score_function_moving_average": "score function, moving average",
    "score_function_leave_one_out": "score function, leave one out",
    "disarm": "DisARM",
    "rebar": "REBAR",
    "rebar_without_constant": "REBAR without constant",
    "relax": "RELAX",
}


@dataclass(frozen=True)
class ToyConfig(StudyConfig):
    """What is minimized, with which estimators, and for how long."""

    problems: tuple[str, ...] = tuple(PROBLEMS)
    """Targets: one (0.4), three (1, 0.4, 0), close (0.45), closest (0.499)."""

    laws: tuple[str, ...] = tuple(LAWS)
    """Laws of the binary variables: bernoulli, igr."""

    estimators: tuple[str, ...] = tuple(TITLES)
    """The estimators, by the names of igr.estimators, and rebar_without_constant."""

    num_iterations: int = 10_000
    """Steps of Adam."""

    learning_rate: float = 0.01
    """Learning rate of the parameter of the law, and of the estimator's own parameters."""

    temperature: float = 0.5
    """Temperature of the relaxed points, where they have a fixed one."""

    seeds: tuple[int, ...] = (5328, 5945, 8965, 49, 9337)
    """Seeds."""

    num_readings: int = 50
    """How often on the way the variances are measured."""

    num_gradients: int = 2000
    """Gradients in each measurement."""

    compared_at: int = 2000
    """The step at which variances stand in the table."""

    def check(self) -> None:
        super().check()
        for key, known in (("problems", PROBLEMS), ("laws", LAWS), ("estimators", TITLES)):
            values = getattr(self, key)
            good = bool(values) and {*values} <= {*known} and len({*values}) == len(values)
            self.require(key, good, f"some of {', '.join(known)}, each once")
        for key in ("num_iterations", "num_readings", "compared_at"):
            self.require(key, getattr(self, key) >= 1, "a whole number of at least 1")
        self.require("num_gradients", self.num_gradients >= 2, "a whole number of at least 2")
        for key in ("learning_rate", "temperature"):
            self.require(key, 0 < getattr(self, key) < float("inf"), "a finite number above 0")
        good = bool(self.seeds) and min(self.seeds) >= 0 and len({*self.seeds}) == len(self.seeds)
        self.require("seeds", good, "different whole numbers of at least 0")

    @property
    def readings(self) -> list[int]:
        """The steps at which losses and variances are read."""
        apart = max(1, self.num_iterations // self.num_readings)
        steps = {*range(0, self.num_iterations + 1, apart), self.num_iterations}
        return sorted(steps | {min(self.compared_at, self.num_iterations)})


def _cases(config: ToyConfig) -> list[tuple[str, str, str]]:
    return [
        (problem, law, name)
        for problem in config.problems
        for law in config.laws
        for name in config.estimators
        if not (law != "bernoulli" and name in OF_BERNOULLI_ALONE)
    ]


def items(config: ToyConfig) -> list[Item]:
    """One for each problem, law and estimator."""
    return [
        Item(f"{problem}.{law}.{name}", partial(_minimized, config, problem, law, name))
        for problem, law, name in _cases(config)
    ]


def exact_loss(targets: tuple[float, ...], probs: Tensor) -> float:
    """E (b - t)^2 summed over the variables, with shape [V] for the probabilities of a one."""
    t = torch.tensor(targets, dtype=probs.dtype)
    return float((probs * (1 - t).square() + (1 - probs) * t.square()).sum())


def best_loss(targets: tuple[float, ...]) -> float:
    """The least of it."""
    return sum(min(t, 1 - t) ** 2 for t in targets)


def _loss(targets: tuple[float, ...], law: str) -> Callable[[Tensor], Tensor]:
    t = torch.tensor(targets)

    def of(points: Tensor) -> Tensor:
        # Of IGR-I the first category is the one; its points are those of the simplex.
        numbers = points[..., 0] if law == "igr" else points
        return (numbers - t).square().sum(-1)

    return of


def _law(law: str, parameter: Tensor, temperature: float) -> Distribution:
    """With the same start for both: even odds."""
    if law == "igr":
        return InvertibleGaussian(parameter.unsqueeze(-1), 1.0, temperature, validate_args=False)
    return RelaxedBernoulli(torch.tensor(temperature), logits=parameter, validate_args=False)


def _probs(law: str, parameter: Tensor) -> Tensor:
    if law == "igr":
        found: Tensor = torch.special.ndtr(parameter.double())
        return found
    return torch.sigmoid(parameter.double())


def _minimized(config: ToyConfig, problem: str, law: str, name: str, work: Work) -> Record:
    """Minimizes with every seed; losses, and variances beside those of the score function there."""
    runs = [_one_seed(config, problem, law, name, seed) for seed in config.seeds]
    return {
        "steps": config.readings,
        "losses": [run[0] for run in runs],
        "variances": [run[1] for run in runs],
        "score_variances": [run[2] for run in runs],
    }


def _one_seed(
    config: ToyConfig, problem: str, law: str, name: str, seed: int
) -> tuple[list[float], list[float], list[float]]:
    targets = PROBLEMS[problem]
    of = _loss(targets, law)
    parameter = torch.zeros(len(targets), requires_grad=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = MAKERS[name]()
        # Makes what is made at the first call.
        estimator.eval()(of, _law(law, parameter.detach(), config.temperature), estimator.least_samples)
        estimator.train()
    trained = [p for p in estimator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([parameter, *trained], lr=config.learning_rate)
    generator = keyed_generator(seed, f"toy/{problem}/{law}/{name}", 0)
    losses, variances, score_variances = [], [], []
    readings = set(config.readings)
    for step in range(config.num_iterations + 1):
        if step in readings:
            losses.append(exact_loss(targets, _probs(law, parameter.detach())))
            here = keyed_generator(seed, f"variance/{problem}/{law}/{name}", step)
            own, score = _variances(config, estimator, of, law, parameter.detach(), here)
            variances.append(own)
            score_variances.append(score)
        if step == config.num_iterations:
            break
        found = estimator(
            of, _law(law, parameter, config.temperature), estimator.least_samples, generator=generator
        )
        loss = found.loss if found.control_loss is None else found.loss + found.control_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, variances, score_variances


def _variances(
    config: ToyConfig,
    estimator: Estimator,
    of: Callable[[Tensor], Tensor],
    law: str,
    parameter: Tensor,
    generator: Generator,
) -> tuple[float, float]:
    """Of the estimator and of the plain score function, at these parameters, summed over variables."""
    distribution = _law(law, parameter, config.temperature)
    # The scale of IGR-I is not trained.
    chosen = ("loc",) if law == "igr" else None
    was_training = estimator.training
    found = []
    for one in (estimator.eval(), ScoreFunction()):
        moments = gradient_moments(
            one,
            of,
            distribution,
            one.least_samples,
            config.num_gradients,
            parameters=chosen,
            generator=generator,
        )
        found.append(float(moments.variance.sum()))
    estimator.train(was_training)
    return found[0], found[1]


def report(config: ToyConfig, findings: Findings) -> Report:
    """Tables of what was reached and with how much variance, and the curves."""
    return Report(
        tables=[_table(config, problem, findings.records) for problem in config.problems],
        pictures=[
            _picture(config, problem, law, findings.records)
            for problem in config.problems
            for law in config.laws
        ],
        about=_ABOUT.format(
            iterations=config.num_iterations,
            rate=config.learning_rate,
            temperature=config.temperature,
            seeds=len(config.seeds),
            gradients=config.num_gradients,
        ),
    )


_ABOUT = """The loss is the sum over the variables of (b - t)^2 with b binary; its expectation is minimized
over the law of b by {iterations:,} steps of Adam (learning rate {rate:g}, also for the estimators' own
parameters) from even odds, with {seeds} seeds. One estimate takes one sample, with leave one out two, and of
DisARM one pair. An estimator that is biased in a problem may settle at the wrong end. Relaxed points have the
temperature {temperature:g}, except those of REBAR and RELAX, which learn theirs, their coefficient and a
constant. That constant is no part of the control variate of the paper, which is that of REBAR without
constant; where a constant is all that is needed, as it nearly is with one variable, it is the constant that
wins. Losses are exact; variances are of {gradients:,} gradients each, beside those of the plain score
function at the same parameters, so that a ratio below one is what an estimator is worth. VIMCO is left out:
its objective is another one."""


def _at(config: ToyConfig) -> int:
    """The place of the compared step among the readings."""
    return config.readings.index(min(config.compared_at, config.num_iterations))


def _table(config: ToyConfig, problem: str, records: Mapping[str, Record]) -> Table:
    targets = PROBLEMS[problem]
    best, place = best_loss(targets), _at(config)
    # Within a hundredth of the way from the best law to even odds.
    near = best + 0.01 * (exact_loss(targets, torch.full((len(targets),), 0.5).double()) - best)
    rows: list[list[Cell]] = []
    for case in _cases(config):
        if case[0] != problem:
            continue
        record = records[".".join(case)]
        losses = torch.tensor(record["losses"])
        variances, score = torch.tensor(record["variances"]), torch.tensor(record["score_variances"])
        ratio = variances[:, place].mean() / score[:, place].mean()
        rows.append(
            [
                LAWS[case[1]],
                TITLES[case[2]],
                "yes" if _is_unbiased(case[2]) else "no",
                float(losses[:, -1].mean()),
                float((losses[:, -1] <= near).sum()),
                float(variances[:, place].mean()),
                float(ratio) if score[:, place].mean() > 0 else None,
            ]
        )
    return Table(
        name=problem,
        title=f"Targets {', '.join(f'{t:g}' for t in targets)}: the best loss is {best:g}",
        columns={
            "law": "",
            "estimator": "",
            "unbiased": "",
            "loss at the end": ".6f",
            f"seeds (of {len(config.seeds)}) that reach it": ".0f",
            f"variance at step {min(config.compared_at, config.num_iterations):,}": ".2e",
            "over the score function's": ".2e",
        },
        rows=rows,
        notes=[
            f"To reach it is to end within 1 % of the way from even odds: at a loss of at most {near:.6f}."
        ],
    )


def _is_unbiased(name: str) -> bool:
    unbiased: bool = MAKERS[name]().unbiased
    return unbiased


def _picture(config: ToyConfig, problem: str, law: str, records: Mapping[str, Record]) -> Picture:
    """Losses above and variances below, the two families of estimators side by side."""
    families = {
        title: [name for name in names if (problem, law, name) in _cases(config)]
        for title, names in FAMILIES.items()
    }
    families = {title: names for title, names in families.items() if names}
    figure, panels = plot.new_figure(6.2 * len(families), 8.0, 2 * len(families), 2)
    for column, (title, names) in enumerate(families.items()):
        for row, (key, ylabel, log_scale) in enumerate(
            (("losses", "expected loss", False), ("variances", "variance of the gradient", True))
        ):
            bands = []
            read = {name: torch.tensor(records[f"{problem}.{law}.{name}"][key]) for name in names}
            if log_scale:
                # A variance of which nothing was seen has no place on the axis but its lower edge.
                least = min(
                    (float(values[values > 0].min()) for values in read.values() if (values > 0).any()),
                    default=1.0,
                )
                read = {name: values.clamp_min(least) for name, values in read.items()}
            for name, values in read.items():
                record = records[f"{problem}.{law}.{name}"]
                bands.append(
                    Band(
                        TITLES[name],
                        record["steps"],
                        values.amin(0).tolist(),
                        values.quantile(0.5, dim=0).tolist(),
                        values.amax(0).tolist(),
                    )
                )
            axes = panels[row * len(families) + column]
            plot.quantile_bands(axes, bands, xlabel="step", ylabel=ylabel, columns=2)
            if log_scale:
                axes.set_yscale("log")
            else:
                axes.axhline(best_loss(PROBLEMS[problem]), color=plot.GREY, linestyle=":", linewidth=1)
            axes.set_title(f"{title}: {ylabel}", fontsize=10)
    targets = ", ".join(f"{t:g}" for t in PROBLEMS[problem])
    return Picture(
        name=f"{problem}-{law}",
        caption=(
            f"{LAWS[law]}, targets {targets}: the median over the seeds, and all of them in the band. The "
            "dotted line is the best loss. Variances that were measured as zero stand at the least of the "
            "others."
        ),
        figure=figure,
    )


STUDY = Study(
    name="toy",
    summary="gradient estimators on toy problems: what they reach, and their variance",
    config=ToyConfig,
    small=ToyConfig(num_iterations=3000, seeds=(5328, 5945, 8965), num_readings=30),
    smoke=ToyConfig(
        problems=("close",), num_iterations=20, seeds=(5328, 5945), num_readings=4, num_gradients=20
    ),
    items=items,
    report=report,
)
