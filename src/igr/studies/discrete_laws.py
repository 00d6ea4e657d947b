"""Which relaxation can have which discrete law: fits of every family to laws finite and countable."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Binomial, Distribution, Geometric, NegativeBinomial, Poisson

from igr import plot
from igr.errors import UserError
from igr.fitting import Fit, fit
from igr.fitting.families import FAMILIES
from igr.studies.report import Cell, Picture, Report, Table
from igr.studies.study import Findings, Item, Record, Study, StudyConfig, Work

TEN = (10, 1, 5, 1, 10, 10, 1, 6, 1, 1)


@dataclass(frozen=True)
class Law:
    """A target.

    Attributes:
        title: What it is.
        law: It.
        is_countable: Whether it has infinitely many categories, so that Gumbel-Softmax has to cut it.
    """

    title: str
    law: Tensor | Distribution
    is_countable: bool = False


def _double(*numbers: float) -> Tensor:
    # In float32 0.3 is another number, and the law another one from the eighth digit on.
    return torch.tensor(numbers if len(numbers) > 1 else numbers[0], dtype=torch.float64)


def _shares(*weights: float) -> Tensor:
    weight = _double(*weights)
    return weight / weight.sum()


TARGETS = {
    "ten-categories": Law(f"{TEN} / 46", _shares(*TEN)),
    "binomial": Law("Binomial(12, 0.3)", Binomial(12, _double(0.3))),
    "poisson": Law("Poisson(50)", Poisson(_double(50.0)), True),
    "negative-binomial": Law("NegativeBinomial(50, 0.6)", NegativeBinomial(50, _double(0.6)), True),
    "uniform": Law("uniform on 0 to 9", _shares(*[1.0] * 10)),
    "geometric": Law("Geometric(0.4) from 0 on", Geometric(_double(0.4)), True),
    "uniform-mixture": Law(
        "uniform on 0 to 10 (mass 0.9) and on 11 to 25 (mass 0.1)",
        _shares(*[0.9 / 11] * 11, *[0.1 / 15] * 15),
    ),
}
# By the exact law; no such law is known of igr-planar.
EXACT = ("gumbel-softmax", "igr", "igr-sb", "igr-sb-log")
RELAXED = ("gumbel-softmax", "igr", "igr-planar", "igr-sb", "igr-sb-log")
# What the original minimizes.
OBJECTIVES = {"gumbel-softmax": "kl"}
OBJECTIVE = "squared_error"


@dataclass(frozen=True)
class DiscreteLawsConfig(StudyConfig):
    """How the laws are fitted."""

    targets: tuple[str, ...] = tuple(TARGETS)
    """The targets."""

    gumbel_categories: tuple[int, ...] = (20, 40, 100)
    """Categories of Gumbel-Softmax where the target has infinitely many."""

    scale: float = 1.0
    """The scale of the Gaussians; where the original's objective is minimized, at the start."""

    num_iterations: int = 200
    """Steps of Adam on the original's objective."""

    num_samples: int = 10_000
    """Relaxed samples of each step."""

    learning_rate: float = 0.01
    """The learning rate of Adam."""

    gumbel_temperature: float = 0.1
    """The temperature of Gumbel-Softmax in the original's objective."""

    temperature: float = 0.01
    """The temperature of the other families there."""

    tail_mass: float = 1e-6
    """How much of a law with infinitely many categories may be cut off, but for Gumbel-Softmax."""

    def check(self) -> None:
        super().check()
        known = {*self.targets} <= {*TARGETS} and len({*self.targets}) == len(self.targets)
        self.require("targets", bool(self.targets) and known, f"some of {', '.join(TARGETS)}, each once")
        least = min(self.gumbel_categories, default=0)
        distinct = len({*self.gumbel_categories}) == len(self.gumbel_categories)
        self.require("gumbel_categories", least >= 2 and distinct, "different whole numbers of at least 2")
        for name in ("num_iterations", "num_samples"):
            self.require(name, getattr(self, name) >= 1, "a whole number of at least 1")
        # Below that the law of so many sticks is not known.
        self.require("scale", 0.1 <= self.scale < math.inf, "a finite number of at least 0.1")
        for name in ("learning_rate", "gumbel_temperature", "temperature"):
            self.require(name, 0 < getattr(self, name) < math.inf, "a finite number above 0")
        self.require("tail_mass", 0 < self.tail_mass < 1, "a number between 0 and 1")


