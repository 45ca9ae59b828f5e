"""How good uncertainties are, as one picture: a row per task, sparsification at the left, reliability at the right."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from diffusionmtl.inference.uncertainty import DOUBTS, Uncertainty
from diffusionmtl.metrics.sparsification import FRACTIONS
from diffusionmtl.report.diagram import Axis
from diffusionmtl.report.plot import dot_radius

_WIDTH, _ROW, _HEAD = 860.0, 300.0, 44.0
_LEFT, _MIDDLE, _PANEL, _HEIGHT, _DOWN = 62.0, 600.0, 230.0, 210.0, 44.0
_KEY, _ERRORS = 310.0, 166.0
_STYLES = dict(zip(DOUBTS, ("draws", "entropy", "calibrated", "calibrated", "mirror", "classes"), strict=True))

# The report's colours by day and by night; a file of its own has to bring them along.
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif; }
.paper { fill: #ffffff } text { fill: #21262b } .soft { fill: #5d666e; font-size: 12px } .head { font-weight: 600 }
.title { font-weight: 600; font-size: 15px } .grid { stroke: #e3e0d8 } .axis { stroke: #5d666e }
.line { fill: none; stroke-width: 2 } .draws { stroke: #14748a } .entropy { stroke: #c2582b }
.calibrated { stroke: #8a6d14; stroke-dasharray: 6 3 } .mirror { stroke: #6a4c93 } .classes { stroke: #3f7d3a }
.oracle { stroke: #5d666e; stroke-dasharray: 2 3 } .chance { stroke: #b9b4a8 } .diagonal { stroke: #b9b4a8 }
.before { stroke: #c2582b; fill: none } .after { stroke: #14748a; fill: #14748a; fill-opacity: 0.35 }
.middle { text-anchor: middle } .end { text-anchor: end }
@media (prefers-color-scheme: dark) {
  .paper { fill: #1c2024 } text { fill: #e6e3dc } .soft { fill: #9ba4ab }
  .grid { stroke: #31373d } .axis { stroke: #9ba4ab } .draws { stroke: #63c1d4 } .entropy { stroke: #f0956a }
  .calibrated { stroke: #d9bb5c } .mirror { stroke: #b79be0 } .classes { stroke: #8cc987 }
  .oracle { stroke: #9ba4ab }
  .chance, .diagonal { stroke: #5d666e } .before { stroke: #f0956a } .after { stroke: #63c1d4; fill: #63c1d4 }
}
"""


def reliability_figure(title: str, tasks: Mapping[str, Uncertainty]) -> str:
    """A picture of its own, readable on light and on dark paper; empty text if there is no task."""
    if not tasks:
        return ""
    height = _HEAD + _ROW * len(tasks)
    rows = [_row(name, found, _HEAD + _ROW * at) for at, (name, found) in enumerate(tasks.items())]
    said = "; ".join(f"{name}: {_said(found)}" for name, found in tasks.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(f"{title}: {said}")}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{_WIDTH:g}" height="{height:g}"/>'
        f'<text class="title" x="14" y="26">{escape(title)}</text>{"".join(rows)}</svg>\n'
    )


def _said(found: Uncertainty) -> str:
    areas = [f"AUSE of {name} {area:.3f}" for name, area in found.ause.items()]
    errors = [
        f"calibration error {when} {seen.error:.3g}"
        for when, seen in (("before", found.before), ("after", found.after))
        if seen is not None
    ]
    return ", ".join([*areas, *errors])


def _row(name: str, found: Uncertainty, top: float) -> str:
    head = f'<text class="head" x="14" y="{top + 18:g}">{escape(name)}</text>'
    return head + _sparsification(found, top + 30) + _reliability(found, top + 30)


