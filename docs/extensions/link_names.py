"""Names of igr in plain code, as pages have them, lead to where the API tells of them."""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

# A dotted name, perhaps with a call after it.
NAME = re.compile(r"(igr(?:\.\w+)+)(?:\(.*\))?", re.DOTALL)


def link_names(app: Sphinx, doctree: nodes.document, page: str) -> None:
    objects = app.env.domains.python_domain.objects
    for code in list(doctree.findall(nodes.literal)):
        found = NAME.fullmatch(code.astext())
        # Headings are told again in lists of contents, where nothing is a link twice.
        inside = isinstance(code.parent, nodes.reference | nodes.title)
        if found is None or inside or found[1] not in objects:
            continue
        entry = objects[found[1]]
        code.replace_self(
            make_refnode(app.builder, page, entry.docname, entry.node_id, code.deepcopy(), found[1])
        )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
