"""What a sweep consists of: groups of configs, and the runs that they make."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from igr.errors import shown
from igr.training.run_config import RunConfig

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")
# Fields with a short form in names of runs, where most are written out.
_SHORT = {"learning_rate": "lr"}


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        group: The key of its group.
        candidate: The position of its config among the candidates of the group.
        config: What is trained, the seed included.
        name: The name of its folder, unique within the group.
    """

    group: str
    candidate: int
    config: RunConfig
    name: str

    @property
    def path(self) -> Path:
        """Its folder, seen from that of the sweep."""
        return Path(self.group) / self.name


@dataclass(frozen=True)
class Group:
    """What is tuned and repeated: one row of a table.

    Attributes:
        key: Its name, of small letters, digits and ``. _ -``; also that of its folder.
        candidates: Resolved configs, of which one is chosen; all have the first of the seeds.
        seeds: The seeds that the chosen one is run with. The first is the one it is chosen with.
        tune_all: Run every candidate with every seed, and choose by the mean over them.
        tested: Whether the runs of the chosen one are evaluated on the test split.

    Raises:
        ValueError: The key is no such name, or the candidates or seeds are none, not different or do not
            fit one another.
    """

    key: str
    candidates: tuple[RunConfig, ...]
    seeds: tuple[int, ...]
    tune_all: bool = False
    tested: bool = True

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(
                f"Group: expected a key of small letters, digits and . _ -; got {shown(self.key)}; change it."
            )
        for what, values in (("candidates", self.candidates), ("seeds", self.seeds)):
            if not values or len({*values}) < len(values):
                raise ValueError(
                    f"Group: expected different {what}, at least one; got {shown(values)}; change those of "
                    f"{self.key}."
                )
        if min(self.seeds) < 0:
            raise ValueError(
                f"Group: expected seeds of at least 0; got {shown(self.seeds)}; change those of {self.key}."
            )
        for candidate in self.candidates:
            if candidate.resolved() != candidate or candidate.seed != self.seeds[0]:
                raise ValueError(
                    f"Group: expected resolved candidates with the seed {self.seeds[0]}; got "
                    f"{shown(candidate)}; change it in {self.key}."
                )

    @property
    def is_tuned(self) -> bool:
        """Whether there is something to choose."""
        return len(self.candidates) > 1

    @property
    def tuning_runs(self) -> list[Run]:
        """The runs by which a candidate is chosen; none where there is only one."""
        if not self.is_tuned:
            return []
        seeds = self.seeds if self.tune_all else self.seeds[:1]
        return [self.run(number, seed) for number in range(len(self.candidates)) for seed in seeds]

    @property
    def num_runs(self) -> int:
        """How many runs there are once a candidate is chosen."""
        count = len(self.candidates)
        return count * len(self.seeds) if self.tune_all else count + len(self.seeds) - 1

    def runs_of(self, candidate: int) -> list[Run]:
        """The runs of one candidate, one for each seed."""
        return [self.run(candidate, seed) for seed in self.seeds]

    def run(self, candidate: int, seed: int) -> Run:
        """The run of one candidate with one seed."""
        config = dataclasses.replace(self.candidates[candidate], seed=seed)
        return Run(self.key, candidate, config, config.run_name + self._endings[candidate])

    @cached_property
    def _endings(self) -> tuple[str, ...]:
        """What follows the name of a config, so that those of all candidates differ."""
        alike = Counter(config.run_name for config in self.candidates)
        endings = []
        for config in self.candidates:
            same = [other for other in self.candidates if other.run_name == config.run_name]
            endings.append(_ending(config, same) if alike[config.run_name] > 1 else "")
        return tuple(endings)


def varying(configs: Sequence[RunConfig]) -> list[str]:
    """The fields in which configs differ."""
    names = configs[0].setting_names()
    return [name for name in names if len({getattr(config, name) for config in configs}) > 1]


def label(field: str, value: object) -> str:
    """A setting as a part of a name: lr0.0003, batch-size50."""
    parts = value if isinstance(value, tuple) else (value,)
    return _SHORT.get(field, field.replace("_", "-")) + "-".join(map(str, parts))


def _ending(config: RunConfig, alike: Sequence[RunConfig]) -> str:
    labels = [label(field, getattr(config, field)) for field in varying(alike)]
    return "".join(f"-{re.sub(r'[^A-Za-z0-9.+_-]+', '-', text)}" for text in labels)