def _sparsification(found: Uncertainty, top: float) -> str:
    lines = {"oracle": (found.oracle, "oracle")} | {
        name: (curve, _STYLES.get(name, "draws")) for name, curve in found.curves.items()
    }
    largest = max(1.05, *(y for curve, _ in lines.values() for y in curve if math.isfinite(y)))
    across = Axis(0.0, 1.0, _LEFT, _LEFT + _PANEL)
    up = Axis(0.0, min(largest, 2.0), top + _HEIGHT, top)
    parts = [_frame(across, up, "share of pixels taken away, most uncertain first", "error of the rest")]
    parts.append(f'<path class="line chance" d="M{across.start:.1f} {up(1.0):.1f}H{across.end:.1f}"/>')
    words = [("chance", "chance", found.chance)]
    for name, (curve, style) in lines.items():
        parts.append(_line(style, FRACTIONS, curve, across, up))
        words.append((name, style, 0.0 if name == "oracle" else found.ause[name]))
    for at, (name, style, area) in enumerate(sorted(words, key=lambda word: -word[2])):
        y = top + 14 + 22 * at
        parts.append(f'<path class="line {style}" d="M{_KEY:g} {y - 4:g}h26"/>')
        parts.append(f'<text class="soft" x="{_KEY + 34:g}" y="{y:g}">{escape(name)}: {area:.3f}</text>')
    parts.append(f'<text class="soft" x="{_KEY:g}" y="{top - 8:g}">AUSE (left)</text>')
    return "".join(parts)


def _reliability(found: Uncertainty, top: float) -> str:
    drawn = {word: seen for word, seen in (("before", found.before), ("after", found.after)) if seen is not None}
    if not drawn:
        return f'<text class="soft" x="{_MIDDLE:g}" y="{top + 20:g}">one draw: no spread that states an error</text>'
    high = 1.0 if found.probability else max(seen.largest for seen in drawn.values())
    across, up = Axis(0.0, high, _MIDDLE, _MIDDLE + _PANEL), Axis(0.0, high, top + _HEIGHT, top)
    what = ("stated probability", "came true") if found.probability else ("expected error", "mean error")
    unit = "" if found.probability else f" {found.unit}"
    parts = [_frame(across, up, f"{what[0]},{unit}" if unit else what[0], what[1])]
    parts.append(f'<path class="line diagonal" d="M{across.start:.1f} {up.start:.1f}L{across.end:.1f} {up.end:.1f}"/>')
    for at, (word, seen) in enumerate(drawn.items()):
        for share, stated, came in zip(seen.share, seen.stated, seen.came, strict=True):
            place = f'cx="{across(stated):.1f}" cy="{up(came):.1f}"'
            parts.append(f'<circle class="{word}" stroke-width="1.4" {place} r="{dot_radius(share):.1f}"/>')
        x, y = _KEY + 13, top + _ERRORS + 22 * (at + 1)
        parts.append(f'<circle class="{word}" stroke-width="1.4" cx="{x:g}" cy="{y - 4:g}" r="5"/>')
        parts.append(f'<text class="soft" x="{x + 21:g}" y="{y:g}">{word}: {seen.error:.3g}{escape(unit)}</text>')
    parts.append(f'<text class="soft" x="{_KEY:g}" y="{top + _ERRORS:g}">calibration error (right)</text>')
    return "".join(parts)


def _frame(across: Axis, up: Axis, below: str, beside: str) -> str:
    parts = []
    for tick in up.ticks:
        parts.append(f'<path class="grid" d="M{across.start:.1f} {up(tick):.1f}H{across.end:.1f}"/>')
        parts.append(f'<text class="soft end" x="{across.start - 7:.1f}" y="{up(tick) + 4:.1f}">{tick:.3g}</text>')
    for tick in across.ticks:
        parts.append(f'<path class="axis" d="M{across(tick):.1f} {up.start:.1f}v4"/>')
        parts.append(f'<text class="soft middle" x="{across(tick):.1f}" y="{up.start + 17:.1f}">{tick:.3g}</text>')
    parts.append(f'<path class="axis" d="M{across.start:.1f} {up.start:.1f}H{across.end:.1f}"/>')
    middle, centre = (across.start + across.end) / 2, (up.start + up.end) / 2
    parts.append(f'<text class="soft middle" x="{middle:.1f}" y="{up.start + 34:.1f}">{escape(below)}</text>')
    x = across.start - 44
    turned = f'<text class="soft middle" transform="translate({x:.1f} {centre:.1f}) rotate(-90)">'
    return "".join([*parts, f"{turned}{escape(beside)}</text>"])


def _line(style: str, x: Sequence[float], y: Sequence[float], across: Axis, up: Axis) -> str:
    places = [f"{across(a):.1f} {up(b):.1f}" for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    return f'<path class="line {style}" d="M{"L".join(places)}"/>' if places else ""
