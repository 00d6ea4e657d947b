"""Repetitions and grids: which runs belong together, and which settings of theirs are chosen.

Runs that differ in their seed alone are repetitions. Runs that differ in temperature or learning rate
too are a grid, of which the best settings are chosen by the validation split, so that the test split
has no part in the choice.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from igr.errors import UserError
from igr.evaluation.bounds import (
    IMPORTANCE_WEIGHTED,
    PRE_IMAGE,
    RELAXED_ELBO,
    BoundKind,
    Estimate,
    estimate,
)
from igr.evaluation.compared_runs import IRRELEVANT, ComparedRun, commands
from igr.evaluation.evaluation import Evaluation
from igr.training.run_config import RunConfig

# The first that an evaluation has: the tightest on log p(x) of the discrete model, then the other that
# every law over a pre-image has, then the only one of laws without a discrete model.
PREFERRED = (IMPORTANCE_WEIGHTED, PRE_IMAGE, RELAXED_ELBO)

# What is tried for one row of a comparison.
TRIED = ("temperature", "prior_temperature", "learning_rate")


def selection_bound(evaluation: Evaluation) -> tuple[BoundKind, Estimate]:
    """The bound by which runs are chosen, and its figure.

    It is the importance-weighted bound by the exact q(d | x); where a law has none the one over the
    pre-image; and where there is no discrete model the relaxed ELBO.

    Arguments:
        evaluation: What a run was found to reach, on the validation split where something is chosen.

    Raises:
        ValueError: The evaluation holds none of them.
    """
    for kind in PREFERRED:
        figure = evaluation.bounds.get(kind.key)
        if figure is not None:
            return kind, figure
    raise ValueError(
        f"expected an evaluation with one of the bounds {', '.join(kind.name for kind in PREFERRED)}; "
        "got one with none of them; evaluate the run anew"
    )


@dataclass(frozen=True)
class Candidate:
    """Settings that were tried, with their repetitions.

    Attributes:
        temperature: Temperature of the posterior.
        prior_temperature: Temperature of the prior.
        learning_rate: Learning rate.
        runs: The runs, by ascending seed.
        validation: The mean of :func:`selection_bound` on the validation split over the seeds that all
            candidates of the group share, with its standard error over these; ``None`` where there is
            no other candidate.
    """

    temperature: float | None
    prior_temperature: float | None
    learning_rate: float
    runs: tuple[ComparedRun, ...]
    validation: Estimate | None = None


@dataclass(frozen=True)
class Choice:
    """What was tried for one row, and what was chosen.

    Attributes:
        candidates: All that was tried, by ascending temperatures and learning rate.
        chosen: The candidate with the highest validation figure; of equal ones the first.
        kind: The bound that the choice was made by; ``None`` where there was nothing to choose.
        seeds: The seeds that all candidates share, over which it was made.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    kind: BoundKind | None
    seeds: tuple[int, ...]


def grouped(runs: Iterable[ComparedRun]) -> list[list[ComparedRun]]:
    """The runs that differ only in seed, temperatures, learning rate and what changes no figure.

    Groups stand in the order of their first runs.
    """
    ignored = {"seed", *TRIED, *IRRELEVANT}
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        names = [field.name for field in fields(run.config) if field.name not in ignored]
        key = json.dumps([run.config.model, *(getattr(run.config, name) for name in names)], default=repr)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def choose(runs: Sequence[ComparedRun]) -> Choice:
    """Choose among the candidates of a group by the validation split.

    Arguments:
        runs: The runs of one group, see :func:`grouped`.

    Raises:
        UserError: Two runs have the same settings and seed, candidates share no seed, or their
            validation evaluations are missing or were not made alike.
    """
    candidates = _candidates(runs)
    seeds = sorted(set.intersection(*({run.config.seed for run in one.runs} for one in candidates)))
    if len(candidates) == 1:
        return Choice(tuple(candidates), candidates[0], None, tuple(seeds))
    if not seeds:
        tried = "; ".join(
            f"{', '.join(str(run.config.seed) for run in one.runs)} in {one.runs[0].name}"
            + (" and others" if len(one.runs) > 1 else "")
            for one in candidates
        )
        raise UserError(
            "expected at least one seed that all temperatures and learning rates tried have in common; "
            f"got the seeds {tried}; train the missing runs, or leave out those of other seeds"
        )
    shared = [[run for run in one.runs if run.config.seed in seeds] for one in candidates]
    kind = _kind_of_choice([run for of_one in shared for run in of_one])
    means = [
        over_seeds([run.validation.bounds[kind.key] for run in of_one if run.validation is not None])
        for of_one in shared
    ]
    measured = [replace(one, validation=mean) for one, mean in zip(candidates, means, strict=True)]
    chosen = max(measured, key=lambda one: -math.inf if one.validation is None else one.validation.value)
    return Choice(tuple(measured), chosen, kind, tuple(seeds))