@dataclass(frozen=True)
class _Task:
    """One fit."""

    target: str
    family: str
    relaxed: bool
    num_categories: int | None = None

    @property
    def key(self) -> str:
        """The name of its record."""
        count = [] if self.num_categories is None else [str(self.num_categories)]
        return ".".join([self.target, self.family, *count, "relaxed" if self.relaxed else "exact"])

    @property
    def label(self) -> str:
        """The family as it stands in tables and figures."""
        title = FAMILIES[self.family].title
        return title if self.num_categories is None else f"{title}, K = {self.num_categories}"


def _tasks(config: DiscreteLawsConfig) -> list[_Task]:
    tasks = []
    for target in config.targets:
        for relaxed, families in ((False, EXACT), (True, RELAXED)):
            for family in families:
                cut = family == "gumbel-softmax" and TARGETS[target].is_countable
                counts: tuple[int | None, ...] = tuple(config.gumbel_categories) if cut else (None,)
                tasks += [_Task(target, family, relaxed, count) for count in counts]
    return tasks


def items(config: DiscreteLawsConfig) -> list[Item]:
    """One for each target, family and objective."""
    return [Item(task.key, partial(_fit, config, task)) for task in _tasks(config)]


def _fit(config: DiscreteLawsConfig, task: _Task, work: Work) -> Record:
    try:
        found = _found(config, task, work)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"expected settings with which {task.key} can be fitted; got {error}") from error
    tail = found.tail.item()
    return {
        "method": found.method,
        "objective": found.objective,
        "num_categories": found.num_categories,
        # The law itself on the categories, not normalized over them.
        "target": ((1.0 - tail) * found.target.probs).tolist(),
        "tail": tail,
        "start": found.start_probs.tolist(),
        "law": found.probs.tolist(),
        "num_draws": found.num_draws,
        "history": found.history.tolist(),
        "kl": found.kl.item(),
        "total_variation": found.total_variation.item(),
        "largest_scale": None if task.family == "gumbel-softmax" else found.parameters["scale"].max().item(),
        "num_iterations": found.num_iterations,
        "converged": bool(found.converged),
        "seconds": found.seconds,
    }


def _found(config: DiscreteLawsConfig, task: _Task, work: Work) -> Fit:
    gumbel = task.family == "gumbel-softmax"
    return fit(
        TARGETS[task.target].law,
        task.family,
        num_categories=task.num_categories,
        scale=None if gumbel else config.scale,
        objective=OBJECTIVES.get(task.family, OBJECTIVE) if task.relaxed else "kl",
        method="relaxed" if task.relaxed else None,
        temperature=(config.gumbel_temperature if gumbel else config.temperature) if task.relaxed else None,
        num_samples=config.num_samples if task.relaxed else None,
        num_iterations=config.num_iterations if task.relaxed else None,
        learning_rate=config.learning_rate if task.relaxed else None,
        tail_mass=config.tail_mass,
        generator=work.generator,
    )


