"""Measured ratios and growth as one SVG: dots against their targets, then a small diagram per line."""

import math
from collections.abc import Mapping
from html import escape

from benchmarks.measure import MOST, Ratio, Result

_WIDTH, _LEFT, _RIGHT = 860.0, 420.0, 120.0
_TOP, _ROW, _FOOT = 64.0, 26.0, 34.0
_CELL, _HIGH = 210.0, 170.0
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif; }
.paper { fill: #ffffff } text { fill: #21262b } .soft { fill: #5d666e; font-size: 11.5px }
.title { font-weight: 600; font-size: 15px } .grid { stroke: #e3e0d8 } .one { stroke: #5d666e }
.bar { stroke: #14748a; stroke-width: 5; stroke-linecap: round; opacity: 0.3 } .dot { fill: #14748a }
.missed { fill: #c2582b } .goal { stroke: #21262b; stroke-width: 1.6 } .line { fill: none; stroke: #14748a }
.number { font-variant-numeric: tabular-nums; text-anchor: end } .tick { text-anchor: middle }
@media (prefers-color-scheme: dark) {
  .paper { fill: #1c2024 } text { fill: #e6e3dc } .soft { fill: #9ba4ab } .grid { stroke: #31373d }
  .one { stroke: #9ba4ab } .bar, .line { stroke: #63c1d4 } .dot { fill: #63c1d4 } .missed { fill: #f0956a }
  .goal { stroke: #e6e3dc }
}
"""


def figure(results: Mapping[str, Result], note: str) -> str:
    """Every ratio on one logarithmic axis; filled blue where its target is met, orange where not."""
    ratios = {name: ratio for result in results.values() for name, ratio in result.ratios.items()}
    curves = [
        (f"{unit}, {axis}", line)
        for result in results.values()
        for unit, lines in (result.curves or {}).items()
        for axis, line in lines.items()
        if len(line) > 1
    ]
    dots, y = _ratios(ratios) if ratios else ("", _TOP)
    cells = "".join(
        _cell(name, line, 14 + _CELL * (number % 4), y + _HIGH * (number // 4))
        for number, (name, line) in enumerate(curves)
    )
    height = y + _HIGH * math.ceil(len(curves) / 4) + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" '
        f'height="{height:g}" role="img" aria-label="Speed measured as ratios"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{_WIDTH:g}" height="{height:g}"/>'
        f'<text class="title" x="14" y="24">Speed, as ratios measured side by side</text>'
        f'<text class="soft" x="14" y="44">{escape(note)}; a tick is the target, ≥ or ≤ beside the number</text>'
        f"{dots}{cells}</svg>\n"
    )


def _ratios(ratios: Mapping[str, Ratio]) -> tuple[str, float]:
    numbers = [n for r in ratios.values() for n in (r.value.low, r.value.high, r.target or r.value.median) if n > 0]
    low, high = math.log10(min(0.5, *numbers) / 1.2), math.log10(max(2.0, *numbers) * 1.2)

    def across(number: float) -> float:
        share = (math.log10(max(number, 10**low)) - low) / (high - low)
        return _LEFT + share * (_WIDTH - _RIGHT - _LEFT)

    floor = _TOP + _ROW * len(ratios)
    parts = []
    for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100):
        if low <= math.log10(tick) <= high:
            x, style = across(tick), "one" if tick == 1 else "grid"
            parts.append(f'<path class="{style}" d="M{x:.1f} {_TOP - 6:g}V{floor:g}"/>')
            parts.append(f'<text class="soft tick" x="{x:.1f}" y="{floor + 16:g}">{tick:g}</text>')
    for number, (name, ratio) in enumerate(ratios.items()):
        parts.append(_row(name, ratio, across, _TOP + _ROW * (number + 0.5)))
    return "".join(parts), floor + _FOOT


def _row(name: str, ratio: Ratio, across, y: float) -> str:
    value = ratio.value
    style = "missed" if ratio.met is False else "dot"
    parts = [
        f'<text x="14" y="{y + 4:g}" font-size="12">{escape(name)}</text>',
        f'<path class="bar" d="M{across(value.low):.1f} {y:g}H{across(value.high):.1f}"/>',
    ]
    said = f"{value.median:.2f}"
    if ratio.target is not None:
        parts.append(f'<path class="goal" d="M{across(ratio.target):.1f} {y - 8:g}v16"/>')
        said += f" ({'≥' if ratio.side == MOST else '≤'} {ratio.target:.3g})"
    parts.append(f'<circle class="{style}" cx="{across(value.median):.1f}" cy="{y:g}" r="4.5"/>')
    return "".join([*parts, f'<text class="number" x="{_WIDTH - 14:g}" y="{y + 4:g}">{said}</text>'])


def _cell(name: str, line: list[tuple[float, float]], left: float, top: float) -> str:
    right, floor, head = left + _CELL - 26, top + _HIGH - 34, top + 30
    most_x, most_y = max(x for x, _ in line) or 1, max(y for _, y in line) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return left + 4 + x / most_x * (right - left - 8), floor - y / most_y * (floor - head)

    points = [place(x, y) for x, y in line]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    marks = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)
    return (
        f'<text class="soft" x="{left:g}" y="{top + 16:g}">{escape(name)} (top: {most_y:.3g})</text>'
        f'<path class="one" d="M{left:g} {floor:g}H{right:g}"/><path class="line" d="{path}"/>{marks}'
        f'<text class="soft" x="{left:g}" y="{floor + 15:g}">0</text>'
        f'<text class="soft number" x="{right:g}" y="{floor + 15:g}">{most_x:.3g}</text>'
    )
