"""Pages to look through predicted labels, the most doubtful first: each a file that loads nothing from anywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files as resources
from itertools import islice
from pathlib import Path
from string import Template

import numpy as np
from jaxtyping import UInt8

from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.report.draw import panel_uri, photo_uri

PER_PAGE = 40
_STYLE = """
[aria-current] { color: var(--ink); font-weight: 600; }
.beside { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.2rem 1.8rem; }
.beside .task, .beside .task + .task { border: 0; padding: 0; }
"""
Picture = UInt8[np.ndarray, "h w 3"]

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
<nav aria-label="Pages"$hidden><ul>$links</ul></nav>
<main id="content">$cards</main>
<footer><p>Made by diffusionmtl. This file holds everything it shows; it loads nothing from the network.</p></footer>
</body>
</html>
""")


@dataclass(frozen=True)
class Labelled:
    """One task of an image.

    Attributes:
        label: the label as it will be seen, grey where unknown; None if none was written.
        doubt: of a prediction, bright where unsure; None for a label of a person.
        kept: of a prediction, the share of its pixels that is sure enough.
    """

    task: str
    label: Picture | None
    doubt: Picture | None = None
    kept: float | None = None


@dataclass(frozen=True)
class Card:
    """One image.

    Attributes:
        doubt: share of the predicted pixels that is not sure enough.
        tasks: in the order of the data set.
    """

    name: str
    image: Picture
    doubt: float
    tasks: tuple[Labelled, ...]


def write_pages(folder: Path, cards: Iterable[Card], shown: int, lead: str, per_page: int = PER_PAGE) -> list[Path]:
    """Write `review.html`, `review-2.html` and so on, each whole or not at all; later ones of an earlier call go.

    Args:
        cards: in the order in which they are to be seen; held a page at a time.
        shown: how many there are.
    """
    names = page_names(shown, per_page)
    waiting = iter(cards)
    for number, name in enumerate(names):
        group = list(islice(waiting, per_page))
        write_bytes_atomically(folder / name, _page(group, names, number, lead).encode())
    for old in folder.glob("review*.html"):
        if old.name not in names:
            old.unlink()
    return [folder / name for name in names]


def page_names(shown: int, per_page: int = PER_PAGE) -> list[str]:
    """At least one."""
    pages = max(1, -(-shown // per_page))
    return ["review.html", *(f"review-{number}.html" for number in range(2, pages + 1))]


def _page(cards: Sequence[Card], names: Sequence[str], number: int, lead: str) -> str:
    links = "".join(
        f'<li><a href="{name}"{" aria-current=page" if at == number else ""}>page {at + 1}</a></li>'
        for at, name in enumerate(names)
    )
    style = resources("diffusionmtl.report").joinpath("page.css").read_text("utf-8")
    style += _STYLE
    return _PAGE.substitute(
        title="Predicted labels, the most doubtful first",
        lead=escape(lead),
        links=links,
        hidden="" if len(names) > 1 else " hidden",
        style=style,
        cards="".join(map(_card, cards)),
    )


def _card(card: Card) -> str:
    name = escape(card.name)
    people = [of for of in card.tasks if of.kept is None]
    predicted = [of for of in card.tasks if of.kept is not None]
    rows = _people(people, card) + "".join(_predicted(of, card) for of in predicted)
    return (
        f'<article class="example"><div class="about"><img src="{photo_uri(card.image)}" alt="The image {name}">'
        f'<div><h4>{name}</h4><p class="quiet">{100 * card.doubt:.0f} % of its predicted pixels are left out</p></div>'
        f'</div><div class="beside">{rows}</div></article>'
    )


def _people(labels: Sequence[Labelled], card: Card) -> str:
    if not labels:
        return ""
    figures = "".join(
        _figure(of.label, f"Label of a person: {of.task} of {card.name}", of.task, card.image) for of in labels
    )
    return _row("labels of people", "", figures, min(max(2, len(labels)), 3))


def _predicted(of: Labelled, card: Card) -> str:
    assert of.kept is not None
    where = f"{of.task} of {card.name}"
    figures = _figure(of.label, f"Predicted label, grey where left out: {where}", "predicted", card.image)
    figures += _figure(of.doubt, f"Doubt: {where}; bright is unsure", "doubt: bright is unsure", card.image)
    caption = "no label written" if of.label is None else f"{100 * of.kept:.0f} % kept"
    return _row(of.task, caption, figures, 2)


def _row(title: str, caption: str, figures: str, columns: int) -> str:
    return (
        f'<div class="task"><header><h5>{escape(title)}</h5><span class="quiet">{escape(caption)}</span></header>'
        f'<div class="panels" style="--columns:{columns}">{figures}</div></div>'
    )


def _figure(pixels: Picture | None, words: str, caption: str, like: Picture) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>"
    if pixels is None:
        height, width = like.shape[:2]
        return (
            f'<figure><div class="absent" style="aspect-ratio:{width}/{height}">not sure enough</div>{below}</figure>'
        )
    height, width = pixels.shape[:2]
    size = f'width="{width}" height="{height}"'
    return f'<figure><img src="{panel_uri(pixels)}" alt="{escape(words)}" {size} decoding="async">{below}</figure>'
