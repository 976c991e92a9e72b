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
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Pages of docs/gallery are kept, and made again where their example has changed.
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "gallery_order.place",
    "default_thumb_file": str(HERE / "_static" / "front.png"),
    "matplotlib_animations": (True, "jshtml"),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "notebook_extensions": set(),
    "show_memory": False,
    "min_reported_time": 10**6,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
}

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


def skip_routing(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to estimators, whose text links into its own pages."""
    return True if name in ("get_metadata_routing", "set_score_request") else None


def setup(app):
    app.connect("include-read", move_links)
    app.connect("autodoc-skip-member", skip_routing)
