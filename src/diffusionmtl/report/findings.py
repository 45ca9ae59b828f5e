"""The part of a page that says how answers lie beside labels: confusion, scatter, reliability, task by task."""

from collections.abc import Sequence
from html import escape

from diffusionmtl.report.charts import Chart, chart
from diffusionmtl.report.content import Finding
from diffusionmtl.report.markup import table_markup
from diffusionmtl.report.trust import line_keys, reliability_chart, sparsification_chart

_WIDE = 360.0
_INTRODUCTION = (
    '<p class="quiet">Reliability: on the line, what is stated comes true; larger dots are more pixels. Whether doubt '
    "finds errors: the mean error of the pixels that stay when the most uncertain are taken away, as a share of that "
    "of all; the lower a line, the better.</p>"
)


def findings_markup(findings: Sequence[Finding]) -> str:
    """Every task with its diagrams; empty text if there is none."""
    drawn = [(finding, charts) for finding in findings if (charts := _charts(finding))]
    if not drawn:
        return ""
    known = [finding.uncertainty for finding, _ in drawn if finding.uncertainty is not None]
    return _INTRODUCTION * bool(known) + _keys(known) + "".join(_task(finding, charts) for finding, charts in drawn)


def _charts(finding: Finding) -> list[Chart]:
    found = [chart(counts) for counts in finding.charts]
    if finding.uncertainty is not None:
        found += [reliability_chart(finding.uncertainty), sparsification_chart(finding.uncertainty)]
    return [one for one in found if one is not None]


def _task(finding: Finding, charts: Sequence[Chart]) -> str:
    kind = f' <span class="quiet">{escape(finding.kind)}</span>' if finding.kind != finding.task else ""
    notes = dict.fromkeys(note for note in (finding.note, finding.measured) if note)
    said = f'<p class="quiet">{escape(" ".join(notes))}</p>' if notes else ""
    return (
        f'<h3 class="subject">{escape(finding.task)}{kind}</h3>{said}'
        f'<div class="diagrams">{"".join(map(_figure, charts))}</div>'
    )


def _figure(one: Chart) -> str:
    wide = one.width > _WIDE
    title = escape(one.title)
    svg = one.svg
    if wide:
        svg = (
            f'<div class="sideways" tabindex="0" role="region" aria-label="{title}">'
            f'<div style="width:{one.width:.0f}px">{svg}</div></div>'
        )
    table = table_markup(one.table) if one.table else ""
    return (
        f'<figure class="diagram{" wide" if wide else ""}"><figcaption>{title}</figcaption>{svg}'
        f'<p class="quiet">{escape(one.says)}</p>{table}</figure>'
    )


def _keys(known: Sequence) -> str:
    if not known:
        return ""
    lines = [
        f'<li><svg viewBox="0 0 30 10" aria-hidden="true"><path class="{style}" d="M2 5H28"/></svg>{escape(words)}</li>'
        for style, words in line_keys(known)
    ]
    words = {"before": "before calibration", "after": "after"}
    kinds = ["before", *(["after"] if any(one.after for one in known) else [])]
    dots = [
        f'<li><svg viewBox="0 0 30 10" aria-hidden="true"><circle class="{kind}" cx="15" cy="5" r="4"/></svg>'
        f"{words[kind]}</li>"
        for kind in kinds
    ]
    return f'<ul class="keys">{"".join([*dots, *lines])}</ul>'