def report(config: DiscreteLawsConfig, findings: Findings) -> Report:
    """Total variations side by side, every fit in full, laws before and after, and losses."""
    records = findings.records
    tasks = _tasks(config)
    drawn = [task for task in tasks if records[task.key]["method"] != "closed_form"]
    pictures = []
    for target in config.targets:
        own = [task for task in drawn if task.target == target]
        pictures += [_histograms(own, records), _losses(own, records)]
    return Report(
        tables=[
            _variations("exact", "by the exact law", [task for task in tasks if not task.relaxed], records),
            _variations(
                "relaxed", "by the original's objective", [task for task in tasks if task.relaxed], records
            ),
            _details(tasks, records),
        ],
        pictures=pictures,
        about=_ABOUT.format(
            tail=config.tail_mass,
            counts=", ".join(map(str, config.gumbel_categories)),
            samples=config.num_samples,
            iterations=config.num_iterations,
            gumbel=config.gumbel_temperature,
            igr=config.temperature,
            scale=config.scale,
        ),
    )


_ABOUT = """Each family is fitted to each target in up to two ways.

By the exact law: the discrete law of the relaxation, which it turns into at temperature zero, is set equal
to the target, without sampling and at no temperature. For IGR-I and IGR-SB that is Newton's method in the
means, at scale {scale:g}; for Gumbel-Softmax the logits are the log-probabilities. No exact law is known of
IGR-Planar.

By the original's objective: {iterations} steps of Adam on the distance of the target from the mean of
{samples:,} relaxed samples, in the means and scales (from {scale:g} on) or logits. For Gumbel-Softmax it is
the KL divergence from the target, at temperature {gumbel:g}; for the others the squared error, at
temperature {igr:g}. The law that is reported is not that mean but the discrete law, exact but for
IGR-Planar.

Where the target has infinitely many categories, those are kept beyond which less than {tail:g} of it lies.
Gumbel-Softmax has to choose their number K beforehand: {counts}. Total variation is that from the whole
target, what was cut off included: half the sum of all differences, from 0 to 1."""


def _variations(name: str, how: str, tasks: list[_Task], records: Mapping[str, Record]) -> Table:
    """Rows of targets, and a column for each family; where Gumbel-Softmax is cut, of the best K."""
    families = list(dict.fromkeys(task.family for task in tasks))
    rows: list[list[Cell]] = []
    for target in dict.fromkeys(task.target for task in tasks):
        row: list[Cell] = [target]
        for family in families:
            own = [task for task in tasks if (task.target, task.family) == (target, family)]
            row.append(min(records[task.key]["total_variation"] for task in own))
        rows.append(row)
    notes = ["Of a target with infinitely many categories that includes the tail that was cut off."]
    if any(task.num_categories is not None for task in tasks):
        notes.append("For Gumbel-Softmax with several K, the smallest; all are in the table of every fit.")
    if "igr-planar" in families:
        notes.append("That of IGR-Planar is estimated, which adds about half the sum of the standard errors.")
    return Table(
        name=f"total-variation-{name}",
        title=f"Total variation from the target, fitted {how}",
        columns={"target": "", **dict.fromkeys(families, ".1e")},
        rows=rows,
        notes=notes,
    )


def _details(tasks: list[_Task], records: Mapping[str, Record]) -> Table:
    rows: list[list[Cell]] = []
    for task in tasks:
        record = records[task.key]
        rows.append(
            [
                task.target,
                task.family,
                record["method"].replace("_", " "),
                record["num_categories"],
                record["total_variation"],
                record["kl"],
                record["tail"],
                record["largest_scale"],
                record["num_iterations"],
                record["seconds"],
            ]
        )
    lost = [task.key for task in tasks if not records[task.key]["converged"]]
    failed = [f"Not converged: {', '.join(lost)}."] if lost else []
    return Table(
        name="fits",
        title="Every fit",
        columns={
            "target": "",
            "family": "",
            "method": "",
            "K": "d",
            "total variation": ".1e",
            "KL (nats)": ".1e",
            "tail cut off": ".1e",
            "largest scale": ".3g",
            "iterations": "d",
            "seconds": ".2f",
        },
        rows=rows,
        notes=[
            "KL is that from the target, normalized over the K categories, to the law; the tail is the mass "
            "of the target outside of them.",
            *failed,
        ],
        in_terminal=False,
    )


