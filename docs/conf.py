"""Settings of Sphinx; ``make docs`` builds the documentation with them."""

import os
import re
import sys
from pathlib import Path

# sphinx-gallery draws with pyplot; nobody is there to look at a window.
os.environ["MPLBACKEND"] = "agg"
# A tutorial whose threads meet those of the build takes longer than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from sphinx.application import Sphinx

import igr

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "igr"
author = "The igr developers"
copyright = "the igr developers"
version = release = igr.__version__

extensions = [
    "command_help",
    "link_names",
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "extensions", "tutorials", "figures", "results/*/tables"]
nitpicky = True
# What has no language is a command or its output.
highlight_language = "none"
# The documentation builds without a network, so that names of other libraries stay plain text.
# So do variables of types and what is private.
nitpick_ignore_regex = [(r"py:.*", r"(?!igr\b).*"), (r"py:.*", r"igr\..*\.(Config|Model|_\w+)")]

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"igr {release}"
html_static_path = ["_static"]
html_css_files = ["igr.css"]
html_show_sphinx = False
html_copy_source = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
# Pages link to one another's headings as on a forge.
myst_heading_anchors = 4

autodoc_default_options = {
    "members": True,
    # What is inherited from these is told by those who wrote them.
    "inherited-members": "Distribution,TorchDistribution,TorchDistributionMixin,Module,Transform,"
    "OneHotCategorical,object,tuple,dict,ABC,Enum",
    "member-order": "bysource",
    "show-inheritance": True,
}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shapes", "Units"]

# What is copied of a block leaves its prompts out.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "auto_tutorials",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "reset_modules": ("matplotlib", "strict_tutorials.strict"),
    "reset_modules_order": "both",
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
}


_as_written: dict[str, list[str]] = {}


def keep_field(
    _app: Sphinx, what: str, name: str, _value: object, _options: object, lines: list[str]
) -> None:
    """Remembers the docstring of a field, in which Napoleon takes what stands before a colon for a type."""
    if what == "attribute":
        _as_written[name] = list(lines)


def restore_field(
    _app: Sphinx, what: str, name: str, _value: object, _options: object, lines: list[str]
) -> None:
    """Puts it back."""
    if what == "attribute":
        lines[:] = _as_written[name]


def public_bases(_app: Sphinx, _name: str, _value: object, _options: object, bases: list[type]) -> None:
    """Shows, in place of a base that is not public, those that it has."""
    while any(base.__name__.startswith("_") for base in bases):
        bases[:] = [
            shown
            for base in bases
            for shown in (base.__bases__ if base.__name__.startswith("_") else (base,))
        ]


def link_tutorials(_app: Sphinx, _page: str, content: list[str]) -> None:
    """A link to the script of a tutorial, as pages have it on a forge, leads to the page made of it."""
    content[0] = re.sub(r"\]\(((?:\.\./)*)tutorials/(\w+)\.py\)", r"](\1auto_tutorials/\2.rst)", content[0])


def setup(app: Sphinx) -> None:
    """Adds what is ours to Sphinx."""
    app.connect("source-read", link_tutorials)
    app.connect("autodoc-process-docstring", keep_field, priority=400)
    app.connect("autodoc-process-docstring", restore_field, priority=600)
    app.connect("autodoc-process-bases", public_bases)
