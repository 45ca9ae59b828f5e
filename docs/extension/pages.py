"""Fills pages while they are read: what is generated from the code, and pictures that a page's own code draws."""

from pathlib import Path

import draw_images
import draw_network
from docutils import nodes
from sphinx.application import Sphinx

from extension.gallery import GALLERY, with_pictures
from extension.reference import filled

DRAWN = ("rooms.webp", "network.svg")
"""Pictures of `docs/images` that the build draws anew."""


def draw(app: Sphinx) -> None:
    """Sphinx calls it before it reads a page."""
    folder = Path(app.srcdir) / "_build" / "images"
    draw_images.main(folder)
    draw_network.main(folder)


def fill(app: Sphinx, name: str, source: list[str]) -> None:
    """Sphinx calls it with the text of every page, to be changed in place."""
    source[0] = filled(source[0])
    for picture in DRAWN:
        source[0] = source[0].replace(f"](images/{picture})", f"](_build/images/{picture})")
    if name == GALLERY:
        source[0] = with_pictures(source[0], Path(app.srcdir) / "_build" / "gallery")


def as_prose(_app: Sphinx, _what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    """Sphinx calls it with the lines of every docstring: |T_n| there is a number of tasks, not a substitution."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def with_dashes(_app: Sphinx, tree: nodes.document) -> None:
    """Sphinx calls it with every page that was read: between a parameter and its text it writes two hyphens."""
    for text in list(tree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", draw)
    app.connect("source-read", fill)
    app.connect("doctree-read", with_dashes)
    app.connect("autodoc-process-docstring", as_prose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