def over_seeds(figures: Sequence[Estimate | None]) -> Estimate | None:
    """The mean of the figures of repetitions, with its standard error over them.

    It is ``None`` where one of them is; and the standard error is, where there is only one of them.
    """
    values = [figure.value for figure in figures if figure is not None]
    if len(values) < len(figures):
        return None
    return estimate(torch.tensor(values, dtype=torch.float64))


def _candidates(runs: Sequence[ComparedRun]) -> list[Candidate]:
    tried: dict[tuple[Any, ...], dict[int, ComparedRun]] = {}
    for run in runs:
        config = run.config
        repetitions = tried.setdefault(tried_of(config), {})
        if config.seed in repetitions:
            raise UserError(
                f"expected runs with different seeds where all else is the same; got "
                f"{repetitions[config.seed].name} and {run.name}, both with the seed {config.seed}; "
                "leave one of them out"
            )
        repetitions[config.seed] = run
    in_order = sorted(tried, key=_order)
    return [
        Candidate(
            **dict(zip(TRIED, one, strict=True)),
            runs=tuple(tried[one][seed] for seed in sorted(tried[one])),
        )
        for one in in_order
    ]


def tried_of(config: RunConfig) -> tuple[Any, ...]:
    """What a config has of the settings that are tried, ``None`` where its model has no such setting."""
    return tuple(getattr(config, setting, None) for setting in TRIED)


def order_of_trial(config: RunConfig) -> list[tuple[bool, float]]:
    """What the settings that are tried are sorted by: temperature, prior temperature, learning rate."""
    return _order(tried_of(config))


def _order(numbers: Sequence[float | None]) -> list[tuple[bool, float]]:
    # None where a law has no temperature, or its prior none of its own.
    return [(number is not None, number or 0.0) for number in numbers]


def _kind_of_choice(runs: Sequence[ComparedRun]) -> BoundKind:
    """The bound to choose by, once the validation evaluations are found to be there and alike."""
    missing = [run for run in runs if run.validation is None]
    if missing:
        raise UserError(
            "expected an evaluation on the validation split of every run among which a temperature or "
            f"learning rate is chosen; got {len(missing)} of {len(runs)} without one; run "
            f"{commands(missing, 'validation')}; or give every run a row of its own by --each"
        )
    evaluations = [run.validation for run in runs if run.validation is not None]
    kinds = [selection_bound(one)[0] for one in evaluations]
    # The name of the first run that was measured so.
    first: dict[str, str] = {}
    for run, one, kind in zip(runs, evaluations, kinds, strict=True):
        how = f"{one.num_data} images, {one.num_samples} samples, seed {one.seed}, {kind.name}"
        first.setdefault(how, run.name)
    if len(first) > 1:
        said = " and ".join(f"{how} in {name}" for how, name in first.items())
        raise UserError(
            f"expected runs to choose among that were evaluated alike on the validation split; got {said}; "
            "evaluate them anew by igr evaluate RUN --split validation with the same settings"
        )
    return kinds[0]
