"""A contact sheet: some images of a data set with all their labels, in one picture."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffusionmtl import colour, files
from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError
from diffusionmtl.tasks import Task

_CELL = (180, 180)
_GAP = 6
_LINE = 16
_STRETCH = 200
_MOST_CLASSES = 40
_PAPER = (255, 255, 255)
_INK = (40, 40, 40)


def spread_evenly(items: Sequence[int], most: int | None) -> list[int]:
    """At most `most` of the items, evenly spread over them; all for None."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[int((i + 0.5) * len(items) / most)] for i in range(most)]


def contact_sheet(dataset: DenseDataset, count: int, path: Path) -> None:
    """Draw about `count` images as a PNG file: one a row, its labels beside it, the colours of classes below.

    Images are spread over the data set, and chosen so that every task is seen if it can be. A missing label is grey;
    what cannot be read is grey too and says so.

    Raises:
        UserError: the file cannot be written.
    """
    rows = [_row(dataset, index) for index in _telling(dataset, count)]
    captions = ["image", *(f"{task.name} ({task.kind})" for task in dataset.tasks)]
    heights = [max(cell.height for cell in cells) + _LINE + _GAP for _, cells in rows]
    legends = [task.legend()[:_MOST_CLASSES] for task in dataset.tasks]
    legend_height = _LINE * max(map(len, legends), default=0)
    width = _GAP + len(captions) * (_CELL[1] + _GAP)
    sheet = Image.new("RGB", (width, _LINE + _GAP + sum(heights) + legend_height + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, caption in enumerate(captions):
        pen.text((_left(column), _GAP // 2), cut(caption, font), fill=_INK, font=font)
    top = _LINE + _GAP
    for (name, cells), height in zip(rows, heights, strict=True):
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_left(column), top))
        top += height
        pen.text((_left(0), top - _LINE - _GAP + 1), cut(name, font), fill=_INK, font=font)
    for column, legend in enumerate(legends, start=1):
        _draw_legend(pen, font, (_left(column), top), legend)
    stream = io.BytesIO()
    sheet.save(stream, format="PNG")
    try:
        files.write_bytes_atomically(path, stream.getvalue())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None


def _telling(dataset: DenseDataset, count: int) -> list[int]:
    """One image from each of `count` stretches of the data set: the one with most of what was shown least."""
    shown = dict.fromkeys((task.name for task in dataset.tasks), 0)
    chosen = []
    for i in range(count):
        stretch = range(i * len(dataset) // count, (i + 1) * len(dataset) // count)[:_STRETCH]
        if not stretch:
            continue
        best = max(stretch, key=lambda index: sum(2.0 ** -shown[task] for task in dataset.annotated(index)))
        chosen.append(best)
        for task in dataset.annotated(best):
            shown[task] += 1
    return chosen


def _draw_legend(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    at: tuple[int, int],
    legend: Sequence[tuple[str, tuple[int, int, int]]],
) -> None:
    left, top = at
    for name, shade in legend:
        pen.rectangle((left, top + 2, left + 10, top + 12), fill=shade)
        pen.text((left + _LINE, top), cut(name, font), fill=_INK, font=font)
        top += _LINE


def _left(column: int) -> int:
    return _GAP + column * (_CELL[1] + _GAP)


def _row(dataset: DenseDataset, index: int) -> tuple[str, list[Image.Image]]:
    try:
        pixels = dataset.image(index).permute(1, 2, 0).numpy()
    except UserError:
        return dataset.names[index], [_blank(_CELL, "unreadable")] * (1 + len(dataset.tasks))
    size = _fitted(pixels.shape[:2])
    picture = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return dataset.names[index], [picture, *(_cell(dataset, index, task, size) for task in dataset.tasks)]


def _cell(dataset: DenseDataset, index: int, task: Task, size: tuple[int, int]) -> Image.Image:
    if task.name not in dataset.annotated(index):
        return _blank(size, "no label")
    try:
        label, valid = dataset.label(index, task.name)
    except UserError:
        return _blank(size, "unreadable")
    # Resized as labels are, not as a picture: a boundary one pixel wide would fade away.
    small, known = label.resized(*size), valid.resized(*size).as_subclass(Tensor)[0]
    return Image.fromarray(np.ascontiguousarray(task.draw(small.as_subclass(Tensor), known)))


def _blank(size: tuple[int, int], why: str) -> Image.Image:
    cell = Image.new("RGB", (size[1], size[0]), tuple(int(c) for c in colour.GREY))
    ImageDraw.Draw(cell).text((6, 4), why, fill=_PAPER, font=ImageFont.load_default())
    return cell


def _fitted(size: tuple[int, ...]) -> tuple[int, int]:
    scale = min(_CELL[0] / size[0], _CELL[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def cut(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int = _CELL[1]) -> str:
    """As much of a text as is no wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
