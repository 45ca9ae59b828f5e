"""Pictures and tables as a notebook shows them; self-contained HTML."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

from PIL import Image

__all__ = ["escape", "figure", "png", "swatches", "table"]

INLINE_WIDTH = 280


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    stream = BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def figure(caption: str, *pictures: Image.Image) -> str:
    """Pictures below each other, shrunk if they are wide, with a caption."""
    shown = "".join(
        f'<img alt="{escape(caption)}" src="data:image/png;base64,{b64encode(png(_small(picture))).decode()}"><br>'
        for picture in pictures
    )
    style = "display:inline-block;margin:4px;vertical-align:top;text-align:center"
    return f'<figure style="{style}">{shown}<figcaption>{escape(caption)}</figcaption></figure>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table; cells are HTML already."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def swatches(legend: Sequence[tuple[str, tuple[int, int, int]]]) -> str:
    """Names beside their colours."""
    return " ".join(
        f'<span style="white-space:nowrap"><span style="color:rgb{shade}">&#9632;</span>&nbsp;{escape(name)}</span>'
        for name, shade in legend
    )


def _small(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    scale = min(1.0, INLINE_WIDTH / width)
    return picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.NEAREST)
