"""Pictures as HTML: each with its words, what stands below it, and the place of one that there is none of."""

from html import escape

import numpy as np
from jaxtyping import UInt8

from diffusionmtl.report.draw import panel_uri, photo_uri

Picture = UInt8[np.ndarray, "h w 3"]


def image(pixels: Picture, words: str, key: str = "") -> str:
    """A drawn label or prediction; `words` are said in its place, `key` is its id on the page."""
    height, width = pixels.shape[:2]
    mark = f' id="{key}"' if key else ""
    size = f'width="{width}" height="{height}"'
    return f'<img{mark} src="{panel_uri(pixels)}" alt="{escape(words)}" {size} decoding="async">'


def figure(pixels: Picture, words: str, caption: str, key: str = "") -> str:
    """An image and what stands below it."""
    return f"<figure>{image(pixels, words, key)}{_below(caption)}</figure>"


def absent(like: Picture, said: str, caption: str) -> str:
    """The place of a picture that there is none of, as large as another."""
    height, width = like.shape[:2]
    empty = f'<div class="absent" style="aspect-ratio:{width}/{height}">{escape(said)}</div>'
    return f"<figure>{empty}{_below(caption)}</figure>"


def card(name: str, photo: Picture, about: str, words: str, rows: str, beside: str = "") -> str:
    """A photograph with its name, and rows beside it.

    Args:
        about: a word about the photograph.
        words: said in its place.
        beside: class of the element that holds the rows.
    """
    style = f' class="{beside}"' if beside else ""
    return (
        f'<article class="example"><div class="about"><img src="{photo_uri(photo)}" alt="{escape(words)}">'
        f'<div><h4>{escape(name)}</h4><p class="quiet">{escape(about)}</p></div></div>'
        f"<div{style}>{rows}</div></article>"
    )


def _below(caption: str) -> str:
    return f"<figcaption>{escape(caption)}</figcaption>"
