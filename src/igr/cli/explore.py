"""``igr explore``: a page to play with laws on the simplex, in the browser."""

import json
from dataclasses import dataclass

from igr.cli.arguments import CommonArguments, Flag, parse, run
from igr.cli.terminal import say
from igr.errors import UserError

_LARGEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class ExploreArguments(CommonArguments):
    """Open a page in the browser on which laws can be played with; Ctrl-C ends it.

    The page is served to this machine alone, and needs no network.
    """

    port: int | None = None
    """The port; 0: any that is free; None: 5010, or any that is free if it is taken."""

    no_browser: Flag = False
    """Say the address only, and open no browser."""


def main(argv: list[str]) -> int:
    """Runs ``igr explore`` and returns the exit code."""
    return run("explore", _explore, argv)


def _explore(argv: list[str]) -> int:
    arguments = parse(ExploreArguments, argv, "explore")
    if arguments.port is not None and not 0 <= arguments.port <= _LARGEST_PORT:
        raise UserError(
            f"expected --port to be a whole number from 0 to {_LARGEST_PORT}; got {arguments.port}; "
            "leave it out for one that is free"
        )
    try:
        from igr.explorer.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("bokeh", "tornado"):
            raise
        raise UserError(
            "expected bokeh for the page; got none; install it with pip install 'igr[explore]'"
        ) from error

    def started(address: str) -> None:
        if arguments.json:
            print(json.dumps({"address": address}), flush=True)
        say(f"the page is at {address}; Ctrl-C ends it")

    serve(arguments.port, show=not arguments.no_browser, started=started)
    return 0
