"""The documentation site: `sphinx-build -W --keep-going docs site`."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))
sys.path.insert(0, str(HERE.parent))

project = "convexreg"
author = "The convexreg developers"
copyright = author
version = release = version_of("convexreg")

extensions = [
    "docstrings",
    "included",
    "mathml",
    "reference",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["extensions", "gallery/*.ipynb"]

# Docstrings quote names and formulas alike in backticks; what is a name becomes a link.
default_role = "py:obj"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
# attributes of the same name in several classes, which the text leaves open
suppress_warnings = ["config.cache", "ref.python"]

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "reading_order.ReadingOrder",
    "download_all_examples": False,
    "min_reported_time": 0,
    "abort_on_example_error": False,
    "image_scrapers": ("matplotlib",),
    "remove_config_comments": True,
    "show_memory": False,
    "doc_module": ("convexreg",),
    "reference_url": {"convexreg": None},
    "backreferences_dir": None,
    "copyfile_regex": r"^$",
}

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "convexreg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": "",
    "navigation_with_keys": True,
    "top_of_page_buttons": [],
}
html_show_sphinx = False
