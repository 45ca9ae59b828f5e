"""Tables as HTML, and words as Markdown."""

import re
from collections.abc import Sequence
from html import escape

from diffusionmtl.report.content import Table

_NUMBER = re.compile(r"[+−-]?[\d.,]+( ?%)?|–")


def table_markup(table: Table) -> str:
    """A table that scrolls by itself where it is too wide; behind its caption if it is `collapsed`."""
    head = "".join(
        f'<th scope="col"{_align(table, column)}>{escape(name)}</th>' for column, name in enumerate(table.columns)
    )
    rows = "".join(_row(table, number) for number in range(len(table.rows)))
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    caption = escape(table.caption)
    if table.collapsed:
        inner = f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>{body}</table></div>'
        return f"<details><summary>{caption}</summary>{inner}</details>"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f"<table><caption>{caption}</caption>{body}</table></div>"
    )


def plain_text(text: str) -> str:
    """On one line, and nothing in it a tag: names come from files that others wrote."""
    return " ".join(text.split()).replace("<", "&lt;")


def bullets(lines: Sequence[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {plain_text(line)}" for line in lines)


def _row(table: Table, number: int) -> str:
    first, *rest = table.rows[number]
    cells = "".join(
        f"<td{_align(table, column, (number, column) in table.emphasis)}>{escape(cell)}</td>"
        for column, cell in enumerate(rest, start=1)
    )
    name, *closer = first.split("\n")
    small = f"<small>{escape(' '.join(closer))}</small>" if closer else ""
    return f'<tr><th scope="row">{escape(name)}{small}</th>{cells}</tr>'


def _align(table: Table, column: int, strong: bool = False) -> str:
    cells = [row[column] for row in table.rows if row[column]]
    numbers = column > 0 and bool(cells) and all(_NUMBER.fullmatch(cell) for cell in cells)
    words = ["number"] * numbers + ["strong"] * strong
    return f' class="{" ".join(words)}"' if words else ""
