"""``igr train``: one run, from a config or on from where it stopped."""

import dataclasses
import json
import os
import tempfile
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from igr.cli.arguments import CommonArguments, Flag, flag_value, parse, run
from igr.cli.terminal import quoted, say, watcher
from igr.errors import UserError
from igr.training import checkpoints, loop
from igr.training.kinds import CONFIGS, DEFAULT, config_class
from igr.training.processes import Processes, are_several, joined
from igr.training.run_config import RunConfig
from igr.training.run_folder import RECORD_KEYS, RunFolder, read_json
from igr.training.runs import load_run
from igr.training.stopping import stop_signals
from igr.training.watchers import objective_of


@dataclass(frozen=True)
class TrainArguments(CommonArguments):
    """Train one model and write its run folder."""

    out: Path | None = None
    """Folder of the new run; None: runs/ and a name made of the settings."""

    resume: Path | None = None
    """Go on with the run in this folder; settings that are given must agree with it, but for --data-dir."""

    config: Path | None = None
    """A JSON file of settings, or the config.json of a run; flags win over it."""

    smoke: Flag = False
    """A whole small experiment in seconds, evaluated too; without --out in a temporary folder."""

    model: str | None = None
    """What is trained: vae, sop (structured output prediction), or dlgmm (mixtures), each with settings of
    its own; None: vae, or what --config or --resume are of. `igr train --model sop --help` shows those
    of sop."""


def main(argv: list[str]) -> int:
    """Runs ``igr train`` and returns the exit code."""
    if not are_several():
        return run("train", _joined, argv)
    # Whoever has started them tells all to stop where one has died, and this one has to say so first.
    with stop_signals():
        return run("train", _joined, argv)


def _joined(argv: list[str]) -> int:
    """One process, or several that torchrun has started, of which the first one speaks."""
    with joined() as processes, ExitStack() as stack:
        if not processes.is_first:
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(silence))
            stack.enter_context(redirect_stderr(silence))
        return _train(argv, processes)


def _train(argv: list[str], processes: Processes) -> int:
    with processes.agreed():
        kind = config_class(_model(argv))
        arguments = parse(_arguments_class(kind), argv, "train")
    if arguments.resume is not None:
        result = _resume(arguments.resume, argv, arguments, processes)
        path = arguments.resume
    else:
        with processes.agreed():
            config = _new_config(argv, arguments, kind)
            if arguments.smoke and arguments.out is None and not processes.is_alone:
                raise UserError(
                    f"expected --out beside --smoke for {processes.count} processes, which need one folder; "
                    "got none; add it"
                )
        if arguments.smoke:
            # So small a run gains nothing from a second thread, and where other processes want the
            # cores the wait for it makes the quick check a slow one.
            torch.set_num_threads(1)
        path = _out(arguments, config)
        for warning in config.warnings():
            say(f"warning: {warning}")
        start = f"training {config.described} on {config.data}, {config.epochs} epochs, in {path}"
        result = loop.train(config, path, watcher(start))
        if arguments.smoke and processes.is_first:
            result = _evaluated(path)
    if not processes.is_first:
        return 0
    if arguments.json:
        print(json.dumps({"run": str(path), **result}, indent=2))
    else:
        _print_result(result)
    ending = "" if "evaluation" in result else f"; next: igr evaluate {quoted(path)}"
    say(f"trained in {result['training']['seconds']:.1f} s{ending}")
    return 0


def _evaluated(path: Path) -> dict[str, Any]:
    # matplotlib takes as long to import as everything else: only where pictures are drawn.
    from igr.cli.evaluate import evaluate_and_draw

    loaded = load_run(path)
    evaluate_and_draw(loaded)
    say(f"evaluated; pictures are in {loaded.folder.figures}")
    return loaded.folder.result()


def _model(argv: list[str]) -> str:
    """The kind of model that is meant, on which the other flags depend.

    Raises:
        UserError: What says it is of several kinds, or there is no run to go on with.
    """
    said: dict[str, str] = {}
    if (named := flag_value(argv, "--model", "train")) is not None:
        said["--model"] = named
    # What does not go together with --resume is said first of all.
    alone = not {"--out", "--smoke"} & {token.partition("=")[0] for token in argv}
    if (resumed := flag_value(argv, "--resume", "train")) and alone:
        said["--resume"] = RunFolder(resumed).config().model
    if (file := flag_value(argv, "--config", "train")) and Path(file).is_file():
        values = read_json(Path(file))
        settings = values.get("config")
        inner = settings.get("model") if isinstance(settings, dict) else None
        model = values.get("model", inner)
        if model is not None:
            said["--config"] = str(model)
        elif "torch" in values:
            # The config.json of a run of earlier versions, which knew no other.
            said["--config"] = DEFAULT
    if len({*said.values()}) > 1:
        told = " and ".join(f"{model} by {flag}" for flag, model in said.items())
        raise UserError(f"expected one kind of model; got {told}; leave out what is not meant")
    return next(iter(said.values()), DEFAULT)


