"""Settings of the documentation build. Offline: nothing is fetched while building or reading."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

os.environ.setdefault(
    "KERAS_BACKEND", "torch"
)  # without one, keras cannot be imported and its page not be made

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Tunewright"
author = "The Tunewright authors"
copyright = "2026, The Tunewright authors"
release = metadata.version("tunewright")
version = ".".join(release.split(".")[:2])

extensions = [
    "generated",
    "llms",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source", ("Use when", "notes_style"), ("Cost", "notes_style")]

html_theme = "furo"
html_title = "Tunewright"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b6e69",
        "color-brand-content": "#0b6e69",
        "font-stack": "system-ui, sans-serif",
    },
    "dark_css_variables": {"color-brand-primary": "#4fc3bb", "color-brand-content": "#4fc3bb"},
}
html_show_sphinx = False
html_copy_source = True
html_static_path = ["_static"]
