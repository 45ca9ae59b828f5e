"""Pages to look through predicted labels, the most doubtful first: each a file that loads nothing from anywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.report import cards, pictures
from diffusionmtl.report.pictures import Picture

PER_PAGE = 40
TITLE = "Predicted labels, the most doubtful first"


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


def write_pages(folder: Path, reviewed: Iterable[Card], shown: int, lead: str, per_page: int = PER_PAGE) -> list[Path]:
    """Write `review.html`, `review-2.html` and so on, each whole or not at all; later ones of an earlier call go.

    Args:
        reviewed: in the order in which they are to be seen; held a page at a time.
        shown: how many there are.
    """
    names = page_names(shown, per_page)
    waiting = iter(reviewed)
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


def _page(group: Sequence[Card], names: Sequence[str], number: int, lead: str) -> str:
    links = "".join(
        f'<li><a href="{name}"{" aria-current=page" if at == number else ""}>page {at + 1}</a></li>'
        for at, name in enumerate(names)
    )
    pages = f'<nav aria-label="Pages"><ul>{links}</ul></nav>' if len(names) > 1 else ""
    return cards.page(TITLE, lead, map(_card, group), pages)


def _card(card: Card) -> str:
    people = [of for of in card.tasks if of.kept is None]
    predicted = [of for of in card.tasks if of.kept is not None]
    rows = _people(people, card) + "".join(_predicted(of, card) for of in predicted)
    return cards.card(card.name, card.image, f"{100 * card.doubt:.0f} % of its predicted pixels are left out", rows)


def _people(labels: Sequence[Labelled], card: Card) -> str:
    if not labels:
        return ""
    figures = "".join(
        _figure(of.label, f"Label of a person: {of.task} of {card.name}", of.task, card.image) for of in labels
    )
    return cards.row("labels of people", "", figures, min(max(2, len(labels)), 3))


def _predicted(of: Labelled, card: Card) -> str:
    assert of.kept is not None
    where = f"{of.task} of {card.name}"
    figures = _figure(of.label, f"Predicted label, grey where left out: {where}", "predicted", card.image)
    figures += _figure(of.doubt, f"Doubt: {where}; bright is unsure", "doubt: bright is unsure", card.image)
    caption = "no label written" if of.label is None else f"{100 * of.kept:.0f} % kept"
    return cards.row(of.task, caption, figures, 2)


def _figure(pixels: Picture | None, words: str, caption: str, like: Picture) -> str:
    return (
        pictures.absent(like, "not sure enough", caption) if pixels is None else pictures.figure(pixels, words, caption)
    )
