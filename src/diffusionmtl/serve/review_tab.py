"""The tab in which a person judges labels one after the other."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr

from diffusionmtl.errors import UserError
from diffusionmtl.serve.markup import review_html
from diffusionmtl.serve.review import DECISIONS, Book, Decision, next_undecided

_WORDS: dict[Decision | None, str] = {
    "accept": "accepted",
    "reject": "rejected",
    "skip": "skipped",
    None: "not decided yet",
}
_LABELS: dict[Decision, str] = {"accept": "Accept (a)", "reject": "Reject (r)", "skip": "Skip (s)"}


def add_review(page: gr.Blocks, book: Book) -> None:
    """Lay out the tab inside whatever Gradio is laying out now."""
    gr.Markdown(f"### {book.folder.title}\n{book.folder.help} Every decision is written to `{book.path.name}` at once.")
    at = gr.State(0)
    with gr.Row():
        buttons = {
            decision: gr.Button(
                label,
                elem_id=f"dm-{decision}",
                min_width=90,
                variant="primary" if decision == "accept" else "secondary",
            )
            for decision, label in _LABELS.items()
        }
    with gr.Row():
        back = gr.Button("← Back", min_width=90, elem_id="dm-back")
        on = gr.Button("Forward →", min_width=90, elem_id="dm-on")
        undo = gr.Button("Take back", min_width=90, elem_id="dm-undo")
    progress = gr.Markdown("", elem_id="dm-progress")
    shown = gr.HTML("", elem_id="dm-review")
    outputs: list[Any] = [at, progress, shown]
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for decision in DECISIONS:
        buttons[decision].click(_deciding(book, decision), at, outputs, **hidden)
    undo.click(_deciding(book, None), at, outputs, **hidden)
    back.click(_moving(book, -1), at, outputs, **hidden)
    on.click(_moving(book, 1), at, outputs, **hidden)
    page.load(_opening(book), None, outputs, **hidden)


def first(book: Book) -> int:
    """The first pair that is not decided; the first of all if every one is."""
    return next_undecided([of is None for of in book.standing()], -1) or 0


def view(book: Book, at: int) -> tuple[int, str, str]:
    """Where we are, how far that is, and what is to be judged there."""
    pairs = book.folder.pairs
    if not pairs:
        return 0, "Nothing to review.", ""
    pair = pairs[at]
    standing = book.standing()
    counts = Counter(standing)
    done = ", ".join(f"{counts[decision]} {_WORDS[decision]}" for decision in DECISIONS)
    progress = f"**{at + 1} of {len(pairs)}**: {_WORDS[standing[at]]}. In all: {done}, {counts[None]} left."
    return at, progress, review_html(f"{pair.task} of {pair.image}", book.folder.note(pair), book.folder.pictures(pair))


def _deciding(book: Book, decision: Decision | None) -> Callable[[int], tuple[int, str, str]]:
    def decide(at: int) -> tuple[int, str, str]:
        if not book.folder.pairs:
            return view(book, 0)
        with _told():
            book.decide(book.folder.pairs[at], decision)
            if decision is None:
                return view(book, at)
            after = next_undecided([of is None for of in book.standing()], at)
            return view(book, at if after is None else after)

    return decide


def _moving(book: Book, by: int) -> Callable[[int], tuple[int, str, str]]:
    def move(at: int) -> tuple[int, str, str]:
        with _told():
            return view(book, (at + by) % max(1, len(book.folder.pairs)))

    return move


def _opening(book: Book) -> Callable[[], tuple[int, str, str]]:
    def open_tab() -> tuple[int, str, str]:
        with _told():
            return view(book, first(book))

    return open_tab


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with the folder is shown to whoever looks at it."""
    try:
        yield
    except (UserError, OSError) as error:
        raise gr.Error(escape(str(error)), print_exception=False) from None
