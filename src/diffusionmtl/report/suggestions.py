"""A page to look through what is suggested to be annotated: one file that loads nothing from anywhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files as resources
from string import Template

import numpy as np
from jaxtyping import UInt8

from diffusionmtl.report.draw import panel_uri, photo_uri

TITLE = "What to annotate next"
Picture = UInt8[np.ndarray, "h w 3"]
_STYLE = """
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
<main id="content">$cards</main>
<footer><p>Made by diffusionmtl. This file holds everything it shows; it loads nothing from the network.</p></footer>
</body>
</html>
""")


@dataclass(frozen=True)
class Row:
    """One suggested task of an image.

    Attributes:
        gain: a share.
        answer: what the network says now.
        doubt: bright where unsure.
    """

    rank: int
    task: str
    gain: float
    price: float
    reason: str
    answer: Picture
    doubt: Picture


@dataclass(frozen=True)
class Card:
    """One image and the tasks that are suggested for it, by rank."""

    name: str
    image: Picture
    rows: tuple[Row, ...]


def page(cards: Iterable[Card], lead: str) -> str:
    """The whole page, cards in the order given."""
    style = resources("diffusionmtl.report").joinpath("page.css").read_text("utf-8")
    return _PAGE.substitute(
        title=TITLE, lead=escape(lead), style=style + _STYLE, cards="".join(_card(card) for card in cards)
    )


def _card(card: Card) -> str:
    name = escape(card.name)
    ranks = ", ".join(str(row.rank) for row in card.rows)
    return (
        f'<article class="example"><div class="about"><img src="{photo_uri(card.image)}" alt="The image {name}">'
        f'<div><h4>{name}</h4><p class="quiet">rank {ranks}</p></div></div>'
        f'<div class="beside">{"".join(_row(row, card.name) for row in card.rows)}</div></article>'
    )


def _row(row: Row, name: str) -> str:
    where = f"{row.task} of {name}"
    panels = _figure(row.answer, f"Answer now: {where}", "answer now")
    panels += _figure(row.doubt, f"Doubt: {where}; bright is unsure", "doubt: bright is unsure")
    caption = f"rank {row.rank} · price {row.price:g} · gain {100 * row.gain:.3f} %"
    return (
        f'<div class="task"><header><h5>{escape(row.task)}</h5><span class="quiet">{escape(caption)}</span></header>'
        f'<div class="panels" style="--columns:2">{panels}</div><p class="quiet">{escape(row.reason)}</p></div>'
    )


def _figure(pixels: Picture, words: str, caption: str) -> str:
    height, width = pixels.shape[:2]
    size = f'width="{width}" height="{height}"'
    image = f'<img src="{panel_uri(pixels)}" alt="{escape(words)}" {size} decoding="async">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
