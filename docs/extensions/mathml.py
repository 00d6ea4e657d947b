"""Formulas as MathML, which browsers show by themselves: no script, and no network when a page is read."""

import html
import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

# What docutils does not know under this name, or has no use for.
SPELLED = {
    r"\Big": r"\Bigl",
    r"\big": r"\bigl",
    r"\dots": r"\ldots",
    r"\lVert": r"\|",
    r"\rVert": r"\|",
    r"\textstyle": "",
}
COMMAND = re.compile("|".join(re.escape(name) + r"(?![A-Za-z])" for name in SPELLED))
# A fraction of two single signs.
FRACTION = re.compile(r"\\[td]?frac(\w)(\w)")
# A function is set apart by hand from a letter or a bracket before it, and from a letter after it.
BEFORE = re.compile(r"(?<=[\w)}])\s*(?=\\(?:log|exp|max|min|tanh|arg|det)(?![A-Za-z]))")
FUNCTION = re.compile(r"(\\(?:log|exp|max|min|tanh|arg))\s*(?=[A-Za-z0-9]|\\(?!mathrm|,|;|!|left|big|Big|{))")


def as_mathml(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    latex = COMMAND.sub(lambda found: SPELLED[found[0]], node.astext())
    latex = FRACTION.sub(r"\\frac{\1}{\2}", latex)
    latex = BEFORE.sub(r"\\,", FUNCTION.sub(r"\1\\,", latex))
    try:
        return tex2mathml(latex, as_block=as_block)
    except MathError as error:
        logger.warning("expected a formula that MathML can show; got %r (%s)", latex, error, location=node)
        return f"<code>{html.escape(latex)}</code>"


def visit_math(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(f'<span class="math">{as_mathml(node, as_block=False)}</span>')
    raise nodes.SkipNode


def visit_displaymath(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math-block">{as_mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
