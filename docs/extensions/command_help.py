"""The directive ``command-help``: what a command prints for ``--help``, as it is when the page is made."""

import os
import subprocess
import sys
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# As wide as a page.
COLUMNS = "84"


class CommandHelp(SphinxDirective):
    """``.. command-help:: train --model sop`` is the output of ``igr train --model sop --help``."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, object]] = {}

    def run(self) -> list[nodes.Node]:
        command = self.arguments[0].split()
        shown = subprocess.run(
            [sys.executable, "-m", "igr", *command, "--help"],
            env={**os.environ, "COLUMNS": COLUMNS, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
        )
        if shown.returncode:
            raise self.error(f"igr {self.arguments[0]} --help failed: {shown.stderr.strip()}")
        text = "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())
        block = nodes.literal_block(text, text)
        block["language"] = "none"
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    # Flags change without any change to the page.
    return {"parallel_read_safe": True, "parallel_write_safe": True}
