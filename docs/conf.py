"""How `make docs` builds these pages."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "diffusionmtl"
author = "The diffusionmtl authors"
copyright = author
release = metadata.version("diffusionmtl")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "extension.mathml",
    "extension.pages",
]
# README.md is what a reader of the folder sees; index.rst includes it and adds the navigation.
exclude_patterns = ["README.md", "_build", "extension"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
# `--out` in running text stays what one types.
smartquotes = False
# What stands in backticks in a docstring is code.
default_role = "code"
# Links that leave docs/ are right in the repository; tests/test_docs.py follows every one.
suppress_warnings = ["myst.xref_missing"]

html_theme = "furo"
html_title = "diffusionmtl"
html_static_path = ["extension/static"]
html_css_files = ["pages.css"]
# Types, and with them the shapes of tensors, stand in signatures alone; one parameter a line where they are long.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
