"""A page to look through what is suggested to be annotated: one file that loads nothing from anywhere."""

from collections.abc import Iterable
from dataclasses import dataclass

from diffusionmtl.report import cards, pictures
from diffusionmtl.report.pictures import Picture

TITLE = "What to annotate next"


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


def page(shown: Iterable[Card], lead: str) -> str:
    """The whole page, cards in the order given."""
    return cards.page(TITLE, lead, map(_card, shown))


def _card(card: Card) -> str:
    ranks = ", ".join(str(row.rank) for row in card.rows)
    return cards.card(card.name, card.image, f"rank {ranks}", "".join(_row(row, card.name) for row in card.rows))


def _row(row: Row, name: str) -> str:
    where = f"{row.task} of {name}"
    panels = pictures.figure(row.answer, f"Answer now: {where}", "answer now")
    panels += pictures.figure(row.doubt, f"Doubt: {where}; bright is unsure", "doubt: bright is unsure")
    caption = f"rank {row.rank} · price {row.price:g} · gain {100 * row.gain:.3f} %"
    return cards.row(row.task, caption, panels, 2, row.reason)
