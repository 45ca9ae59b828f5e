"""Fills pages while they are read: what is generated from the code, and pictures that a page's own code draws."""

from pathlib import Path

from sphinx.application import Sphinx

from extension.gallery import GALLERY, with_pictures
from extension.reference import filled


def fill(app: Sphinx, name: str, source: list[str]) -> None:
    """Sphinx calls it with the text of every page, to be changed in place."""
    source[0] = filled(source[0])
    if name == GALLERY:
        source[0] = with_pictures(source[0], Path(app.srcdir) / "_build" / "gallery")


def as_prose(_app: Sphinx, _what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    """Sphinx calls it with the lines of every docstring: |T_n| there is a number of tasks, not a substitution."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", as_prose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