def _arguments_class(kind: type[RunConfig]) -> Any:
    """The arguments with the settings of a kind of model."""
    settings: Any = tyro.conf.OmitArgPrefixes
    return dataclasses.make_dataclass(
        "TrainArguments",
        [("settings", settings[kind], dataclasses.field(default_factory=kind))],
        bases=(TrainArguments,),
        namespace={"__doc__": TrainArguments.__doc__},
        frozen=True,
    )


def _new_config(argv: list[str], arguments: TrainArguments, kind: type[RunConfig]) -> RunConfig:
    base = kind()
    if arguments.config is not None:
        base = _overlaid(base, arguments.config)
    if arguments.smoke:
        base = base.small()
    return _with_flags(base, argv).resolved()


def _resume(path: Path, argv: list[str], arguments: TrainArguments, processes: Processes) -> dict[str, Any]:
    with processes.agreed():
        wanted = _checked_resume(path, argv, arguments)
        latest, _ = checkpoints.newest_whole(RunFolder(path).checkpoints)
    line = f"going on with {path} from step {0 if latest is None else checkpoints.step_of(latest)}"
    return loop.resume(path, watcher(line), wanted.data_dir)


def _checked_resume(path: Path, argv: list[str], arguments: TrainArguments) -> RunConfig:
    """The settings to go on with, which are those of the run but for where data are."""
    for name in ("out", "smoke"):
        if getattr(arguments, name):
            raise UserError(
                f"expected --resume without --{name}; got both; a run goes on in its own folder "
                "and with its own settings"
            )
    folder = RunFolder(path)
    stored = folder.config()
    base = stored if arguments.config is None else _overlaid(stored, arguments.config)
    wanted = _with_flags(base, argv)
    differing = [
        f"{key} {getattr(stored, key)} in the run and {getattr(wanted, key)} now"
        for key in stored.to_json()
        # The files are verified, so it does not matter where they are.
        if key != "data_dir" and getattr(stored, key) != getattr(wanted, key)
    ]
    if differing:
        raise UserError(
            f"expected the settings of the run {path}; got other ones ({'; '.join(differing)}); "
            "leave them out, or start a new run"
        )
    _, damaged = checkpoints.newest_whole(folder.checkpoints)
    if folder.is_finished:
        say(f"{path} has finished, there is nothing left to train")
    else:
        for warning in (*folder.version_warnings(), *damaged):
            say(f"warning: {warning}")
    return wanted


def _overlaid(base: RunConfig, path: Path) -> RunConfig:
    values = read_json(path)
    if "config" in values:
        # A run's own config.json has the settings beside the versions.
        foreign = sorted(values.keys() - RECORD_KEYS)
        if foreign:
            raise UserError(
                f"expected settings or the config.json of a run in {path}; got config beside "
                f"{', '.join(foreign)}; move these into config, or leave config out"
            )
        values = values["config"]
        if not isinstance(values, dict):
            raise UserError(
                f"expected config in {path} to be settings by name; got {json.dumps(values)}; write them "
                "in braces"
            )
    # Of which kind of model they are was seen before.
    values = {key: value for key, value in values.items() if key != "model"}
    unknown = {*values} - {*base.setting_names()}
    for name, other in CONFIGS.items():
        if unknown and unknown <= {*other.setting_names()}:
            raise UserError(
                f"expected settings of the model {base.model} in {path}; got {', '.join(sorted(unknown))}, "
                f"which {name} has; add --model {name}"
            )
    return type(base).from_json(values, base)


def _with_flags(base: RunConfig, argv: list[str]) -> RunConfig:
    kind = _arguments_class(type(base))
    found: RunConfig = parse(kind, argv, "train", kind(settings=base)).settings
    return found


def _out(arguments: TrainArguments, config: RunConfig) -> Path:
    if arguments.out is not None:
        return arguments.out
    if arguments.smoke:
        return Path(tempfile.mkdtemp(prefix="igr-smoke-"))
    return Path("runs") / config.run_name


def _print_result(result: dict[str, Any]) -> None:
    training = result["training"]
    kl = f"{training['kl']} KL, " if "kl" in training else ""
    table = Table(title=f"{kl}epoch {training['epoch']}, nats per image")
    table.add_column("")
    for split in ("training", "validation"):
        table.add_column(split, justify="right")
    for name, key in (
        (objective_of(training), "bound"),
        ("log-likelihood", "log_likelihood"),
        ("KL", "kl"),
        ("bound of the discrete model", "discrete_bound"),
    ):
        figures = [training.get(f"{part}_{key}") for part in ("train", "validation")]
        if figures[1] is not None:
            table.add_row(name, *("-" if figure is None else f"{figure:.2f}" for figure in figures))
    Console().print(table)
