"""The command line: one module for each command, imported only when it is called."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable

from igr import __version__
from igr.errors import remedy, unknown_name
from igr.training.processes import are_several

COMMANDS = {
    "train": "train one model and write its run folder",
    "evaluate": "bounds on the log-likelihood of a trained run, and pictures",
    "export": "a trained run as a folder to pass on, which igr.pretrained reads",
    "compare": "several evaluated runs in one table and one figure",
    "sweep": "many runs: seeds, a grid of settings, a temperature that is tuned",
    "data": "the data sets: igr data list, check, prepare or show",
    "study": "tables and figures of the paper: igr study list or run",
    "prior": "a relaxation whose discrete law is uniform, as a file",
    "explore": "laws on the simplex to play with, on a page in the browser",
}


def main(argv: list[str] | None = None) -> int:
    """Runs ``igr`` with these arguments, or with those of the process, and returns the exit code.

    The code is 0 for success, 2 for input that cannot be used, 1 for a failure and 130 for an
    interrupt.
    """
    # What it does then keeps processes apart too.
    warnings.filterwarnings("ignore", "flock not supported on this filesystem")
    code = 0
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        # A daemon may have none.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Or the interpreter would try it once more at its end, and print what it thinks of that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            # Whoever reads has seen enough.
            return code
        print(
            f"igr: expected to write what was found to standard output; got an error ({error.strerror}); "
            f"{remedy(error)}",
            file=sys.stderr,
        )
        return code or 1
    return code


def _run(arguments: list[str]) -> int:
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    command, *rest = arguments
    if command in ("-h", "--help"):
        print(usage())
        return 0
    if command == "--version":
        print(f"igr {__version__}")
        return 0
    if command not in COMMANDS:
        print(f"igr: {unknown_name('the command', command, COMMANDS)}", file=sys.stderr)
        return 2
    if command != "train" and are_several():
        if os.environ["RANK"] == "0":
            print(
                f"igr {command}: expected to be started once; got {os.environ['WORLD_SIZE']} processes, as "
                "by torchrun, which is for igr train; start it without",
                file=sys.stderr,
            )
        return 2
    run: Callable[[list[str]], int] = importlib.import_module(f"igr.cli.{command}").main
    return run(rest)


def usage() -> str:
    """What ``igr --help`` prints."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: igr COMMAND [--flag value ...]",
            "",
            "Reparameterizable distributions on the simplex: experiments.",
            "",
            *(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()),
            "",
            "igr COMMAND --help shows the flags of a command, igr --version the version.",
        ]
    )
