"""Grids as users write them: from JSON or flags to configs, and from those to groups."""

import dataclasses
import itertools
import json
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from igr.errors import UserError, cut, shown, unknown_name
from igr.evaluation.selection import TRIED
from igr.sweeps.group import Group, label, varying
from igr.training.config import TrainConfig
from igr.training.run_config import RunConfig

# More runs than any sweep has; the combinations of a few long lists are more than any memory holds.
MOST = 2_000

# Values by the names of settings: one value or a list of them.
Grid = Mapping[str, Any]

_ADVICE = "write it as a JSON object, or a list of these"


def read_grid(path: Path) -> Grid | list[Grid]:
    """Reads a file with a grid, or a list of grids.

    Raises:
        UserError: The file cannot be read, or is no JSON. What is in it is checked by :func:`expand`.
    """
    try:
        grid: Grid | list[Grid] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"expected a grid in a JSON file at {path}; got {cut(error)}; {_ADVICE}") from error
    return grid


def expand(
    grid: Grid | Sequence[Grid],
    base: RunConfig | None = None,
    *,
    flags: Grid | None = None,
    small: bool = False,
) -> list[RunConfig]:
    """All combinations of the values in a grid, or in any of several, as resolved configs.

    Arguments:
        grid: Settings by name, each with one value or a list of values, in which each combination is a
            config; or a sequence of such grids, of which each config is taken once. A setting whose values
            are lists has one where there is a list, and several where there is a list of lists.
        base: Where all other settings come from; ``None`` takes the defaults of a VAE.
        flags: Settings that replace those of every grid.
        small: Make every config small, see :meth:`igr.training.run_config.RunConfig.small`; ``flags`` win
            over that.

    Raises:
        UserError: A grid is none, a name or a value in it cannot be used, or a combination cannot be
            trained.
    """
    base = TrainConfig() if base is None else base
    flags = {} if flags is None else flags
    grids = [grid] if not isinstance(grid, Sequence) or isinstance(grid, str) else grid
    if not grids:
        raise UserError(f"expected at least one grid; got an empty list; {_ADVICE}")
    flag_axes = _axes(flags, base)
    if len(grids) > MOST:
        raise UserError(f"expected at most {MOST:,} grids; got {len(grids):,}; leave some out")
    found: dict[RunConfig, None] = {}
    for one in grids:
        axes = {key: values for key, values in _axes(one, base).items() if key not in flags}
        _check_count(len(found) + _count(axes) * _count(flag_axes))
        names = [*axes, *flag_axes]
        seen: dict[RunConfig, str] = {}
        # Two that differ in what smoke sets are one and the same afterwards.
        starts = dict.fromkeys(config.small() if small else config for config in _product(axes, base))
        for config in itertools.chain.from_iterable(_product(flag_axes, start) for start in starts):
            combination = _in_words(config, names)
            resolved = _resolved(config, combination, len(starts) * _count(flag_axes) > 1)
            if resolved in seen:
                raise UserError(
                    f"expected combinations that differ; got {seen[resolved]} and {combination}, which is "
                    "the same with every open setting filled in; leave one out"
                )
            seen[resolved] = combination
        found |= dict.fromkeys(seen)
    return list(found)


def groups_of(configs: Sequence[RunConfig], *, tune_all: bool = True) -> list[Group]:
    """The groups that configs make: equal ones but for the seed and what is tuned.

    Arguments:
        configs: Different resolved configs.
        tune_all: Run each of them; otherwise only the best of a group with more than the first seed.

    Raises:
        UserError: Configs of one group do not all come with the same seeds.
    """
    rows: dict[RunConfig, list[RunConfig]] = {}
    for config in configs:
        open_fields: dict[str, Any] = {name: None for name in TRIED if hasattr(config, name)} | {"seed": 0}
        rows.setdefault(dataclasses.replace(config, **open_fields), []).append(config)
    keys = _keys([*rows])
    return [_group(key, row, tune_all) for key, row in zip(keys, rows.values(), strict=True)]


