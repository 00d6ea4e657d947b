"""``igr prior``: a relaxation whose discrete law is uniform, as a file."""

import json
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from igr import progress
from igr.cli.arguments import CommonArguments, Flag, parse, run
from igr.cli.terminal import quoted, say
from igr.data.cache import exists
from igr.errors import UserError, unknown_name, unwritable_file
from igr.fitting import Fit, fit_uniform_prior
from igr.fitting.families import FAMILIES

# What the library puts before the errors that are meant here.
_OWNER = "fit_uniform_prior: "


@dataclass(frozen=True, kw_only=True)
class PriorArguments(CommonArguments):
    """Find the relaxation of a family whose discrete law is uniform, and write it as a file."""

    num_categories: int
    """Categories; of igr-sb the last one never wins."""

    family: str = "igr"
    """The family: gumbel-softmax, igr, igr-planar, igr-sb or igr-sb-log."""

    scale: float = 1.0
    """The scale of the Gaussians; of igr-planar, whose scales are fitted, the start."""

    seed: int = 0
    """Fixes every random number; only igr-planar has some."""

    num_iterations: int | None = None
    """Steps of the fit of igr-planar; None: 1000."""

    out: Path | None = None
    """The file; None: prior-FAMILY-K.json."""

    overwrite: Flag = False
    """Replace the file if it is there."""


def main(argv: list[str]) -> int:
    """Runs ``igr prior`` and returns the exit code."""
    return run("prior", _prior, argv)


def _prior(argv: list[str]) -> int:
    arguments = parse(PriorArguments, argv, "prior")
    _check(arguments)
    path = arguments.out or Path(f"prior-{arguments.family}-{arguments.num_categories}.json")
    _check_place(path, arguments.overwrite)
    found = _found(arguments)
    try:
        found.save(path)
    except OSError as error:
        raise unwritable_file(path, error) from error
    if arguments.json:
        print(json.dumps(_record(found, arguments, path), indent=2))
    else:
        _show(found)
    say(
        f"written: {quoted(path)}; in Python: "
        f"igr.fitting.Fit.load({str(path)!r}).distribution(temperature=0.5)"
    )
    return 0


def _check(arguments: PriorArguments) -> None:
    family, steps = arguments.family, arguments.num_iterations
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    least = 3 if FAMILIES[family].space == "length" else 2
    for key, good, expected in (
        ("num_categories", arguments.num_categories >= least, f"a whole number of at least {least}"),
        ("scale", 0.0 < arguments.scale < math.inf, "a finite number above 0"),
        ("seed", 0 <= arguments.seed < 2**63, "a whole number from 0 to 2**63 - 1"),
        ("num_iterations", steps is None or steps >= 1, "a whole number of at least 1"),
    ):
        if not good:
            got = getattr(arguments, key)
            raise UserError(f"expected {key} of {family} to be {expected}; got {got}; change {key}")


def _check_place(path: Path, overwrite: bool) -> None:
    """Before the fit, which may take a minute."""
    if not exists(path.parent) or not path.parent.is_dir():
        raise UserError(
            f"expected a file in a folder that is there; got {path}; make the folder, or choose another "
            "file with --out"
        )
    if exists(path) and path.is_dir():
        raise UserError(f"expected a file after --out; got the folder {path}; name a file in it")
    if exists(path) and not overwrite:
        raise UserError(
            f"expected a file that is not there yet; got {path}; choose another with --out, or replace it "
            "with --overwrite"
        )


def _found(arguments: PriorArguments) -> Fit:
    try:
        with warnings.catch_warnings(record=True) as caught, progress.spinner(f"fitting {arguments.family}"):
            warnings.simplefilter("always")
            found = fit_uniform_prior(
                arguments.num_categories,
                arguments.family,
                scale=arguments.scale,
                seed=arguments.seed,
                num_iterations=arguments.num_iterations,
            )
    except (ValueError, RuntimeError) as error:
        # What is left to refuse depends on the settings together. Of other functions torch's failures are
        # RuntimeErrors too.
        if isinstance(error, RuntimeError) and not str(error).startswith(_OWNER):
            raise
        raise UserError(_sentence(error)) from error
    for warning in caught:
        say(f"warning: {_sentence(warning.message)}")
    return found


def _sentence(raised: str | Exception) -> str:
    """What the library says, without the name of the function that says it."""
    return re.sub(r"^[\w.]+: ", "", str(raised)).removesuffix(".")


def _num_winners(found: Fit) -> int:
    """How many categories the target is uniform over."""
    return int((found.target.probs > 0).sum())


def _record(found: Fit, arguments: PriorArguments, path: Path) -> dict[str, object]:
    return {
        "path": str(path),
        "family": found.family,
        "num_categories": found.num_categories,
        "uniform_over": _num_winners(found),
        "scale": arguments.scale,
        "seed": arguments.seed,
        "method": found.method,
        "num_iterations": found.num_iterations,
        "num_draws": found.num_draws,
        "total_variation": found.total_variation.item(),
        "kl": found.kl.item(),
        "seconds": found.seconds,
    }


def _show(found: Fit) -> None:
    # A row for each figure: side by side they are too wide for a terminal.
    table = Table(box=box.SIMPLE, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    rows = {
        "family": found.family,
        "categories": f"{found.num_categories:,}",
        "uniform over the first": f"{_num_winners(found):,}",
        "method": found.method.replace("_", " "),
        "total variation from uniform": f"{found.total_variation.item():.2g}",
        "KL from uniform [nats]": f"{found.kl.item():.2g}",
        "time of the fit [s]": f"{found.seconds:.1f}",
    }
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    console = Console()
    console.print(table)
    if found.standard_error is not None and found.num_draws is not None:
        # Half of the sum of the mean sizes of the errors, which are normal.
        noise = math.sqrt(0.5 / math.pi) * found.standard_error.sum().item()
        note = (
            f"The law of {found.family} is estimated from {found.num_draws:,} draws, by whose noise alone "
            f"the total variation would be {noise:.2g}."
        )
        console.print(Text(note))
