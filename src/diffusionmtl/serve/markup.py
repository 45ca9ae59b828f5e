"""Answers and tables as HTML; `page.js` moves what stands there, and nothing is asked of the server for that."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image
from torch import Tensor

from diffusionmtl.inference.prediction import TaskPrediction
from diffusionmtl.report.content import Table
from diffusionmtl.report.draw import heat, shrunk
from diffusionmtl.report.examples import legend
from diffusionmtl.serve.answer import Answer, Picture, stage_pictures
from diffusionmtl.serve.readout import NAMES, form_of, readout
from diffusionmtl.serve.review import Shown

_LARGEST = 720
_COLOURS = 256
_QUALITY = 90
EMPTY = '<p class="dm-quiet">Drop an image above, or choose an example: every task is answered below it.</p>'


def answer_html(found: Answer) -> str:
    """Every task side by side, with what is needed to move the line, the step and the pointer."""
    steps = {name: [step[name] for step in found.steps] for name in found.prediction}
    stages = {name: list(stage_pictures(task, steps[name])) for name, task in found.prediction.items()}
    before = [name for name, _ in next(iter(stages.values()))[:-1]]
    photo = np.ascontiguousarray(np.moveaxis(found.prediction.image.cpu().numpy(), 0, -1))
    cards = _photo_card(photo)
    cards += "".join(_task_card(task, steps[name], stages[name]) for name, task in found.prediction.items())
    data = {name: readout(task) for name, task in found.prediction.items()}
    unsure = any(task.uncertainty is not None for task in found.prediction.values())
    return (
        f'<div class="dm" style="--cut:50%;--doubt:0">{_controls(before, unsure)}'
        f'<div class="dm-cards">{cards}</div><div class="dm-data" hidden>{escape(json.dumps(data))}</div></div>'
    )


def _controls(before: Sequence[str], unsure: bool) -> str:
    parts = []
    if before:
        names = escape(json.dumps(list(before)), quote=True)
        parts.append(
            f'<label>left of the line: <output class="dm-stage-name">{escape(before[0])}</output>'
            f'<input type="range" class="dm-stage" min="0" max="{len(before) - 1}" step="1" value="0" '
            f'data-names="{names}" aria-label="denoising step on the left of the line"></label>'
        )
        parts.append(
            '<label>line <input type="range" class="dm-cut" min="0" max="100" value="50" '
            'aria-label="where the line between before and after stands"></label>'
        )
    if unsure:
        parts.append(
            '<label>uncertainty on top <input type="range" class="dm-doubt-strength" min="0" max="100" value="0" '
            'aria-label="strength of the uncertainty on top of the pictures"></label>'
        )
    return f'<div class="dm-controls">{"".join(parts)}</div>'


def _photo_card(photo: Picture) -> str:
    walked = ' tabindex="0" role="group" aria-label="the image; arrow keys move the place whose values are read"'
    stack = _stack(photo, _image(photo, "the image", "", photo=True), walked)
    return (
        f'<figure class="dm-card"><figcaption><b>image</b></figcaption>{stack}'
        '<p class="dm-value dm-quiet">Point at a picture to read its values, or use the arrow keys in this one.</p>'
        "</figure>"
    )


def _task_card(task: TaskPrediction, steps: Sequence[Tensor], stages: Sequence[tuple[str, Picture]]) -> str:
    name = task.task.name
    *before, (last, after) = stages
    pictures = _image(after, f"{name}: {last}", "dm-after")
    for number, (stage, picture) in enumerate(before):
        hidden = "" if number == 0 else " hidden"
        pictures += _image(picture, f"{name}: {stage}", "dm-before", extra=f' data-stage="{number}"{hidden}')
    key = _legend(task, steps)
    if task.uncertainty is not None:
        values = task.uncertainty.float().cpu().numpy()
        top = float(np.percentile(values, 99))
        pictures += _image(heat(values, top), f"{name}: uncertainty", "dm-doubt")
        words = f"Uncertainty: dark 0, bright {top:.2g} or more ({task.task.spread_unit})."
        key += f'<p class="dm-legend dm-quiet">{escape(words)}</p>'
    if before:
        pictures += '<span class="dm-line" aria-hidden="true"></span>'
    return (
        f'<figure class="dm-card" data-task="{escape(name, quote=True)}"><figcaption><b>{escape(name)}</b> '
        f'<span class="dm-quiet">{escape(task.task.unit)}</span></figcaption>{_stack(after, pictures)}'
        f'<p class="dm-value" aria-live="polite">&nbsp;</p>{key}</figure>'
    )


def _legend(task: TaskPrediction, steps: Sequence[Tensor]) -> str:
    said = legend(task.task)
    if form_of(task.task, task.value) != NAMES:
        return f'<p class="dm-legend dm-quiet">{escape(said.reading)}</p>'
    before = [] if task.initial is None else [task.task.value(task.initial[None])[0]]
    answers = [value.cpu().numpy().astype(np.int64).ravel() for value in (task.value, *before, *steps)]
    counts = np.bincount(answers[0], minlength=len(said.entries))
    on_the_way = np.bincount(np.concatenate(answers), minlength=len(said.entries))
    present = [said.entries[index] for index in np.argsort(-counts, kind="stable") if on_the_way[index]]
    items = "".join(
        f'<li><span class="dm-swatch" style="background:rgb({r},{g},{b})"></span>{escape(name)}</li>'
        for name, (r, g, b) in present
    )
    return f'<ul class="dm-legend" aria-label="classes in these pictures, largest first">{items}</ul>'


def _stack(like: Picture, inside: str, extra: str = "") -> str:
    return f'<div class="dm-stack" style="aspect-ratio:{like.shape[1]}/{like.shape[0]}"{extra}>{inside}</div>'


def _image(picture: Picture, words: str, css: str, photo: bool = False, extra: str = "") -> str:
    return (
        f'<img class="{css}" src="{_uri(picture, photo)}" alt="{escape(words, quote=True)}" draggable="false"{extra}>'
    )


def _uri(pixels: Picture, photo: bool = False) -> str:
    """Few colours as PNG, so that classes keep theirs; the rest as JPEG."""
    picture = Image.fromarray(np.ascontiguousarray(shrunk(pixels, _LARGEST, smooth=photo)))
    stream = io.BytesIO()
    colours = None if photo else picture.getcolors(_COLOURS)
    if colours is None:
        picture.save(stream, format="JPEG", quality=_QUALITY, subsampling=0)
    else:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=len(colours)).save(stream, format="PNG")
    kind = "jpeg" if colours is None else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def table_html(table: Table) -> str:
    """A table, folded if it is long and secondary."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(_row(table, number) for number in range(len(table.rows)))
    body = f'<div class="dm-wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    caption = escape(table.caption)
    if table.collapsed:
        return f'<details class="dm-table"><summary>{caption}</summary>{body}</details>'
    return f'<section class="dm-table"><h3>{caption}</h3>{body}</section>'


def _row(table: Table, number: int) -> str:
    first, *rest = table.rows[number]
    cells = "".join(
        f'<td class="dm-strong">{escape(cell)}</td>'
        if (number, column) in table.emphasis
        else f"<td>{escape(cell)}</td>"
        for column, cell in enumerate(rest, start=1)
    )
    name = "<br>".join(escape(line) for line in first.split("\n"))
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def paragraphs(lines: Sequence[str]) -> str:
    """Quiet sentences below each other."""
    return "".join(f'<p class="dm-quiet">{escape(line)}</p>' for line in lines)


def review_html(title: str, note: str, shown: Sequence[Shown]) -> str:
    """What is to be judged: pictures beside each other under a title."""
    figures = "".join(
        f'<figure class="dm-card"><figcaption>{escape(one.caption)}</figcaption>'
        f"{_stack(one.picture, _image(one.picture, one.caption, '', number == 0))}</figure>"
        for number, one in enumerate(shown)
    )
    return (
        f'<div class="dm"><h3 class="dm-title">{escape(title)}</h3><p class="dm-quiet">{escape(note)}</p>'
        f'<div class="dm-cards">{figures}</div></div>'
    )
