"""How the pages become a site: `make docs`, without a network."""

from importlib import metadata

project = "neuropipe"
release = metadata.version("neuropipe")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "index"
exclude_patterns = ["_build", "examples/*.md"]
html_theme = "furo"
html_title = f"neuropipe {release}"
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_show_copyright = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
napoleon_google_docstring = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": False}
# Pages lead to files of the repository, which are no pages: the test of links holds those.
suppress_warnings = ["myst.xref_missing", "docutils", "ref.python"]
