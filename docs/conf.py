"""How Sphinx builds the site: pages in Markdown, the reference from the docstrings, no network."""

from alseg import __version__

project = "alseg"
author = "the alseg authors"
copyright = "the alseg authors, Apache-2.0"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_static", "pictures"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

autodoc_typehints = "none"  # the docstrings say types, shapes and ranges
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "py:obj"  # a name in backticks is a link where there is one, else code
suppress_warnings = ["ref.python"]  # two classes of one name: the text says which

html_theme = "furo"
html_title = "alseg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# links to other sites are listed by `make linkcheck`, which needs a network
linkcheck_anchors = False