def _axes(grid: object, base: RunConfig) -> dict[str, list[Any]]:
    """The values of each setting of a grid, checked one by one."""
    if not isinstance(grid, Mapping):
        raise UserError(f"expected a grid of settings by name; got {shown(grid)}; {_ADVICE}")
    names, hints = base.setting_names(), get_type_hints(type(base))
    axes: dict[str, list[Any]] = {}
    for key, given in grid.items():
        if key == "model":
            raise UserError(
                f"expected settings in a grid; got model, of which there is one for all; give it as --model "
                f"{cut(given, 80) if isinstance(given, str) else 'NAME'}"
            )
        if key not in names:
            raise unknown_name("each key of a grid", key, names)
        values = given if _is_axis(given, hints[key]) else [given]
        # Before so many values are looked at.
        _check_count(len(values) * _count(axes))
        typed = [getattr(type(base).from_json({key: value}, base), key) for value in values]
        if not typed:
            raise UserError(
                f"expected at least one value of {key}; got an empty list; write one, or leave {key} out"
            )
        counts = Counter(typed)
        twice = next((value for value in typed if counts[value] > 1), None)
        if len(counts) < len(typed):
            raise UserError(
                f"expected different values of {key}; got {cut(json.dumps(twice), 80)} twice; write it once"
            )
        axes[key] = typed
    return axes


def _check_count(count: int) -> None:
    if count > MOST:
        raise UserError(
            f"expected at most {MOST:,} combinations in a grid; got {shown(count)} or more; make several "
            "sweeps of them"
        )


def _is_axis(given: object, hint: Any) -> bool:
    """Whether these are several values of a setting and not one that is itself a list."""
    if not isinstance(given, list):
        return False
    return not takes_lists(hint) or any(isinstance(value, list) for value in given)


def takes_lists(hint: Any) -> bool:
    """Whether one value of a setting of this type is a list."""
    members = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    return any(get_origin(member) is tuple for member in members)


def _product(axes: Mapping[str, Sequence[Any]], base: RunConfig) -> Iterator[RunConfig]:
    for values in itertools.product(*axes.values()):
        yield dataclasses.replace(base, **dict(zip(axes, values, strict=True)))


def _count(axes: Mapping[str, Sequence[Any]]) -> int:
    count = 1
    for values in axes.values():
        count *= len(values)
    return count


def _resolved(config: RunConfig, combination: str, is_one_of_several: bool) -> RunConfig:
    try:
        return config.resolved()
    except UserError as error:
        if not is_one_of_several:
            raise
        raise UserError(
            f"in the combination {combination}, which a list of grids can leave out: {error}"
        ) from error


def _in_words(config: RunConfig, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {cut(json.dumps(getattr(config, name)).strip(chr(34)), 80)}" for name in names)


def _group(key: str, configs: Sequence[RunConfig], tune_all: bool) -> Group:
    seeds_of: dict[RunConfig, list[int]] = {}
    for config in configs:
        seeds_of.setdefault(dataclasses.replace(config, seed=configs[0].seed), []).append(config.seed)
    candidates = [*seeds_of]
    first = seeds_of[candidates[0]]
    for candidate, seeds in seeds_of.items():
        if set(seeds) != set(first):
            tuned = ", ".join(f"{name} {getattr(candidate, name)}" for name in varying(candidates))
            raise UserError(
                f"expected the same seeds for all candidates of a group; got {' '.join(map(str, first))} "
                f"and, for {tuned}, {' '.join(map(str, seeds))}; give them the same"
            )
    return Group(key, tuple(candidates), tuple(first), tune_all)


def _keys(rows: Sequence[RunConfig]) -> list[str]:
    """A name for each config, of the few settings that tell them apart."""
    names = ["latent"]
    told = len({_values(row, names) for row in rows})
    for name in rows[0].setting_names():
        # Others follow from these, as the scale does from the latent.
        if told < len(rows) and (with_it := len({_values(row, [*names, name]) for row in rows})) > told:
            names.append(name)
            told = with_it
    if len({row.latent for row in rows}) == 1 and len(names) > 1:
        names.remove("latent")
    keys: list[str] = []
    for row in rows:
        values = {name: value for name in names if (value := getattr(row, name)) is not None}
        parts = [value if isinstance(value, str) else label(name, value) for name, value in values.items()]
        key = re.sub(r"[^a-z0-9._-]+", "-", "-".join(parts).lower()).strip("-._")
        # Letters that a folder may not have can be all that tells two apart.
        keys.append(key if key and key not in keys else f"{key or 'group'}-{len(keys)}")
    return keys


def _values(row: RunConfig, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in names)
