"""The directive ``command-help``: what a command prints for ``--help``, as it is when the page is made."""

import contextlib
import io
import os
import textwrap

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import igr.cli

# As wide as a page.
COLUMNS = 96


class CommandHelp(SphinxDirective):
    """``.. command-help:: train --model sop`` is the output of ``igr train --model sop --help``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        shown, complaint = io.StringIO(), io.StringIO()
        os.environ.update(COLUMNS=str(COLUMNS), NO_COLOR="1")
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(complaint):
            code = igr.cli.main([*self.arguments[0].split(), "--help"])
        if code:
            raise self.error(f"igr {self.arguments[0]} --help failed: {complaint.getvalue().strip()}")
        # A terminal breaks the lines of a description by itself, a page does not.
        text = "\n".join(
            textwrap.fill(line, COLUMNS) if len(line) > COLUMNS else line.rstrip()
            for line in shown.getvalue().strip().splitlines()
        )
        block = nodes.literal_block(text, text)
        block["language"] = "none"
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
