"""Settings of the documentation site: `make docs` builds it from the same files that a repository browser shows."""

import re
import shutil
from pathlib import Path

import resdet

ROOT = Path(__file__).parents[1]

project = "resdet"
author = "the resdet authors"
copyright = author
version = release = resdet.__version__

root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "docs/api.rst", "datasets/README.md", "results/README.md", "examples/**.md"]
exclude_patterns = [".*", "build", "dist", "runs"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]

html_theme = "furo"
html_title = "resdet"
html_show_sourcelink = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
smartquotes = False  # would turn the two hyphens of an option into a dash

myst_heading_anchors = 3  # as on GitHub
suppress_warnings = ["myst.header"]

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80


def add_navigation(app, name, source):
    """Adds the pages of the table in the home page, in its order."""
    if name == root_doc:
        table = source[0].partition("## Documentation")[2].partition("\n## ")[0]
        pages = dict.fromkeys(re.findall(r"\(([^)#]+)\.(?:md|rst)\)", table))
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def to_restructured_text(app, what, name, subject, options, lines):
    """Docstrings are plain text with `names` and indented examples."""
    blocks = re.split(r"\n{2,}", "\n".join(lines).strip())
    for index, block in enumerate(blocks):
        if block.startswith("    "):
            blocks[index] = f"::\n\n{block}"
        else:
            blocks[index] = re.sub(r"`([^`]+)`", r"``\1``", block.replace("*", r"\*"))
    lines[:] = "\n\n".join(blocks).split("\n")


def copy_home(app, problem):
    if problem is None and app.builder.name == "html":
        shutil.copyfile(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app):
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", to_restructured_text)
    app.connect("build-finished", copy_home)