def _histograms(tasks: list[_Task], records: Mapping[str, Record]) -> Picture:
    """A panel for each fit."""
    whole = max((records[task.key] for task in tasks if task.num_categories is None), key=_width)
    # Without the category of length space that never wins.
    target = whole["target"][: 1 + max(i for i, p in enumerate(whole["target"]) if p > 0)]
    columns = math.ceil(len(tasks) / 2)
    figure, panels = plot.new_figure(3.1 * columns, 6.2, 2 * columns, num_rows=2)
    for task, axes in zip(tasks, panels, strict=False):
        record = records[task.key]
        before, after = (_fitted_to(record[name], len(target)) for name in ("start", "law"))
        how = "original's objective" if task.relaxed else "exact law"
        plot.law_histogram(axes, target, before, after, title=f"{task.label}\n{how}", legend=False)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    tops = [axes.get_ylim()[1] for axes in panels[: len(tasks)]]
    highest = max((top for top in tops if top <= 2.0 * max(target)), default=2.0 * max(target))
    for axes in panels[: len(tasks)]:
        if axes.get_ylim()[1] <= highest:
            axes.set_ylim(0.0, highest)
            axes.label_outer(remove_inner_ticks=False)
        else:
            # A law that is cut far below the target is much higher.
            axes.set_title(f"{axes.get_title()}, own scale", fontsize=10)
            axes.set_ylabel("")
    plot.legend_below_all(figure, panels[0])
    name = tasks[0].target
    return Picture(
        name=f"laws-{name}",
        caption=(
            f"{TARGETS[name].title}: the target, and the discrete laws of the relaxations before and after "
            "they are fitted. By the exact law the fit starts from a formula; by the original's objective "
            "it starts from the uniform law."
        ),
        figure=figure,
    )


def _width(record: Record) -> int:
    return len(record["target"])


def _fitted_to(law: list[float], count: int) -> list[float]:
    """The law over so many categories; those that it has not have probability zero."""
    return [*law, *[0.0] * (count - len(law))][:count]


def _losses(tasks: list[_Task], records: Mapping[str, Record]) -> Picture:
    """Losses of the exact law, and of the two objectives of the original."""
    figure, panels = plot.new_figure(11, 4.6, 3)
    groups = (
        ("kl", False, "KL from the target (nats)", "exact law"),
        (OBJECTIVE, True, "squared error of the mean", "original's objective, IGR"),
        ("kl", True, "KL to the mean (nats)", "original's objective, Gumbel-Softmax"),
    )
    for axes, (objective, relaxed, ylabel, title) in zip(panels, groups, strict=True):
        chosen = [t for t in tasks if t.relaxed == relaxed and records[t.key]["objective"] == objective]
        histories = {task.label: records[task.key]["history"] for task in chosen}
        # The colour of a family is the same in both panels; the third has one family alone.
        places = [RELAXED.index(task.family) for task in chosen] if objective != "kl" or not relaxed else None
        plot.loss_curves(axes, histories, ylabel=ylabel, title=title, positions=places, columns=1)
    name = tasks[0].target
    return Picture(
        name=f"losses-{name}",
        caption=(
            f"{TARGETS[name].title}: what is minimized over the iterations: of the exact law by Newton's "
            "method, and of the mean of relaxed samples by Adam. Narrow sticks are reached from wider ones: "
            "their curve rises wherever the scale shrinks."
        ),
        figure=figure,
    )


STUDY = Study(
    name="discrete-laws",
    summary="which relaxation can have which discrete law: fits to finite and countable targets",
    config=DiscreteLawsConfig,
    smoke=DiscreteLawsConfig(
        targets=("ten-categories", "geometric"), num_iterations=20, num_samples=200, tail_mass=1e-3
    ),
    items=items,
    report=report,
)
