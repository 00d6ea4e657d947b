"""The runs of a comparison, as they are read from their folders."""

import csv
import hashlib
import io
import shlex
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from igr.errors import UserError, shown
from igr.evaluation.bounds import BOUND_KINDS, BoundKind
from igr.evaluation.evaluation import RECORDS, Evaluation, stored_evaluation
from igr.evaluation.records import read_number
from igr.training.config import TrainConfig
from igr.training.run_config import RunConfig
from igr.training.run_folder import RunFolder, is_exported, read_json

# Where two runs differ in one of these, their figures are of different things.
WHAT_WAS_MEASURED = (
    "data",
    "likelihood",
    "binarization",
    "image_shape",
    "split",
    "num_data",
    "num_samples",
)
# Settings of a run that cannot change what its figures mean.
IRRELEVANT = frozenset(
    {
        "data_dir",
        "device",
        "tensorboard",
        "track_gradients",
        "eval_every",
        "checkpoint_every",
        "num_eval_samples",
    }
)
# Nats per image below which a latent is said to have collapsed.
SILENT = 0.1
# The file that makes a folder that of a sweep.
SWEEP = "sweep.json"
CONFIG = "config.json"
# Of many runs that a sentence is about, so many are named.
MOST_NAMED = 3


@dataclass(frozen=True)
class ComparedRun:
    """A run as it enters a comparison.

    Attributes:
        name: What it is called.
        config: Its settings.
        evaluation: Its evaluation on the split that is compared; ``None`` where it has none yet.
        metrics: The lines of its ``metrics.jsonl``.
        validation: Its evaluation on the validation split, by which settings are chosen; ``None`` where
            it has none yet.
        path: Its folder, if there is one.
        split: The split that is compared.
    """

    name: str
    config: RunConfig
    evaluation: Evaluation | None
    metrics: list[dict[str, Any]]
    validation: Evaluation | None = None
    path: Path | None = None
    split: str = "test"

    @property
    def measured(self) -> Evaluation:
        """The evaluation that is compared.

        Raises:
            UserError: There is none yet.
        """
        if self.evaluation is None:
            raise UserError(
                f"expected a run whose latest checkpoint was evaluated; got {self.name}; "
                f"run {self.evaluation_command(self.split)}"
            )
        return self.evaluation

    def setting(self, field: str) -> Any:
        """A field of the evaluation or of the config."""
        source = self.measured if hasattr(self.measured, field) else self.config
        return getattr(source, field)

    def curve(self, key: str) -> list[tuple[int, float]]:
        """A figure of ``metrics.jsonl`` as pairs of epoch and value, where it was measured.

        Raises:
            UserError: A line does not have it, or has something that is no number.
        """
        for line in self.metrics:
            if type(line.get("epoch")) is not int or not _is_figure(line.get(key, "")):
                raise UserError(
                    f"expected an epoch and a finite {key} on each line of the metrics.jsonl of "
                    f"{self.name}; got {shown(line)}; restore the file, or leave the run out"
                )
        return [(line["epoch"], line[key]) for line in self.metrics if line[key] is not None]

    def evaluation_command(self, split: str) -> str:
        """The command that evaluates it on a split."""
        more = "" if split == "test" else f" --split {split}"
        return f"igr evaluate {shlex.quote(str(self.path or self.name))}{more}"


