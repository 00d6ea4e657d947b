"""The first run: IGR and Gumbel-Softmax, each with both KLs, on scikit-learn's digits.

``make demo`` calls it as ``python -m igr.cli.demo``. All four runs have the same network, epochs,
batches, learning rate and seed. What is finished is used again and what was cut short goes on, so
that the command can be repeated at any time.
"""

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from igr.cli.arguments import CommonArguments, Flag, parse, run
from igr.cli.compare import render, write
from igr.cli.evaluate import evaluate_and_draw
from igr.cli.terminal import quoted, say, watcher
from igr.errors import UserError
from igr.evaluation import compare, stored_evaluation
from igr.training import loop
from igr.training.config import TrainConfig
from igr.training.failures import Interrupted
from igr.training.run_folder import RunFolder
from igr.training.runs import load_run

EPOCHS = 120
# Without it the relaxed runs on this small data set settle at a latent that says nothing.
KL_WARMUP = 40
LATENTS = ("gumbel-softmax", "igr")
KLS = ("relaxed", "discrete")

READING = (
    "How to read it: the KL that was trained decides whether a run is good at the relaxed or at the "
    "discrete model; for the discrete one look down the column with the exact q, and distrust a run "
    "whose discrete ELBO is far below its relaxed ELBO, since its decoder leans on points inside the "
    "simplex. One small data set, one seed and untuned temperatures rank no law: which is ahead here "
    "says little about elsewhere."
)


@dataclass(frozen=True, kw_only=True)
class DemoArguments(CommonArguments):
    """IGR and Gumbel-Softmax, each with both KLs, on digits, in one table."""

    out: Path = Path("runs/demo")
    """The folder for the four runs and their comparison."""

    fresh: Flag = False
    """Remove the four runs in that folder and train them again."""


def main(argv: list[str]) -> int:
    """Runs the demo and returns the exit code."""
    return run("demo", _demo, argv)


def _demo(argv: list[str]) -> int:
    arguments = parse(DemoArguments, argv, "demo")
    started = time.perf_counter()
    configs = {
        arguments.out / f"{latent}-{kl}": TrainConfig(
            latent=latent, kl=kl, epochs=EPOCHS, kl_warmup=KL_WARMUP
        )
        for latent in LATENTS
        for kl in KLS
    }
    if arguments.fresh:
        for path in filter(_is_run, configs):
            with RunFolder(path).locked():
                shutil.rmtree(path)
    for number, (path, config) in enumerate(configs.items(), start=1):
        title = f"{number}/{len(configs)} {config.latent}, {config.kl} KL"
        try:
            _train(path, config.resolved(), title)
        except Interrupted as error:
            raise Interrupted(
                "stopped; what was done is kept, and the same command goes on from there"
            ) from error
        _evaluate(path, config)

    comparison = compare(list(configs))
    written = write(comparison, arguments.out / "comparison")
    if arguments.json:
        print(json.dumps(comparison.to_json(), indent=2))
    else:
        console = Console()
        console.print(render(comparison, console.width), "", READING, sep="\n", highlight=False)
    say(f"\ndone in {time.perf_counter() - started:.0f} s; the same command again reuses the runs")
    say(f"table and curves: {', '.join(map(str, written))}")
    say(f"pictures: {arguments.out}/*/figures/reconstructions.png and prior_samples.png")
    say(f"next, one of your own:\n{_next_command(arguments.out)}")
    return 0


def _train(path: Path, config: TrainConfig, title: str) -> None:
    folder = RunFolder(path)
    if not _is_run(path):
        loop.train(config, path, watcher(f"{title}: training for {config.epochs} epochs"))
        return
    if folder.config() != config:
        raise UserError(
            f"expected the demo's own settings in {path}; got a run with others; "
            "add --fresh to replace it, or choose another folder with --out"
        )
    if "training" in folder.result():
        say(f"{title}: reusing the finished run in {path}")
        return
    for warning in folder.version_warnings():
        say(f"warning: {warning}")
    loop.resume(path, watcher(f"{title}: going on from step {folder.latest_step() or 0}"))


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file()


def _evaluate(path: Path, config: TrainConfig) -> None:
    found = stored_evaluation(RunFolder(path))
    if found is None or (found.split, found.num_samples) != ("test", config.num_eval_samples):
        evaluate_and_draw(load_run(path))


def _next_command(out: Path) -> str:
    # In a virtual environment that is not activated, `igr` alone would not be found.
    igr = quoted(Path(os.path.relpath(Path(sys.executable).with_name("igr"))))
    others = (quoted(out / name) for name in ("igr-discrete", "gumbel-softmax-discrete"))
    return (
        f"  {igr} train --latent igr --temperature 0.3 --epochs {EPOCHS} --kl-warmup {KL_WARMUP} "
        f"--out runs/mine\n"
        f"  {igr} evaluate runs/mine\n"
        f"  {igr} compare runs/mine {' '.join(others)}"
    )


if __name__ == "__main__":
    # Networks this small gain little from a second thread, and where other processes want the cores
    # the wait for it makes training ten times slower.
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
