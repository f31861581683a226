"""How Sphinx builds these pages: python -m sphinx -W --keep-going -b html docs build/docs (extra `docs`)."""

from pathlib import Path
from typing import Any

import kurabe

project = "kurabe"
copyright = "the kurabe authors"
release = kurabe.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["build"]
root_doc = "index"

myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files outside docs/; a test checks that each leads somewhere
default_role = "code"  # `x` in a docstring is code
autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseException, Struct, BaseEstimator",  # but not those of classes that are not kurabe's
    "member-order": "bysource",
}
autodoc_typehints = "none"  # the sections of the docstrings give the types
numpydoc_show_class_members = False

html_theme = "alabaster"
html_title = "kurabe"
html_theme_options = {"description": "A contest side by side", "fixed_sidebar": True}


def add_contents(app: Any, name: str, source: list[str]) -> None:
    """Give the first page the tree of contents that Sphinx needs. In the file it would be noise on a code host."""
    if name == root_doc:
        pages = sorted(path.stem for path in Path(app.srcdir).glob("*.md") if path.stem != root_doc)
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