def read_runs(paths: Sequence[Path], split: str = "test") -> list[ComparedRun]:
    """Read runs with the evaluations that are stored beside them.

    Arguments:
        paths: Folders of runs, or folders with runs anywhere below them, which are all taken, sorted, but
            for :func:`failed_runs`. Studies and exported models among them are passed over.
        split: The split whose evaluation is compared, ``"test"`` or ``"validation"``.

    Raises:
        UserError: A folder is no run and has none below it, a run is named twice, runs are of different
            kinds of models, or something in a folder cannot be read.
    """
    if not paths:
        raise UserError("expected at least one run folder; got none; name the runs to compare")
    failed = set(failed_runs(paths))
    found = [run for path in paths for run in _runs_below(path) if run not in failed]
    resolved = [path.resolve() for path in found]
    seen: set[Path] = set()
    for path, real in zip(found, resolved, strict=True):
        if real in seen:
            raise UserError(f"expected every run once; got {path} twice; name it only once")
        seen.add(real)
    folders = [RunFolder(path) for path in found]
    runs = [
        ComparedRun(
            name=name,
            config=_with_prior_by_content(folder.config()),
            evaluation=stored_evaluation(folder, split),
            metrics=folder.metrics(),
            validation=stored_evaluation(folder, "validation"),
            path=folder.path,
            split=split,
        )
        for name, folder in zip(_names(resolved), folders, strict=True)
    ]
    for run in runs[1:]:
        if run.config.model != runs[0].config.model:
            raise UserError(
                f"expected runs of one kind of model; got {runs[0].name} ({runs[0].config.model}) and "
                f"{run.name} ({run.config.model}), whose figures are of different things; compare them apart"
            )
    return runs


def failed_runs(paths: Sequence[Path]) -> list[Path]:
    """The runs of sweeps below these folders that failed or have not finished, while others were evaluated.

    They are left out of a comparison.
    """
    failed = []
    for path in paths:
        found = [run for run in _runs_below(path) if run != path and _is_in_sweep(run)]
        evaluated = [run for run in found if any(key in RunFolder(run).result() for key in RECORDS.values())]
        if evaluated:
            failed += [run for run in found if run not in evaluated]
    return failed


def check_evaluated(runs: Sequence[ComparedRun]) -> None:
    """Checks that every run was evaluated on the split that is compared.

    Raises:
        UserError: Some were not; it says by which commands they are.
    """
    missing = [run for run in runs if run.evaluation is None]
    if missing:
        raise UserError(
            f"expected runs whose latest checkpoint was evaluated; got {len(missing)} of "
            f"{len(runs)} that still have to be; run {commands(missing, missing[0].split)}"
        )


def commands(runs: Sequence[ComparedRun], split: str) -> str:
    """The commands that evaluate the runs, of many runs the first ones."""
    named = " && ".join(run.evaluation_command(split) for run in runs[:MOST_NAMED])
    left = len(runs) - MOST_NAMED
    return named if left <= 0 else f"{named}, and so on for the other {left}"


def differing_settings(configs: Sequence[RunConfig], ignored: Collection[str]) -> list[str]:
    """The settings that tell resolved configs apart, in the order of the config.

    Where each config has what is the default with its latent and its KL, a setting tells no more than
    these do, and is left out. So is what cannot change the meaning of a figure.

    Arguments:
        configs: The configs, of one kind of model.
        ignored: Other settings to leave out.
    """
    defaults = [
        replace(type(config)(), **{name: getattr(config, name) for name in config.decisive}).resolved()
        for config in configs
    ]
    found = []
    for name in configs[0].setting_names():
        values, usual = ([getattr(config, name) for config in of] for of in (configs, defaults))
        if name in IRRELEVANT or name in ignored:
            continue
        told = name in configs[0].decisive or values != usual
        if told and any(value != values[0] for value in values):
            found.append(name)
    return found


def runs_to_csv(runs: Sequence[ComparedRun]) -> str:
    """One line for each run: settings, figures and standard errors, unrounded.

    The bounds on the validation split are there too if any run has them.
    """
    with_validation = any(run.validation is not None for run in runs)
    return to_csv([_flat(run, with_validation) for run in runs])


def name_of_bound(kind: BoundKind, config: RunConfig) -> str:
    """What a kind of bound is called of models of the kind that a config is of."""
    return config.bound_names.get(kind.key, kind.name)


