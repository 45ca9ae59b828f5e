"""Pages of images to look through, each with rows of pictures; a page is one file that loads nothing from anywhere."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files as resources
from string import Template

from diffusionmtl.report import pictures
from diffusionmtl.report.pictures import Picture

_STYLE = """
[aria-current] { color: var(--ink); font-weight: 600; }
.beside { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.2rem 1.8rem; }
.beside .task, .beside .task + .task { border: 0; padding: 0; }
.beside .task p { margin: 0.5rem 0 0; }
"""
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>$style</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header><h1>$title</h1><p class="lead">$lead</p></header>
$pages
<main id="content">$cards</main>
<footer><p>Made by diffusionmtl. This file holds everything it shows; it loads nothing from the network.</p></footer>
</body>
</html>
""")


def page(title: str, lead: str, cards: Iterable[str], pages: str = "") -> str:
    """A whole page.

    Args:
        cards: of `card`, in the order in which they are to be seen.
        pages: markup of the way to further pages.
    """
    style = resources("diffusionmtl.report").joinpath("page.css").read_text("utf-8") + _STYLE
    return _PAGE.substitute(title=escape(title), lead=escape(lead), pages=pages, style=style, cards="".join(cards))


def card(name: str, image: Picture, about: str, rows: str) -> str:
    """An image, a word about it, and the rows beside it."""
    return pictures.card(name, image, about, f"The image {name}", rows, "beside")


def row(title: str, caption: str, figures: str, columns: int, note: str = "") -> str:
    """Pictures side by side under a title."""
    below = f'<p class="quiet">{escape(note)}</p>' if note else ""
    return (
        f'<div class="task"><header><h5>{escape(title)}</h5><span class="quiet">{escape(caption)}</span></header>'
        f'<div class="panels" style="--columns:{columns}">{figures}</div>{below}</div>'
    )
