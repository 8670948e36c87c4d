"""How Sphinx makes the site of these pages: `make docs`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import l2t_ray  # noqa: E402

project = "l2t-ray"
author = "the l2t-ray authors"
version = release = l2t_ray.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "flags", "outside"]
exclude_patterns = ["_ext"]
smartquotes = False  # they make one dash of the two of a flag
default_role = "literal"  # what stands in backticks in docstrings
html_theme = "furo"
html_title = f"l2t-ray {version}"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 4  # a link to a heading is checked as GitHub names it
myst_enable_extensions = ["colon_fence"]
copybutton_exclude = ".linenos, .gp, .go"  # prompts and output of a terminal are not copied

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