def about_bounds(configs: Collection[RunConfig]) -> str:
    """What the kinds of bounds in a table are, for readers."""
    # All are of one kind of model.
    own = next(iter(configs)).about_bounds
    if own is not None:
        return own
    said = (
        "The relaxed ELBO bounds log p(x) of the relaxed model; the other three bound that of "
        "the discrete model. In expectation the importance-weighted (IW) bound by the exact q is "
        "the tightest of these; that over the pre-image can lie below the discrete ELBO."
    )
    if any(not config.has_categories for config in configs):
        said += (
            " A Gaussian latent is not relaxed: its ELBO stands with the relaxed ones, its IW bound, by the "
            "exact density, with those by the exact q, and both bound log p(x) of its own model."
        )
    return said


def about_silent(names: Sequence[str], configs: Collection[RunConfig]) -> str:
    """What is said of runs whose discrete posterior is close to the prior.

    Arguments:
        names: What they are called.
        configs: Their configs.
    """
    named = "; ".join(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        named += f"; and {len(names) - MOST_NAMED} more"
    said = (
        f"Collapsed: in {named} the discrete posterior is within {SILENT} nats of the prior, so "
        "the categorical latent says next to nothing about the image"
    )
    beside = any(isinstance(config, TrainConfig) and config.continuous_dim for config in configs)
    return f"{said}, whatever the Gaussian one beside it says." if beside else f"{said}."


def to_csv(records: Sequence[dict[str, Any]]) -> str:
    """Records with the same keys, below a line of these keys."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def _flat(run: ComparedRun, with_validation: bool) -> dict[str, Any]:
    record = {"run": run.name, **asdict(run.config)}
    # Prefixed, because the config has a seed and numbers of samples of its own.
    record |= {
        f"evaluation_{field}": getattr(run.evaluation, field, None)
        for field in ("split", "num_data", "num_samples", "seed", "step", "epoch")
    }
    record |= _flat_bounds(run.evaluation)
    kl = None if run.evaluation is None else run.evaluation.discrete_kl
    record["discrete_kl"] = None if kl is None else kl.value
    if with_validation:
        record |= {f"validation_{key}": value for key, value in _flat_bounds(run.validation).items()}
    return record


def _flat_bounds(evaluation: Evaluation | None) -> dict[str, float | None]:
    record = {}
    for kind in BOUND_KINDS:
        figure = None if evaluation is None else evaluation.bounds[kind.key]
        record[kind.key] = None if figure is None else figure.value
        record[f"{kind.key}_standard_error"] = None if figure is None else figure.standard_error
    return record


def _is_figure(value: object) -> bool:
    """Whether it is what a figure of ``metrics.jsonl`` may be: finite, or ``None``."""
    if value is None:
        return True
    try:
        read_number(value)
    except TypeError:
        return False
    return True


def _runs_below(path: Path) -> list[Path]:
    """The folder itself if it is that of a run, or else all runs below it."""
    if not path.is_dir():
        # Its own sentence is said when the folder is read.
        return [path]
    configs = [config for config in path.rglob(CONFIG) if _is_of_run(config)]
    # What holds runs is no run, whatever its config.json is of.
    above = {folder for config in configs for folder in config.parent.parents}
    found = sorted(config.parent for config in configs if config.parent not in above)
    if not found:
        if (path / CONFIG).is_file() and is_exported(read_json(path / CONFIG)):
            return [path]
        raise UserError(
            f"expected the folder of a run, or one with runs below it; got {path}, which has no run; "
            "name a folder that igr train wrote, or one that holds such folders"
        )
    return found


def _is_of_run(config: Path) -> bool:
    record = read_json(config)
    return "study" not in record and not is_exported(record)


def _is_in_sweep(run: Path) -> bool:
    return any((folder / SWEEP).is_file() for folder in run.parents)


def _with_prior_by_content(config: RunConfig) -> RunConfig:
    """The config with what its prior is in place of where the run keeps its copy."""
    if not isinstance(config, TrainConfig) or config.prior is None:
        return config
    digest = hashlib.sha256(Path(config.prior).read_bytes()).hexdigest()
    return replace(config, prior=f"sha256 {digest[:12]}")


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]
