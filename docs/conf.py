"""Sphinx settings. The build needs no network: `python -m sphinx -W docs docs/_build`."""

import sys
from pathlib import Path

import structmat

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import pictures  # noqa: E402

project = "structmat"
author = "The structmat developers"
copyright = "2026, The structmat developers"
version = release = structmat.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "groupwise"
autodoc_typehints = "none"
numpydoc_show_class_members = False
smartquotes = False  # a prime stays a prime
# Single backticks: a link where the name is known, plain code where it is not.
default_role = "py:obj"

html_theme = "furo"
html_title = f"structmat {release}"
html_static_path = ["_static"]
html_css_files = ["structmat.css"]
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

pictures.draw(HERE / "_generated")


# Pages of the repository's root that the site includes, and where their links lead there.
LINKS = {
    "README.md": {
        "](docs/": "](",
        "](CHANGELOG.md": "](changelog.md",
        "](CONTRIBUTING.md": "](develop/contributing.md",
    },
    "CONTRIBUTING.md": {"](docs/develop/": "](", "](docs/": "](../"},
    "CHANGELOG.md": {"](docs/": "]("},
}


def move_links(app, relative_path, parent_docname, content):
    """Make links that are right in the repository's root right inside the site too."""
    for old, new in LINKS.get(relative_path.name, {}).items():
        content[0] = content[0].replace(old, new)


def setup(app):
    app.connect("include-read", move_links)
