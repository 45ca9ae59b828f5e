"""A report as one HTML file: no network, no fonts or scripts from elsewhere, light and dark, phone and desk.

Whatever comes from data is escaped; beyond that, a content security policy lets nothing run but the page's own script
and nothing load at all.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files as resources
from itertools import count
from pathlib import Path
from string import Template

import numpy as np

from diffusionmtl.files import write_bytes_atomically
from diffusionmtl.report import pictures
from diffusionmtl.report.content import Curve, Example, Legend, Ranked, Report, Series, TaskPanel
from diffusionmtl.report.diagram import HUES, diagram
from diffusionmtl.report.draw import shrunk
from diffusionmtl.report.findings import findings_markup
from diffusionmtl.report.markup import table_markup

_THUMBNAIL = 160


def write(report: Report, path: Path) -> Path:
    """Render a report into a file, whole or not at all; returns its path."""
    write_bytes_atomically(path, render(report).encode())
    return path


def render(report: Report) -> str:
    """The page as text, a few megabytes with many examples."""
    template, style, script = (_resource(name) for name in ("page.html", "page.css", "page.js"))
    sections = [section for section in _sections(report) if section[2]]
    return Template(template).substitute(
        title=escape(report.title),
        lead=escape(report.lead),
        highlights=_highlights(report.highlights),
        links="".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections),
        sections="\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
            for key, title, content in sections
        ),
        style=style,
        script=script,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def _resource(name: str) -> str:
    return resources("diffusionmtl.report").joinpath(name).read_text("utf-8")


def _sections(report: Report) -> list[tuple[str, str, str]]:
    """Key, title and content; sections without content are left out by the caller."""
    return [
        ("results", "Results", _notes(report.notes) + "".join(map(table_markup, report.tables))),
        ("pictures", "Pictures", _pictures(report)),
        ("errors", "Errors and doubt", findings_markup(report.findings)),
        ("training", "Training", _diagrams(report.curves)),
        ("labels", "Labels", _labels(report)),
        ("made", "How it was made", _provenance(report)),
    ]


def _highlights(highlights: Sequence[tuple[str, str]]) -> str:
    if not highlights:
        return ""
    items = "".join(f"<li><b>{escape(number)}</b><span>{escape(words)}</span></li>" for number, words in highlights)
    return f'<ul class="highlights">{items}</ul>'


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes quiet">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _pictures(report: Report) -> str:
    shown = [*report.examples, *(example for ranked in report.ranked for example in ranked.examples.values())]
    if not shown:
        return ""
    tasks = list(dict.fromkeys(panel.task for example in shown for panel in example.panels))
    keys = {task: f"t{number}" for number, task in enumerate(tasks)}
    ids = (f"p{number}" for number in count())
    intro = (
        '<p class="quiet">Grey is unknown: not labelled, or not valid. Drag the slider under a refined '
        "prediction, or use the arrow keys, to lay the initial prediction over it. Denoising steps are of one noise "
        "draw, everything else is the mean of several.</p>"
    )
    groups = _examples(report.examples, keys, ids) + "".join(_ranked(ranked, keys, ids) for ranked in report.ranked)
    # The first image shows what the fold holds.
    first, folded, rest = groups.partition("</article>")
    first = first.replace('<details class="steps">', '<details class="steps" open>')
    return intro + (_chooser(keys) if len(keys) > 1 else "") + first + folded + rest


def _examples(examples: Sequence[Example], keys: dict[str, str], ids: Iterator[str]) -> str:
    groups = {
        where: [example for example in examples if example.where == where] for where in (e.where for e in examples)
    }
    return "".join(
        f'<h3 class="group">{escape(where)}s</h3>'
        f"{''.join(_example(example, example.where, keys, ids) for example in group)}"
        for where, group in groups.items()
    )


def _ranked(ranked: Ranked, keys: dict[str, str], ids: Iterator[str]) -> str:
    cards = "".join(_example(example, rank, keys, ids) for rank, example in ranked.examples.items())
    words = escape(", ".join(ranked.examples))
    return (
        f'<div class="ranked" data-task="{keys[ranked.task]}"><h3 class="subject">{escape(ranked.task)}: {words}</h3>'
        f'<p class="quiet">{escape(ranked.note)}</p>{cards}</div>'
    )


def _chooser(keys: dict[str, str]) -> str:
    choices = [("all tasks", ""), *keys.items()]
    items = "".join(
        f'<label><input type="radio" name="task" value="{key}"{"" if key else " checked"}>'
        f"<span>{escape(name)}</span></label>"
        for name, key in choices
    )
    return f'<fieldset class="choose" hidden><legend>Show</legend>{items}</fieldset>'


def _example(example: Example, about: str, keys: dict[str, str], ids: Iterator[str]) -> str:
    rows = "".join(_task_row(panel, example, keys[panel.task], ids) for panel in example.panels)
    return pictures.card(example.name, example.image, about, f"{about}: {example.name}", rows)


def _task_row(panel: TaskPanel, example: Example, key: str, ids: Iterator[str]) -> str:
    drawn = list(_figures(panel, example, ids))
    kind = f' <span class="quiet">{escape(panel.kind)}</span>' if panel.kind != panel.task else ""
    caption = f'<span class="quiet">{escape(panel.caption)}</span>' if panel.caption else ""
    return (
        f'<div class="task" data-task="{key}"><header><h5>{escape(panel.task)}{kind}</h5>{caption}</header>'
        f'<div class="panels" style="--columns:{len(drawn)}">{"".join(drawn)}</div>{_strip(panel, example)}</div>'
    )


def _strip(panel: TaskPanel, example: Example) -> str:
    """What the denoising steps would have answered, as thumbnails, unfolded by the reader."""
    if not panel.steps:
        return ""
    before = [] if panel.initial is None else [("initial", shrunk(panel.initial, _THUMBNAIL))]
    steps = [(f"step {number}", pixels) for number, pixels in enumerate(panel.steps, start=1)]
    strip = "".join(
        pictures.figure(pixels, f"{word.capitalize()} of denoising: {panel.task} of {example.name}", word)
        for word, pixels in [*before, *steps]
    )
    return (
        f'<details class="steps"><summary>Denoising, step by step</summary><div class="strip">{strip}</div></details>'
    )


def _figures(panel: TaskPanel, example: Example, ids: Iterator[str]) -> Iterator[str]:
    """The pictures of one task in one order; a column that no panel of the example fills is left out."""
    of = f"{panel.task} of {example.name}"
    if any(other.seen is not None for other in example.panels):
        yield _label(panel.seen, f"Label of {of} that training saw", "training saw", "not labelled", panel)
    if any(other.truth is not None for other in example.panels):
        yield _label(panel.truth, f"Annotation: {of}", "ground truth", "not annotated", panel)
    for label, picture in panel.others.items():
        yield pictures.figure(picture, f"Prediction by {label}: {of}", label)
    if panel.initial is None:
        yield pictures.figure(panel.refined, f"Prediction: {of}", "prediction")
    else:
        before = next(ids)
        yield pictures.figure(panel.initial, f"Initial prediction: {of}", "initial", before)
        yield _slider(panel.refined, of, before)
    if panel.spread is not None:
        note = f"{panel.spread_name}, {panel.spread_note}" if panel.spread_note else panel.spread_name
        words = f"{panel.spread_name.capitalize()}, from the noise draws: {of}; bright is uncertain"
        yield pictures.figure(panel.spread, words, note)


def _label(pixels: np.ndarray | None, words: str, caption: str, missing: str, panel: TaskPanel) -> str:
    if pixels is None:
        return pictures.absent(panel.refined, missing, caption)
    return pictures.figure(pixels, words, caption)


def _slider(pixels: np.ndarray, of: str, before: str) -> str:
    return (
        f'<figure><div class="stack" data-before="{before}">{pictures.image(pixels, f"Refined prediction: {of}")}</div>'
        f'<figcaption>refined</figcaption><input type="range" value="0" min="0" max="100" hidden '
        f'aria-label="Lay the initial over the refined {escape(of)}"></figure>'
    )


def _diagrams(curves: Sequence[Curve]) -> str:
    drawn = [(curve, svg) for curve in curves if (svg := diagram(curve))]
    if not drawn:
        return ""
    keys = {label: series for curve, _ in drawn for label, series in curve.series.items() if series.x}
    figures = "".join(
        f'<figure class="diagram"><figcaption>{escape(curve.name)} <span>{escape(curve.unit)}</span></figcaption>{svg}'
        "</figure>"
        for curve, svg in drawn
    )
    return (
        '<p class="quiet">Across: optimisation steps. Faint lines are single steps, strong ones their running mean.</p>'
        f'<ul class="keys">{"".join(_key(label, series) for label, series in keys.items())}</ul>'
        f'<div class="diagrams">{figures}</div>'
    )


def _key(label: str, series: Series) -> str:
    style = f"line hue{series.hue % HUES}{' dashed' if series.dashed else ''}"
    return (
        f'<li><svg viewBox="0 0 30 10" aria-hidden="true"><path class="{style}" d="M2 5H28"/></svg>{escape(label)}</li>'
    )


def _labels(report: Report) -> str:
    legends = f'<div class="legends">{"".join(map(_legend, report.legends))}</div>' if report.legends else ""
    return (table_markup(report.coverage) if report.coverage else "") + legends


def _legend(legend: Legend) -> str:
    entries = "".join(
        f'<li><i style="background:rgb{colour}"></i>{escape(name)}</li>' for name, colour in legend.entries
    )
    words = " ".join(escape(text) for text in (legend.reading, legend.figures) if text)
    return (
        f'<div class="legend"><h3>{escape(legend.task)}</h3><p class="quiet">{words}</p>'
        f"{f'<ul>{entries}</ul>' if entries else ''}</div>"
    )


def _provenance(report: Report) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.provenance.items())
    again = f"<p>To make it again:</p><pre><code>{escape(report.command)}</code></pre>" if report.command else ""
    settings = table_markup(report.settings) if report.settings else ""
    return again + (f'<dl class="made">{rows}</dl>' if rows else "") + settings
