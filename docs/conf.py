"""Sphinx settings of the site; `docs/site.py` puts the sources together and runs it."""

import re

project = "ctrcl"
author = "The ctrcl developers"
html_title = "ctrcl"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are executed before
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # no external script: the site shows still figures
nb_merge_streams = True
default_role = "code"
napoleon_use_ivar = True
viewcode_follow_imported_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
templates_path: list[str] = []
exclude_patterns = ["notebooks/**"]  # solutions: downloads, no pages
suppress_warnings = ["myst.header", "ref.python"]  # headings may begin at the second level; every method has `Options`

html_theme = "pydata_sphinx_theme"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "ctrcl"},
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "secondary_sidebar_items": {  # not beside results, whose tables are wide
        name: ["page-toc"] for name in ("index", "docs/**", "lessons/**", "api/**")
    },
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
copyright = "The ctrcl developers, Apache-2.0"


def as_rst(app, what, name, obj, options, lines):
    """Our docstrings are plain text: bars and stars are themselves, an indented part stands as it is."""
    if lines and lines[0].startswith("Alias for field number"):  # Python's, of a named tuple
        lines[:] = []
    if what == "module":
        lines[:] = blocks(lines)
    lines[:] = [re.sub(r"(?<![\\`])([|*])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", line) for line in lines]


def blocks(lines):
    """Indented parts, tables among them, as literal blocks."""
    found = []
    inside = False
    for number, line in enumerate(lines):
        starts = line.startswith("    ") and not inside and (number == 0 or not lines[number - 1].strip())
        if starts:
            found += ["::", ""]
            inside = True
        elif line.strip() and not line.startswith(" "):
            inside = False
        found.append(line)
    return found


def not_ours(app, what, name, obj, skip, options):
    """Leave out what a library puts into our classes."""
    return True if not (getattr(obj, "__module__", None) or "ctrcl").startswith("ctrcl") else None


def setup(app):
    """Hooks of autodoc."""
    app.connect("autodoc-skip-member", not_ours)
    app.connect("autodoc-process-docstring", as_rst, priority=900)  # after napoleon
